"""The pure-PyTorch backend against the reference in float64, and how much it holds at a time."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ops.agreement import (
    CONV_CASES,
    LAYOUTS,
    SCAN_CASES,
    ConvCase,
    ScanCase,
    assert_conv_agrees,
    assert_scan_agrees,
    make_conv_inputs,
    make_scan_inputs,
    run_conv,
    run_scan,
)
from rgbt_fusion.ops import vectorised
from rgbt_fusion.ops.inputs import ScanGradients, ScanInputs

SHORT_SCANS = [case for case in SCAN_CASES if case.length <= 132]
SHORT_CONVOLUTIONS = [case for case in CONV_CASES if case.length <= 132]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SCAN_CASES, ids=str)
def test_scan_agrees_with_the_reference(case: ScanCase, layout: str) -> None:
    assert_scan_agrees(vectorised, case, torch.float32, layout)


@pytest.mark.parametrize("case", SHORT_SCANS[1::2], ids=str)
def test_scan_agrees_in_float64(case: ScanCase) -> None:
    assert_scan_agrees(vectorised, case, torch.float64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", SHORT_SCANS[::2], ids=str)
def test_scan_agrees_in_half_precision(case: ScanCase, dtype: torch.dtype) -> None:
    assert_scan_agrees(vectorised, case, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_convolution_agrees_with_the_reference(case: ConvCase, layout: str) -> None:
    assert_conv_agrees(vectorised, case, torch.float32, layout)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", SHORT_CONVOLUTIONS, ids=str)
def test_convolution_agrees_in_other_dtypes(case: ConvCase, dtype: torch.dtype) -> None:
    assert_conv_agrees(vectorised, case, dtype)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectorised, "_CACHED_ELEMENTS", 2**10)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("case", [case for case in SHORT_SCANS if case.length > 64], ids=str)
def test_chunks_shorter_than_a_block_agree(case: ScanCase) -> None:
    assert_scan_agrees(vectorised, case, torch.float32, "channel")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("case", [case for case in CONV_CASES if case.length > 64], ids=str)
def test_several_chunks_of_a_convolution_agree(case: ConvCase) -> None:
    assert_conv_agrees(vectorised, case, torch.float32, "channel")


def scan_gradients(
    inputs: ScanInputs, checkpoints: Tensor, grad_out: Tensor, last: Tensor | None
) -> list[Tensor]:
    given = inputs._asdict()
    found = [
        None if given[name] is None else torch.empty_like(given[name])
        for name in ScanGradients._fields
    ]
    vectorised.scan_backward(inputs, checkpoints, grad_out, last, ScanGradients._make(found))
    return [x for x in found if x is not None]


def test_no_gradient_of_the_last_state_is_a_gradient_of_zeros() -> None:
    inputs = make_scan_inputs(ScanCase("", options=frozenset({"D", "z", "initial_state"})))
    results = run_scan(vectorised, inputs)
    grad_out = torch.randn_like(results["out"])
    without = scan_gradients(inputs, results["checkpoints"], grad_out, None)
    zeros = scan_gradients(
        inputs, results["checkpoints"], grad_out, torch.zeros_like(results["last_state"])
    )
    assert all(map(torch.equal, without, zeros))


@pytest.mark.parametrize("merge", [False, True])
def test_a_gradient_of_stride_zero_is_read_as_it_is(merge: bool) -> None:
    inputs = make_scan_inputs(ScanCase("", directions=2, length=72, order=(2, 2, 6), merge=merge))
    results = run_scan(vectorised, inputs)
    ones = torch.ones_like(results["out"])
    expanded = scan_gradients(inputs, results["checkpoints"], torch.ones(()).expand_as(ones), None)
    dense = scan_gradients(inputs, results["checkpoints"], ones, None)
    assert all(map(torch.equal, expanded, dense))


class LargestFloat32(TorchDispatchMode):
    """Notes the most elements of a float32 tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor) and x.dtype == torch.float32:
                self.elements = max(self.elements, x.numel())
        return result


def test_scan_holds_a_block_of_states_never_all_of_them_nor_a_whole_input() -> None:
    case = ScanCase("", length=640, channels=64, state=2, batch=1)
    inputs = make_scan_inputs(case, torch.bfloat16)
    with LargestFloat32() as largest:
        run_scan(vectorised, inputs)
    assert largest.elements == 65 * 64 * 2 < inputs.u.numel()


def test_convolution_of_half_precision_never_holds_a_whole_input_in_float32() -> None:
    inputs = make_conv_inputs(ConvCase("", length=4096, channels=512, batch=1), torch.bfloat16)
    with LargestFloat32() as largest:
        run_conv(vectorised, inputs)
    assert largest.elements <= inputs.x.numel() / 2


@pytest.mark.parametrize("case", [case for case in SHORT_SCANS if case.order], ids=str)
def test_scan_makes_every_tensor_on_the_device_of_its_inputs(case: ScanCase) -> None:
    results = run_scan(vectorised, make_scan_inputs(case, torch.bfloat16, device="meta"))
    assert {x.device.type for x in results.values()} == {"meta"}


@pytest.mark.parametrize("case", [case for case in SHORT_CONVOLUTIONS if case.order], ids=str)
def test_convolution_makes_every_tensor_on_the_device_of_its_inputs(case: ConvCase) -> None:
    results = run_conv(vectorised, make_conv_inputs(case, torch.bfloat16, device="meta"))
    assert {x.device.type for x in results.values()} == {"meta"}

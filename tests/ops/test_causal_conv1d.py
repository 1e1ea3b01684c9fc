"""The public convolutions: what they compute, in both forms and on every backend."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ops.agreement import CONV_CASES, ConvCase, as_float64, assert_close, make_conv_inputs, run_conv
from ops.public_arguments import differentiate, floating, in_float64, ordered_arguments
from rgbt_fusion import BackendUnavailableError, causal_conv1d, ordered_causal_conv1d
from rgbt_fusion.ops import reference
from rgbt_fusion.ops.backends import BACKENDS

PROBE = make_conv_inputs(ConvCase("probe"))
AVAILABLE = [backend.name for backend in BACKENDS if not backend.why_not("conv", PROBE)]
ORDERED_CASES = [
    case for case in CONV_CASES if case.directions > 1 or case.order or "length 6" in case.name
]


def causal_conv1d_semantics(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None
) -> Tensor:
    """Write causal-conv1d's contract out."""
    taps = weight.shape[1]
    y = F.conv1d(F.pad(x, (taps - 1, 0)), weight[:, None], bias, groups=len(weight))
    return y if activation is None else F.silu(y)


def arguments_of(
    dtype: torch.dtype = torch.float32, length: int = 70, taps: int = 4, batch: int = 2
) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    state = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        "x": torch.randn(batch, 6, length, generator=random).to(dtype),
        "weight": torch.randn(6, taps, generator=random).to(state),
        "bias": torch.randn(6, generator=random).to(state),
        "activation": "silu",
    }


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
@pytest.mark.parametrize(
    "replaced", [{}, {"bias": None}, {"activation": None}, {"activation": "swish"}], ids=str
)
def test_every_option_has_causal_conv1ds_meaning(
    replaced: dict[str, Any], dtype: torch.dtype, backend: str
) -> None:
    arguments = arguments_of(dtype) | replaced
    if dtype == torch.float64 and backend in ("native", "triton"):
        with pytest.raises(BackendUnavailableError, match="float64"):
            causal_conv1d(**arguments, backend=backend)
        return
    got = differentiate(lambda **x: causal_conv1d(**x, backend=backend), arguments)
    assert got["out"].dtype == dtype and got["grad x"].dtype == dtype
    assert_close(got, differentiate(causal_conv1d_semantics, in_float64(arguments)))


@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize(("length", "taps"), [(1, 4), (2, 4), (70, 1), (70, 9)])
def test_any_number_of_taps_meets_any_length(length: int, taps: int, backend: str) -> None:
    arguments = arguments_of(length=length, taps=taps)
    got = differentiate(lambda **x: causal_conv1d(**x, backend=backend), arguments)
    assert_close(got, differentiate(causal_conv1d_semantics, in_float64(arguments)))


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("case", ORDERED_CASES, ids=str)
def test_ordered_convolution_agrees_with_the_reference(case: ConvCase, backend: str) -> None:
    inputs = make_conv_inputs(case)
    want = run_conv(reference, as_float64(inputs))
    got = differentiate(
        lambda **x: ordered_causal_conv1d(**x, backend=backend), ordered_arguments(inputs)
    )
    directed = case.directions > 1 or (case.order is not None and case.order[1] > 1)
    assert got["out"].dim() == 3 + directed
    assert_close({name: x.reshape(want[name].shape) for name, x in got.items()}, want)


@pytest.mark.parametrize("backend", AVAILABLE)
def test_the_input_may_lie_anywhere_in_memory(backend: str) -> None:
    arguments = arguments_of()
    x = arguments["x"]
    want = causal_conv1d(**arguments, backend=backend)
    for view in (x.mT.contiguous().mT, x.repeat_interleave(2, -1)[..., ::2]):
        torch.testing.assert_close(
            causal_conv1d(**(arguments | {"x": view}), backend=backend), want
        )


@pytest.mark.parametrize(("batch", "length"), [(0, 5), (2, 0)])
def test_an_empty_input_gives_an_empty_output_and_zero_gradients(batch: int, length: int) -> None:
    found = differentiate(causal_conv1d, arguments_of(batch=batch, length=length))
    assert found["out"].shape == (batch, 6, length)
    assert not found["grad weight"].any() and not found["grad bias"].any()


def test_gradients_are_those_of_finite_differences() -> None:
    arguments = arguments_of(torch.float64, length=5)
    leaves = floating(arguments)
    assert torch.autograd.gradcheck(
        lambda *x: causal_conv1d(*x, activation="silu"), list(leaves.values())
    )


def test_gradients_of_the_ordered_convolution_are_those_of_finite_differences() -> None:
    case = ConvCase(
        "", length=6, channels=3, directions=2, order=(2, 2, 3), shared=frozenset({"x"})
    )
    arguments = ordered_arguments(make_conv_inputs(case, torch.float64))
    leaves = floating(arguments)

    def run(*values: Tensor) -> Tensor:
        return ordered_causal_conv1d(**(arguments | dict(zip(leaves, values, strict=True))))

    assert torch.autograd.gradcheck(run, list(leaves.values()))

"""The registered ops, called by hand: sizes that lie raise, an order that lies stays inside."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ops import lying_calls
from ops.lying_calls import conv_arguments, scan_arguments
from rgbt_fusion import (
    ShapeError,
    causal_conv1d,
    ordered_causal_conv1d,
    ordered_selective_scan,
    selective_scan,
)
from rgbt_fusion.ops import op_checks
from rgbt_fusion.ops.backends import BACKENDS_INSIDE_OPS
from rgbt_fusion.ops.conv_op import ConvArguments
from rgbt_fusion.ops.scan_op import ScanArguments

TESTS = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, whose end shows whether memory was touched."""
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=300)


def test_sizes_and_dtypes_that_lie_raise_and_touch_nothing() -> None:
    done = run("-m", "ops.lying_calls")
    assert done.returncode == 0, done.stderr[-2000:]
    answers = dict(map(json.loads, done.stdout.splitlines()))
    assert len(answers) > 400
    believed = [name for name, error in answers.items() if error is None]
    assert not believed
    names = {*ScanArguments._fields, *ConvArguments._fields, "L", "checkpoints"}
    names |= {"grad_out", "grad_last_state"}
    said = {error.split(": ")[1].split()[0] for error in answers.values()}
    assert said <= names


WRONG_ORDERS = (
    [2**62, 3, 2, 1, 0],
    [-(2**62), 3, 2, 1, 0],
    [5, 3, 2, 1, 0],
    [-1, 3, 2, 1, 0],
    [4, 4, 4, 4, 4],
)


def test_a_trusted_order_that_is_wrong_stays_inside() -> None:
    done = run("-c", "from ops import test_op_checks\ntest_op_checks.call_with_wrong_orders()")
    assert done.returncode == 0, done.stderr[-2000:]


def call_with_wrong_orders() -> None:
    for backend in dict.fromkeys((lying_calls.BACKEND, "vectorised", "reference")):
        for numbers in WRONG_ORDERS:
            call_with_order(numbers, backend)


def call_with_order(numbers: list[int], backend: str) -> None:
    """Call both ops, forward and backward, and raise if a NaN from outside came into a result."""
    order = torch.tensor(numbers)[None, None]
    torch.use_deterministic_algorithms(False)
    scan = scan_arguments()._replace(order=order)
    results = torch.ops.rgbt_fusion.selective_scan(*scan, False, True, backend)
    # a row that nobody visits is not written; whatever it holds does not come from an argument
    grad_out = torch.ones_like(results[0])
    gradients = torch.ops.rgbt_fusion.selective_scan_backward(
        grad_out, None, results[2], *scan, backend
    )
    finite("A", gradients[2])
    finite("last_state", results[1])
    convolution = conv_arguments()._replace(order=order)
    out = torch.ops.rgbt_fusion.causal_conv1d(*convolution, False, backend)
    gradients = torch.ops.rgbt_fusion.causal_conv1d_backward(
        torch.ones_like(out), *convolution, backend
    )
    finite("weight", gradients[1])


def finite(name: str, x: Tensor) -> None:
    if not x.isfinite().all():
        raise ValueError(f"{name} holds numbers from outside the arguments")


def long_taps(taps: int) -> None:
    """Raise unless a convolution of very many taps is that of F.conv1d."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 2, 40, requires_grad=True), torch.randn(2, taps) / 8
    weight.requires_grad_()
    got = causal_conv1d(x, weight)
    want = F.conv1d(F.pad(x, (taps - 1, 0)), weight[:, None], groups=2)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    leaves = (x, weight)
    for ours, theirs in zip(
        torch.autograd.grad(got.square().sum(), leaves),
        torch.autograd.grad(want.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def long_taps_in_a_thread(taps: int, stack_bytes: int) -> None:
    """Run :func:`long_taps` in a thread with a small stack, and raise what it raised."""
    failures = []

    def target() -> None:
        try:
            long_taps(taps)
        except BaseException as error:  # whatever it was, the main thread must hear of it
            failures.append(error)

    threading.stack_size(stack_bytes)
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def test_any_number_of_taps_fits() -> None:
    calls = "test_op_checks.long_taps(120_000)\n"
    calls += "test_op_checks.long_taps_in_a_thread(5_000, stack_bytes=512 * 1024)"
    done = run("-c", f"from ops import test_op_checks\n{calls}")
    assert done.returncode == 0, done.stderr[-2000:]


def test_rows_of_all_directions_and_samples_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.iinfo(torch.int32).max == op_checks.LARGEST
    x, weight = torch.zeros(3, 2, 4, 1), torch.zeros(1, 1)
    monkeypatch.setattr(op_checks, "LARGEST", 23)
    with pytest.raises(ShapeError, match=r"x must have at most 23 rows \(R B L\), got 24"):
        ordered_causal_conv1d(x, weight)
    with pytest.raises(ShapeError, match=r"u must have at most 23 rows \(R B L\), got 24"):
        ordered_selective_scan(x, x, weight, x, x)
    monkeypatch.setattr(op_checks, "LARGEST", 24)
    ordered_causal_conv1d(x, weight)
    ordered_selective_scan(x, x, weight, x, x)


def test_more_rows_than_32_bits_count_are_refused() -> None:
    x = torch.zeros(1, 1, 1).expand(1, 1, 2**31)
    one = torch.zeros(1, 1)
    coefficients = torch.zeros(1, 1, 1).expand(1, 1, 2**31)
    with pytest.raises(ShapeError, match=r"u must have at most 2147483647 rows"):
        selective_scan(x, x, one, coefficients, coefficients)
    with pytest.raises(ShapeError, match=r"x must have at most 2147483647 rows"):
        causal_conv1d(x, one)
    half = torch.zeros(1, 1, 1).expand(2, 2**30, 1)
    with pytest.raises(ShapeError, match=r"u must have at most 2147483647 rows"):
        ordered_selective_scan(half, half, one, half, half)
    with pytest.raises(ShapeError, match=r"x must have at most 2147483647 rows"):
        ordered_causal_conv1d(half, one)


def test_every_backend_that_is_not_mamba_ssm_computes_inside_the_ops() -> None:
    names = [backend.name for backend in BACKENDS_INSIDE_OPS]
    assert names == ["triton", "native", "vectorised", "reference"]


def test_the_honest_arguments_of_the_lies_run() -> None:
    torch.ops.rgbt_fusion.selective_scan(*lying_calls.scan_arguments(), True, True, "auto")
    torch.ops.rgbt_fusion.causal_conv1d(*lying_calls.conv_arguments(), True, "auto")

"""The explicit gradients of the scan against those of autograd."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from ops.agreement import upstream
from ops.public_arguments import floating, mamba_ssm_arguments
from rgbt_fusion import ShapeError, selective_scan
from rgbt_fusion.ops.scan_gradients import selective_scan_gradients


@pytest.mark.parametrize("with_state", [False, True], ids=["out", "out and last state"])
@pytest.mark.parametrize("C", ["varying", "groups", "constant"])
@pytest.mark.parametrize("B", ["varying", "one group", "groups", "constant"])
def test_gradients_are_those_of_autograd(B: str, C: str, with_state: bool) -> None:
    arguments = mamba_ssm_arguments(B=B, C=C)
    leaves = floating(arguments)
    out, last_state = selective_scan(**(arguments | leaves), return_last_state=True)
    grad_out, grad_state = upstream(out, 1), upstream(last_state, 2)
    results = [out, last_state] if with_state else [out]
    torch.autograd.backward(results, [grad_out, grad_state][: len(results)])
    given: dict[str, Any] = {"grad_last_state": grad_state} if with_state else {}
    found = selective_scan_gradients(grad_out, **arguments, **given)._asdict()
    assert found.keys() == leaves.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, leaves[name].grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_absent_arguments_have_no_gradient_and_dtypes_stay(dtype: torch.dtype) -> None:
    arguments = mamba_ssm_arguments(dtype) | {"D": None, "z": None, "delta_bias": None}
    gradients = selective_scan_gradients(torch.ones_like(arguments["u"]), **arguments)
    assert gradients.D is None and gradients.z is None and gradients.delta_bias is None
    for name in ("u", "delta", "A", "B", "C"):
        assert getattr(gradients, name).dtype == arguments[name].dtype


WRONG = [
    ({"grad_out": torch.zeros(2, 6, 69)}, "grad_out must have the shape of u (2, 6, 70)"),
    ({"grad_last_state": torch.zeros(3, 6, 4)}, "grad_last_state must have shape (B, D, N)"),
    ({"delta": torch.zeros(2, 6, 69)}, "delta must have the shape of u (2, 6, 70)"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_wrong_arguments_are_named(wrong: dict[str, Tensor], message: str) -> None:
    arguments = mamba_ssm_arguments()
    given = {"grad_out": torch.zeros(2, 6, 70)} | arguments | wrong
    with pytest.raises(ShapeError, match=re.escape(message)):
        selective_scan_gradients(**given)

"""Bad input to the public ops raises one error with the argument's name, the rule and the value."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from ops.agreement import ConvCase, ScanCase, make_conv_inputs, make_scan_inputs
from ops.public_arguments import mamba_ssm_arguments, ordered_arguments
from rgbt_fusion import (
    ShapeError,
    causal_conv1d,
    ordered_causal_conv1d,
    ordered_selective_scan,
    selective_scan,
)
from rgbt_fusion.ops.arguments import within_bounds

Bad = tuple[dict[str, Any], type[Exception], str]


def of(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=device)


def label(value: Any) -> str:
    return (
        f"{tuple(value.shape)} {value.dtype} {value.device}"
        if isinstance(value, Tensor)
        else repr(value)
    )


def identify(bad: Any) -> str:
    return (
        ", ".join(f"{name}={label(value)}" for name, value in bad.items())
        if isinstance(bad, dict)
        else ""
    )


# u and z are (2, 6, 70), A is (6, 4), B and C are (2, 4, 70).
SCAN: list[Bad] = [
    ({"u": None}, TypeError, "u must be a tensor of shape (B, D, L), got NoneType"),
    ({"u": of(6, 70)}, ShapeError, "u must have shape (B, D, L), got (6, 70)"),
    (
        {"delta": of(2, 6, 69)},
        ShapeError,
        "delta must have the shape of u (2, 6, 70), got (2, 6, 69)",
    ),
    (
        {"delta": of(2, 6, 70).half()},
        TypeError,
        "delta must have the dtype of u torch.float32, got torch.float16",
    ),
    (
        {"delta": of(2, 6, 70, device="meta")},
        ValueError,
        "delta must be on the device of u cpu, got meta",
    ),
    ({"z": of(2, 5, 70)}, ShapeError, "z must have the shape of u (2, 6, 70), got (2, 5, 70)"),
    (
        {"z": of(2, 6, 70).double()},
        TypeError,
        "z must have the dtype of u torch.float32, got torch.float64",
    ),
    ({"A": None}, TypeError, "A must be a tensor, got NoneType"),
    ({"A": of(5, 4)}, ShapeError, "A must have shape (D, N) with D = 6, got (5, 4)"),
    ({"A": of(6)}, ShapeError, "A must have shape (D, N) with D = 6, got (6,)"),
    ({"A": of(6, 0)}, ShapeError, "A must have N >= 1 states as its last axis, got (6, 0)"),
    ({"A": of(6, 4).int()}, TypeError, "A must hold real floating-point numbers, got torch.int32"),
    (
        {"A": of(6, 4).cfloat()},
        TypeError,
        "A must be real, got torch.complex64: complex state spaces are not supported",
    ),
    ({"A": of(6, 4, device="meta")}, ValueError, "A must be on the device of u cpu, got meta"),
    ({"B": None}, TypeError, "B must be a tensor, got NoneType"),
    (
        {"B": of(2, 4, 69)},
        ShapeError,
        "B must have shape (B, N, L) with B = 2, N = 4, L = 70, got (2, 4, 69)",
    ),
    (
        {"B": of(2, 3, 70)},
        ShapeError,
        "B must have shape (B, N, L) with B = 2, N = 4, L = 70, got (2, 3, 70)",
    ),
    ({"B": of(2, 4, 4, 70)}, ValueError, "D must be divisible by the groups of B = 4, got 6"),
    (
        {"B": of(2, 0, 4, 70)},
        ShapeError,
        "B must have the groups of the other coefficient, 1, or 1, got ",
    ),
    (
        {"B": of(2, 2, 4, 70), "C": of(2, 3, 4, 70)},
        ShapeError,
        "B must have the groups of the other coefficient, 3, or",
    ),
    (
        {"B": of(2, 4, 70).bfloat16()},
        TypeError,
        "B must have the dtype of u torch.float32, got torch.bfloat16",
    ),
    (
        {"B": of(6, 4).cfloat()},
        TypeError,
        "B must be real, got torch.complex64: complex state spaces are not supported",
    ),
    ({"B": of(5, 4)}, ShapeError, "B must have shape (D, N) with D = 6, N = 4, got (5, 4)"),
    (
        {"C": of(3, 4, 70)},
        ShapeError,
        "C must have shape (B, N, L) with B = 2, N = 4, L = 70, got (3, 4, 70)",
    ),
    ({"C": of(6, 4, device="meta")}, ValueError, "C must be on the device of u cpu, got meta"),
    ({"D": 3.0}, TypeError, "D must be a tensor of shape (D), got float"),
    ({"D": of(6, 1)}, ShapeError, "D must have shape (D) with D = 6, got (6, 1)"),
    ({"D": of(6).cfloat()}, TypeError, "D must be real, got torch.complex64"),
    ({"delta_bias": of(7)}, ShapeError, "delta_bias must have shape (D) with D = 6, got (7,)"),
    (
        {"delta_bias": of(6).long()},
        TypeError,
        "delta_bias must hold real floating-point numbers, got torch.int64",
    ),
]


@pytest.mark.parametrize(("bad", "error", "message"), SCAN, ids=identify)
def test_scan_names_what_is_wrong(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        selective_scan(**(mamba_ssm_arguments() | bad))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64], ids=str)
def test_scan_takes_real_floating_point_numbers_only(dtype: torch.dtype) -> None:
    tokens = {name: mamba_ssm_arguments()[name].to(dtype) for name in ("u", "delta", "z", "B", "C")}
    with pytest.raises(TypeError, match=f"u must hold real floating-point numbers, got {dtype}"):
        selective_scan(**(mamba_ssm_arguments() | tokens))


# Three directions of two samples of 12 tokens of 6 channels in 4 segments, with 4 states.
ORDERED_SCAN: list[Bad] = [
    ({"u": None}, TypeError, "u must be a tensor, got NoneType"),
    ({"B": None}, TypeError, "B must be a tensor, got NoneType"),
    ({"u": of(12, 6)}, ShapeError, "u must have at least 3 axes, got (12, 6)"),
    ({"u": of(2, 2, 12, 6)}, ShapeError, "u must have 3 directions as its first axis, or 1, got 2"),
    (
        {"delta": of(3, 2, 12, 5)},
        ShapeError,
        "delta must have shape (R, B, L, D) with B = 2, L = 12, D = 6, got",
    ),
    (
        {"z": of(2, 12, 6).half()},
        TypeError,
        "z must have the dtype of u torch.float32, got torch.float16",
    ),
    ({"A": of(2, 6, 4)}, ShapeError, "A must have 3 directions as its first axis, or 1, got 2"),
    (
        {"A": of(3, 6, 0)},
        ShapeError,
        "A must have N >= 1 states as its last axis, got (3, 6, 0)",
    ),
    (
        {"A": of(6, 4).cfloat()},
        TypeError,
        "A must be real, got torch.complex64: complex state spaces are not supported",
    ),
    (
        {"B": of(3, 2, 12, 5)},
        ShapeError,
        "B must have shape (R, B, L, G, N) with B = 2, L = 12, N = 4, got",
    ),
    ({"B": of(3, 2, 12, 4, 4)}, ValueError, "D must be divisible by the groups of B = 4, got 6"),
    ({"D": of(3, 5)}, ShapeError, "D must have shape (R, D) with D = 6, got (3, 5)"),
    (
        {"initial_state": of(2, 6, 3)},
        ShapeError,
        "initial_state must have shape (R, B, D, N) with B = 2, D = 6, N = 4",
    ),
    (
        {"initial_state": of(2, 6, 4).long()},
        TypeError,
        "initial_state must hold real floating-point numbers, got",
    ),
    (
        {"initial_state": of(2, 6, 4, device="meta")},
        ValueError,
        "initial_state must be on the device of u cpu, got",
    ),
]
ORDERS: list[Bad] = [
    ({"order": [0, 1]}, TypeError, "order must be a tensor, got list"),
    ({"order": of(3, 2, 4)}, TypeError, "order must have the dtype torch.int64, got torch.float32"),
    (
        {"order": torch.arange(4).int()},
        TypeError,
        "order must have the dtype torch.int64, got torch.int32",
    ),
    (
        {"order": torch.arange(5)},
        ValueError,
        "L must be divisible by the number of segments K = 5, got 12",
    ),
    (
        {"order": of(0).long()},
        ShapeError,
        "order must have shape (R, B, K) with B = 2 or 1 and K >= 1, got (1, 1, 0)",
    ),
    (
        {"order": of(3, 3, 4).long()},
        ShapeError,
        "order must have shape (R, B, K) with B = 2 or 1 and K >= 1, got",
    ),
    (
        {"order": of(1, 1, 1, 4).long()},
        ShapeError,
        "order must have shape (K), (R, K) or (R, B, K), got (1, 1, 1, 4)",
    ),
    (
        {"order": of(2, 2, 4).long()},
        ShapeError,
        "order must have 3 directions as its first axis, or 1, got 2",
    ),
    ({"order": torch.arange(4, device="meta")}, ValueError, "cpu, got meta"),
    (
        {"order": torch.tensor([0, 1, 1, 3])},
        ValueError,
        "order must be a permutation of 0..3 in every row, "
        "got a second 1 at (0, 0, 2) of shape (1, 1, 4)",
    ),
    (
        {"order": torch.arange(4) + 1},
        ValueError,
        "order must be a permutation of 0..3 in every row, got 4 at (0, 0, 3) of shape (1, 1, 4)",
    ),
    (
        {"order": torch.arange(4) - 1},
        ValueError,
        "order must be a permutation of 0..3 in every row, got -1 at (0, 0, 0) of shape (1, 1, 4)",
    ),
]


@pytest.mark.parametrize(("bad", "error", "message"), ORDERED_SCAN + ORDERS, ids=identify)
def test_ordered_scan_names_what_is_wrong(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    every = frozenset({"D", "z", "delta_bias", "softplus", "initial_state"})
    case = ScanCase(
        "", length=12, channels=6, state=4, directions=3, order=(3, 2, 4), options=every
    )
    with pytest.raises(error, match=re.escape(message)):
        ordered_selective_scan(**(ordered_arguments(make_scan_inputs(case)) | bad))


CONVOLUTION: list[Bad] = [
    ({"x": None}, TypeError, "x must be a tensor of shape (B, D, L), got NoneType"),
    ({"x": of(6, 9)}, ShapeError, "x must have shape (B, D, L), got (6, 9)"),
    (
        {"x": of(2, 6, 9).long()},
        TypeError,
        "x must hold real floating-point numbers, got torch.int64",
    ),
    (
        {"x": of(2, 6, 9).cfloat()},
        TypeError,
        "x must hold real floating-point numbers, got torch.complex64",
    ),
    ({"weight": None}, TypeError, "weight must be a tensor of shape (D, W), got NoneType"),
    ({"weight": of(5, 4)}, ShapeError, "weight must have shape (D, W) with D = 6, got (5, 4)"),
    (
        {"weight": of(6, 1, 4)},
        ShapeError,
        "weight must have shape (D, W) with D = 6, got (6, 1, 4)",
    ),
    ({"weight": of(6, 0)}, ShapeError, "weight must have W >= 1 taps as its last axis, got (6, 0)"),
    (
        {"weight": of(6, 4, device="meta")},
        ValueError,
        "weight must be on the device of x cpu, got meta",
    ),
    ({"bias": of(5)}, ShapeError, "bias must have shape (D) with D = 6, got (5,)"),
    (
        {"bias": of(6).cfloat()},
        TypeError,
        "bias must hold real floating-point numbers, got torch.complex64",
    ),
    (
        {"activation": "relu"},
        ValueError,
        "activation must be one of None, 'silu', 'swish', got 'relu'",
    ),
    (
        {"activation": of(2, 6, 9)},
        TypeError,
        "activation must be None, 'silu' or 'swish', got a tensor of shape (2, 6, 9)",
    ),
]


@pytest.mark.parametrize(("bad", "error", "message"), CONVOLUTION, ids=identify)
def test_convolution_names_what_is_wrong(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = {"x": of(2, 6, 9), "weight": of(6, 4), "bias": of(6), "activation": "silu"}
    with pytest.raises(error, match=re.escape(message)):
        causal_conv1d(**(good | bad))


ORDERED_CONVOLUTION: list[Bad] = [
    ({"x": None}, TypeError, "x must be a tensor, got NoneType"),
    ({"x": of(12, 6)}, ShapeError, "x must have at least 3 axes, got (12, 6)"),
    ({"x": of(2, 2, 12, 6)}, ShapeError, "x must have 3 directions as its first axis, or 1, got 2"),
    (
        {"weight": of(3, 5, 4)},
        ShapeError,
        "weight must have shape (R, D, W) with D = 6, got (3, 5, 4)",
    ),
    (
        {"weight": of(2, 6, 4)},
        ShapeError,
        "weight must have 3 directions as its first axis, or 1, got 2",
    ),
]


@pytest.mark.parametrize(("bad", "error", "message"), ORDERED_CONVOLUTION + ORDERS, ids=identify)
def test_ordered_convolution_names_what_is_wrong(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    case = ConvCase(
        "", length=12, channels=6, directions=3, order=(3, 2, 4), shared=frozenset({"x"})
    )
    with pytest.raises(error, match=re.escape(message)):
        ordered_causal_conv1d(**(ordered_arguments(make_conv_inputs(case)) | bad))


def test_a_wrong_order_of_many_segments_is_not_printed() -> None:
    order = torch.arange(3840).repeat(3, 8, 1)
    order[2, 7, 3839] = 0
    x, coefficients = of(8, 3840, 2), of(8, 3840, 1)
    with pytest.raises(ValueError, match=r"got a second 0 at \(2, 7, 3839\) of shape") as error:
        ordered_selective_scan(x, x, of(2, 1), coefficients, coefficients, order=order)
    assert len(str(error.value)) < 200


def test_a_trusted_order_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from rgbt_fusion.ops import conv_op, prepared, scan_op

    def refuse(order: Tensor) -> None:
        raise AssertionError("the order was read")

    monkeypatch.setattr(scan_op, "check_permutation", refuse)
    monkeypatch.setattr(conv_op, "check_permutation", refuse)
    monkeypatch.setattr(prepared, "check_permutation", refuse)
    x, order = of(2, 12, 6), torch.randperm(4)
    coefficients = of(2, 12, 4)
    ordered_selective_scan(
        x, x, of(6, 4), coefficients, coefficients, order=order, trusted_order=True
    )
    ordered_causal_conv1d(x, of(6, 4), order=order, trusted_order=True)
    with pytest.raises(AssertionError, match="the order was read"):
        ordered_causal_conv1d(x, of(6, 4), order=order)
    with pytest.raises(AssertionError, match="the order was read"):
        ordered_selective_scan(x, x, of(6, 4), coefficients, coefficients, order=order)


def test_tensors_without_values_give_the_shape() -> None:
    x, coefficients = of(2, 12, 6, device="meta"), of(2, 12, 4, device="meta")
    scan = ordered_selective_scan(x, x, of(6, 4, device="meta"), coefficients, coefficients)
    assert scan.out.is_meta and scan.out.shape == (2, 12, 6)
    assert ordered_causal_conv1d(x, of(6, 4, device="meta")).shape == (2, 12, 6)


def test_a_trusted_order_is_forced_into_its_bounds() -> None:
    order = torch.tensor([[[3, 0, 1, 2]], [[-7, 0, 9, 3]]])
    assert within_bounds(order).tolist() == [[[3, 0, 1, 2]], [[0, 0, 3, 3]]]


@pytest.mark.parametrize("op", ["scan", "convolution"])
def test_a_right_order_gives_the_same_whether_it_is_trusted_or_not(op: str) -> None:
    torch.manual_seed(0)
    x, coefficients = torch.randn(2, 12, 6), torch.randn(2, 12, 4)
    order = torch.tensor([[3, 0, 2, 1], [0, 1, 2, 3]])

    def result(*, trusted_order: bool) -> Tensor:
        options: Any = {"order": order, "trusted_order": trusted_order}
        if op == "convolution":
            return ordered_causal_conv1d(x, torch.ones(6, 4), **options)
        A = -torch.ones(6, 4)
        return ordered_selective_scan(x, x, A, coefficients, coefficients, **options).out

    assert torch.equal(result(trusted_order=True), result(trusted_order=False))

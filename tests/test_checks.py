import pytest
import torch

from rgbt_fusion import checks
from rgbt_fusion.checks import ShapeError


def test_check_shape_returns_the_sizes():
    assert checks.check_shape(torch.zeros(2, 3, 4), "B L C", C=4, name="x") == {
        "B": 2,
        "L": 3,
        "C": 4,
    }
    assert checks.check_shape(torch.zeros(2, 1), "B 1", name="x") == {"B": 2}


@pytest.mark.parametrize(
    ("shape", "pattern", "sizes", "message"),
    [
        ((2, 3), "B L C", {}, "x must have shape (B, L, C), got (2, 3)"),
        ((2, 3, 5), "B L C", {"C": 4}, "x must have shape (B, L, C) with C = 4, got (2, 3, 5)"),
        ((2, 3), "B 1", {}, "x must have shape (B, 1), got (2, 3)"),
        ((2, 3), "S S", {}, "x must have shape (S, S), got (2, 3)"),
    ],
)
def test_check_shape_names_the_rule_and_the_value(shape, pattern, sizes, message):
    with pytest.raises(ShapeError) as error:
        checks.check_shape(torch.zeros(shape), pattern, name="x", **sizes)
    assert str(error.value) == message


def test_check_shape_wants_a_tensor():
    with pytest.raises(TypeError, match=r"x must be a tensor of shape \(B, L\), got list"):
        checks.check_shape([1], "B L", name="x")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: checks.check_same_shape(
                torch.zeros(2), torch.zeros(3), name="tir", like_name="rgb"
            ),
            ShapeError,
            "tir must have the shape of rgb (3,), got (2,)",
        ),
        (
            lambda: checks.check_same_shape(None, torch.zeros(3), name="tir", like_name="rgb"),
            TypeError,
            "tir must be a tensor, got NoneType",
        ),
        (
            lambda: checks.check_floating(torch.zeros(2, dtype=torch.int64), name="u"),
            TypeError,
            "u must hold real floating-point numbers, got torch.int64",
        ),
        (
            lambda: checks.check_indices(torch.zeros(2), name="u"),
            TypeError,
            "u must be int64, got torch.float32",
        ),
        (
            lambda: checks.check_same_dtype(
                torch.zeros(1), torch.zeros(1).half(), name="z", like_name="u"
            ),
            TypeError,
            "z must have the dtype of u torch.float16, got torch.float32",
        ),
        (
            lambda: checks.check_same_device(
                torch.zeros(1, device="meta"), torch.zeros(1), name="z", like_name="u"
            ),
            ValueError,
            "z must be on the device of u cpu, got meta",
        ),
        (lambda: checks.check_positive_int(0, name="n"), ValueError, "n must be at least 1, got 0"),
        (
            lambda: checks.check_positive_int(True, name="n"),
            TypeError,
            "n must be a whole number, got True",
        ),
        (
            lambda: checks.check_positive_int("3", name="n"),
            TypeError,
            "n must be a whole number, got '3'",
        ),
        (
            lambda: checks.check_finite_number("a", name="t"),
            TypeError,
            "t must be a number, got 'a'",
        ),
        (
            lambda: checks.check_finite_number(float("nan"), name="t"),
            ValueError,
            "t must be finite, got nan",
        ),
        (
            lambda: checks.check_finite_number(2, name="t", low=0, high=1),
            ValueError,
            "t must be a finite number in [0, 1], got 2",
        ),
        (
            lambda: checks.check_choice("x", ("a", None), name="mode"),
            ValueError,
            "mode must be one of 'a', None, got 'x'",
        ),
        (
            lambda: checks.check_divisible(7, 2, name="D", divisor_name="G"),
            ValueError,
            "D must be divisible by G = 2, got 7",
        ),
    ],
)
def test_each_check_names_argument_rule_and_value(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


def test_what_is_right_passes():
    x = torch.zeros(2)
    checks.check_same_shape(x, x, name="a", like_name="b")
    checks.check_floating(x.to(torch.bfloat16), name="a")
    checks.check_indices(x.long(), name="a")
    checks.check_same_dtype(x, x, name="a", like_name="b")
    checks.check_same_device(x, x, name="a", like_name="b")
    checks.check_choice(None, ("a", None), name="a")
    checks.check_divisible(8, 2, name="a", divisor_name="b")
    assert checks.check_positive_int(3, name="a") == 3
    assert checks.check_finite_number(1, name="a", low=0) == 1.0

import pytest
import torch

from rgbt_fusion import shapes
from rgbt_fusion.checks import ShapeError


def test_check_shape_returns_the_sizes():
    assert shapes.check_shape(torch.zeros(2, 3, 4), "B L C", C=4, name="x") == {
        "B": 2,
        "L": 3,
        "C": 4,
    }
    assert shapes.check_shape(torch.zeros(2, 1), "B 1", name="x") == {"B": 2}


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
        shapes.check_shape(torch.zeros(shape), pattern, name="x", **sizes)
    assert str(error.value) == message


def test_check_shape_wants_a_tensor():
    with pytest.raises(TypeError, match=r"x must be a tensor of shape \(B, L\), got list"):
        shapes.check_shape([1], "B L", name="x")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: shapes.check_same_shape(
                torch.zeros(2), torch.zeros(3), name="tir", like_name="rgb"
            ),
            ShapeError,
            "tir must have the shape of rgb (3,), got (2,)",
        ),
        (
            lambda: shapes.check_same_shape(None, torch.zeros(3), name="tir", like_name="rgb"),
            TypeError,
            "tir must be a tensor, got NoneType",
        ),
        (
            lambda: shapes.check_floating(torch.zeros(2, dtype=torch.int64), name="u"),
            TypeError,
            "u must hold real floating-point numbers, got torch.int64",
        ),
        (
            lambda: shapes.check_indices(torch.zeros(2), name="u"),
            TypeError,
            "u must be int64, got torch.float32",
        ),
        (
            lambda: shapes.check_same_dtype(
                torch.zeros(1), torch.zeros(1).half(), name="z", like_name="u"
            ),
            TypeError,
            "z must have the dtype of u torch.float16, got torch.float32",
        ),
        (
            lambda: shapes.check_same_device(
                torch.zeros(1, device="meta"), torch.zeros(1), name="z", like_name="u"
            ),
            ValueError,
            "z must be on the device of u cpu, got meta",
        ),
    ],
)
def test_each_check_names_argument_rule_and_value(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


def test_what_is_right_passes():
    x = torch.zeros(2)
    shapes.check_same_shape(x, x, name="a", like_name="b")
    shapes.check_floating(x.to(torch.bfloat16), name="a")
    shapes.check_indices(x.long(), name="a")
    shapes.check_same_dtype(x, x, name="a", like_name="b")
    shapes.check_same_device(x, x, name="a", like_name="b")
    shapes.check_dtype_unless_autocast(x, x, name="a", like_name="b")


def test_a_dtype_that_autocast_casts_passes():
    x = torch.zeros(2)
    with pytest.raises(TypeError, match="a must have the dtype of b"):
        shapes.check_dtype_unless_autocast(x.bfloat16(), x, name="a", like_name="b")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shapes.check_dtype_unless_autocast(x.bfloat16(), x, name="a", like_name="b")

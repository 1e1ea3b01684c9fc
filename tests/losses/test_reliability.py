"""The loss on reliabilities: its values, what is not known, and eliminated tokens."""

import math

import pytest
import torch

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.losses.reliability import reliability_loss

NAN = math.nan


def test_the_value_by_hand() -> None:
    trusted = torch.tensor([[[0.9, 0.2], [0.5, 0.4]]], dtype=torch.float64)
    seen = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    rgb = -(math.log(0.9) + math.log(0.5)) / 2
    tir = -(math.log(0.8) + math.log(0.6)) / 2
    assert reliability_loss(trusted, seen).item() == pytest.approx((rgb + tir) / 2)


def test_what_nobody_knows_does_not_count() -> None:
    trusted = torch.tensor([[[0.9, 0.2]], [[0.3, 0.6]]], requires_grad=True)
    half_known = torch.tensor([[1.0, NAN], [NAN, NAN]])
    loss = reliability_loss(trusted, half_known)
    assert loss.item() == pytest.approx(-math.log(0.9))
    (gradient,) = torch.autograd.grad(loss, trusted)
    assert (gradient != 0).tolist() == [[[True, False]], [[False, False]]]
    nothing = torch.full((2, 2), NAN)
    (gradient,) = torch.autograd.grad(reliability_loss(trusted, nothing), trusted)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_eliminated_tokens_do_not_count() -> None:
    trusted = torch.tensor([[[0.9, 0.1], [0.0, 0.0], [0.8, 0.2]]])
    seen = torch.tensor([[1.0, 0.0]])
    kept = torch.tensor([[0, 2]])
    expected = reliability_loss(trusted[:, [0, 2]], seen)
    torch.testing.assert_close(reliability_loss(trusted, seen, kept), expected)
    one = reliability_loss(trusted, seen, torch.tensor([[2]]))
    assert one.item() == pytest.approx(-math.log(0.8))


def test_only_tokens_near_the_target_count() -> None:
    trusted = torch.rand(1, 64, 2, generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([[1.0, 0.0]])
    # a box of two by one cells around the corner of four cells: twice its size is four by two
    box = torch.tensor([[0.5, 0.25, 0.25, 0.125]])
    near = [8 * row + column for row in (1, 2) for column in (2, 3, 4, 5)]
    found = reliability_loss(trusted, seen, box_cxcywh_unit=box)
    torch.testing.assert_close(found, reliability_loss(trusted[:, near], seen))
    # exactly twice its size away is near
    box = torch.tensor([[0.4375, 0.4375, 0.25, 0.25]])
    around = [8 * row + column for row in range(1, 6) for column in range(1, 6)]
    found = reliability_loss(trusted, seen, box_cxcywh_unit=box)
    torch.testing.assert_close(found, reliability_loss(trusted[:, around], seen))
    box = torch.tensor([[0.5, 0.25, 0.25, 0.125]])
    kept = torch.tensor([[*near[:3], 0]])
    found = reliability_loss(trusted, seen, kept, box)
    torch.testing.assert_close(found, reliability_loss(trusted[:, near[:3]], seen))


def test_an_absent_target_teaches_nothing() -> None:
    trusted = torch.full((1, 4, 2), 0.3, requires_grad=True)
    nowhere = torch.full((1, 4), NAN)
    loss = reliability_loss(trusted, torch.full((1, 2), NAN), box_cxcywh_unit=nowhere)
    (gradient,) = torch.autograd.grad(loss, trusted)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_certainty_that_is_wrong_stays_finite_in_low_precision() -> None:
    wrong = torch.tensor([[[0.0, 1.0]]], dtype=torch.bfloat16)
    loss = reliability_loss(wrong, torch.tensor([[1.0, 0.0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-math.log(1e-6), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(2, 5, 3), torch.zeros(2, 2)), ShapeError, "reliability must"),
        ((torch.zeros(2, 5, 2), torch.zeros(1, 2)), ShapeError, "seen must"),
        ((torch.zeros(2, 5, 2), torch.zeros(2, 2, dtype=torch.long)), TypeError, "seen must"),
        (
            (torch.zeros(2, 5, 2), torch.zeros(2, 2), torch.zeros(1, 3, dtype=torch.long)),
            ShapeError,
            "kept must",
        ),
        ((torch.zeros(2, 4, 2), torch.zeros(2, 2), None, torch.zeros(1, 4)), ShapeError, "box_cx"),
        (
            (torch.zeros(2, 5, 2), torch.zeros(2, 2), None, torch.zeros(2, 4)),
            ShapeError,
            "reliability must have a square number of tokens, got 5",
        ),
    ],
)
def test_bad_input_is_refused(arguments, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reliability_loss(*arguments)

"""The loss on offsets: its values, what is not known, and what cannot be aligned."""

import math

import pytest
import torch

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.losses.alignment import alignment_loss

NAN = math.nan


def test_the_value_by_hand() -> None:
    offset = torch.tensor([[0.5, -1.0], [0.2, 0.0], [0.0, 2.0]], dtype=torch.float64)
    confidence = torch.tensor([0.9, 0.8, 0.3], dtype=torch.float64)
    truth = torch.tensor([[0.4, -1.25], [0.5, 0.0], [NAN, NAN]], dtype=torch.float64)
    seen = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    distance = (0.35 + 0.3) / 2
    # right at the tolerance, beside it in x, and of a camera that shows nothing
    entropy = -(math.log(0.9) + math.log(0.2) + math.log(0.7)) / 3
    found = alignment_loss(offset, confidence, truth, seen)
    assert found.item() == pytest.approx(distance + entropy)


def test_the_tolerance_says_what_is_right() -> None:
    offset, confidence = torch.tensor([[0.5, 0.0]]), torch.tensor([0.9])
    truth = torch.zeros(1, 2)
    strict = alignment_loss(offset, confidence, truth, tolerance=0.4)
    loose = alignment_loss(offset, confidence, truth, tolerance=0.6)
    assert strict.item() == pytest.approx(0.5 - math.log(0.1), rel=1e-5)
    assert loose.item() == pytest.approx(0.5 - math.log(0.9), rel=1e-5)


def test_what_nobody_knows_does_not_count() -> None:
    offset = torch.tensor([[0.5, 0.5], [1.0, 1.0], [2.0, 2.0]], requires_grad=True)
    confidence = torch.tensor([0.6, 0.7, 0.8], requires_grad=True)
    truth = torch.tensor([[0.5, 0.4], [NAN, 1.0], [2.0, 2.0]])
    seen = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, NAN]])
    loss = alignment_loss(offset, confidence, truth, seen)
    assert loss.item() == pytest.approx(0.1 - math.log(0.6), rel=1e-5)
    gradients = torch.autograd.grad(loss, (offset, confidence))
    assert gradients[0].any(-1).tolist() == [True, False, False]
    assert (gradients[1] != 0).tolist() == [True, False, False]
    nothing = torch.full((3, 2), NAN)
    loss = alignment_loss(offset, confidence, truth, nothing)
    assert loss.item() == 0
    for gradient in torch.autograd.grad(loss, (offset, confidence)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_of_a_camera_that_shows_nothing_the_offset_is_free() -> None:
    offset = torch.ones(1, 2, requires_grad=True)
    confidence = torch.tensor([0.6], requires_grad=True)
    loss = alignment_loss(offset, confidence, torch.zeros(1, 2), torch.tensor([[0.0, NAN]]))
    assert loss.item() == pytest.approx(-math.log(0.4), rel=1e-5)
    free, pushed = torch.autograd.grad(loss, (offset, confidence))
    assert torch.equal(free, torch.zeros(1, 2))
    assert pushed.item() > 0


def test_certainty_that_is_wrong_stays_finite_in_low_precision() -> None:
    offset = torch.tensor([[3.0, 0.0]], dtype=torch.bfloat16)
    loss = alignment_loss(offset, torch.ones(1, dtype=torch.bfloat16), torch.zeros(1, 2))
    assert loss.dtype == torch.float32
    assert 13 < loss.item() < 23


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"offset": torch.zeros(2, 3)}, ShapeError, "offset must"),
        ({"offset": torch.zeros(2, 2, dtype=torch.long)}, TypeError, "offset must"),
        ({"confidence": torch.zeros(3)}, ShapeError, "confidence must"),
        ({"confidence": torch.zeros(2, dtype=torch.bool)}, TypeError, "confidence must"),
        ({"true_offset": torch.zeros(1, 2)}, ShapeError, "true_offset must"),
        ({"true_offset": torch.zeros(2, 2, dtype=torch.long)}, TypeError, "true_offset must"),
        ({"seen": torch.zeros(2, 1)}, ShapeError, "seen must"),
        ({"seen": torch.zeros(2, 2, dtype=torch.long)}, TypeError, "seen must"),
        ({"tolerance": -0.1}, ValueError, "tolerance must"),
        ({"tolerance": "a"}, TypeError, "tolerance must"),
    ],
)
def test_bad_input_is_refused(changes, error: type[Exception], message: str) -> None:
    arguments = {
        "offset": torch.zeros(2, 2),
        "confidence": torch.full((2,), 0.5),
        "true_offset": torch.zeros(2, 2),
    }
    with pytest.raises(error, match=message):
        alignment_loss(**(arguments | changes))

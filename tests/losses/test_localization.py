import math

import pytest
import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.losses.localization import (
    LocalizationLoss,
    focal_heatmap_loss,
    gaussian_label,
    gaussian_radius,
)


def random_targets(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    size = 0.02 + 0.7 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return torch.cat((centre, size), dim=1)


def label_radius(w: float, h: float, t: float) -> int:
    """The smallest of three roots, as OSTrack's code computes it."""
    b = w + h
    r1 = (b + math.sqrt(b**2 - 4 * w * h * (1 - t) / (1 + t))) / 2
    r2 = (2 * b + math.sqrt(4 * b**2 - 16 * (1 - t) * w * h)) / 2
    r3 = (-2 * t * b + math.sqrt(4 * t**2 * b**2 + 16 * t * (1 - t) * w * h)) / 2
    return int(max(0, min(r1, r2, r3)))


def label_cell_by_cell(cx: float, cy: float, w: float, h: float, grid: int) -> Tensor:
    """SPEC's rules with Python numbers, one cell after another."""
    radius = label_radius(w * grid, h * grid, 0.7)
    sigma = (2 * radius + 1) / 6
    x, y = round(grid * cx), round(grid * cy)
    label = torch.zeros(grid, grid, dtype=torch.float64)
    for row in range(max(0, y - radius), min(grid, y + radius + 1)):
        for column in range(max(0, x - radius), min(grid, x + radius + 1)):
            label[row, column] = math.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * sigma**2))
    return label


@pytest.mark.parametrize("grid", [16, 24])
def test_label_equals_the_rules_cell_by_cell(grid: int) -> None:
    targets = random_targets(60)
    labels = gaussian_label(targets, grid)
    assert labels.shape == (60, 1, grid, grid)
    for label, (cx, cy, w, h) in zip(labels, targets.tolist(), strict=True):
        torch.testing.assert_close(label[0], label_cell_by_cell(cx, cy, w, h, grid))


def test_radius_of_square_boxes() -> None:
    assert gaussian_radius(torch.tensor([[4.0, 4.0], [8.0, 8.0], [2.0, 2.0]])).tolist() == [1, 2, 0]


@pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5, 0.7, 0.99])
def test_radius_is_the_smallest_root_of_any_box(overlap: float) -> None:
    """CornerNet's three cases, of boxes from a hundredth of a cell to the whole map."""
    sides = 10 ** torch.linspace(-2, 1.5, 15, dtype=torch.float64)
    sizes = torch.cartesian_prod(sides, sides)
    expected = [label_radius(w, h, overlap) for w, h in sizes.tolist()]
    assert gaussian_radius(sizes, overlap).tolist() == expected


def test_label_of_a_centre_between_two_cells_rounds_to_the_even_one() -> None:
    centres = torch.tensor([[2.5, 3.5, 1.0, 1.0]]) / 16
    assert gaussian_label(centres, 16).nonzero().tolist() == [[0, 0, 4, 2]]


def test_label_of_a_centre_at_the_far_edge_has_no_positive() -> None:
    label = gaussian_label(torch.tensor([[1.0, 0.5, 0.5, 0.5]]), 16)
    assert label.max() < 1
    assert label[0, 0, 8, 15] > 0


def test_labels_of_several_targets_are_merged_by_the_maximum() -> None:
    targets = torch.tensor([[0.25, 0.5, 0.5, 0.5], [0.375, 0.5, 0.5, 0.5]])
    merged = gaussian_label(targets[None], 16)
    assert merged.equal(gaussian_label(targets, 16).amax(0, keepdim=True))


def test_focal_loss_by_hand() -> None:
    score, label = torch.tensor([0.8, 0.3, 0.1]), torch.tensor([1.0, 0.5, 0.0])
    positive = 0.2**2 * math.log(0.8)
    negative = 0.5**4 * 0.3**2 * math.log(0.7) + 0.1**2 * math.log(0.9)
    assert focal_heatmap_loss(score, label).item() == pytest.approx(
        -(positive + negative), rel=1e-5
    )
    twice = focal_heatmap_loss(torch.cat((score, score)), torch.cat((label, label)))
    assert twice.item() == pytest.approx(-(positive + negative), rel=1e-5)
    halved = focal_heatmap_loss(score, label, num_positives=torch.tensor(2.0))
    assert halved.item() == pytest.approx(-(positive + negative) / 2, rel=1e-5)


def test_focal_loss_without_a_positive_is_the_plain_sum() -> None:
    loss = focal_heatmap_loss(torch.tensor([0.3, 0.3]), torch.zeros(2))
    assert loss.item() == pytest.approx(-2 * 0.3**2 * math.log(0.7), rel=1e-5)


def test_focal_loss_is_finite_at_the_ends() -> None:
    score = torch.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    loss = focal_heatmap_loss(score, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    loss.backward()
    assert loss.isfinite()
    assert score.grad is not None
    assert score.grad.isfinite().all()


def test_total_by_hand() -> None:
    # the right half of the target is found: IoU 1/2, no gap in the hull
    target, predicted = torch.tensor([[0.5, 0.5, 0.4, 0.2]]), torch.tensor([[0.6, 0.5, 0.2, 0.2]])
    score = torch.full((1, 1, 16, 16), 0.25)
    terms = LocalizationLoss()(score, predicted, target)
    focal = focal_heatmap_loss(score, gaussian_label(target, 16))
    assert terms.giou.item() == pytest.approx(0.5, rel=1e-5)
    assert terms.l1.item() == pytest.approx(0.2 / 4, rel=1e-5)
    assert terms.total.item() == pytest.approx(focal.item() + 2 * 0.5 + 5 * 0.05, rel=1e-5)
    weighted = LocalizationLoss(focal_weight=0.0, giou_weight=1.0, l1_weight=0.0)(
        score, predicted, target
    )
    assert weighted.total.item() == pytest.approx(0.5, rel=1e-5)


def test_boxes_of_a_target_that_leaves_the_crop_are_compared_inside_it() -> None:
    inside, beyond = torch.tensor([[0.9, 0.5, 0.2, 0.4]]), torch.tensor([[0.95, 0.5, 0.3, 0.4]])
    terms = LocalizationLoss()(torch.full((1, 1, 8, 8), 0.1), inside, beyond)
    assert terms.giou.item() == pytest.approx(0.0, abs=1e-6)


def test_gradients() -> None:
    torch.manual_seed(0)
    score = torch.rand(2, 1, 8, 8, dtype=torch.float64).mul(0.8).add(0.1).requires_grad_()
    box = random_targets(2).requires_grad_()
    target = random_targets(4)[2:]
    assert torch.autograd.gradcheck(
        lambda *inputs: LocalizationLoss()(*inputs, target).total, (score, box)
    )


def test_low_precision_maps_are_raised() -> None:
    score, box = (
        torch.full((1, 1, 8, 8), 0.3, dtype=torch.bfloat16),
        torch.tensor([[0.5, 0.5, 0.2, 0.2]]).bfloat16(),
    )
    assert LocalizationLoss()(score, box, box).total.dtype == torch.float32


def test_compiled_and_exported_equal_eager() -> None:
    inputs = (
        torch.rand(2, 1, 16, 16) * 0.9,
        random_targets(2).float(),
        random_targets(4)[2:].float(),
    )
    expected = LocalizationLoss()(*inputs)
    compiled = torch.compile(LocalizationLoss(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    torch.testing.assert_close(
        torch.export.export(LocalizationLoss(), inputs).module()(*inputs), expected
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: gaussian_label(torch.zeros(2, 5), 16),
            ShapeError,
            r"box_cxcywh_unit must have shape \(B, N, 4\)",
        ),
        (
            lambda: gaussian_label(torch.zeros(2, 4).long(), 16),
            TypeError,
            "box_cxcywh_unit must hold real",
        ),
        (
            lambda: gaussian_label(None, 16),
            TypeError,
            "box_cxcywh_unit must be a tensor of shape .*, got NoneType",
        ),
        (
            lambda: focal_heatmap_loss(None, torch.zeros(2)),
            TypeError,
            "score must be a tensor, got NoneType",
        ),
        (
            lambda: gaussian_label(torch.zeros(2, 4), 0),
            ValueError,
            "grid must be at least 1, got 0",
        ),
        (
            lambda: focal_heatmap_loss(torch.zeros(2), torch.zeros(3)),
            ShapeError,
            r"label must have the shape of score \(2,\), got \(3,\)",
        ),
        (
            lambda: LocalizationLoss(giou_weight=-1),
            ValueError,
            "giou_weight must be a finite number .* got -1",
        ),
        (
            lambda: LocalizationLoss()(
                torch.zeros(1, 1, 8, 9), torch.zeros(1, 4), torch.zeros(1, 4)
            ),
            ShapeError,
            r"score_map must be square, \(B, 1, S, S\), got \(1, 1, 8, 9\)",
        ),
        (
            lambda: LocalizationLoss()(
                torch.zeros(2, 1, 8, 8), torch.zeros(1, 4), torch.zeros(1, 4)
            ),
            ShapeError,
            r"box_cxcywh_unit must have shape \(B, 4\) with B = 2, got \(1, 4\)",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_an_absent_target_leaves_the_map_alone_to_be_trained():
    torch.manual_seed(0)
    maps = torch.rand(3, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    boxes = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.5, 0.5, 0.2, 0.3]] * 3, dtype=torch.float64)
    target[1] = torch.nan
    terms = LocalizationLoss()(maps, boxes, target)
    terms.total.backward()
    assert all(term.isfinite() for term in terms)
    assert boxes.grad[1].eq(0).all()
    assert boxes.grad[0].ne(0).any()
    assert maps.grad.isfinite().all()
    assert maps.grad[1].ne(0).all()
    # the means are over the whole batch, the absent one adding nothing
    present = LocalizationLoss()(maps[[0, 2]], boxes[[0, 2]], target[[0, 2]])
    assert torch.allclose(terms.giou, present.giou * 2 / 3)
    assert torch.allclose(terms.l1, present.l1 * 2 / 3)
    label = gaussian_label(target[[0]], 8).expand(3, -1, -1, -1).clone()
    label[1] = 0
    assert torch.allclose(terms.focal, focal_heatmap_loss(maps, label))


def test_one_coordinate_that_is_nan_is_no_absent_target():
    target = torch.tensor([[0.5, 0.5, float("nan"), 0.3]])
    assert LocalizationLoss()(torch.rand(1, 1, 8, 8), torch.rand(1, 4), target).total.isnan()

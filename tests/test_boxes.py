import pytest
import torch

from rgbt_fusion import boxes
from rgbt_fusion.checks import ShapeError

FORMATS = {
    ("xywh", "xyxy"): boxes.xywh_to_xyxy,
    ("xyxy", "xywh"): boxes.xyxy_to_xywh,
    ("cxcywh", "xyxy"): boxes.cxcywh_to_xyxy,
    ("xyxy", "cxcywh"): boxes.xyxy_to_cxcywh,
    ("xywh", "cxcywh"): boxes.xywh_to_cxcywh,
    ("cxcywh", "xywh"): boxes.cxcywh_to_xywh,
}
SAME_BOX = {
    "xywh": (10.0, 20.0, 30.0, 44.0),
    "xyxy": (10.0, 20.0, 40.0, 64.0),
    "cxcywh": (25.0, 42.0, 30.0, 44.0),
}


def random_boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    corner, size = torch.rand(
        2, *shape, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return torch.cat((corner, corner + 0.05 + size), dim=-1)


@pytest.mark.parametrize("formats", FORMATS, ids="->".join)
def test_conversion_of_one_box_by_hand(formats: tuple[str, str]) -> None:
    source, target = (torch.tensor(SAME_BOX[name]) for name in formats)
    torch.testing.assert_close(FORMATS[formats](source), target)


@pytest.mark.parametrize("formats", FORMATS, ids="->".join)
def test_conversion_there_and_back_on_a_grid_of_boxes(formats: tuple[str, str]) -> None:
    box = random_boxes(2, 3)
    torch.testing.assert_close(FORMATS[formats[1], formats[0]](FORMATS[formats](box)), box)


def test_whole_pixels_keep_half_a_pixel_at_the_centre() -> None:
    assert boxes.xywh_to_cxcywh(torch.tensor([0, 0, 3, 2])).tolist() == [1.5, 1.0, 3.0, 2.0]
    assert boxes.xywh_to_xyxy(torch.tensor([1, 2, 3, 4])).dtype == torch.int64


def test_iou_and_giou_by_counting_cells() -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.randint(0, 6, (50, 2, 2), generator=generator)
    size = torch.randint(1, 6, (50, 2, 2), generator=generator)
    a, b = torch.cat((corner, corner + size), dim=-1).double().unbind(1)
    for one, other in zip(a, b, strict=True):
        cells, others = (torch.zeros(12, 12, dtype=torch.bool) for _ in range(2))
        for box, grid in ((one, cells), (other, others)):
            left, top, right, bottom = box.long().tolist()
            grid[top:bottom, left:right] = True
        union = (cells | others).sum().double()
        where = (cells | others).nonzero()
        hull = (where.max(0).values - where.min(0).values + 1).prod()
        iou = (cells & others).sum() / union
        torch.testing.assert_close(boxes.box_iou(one, other), iou)
        torch.testing.assert_close(boxes.box_giou(one, other), iou - (hull - union) / hull)


def test_iou_of_all_pairs_by_broadcasting() -> None:
    a, b = random_boxes(3), random_boxes(4, seed=1)
    table = boxes.box_iou(a[:, None], b[None])
    assert table.shape == (3, 4)
    torch.testing.assert_close(table[2, 1], boxes.box_iou(a[2], b[1]))


def test_boxes_without_area_overlap_nothing_and_have_finite_gradients() -> None:
    point = torch.tensor([1.0, 1.0, 1.0, 1.0], requires_grad=True)
    assert boxes.box_iou(point, point.detach()).item() == 0
    giou = boxes.box_giou(point, torch.tensor([1.0, 1.0, 1.0, 1.0]))
    giou.backward()
    assert giou.item() == 0
    assert point.grad is not None
    assert point.grad.isfinite().all()


def test_giou_gradient() -> None:
    assert torch.autograd.gradcheck(
        boxes.box_giou, (random_boxes(6).requires_grad_(), random_boxes(6, seed=1).requires_grad_())
    )


def test_giou_pulls_together_boxes_that_do_not_touch() -> None:
    box = torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True)
    boxes.box_giou(box, torch.tensor([3.0, 0.0, 4.0, 1.0])).backward()
    assert box.grad is not None
    assert box.grad[2] > 0  # growing to the right raises the GIoU


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ((5.0, 6.0, 20.0, 30.0), (5.0, 6.0, 20.0, 30.0)),
        ((-5.0, -6.0, 20.0, 30.0), (0.0, 0.0, 15.0, 24.0)),
        ((90.0, 70.0, 20.0, 30.0), (90.0, 70.0, 10.0, 10.0)),
        ((300.0, 300.0, 20.0, 30.0), (90.0, 70.0, 10.0, 10.0)),
        ((-90.0, -80.0, 20.0, 30.0), (0.0, 0.0, 10.0, 10.0)),
        ((50.0, 40.0, 2.0, 3.0), (50.0, 40.0, 10.0, 10.0)),
    ],
)
def test_clipping_to_an_image(box: tuple[float, ...], clipped: tuple[float, ...]) -> None:
    batch = torch.tensor([box, box])
    assert boxes.clip_xywh(batch, height=80, width=100, margin=10).tolist() == [list(clipped)] * 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: boxes.xywh_to_xyxy(torch.zeros(2, 3)),
            ShapeError,
            r"box must have shape \(..., 4\), got \(2, 3\)",
        ),
        (
            lambda: boxes.xywh_to_xyxy(torch.tensor(1.0)),
            ShapeError,
            r"box must have shape \(..., 4\), got \(\)",
        ),
        (lambda: boxes.xyxy_to_xywh([1, 2, 3, 4]), TypeError, "box must be a tensor .* got list"),  # type: ignore[arg-type]
        (
            lambda: boxes.box_iou(torch.zeros(3, 4), torch.zeros(2, 4)),
            ShapeError,
            r"broadcast .*\(3, 4\), got \(2, 4\)",
        ),
        (
            lambda: boxes.box_giou(torch.zeros(4, dtype=torch.int64), torch.zeros(4)),
            TypeError,
            "a_xyxy must hold real",
        ),
        (
            lambda: boxes.clip_xywh(torch.zeros(4), height=5, width=9, margin=6),
            ValueError,
            r"margin must be .*\[0, 5\]",
        ),
    ],
)
def test_bad_boxes_are_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_compiled_and_exported_equal_eager() -> None:
    class Loss(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return boxes.box_giou(boxes.cxcywh_to_xyxy(a), b) + boxes.clip_xywh(
                a, height=2, width=2
            ).sum(-1)

    a, b = boxes.xyxy_to_cxcywh(random_boxes(5)), random_boxes(5, seed=1)
    expected = Loss()(a, b)
    compiled = torch.compile(Loss(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(a, b), expected)
    torch.testing.assert_close(torch.export.export(Loss(), (a, b)).module()(a, b), expected)

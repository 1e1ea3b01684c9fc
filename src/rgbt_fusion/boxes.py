"""Boxes: the three formats of the field, their overlap, and clipping to an image.

A box is the last axis of a tensor ``(..., 4)``: every function works on one box, a batch or a grid,
and two arguments broadcast. The formats are ``xywh`` (corner and size: annotations and results),
``xyxy`` (two corners: overlaps) and ``cxcywh`` (centre and size: networks). A box may be in pixels
or in fractions of an image.
"""

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_finite_number
from rgbt_fusion.shapes import check_floating

__all__ = [
    "box_giou",
    "box_iou",
    "clip_xywh",
    "cxcywh_to_xywh",
    "cxcywh_to_xyxy",
    "xywh_to_cxcywh",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]


def xywh_to_xyxy(box: Tensor) -> Tensor:
    """Convert left, top, width, height to left, top, right, bottom.

    Example:
        >>> import torch
        >>> from rgbt_fusion.boxes import xywh_to_xyxy
        >>> xywh_to_xyxy(torch.tensor([10.0, 20.0, 30.0, 40.0])).tolist()
        [10.0, 20.0, 40.0, 60.0]
    """
    corner, size = _halves(box)
    return torch.cat((corner, corner + size), dim=-1)


def xyxy_to_xywh(box: Tensor) -> Tensor:
    """Convert left, top, right, bottom to left, top, width, height."""
    corner, opposite = _halves(box)
    return torch.cat((corner, opposite - corner), dim=-1)


def cxcywh_to_xyxy(box: Tensor) -> Tensor:
    """Convert centre, width, height to left, top, right, bottom."""
    centre, size = _halves(box)
    return torch.cat((centre - size / 2, centre + size / 2), dim=-1)


def xyxy_to_cxcywh(box: Tensor) -> Tensor:
    """Convert left, top, right, bottom to centre, width, height."""
    corner, opposite = _halves(box)
    return torch.cat(((corner + opposite) / 2, opposite - corner), dim=-1)


def xywh_to_cxcywh(box: Tensor) -> Tensor:
    """Convert left, top, width, height to centre, width, height."""
    corner, size = _halves(box)
    return torch.cat((corner + size / 2, size), dim=-1)


def cxcywh_to_xywh(box: Tensor) -> Tensor:
    """Convert centre, width, height to left, top, width, height."""
    centre, size = _halves(box)
    return torch.cat((centre - size / 2, size), dim=-1)


def box_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Return the intersection over union of boxes, element by element.

    Two boxes without area have 0. For all pairs of N and M boxes, broadcast:
    ``box_iou(a[:, None], b[None])`` is ``(N, M)``.

    Args:
        a_xyxy: boxes, right and bottom not below left and top.
        b_xyxy: boxes that broadcast with them.

    Shape:
        - a_xyxy, b_xyxy: ``(..., 4)``, floating point
        - returns ``(...)``, in [0, 1]

    Raises:
        ShapeError: ``a_xyxy`` or ``b_xyxy`` has a last axis other than 4, or they do not broadcast.
        TypeError: ``a_xyxy`` or ``b_xyxy`` is not a tensor of floating-point numbers.

    Example:
        >>> import torch
        >>> from rgbt_fusion.boxes import box_iou
        >>> round(box_iou(torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 0, 3, 2])).item(), 4)
        0.3333
    """
    intersection, union, _ = _areas(a_xyxy, b_xyxy)
    return _ratio(intersection, union)


def box_giou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    r"""Return the generalised intersection over union of boxes, element by element.

    Unlike the IoU it has a gradient that pulls boxes together while they do not touch yet.

    .. math::
        \mathrm{GIoU} = \frac{|A \cap B|}{|A \cup B|} - \frac{|C| - |A \cup B|}{|C|},
        \qquad C = \text{the smallest box around both}

    Paper and code: the paper leaves boxes without area open. Here the gradient is finite for them,
    too.

    Args:
        a_xyxy: boxes, right and bottom not below left and top.
        b_xyxy: boxes that broadcast with them.

    Shape:
        - a_xyxy, b_xyxy: ``(..., 4)``, floating point
        - returns ``(...)``, in [-1, 1]

    Raises:
        ShapeError: ``a_xyxy`` or ``b_xyxy`` has a last axis other than 4, or they do not broadcast.
        TypeError: ``a_xyxy`` or ``b_xyxy`` is not a tensor of floating-point numbers.

    Example:
        >>> import torch
        >>> from rgbt_fusion.boxes import box_giou
        >>> # a gap as wide as a box
        >>> box_giou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([2.0, 0, 3, 1])).item()
        -0.3333333432674408

    Source:
        Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, algorithm 1.
    """
    intersection, union, hull = _areas(a_xyxy, b_xyxy)
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def clip_xywh(box: Tensor, *, height: float, width: float, margin: float = 0.0) -> Tensor:
    """Clip boxes to an image, keeping each at least ``margin`` wide, high and inside.

    This is OSTrack's rule, and its family of trackers is scored with it: a tracker that wandered
    off keeps a box of ``margin`` pixels at the border and can come back.

    Args:
        box: boxes as left, top, width, height.
        height: height of the image.
        width: width of the image.
        margin: smallest width and height left, in the box's unit; at most the image's sides.

    Shape:
        - box: ``(..., 4)``
        - returns ``(..., 4)``

    Raises:
        TypeError: ``box`` is not a tensor.
        ShapeError: ``box`` has a last axis other than 4.
        ValueError: ``margin`` is negative or above ``height`` or ``width``.

    Example:
        >>> import torch
        >>> from rgbt_fusion.boxes import clip_xywh
        >>> box = torch.tensor([-30.0, 90.0, 35.0, 40.0])
        >>> clip_xywh(box, height=100, width=200, margin=10).tolist()
        [0.0, 90.0, 10.0, 10.0]
    """
    corner, size = _halves(box)
    check_finite_number(height, name="height")
    check_finite_number(width, name="width")
    check_finite_number(margin, name="margin", low=0.0, high=min(height, width))
    limit = corner.new_tensor((width, height))
    opposite = torch.minimum((corner + size).clamp(min=margin), limit)
    corner = torch.minimum(corner.clamp(min=0), limit - margin)
    return torch.cat((corner, (opposite - corner).clamp(min=margin)), dim=-1)


def _halves(box: Tensor, name: str = "box") -> tuple[Tensor, Tensor]:
    """Check that ``box`` is ``(..., 4)`` and return its first two and its last two numbers."""
    if not isinstance(box, Tensor):
        raise TypeError(f"{name} must be a tensor of shape (..., 4), got {type(box).__name__}")
    if box.dim() == 0 or box.shape[-1] != 4:
        raise ShapeError(f"{name} must have shape (..., 4), got {tuple(box.shape)}")
    return box[..., :2], box[..., 2:]


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the areas of the intersection, of the union and of the smallest box around both."""
    a_start, a_stop = _halves(a, "a_xyxy")
    check_floating(a, name="a_xyxy")
    b_start, b_stop = _halves(b, "b_xyxy")
    check_floating(b, name="b_xyxy")
    try:
        torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError:
        raise ShapeError(
            f"b_xyxy must broadcast with a_xyxy {tuple(a.shape)}, got {tuple(b.shape)}"
        ) from None
    inner = (torch.minimum(a_stop, b_stop) - torch.maximum(a_start, b_start)).clamp(min=0)
    outer = torch.maximum(a_stop, b_stop) - torch.minimum(a_start, b_start)
    intersection = _area(inner)
    union = _area(a_stop - a_start) + _area(b_stop - b_start) - intersection
    return intersection, union, _area(outer)


def _area(size: Tensor) -> Tensor:
    return size[..., 0] * size[..., 1]


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    positive = denominator > 0
    # where twice: the gradient of the branch not taken must be finite too
    safe = torch.where(positive, denominator, 1.0)
    return torch.where(positive, numerator / safe, 0.0)

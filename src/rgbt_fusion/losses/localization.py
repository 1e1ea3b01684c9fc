"""Localisation losses of the OSTrack family: focal heat-map, GIoU and L1, with their label."""

from typing import NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.boxes import box_giou, cxcywh_to_xyxy
from rgbt_fusion.checks import ShapeError, check_finite_number, check_positive_int
from rgbt_fusion.shapes import check_floating, check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "LocalizationLoss",
    "LocalizationTerms",
    "focal_heatmap_loss",
    "gaussian_label",
    "gaussian_radius",
]


class LocalizationTerms(NamedTuple):
    """The weighted ``total`` and its terms without their weights, all scalars."""

    total: Tensor
    focal: Tensor
    giou: Tensor
    l1: Tensor


def gaussian_radius(size: Tensor, overlap: float = 0.7) -> Tensor:
    """Return the radius of the label's Gaussian, in whole cells.

    Paper and code: CornerNet's formulas without their normalisation by ``2 a``, the form that
    OSTrack trains with. The smallest of the three roots counts, which is always the third.

    Args:
        size: width and height of the boxes, in cells.
        overlap: the IoU ``t`` that a corner inside the radius still reaches.

    Shape:
        - size: ``(..., 2)``, floating point
        - returns int64 ``(...)``

    Example:
        >>> import torch
        >>> from rgbt_fusion.losses.localization import gaussian_radius
        >>> gaussian_radius(torch.tensor([[2.0, 2.0], [4.0, 4.0], [8.0, 8.0]])).tolist()
        [0, 1, 2]

    Source:
        Law and Deng, "CornerNet", ECCV 2018, section 3.2.
    """
    area = size[..., 0] * size[..., 1]
    around = size.sum(-1)
    # the third root is at most a quarter of width + height, the others are at least a half of it
    discriminant_root = (4 * overlap**2 * around**2 + 16 * overlap * (1 - overlap) * area).sqrt()
    third = (-2 * overlap * around + discriminant_root) / 2
    return third.clamp(min=0).long()


def gaussian_label(box_cxcywh_unit: Tensor, grid: int, *, overlap: float = 0.7) -> Tensor:
    r"""Draw the score map that a perfect head would give.

    It is a Gaussian in a square window around the cell of the target's centre.

    .. math::
        Y_{ij} = \exp\!\left(-\frac{(i - r_y)^2 + (j - r_x)^2}{2 \sigma^2}\right)
        \text{ for } |i - r_y|, |j - r_x| \le R,
        \qquad r = \mathrm{round}(S c), \quad \sigma = \frac{2 R + 1}{6}

    Paper and code: the rules are those of OSTrack's code. Halves are rounded to the even cell. A
    centre outside the map leaves only the part of its window that lies inside, so a label may have
    no positive (cell of value 1) at all.

    Args:
        box_cxcywh_unit: boxes as fractions of the search crop.
        grid: cells ``S`` along a side of the map.
        overlap: the IoU that a corner inside the radius still reaches, see
            :func:`gaussian_radius`.

    Shape:
        - box_cxcywh_unit: ``(B, 4)``, or ``(B, N, 4)`` for N targets merged by the maximum
        - returns ``(B, 1, S, S)`` in the dtype of the boxes

    Raises:
        ShapeError: ``box_cxcywh_unit`` does not have a shape above.
        TypeError: ``box_cxcywh_unit`` is not a floating-point tensor, or ``grid`` is not a whole
            number.
        ValueError: ``grid`` is below 1.

    Example:
        >>> import torch
        >>> from rgbt_fusion import gaussian_label
        >>> label = gaussian_label(torch.tensor([[0.5, 0.25, 0.25, 0.25]]), 16)
        >>> (label == 1).nonzero().tolist()  # row 4, column 8
        [[0, 0, 4, 8]]

    Source:
        Law and Deng, "CornerNet", ECCV 2018, section 3.2; Ye et al., "OSTrack", ECCV 2022, section
        3.4 and its code.
    """
    several = not isinstance(box_cxcywh_unit, Tensor) or box_cxcywh_unit.dim() != 2
    boxes = box_cxcywh_unit if several else box_cxcywh_unit.unsqueeze(1)
    check_shape(boxes, "B N 4", name="box_cxcywh_unit")
    check_floating(boxes, name="box_cxcywh_unit")
    check_positive_int(grid, name="grid")
    centre, size = (boxes * grid).split(2, dim=-1)
    radius = gaussian_radius(size, overlap)[..., None, None]
    cell = torch.arange(grid, device=boxes.device)
    column, row = (cell - centre.round().unsqueeze(-1)).unbind(2)
    far = torch.maximum(row.abs().unsqueeze(-1), column.abs().unsqueeze(-2))
    sigma = (2 * radius + 1) / 6
    square_distance = row.square().unsqueeze(-1) + column.square().unsqueeze(-2)
    bell = torch.exp(-square_distance / (2 * sigma**2))
    return torch.where(far <= radius, bell, 0.0).amax(dim=1, keepdim=True).to(boxes.dtype)


def focal_heatmap_loss(
    score: Tensor,
    label: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
    num_positives: Tensor | None = None,
) -> Tensor:
    r"""Return the focal loss of a score map against a Gaussian label.

    .. math::
        \mathcal{L} = \frac{-1}{\max(1, N)} \sum_{ij}
        \begin{cases} (1 - p)^\alpha \log p & Y = 1 \\
        (1 - Y)^\beta p^\alpha \log(1 - p) & Y < 1 \end{cases}

    Paper and code: N counts the positives of the whole batch. A floor of 1e-12 keeps the logarithms
    finite. Low-precision maps are raised to float32.

    Args:
        score: probabilities ``p``.
        label: target ``Y``, see :func:`gaussian_label`.
        alpha: how much easy cells are discounted.
        beta: how much cells near a centre are discounted.
        num_positives: takes the place of ``max(1, N)`` of this batch, such as its mean over the
            ranks of a distributed training.

    Shape:
        - score, label: any one shape
        - returns a scalar, float32 or float64

    Raises:
        ShapeError: ``label`` differs from ``score`` in shape.
        TypeError: ``score`` or ``label`` is not a tensor.

    Example:
        >>> import torch
        >>> from rgbt_fusion import focal_heatmap_loss
        >>> round(focal_heatmap_loss(torch.tensor([0.5, 0.1]), torch.tensor([1.0, 0.0])).item(), 4)
        0.1743

    Source:
        Law and Deng, "CornerNet", ECCV 2018, eq. 1; Ye et al., "OSTrack", ECCV 2022, eq. 7.
    """
    if not isinstance(score, Tensor):
        raise TypeError(f"score must be a tensor, got {type(score).__name__}")
    check_same_shape(label, score, name="label", like_name="score")
    score = _at_least_float32(score)
    label = _at_least_float32(label)
    positive = label == 1
    hit = (1 - score) ** alpha * score.clamp(min=1e-12).log()
    miss = (1 - label) ** beta * score**alpha * (1 - score).clamp(min=1e-12).log()
    # a mean over ranks may lie below 1 and is taken as it is: clamping it would change the sum over
    # the ranks
    count = positive.sum().clamp(min=1) if num_positives is None else num_positives
    return -torch.where(positive, hit, miss).sum() / count


class LocalizationLoss(TypedModule):
    r"""Train a centre head: focal loss on its score map, GIoU and L1 on its box.

    .. math::
        \mathcal{L} = \lambda_{focal} \mathcal{L}_{focal} + \lambda_{giou} (1 - \mathrm{GIoU})
        + \lambda_{1} \mathcal{L}_{1}

    Paper and code: boxes are compared as normalised corners, with means over the batch and the
    coordinates. The target box is clipped to the crop; the one that the label is drawn from is not.
    The predicted box is the one at the arg-max of the predicted map. A target box of four NaN says
    that the crop does not show the target: its label is 0 everywhere, and its box is not compared.

    Args:
        focal_weight: weight of the heat-map loss.
        giou_weight: weight of the GIoU loss.
        l1_weight: weight of the L1 loss.

    Shape:
        - score_map: ``(B, 1, S, S)``, probabilities
        - box_cxcywh_unit, target_cxcywh_unit: ``(B, 4)``, as fractions of the crop
        - num_positives: a scalar, see :func:`focal_heatmap_loss`
        - returns :class:`LocalizationTerms` of scalars, float32 or float64

    Raises:
        ShapeError: ``score_map``, ``box_cxcywh_unit`` or ``target_cxcywh_unit`` does not have its
            shape above.
        TypeError: an input is not a tensor, the boxes are not floating point, or a weight is not a
            number.
        ValueError: a weight is negative or not finite.

    Example:
        >>> import torch
        >>> from rgbt_fusion import LocalizationLoss, gaussian_label
        >>> target = torch.tensor([[0.5, 0.5, 0.25, 0.25]])
        >>> found = torch.tensor([[0.5, 0.5, 0.25, 0.125]])  # half as high as the target
        >>> terms = LocalizationLoss()(gaussian_label(target, 16), found, target)
        >>> terms.giou.item(), terms.l1.item()  # 1 - GIoU; the mean over four coordinates
        (0.5, 0.03125)

    Source:
        Ye et al., "OSTrack", ECCV 2022, eq. 8; Luo et al., "From Two-Stream to One-Stream", eq. 20.
    """

    def __init__(
        self, *, focal_weight: float = 1.0, giou_weight: float = 2.0, l1_weight: float = 5.0
    ) -> None:
        super().__init__()
        self.focal_weight = check_finite_number(focal_weight, name="focal_weight", low=0.0)
        self.giou_weight = check_finite_number(giou_weight, name="giou_weight", low=0.0)
        self.l1_weight = check_finite_number(l1_weight, name="l1_weight", low=0.0)

    def forward(
        self,
        score_map: Tensor,
        box_cxcywh_unit: Tensor,
        target_cxcywh_unit: Tensor,
        *,
        num_positives: Tensor | None = None,
    ) -> LocalizationTerms:
        """Compare a score map ``(B, 1, S, S)`` and boxes ``(B, 4)`` with the targets' boxes."""
        sizes = check_shape(score_map, "B 1 H W", name="score_map")
        if sizes["H"] != sizes["W"]:
            raise ShapeError(
                f"score_map must be square, (B, 1, S, S), got {tuple(score_map.shape)}"
            )
        check_shape(box_cxcywh_unit, "B 4", B=sizes["B"], name="box_cxcywh_unit")
        check_same_shape(
            target_cxcywh_unit,
            box_cxcywh_unit,
            name="target_cxcywh_unit",
            like_name="box_cxcywh_unit",
        )
        target_cxcywh = _at_least_float32(target_cxcywh_unit)
        absent = target_cxcywh.isnan().all(dim=-1, keepdim=True)
        # any box, so that no NaN reaches a gradient
        target_cxcywh = target_cxcywh.masked_fill(absent, 0.5)
        predicted = cxcywh_to_xyxy(_at_least_float32(box_cxcywh_unit))
        target = cxcywh_to_xyxy(target_cxcywh).clamp(0, 1)
        label = gaussian_label(target_cxcywh, sizes["H"]).masked_fill(absent[..., None, None], 0.0)
        focal = focal_heatmap_loss(score_map, label, num_positives=num_positives)
        giou = (1 - box_giou(predicted, target)).masked_fill(absent[..., 0], 0.0).mean()
        l1 = (predicted - target).abs().masked_fill(absent, 0.0).mean()
        total = self.focal_weight * focal + self.giou_weight * giou + self.l1_weight * l1
        return LocalizationTerms(total, focal, giou, l1)

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"focal_weight={self.focal_weight}, giou_weight={self.giou_weight}, "
            f"l1_weight={self.l1_weight}"
        )


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))

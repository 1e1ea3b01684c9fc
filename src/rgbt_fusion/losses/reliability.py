"""The loss that teaches a network which of its modalities shows the target."""

import math

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.shapes import check_floating, check_shape

__all__ = ["reliability_loss"]

_SMALLEST = 1e-6
"""Reliabilities are held this far from 0 and 1, so that their logarithms stay finite."""


def reliability_loss(
    reliability: Tensor,
    seen: Tensor,
    kept: Tensor | None = None,
    box_cxcywh_unit: Tensor | None = None,
) -> Tensor:
    r"""Return the cross-entropy of the reliabilities of a search crop's tokens at the target.

    .. math::
        \mathcal{L} = \frac{-1}{N} \sum_{b, m} \frac{1}{|T_b|} \sum_{l \in T_b}
        \big(y_{b,m} \log r_{b,l,m} + (1 - y_{b,m}) \log(1 - r_{b,l,m})\big)

    The training knows which camera it made fail: :math:`y` is 1 where the modality shows the
    target, 0 where it does not. N counts the pairs of sample and modality where that is known;
    without any the loss is 0. :math:`T_b` are the tokens whose centre lies in the target's box,
    grown to twice its width and height and to two cells at least.

    Choices: what a camera shows far from the target does not say whether it sees it. The black
    around a frame looks the same for a camera that works and for one that shows nothing.

    Args:
        reliability: the reliability ``r`` of RGB and of TIR, in (0, 1).
        seen: ``y`` of RGB and of TIR; NaN where it is not known.
        kept: places of the tokens that were not eliminated; None for all.
        box_cxcywh_unit: the target's box as fractions of the crop; None takes all tokens.

    Shape:
        - reliability: ``(B, L, 2)``; with a box L is a square, in raster order
        - seen: ``(B, 2)``
        - kept: ``(B, K)``, int64
        - box_cxcywh_unit: ``(B, 4)``, NaN where the target is absent
        - returns a scalar, float32 at least

    Raises:
        ShapeError: a tensor does not have the shape above, or with a box L is not a square.
        TypeError: ``reliability`` or ``seen`` is not a floating-point tensor.

    Example:
        >>> import torch
        >>> from rgbt_fusion import reliability_loss
        >>> trusted = torch.tensor([[[0.9, 0.1]]])  # RGB is trusted, TIR is not
        >>> blind_tir, blind_rgb = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> reliability_loss(trusted, blind_tir).round(decimals=2)
        tensor(0.1100)
        >>> reliability_loss(trusted, blind_rgb).round(decimals=2)
        tensor(2.3000)
    """
    sizes = check_shape(reliability, "B L M", M=2, name="reliability")
    check_floating(reliability, name="reliability")
    check_shape(seen, "B M", B=sizes["B"], M=2, name="seen")
    check_floating(seen, name="seen")
    if kept is not None:
        check_shape(kept, "B K", B=sizes["B"], name="kept")
    counts = torch.ones_like(reliability[..., 0], dtype=torch.bool)
    if box_cxcywh_unit is not None:
        check_shape(box_cxcywh_unit, "B 4", B=sizes["B"], name="box_cxcywh_unit")
        counts = _near(box_cxcywh_unit, sizes["L"])
    if kept is not None:
        counts = counts & torch.zeros_like(counts).scatter(1, kept, True)
    precise = reliability.to(torch.promote_types(reliability.dtype, torch.float32))
    inside = precise.clamp(_SMALLEST, 1 - _SMALLEST)
    known = ~seen.isnan()
    truth = seen.where(known, 0.0).to(inside.dtype).unsqueeze(1)
    entropy = -(truth * inside.log() + (1 - truth) * (1 - inside).log())
    counted = counts.sum(1).clamp(min=1)
    mean = entropy.where(counts.unsqueeze(-1), 0.0).sum(1) / counted.unsqueeze(-1)
    return mean.where(known, 0.0).sum() / known.sum().clamp(min=1)


def _near(box_cxcywh_unit: Tensor, length: int) -> Tensor:
    """Return which tokens of a square grid lie near a box, boolean ``(B, L)``."""
    grid = math.isqrt(length)
    if grid * grid != length:
        raise ShapeError(f"reliability must have a square number of tokens, got {length}")
    centres = (torch.arange(grid, device=box_cxcywh_unit.device) + 0.5) / grid
    x, y, width, height = box_cxcywh_unit.unsqueeze(-1).unbind(1)
    in_columns = (centres - x).abs() <= width.clamp(min=1 / grid)
    in_rows = (centres - y).abs() <= height.clamp(min=1 / grid)
    return (in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).flatten(1)

"""Which template tokens judge the search tokens."""

from typing import Literal

import torch
from torch import Tensor

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.shapes import check_shape

__all__ = ["template_mask"]


def template_mask(
    kind: Literal["centre_point", "centre_rectangle", "box", "all"],
    grid: int,
    *,
    box_xywh_unit: Tensor | None = None,
    patch_size: int = 16,
) -> Tensor:
    """Mark the template tokens whose attention counts when search tokens are scored.

    ``"centre_point"`` is the one token at row and column ``(grid - 1) // 2``: 27 of 8 x 8, 65 of 12
    x 12. ``"centre_rectangle"`` is the middle 2 x 2 tokens (1 x 1 of an odd grid). ``"box"`` is
    every token whose centre lies in the target's box, or the one that holds the box's centre where
    there is none. ``"all"`` is every token.

    Args:
        kind: which tokens, see above.
        grid: tokens along a side of the template.
        box_xywh_unit: the target in the template, ``(B, 4)`` as fractions of its side; for
            ``"box"`` only.
        patch_size: pixels along a side of a token; ``"box"`` rounds the box to pixels as OSTrack
            does.

    Shape:
        bool ``(grid * grid,)``, or ``(B, grid * grid)`` for ``"box"``.

    Raises:
        ValueError, TypeError: an unknown kind; a box that is missing, or not ``(B, 4)``, or given
            to another kind.

    Example:
        >>> from rgbt_fusion import template_mask
        >>> template_mask("centre_point", 8).nonzero().item()
        27
    """
    check_choice(kind, ("centre_point", "centre_rectangle", "box", "all"), name="kind")
    check_positive_int(grid, name="grid")
    if kind == "box":
        return _box_mask(box_xywh_unit, grid, check_positive_int(patch_size, name="patch_size"))
    if box_xywh_unit is not None:
        raise ValueError(f"box_xywh_unit must be None for kind {kind!r}, got a tensor")
    if kind == "all":
        return torch.ones(grid * grid, dtype=torch.bool)
    cell = torch.arange(grid)
    first = (grid - 1) // 2
    along = (cell >= first) & (cell <= (first if kind == "centre_point" else grid // 2))
    return (along[:, None] & along).flatten()


def _box_mask(box_xywh_unit: Tensor | None, grid: int, patch_size: int) -> Tensor:
    if box_xywh_unit is None:
        raise ValueError("box_xywh_unit must be a tensor of shape (B, 4) for kind 'box', got None")
    check_shape(box_xywh_unit, "B 4", name="box_xywh_unit")
    corner, size = (box_xywh_unit * (grid * patch_size)).split(2, dim=1)
    # the box in whole pixels, the last one left out, as OSTrack fills it
    start, stop = corner.trunc()[..., None], (corner + size - 1).trunc()[..., None]
    cell = torch.arange(grid, device=box_xywh_unit.device)
    # halving by bilinear interpolation reads the two pixels around the middle of a token
    left, right = cell * patch_size + (patch_size - 1) // 2, cell * patch_size + patch_size // 2
    column, row = (((left >= start) & (left < stop)) | ((right >= start) & (right < stop))).unbind(
        1
    )
    mask = row[:, :, None] & column[:, None]
    centre = ((corner + size / 2) / patch_size).floor().clamp(0, grid - 1)
    nearest = (cell == centre[:, 1:])[:, :, None] & (cell == centre[:, :1])[:, None]
    return torch.where(mask.any(dim=(1, 2), keepdim=True), mask, nearest).flatten(1)

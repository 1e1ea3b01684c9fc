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

    ``"centre_point"`` is the one token at row and column ``(grid - 1) // 2``: 27 of 8 x 8, 65 of
    12 x 12. ``"centre_rectangle"`` is the middle 2 x 2 tokens (1 x 1 of an odd grid). ``"box"`` is
    every token whose centre lies in the box of the target, or, if there is none, the token at the
    centre of the box. ``"all"`` is every token.

    Args:
        kind: which tokens, see above.
        grid: tokens along a side of the template.
        box_xywh_unit: the target in the template as fractions of its side; for ``"box"`` only.
        patch_size: pixels along a side of a token; ``"box"`` rounds the box to pixels as OSTrack
            does.

    Shape:
        - box_xywh_unit: ``(B, 4)``
        - returns bool ``(grid * grid,)``, or ``(B, grid * grid)`` for ``"box"``

    Raises:
        ShapeError: ``box_xywh_unit`` does not have the shape above.
        ValueError: ``kind`` is unknown; ``box_xywh_unit`` is missing for ``"box"``, or given for
            another kind; ``grid`` or ``patch_size`` is below 1.
        TypeError: ``grid`` or ``patch_size`` is not a whole number.

    Example:
        >>> from rgbt_fusion import template_mask
        >>> template_mask("centre_rectangle", 4).view(4, 4).int()
        tensor([[0, 0, 0, 0],
                [0, 1, 1, 0],
                [0, 1, 1, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    check_choice(kind, ("centre_point", "centre_rectangle", "box", "all"), name="kind")
    check_positive_int(grid, name="grid")
    check_positive_int(patch_size, name="patch_size")
    if kind == "box":
        if box_xywh_unit is None:
            raise ValueError(
                "box_xywh_unit must be a tensor of shape (B, 4) for kind 'box', got None"
            )
        return _box_mask(box_xywh_unit, grid, patch_size)
    if box_xywh_unit is not None:
        raise ValueError(f"box_xywh_unit must be None for kind {kind!r}, got a tensor")
    if kind == "all":
        return torch.ones(grid * grid, dtype=torch.bool)
    first = (grid - 1) // 2
    last = first if kind == "centre_point" else grid // 2
    cell = torch.arange(grid)
    along = (cell >= first) & (cell <= last)
    return (along[:, None] & along).flatten()


def _box_mask(box_xywh_unit: Tensor, grid: int, patch_size: int) -> Tensor:
    check_shape(box_xywh_unit, "B 4", name="box_xywh_unit")
    box = box_xywh_unit * (grid * patch_size)
    corner, size = box.split(2, dim=1)
    # the box in whole pixels, the last one left out, as OSTrack fills it
    start = corner.trunc()[..., None]
    stop = (corner + size - 1).trunc()[..., None]
    # halving by bilinear interpolation reads the two pixels around the middle of a token
    cell = torch.arange(grid, device=box_xywh_unit.device)
    left = cell * patch_size + (patch_size - 1) // 2
    right = cell * patch_size + patch_size // 2
    left_inside = (left >= start) & (left < stop)
    right_inside = (right >= start) & (right < stop)
    column, row = (left_inside | right_inside).unbind(1)
    mask = row[:, :, None] & column[:, None]

    centre = ((corner + size / 2) / patch_size).floor().clamp(0, grid - 1)
    at_row = cell == centre[:, 1:]
    at_column = cell == centre[:, :1]
    nearest = at_row[:, :, None] & at_column[:, None]
    is_empty = ~mask.any(dim=(1, 2), keepdim=True)
    return torch.where(is_empty, nearest, mask).flatten(1)

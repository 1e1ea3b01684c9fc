"""The square around a box that is cropped: the one place where its numbers are computed."""

from math import ceil, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.types import Box

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SearchSquare", "check_box", "search_square"]


class SearchSquare(NamedTuple):
    """A square in an image, whose corners are whole pixels."""

    centre: tuple[float, float]
    """Centre of the box, x and y: the crop's own frame of reference, not rounded."""
    side: int
    left: int
    top: int


def search_square(box_xywh_px: "ArrayLike | Tensor", factor: float) -> SearchSquare:
    r"""Return the square around a box that a network looks at.

    .. math::
        s = \max\left(1, \left\lceil f \sqrt{w h} \right\rceil\right)

    Args:
        box_xywh_px: left, top, width, height.
        factor: side of the square over the square root of the box's area.

    Raises:
        ShapeError: ``box_xywh_px`` is not four numbers.
        ValueError: ``box_xywh_px`` is not finite or has no size.

    Example:
        >>> from rgbt_fusion.frames.square import search_square
        >>> search_square((900, 500, 40, 90), factor=4.0)
        SearchSquare(centre=(920.0, 545.0), side=240, left=800, top=425)

    Source:
        Ye et al., "OSTrack", ECCV 2022 (their code).
    """
    x, y, width, height = check_box(box_xywh_px)
    side = max(1, ceil(sqrt(width * height) * factor))
    centre_x = x + width / 2
    centre_y = y + height / 2
    left = round(centre_x - side / 2)
    top = round(centre_y - side / 2)
    return SearchSquare((centre_x, centre_y), side, left, top)


def check_box(box_xywh_px: "ArrayLike | Tensor") -> Box:
    """Return a box as four numbers.

    Raises:
        ShapeError: ``box_xywh_px`` is not four numbers.
        ValueError: ``box_xywh_px`` is not finite or has no size.
    """
    box = np.asarray(box_xywh_px, dtype=np.float64)
    if box.shape != (4,):
        raise ShapeError(f"box_xywh_px must be left, top, width, height, got shape {box.shape}")
    x, y, width, height = (float(number) for number in box)
    if not np.isfinite(box).all() or width <= 0 or height <= 0:
        raise ValueError(
            f"box_xywh_px must be finite with width and height above 0, got {(x, y, width, height)}"
        )
    return x, y, width, height

"""The square around a box that is cropped: the one place where its numbers are computed."""

from math import ceil, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.types import Box

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LARGEST_FIRST_SIDE", "SearchSquare", "check_box", "check_first_box", "search_square"]

SMALLEST_FIRST_SIDE_PX = 1
"""A target of less than a pixel cannot be seen; such boxes are fractions of the frame."""

LARGEST_FIRST_SIDE = 2
"""How many times as wide and as high as the frame a first box may be."""


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


def check_first_box(box_xywh_px: "ArrayLike | Tensor", frame_size: tuple[int, int]) -> Box:
    """Return a box to start on as four numbers; every entrance of a tracker calls this.

    Args:
        box_xywh_px: left, top, width, height.
        frame_size: height and width of the frame that the box is in.

    Raises:
        ShapeError: ``box_xywh_px`` is not four numbers.
        ValueError: ``box_xywh_px`` is not finite, is smaller than a pixel, is more than twice as
            large as the frame, or lies outside it.

    Example:
        >>> from rgbt_fusion.frames.square import check_first_box
        >>> check_first_box((0.4, 0.3, 0.1, 0.2), (240, 320))
        Traceback (most recent call last):
            ...
        ValueError: box_xywh_px must be in pixels, got (0.4, 0.3, 0.1, 0.2), which look like \
fractions of the frame of 320 x 240 pixels
    """
    x, y, width, height = check_box(box_xywh_px)
    rows, columns = frame_size
    frame = f"the frame of {columns} x {rows} pixels"
    if min(width, height) < SMALLEST_FIRST_SIDE_PX:
        if max(x, y, width, height) <= 1 and min(x, y) >= 0:
            rule = (
                f"be in pixels, got {(x, y, width, height)}, which look like fractions of {frame}"
            )
        else:
            rule = (
                f"be at least {SMALLEST_FIRST_SIDE_PX} pixel wide and high, "
                f"got {(x, y, width, height)}"
            )
        raise ValueError(f"box_xywh_px must {rule}")
    if x >= columns or x + width <= 0 or y >= rows or y + height <= 0:
        raise ValueError(f"box_xywh_px must lie in {frame}, got {(x, y, width, height)}")
    if width > LARGEST_FIRST_SIDE * columns or height > LARGEST_FIRST_SIDE * rows:
        raise ValueError(
            f"box_xywh_px must not be more than twice as large as {frame}, "
            f"got {(x, y, width, height)}"
        )
    return x, y, width, height

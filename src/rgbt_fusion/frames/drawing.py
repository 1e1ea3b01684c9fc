"""Drawing on frames: frames as pictures of 8 bits, text, boxes."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.thermal import is_deep, scale_thermal, thermal_range
from rgbt_fusion.frames.types import Frame

__all__ = [
    "Colour",
    "Mark",
    "Picture",
    "box_corners",
    "draw_outline",
    "draw_rectangle",
    "draw_text",
    "eight_bits",
    "map_points",
    "resize",
]

Picture: TypeAlias = NDArray[np.uint8]
"""``(H, W, 3)``, red first."""

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue in 0 to 255."""

BLACK: Colour = (0, 0, 0)

FARTHEST_PX = 1e4
"""Points are clipped to this distance: OpenCV draws with 32-bit integers."""

DASH_PX = 14
"""Length of a dash and the gap behind it."""


class Mark(NamedTuple):
    """A box to draw."""

    box_xywh_px: ArrayLike
    label: str
    colour: Colour
    dashed: bool = False
    """A dashed outline says that the target counts as lost."""
    tag: str = ""
    """What is written at the box, such as the number of its target."""


def eight_bits(frame: Frame, limits: tuple[float, float] | None = None) -> Picture:
    """Return a frame of either modality as a picture.

    Args:
        frame: the frame, of 8 or 16 bits or float32.
        limits: the values that become 0 and 255 where a frame has more than 8 bits; None takes
            those of this frame.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.drawing import eight_bits
        >>> eight_bits(np.array([[0, 500, 1000]], dtype=np.uint16), (0.0, 1000.0))[0].tolist()
        [[0, 0, 0], [127, 127, 127], [255, 255, 255]]
    """
    if is_deep(frame):
        if limits is None:
            limits = thermal_range(frame)
        frame = scale_thermal(frame, limits).astype(np.uint8)
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.shape[2] == 1:
        frame = np.repeat(frame, 3, axis=2)
    return np.ascontiguousarray(frame, dtype=np.uint8)


def resize(picture: Picture, width: int, height: int) -> Picture:
    """Return the picture in another size."""
    cv2 = load_cv2()
    interpolation = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=interpolation)


def draw_text(picture: Picture, text: str, place: tuple[int, int], colour: Colour) -> None:
    """Write a line of text with a black rim, its lower left corner at ``place``."""
    cv2 = load_cv2()

    def write(place: tuple[int, int], ink: Colour) -> None:
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, 1, cv2.LINE_AA)

    x, y = place
    # the rim is the same text one pixel away: thicker text is also wider in OpenCV 5
    for right, down in itertools.product((-1, 0, 1), repeat=2):
        write((x + right, y + down), BLACK)
    write(place, colour)


def draw_rectangle(
    picture: Picture, box_xyxy_px: ArrayLike, colour: Colour, thickness: int = 1
) -> None:
    """Draw a plain rectangle in place; a box with a non-finite coordinate is not drawn."""
    box = np.asarray(box_xyxy_px, dtype=np.float64)
    if not np.isfinite(box).all():
        return
    left, top, right, bottom = (round(number) for number in _within_reach(box).tolist())
    load_cv2().rectangle(picture, (left, top), (right, bottom), colour, thickness)


def draw_outline(
    picture: Picture, corners_px: NDArray[np.float64], colour: Colour, *, dashed: bool = False
) -> None:
    """Draw a closed outline with a black rim in place, for example the four corners of a box.

    Args:
        picture: what to draw on.
        corners_px: ``(N, 2)``, x and y; corners that are not finite draw nothing.
        colour: the line's colour.
        dashed: draw dashes instead of a line.
    """
    if not np.isfinite(corners_px).all():
        return
    cv2 = load_cv2()
    corners = _within_reach(corners_px)
    following = np.roll(corners, -1, axis=0)
    for ink, thickness in ((BLACK, 4), (colour, 2)):
        for start, end in zip(corners, following, strict=True):
            for low, high in _dashes(start, end) if dashed else [(0.0, 1.0)]:
                first = _pixel(start + (end - start) * low)
                last = _pixel(start + (end - start) * high)
                cv2.line(picture, first, last, ink, thickness, cv2.LINE_AA)


def box_corners(box_xywh_px: ArrayLike) -> NDArray[np.float64]:
    """Return the four corners of a box, ``(4, 2)``, clockwise from the upper left."""
    x, y, width, height = np.asarray(box_xywh_px, dtype=np.float64)
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def map_points(
    points_px: NDArray[np.float64], tir_from_rgb: ArrayLike | None
) -> NDArray[np.float64]:
    """Map points of the colour frame to the thermal frame.

    Args:
        points_px: ``(N, 2)``, x and y.
        tir_from_rgb: the offset (x, y) or the 3x3 homography; None for aligned cameras.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.drawing import map_points
        >>> map_points(np.array([[10.0, 20.0]]), (5, -3)).tolist()
        [[15.0, 17.0]]
    """
    if tir_from_rgb is None:
        return points_px
    matrix = np.asarray(tir_from_rgb, dtype=np.float64)
    if matrix.shape == (2,):
        return points_px + matrix
    mapped = np.column_stack((points_px, np.ones(len(points_px)))) @ matrix.T
    # a point behind the camera goes far away
    depth = np.maximum(mapped[:, 2:], 1e-9)
    return mapped[:, :2] / depth


def _dashes(start: NDArray[np.float64], end: NDArray[np.float64]) -> Iterator[tuple[float, float]]:
    """Yield the parts of a line that are drawn, as shares of its length."""
    length = float(np.hypot(*(end - start)))
    count = max(1, min(int(length / DASH_PX), 200))
    for dash in range(count):
        yield dash / count, (dash + 0.5) / count


def _within_reach(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(points, -FARTHEST_PX, FARTHEST_PX)


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    x, y = np.rint(point).astype(int).tolist()
    return x, y

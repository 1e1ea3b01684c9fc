"""Both modalities side by side, with boxes and labels drawn on them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.frames.drawing import (
    Colour,
    Mark,
    Picture,
    box_corners,
    draw_outline,
    draw_text,
    eight_bits,
    map_points,
    resize,
)
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import Frame

__all__ = ["COLOURS", "HEADER", "TRUTH_COLOUR", "draw_overlay"]

COLOURS: tuple[Colour, ...] = (
    (255, 70, 60),
    (70, 200, 255),
    (255, 200, 40),
    (200, 120, 255),
    (120, 255, 120),
    (255, 140, 220),
)
"""One per track, in this order: the tracker's own first."""

TRUTH_COLOUR: Colour = (255, 255, 255)
"""Colour of the annotated box."""

HEADER = 26
"""Pixels above the frames for the names of what is drawn."""

TAG_WIDTH = 12
TAG_HEIGHT = 14
"""Room for the number at a box near the border of a frame."""

SMALLEST_HEIGHT = 240
"""Smaller frames are enlarged, so that labels can be read."""

LARGEST_HEIGHT = 720


def draw_overlay(
    rgb: Frame | None,
    tir: Frame | None,
    marks: Sequence[Mark] = (),
    *,
    text: str = "",
    tir_range: tuple[float, float] | None = None,
    tir_from_rgb: ArrayLike | None = None,
) -> Picture:
    """Draw both modalities side by side, of equal height, with the same boxes on both.

    Args:
        rgb: the colour frame; if it is None, its place says "no RGB".
        tir: the thermal frame; if it is None, its place says "no TIR".
        marks: the boxes, in the colour frame; their labels are listed above, their tags stand at
            the boxes. A box with a non-finite coordinate is left out.
        text: what to write above the frames.
        tir_range: the 16-bit values that become black and white; None takes percentiles 1 and 99 of
            this frame.
        tir_from_rgb: the offset or homography between the cameras, as for the tracker.

    Shape:
        - rgb: ``(H, W, 3)``
        - tir: ``(H, W)`` or ``(H, W, 3)``
        - returns ``(H', W', 3)`` uint8, with even sides for a video

    Raises:
        ValueError: ``rgb`` and ``tir`` are both missing.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.drawing import Mark
        >>> from rgbt_fusion.video.overlay import COLOURS, draw_overlay
        >>> frame = np.zeros((120, 160, 3), dtype=np.uint8)
        >>> draw_overlay(frame, None, [Mark((40, 30, 50, 60), "mine", COLOURS[0])]).shape
        (266, 640, 3)
    """
    given = tir if rgb is None else rgb
    if given is None:
        raise ValueError("rgb and tir must not both be missing, got None and None")
    height = _drawn_height(given.shape[0])
    scale_rgb = height / given.shape[0]
    scale_tir = scale_rgb if tir is None else height / tir.shape[0]

    colour = _panel(rgb, None, given, height, "no RGB")
    thermal = _panel(tir, tir_range, given, height, "no TIR")
    for mark in marks:
        corners = box_corners(mark.box_xywh_px)
        corners_tir = map_points(corners, tir_from_rgb)
        _draw_mark(colour, corners * scale_rgb, mark)
        _draw_mark(thermal, corners_tir * scale_tir, mark)

    panels = np.concatenate((colour, thermal), axis=1)
    header = _header(panels.shape[1], text, marks)
    return np.concatenate((header, panels))


def _draw_mark(panel: Picture, corners_px: NDArray[np.float64], mark: Mark) -> None:
    """Draw the outline of a box, and its tag above the upper left corner, inside the panel."""
    draw_outline(panel, corners_px, mark.colour, dashed=mark.dashed)
    if not mark.tag or not np.isfinite(corners_px).all():
        return
    height, width = panel.shape[:2]
    x, y = corners_px[0]
    left = int(np.clip(x, 2, width - TAG_WIDTH))
    bottom = int(np.clip(y - 6, TAG_HEIGHT, height - 2))
    draw_text(panel, mark.tag, (left, bottom), mark.colour)


def _header(width: int, text: str, marks: Sequence[Mark]) -> Picture:
    cv2 = load_cv2()
    words = [(text, TRUTH_COLOUR)]
    words += [(mark.label, mark.colour) for mark in marks]
    header = np.full((HEADER, width, 3), 20, dtype=np.uint8)
    left = 8
    for word, ink in words:
        if not word:
            continue
        draw_text(header, word, (left, HEADER - 8), ink)
        (word_width, _), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        left += word_width + 16
    return header


def _drawn_height(height: int) -> int:
    """Return the height of a drawn frame: enlarged a whole number of times, bounded, even."""
    times = -(-SMALLEST_HEIGHT // height)
    return _even(min(height * times, LARGEST_HEIGHT))


def _even(length: int) -> int:
    """Return the even number below: a video cannot have odd sides."""
    return length // 2 * 2


def _panel(
    frame: Frame | None,
    limits: tuple[float, float] | None,
    like: Frame,
    height: int,
    if_missing: str,
) -> Picture:
    """Return one modality as it is drawn; a missing one is as wide as ``like``."""
    source = like if frame is None else frame
    rows, columns = source.shape[:2]
    width = max(2, _even(round(columns * height / rows)))
    if frame is None:
        panel = np.full((height, width, 3), 30, dtype=np.uint8)
        draw_text(panel, if_missing, (width // 2 - 26, height // 2), (150, 150, 150))
        return panel
    return resize(eight_bits(frame, limits), width, height).copy()

"""Both modalities side by side, with boxes and labels drawn on them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rgbt_fusion.frames.drawing import (
    Mark,
    Picture,
    _corners,
    _draw_outline,
    _moved,
    eight_bits,
    resize,
    write_text,
)
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import Frame

__all__ = ["COLOURS", "Mark", "draw_overlay"]

COLOURS = (
    (255, 70, 60),
    (70, 200, 255),
    (255, 200, 40),
    (200, 120, 255),
    (120, 255, 120),
    (255, 140, 220),
)
"""One for each track, in this order: the tracker's own first."""

TRUTH_COLOUR = (255, 255, 255)

HEADER = 26
"""Pixels above the frames for the names of what is drawn."""


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
        rgb: the colour frame; where it is missing, its place says so.
        tir: the thermal frame.
        marks: the boxes, in the colour frame; their labels are listed above. One that is not finite
            is left out.
        text: what to write above the frames.
        tir_range: the 16-bit values that become black and white; None takes percentiles 1 and 99 of
            this frame.
        tir_from_rgb: the offset or homography between the cameras, as for the tracker.

    Shape:
        ``(H, W, 3)`` and ``(H, W)`` or ``(H, W, 3)`` to ``(H', W', 3)`` uint8, with even sides for
        a video.

    Raises:
        ValueError: both frames are missing.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.drawing import Mark
        >>> from rgbt_fusion.video.overlay import COLOURS, draw_overlay
        >>> frame = np.zeros((120, 160, 3), dtype=np.uint8)
        >>> draw_overlay(frame, None, [Mark((40, 30, 50, 60), "mine", COLOURS[0])]).shape
        (266, 640, 3)
    """
    given = rgb if rgb is not None else tir
    if given is None:
        raise ValueError("rgb and tir must not both be missing, got None and None")
    height = _drawn_height(given.shape[0])
    colour = _panel(rgb, given, height, "no RGB")
    thermal = _panel(None if tir is None else eight_bits(tir, tir_range), given, height, "no TIR")
    scale_rgb = height / given.shape[0]
    scale_tir = scale_rgb if tir is None else height / tir.shape[0]
    for mark in marks:
        corners = _corners(mark.box_xywh_px)
        if not np.isfinite(corners).all():
            continue
        _draw_outline(colour, corners * scale_rgb, mark)
        _draw_outline(thermal, _moved(corners, tir_from_rgb) * scale_tir, mark)
    picture = np.concatenate((colour, thermal), axis=1)
    return np.concatenate((_header(picture.shape[1], text, marks), picture))


def _header(width: int, text: str, marks: Sequence[Mark]) -> Picture:
    cv2 = load_cv2()
    header, left = np.full((HEADER, width, 3), 20, dtype=np.uint8), 8
    words = [(text, (255, 255, 255))] if text else []
    for word, ink in [*words, *((mark.label, mark.colour) for mark in marks if mark.label)]:
        write_text(header, word, (left, HEADER - 8), ink)
        left += cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] + 16
    return header


def _drawn_height(height: int) -> int:
    # small frames are enlarged so that labels can be read, and an odd side cannot be encoded
    enlarged = height * -(-240 // height)
    return min(enlarged, 720) // 2 * 2


def _panel(frame: Frame | None, like: Frame, height: int, missing: str) -> Picture:
    source = like if frame is None else frame
    width = max(2, round(source.shape[1] * height / source.shape[0]) // 2 * 2)
    if frame is not None:
        return resize(eight_bits(frame), width, height).copy()
    panel = np.full((height, width, 3), 30, dtype=np.uint8)
    write_text(panel, missing, (width // 2 - 26, height // 2), (150, 150, 150))
    return panel

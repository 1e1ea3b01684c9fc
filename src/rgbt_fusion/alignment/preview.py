"""A picture that shows at a glance whether two recordings lie on each other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.alignment.aligned_frames import lay_on_colour
from rgbt_fusion.alignment.estimate import Alignment
from rgbt_fusion.alignment.gradients import Plane, grey
from rgbt_fusion.files.whole import write_bytes
from rgbt_fusion.frames.drawing import Colour, Picture, draw_text, eight_bits, resize
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import Frame

__all__ = ["draw_preview", "write_preview"]

PANEL_WIDTH = 480
"""Width of each of the two pictures of a pair."""

CAPTION_HEIGHT = 28

LEGEND_LEFT = 650
"""Where the legend begins, beyond the longest caption."""

LEGEND_STEP = 76
"""Distance from one word of the legend to the next."""

FIELDS = 8
"""Fields of the checkerboard along the width."""

STRONGEST_SHARE = 0.08
"""Share of the pixels that count as edges."""

ORANGE: Colour = (255, 140, 0)
CYAN: Colour = (0, 220, 220)
WHITE: Colour = (255, 255, 255)


def draw_preview(pairs: Sequence[tuple[Frame, Frame]], alignment: Alignment) -> Picture:
    """Draw pairs of frames as a sheet, one pair per row.

    On the left is a checkerboard of both modalities: lines go on across its fields where the
    recordings lie on each other. On the right are the edges of the colour frame in cyan and of the
    thermal frame in orange, where both are, in white, as the legend above says.

    Args:
        pairs: colour and thermal frames of the same moments.
        alignment: how they lie on each other.

    Shape:
        - returns ``(H, 960, 3)`` uint8
    """
    rows = [_row(rgb, tir, alignment.tir_from_rgb) for rgb, tir in pairs]
    state = "sure" if alignment.sure else "not sure"
    line = (
        f"{state}, confidence {alignment.confidence:.2f}, "
        f"offset {alignment.offset_frames:+.2f} frames, overlap {alignment.overlap:.0%}"
    )
    caption = np.zeros((CAPTION_HEIGHT, 2 * PANEL_WIDTH, 3), dtype=np.uint8)
    draw_text(caption, line, (8, 19), WHITE)
    legend = (("edges:", WHITE), ("colour", CYAN), ("thermal", ORANGE), ("both", WHITE))
    for number, (word, ink) in enumerate(legend):
        draw_text(caption, word, (LEGEND_LEFT + LEGEND_STEP * number, 19), ink)
    return np.concatenate([caption, *rows])


def write_preview(
    path: str | Path, pairs: Sequence[tuple[Frame, Frame]], alignment: Alignment
) -> None:
    """Write the sheet of :func:`draw_preview` as PNG or JPEG, by the ending of ``path``.

    Raises:
        ValueError: ``path`` has another ending.
        OSError: ``path`` cannot be written.
    """
    cv2 = load_cv2()
    ending = Path(path).suffix.lower()
    if ending not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"path must end in .png, .jpg or .jpeg, got {path}")
    _, encoded = cv2.imencode(ending, draw_preview(pairs, alignment)[:, :, ::-1])
    write_bytes(path, encoded.tobytes())


def _row(rgb: Frame, tir: Frame, tir_from_rgb: NDArray[np.float64]) -> Picture:
    height, width = rgb.shape[:2]
    panel_height = round(PANEL_WIDTH * height / width)
    colour = resize(eight_bits(rgb), PANEL_WIDTH, panel_height)
    laid = lay_on_colour(eight_bits(tir), tir_from_rgb, (height, width))
    heat = resize(eight_bits(laid), PANEL_WIDTH, panel_height)
    return np.concatenate((_checkerboard(colour, heat), _edges(colour, heat)), axis=1)


def _checkerboard(colour: Picture, heat: Picture) -> Picture:
    side = PANEL_WIDTH // FIELDS
    rows = np.arange(colour.shape[0]) // side
    columns = np.arange(colour.shape[1]) // side
    shows_heat = (rows[:, None] + columns[None]) % 2 == 1
    return np.where(shows_heat[:, :, None], heat, colour)


def _edges(colour: Picture, heat: Picture) -> Picture:
    seen = np.zeros_like(colour)
    colour_edges = _strongest_edges(grey(colour))
    thermal_edges = _strongest_edges(grey(heat))
    seen[colour_edges] = CYAN
    seen[thermal_edges] = ORANGE
    seen[colour_edges & thermal_edges] = WHITE
    return seen


def _strongest_edges(plane: Plane) -> NDArray[np.bool_]:
    cv2 = load_cv2()
    soft = cv2.GaussianBlur(plane, (0, 0), 1.0)
    strength = np.hypot(cv2.Sobel(soft, -1, 1, 0), cv2.Sobel(soft, -1, 0, 1))
    threshold = float(np.quantile(strength, 1 - STRONGEST_SHARE))
    return strength > max(threshold, 1e-3)

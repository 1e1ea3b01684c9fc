"""Drawing on frames: text, outlines, frames as pictures of 8 bits."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.thermal import scale_thermal, thermal_range
from rgbt_fusion.frames.types import Frame

__all__ = ["Picture", "write_text"]

Picture = NDArray[np.uint8]
"""``(H, W, 3)``, red first."""


class Mark(NamedTuple):
    """A box to draw."""

    box_xywh_px: ArrayLike
    label: str
    colour: tuple[int, int, int]
    dashed: bool = False
    """Whether the target counts as lost there."""


def write_text(
    picture: Picture, text: str, place: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Write a line that can be read on any ground; ``place`` is its lower left corner."""
    cv2 = load_cv2()
    for ink, thickness in (((0, 0, 0), 3), (colour, 1)):
        cv2.putText(
            picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, thickness, cv2.LINE_AA
        )


def eight_bits(frame: Frame, limits: tuple[float, float] | None = None) -> Picture:
    """Return a frame of either modality as a picture; 16 bits are scaled by ``limits``."""
    if frame.dtype == np.uint16:
        frame = scale_thermal(frame, limits or thermal_range(frame)).astype(np.uint8)
    plane = frame if frame.ndim == 3 else frame[:, :, None]
    return np.ascontiguousarray(
        np.repeat(plane, 3, axis=2) if plane.shape[2] == 1 else plane, dtype=np.uint8
    )


def resize(picture: Picture, width: int, height: int) -> Picture:
    """Return the picture in another size."""
    cv2 = load_cv2()
    smaller = width < picture.shape[1]
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )


def _corners(box_xywh_px: ArrayLike) -> NDArray[np.float64]:
    x, y, width, height = np.asarray(box_xywh_px, dtype=np.float64)
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def _moved(corners: NDArray[np.float64], tir_from_rgb: ArrayLike | None) -> NDArray[np.float64]:
    if tir_from_rgb is None:
        return corners
    matrix = np.asarray(tir_from_rgb, dtype=np.float64)
    if matrix.shape == (2,):
        return corners + matrix
    moved = np.column_stack((corners, np.ones(4))) @ matrix.T
    return moved[:, :2] / np.maximum(moved[:, 2:], 1e-9)


def _draw_outline(panel: Picture, corners: NDArray[np.float64], mark: Mark) -> None:
    cv2 = load_cv2()
    # OpenCV draws with 32-bit integers
    points = np.clip(corners, -1e4, 1e4)
    for ink, thickness in (((0, 0, 0), 4), (mark.colour, 2)):
        for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
            for low, high in _pieces(float(np.hypot(*(end - start))), mark.dashed):
                one, other = (
                    np.rint(start + (end - start) * share).astype(int).tolist()
                    for share in (low, high)
                )
                cv2.line(panel, one, other, ink, thickness, cv2.LINE_AA)


def _pieces(length: float, dashed: bool) -> list[tuple[float, float]]:
    """Return the parts of a line that are drawn."""
    count = max(1, min(int(length / 14), 200))
    return [(k / count, (k + 0.5) / count) for k in range(count)] if dashed else [(0.0, 1.0)]

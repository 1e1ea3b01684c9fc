"""Types of what two cameras show, and the check that two images are such frames."""

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import ShapeError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = [
    "Box",
    "Frame",
    "FramePair",
    "FramePairLike",
    "GroundTruth",
    "ImagePair",
    "check_frames",
]

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""

Frame: TypeAlias = NDArray[np.uint8 | np.uint16 | np.float32]
"""One image of either camera: ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)``, red first.

Thermal values of 16 bits or of temperatures (float32) are scaled where they are cropped.
"""


class FramePair(NamedTuple):
    """The images of both cameras at one moment."""

    rgb: NDArray[np.uint8] | None
    """``(H, W, 3)``, red first; None if it is missing."""
    tir: Frame | None
    """``(H, W)`` or ``(H, W, 3)``, as stored, depth as colours; None if it is missing."""


FramePairLike: TypeAlias = tuple[NDArray[np.uint8] | None, Frame | None]
"""A :class:`FramePair`, or a plain tuple of the same two images."""


class GroundTruth(NamedTuple):
    """The annotations of one sequence, K of them."""

    rgb: NDArray[np.float64]
    """``(K, 4)``: left, top, width, height in the colour images."""
    tir: NDArray[np.float64]
    """``(K, 4)``: the same in the second modality; ``rgb`` itself if both share one annotation."""
    frames: NDArray[np.int64]
    """``(K,)``: index of each annotated frame in the sequence, and of its row in a result file."""
    present: NDArray[np.bool_] | None = None
    """``(K,)``: whether the target is visible; None if the dataset has no such file."""
    skipped: int = 0
    """Number of images before the first annotated one; they are not part of the sequence."""
    files: "tuple[Path, ...]" = ()
    """What the boxes were read from: one file, or that of the colour images and that of the others.
    """
    row: int = 0
    """Number of the first box here among those of its file, from 0."""

    def place_of_first_box(self, *, tir: bool = False) -> str | None:
        """Return the file and the line of the first box, as text; None if no file holds it.

        Args:
            tir: whether the box in the second modality is meant.
        """
        if not self.files:
            return None
        from rgbt_fusion.files.text_tables import line_of_row

        path = self.files[-1] if tir else self.files[0]
        line = line_of_row(path, self.row)
        return str(path) if line is None else f"{path}, line {line}"


class ImagePair(NamedTuple):
    """An RGB crop and the crop of a second modality at the same place, normalised for a network."""

    rgb: "Tensor"
    """``(B, 3, H, W)``."""
    tir: "Tensor"
    """``(B, 3, H, W)``."""


def check_frames(rgb: Frame | None, tir: Frame | None, *, aligned: bool = True) -> tuple[int, int]:
    """Check a pair of frames and return their height and width, those of ``rgb`` if both are there.

    Args:
        rgb: the colour frame; None if it is missing.
        tir: the thermal frame; None if it is missing.
        aligned: whether both must have the same height and width.

    Raises:
        TypeError: ``rgb`` is not uint8, or ``tir`` is none of uint8, uint16 and float32.
        ShapeError: ``rgb`` or ``tir`` has a wrong shape, or they differ though ``aligned``.
        ValueError: ``rgb`` and ``tir`` are both missing.
    """
    if rgb is not None:
        _check_dtype(rgb, "rgb", (np.uint8,))
        if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise ShapeError(f"rgb must have shape (H, W, 3), got {rgb.shape}")
    if tir is not None:
        _check_dtype(tir, "tir", (np.uint8, np.uint16, np.float32))
        has_channels = tir.ndim == 3 and tir.shape[2] in (1, 3)
        if not (tir.ndim == 2 or has_channels) or 0 in tir.shape:
            raise ShapeError(f"tir must have shape (H, W), (H, W, 1) or (H, W, 3), got {tir.shape}")
    frame = tir if rgb is None else rgb
    if frame is None:
        raise ValueError("rgb and tir must not both be missing, got None and None")
    if aligned and rgb is not None and tir is not None and rgb.shape[:2] != tir.shape[:2]:
        raise ShapeError(
            f"tir must have the height and width of rgb {rgb.shape[:2]}, got {tir.shape[:2]}; "
            "for cameras that are not aligned, give tir_from_rgb"
        )
    height, width = frame.shape[:2]
    return height, width


def _check_dtype(frame: Any, name: str, dtypes: tuple[type, ...]) -> None:
    expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"{name} must be a numpy array of {expected}, got {type(frame).__name__}")
    if frame.dtype not in dtypes:
        raise TypeError(f"{name} must be a numpy array of {expected}, got {frame.dtype}")

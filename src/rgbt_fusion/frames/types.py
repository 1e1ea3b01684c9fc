"""Types of what two cameras show: images, pairs of them, their annotations, crops for a network."""

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Frame", "FramePair", "FramePairLike", "GroundTruth", "ImagePair"]

Frame: TypeAlias = NDArray[np.uint8 | np.uint16]
"""One image of either camera: ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)``, red first."""


class FramePair(NamedTuple):
    """The images of both cameras at one moment."""

    rgb: NDArray[np.uint8] | None
    """``(H, W, 3)``, red first; None where it is missing."""
    tir: Frame | None
    """``(H, W)`` or ``(H, W, 3)``, as stored; depth is painted. None where there is none."""


FramePairLike: TypeAlias = tuple[NDArray[np.uint8] | None, Frame | None]
"""A :class:`FramePair`, or a plain tuple of the same two images."""


class GroundTruth(NamedTuple):
    """The annotations of one sequence, K of them."""

    rgb: NDArray[np.float64]
    """``(K, 4)``: left, top, width, height in the colour images."""
    tir: NDArray[np.float64]
    """``(K, 4)``: the same in the second modality; equals ``rgb`` where a dataset annotates once."""
    frames: NDArray[np.int64]
    """``(K,)``: position of each annotated frame in the sequence, and of its row in a result file."""
    present: NDArray[np.bool_] | None = None
    """``(K,)``: whether the target is there, where a dataset says so in a file."""
    skipped: int = 0
    """Number of images before the first annotated one; they do not belong to the sequence."""


class ImagePair(NamedTuple):
    """An RGB crop and the crop of a second modality at the same place, normalised for a network."""

    rgb: "Tensor"
    """``(B, 3, H, W)``."""
    tir: "Tensor"
    """``(B, 3, H, W)``."""

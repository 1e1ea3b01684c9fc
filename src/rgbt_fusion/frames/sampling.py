"""Where a square crop reads its frame, as numbers: what a device needs to cut the crop itself."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["AxisSamples", "SquareSamples", "sample_square"]

LARGEST_WEIGHT = 1 << 15
"""Weights of 8-bit resizing are integers below it."""


class AxisSamples(NamedTuple):
    """Two neighbours for each pixel of the crop along one axis, all ``(size,)`` float32."""

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    """Places in the frame, inside it."""
    first_weight: NDArray[np.float32]
    second_weight: NDArray[np.float32]
    """Zero where the neighbour lies outside the frame."""
    unit: float
    """What the weights are multiples of before their sum is rounded; 0 where it is not rounded."""


class SquareSamples(NamedTuple):
    """How a square is read: the columns first, then the rows."""

    columns: AxisSamples
    rows: AxisSamples


def sample_square(
    height: int, width: int, left: int, top: int, side: int, size: int, *, eight_bit: bool
) -> SquareSamples:
    r"""Return where a square of a frame is read to become a crop of ``size`` pixels a side.

    The values equal those of :func:`~rgbt_fusion.frames.crop.crop_pair`: bilinear, zeros outside.
    PyTorch resizes 8-bit colours along one axis after the other, in integers: weights are multiples
    of a power of two, and each sum is rounded. Sums of 8-bit values with such weights are exact in
    float32.

    Args:
        height, width: of the frame.
        left, top: corner of the square.
        side: of the square.
        size: side of the crop.
        eight_bit: whether the frame holds three 8-bit colours, which are resized in integers.
    """
    is_mostly_outside = side * side > 16 * height * width
    is_large = side > 4 * size
    columns_in_integers = eight_bit and not is_mostly_outside
    rows_in_integers = columns_in_integers and not is_large
    return SquareSamples(
        columns=_samples(width, left, side, size, rounded=columns_in_integers),
        rows=_samples(height, top, side, size, rounded=rows_in_integers),
    )


def _samples(length: int, start: int, side: int, size: int, *, rounded: bool) -> AxisSamples:
    scale = np.float32(side) / np.float32(size)
    half = np.float32(0.5)
    places = (np.arange(size, dtype=np.float32) + half) * scale - half
    places = np.maximum(places, np.float32(0))
    first = np.minimum(np.floor(places).astype(np.int64), side - 1)
    second = np.minimum(first + 1, side - 1)
    second_weight = np.clip(places - first.astype(np.float32), 0, 1)
    first_weight = np.float32(1) - second_weight
    unit = 0.0
    if rounded:
        bits = _weight_bits(float(max(first_weight.max(), second_weight.max())))
        unit = 2.0**-bits
        first_weight = np.floor(first_weight * 2.0**bits + 0.5)
        second_weight = np.floor(second_weight * 2.0**bits + 0.5)
    first += start
    second += start
    first_weight = np.where((first >= 0) & (first < length), first_weight, 0)
    second_weight = np.where((second >= 0) & (second < length), second_weight, 0)
    return AxisSamples(
        first=first.clip(0, length - 1).astype(np.float32),
        second=second.clip(0, length - 1).astype(np.float32),
        first_weight=first_weight.astype(np.float32),
        second_weight=second_weight.astype(np.float32),
        unit=unit,
    )


def _weight_bits(largest: float) -> int:
    """Return how many bits behind the point PyTorch gives to weights up to ``largest``."""
    bits = 0
    while bits < 22 and int(0.5 + largest * (1 << (bits + 1))) < LARGEST_WEIGHT:
        bits += 1
    return bits

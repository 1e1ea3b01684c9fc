"""Scaling of thermal frames of more than 8 bits: 16-bit counts and temperatures."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.frames.types import Frame

__all__ = ["ThermalRange", "follow_range", "is_deep", "is_flat", "scale_thermal", "thermal_range"]

ThermalRange: TypeAlias = tuple[float, float]
"""The thermal values that become 0 and 255."""

MOST_PIXELS = 1 << 16
"""A larger frame is measured on a grid of its pixels."""

PERCENTILES = (1, 99)

LEAST_BLOCK = 0.005
"""Share of a frame's pixels of one value that may be a status bar or a saturated block."""

MOST_BLOCK = 0.5

MOST_BLOCKS = 4

LEAST_COUNTS = 8
"""A 16-bit frame of a smaller range is flat: it shows noise, or a closed shutter."""

LEAST_SHARE_OF_LEVEL = 2e-4
"""A range below this share of its own level is flat: 0.06 K at 290 K."""

LEAST_SHARE_OF_KNOWN = 0.05
"""A range below this share of the range before is flat."""

SAME = 0.95
"""Overlap of two ranges over their union, from which on the old one is kept."""

LEAST_AGREEMENT = 0.5
"""Overlap of two ranges over their union, below which the new one is taken at once."""

STEP = 0.7
"""How far a range moves towards another one that overlaps: a drift leaves it hardly behind."""


def is_deep(frame: Frame) -> bool:
    """Return whether a thermal frame must be scaled to be seen: it does not hold 8 bits."""
    return frame.dtype != np.uint8


def thermal_range(tir: Frame) -> ThermalRange:
    """Return percentiles 1 and 99 of a thermal frame, the limits for :func:`scale_thermal`.

    Blocks of one value that stand apart from all other values, such as a status bar, an empty
    border or saturated rows, are left out. Numbers that are not finite are left out, too.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.thermal import thermal_range
        >>> frame = np.arange(10_001, dtype=np.uint16).reshape(73, 137)
        >>> thermal_range(frame)
        (100.0, 9900.0)
        >>> thermal_range(np.vstack((frame, np.full((9, 137), 65_535, dtype=np.uint16))))
        (100.0, 9900.0)
    """
    values = np.sort(_measured(tir))
    if not len(values):
        return 0.0, 0.0
    for _ in range(MOST_BLOCKS):
        rest = _without_block(values)
        if len(rest) == len(values):
            break
        values = rest
    return _limits(values)


def follow_range(known: ThermalRange | None, tir: Frame) -> ThermalRange | None:
    """Return the range to scale a frame with, after the range of the frame before.

    The range is kept while the frames agree with it, so that nothing flickers. It follows a drift
    of level or span within a frame or two, and a jump at once, as after the calibration of a
    shutter. A flat frame changes nothing.

    Args:
        known: the range of the frame before; None at the first frame.
        tir: the thermal frame, of more than 8 bits.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.thermal import follow_range
        >>> frame = np.arange(10_001, dtype=np.uint16).reshape(73, 137)
        >>> follow_range((0.0, 9900.0), frame)
        (0.0, 9900.0)
        >>> follow_range((2100.0, 9900.0), frame)
        (700.0, 9900.0)
        >>> follow_range((50_000.0, 60_000.0), frame)
        (100.0, 9900.0)
        >>> follow_range((0.0, 9900.0), np.full_like(frame, 5000))
        (0.0, 9900.0)
    """
    measured = thermal_range(tir)
    if is_flat(tir, measured, known=known):
        return known
    if known is None:
        return measured
    agreement = _agreement(known, measured)
    if agreement >= SAME:
        return known
    if agreement < LEAST_AGREEMENT:
        return measured
    low = known[0] + STEP * (measured[0] - known[0])
    high = known[1] + STEP * (measured[1] - known[1])
    return low, high


def is_flat(tir: Frame, measured: ThermalRange, *, known: ThermalRange | None = None) -> bool:
    """Return whether a thermal frame has no contrast.

    Args:
        tir: the frame.
        measured: its :func:`thermal_range`.
        known: the range of the frame before.
    """
    low, high = measured
    span = high - low
    level = max(abs(low), abs(high))
    least = LEAST_SHARE_OF_LEVEL * level
    if np.issubdtype(tir.dtype, np.integer):
        least = max(least, LEAST_COUNTS)
    if known is not None:
        least = max(least, LEAST_SHARE_OF_KNOWN * (known[1] - known[0]))
    return span <= least


def scale_thermal(tir: NDArray[Any], limits: ThermalRange) -> NDArray[np.float32]:
    """Scale thermal values so that ``limits`` become 0 and 255, and clip what lies beyond.

    Args:
        tir: the values, in any shape; NaN becomes 0.
        limits: the lowest and the highest value to keep apart.

    Raises:
        ValueError: ``limits`` are not finite or not in order.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.thermal import scale_thermal
        >>> scale_thermal(np.array([[90, 200, 400]], dtype=np.uint16), (100.0, 300.0)).tolist()
        [[0.0, 127.5, 255.0]]
    """
    low, high = limits
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"limits must be two finite numbers in order, got {limits}")
    # a constant frame has no contrast to keep
    scale = np.float32(255.0 / (high - low)) if high > low else np.float32(0.0)
    scaled = np.clip((tir.astype(np.float32) - np.float32(low)) * scale, 0, 255)
    if np.issubdtype(tir.dtype, np.floating):
        np.nan_to_num(scaled, copy=False, nan=0.0)
    return scaled


def _measured(tir: Frame) -> NDArray[Any]:
    """Return the values of a frame, of a grid of its pixels if there are many."""
    pixels = tir.shape[0] * tir.shape[1]
    step = max(1, int(np.ceil(np.sqrt(pixels / MOST_PIXELS))))
    values = tir[::step, ::step].ravel()
    if np.issubdtype(values.dtype, np.floating):
        values = values[np.isfinite(values)]
    return values


def _without_block(values: NDArray[Any]) -> NDArray[Any]:
    """Return sorted values without the block of one value at an end that stands apart."""
    first_block = values[int(np.searchsorted(values, values[0], side="right")) :]
    last_block = values[: int(np.searchsorted(values, values[-1], side="left"))]
    for rest in (first_block, last_block):
        share = 1 - len(rest) / len(values)
        if not len(rest) or not LEAST_BLOCK <= share <= MOST_BLOCK:
            continue
        low, high = _limits(rest)
        gap_below = float(rest[0]) - float(values[0])
        gap_above = float(values[-1]) - float(rest[-1])
        gap = max(gap_below, gap_above)
        if gap > high - low:
            return rest
    return values


def _limits(values: NDArray[Any]) -> ThermalRange:
    """Return the percentiles of sorted values."""
    limits = []
    for percentile in PERCENTILES:
        place = (len(values) - 1) * percentile / 100
        before = int(place)
        after = min(before + 1, len(values) - 1)
        start = float(values[before])
        distance = float(values[after]) - start
        limits.append(start + distance * (place - before))
    low, high = limits
    return low, high


def _agreement(one: ThermalRange, other: ThermalRange) -> float:
    common = min(one[1], other[1]) - max(one[0], other[0])
    union = max(one[1], other[1]) - min(one[0], other[0])
    return max(common, 0.0) / union if union > 0 else 1.0

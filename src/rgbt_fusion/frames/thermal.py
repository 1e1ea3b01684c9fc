"""Scaling of thermal frames of 16 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.frames.types import Frame

__all__ = ["scale_thermal", "thermal_range"]


def thermal_range(tir: Frame) -> tuple[float, float]:
    """Return percentiles 1 and 99 of a thermal frame, the limits for :func:`scale_thermal`.

    A tracker takes them from the first frame of a sequence and scales all of it alike.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.thermal import thermal_range
        >>> thermal_range(np.arange(10_001, dtype=np.uint16).reshape(73, 137))
        (100.0, 9900.0)
    """
    low, high = np.percentile(tir, (1, 99))
    return float(low), float(high)


def scale_thermal(tir: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.float32]:
    """Scale thermal values so that ``limits`` become 0 and 255, and clip what lies beyond.

    Args:
        tir: the values, in any shape.
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
    return np.clip((tir.astype(np.float32) - np.float32(low)) * scale, 0, 255)

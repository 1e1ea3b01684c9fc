"""Annotations that are no table of boxes: regions of the VOT challenges, and labels in JSON."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.files.text_tables import DataError, read_lines

__all__ = ["read_json_boxes", "read_regions"]

_BEFORE_THE_MASK = 4
"""A mask begins with left, top, width and height of the box around it."""


def read_regions(path: str | Path) -> NDArray[np.float64]:
    """Read one region of the VOT challenges per line, and return the box around each.

    A line holds a box (4 numbers), a polygon (6 or more numbers, x and y of each corner) or a mask
    (``m`` and numbers, of which the first four are the box around it). A line with one number has
    no region: the target is absent, and the box is NaN.

    Args:
        path: the file.

    Shape:
        - returns ``(T, 4)``: left, top, width, height

    Raises:
        DataError: ``path`` cannot be read, or a line is no region.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.data.regions import read_regions
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "groundtruth.txt"
        >>> _ = path.write_text("1,2,3,4\\n0,0,4,2,3,6\\nm7,8,3,2,0,6\\n0\\n")
        >>> read_regions(path).tolist()
        [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 4.0, 6.0], [7.0, 8.0, 3.0, 2.0], [nan, nan, nan, nan]]
    """
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} must hold regions, but it is empty")
    boxes = [_box_around(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    return np.array(boxes)


def read_json_boxes(path: str | Path) -> NDArray[np.float64]:
    """Read boxes under ``gt_rect`` in a JSON file, as Anti-UAV keeps them.

    A frame whose ``exist`` is 0, or whose list is empty, has a box without size.

    Args:
        path: the file.

    Shape:
        - returns ``(T, 4)``: left, top, width, height

    Raises:
        DataError: ``path`` cannot be read, or does not hold such lists.
    """
    text = "\n".join(read_lines(path))
    try:
        content = json.loads(text)
        rectangles = content["gt_rect"]
        exists = content.get("exist", [1] * len(rectangles))
        if len(exists) != len(rectangles) or not rectangles:
            raise ValueError
        boxes = np.zeros((len(rectangles), 4))
        for row, (rectangle, here) in enumerate(zip(rectangles, exists, strict=True)):
            if here and len(rectangle):
                boxes[row] = np.array(rectangle, dtype=np.float64).reshape(4)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"{path} must hold gt_rect, a list of [left, top, width, height], and exist, as many "
            "numbers"
        ) from None
    return boxes


def _box_around(line: str, where: str) -> tuple[float, float, float, float]:
    """Return left, top, width and height of the box around a region."""
    text = line.strip()
    is_mask = text.startswith("m")
    try:
        numbers = [float(word) for word in text.removeprefix("m").replace(",", " ").split()]
    except ValueError:
        numbers = []
    if is_mask and len(numbers) >= _BEFORE_THE_MASK:
        numbers = numbers[:_BEFORE_THE_MASK]
    if len(numbers) == 1 and not is_mask:
        return (np.nan, np.nan, np.nan, np.nan)
    if len(numbers) == 4:
        left, top, width, height = numbers
        return (left, top, width, height)
    if len(numbers) < 6 or len(numbers) % 2:
        raise DataError(f"{where}: must be a box, a polygon or a mask, got {text[:60]!r}")
    x = numbers[::2]
    y = numbers[1::2]
    return (min(x), min(y), max(x) - min(x), max(y) - min(y))

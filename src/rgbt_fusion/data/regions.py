"""Annotations that are no table of boxes: regions of the VOT challenges, and labels in JSON."""

import json
import struct
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.files.text_tables import DataError, check_regular_file, read_lines

__all__ = [
    "NO_REGION",
    "Region",
    "parse_region",
    "read_json_boxes",
    "read_region_shapes",
    "read_regions",
]

_BEFORE_THE_MASK = 4
"""A mask begins with left, top, width and height of the box around it."""

BINARY_START = struct.pack("<h", 1)
"""How a binary file of regions begins, as the VOT toolkit writes them."""

MOST_MASK_PIXELS = 1 << 27
"""A larger mask, or more in all masks of a file, is a mistake or a trap."""


class Region(NamedTuple):
    """Where a target is in one frame, as the VOT challenges say it."""

    kind: Literal["none", "box", "polygon", "mask"]
    """``"none"`` where there is no target, or the tracker was started or had failed."""
    values: NDArray[np.float32] | NDArray[np.uint8]
    """Left, top, width and height ``(4,)`` of a box, the corners ``(N, 2)`` of a polygon, or the
    pixels ``(H, W)`` of a mask, 0 or 1."""
    offset: tuple[int, int] = (0, 0)
    """Left and top of a mask in the image."""


NO_REGION = Region("none", np.empty(0, dtype=np.float32))
"""The region of an absent target."""

EMPTY_MASK = Region("mask", np.zeros((0, 0), dtype=np.uint8))


def parse_region(text: str) -> Region:
    """Return the region that a line of the VOT challenges stands for.

    A mask whose only column is its first has no pixels, as in the VOT toolkit.

    Args:
        text: a box (4 numbers), a polygon (6 or more), a mask (``m``, the box around it and the
            lengths of its runs, zeros first), or one number, which stands for no region.

    Raises:
        DataError: ``text`` is none of these.

    Example:
        >>> from rgbt_fusion.data.regions import parse_region
        >>> parse_region("m5,6,3,2,1,4,1").values.tolist()
        [[0, 1, 1], [1, 1, 0]]
        >>> parse_region("nan,nan,nan,nan").kind
        'none'
    """
    line = text.strip()
    try:
        if line.startswith("m"):
            numbers = [int(word) for word in line[1:].replace(",", " ").split()]
            mask = _mask(numbers[:_BEFORE_THE_MASK], numbers[_BEFORE_THE_MASK:])
            # the toolkit drops such a mask when it reads one from text
            return mask if mask.values[:, 1:].any() else EMPTY_MASK
        # a number beyond float32 becomes infinite, and is refused
        with np.errstate(over="ignore"):
            return _points(np.array(line.replace(",", " ").split(), dtype=np.float32))
    except (ValueError, OverflowError):
        raise DataError(f"must be a box, a polygon or a mask, got {line[:60]!r}") from None


def read_region_shapes(path: str | Path) -> list[Region]:
    """Read the regions of a sequence with their shapes, as the VOT toolkit writes them.

    Args:
        path: a text file with one region per line, or a binary file of the toolkit.

    Raises:
        DataError: ``path`` cannot be read, or holds what is no region.
    """
    check_regular_file(path)
    try:
        with Path(path).open("rb") as file:
            is_binary = file.read(len(BINARY_START)) == BINARY_START
            data = file.read(MOST_MASK_PIXELS) if is_binary else None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if data is not None:
        return _read_binary(data, path)
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} must hold regions, but it is empty")
    regions: list[Region] = []
    pixels = 0
    for number, line in enumerate(lines, 1):
        try:
            regions.append(parse_region(line))
            pixels = _added_pixels(pixels, regions[-1])
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return regions


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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
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


def _points(numbers: NDArray[np.float32]) -> Region:
    """Return a box, a polygon or no region."""
    count = len(numbers)
    if count != 1 and count != 4 and (count < 6 or count % 2):
        raise ValueError
    if count == 1 or np.isnan(numbers).any():
        return NO_REGION
    if not np.isfinite(numbers).all():
        raise ValueError
    if count == 4:
        return Region("box", numbers)
    return Region("polygon", numbers.reshape(-1, 2))


def _mask(box: list[int], runs: list[int]) -> Region:
    """Return the mask whose runs of zeros and ones are given, the zeros first."""
    left, top, width, height = box
    if min(width, height, *runs, 0) < 0 or width * height > MOST_MASK_PIXELS:
        raise ValueError
    if sum(runs) > width * height:
        raise ValueError
    pixels = np.zeros(width * height, dtype=np.uint8)
    ends = np.cumsum(runs, dtype=np.int64)
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        pixels[start:end] = 1
    return Region("mask", pixels.reshape(height, width), (left, top))


def _added_pixels(pixels: int, region: Region) -> int:
    """Return the pixels of all masks of a file so far."""
    if region.kind == "mask":
        pixels += region.values.size
    if pixels > MOST_MASK_PIXELS:
        raise DataError(f"all masks together must have at most {MOST_MASK_PIXELS} pixels")
    return pixels


def _read_binary(data: bytes, path: str | Path) -> list[Region]:
    """Read what follows the first two bytes of a binary file of the toolkit."""
    place = 0
    pixels = 0

    def take(layout: str) -> tuple[Any, ...]:
        nonlocal place
        found = struct.unpack_from(f"<{layout}", data, place)
        place += struct.calcsize(f"<{layout}")
        return found

    regions: list[Region] = []
    try:
        (count,) = take("I")
        for _ in range(count):
            (kind,) = take("B")
            if kind == 0:
                take("I")
                regions.append(NO_REGION)
            elif kind == 1:
                regions.append(_points(np.array(take("4f"), dtype=np.float32)))
            elif kind == 2:
                (corners,) = take("H")
                regions.append(_points(np.array(take(f"{2 * corners}f"), dtype=np.float32)))
            elif kind == 3:
                *box, runs = take("hhHHH")
                regions.append(_mask(box, list(take(f"{runs}H"))))
                pixels = _added_pixels(pixels, regions[-1])
            else:
                raise ValueError
    except DataError as error:
        raise DataError(f"{path}, region {len(regions)}: {error}") from None
    except (struct.error, ValueError):
        number = len(regions) + 1
        raise DataError(
            f"{path} must be a file of the VOT toolkit, but region {number} cannot be read"
        ) from None
    if not regions:
        raise DataError(f"{path} must hold regions, but it is empty")
    return regions

"""How much two regions of the VOT challenges overlap, pixel by pixel as the VOT toolkit counts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.data.regions import Region

__all__ = ["has_no_size", "rasterised", "region_overlap"]


class _Bounds(NamedTuple):
    """The first and the last column and row that a region touches."""

    left: int
    top: int
    right: int
    bottom: int


def has_no_size(region: Region) -> bool:
    """Return whether a region holds no target: it is empty, or has no width or height."""
    if region.kind == "none":
        return True
    if region.kind == "box":
        return not bool((region.values[2:] > 0).all())
    if region.kind == "polygon":
        return bool((np.ptp(region.values, axis=0) == 0).any())
    _, _, right, bottom = _bounds_of_pixels(region.values)
    return right == 0 or bottom == 0


def region_overlap(first: Region, second: Region, size: tuple[int, int]) -> float:
    """Return intersection over union of two regions in whole pixels.

    Coordinates are rounded, a region without pixels overlaps nothing, and two of them overlap
    fully.

    Args:
        first: one region.
        second: the other.
        size: width and height of the image; pixels outside do not count.

    Example:
        >>> from rgbt_fusion.data.region_overlap import region_overlap
        >>> from rgbt_fusion.data.regions import parse_region
        >>> region_overlap(parse_region("0,0,10,10"), parse_region("0,0,10,5"), (64, 48))
        0.5

    Source:
        The VOT toolkit 0.9.0, ``vot.region.raster``.
    """
    bounds = _around(_bounds(first), _bounds(second))
    if bounds.left >= bounds.right or bounds.top >= bounds.bottom:
        return 1.0
    bounds = _inside(bounds, size)
    if bounds.left >= bounds.right or bounds.top >= bounds.bottom:
        return 0.0
    pixels = _pixels(first, bounds)
    others = _pixels(second, bounds)
    union = np.count_nonzero(pixels | others)
    shared = np.count_nonzero(pixels & others)
    return float(shared / union) if union else 0.0


def rasterised(region: Region, size: tuple[int, int]) -> Region:
    """Return a polygon that is inside the image as the mask of its pixels.

    The mask overlaps other regions as the polygon does, and costs less where it is asked often.
    Any other region comes back as it is.

    Args:
        region: the region.
        size: width and height of the image.
    """
    if region.kind != "polygon":
        return region
    bounds = _bounds(region)
    if _inside(bounds, size) != bounds:
        return region
    pixels = _pixels(region, bounds).astype(np.uint8)
    return Region("mask", pixels, (bounds.left, bounds.top))


def _bounds(region: Region) -> _Bounds:
    if region.kind == "box":
        left, top, width, height = np.round(region.values)
        right = left + width - 1
        bottom = top + height - 1
        return _Bounds(int(left), int(top), int(right), int(bottom))
    if region.kind == "polygon":
        corners = np.round(region.values)
        left, top = corners.min(axis=0)
        right, bottom = corners.max(axis=0)
        return _Bounds(int(left), int(top), int(right), int(bottom))
    if region.kind == "mask":
        x, y = region.offset
        left, top, right, bottom = _bounds_of_pixels(region.values)
        return _Bounds(left + x, top + y, right + x, bottom + y)
    return _Bounds(0, 0, 0, 0)


def _bounds_of_pixels(pixels: NDArray) -> _Bounds:
    rows = np.flatnonzero(pixels.any(axis=1))
    columns = np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return _Bounds(0, 0, 0, 0)
    return _Bounds(int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))


def _around(first: _Bounds, second: _Bounds) -> _Bounds:
    return _Bounds(
        min(first.left, second.left),
        min(first.top, second.top),
        max(first.right, second.right),
        max(first.bottom, second.bottom),
    )


def _inside(bounds: _Bounds, size: tuple[int, int]) -> _Bounds:
    """Return the part of the bounds that is in the image."""
    width, height = size
    return _Bounds(
        max(0, bounds.left),
        max(0, bounds.top),
        min(width - 1, bounds.right),
        min(height - 1, bounds.bottom),
    )


def _pixels(region: Region, bounds: _Bounds) -> NDArray[np.bool_]:
    """Return which pixels within the bounds belong to a region."""
    shape = (bounds.bottom - bounds.top + 1, bounds.right - bounds.left + 1)
    pixels = np.zeros(shape, dtype=bool)
    if region.kind == "box":
        own = _bounds(region)
        top = max(own.top - bounds.top, 0)
        bottom = max(own.bottom - bounds.top + 1, 0)
        left = max(own.left - bounds.left, 0)
        right = max(own.right - bounds.left + 1, 0)
        pixels[top:bottom, left:right] = True
    elif region.kind == "polygon":
        corners = np.round(region.values) - (bounds.left, bounds.top)
        _fill_polygon(pixels, corners.tolist())
    elif region.kind == "mask":
        _copy_mask(pixels, region, bounds)
    return pixels


def _copy_mask(pixels: NDArray[np.bool_], region: Region, bounds: _Bounds) -> None:
    height, width = region.values.shape
    x = region.offset[0] - bounds.left
    y = region.offset[1] - bounds.top
    rows = slice(max(y, 0), max(min(y + height, pixels.shape[0]), 0))
    columns = slice(max(x, 0), max(min(x + width, pixels.shape[1]), 0))
    # an offset inside the mask, where it begins before the bounds
    inner = region.values[max(-y, 0) :, max(-x, 0) :]
    window = pixels[rows, columns]
    window[:] = inner[: window.shape[0], : window.shape[1]] != 0


def _fill_polygon(pixels: NDArray[np.bool_], corners: list[list[float]]) -> None:
    """Fill a polygon row by row between the places where its edges cross the row.

    An edge touches a row at either end, so that a corner counts twice; where two places are the
    same the first is passed over, unless the pair is the last.
    """
    height, width = pixels.shape
    for y in range(height):
        places = _crossings(corners, y)
        last = len(places) - 1
        k = 0
        while k < last and places[k] < width:
            if places[k] == places[k + 1] and k < last - 1:
                k += 1
                continue
            first = max(places[k], 0)
            final = min(places[k + 1], width - 1)
            if final >= 0:
                pixels[y, first : final + 1] = True
            k += 2


def _crossings(corners: list[list[float]], y: int) -> list[int]:
    """Return the columns at which the edges of a polygon cross a row, in order."""
    places: list[int] = []
    last_x, last_y = corners[-1]
    for corner_x, corner_y in corners:
        if min(corner_y, last_y) <= y <= max(corner_y, last_y):
            x = corner_x
            if corner_y != last_y:
                x += (y - corner_y) / (last_y - corner_y) * (last_x - corner_x)
            # towards zero, as C casts
            places.append(int(x))
        last_x = corner_x
        last_y = corner_y
    return sorted(places)

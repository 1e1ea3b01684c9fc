"""Matrices between two images, in pixels whose centres have whole coordinates."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.frames.drawing import map_points

__all__ = [
    "Matrix",
    "corners",
    "distance",
    "distinct",
    "is_plausible",
    "local_scale",
    "resizing",
    "similarity",
]

Matrix = NDArray[np.float64]
"""A 3x3 homography."""


class Placed(Protocol):
    """What has a matrix from colour to thermal pixels."""

    @property
    def tir_from_rgb(self) -> Matrix:
        """The matrix."""
        ...


Found = TypeVar("Found", bound=Placed)

SCALES = (0.4, 2.6)
"""Smallest and largest scale between two cameras that is believed."""

LARGEST_TURN_DEG = 10.0
LARGEST_STRETCH = 1.18
"""Ratio of the largest to the smallest scale in the middle of the image."""

LARGEST_PERSPECTIVE = 1.45
"""Ratio of the largest to the smallest scale among the corners."""


def similarity(
    scale: float, degrees: float, start: tuple[float, float], end: tuple[float, float]
) -> Matrix:
    """Return the matrix that turns and scales about ``start``, and moves it to ``end``."""
    angle = np.deg2rad(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = np.array(end) - turn @ np.array(start)
    return matrix


def resizing(size: tuple[int, int], new_size: tuple[int, int]) -> Matrix:
    """Return the matrix of a resized image: its edges, not its pixel centres, stay in place.

    Args:
        size: width and height.
        new_size: width and height after resizing.

    Example:
        >>> from rgbt_fusion.alignment.geometry import resizing
        >>> resizing((8, 8), (4, 4))[0].tolist()
        [0.5, 0.0, -0.25]
    """
    across = new_size[0] / size[0]
    down = new_size[1] / size[1]
    return np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])


def corners(size: tuple[int, int], inset: float = 0.0) -> NDArray[np.float64]:
    """Return the four corners of an image, ``(4, 2)``.

    Args:
        size: width and height.
        inset: how far they are drawn in, as a share of the sides.
    """
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    return (unit * (1 - 2 * inset) + inset) * np.array(size)


def local_scale(matrix: Matrix, x: float, y: float) -> float:
    """Return pixels behind the matrix per pixel before it, at one point; 0 where it mirrors."""
    determinant = np.linalg.det(_jacobian(matrix, x, y))
    return float(np.sqrt(max(determinant, 0.0)))


def distance(first: Matrix, second: Matrix, size: tuple[int, int]) -> float:
    """Return how far apart two matrices put the image, in its own pixels as a share of its width.

    Args:
        first: a matrix from colour to thermal pixels.
        second: another one.
        size: width and height of the colour image.
    """
    points = corners(size, inset=0.25)
    apart = map_points(points, first) - map_points(points, second)
    mean_distance = float(np.linalg.norm(apart, axis=1).mean())
    scale = max(local_scale(first, size[0] / 2, size[1] / 2), 1e-6)
    return mean_distance / scale / size[0]


def distinct(
    found: Iterable[Found], size: tuple[int, int], least: float, *, count: int | None = None
) -> list[Found]:
    """Return the placements that are farther than ``least`` from all that come before them.

    Args:
        found: the placements, the best first.
        size: width and height of the colour image.
        least: the least :func:`distance` of two.
        count: stop at so many; None takes all.
    """
    kept: list[Found] = []
    for one in found:
        apart = (distance(one.tir_from_rgb, other.tir_from_rgb, size) for other in kept)
        if min(apart, default=np.inf) > least:
            kept.append(one)
        if len(kept) == count:
            break
    return kept


def is_plausible(tir_from_rgb: Matrix, size: tuple[int, int]) -> bool:
    """Return whether two cameras side by side can be related so.

    Args:
        tir_from_rgb: the matrix.
        size: width and height of the colour image.
    """
    if not np.isfinite(tir_from_rgb).all():
        return False
    at_corners = [local_scale(tir_from_rgb, x, y) for x, y in corners(size)]
    if min(at_corners) <= 0 or max(at_corners) > LARGEST_PERSPECTIVE * min(at_corners):
        return False
    middle = _jacobian(tir_from_rgb, size[0] / 2, size[1] / 2)
    left, stretches, right = np.linalg.svd(middle)
    turn = left @ right
    degrees = abs(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
    scale = float(np.sqrt(stretches[0] * stretches[1]))
    if not SCALES[0] < scale < SCALES[1]:
        return False
    return bool(stretches[0] < LARGEST_STRETCH * stretches[1] and degrees < LARGEST_TURN_DEG)


def _jacobian(matrix: Matrix, x: float, y: float) -> NDArray[np.float64]:
    """Return the derivative of the mapped point by the point, ``(2, 2)``."""
    depth = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    mapped = map_points(np.array([[x, y]], dtype=np.float64), matrix)[0]
    return (matrix[:2, :2] - np.outer(mapped, matrix[2, :2])) / depth

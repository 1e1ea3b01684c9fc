"""Alignments that need no search: another resolution of one view, a matrix, clicked points."""

from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.alignment.estimate import READ_PAIRS, Alignment
from rgbt_fusion.alignment.geometry import corners, local_scale, resizing
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.drawing import map_points
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import FramePairLike

__all__ = ["FEWEST_POINTS", "alignment_from_points", "fit_source"]

FEWEST_POINTS = 4
"""Pairs of points that a homography needs."""

ALIKE_SHAPE = 0.02
"""Ratios of width to height that differ by less than this share are the same."""

LEAST_SPREAD = 0.02
"""Least distance of a point from the line through two others, as a share of the image's width.
Points nearer to one line fix no homography."""

LARGEST_SCALE_RATIO = 100.0
"""Ratio of the largest to the smallest scale among the corners; beyond, points were mixed up."""

GRID = 32
"""Points along each side of the colour image at which the overlap is measured."""


def fit_source(source: Iterable[FramePairLike]) -> Alignment:
    """Return the alignment of two recordings of the same view in other resolutions.

    The edges of both images lie on each other. Where their shapes differ, ``reason`` says so: the
    thermal image is then stretched, which is right only if the cameras stretch it, too.

    Args:
        source: pairs of frames; the first pair of both modalities is looked at.

    Raises:
        ValueError: ``source`` has no pair of both modalities.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.alignment.known import fit_source
        >>> pair = np.zeros((480, 640, 3), dtype=np.uint8), np.zeros((120, 160), dtype=np.uint8)
        >>> fit_source([pair]).tir_from_rgb[0].tolist()
        [0.25, 0.0, -0.375]
    """
    for rgb, tir in islice(source, READ_PAIRS):
        if rgb is not None and tir is not None:
            size = (rgb.shape[1], rgb.shape[0])
            tir_size = (tir.shape[1], tir.shape[0])
            reason = f"the same view in {size[0]}x{size[1]} and {tir_size[0]}x{tir_size[1]} pixels"
            if is_stretched(size, tir_size):
                reason += ", stretched: the shapes of the images differ"
            return Alignment(resizing(size, tir_size), 0.0, 1.0, True, 0.0, 1.0, reason)
    raise ValueError("source must have a pair of frames of both modalities, got none")


def is_stretched(size: tuple[int, int], tir_size: tuple[int, int]) -> bool:
    """Return whether two sizes (width, height) are of unlike shape."""
    shape = size[0] / size[1]
    tir_shape = tir_size[0] / tir_size[1]
    return abs(shape / tir_shape - 1) > ALIKE_SHAPE


def alignment_from_points(
    rgb_points_px: ArrayLike,
    tir_points_px: ArrayLike,
    *,
    size: tuple[int, int],
    tir_size: tuple[int, int],
) -> Alignment:
    r"""Return the homography through pairs of the same points in both images.

    .. math::
        H = \arg\min_H \sum_k \| \pi(H (x_k, y_k, 1)^\top) - (u_k, v_k) \|^2

    Four pairs are met exactly; of more, the squared distances are least.

    Args:
        rgb_points_px: the points in the colour image.
        tir_points_px: the same points in the thermal image.
        size: width and height of the colour image.
        tir_size: width and height of the thermal image.

    Shape:
        - rgb_points_px, tir_points_px: ``(K, 2)``, x and y, K at least 4

    Raises:
        ShapeError: ``rgb_points_px`` or ``tir_points_px`` has another shape.
        ValueError: the points are not finite, lie on a line, or belong to no view of a place:
            they were paired wrongly.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> from rgbt_fusion.alignment.known import alignment_from_points
        >>> seen = [(100, 100), (500, 100), (500, 400), (100, 400)]
        >>> there = [(40, 35), (140, 35), (140, 110), (40, 110)]
        >>> found = alignment_from_points(seen, there, size=(640, 480), tir_size=(160, 120))
        >>> found.tir_from_rgb.round(2).tolist()
        [[0.25, 0.0, 15.0], [0.0, 0.25, 10.0], [0.0, 0.0, 1.0]]
    """
    rgb = _points(rgb_points_px, "rgb_points_px")
    tir = _points(tir_points_px, "tir_points_px")
    if len(rgb) != len(tir):
        raise ShapeError(
            f"tir_points_px must be as many as rgb_points_px {len(rgb)}, got {len(tir)}"
        )
    _check_spread(rgb, size[0], "colour")
    _check_spread(tir, tir_size[0], "thermal")
    cv2 = load_cv2()
    matrix, _ = cv2.findHomography(rgb, tir, 0)
    if matrix is None or not _keeps_orientation(matrix, rgb, size):
        raise ValueError(
            "the points must be the same ones in both images, in the same order, but no view of a "
            "place fits them"
        )
    off = np.linalg.norm(map_points(rgb, matrix) - tir, axis=1)
    reason = f"{len(rgb)} pairs of points"
    if len(rgb) > FEWEST_POINTS:
        reason += f", off by {off.mean():.1f} thermal pixels on average, {off.max():.1f} at most"
    overlap = _overlap(matrix, size, tir_size)
    return Alignment(matrix, 0.0, 1.0, True, 0.0, overlap, reason)


def _points(points_px: ArrayLike, name: str) -> NDArray[np.float64]:
    points = np.asarray(points_px, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < FEWEST_POINTS:
        raise ShapeError(f"{name} must have shape (K, 2), K at least 4, got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} must be finite, got {points.tolist()}")
    return points


def _check_spread(points: NDArray[np.float64], width: int, image: str) -> None:
    """Refuse points of which no four have any three off a line."""
    centred = points - points.mean(axis=0)
    across = np.linalg.svd(centred, compute_uv=False)[1] / np.sqrt(len(points))
    if across < LEAST_SPREAD * width:
        raise ValueError(
            f"the points of the {image} image must be spread over it, but they lie on a line or "
            "on each other"
        )
    if len(points) == FEWEST_POINTS and _nearest_to_a_line(points) < LEAST_SPREAD * width:
        raise ValueError(
            f"no three of the four points of the {image} image must lie on a line: move one of them"
        )


def _nearest_to_a_line(points: NDArray[np.float64]) -> float:
    """Return the smallest height of the triangles that any three of the points make."""
    least = np.inf
    for left_out in range(len(points)):
        a, b, c = np.delete(points, left_out, axis=0)
        sides = [float(np.linalg.norm(side)) for side in (a - b, b - c, c - a)]
        longest = max(*sides, 1e-9)
        twice_the_area = abs(np.linalg.det(np.stack((b - a, c - a))))
        least = min(least, twice_the_area / longest)
    return least


def _keeps_orientation(
    matrix: NDArray[np.float64], rgb: NDArray[np.float64], size: tuple[int, int]
) -> bool:
    """Return whether no part of the colour image, and no point, is mirrored or at infinity."""
    if not np.isfinite(matrix).all():
        return False
    places = np.concatenate((corners(size), rgb))
    depths = places @ matrix[2, :2] + matrix[2, 2]
    if depths.min() <= 0:
        return False
    scales = [local_scale(matrix, x, y) for x, y in places]
    return min(scales) > 0 and max(scales) < LARGEST_SCALE_RATIO * min(scales)


def _overlap(
    matrix: NDArray[np.float64], size: tuple[int, int], tir_size: tuple[int, int]
) -> float:
    """Return the share of the colour image that the thermal image covers."""
    steps = (np.arange(GRID) + 0.5) / GRID
    columns, rows = np.meshgrid(steps * size[0] - 0.5, steps * size[1] - 0.5)
    points = np.stack((columns.ravel(), rows.ravel()), axis=1)
    there = map_points(points, matrix)
    inside = (there > -0.5) & (there < np.array(tir_size) - 0.5)
    return float(inside.all(axis=1).mean())

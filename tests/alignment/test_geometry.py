"""Matrices between two images."""

import numpy as np
import pytest

from rgbt_fusion.alignment.geometry import (
    corners,
    distance,
    distinct,
    is_plausible,
    local_scale,
    resizing,
    similarity,
)
from rgbt_fusion.alignment.search import Placement
from rgbt_fusion.frames.drawing import map_points

SIZE = (320, 240)
MIDDLE = (160.0, 120.0)


def test_a_similarity_takes_its_start_to_its_end():
    matrix = similarity(2.0, 90.0, (10.0, 20.0), (30.0, 40.0))
    points = map_points(np.array([[10.0, 20.0], [11.0, 20.0]]), matrix)
    np.testing.assert_allclose(points, [[30, 40], [30, 42]], atol=1e-9)


def test_resizing_keeps_the_edges_of_an_image_in_place():
    edges = np.array([[-0.5, -0.5], [7.5, 5.5]])
    np.testing.assert_allclose(
        map_points(edges, resizing((8, 6), (4, 2))), [[-0.5, -0.5], [3.5, 1.5]]
    )


def test_corners_are_drawn_in_by_a_share_of_the_sides():
    np.testing.assert_allclose(
        corners((100, 50), inset=0.1), [[10, 5], [90, 5], [90, 45], [10, 45]]
    )


def test_the_local_scale_is_that_of_the_derivative():
    assert local_scale(similarity(1.5, 20.0, MIDDLE, MIDDLE), 3, 4) == pytest.approx(1.5)
    perspective = np.array([[1, 0, 0], [0, 1, 0], [1e-3, 0, 1.0]])
    assert local_scale(perspective, 300, 0) < local_scale(perspective, 0, 0)
    assert local_scale(np.diag([-1.0, 1.0, 1.0]), 0, 0) == 0


def test_a_distance_is_in_colour_pixels_whatever_the_scale():
    twice = similarity(2.0, 0.0, MIDDLE, MIDDLE)
    moved = similarity(2.0, 0.0, MIDDLE, (180.0, 120.0))
    assert distance(twice, moved, SIZE) == pytest.approx(10 / 320)


def test_of_two_near_placements_the_first_is_kept():
    near = [similarity(1.0, 0.0, MIDDLE, (160.0 + x, 120.0)) for x in (0, 2, 40)]
    kept = distinct([Placement(1.0, one) for one in near], SIZE, 0.03)
    assert [one.tir_from_rgb[0, 2] for one in kept] == [0, 40]
    assert len(distinct([Placement(1.0, one) for one in near], SIZE, 0.03, count=1)) == 1


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([3.0, 3.0, 1.0]),
        np.diag([1.5, 1.0, 1.0]),
        np.diag([-1.0, 1.0, 1.0]),
        similarity(1.0, 30.0, MIDDLE, MIDDLE),
        np.array([[1, 0, 0], [0, 1, 0], [3e-3, 0, 1.0]]),
        np.full((3, 3), np.nan),
    ],
    ids=["scale", "stretch", "mirror", "turn", "perspective", "nan"],
)
def test_what_two_cameras_cannot_be_is_not_plausible(matrix):
    assert is_plausible(np.eye(3), SIZE)
    assert not is_plausible(matrix, SIZE)

"""Where boxes are drawn, and how frames become pictures."""

import numpy as np
import pytest

from rgbt_fusion.frames.drawing import (
    box_corners,
    draw_outline,
    draw_rectangle,
    draw_text,
    eight_bits,
    map_points,
    resize,
)
from video_material import cv2

RED = (255, 0, 0)


@pytest.fixture
def black() -> np.ndarray:
    cv2()
    return np.zeros((60, 80, 3), dtype=np.uint8)


def reddish(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is drawn."""
    rows, columns = picture[:, :, 0].nonzero()
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_a_rectangle_is_drawn_at_its_rounded_corners(black):
    draw_rectangle(black, (9.6, 20.2, 30.4, 40.0), RED)
    assert reddish(black) == (10, 20, 30, 40)


def test_boxes_far_away_or_not_finite_draw_nothing(black):
    draw_rectangle(black, (np.nan, 1, 2, 3), RED)
    draw_rectangle(black, (1e12, 1e12, 2e12, 2e12), RED)
    draw_outline(black, np.full((4, 2), np.inf), RED)
    assert not black.any()
    draw_outline(black, box_corners((-1e9, 10, 1e12, 20)), RED)
    assert black.any()


def test_an_outline_has_a_dark_rim_and_may_be_dashed(black):
    white = np.full_like(black, 255)
    dashed = white.copy()
    corners = box_corners((10, 10, 50, 40))
    draw_outline(white, corners, RED)
    draw_outline(dashed, corners, RED, dashed=True)
    assert (white.max(-1) < 130).any()
    red = [(picture == RED).all(-1).sum() for picture in (white, dashed)]
    assert 0.3 < red[1] / red[0] < 0.7


def test_points_of_the_colour_frame_in_the_thermal_frame():
    corners = box_corners((10, 20, 30, 40))
    assert corners.tolist() == [[10, 20], [40, 20], [40, 60], [10, 60]]
    assert map_points(corners, None) is corners
    assert map_points(corners, (2, -3))[0].tolist() == [12, 17]
    homography = [[2, 0, 4], [0, 2, 6], [0, 0, 2]]
    assert map_points(corners, homography)[0].tolist() == [12, 23]
    behind = map_points(corners, [[1, 0, 0], [0, 1, 0], [0, 0, -1]])
    assert np.isfinite(behind).all() and (behind > 1e6).all()


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_frame_becomes_a_picture(shape, dtype):
    frame = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    picture = eight_bits(frame)
    assert picture.shape == (6, 8, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous


def test_text_and_sizes(black):
    draw_text(black, "text", (5, 40), RED)
    assert black[:, :, 0].any()
    assert resize(black, 20, 10).shape == (10, 20, 3)


def test_the_rim_of_a_text_is_beside_the_text():
    """Also at the end of a long line, where thick letters may have run ahead of thin ones."""
    cv2()
    picture = np.full((40, 300, 3), 128, dtype=np.uint8)
    draw_text(picture, "ainet_tiny_128 0.77", (10, 25), (255, 255, 255))
    ink_columns = np.flatnonzero((picture > 200).any(axis=(0, 2)))
    rim_columns = np.flatnonzero((picture < 64).any(axis=(0, 2)))
    assert ink_columns.max() > 100
    assert ink_columns.max() <= rim_columns.max() <= ink_columns.max() + 2
    assert ink_columns.min() - 2 <= rim_columns.min() <= ink_columns.min()

"""Where boxes and labels are drawn."""

import numpy as np
import pytest

from rgbt_fusion.frames.drawing import Mark, eight_bits
from rgbt_fusion.video.overlay import COLOURS, HEADER, draw_overlay
from video_material import cv2

GREY = np.full((240, 320, 3), 90, dtype=np.uint8)


@pytest.fixture(autouse=True)
def opencv():
    cv2()


def drawn(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The places of a colour below the header: rows and columns."""
    return ((picture[HEADER:] == colour).all(-1)).nonzero()


def test_a_box_is_drawn_on_both_modalities():
    picture = draw_overlay(GREY, GREY[:, :, 0], [Mark((50, 40, 100, 80), "", COLOURS[0])])
    rows, columns = drawn(picture, COLOURS[0])
    for panel in (columns < 320, columns >= 320):
        x, y = columns[panel] % 320, rows[panel]
        assert (abs(x.min() - 50), abs(x.max() - 150)) <= (2, 2)
        assert (abs(y.min() - 40), abs(y.max() - 120)) <= (2, 2)


def test_the_thermal_box_is_where_the_thermal_camera_sees_it():
    half = np.full((120, 160), 90, dtype=np.uint16)
    shift = np.array([[0.5, 0, 10], [0, 0.5, 0], [0, 0, 1]])
    for matrix, left in ((shift, 2 * (25 + 10)), ((7, 0), 57)):
        tir = half if matrix is shift else GREY
        picture = draw_overlay(
            GREY, tir, [Mark((50, 40, 60, 50), "", COLOURS[0])], tir_from_rgb=matrix
        )
        _, columns = drawn(picture, COLOURS[0])
        assert abs(columns[columns >= 320].min() - 320 - left) <= 2


def test_a_lost_target_is_dashed_and_a_box_that_is_none_left_out():
    solid, dashed = (
        len(
            drawn(
                draw_overlay(GREY, GREY, [Mark((50, 40, 100, 80), "", COLOURS[0], lost)]),
                COLOURS[0],
            )[0]
        )
        for lost in (False, True)
    )
    assert 0.3 < dashed / solid < 0.7
    picture = draw_overlay(GREY, GREY, [Mark((np.nan, 4, 5, 6), "", COLOURS[0])])
    assert not len(drawn(picture, COLOURS[0])[0])
    draw_overlay(GREY, GREY, [Mark((-1e9, 4, 1e12, 6), "", COLOURS[0])])


def test_labels_are_above_in_their_colours():
    picture = draw_overlay(
        GREY, GREY, [Mark((50, 40, 9, 9), "mine", COLOURS[0]), Mark((9, 9, 9, 9), "b", COLOURS[1])]
    )
    header = picture[:HEADER].astype(int)
    assert all((abs(header - colour).sum(-1) < 60).any() for colour in COLOURS[:2])


def test_sizes_are_even_and_small_frames_enlarged():
    odd = np.zeros((117, 201, 3), dtype=np.uint8)
    for rgb, tir in ((odd, odd), (odd, None), (None, odd[:, :, 0]), (GREY, odd)):
        height, width, _ = draw_overlay(rgb, tir).shape
        assert height % 2 == width % 2 == 0
        assert height >= 240
    with pytest.raises(ValueError, match="must not both be missing"):
        draw_overlay(None, None)


def test_16_bits_are_scaled():
    frame = np.linspace(1000, 3000, 240 * 320).reshape(240, 320).astype(np.uint16)
    assert eight_bits(frame, (1000, 3000)).max() == 255
    assert eight_bits(frame).shape == (240, 320, 3)
    assert abs(int(draw_overlay(None, frame, tir_range=(1000, 5000))[-20:, -20:].mean()) - 125) < 8

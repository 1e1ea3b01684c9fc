"""The square around a box, written out by hand."""

import math

import numpy as np
import pytest

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.data.clips import SyntheticClips
from rgbt_fusion.frames.crop import crop_pair
from rgbt_fusion.frames.square import check_box, check_first_box, search_square

BOXES = [
    (30.0, 40.0, 20.0, 10.0),
    (-15.5, -3.25, 20.0, 45.0),
    (150.2, 110.9, 33.3, 5.1),
    (3.0, 4.0, 1e-3, 1e-3),
]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("factor", [2.0, 4.0, 5.0])
def test_the_square_is_that_of_the_equation(box, factor):
    x, y, w, h = box
    square = search_square(box, factor)
    assert square.side == max(1, math.ceil(math.sqrt(w * h) * factor))
    assert square.centre == (x + w / 2, y + h / 2)
    assert abs(square.left + square.side / 2 - square.centre[0]) <= 0.5
    assert abs(square.top + square.side / 2 - square.centre[1]) <= 0.5


@pytest.mark.parametrize("box", BOXES)
def test_trackers_and_training_clips_crop_the_same_square(box):
    frame = np.zeros((120, 160, 3), dtype=np.uint8)
    square = search_square(box, 4.0)
    crop = crop_pair(frame, None, box, factor=4.0, size=32)
    assert (crop.centre_px, crop.side_px) == (square.centre, square.side)
    clip = SyntheticClips(sequences=1, frames=5).draw(np.random.default_rng(0), length=1, max_gap=4)
    rendered = clip.sequence.crop(clip.template, np.array(box), 4.0, 32)
    assert (rendered.centre_px, rendered.side_px) == (square.centre, square.side)


def test_a_box_that_is_none_is_named():
    assert check_box([1, 2, 3, 4]) == (1.0, 2.0, 3.0, 4.0)
    with pytest.raises(ShapeError, match=r"must be left, top, width, height, got shape \(2, 4\)"):
        check_box(np.ones((2, 4)))
    for box in ((0, 0, 0, 4), (0, 0, 4, -1), (np.nan, 0, 4, 4), (0, np.inf, 4, 4)):
        with pytest.raises(ValueError, match="finite with width and height above 0"):
            search_square(box, 2.0)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((700, 500, 30, 30), "must lie in the frame of 320 x 240 pixels"),
        ((-500, -500, 30, 30), "must lie in the frame"),
        ((1e308, 86, 38, 40), "must lie in the frame"),
        ((0.4, 0.3, 0.1, 0.2), "must be in pixels, got .* which look like fractions"),
        ((159, 86, 1e-3, 1e-3), "at least 1 pixel wide and high"),
        ((0, 0, 1e5, 1e5), "more than twice as large"),
        ((159, 86, -38, 40), "finite with width and height above 0"),
    ],
)
def test_a_first_box_that_no_target_can_have_is_refused(box, message):
    with pytest.raises(ValueError, match=message):
        check_first_box(box, (240, 320))


def test_a_first_box_may_reach_beyond_the_frame():
    for box in ((0, 0, 320, 240), (-10, 200, 60, 80), (319, 239, 1, 1)):
        assert check_first_box(box, (240, 320)) == box

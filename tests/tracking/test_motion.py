"""A search crop that lies ahead of a fast target, by hand and in a tracker."""

import numpy as np
import pytest

from rgbt_fusion import Tracker
from rgbt_fusion.tracking.motion import look_ahead, next_steps
from tracking_material import BOX, BrightSpot, scene

SIZE = (240, 320)
BOXES = np.array([[100.0, 80.0, 20.0, 20.0]])


def ahead(step: tuple[float, float], share: float = 1.0) -> list[float]:
    return look_ahead(BOXES, np.array([step]), share, image_size=SIZE)[0].tolist()


def test_a_slow_target_is_looked_for_where_it_was():
    assert ahead((7.9, 0.0)) == BOXES[0].tolist()
    assert ahead((0.0, 0.0)) == BOXES[0].tolist()


def test_a_fast_target_is_looked_for_along_its_motion():
    assert ahead((8.1, 0.0)) == pytest.approx([108.1, 80.0, 20.0, 20.0])
    assert ahead((-12.0, 9.0)) == pytest.approx([88.0, 89.0, 20.0, 20.0])
    assert ahead((-12.0, 9.0), share=0.5) == pytest.approx([94.0, 84.5, 20.0, 20.0])
    assert ahead((20.0, 0.0), share=0.0) == BOXES[0].tolist()


def test_one_looks_at_most_one_and_a_half_sizes_ahead():
    assert ahead((0.0, -60.0)) == pytest.approx([100.0, 50.0, 20.0, 20.0])
    assert ahead((60.0, 80.0)) == pytest.approx([118.0, 104.0, 20.0, 20.0])


def test_one_never_looks_outside_of_the_image():
    at_the_edge = np.array([[305.0, 225.0, 20.0, 20.0]])
    found = look_ahead(at_the_edge, np.array([[20.0, 20.0]]), 1.0, image_size=SIZE)
    assert found.tolist() == [[310.0, 230.0, 20.0, 20.0]]


def test_a_slow_target_outside_of_the_image_stays_as_it_is():
    outside = np.array([[-15.0, 80.0, 20.0, 20.0]])
    found = look_ahead(outside, np.zeros((1, 2)), 1.0, image_size=SIZE)
    assert found.tolist() == outside.tolist()


def test_the_newest_step_counts_most_and_a_lost_target_slows_down():
    steps = np.array([[10.0, 0.0], [10.0, 0.0]])
    before = np.repeat(BOXES, 2, axis=0)
    # wider by 4 around a centre that is 20 lower
    after = before + np.array([-2.0, 20.0, 4.0, 0.0])
    found = next_steps(steps, before, after, np.array([False, True]))
    np.testing.assert_allclose(found, [[3.0, 14.0], [5.0, 0.0]])


def test_a_tracker_follows_what_would_leave_a_crop_around_the_last_box():
    # the crop reaches 40 pixels to the left: steps of 15, 25, 35, 45 pixels
    left = np.cumsum([0, 15, 25, 35, 45])
    frames = []
    for shift in left:
        rgb, tir = (np.full((120, 400, *axes), 40, np.uint8) for axes in ((3,), ()))
        x = 330 - int(shift)
        rgb[50:66, x : x + 24] = 250
        tir[50:66, x : x + 24] = 250
        frames.append((rgb, tir))
    start = (330.0, 50.0, 24.0, 16.0)
    still = list(Tracker(BrightSpot()).track(frames, start))
    moving = list(Tracker(BrightSpot(), look_ahead=1.0).track(frames, start))
    assert moving[-1].box_xywh_px[0] == pytest.approx(330 - left[-1], abs=2)
    assert abs(still[-1].box_xywh_px[0] - (330 - left[-1])) > 12


def test_without_the_setting_nothing_moves_ahead():
    frames = scene(6, step=(10, 0))
    found = [
        np.stack(
            [result.box_xywh_px for result in Tracker(BrightSpot(), **given).track(frames, BOX)]
        )
        for given in ({}, {"look_ahead": 0.0})
    ]
    np.testing.assert_array_equal(*found)


def test_two_targets_are_each_followed_along_their_own_motion():
    frames = scene(6, step=(10, 0))
    starts = [BOX, (76.0, 46.0, 20.0, 30.0)]
    together = list(Tracker(BrightSpot(), look_ahead=1.0).track(frames, starts))
    for number, start in enumerate(starts):
        alone = list(Tracker(BrightSpot(), look_ahead=1.0).track(frames, start))
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(one.box_xywh_px, many.box_xywh_px[number], atol=1e-9)

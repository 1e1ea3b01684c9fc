"""A film's picture: whose boxes are on it, and that drawing leaves the tracker where it was."""

import numpy as np
import pytest
import torch

from rgbt_fusion import Tracker
from rgbt_fusion.frames.types import GroundTruth
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.video.overlay import COLOURS, TRUTH_COLOUR
from rgbt_fusion.video.result_picture import draw_result
from rgbt_fusion.weights.pretrained import create_model
from tracking_material import BOX, scene
from video_material import cv2


@pytest.fixture(autouse=True)
def opencv():
    cv2()


def shows(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture[26:] == colour).all(-1).sum() > 50)


def test_each_box_has_its_colour():
    frame, tracker = [plane // 2 for plane in scene(1)[0]], NCCTracker()
    result = tracker.init(*frame, BOX)
    boxes = np.array([[20.0, 20, 30, 30]])
    truth = GroundTruth(boxes + 60, boxes + 60, np.array([0]))
    drawn = {
        "alone": draw_result(tracker, frame, result),
        "with all": draw_result(tracker, frame, result, tracks={"other": boxes}, truth=truth),
        "later": draw_result(
            tracker, frame, result._replace(frame=1), tracks={"other": boxes}, truth=truth
        ),
    }
    seen = {
        name: [shows(picture, ink) for ink in (*COLOURS[:2], TRUTH_COLOUR)]
        for name, picture in drawn.items()
    }
    assert seen == {
        "alone": [True, False, False],
        "with all": [True, True, True],
        "later": [True, False, False],
    }


def test_others_do_not_share_the_colours_of_several_targets():
    frame, tracker = scene(1)[0], NCCTracker()
    result = tracker.init(*frame, [BOX, (10, 10, 30, 30)])
    picture = draw_result(tracker, frame, result, tracks={"other": np.array([[100.0, 80, 30, 30]])})
    assert all(shows(picture, ink) for ink in COLOURS[:3])


def test_several_targets_have_numbers_and_one_has_none():
    frame, tracker = [plane // 2 for plane in scene(1)[0]], NCCTracker()
    boxes = [(20.0, 30.0, 60.0, 50.0), (0.0, 0.0, 60.0, 50.0)]

    def number_pixels(result, box, colour) -> int:
        """Pixels in a target's colour above its box, where its number stands, in both panels."""
        left, top = (round(2 * side) for side in box[:2])
        drawn = (draw_result(tracker, frame, result)[26:] == colour).all(-1)
        above = drawn[max(top - 22, 0) : max(top - 3, 12)]
        rgb = above[:, left + 3 : left + 14].sum()
        tir = above[:, 320 + left + 3 : 320 + left + 14].sum()
        return min(rgb, tir)

    both = tracker.init(*frame, boxes)
    assert number_pixels(both, boxes[0], COLOURS[0]) > 3
    # a number at the border is moved into the picture
    assert number_pixels(both, boxes[1], COLOURS[1]) > 3
    alone = tracker.init(*frame, boxes[0])
    assert number_pixels(alone, boxes[0], COLOURS[0]) == 0


def test_panels_are_below_and_the_tracker_goes_on_as_before():
    torch.manual_seed(0)
    frames, tracker = scene(3), Tracker(create_model("tpmri_tiny_128", depth=2))
    plain = [result.box_xywh_px for result in tracker.track(frames, BOX)]
    found = []
    for frame, result in zip(frames, tracker.track(frames, BOX), strict=True):
        found.append(result.box_xywh_px)
        picture = draw_result(tracker, frame, result, debug=True)
        assert picture.shape == (2 * 266 + 182, 1280, 3)
        assert picture[-160:].any()
    assert np.array_equal(found, plain)


def test_a_picture_is_as_wide_as_many_panels():
    torch.manual_seed(0)
    frame = scene(1)[0]
    tracker = Tracker(create_model("ainet_tiny_128", depth=2, reliability=[1]))
    result = tracker.init(*frame, BOX)
    # twelve panels below 640 pixels: three times as large
    assert draw_result(tracker, frame, result).shape == (266, 640, 3)
    assert draw_result(tracker, frame, result, debug=True).shape == (3 * 266 + 182, 3 * 640, 3)


def test_a_tall_picture_is_not_enlarged_beyond_a_screen():
    torch.manual_seed(0)
    frame = [np.repeat(plane, 4, axis=0) for plane in scene(1)[0]]
    tracker = Tracker(create_model("ainet_tiny_128", depth=2))
    result = tracker.init(*frame, BOX)
    assert draw_result(tracker, frame, result).shape == (506, 320, 3)
    assert draw_result(tracker, frame, result, debug=True).shape == (2 * 506 + 182, 1440, 3)


def test_a_tracker_without_a_network_has_no_panels():
    tracker = NCCTracker()
    result = tracker.init(*scene(1)[0], BOX)
    with pytest.raises(
        TypeError, match="tracker must be a Tracker for debug panels, got NCCTracker"
    ):
        draw_result(tracker, scene(1)[0], result, debug=True)

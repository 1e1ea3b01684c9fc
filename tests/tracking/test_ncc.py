"""Correlation against OpenCV's and against the formula; the tracker on what moves, and on the
recorded sequences."""

import numpy as np
import pytest
import torch

from rgbt_fusion import ShapeError
from rgbt_fusion.data.sequences import open_sequence
from rgbt_fusion.evaluation.metrics import overlap
from rgbt_fusion.tracking.ncc import NCCTracker, correlation
from shared_material import shared
from tracking_material import BOX, scene


def test_correlation_is_that_of_the_formula():
    generator = torch.Generator().manual_seed(0)
    template, search = (
        torch.rand(size, generator=generator, dtype=torch.float64) * 255
        for size in ((4, 5), (9, 12))
    )
    found = correlation(template, search)
    assert found.shape == (6, 8)
    for y in range(6):
        for x in range(8):
            window = search[y : y + 4, x : x + 5]
            expected = torch.corrcoef(torch.stack((template.flatten(), window.flatten())))[0, 1]
            assert abs(found[y, x] - expected) < 1e-12


def test_correlation_is_that_of_opencv():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    search = np.random.default_rng(0).integers(0, 255, (90, 131)).astype(np.float32)
    template = search[20:50, 40:77].copy()
    expected = cv2.matchTemplate(search, template, cv2.TM_CCOEFF_NORMED)
    np.testing.assert_allclose(
        correlation(torch.tensor(template), torch.tensor(search)), expected, atol=1e-5
    )


def test_what_has_no_contrast_correlates_with_nothing():
    flat, textured = torch.full((4, 4), 7.3), torch.rand(10, 10)
    assert correlation(flat, textured).abs().max() == 0
    assert correlation(textured[:4, :4], torch.full((10, 10), 7.3)).abs().max() == 0
    with pytest.raises(
        ShapeError, match=r"template must be at most as large as search \(4, 4\), got \(10, 10\)"
    ):
        correlation(textured, flat)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("without", ["", "rgb", "tir"])
def test_a_block_is_followed(dtype, without):
    # wider than the block, so that there is something to see in the template
    start = (BOX[0] - 4, BOX[1] - 4, BOX[2] + 8, BOX[3] + 8)
    frames = [
        (None if without == "rgb" else rgb, None if without == "tir" else tir)
        for rgb, tir in scene(8, dtype=dtype)
    ]
    results = list(NCCTracker().track(frames, start))
    expected = [(start[0] + 3 * k, start[1] - 2 * k, *start[2:]) for k in range(8)]
    np.testing.assert_array_equal([result.box_xywh_px for result in results], expected)
    assert min(result.confidence for result in results) > 0.9


def test_fractions_of_a_pixel_and_parts_outside_stay():
    frames = scene(3, step=(2, 1))
    tracker = NCCTracker()
    tracker.init(*frames[0], [(65.4, 45.7, 30.2, 24.6), (-10.5, -8.0, 40.0, 30.0)])
    inside, over_the_edge = tracker.update(*frames[1]).box_xywh_px
    np.testing.assert_allclose(inside, (67.4, 46.7, 30.2, 24.6))
    # the background does not move
    np.testing.assert_allclose(over_the_edge, (-10.5, -8.0, 40.0, 30.0))


@pytest.mark.parametrize(("step", "reached"), [(38, True), (42, False)])
def test_the_search_reaches_half_a_factor_of_the_side_beyond_the_target(step, reached):
    """A target of 40 x 10 has a side of 20; at a factor of 6 the square is 120 wide, of which the
    target leaves 40 on either side."""
    ground = np.random.default_rng(0).integers(20, 60, (60, 200), dtype=np.uint8)
    target = np.random.default_rng(1).integers(0, 255, (10, 40), dtype=np.uint8)
    frames = []
    for left in (20, 20 + step):
        tir = ground.copy()
        tir[25:35, left : left + 40] = target
        frames.append(tir)
    tracker = NCCTracker(search_factor=6)
    tracker.init(None, frames[0], (20, 25, 40, 10))
    found = tracker.update(None, frames[1]).box_xywh_px
    assert np.array_equal(found, (20 + step, 25, 40, 10)) is reached


def test_a_search_that_reaches_no_further_than_the_target_keeps_it_there():
    frames = scene(2, step=(1, 0))
    tracker = NCCTracker(search_factor=1)
    tracker.init(*frames[0], (65, 45, 30, 30))
    assert tracker.update(*frames[1]).box_xywh_px.tolist() == [65, 45, 30, 30]


def test_the_template_is_the_part_of_the_box_inside_the_frame():
    rgb, tir = scene(1)[0]
    tracker = NCCTracker()
    # over the left and the upper edge, and over the right and the lower one
    tracker.init(rgb, tir, [(-10, -8, 40, 30), (140, 100, 40, 30)])
    assert tracker.state.corners.tolist() == [[0, 0], [140, 100]]
    shapes = [tuple(template.tir.shape) for template in tracker.state.templates]
    assert shapes == [(22, 30), (20, 20)]


def test_a_template_as_large_as_the_frame_fits_in_one_place():
    rgb, tir = scene(1)[0]
    whole = (0, 0, rgb.shape[1], rgb.shape[0])
    tracker = NCCTracker()
    tracker.init(rgb, tir, whole)
    result = tracker.update(rgb, tir)
    assert result.box_xywh_px.tolist() == list(whole)
    assert result.confidence == pytest.approx(1)


def test_colours_are_compared_as_luminance():
    """By the weights of ITU-R BT.601; a thermal image of three channels by its first."""
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    picture = colours.repeat(4, axis=0)
    tracker = NCCTracker()
    tracker.init(picture, picture[:, :, :1], (0, 0, 4, 4))
    (template,) = tracker.state.templates
    expected = torch.tensor([0.299, 0.587, 0.114, 1.0]) * 255
    torch.testing.assert_close(template.rgb, expected.expand(4, 4))
    assert template.tir.tolist() == [[255, 0, 0, 255]] * 4


def test_nothing_to_see_keeps_the_box():
    frames = scene(3)
    tracker = NCCTracker()
    tracker.init(*frames[0], BOX)
    moved = tracker.update(*frames[1]).box_xywh_px
    blank = np.zeros_like(frames[0][0])
    for frame in ((None, None), (blank, blank[:, :, 0])):
        result = tracker.update(*frame)
        assert np.array_equal(result.box_xywh_px, moved)
        assert (result.confidence, result.lost) == (0.0, True)
    assert tracker.update(*frames[2]).frame == 4


def test_a_state_is_put_back():
    frames, tracker = scene(4), NCCTracker()
    tracker.init(*frames[0], BOX)
    tracker.update(*frames[1])
    kept = tracker.state
    first = tracker.update(*frames[2]).box_xywh_px
    tracker.state = kept
    assert np.array_equal(tracker.update(*frames[2]).box_xywh_px, first)


def test_errors_say_what_was_wrong():
    rgb, tir = scene(1)[0]
    with pytest.raises(RuntimeError, match="call init with the first frame"):
        NCCTracker().update(rgb, tir)
    with pytest.raises(ValueError, match="box_xywh_px must lie in the frame of 160 x 120"):
        NCCTracker().init(rgb, tir, (300, 10, 20, 20))
    # a part of a pixel inside of it is none
    for box in ((159.7, 10, 20, 20), (10, 119.7, 20, 20), (-19.7, 10, 20, 20), (10, -19.7, 20, 20)):
        with pytest.raises(ValueError, match="box_xywh_px must lie in the frame of 160 x 120"):
            NCCTracker().init(rgb, tir, box)
    with pytest.raises(ShapeError, match="tir must have the height and width of rgb"):
        NCCTracker().init(rgb, tir[:-1], BOX)
    for wrong in ({"search_factor": 0.99}, {"lost_threshold": -0.01}, {"lost_threshold": 1.01}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a finite number in"):
            NCCTracker(**wrong)


def test_settings_at_their_limits_are_taken():
    for at_limit in ({"search_factor": 1}, {"lost_threshold": 0}, {"lost_threshold": 1}):
        NCCTracker(**at_limit)


RECORDED = {"tno_nato_a": 0.729, "tno_tree": 0.786, "pan_cyclist": 0.694, "paste_ped_dark": 0.835}


@pytest.mark.parametrize("name", RECORDED)
def test_real_sequences_score_as_recorded(name):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    sequence = open_sequence(shared(f"data/sequences/{name}"), "rgbt234")
    assert sequence.truth is not None
    found = np.array([result.box_xywh_px for result in NCCTracker().track(sequence)])
    overlaps = overlap(found, sequence.truth.rgb, inclusive=False)
    success = np.mean([(overlaps > threshold).mean() for threshold in np.linspace(0, 1, 21)])
    assert success == pytest.approx(RECORDED[name], abs=0.0006)

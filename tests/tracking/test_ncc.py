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
    with pytest.raises(ShapeError, match="tir must have the height and width of rgb"):
        NCCTracker().init(rgb, tir[:-1], BOX)
    with pytest.raises(ValueError, match="search_factor must be"):
        NCCTracker(search_factor=0)


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

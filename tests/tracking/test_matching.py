"""Boxes that move to what looks most like the target, by hand and in a tracker."""

import numpy as np
import pytest
import torch

from rgbt_fusion import Tracker
from rgbt_fusion.models.tracking_settings import TrackingSettings
from rgbt_fusion.tracking.matching import View, first_patterns, match
from rgbt_fusion.tracking.ncc import Planes
from tracking_material import BOX, BrightSpot, scene

CORNER = (30.0, 10.0)
SCALE = 2.0
TRUE_BOX = np.array([50.25, 24.5, 12.0, 18.0])


def textured(shift_px: tuple[float, float] = (0.0, 0.0), *, seed: int = 0) -> torch.Tensor:
    """A smooth texture, 128 x 128, that moves by a shift in pixels of the crop."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:128, :128].astype(np.float64)
    plane = np.zeros((128, 128))
    for _ in range(30):
        across, down, phase = random.uniform((-0.6, -0.6, 0), (0.6, 0.6, 6.28))
        plane += np.cos(across * (columns - shift_px[0]) + down * (rows - shift_px[1]) + phase)
    return torch.from_numpy(plane.astype(np.float32))


def view(rgb: torch.Tensor | None, tir: torch.Tensor | None) -> View:
    return View(Planes(rgb, tir), CORNER, SCALE)


KNOWN = first_patterns(view(textured(), textured(seed=1)), TRUE_BOX)


def test_a_box_is_cut_with_a_little_around_it():
    rgb, tir = KNOWN
    assert rgb.shape == tir.shape == (round(1.1 * 36), round(1.1 * 24))
    # the box has its centre at (52.5, 47) in the crop: a pixel has its own half a pixel on
    plane = textured()
    assert float(rgb[20, 13]) == pytest.approx(float(plane[47, 52:54].mean()), abs=0.3)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (-1.4, 2.7)])
def test_a_box_that_is_off_moves_to_the_target(shift):
    seen = view(textured(shift), textured(shift, seed=1))
    true = TRUE_BOX[:2] + np.divide(shift, SCALE)
    box, _ = match(seen, TRUE_BOX, KNOWN, share=1.0)
    np.testing.assert_allclose(box[:2], true, atol=0.3)
    np.testing.assert_array_equal(box[2:], TRUE_BOX[2:])


def test_a_share_goes_part_of_the_way():
    seen = view(textured((4.0, 0.0)), None)
    whole, _ = match(seen, TRUE_BOX, KNOWN, share=1.0)
    half, _ = match(seen, TRUE_BOX, KNOWN, share=0.5)
    np.testing.assert_allclose(half - TRUE_BOX, (whole - TRUE_BOX) / 2)


def test_a_place_beyond_the_reach_is_not_gone_to():
    far = view(textured((20.0, 0.0)), None)
    box, _ = match(far, TRUE_BOX, KNOWN, share=1.0)
    assert np.abs((box - TRUE_BOX)[:2] / TRUE_BOX[2:]).max() <= 0.3


def test_what_looks_like_nothing_known_moves_and_teaches_nothing():
    other = view(textured(seed=5), textured(seed=6))
    box, patterns = match(other, TRUE_BOX, KNOWN, share=1.0)
    assert box is TRUE_BOX
    assert patterns is KNOWN


def test_the_modality_that_still_sees_decides():
    blind = torch.zeros(128, 128)
    shift = (-3.0, 2.0)
    true = TRUE_BOX[:2] + np.divide(shift, SCALE)
    for rgb in (blind, None):
        seen = view(rgb, textured(shift, seed=1))
        box, patterns = match(seen, TRUE_BOX, KNOWN, share=1.0)
        np.testing.assert_allclose(box[:2], true, atol=0.3)
        # a modality that is not there leaves what is known of it
        assert (patterns[0] is KNOWN[0]) == (rgb is None)


def test_a_modality_that_comes_later_is_learned_where_the_box_is():
    alone = first_patterns(view(textured(), None), TRUE_BOX)
    assert alone[1] is None
    _, (_, tir) = match(view(textured(), textured(seed=1)), TRUE_BOX, alone, share=1.0)
    np.testing.assert_allclose(tir, KNOWN[1], atol=0.1)


def test_a_flat_pattern_is_like_nothing():
    flat = view(torch.ones(128, 128), None)
    patterns = first_patterns(flat, TRUE_BOX)
    box, _ = match(view(textured(), None), TRUE_BOX, patterns, share=1.0)
    np.testing.assert_array_equal(box, TRUE_BOX)


def test_a_pattern_is_renewed_by_a_tenth():
    brighter = view(2 * textured() + 1, textured(seed=1))
    _, (rgb, tir) = match(brighter, TRUE_BOX, KNOWN, share=1.0)
    np.testing.assert_allclose(rgb, 0.9 * KNOWN[0] + 0.1 * (2 * KNOWN[0] + 1), atol=0.1)
    np.testing.assert_allclose(tir, KNOWN[1], atol=0.1)


def test_targets_at_the_border_and_of_a_pixel_are_cut():
    for box in ([28.0, 8.0, 12.0, 18.0], [50.0, 24.0, 0.5, 0.5], [93.0, 73.0, 30.0, 30.0]):
        start = np.array(box)
        seen = view(textured(), None)
        found, _ = match(seen, start, first_patterns(seen, start), share=1.0)
        np.testing.assert_allclose(found, start, atol=0.1)


class Careless(BrightSpot):
    """The bright spot, with boxes that are three pixels of the crop too far right."""

    tracking_settings = TrackingSettings(match_weight=1.0)

    def __call__(self, template, search, state=None):
        out = super().__call__(template, search, state)
        return out._replace(offset_map=out.offset_map + torch.tensor([0.4, 0.0]).view(1, 2, 1, 1))


def errors(tracker: Tracker, frames: list[tuple]) -> np.ndarray:
    """Return how far the boxes are right of the bright block, in pixels."""
    left = np.array([result.box_xywh_px[0] for result in tracker.track(frames, BOX)])
    return left - (BOX[0] + 3 * np.arange(len(frames)))


def test_a_tracker_puts_careless_boxes_right():
    frames = scene(5)
    careless = errors(Tracker(Careless(), match_weight=0.0), frames)
    put_right = errors(Tracker(Careless()), frames)
    assert (np.abs(careless[1:]) > 1.5).all()
    assert (np.abs(put_right[1:]) < 1.0).all()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_tracker_matches_the_modality_that_is_there(missing):
    frames = [tuple(None if k == missing else x for k, x in enumerate(pair)) for pair in scene(5)]
    for policy in ("zeros", "other", "last"):
        found = errors(Tracker(Careless(), missing=policy), frames)
        assert (np.abs(found[1:]) < 1.0).all()


def test_a_lost_target_is_not_matched():
    tracker = Tracker(Careless(score=0.3), lost_threshold=0.4)
    frames = scene(3)
    unmatched = errors(Tracker(Careless(score=0.3), match_weight=0.0), frames)
    np.testing.assert_array_equal(errors(tracker, frames), unmatched)
    tracker.init(*frames[0], BOX)
    before = tracker.state.patterns
    tracker.update(*frames[1])
    assert tracker.state.patterns == before


def test_a_batch_is_as_many_single_trackers():
    starts = [BOX, (66.0, 46.0, 40.0, 30.0)]
    together = list(Tracker(Careless()).track(scene(5), starts))
    for number, start in enumerate(starts):
        alone = list(Tracker(Careless()).track(scene(5), start))
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(one.box_xywh_px, many.box_xywh_px[number], atol=1e-9)

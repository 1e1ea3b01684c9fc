"""Boxes that hold, computed by hand, and in a tracker: state, batches, graphs, the network's own
settings."""

from unittest import mock

import numpy as np
import pytest
import torch

from rgbt_fusion import Tracker
from rgbt_fusion.models.tracking_settings import ConfidenceMap, TrackingSettings
from rgbt_fusion.tracking import graph as graphs
from rgbt_fusion.tracking import tracker as tracker_module
from rgbt_fusion.tracking.settle import are_lost, first_size_errors, settle
from tracking_material import BOX, BrightSpot, scene

SIZE = (240, 320)
BEFORE = np.array([[100.0, 80.0, 20.0, 40.0]])
SURE = np.ones(1)


def settled(found, settings, **options) -> list[float]:
    boxes = settle(np.array([found]), SURE, BEFORE, settings, image_size=SIZE, **options)
    return boxes[0].tolist()


def test_without_settings_the_box_is_what_the_network_says():
    found = (97.3, 81.7, 31.9, 22.2)
    assert settled(found, TrackingSettings()) == pytest.approx(found, abs=1e-12)


def test_boxes_are_clipped_as_ostrack_clips_them():
    boxes = settled((-30.0, 230.0, 35.0, 40.0), TrackingSettings())
    assert boxes == [0.0, 230.0, 10.0, 10.0]


def test_a_target_may_be_smaller_than_ostracks_smallest_box():
    assert settled((100.0, 80.0, 6.0, 4.0), TrackingSettings()) == [100.0, 80.0, 10.0, 10.0]
    small = settled((100.0, 80.0, 6.0, 4.0), TrackingSettings(smallest_px=3.0))
    assert small == [100.0, 80.0, 6.0, 4.0]


def test_size_and_aspect_move_a_share_of_the_way_around_the_new_centre():
    # the root of the area goes from 28.28 to 56.57 and the aspect from 1 / 2 to 2, or half way
    found = (100.0, 80.0, 80.0, 40.0)
    slow = settled(found, TrackingSettings(size_inertia=0.5))
    assert slow[2] * slow[3] == pytest.approx(1600)
    assert slow[2] / slow[3] == pytest.approx(2)
    stiff = settled(found, TrackingSettings(aspect_inertia=0.5))
    assert stiff == pytest.approx([140 - 3200**0.5 / 2, 100 - 3200**0.5 / 2, *[3200**0.5] * 2])
    both = settled(found, TrackingSettings(size_inertia=0.5, aspect_inertia=0.5))
    assert both == pytest.approx([120.0, 80.0, 40.0, 40.0])


def test_a_size_changes_by_a_factor_in_a_frame():
    wide = settled((100.0, 80.0, 80.0, 10.0), TrackingSettings(size_growth=1.25))
    assert wide == pytest.approx([140 - 12.5, 85 - 16.0, 25.0, 32.0])


def test_the_error_of_the_first_size_is_taken_off_later_ones():
    # a quarter too wide and half as high in the first frame
    errors = first_size_errors(BEFORE, np.array([[0.0, 0.0, 25.0, 20.0]]))
    found = (100.0, 80.0, 50.0, 30.0)
    whole = settled(found, TrackingSettings(size_correction=1), size_errors=errors)
    assert whole == pytest.approx([105.0, 65.0, 40.0, 60.0])
    part = settled(found, TrackingSettings(size_correction=0.5), size_errors=errors)
    assert part[2:] == pytest.approx([50 / 1.25**0.5, 30 * 2**0.5])
    assert settled(found, TrackingSettings(size_correction=1)) == pytest.approx(found)


def test_a_network_that_sees_no_size_leaves_a_box():
    boxes = settled((100.0, 80.0, -3.0, 0.0), TrackingSettings(size_inertia=0.9))
    assert np.isfinite(boxes).all()
    assert min(boxes[2:]) > 10


def test_an_unsure_box_stays_while_the_others_go_on():
    settings = TrackingSettings(hold_below=0.5, lost_threshold=0.9)
    before = np.repeat(BEFORE, 2, axis=0)
    found = np.repeat([[130.0, 90.0, 60.0, 60.0]], 2, axis=0)
    boxes = settle(found, np.array([0.4, 0.6]), before, settings, image_size=SIZE)
    assert boxes.tolist() == [before[0].tolist(), found[1].tolist()]


HOLDING = TrackingSettings(
    size_inertia=0.7,
    size_correction=0.5,
    size_growth=1.1,
    smallest_px=4.0,
    aspect_inertia=0.9,
    hold_below=0.2,
    look_ahead=1.0,
    match_weight=0.9,
    found_threshold=0.5,
)


class Settled(BrightSpot):
    """The bright spot with settings of its own."""

    tracking_settings = HOLDING


def test_a_tracker_takes_the_settings_of_its_network_where_none_are_given():
    assert Tracker(Settled()).settings == HOLDING
    given = Tracker(Settled(), size_inertia=0.2, hold_below=0.0, lost_threshold=0.4)
    assert given.settings == HOLDING.chosen(size_inertia=0.2, hold_below=0.0, lost_threshold=0.4)
    assert Tracker(BrightSpot()).settings == TrackingSettings()
    with pytest.raises(ValueError, match="size_growth must be a number of at least 1, got 0"):
        Tracker(BrightSpot(), size_growth=0)


def test_a_wrong_first_width_is_left_slowly_only_with_inertia():
    wide = (BOX[0] - 12, BOX[1], 48.0, BOX[3])
    free = [result.box_xywh_px[2] for result in Tracker(BrightSpot()).track(scene(4), wide)]
    half = {"size_inertia": 0.5, "aspect_inertia": 0.5}
    held = [result.box_xywh_px[2] for result in Tracker(BrightSpot(), **half).track(scene(4), wide)]
    assert free[1] == pytest.approx(24, abs=1)
    assert held[1:] == pytest.approx([48 * 2**-0.5, 48 * 2**-0.75, 48 * 2**-0.875], abs=1)


def test_a_tracker_learns_the_error_of_its_network_at_the_first_frame():
    class Wide(BrightSpot):
        def __call__(self, template, search, state=None):
            out = super().__call__(template, search, state)
            return out._replace(size_map=out.size_map * torch.tensor([1.5, 0.8]).view(1, 2, 1, 1))

    network = Wide()
    tracker = Tracker(network, size_correction=1.0)
    results = list(tracker.track(scene(3), BOX))
    np.testing.assert_allclose(results[-1].box_xywh_px[2:], BOX[2:], atol=1)
    assert tracker.state.memory == 2  # the first look is not remembered
    free = list(Tracker(Wide()).track(scene(3), BOX))
    assert free[-1].box_xywh_px[2] == pytest.approx(36, abs=1.5)


def test_a_lost_target_neither_grows_nor_wanders():
    tracker = Tracker(BrightSpot(score=0.3), hold_below=0.4, lost_threshold=0.4)
    results = list(tracker.track(scene(4), BOX))
    assert all(result.lost for result in results[1:])
    assert all(tuple(result.box_xywh_px) == BOX for result in results)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lost_threshold": 0.3}, [False, True, False, False, False, True, False]),
        (
            {"lost_threshold": 0.3, "found_threshold": 0.8},
            [False, True, True, True, False, True, True],
        ),
    ],
)
def test_a_lost_target_is_found_again_from_a_confidence_of_its_own(settings, expected):
    model = BrightSpot()
    tracker = Tracker(model, **settings)
    frames = scene(1) * (len(expected) + 1)
    tracker.init(*frames[0], BOX)
    lost = []
    for score in (0.5, 0.1, 0.5, 0.79, 0.81, 0.29, 0.5):
        model.score = score
        lost.append(tracker.update(*frames[0]).lost)
    assert lost == expected


def test_a_threshold_that_could_do_nothing_is_refused():
    with pytest.raises(ValueError, match=r"must be 0 or at least lost_threshold, 0\.25, got 0\.2"):
        Tracker(BrightSpot(), found_threshold=0.2)
    with pytest.raises(ValueError, match=r"must be 0 or at least lost_threshold, 0\.4, got 0\.3"):
        Tracker(BrightSpot(), found_threshold=0.3, lost_threshold=0.4)
    # the network's own one gives way to what a user asks of lost
    own = Tracker(Settled(), lost_threshold=0.7)
    assert own.settings.found_threshold == 0.5


def test_each_target_of_a_batch_is_lost_for_itself():
    settings = TrackingSettings(lost_threshold=0.3, found_threshold=0.8)
    lost = are_lost(np.array([0.5, 0.5, 0.2]), np.array([True, False, False]), settings)
    assert lost.tolist() == [True, False, True]


def test_a_target_is_lost_where_both_modalities_are_missing():
    tracker = Tracker(BrightSpot(), lost_threshold=0.3, found_threshold=0.9)
    tracker.init(*scene(1)[0], BOX)
    assert tracker.update(None, None).lost
    assert tracker.update(*scene(2)[1]).lost  # the score is 0.8


def test_the_confidence_is_mapped_and_the_score_stays():
    class Sure(BrightSpot):
        tracking_settings = TrackingSettings(
            lost_threshold=0.9, confidence=ConfidenceMap(offset=0.0, slope=2.0, rival_slope=1.0)
        )

    result = list(Tracker(Sure(score=0.8)).track(scene(2), BOX))[-1]
    assert result.score == pytest.approx(0.8)
    # the other cells of the bright spot have 0.01
    assert result.confidence == pytest.approx(16 * 99 / (16 * 99 + 1))
    assert not result.lost
    nothing = Tracker(Sure())
    nothing.init(*scene(1)[0], BOX)
    result = nothing.update(None, None)
    assert (result.confidence, result.score, result.lost) == (0.0, 0.0, True)


def test_a_batch_is_as_many_single_trackers():
    starts = [BOX, (66.0, 46.0, 40.0, 30.0), (75.0, 40.0, 12.0, 40.0)]
    together = list(Tracker(Settled()).track(scene(5), starts))
    for number, start in enumerate(starts):
        alone = list(Tracker(Settled()).track(scene(5), start))
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(one.box_xywh_px, many.box_xywh_px[number], atol=1e-9)
            assert one.score == pytest.approx(many.score[number])


def test_a_state_that_is_put_back_goes_on_as_before(tmp_path):
    frames = scene(6)
    tracker = Tracker(Settled())
    tracker.init(*frames[0], (66.0, 46.0, 40.0, 30.0))
    tracker.update(*frames[1])
    tracker.update(*frames[2])
    torch.save(tracker.state, tmp_path / "state.pt")
    expected = [tracker.update(*frame).box_xywh_px for frame in frames[3:]]
    another = Tracker(Settled())
    another.state = torch.load(tmp_path / "state.pt", weights_only=False)
    found = [another.update(*frame).box_xywh_px for frame in frames[3:]]
    np.testing.assert_array_equal(found, expected)


def test_a_state_of_an_earlier_version_goes_on_from_its_boxes():
    tracker = Tracker(Settled())
    tracker.init(*scene(1)[0], BOX)
    for later in ("size_errors", "steps", "patterns", "lost"):
        del tracker.state.__dict__[later]
    result = tracker.update(*scene(2)[1])
    assert np.isfinite(result.box_xywh_px).all()


def test_frames_as_graphs_go_through_the_same_code(frames_as_graphs):
    model = frames_as_graphs
    frames = scene(6)
    found = [
        np.stack([result.box_xywh_px for result in Tracker(model, graph=graph).track(frames, BOX)])
        for graph in (False, True)
    ]
    np.testing.assert_allclose(*found, atol=1e-2)
    assert np.abs(np.log(found[1][1:, 2:] / found[1][:-1, 2:])).max() <= np.log(1.1) + 1e-9


@pytest.fixture
def frames_as_graphs():
    """A network of the package whose frames are graphs without a card."""
    from rgbt_fusion import create_model

    torch.manual_seed(0)
    model = create_model("ostrack_tiny_128", depth=1)
    model.tracking_settings = HOLDING.chosen(lost_threshold=0.0)
    with (
        mock.patch.object(tracker_module, "why_no_graph", lambda device: ""),
        mock.patch.object(graphs, "capture", lambda body: body),
    ):
        yield model

"""Sequences to choose by, and what is fitted on them."""

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.tracking.measure import Followed, logistic_fit, lost_thresholds, worth
from benchmarks.tracking.worlds import GROUPS, scenes
from rgbt_fusion import create_model, load_model, save_checkpoint
from rgbt_fusion.models.tracking_settings import ConfidenceMap


def followed(scores, overlaps, lost) -> Followed:
    scores = np.array(scores)
    present = np.array(overlaps) >= 0
    return Followed(
        group="made",
        scores=scores,
        rivals=np.full_like(scores, 0.5),
        confidences=scores,
        overlaps=np.maximum(overlaps, 0),
        present=present,
        lost=np.array(lost),
    )


def test_a_target_that_leaves_is_absent_and_comes_back():
    (scene,) = scenes("absent", count=1, frames=24)
    present = scene.truth.present
    assert present is not None
    assert present[0]
    assert not present.all()
    away = list(scene.away)
    assert np.flatnonzero(~present).tolist() == [number for number in away if number < 24]
    with_target, without = scene.sequence[away[0]], list(scene)[away[0]]
    x, y, width, height = scene.truth.rgb[away[0]].astype(int)
    assert with_target.rgb is not None
    assert without.rgb is not None
    changed = (with_target.rgb != without.rgb).any(axis=2)
    assert changed[y : y + height, x : x + width].mean() > 0.2
    assert changed.mean() < 0.3


def test_every_third_frame_is_three_times_as_fast():
    (fast,) = scenes("fast", count=1, frames=4)
    assert len(list(fast)) == len(fast.truth.frames) == 4
    assert fast.truth.rgb[3].tolist() == fast.sequence.truth.rgb[9].tolist()


def test_all_sequences_have_seeds_and_names_of_their_own():
    every = [one for group in GROUPS for one in scenes(group, count=3, frames=1)]
    assert len({one.sequence.seed for one in every}) == len({one.name for one in every}) == 15


def test_a_perfect_order_keeps_a_finite_slope():
    scores = [0.1, 0.2, 0.8, 0.9]
    fitted = logistic_fit(scores, [0.5] * 4, [False, False, True, True])
    assert 1 < fitted.slope < 100
    assert fitted.rival_slope == 0


def test_a_rival_that_helps_is_not_counted():
    random = np.random.default_rng(1)
    scores, rivals = random.random((2, 2000))
    fitted = logistic_fit(scores, rivals, random.random(2000) < scores * 0.5 + rivals * 0.5)
    assert fitted.rival_slope == 0


def test_scores_that_say_the_opposite_are_refused():
    with pytest.raises(ValueError, match="slope must be"):
        logistic_fit([0.1] * 50 + [0.9] * 50, [0.5] * 100, [True] * 50 + [False] * 50)


def test_the_threshold_flags_few_of_the_good_frames():
    scores = np.linspace(0.005, 0.995, 100)
    tracks = [followed(scores, np.ones(100), [False] * 100)]
    same = ConfidenceMap(offset=0.0, slope=1.0)
    assert lost_thresholds(tracks, same) == pytest.approx((0.04, 0.04))


def test_a_lost_target_is_found_again_where_that_flags_more_lost_frames():
    same = ConfidenceMap(offset=0.0, slope=1.0)
    # lost at 0.2, a wrong box at 0.6 for long, found again at 0.9; good frames go down to 0.5
    scores = np.array([0.9] * 20 + [0.5] * 5 + [0.2] + [0.6] * 9 + [0.9] * 20)
    overlaps = np.array([1.0] * 25 + [0.0] * 10 + [1.0] * 20)
    tracks = [followed(scores, overlaps, [False] * len(scores))]
    lost, found = lost_thresholds(tracks, same)
    assert lost == pytest.approx(0.5)
    assert found == pytest.approx(0.61)


def test_worth_by_hand():
    tracks = [followed([0.9, 0.8, 0.2, 0.1], [1.0, 0.6, 0.1, -1], [False, True, True, False])]
    found = worth(tracks)
    # 1 is above 20 of 21 thresholds, 0.6 above 12, 0.1 above 2; the fourth has no target
    assert found.success == pytest.approx((20 + 12 + 2) / 63)
    assert found.ece == pytest.approx((0.1 + 0.2 + 0.2 + 0.1) / 4)
    assert (found.auroc, found.flagged_lost, found.flagged_good) == (1.0, 0.5, 0.5)


def test_the_command_stores_what_it_measured(tmp_path):
    weights, out = tmp_path / "weights.safetensors", tmp_path / "measured.safetensors"
    save_checkpoint(create_model("ainet_tiny_128", pretrained=True), weights)
    options = ["--sequences", "2", "--frames", "9", "--size-inertia", "0.5", "--out", str(out)]
    done = CliRunner().invoke(app, ["settings", str(weights), *options])
    assert done.exit_code == 0, done.output
    stored = load_model(out).tracking_settings
    assert stored is not None
    assert stored.size_inertia == 0.5
    assert stored.confidence is not None
    assert all(group in done.output for group in GROUPS)


def test_a_setting_out_of_range_is_refused_by_its_option(tmp_path):
    weights = tmp_path / "weights.safetensors"
    done = CliRunner().invoke(app, ["settings", str(weights), "--size-inertia", "2"])
    assert str(done.exception).startswith("--size-inertia must be ")

"""Held-out sequences are always the same, shown whole or by half, and scored group by group."""

from functools import partial

import numpy as np
import pytest

from rgbt_fusion.data.sequences import open_dataset
from rgbt_fusion.evaluation.held_out import HARD, SingleModality, held_out_sequences, score_tracker
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.tracking.tracker import Tracker
from rgbt_fusion.weights.pretrained import create_model
from shared_material import shared


def test_more_sequences_begin_with_those_of_fewer():
    few, many = held_out_sequences(sequences=2, frames=5), held_out_sequences(sequences=3, frames=9)
    assert tuple(few) == HARD == ("night", "glare", "thermal_crossover", "misalignment", "missing")
    for challenge in HARD:
        assert [one.name for one in few[challenge]] == [one.name for one in many[challenge][:2]]
        assert few[challenge][0].challenge == challenge
    plans = [one.plan for group in many.values() for one in group]
    assert len({plan.target.x for plan in plans}) == len(plans)
    seen = {SyntheticSequence(seed).plan.place for seed in range(200)}
    assert not seen & {plan.place for plan in plans}


def test_the_wide_world_has_held_out_sequences_of_its_own():
    groups = held_out_sequences(["night"], sequences=2, frames=5, wide=True)
    assert [one.name for one in groups["night"]] == [
        "synthetic_wide_night_1000",
        "synthetic_wide_night_1001",
    ]
    first = held_out_sequences(["night"], sequences=1, frames=5)["night"][0]
    assert groups["night"][0].plan.target != first.plan.target


def test_one_modality_alone():
    sequence = SyntheticSequence(1, frames=4, challenge="misalignment")
    rgb, tir = SingleModality(sequence, "rgb"), SingleModality(sequence, "tir")
    assert [frame.tir for frame in rgb] == [None] * 4
    assert [frame.rgb for frame in tir] == [None] * 4
    assert np.array_equal(rgb[2].rgb, sequence[2].rgb)
    assert np.array_equal(rgb.truth.rgb, sequence.truth.rgb)
    assert np.array_equal(tir.truth.rgb, sequence.truth.tir)
    assert not np.array_equal(tir.truth.rgb, sequence.truth.rgb)
    with pytest.raises(ValueError, match="modality must be one of 'rgb', 'tir', got 'both'"):
        SingleModality(sequence, "both")


class Oracle(NCCTracker):
    """Say what it was started on, for ever."""

    def update(self, rgb, tir):
        return self._result(np.ones(1))


def test_scores_count_the_modality_that_fits():
    groups = held_out_sequences(["misalignment"], sequences=2, frames=1)
    for modality in ("rgb", "tir", "both"):
        scores = score_tracker(Oracle, groups, name="still", modality=modality)
        # the start is the box of the shown modality, which counts as exact
        assert scores.metrics["MSR"] == pytest.approx(20 / 21)
        assert scores.protocol.title == "the held-out synthetic world"
        assert scores.fps


def test_groups_are_scored_alone_and_kept(tmp_path):
    groups = held_out_sequences(["none", "missing"], sequences=1, frames=6)
    calls = []
    settings = {"tracker": "NCC"}
    make = partial(NCCTracker, search_factor=3.0)
    first = score_tracker(
        make, groups, name="NCC", folder=tmp_path, settings=settings, on_progress=calls.append
    )
    assert first.metrics["MSR"] == pytest.approx(
        np.mean([one.metrics["MSR"] for one in first.attributes.values()])
    )
    assert [call.state for call in calls].count("frame") == 12
    calls.clear()
    again = score_tracker(
        make, groups, name="NCC", folder=tmp_path, settings=settings, on_progress=calls.append
    )
    assert again.metrics == first.metrics
    assert {call.state for call in calls} == {"kept"}
    with pytest.raises(DataError, match="made with tracker 'NCC', not 'other'"):
        score_tracker(make, groups, name="NCC", folder=tmp_path, settings={"tracker": "other"})


def test_what_cannot_be_scored_is_refused():
    sequence = SyntheticSequence(1, frames=2)
    with pytest.raises(ValueError, match="each with a name of its own"):
        score_tracker(NCCTracker, {"a": [sequence], "b": [sequence]}, name="NCC")

    class Failing(NCCTracker):
        def update(self, rgb, tir):
            raise ValueError("out of patience")

    with pytest.raises(DataError, match=r"lazy failed on 1 of 1 sequences; .*: out of patience"):
        score_tracker(Failing, {"a": [sequence]}, name="lazy")


def test_a_network_is_tracked_with():
    groups = held_out_sequences(["night"], sequences=1, frames=3)
    scores = score_tracker(
        lambda: Tracker(create_model("ostrack_tiny_128")), groups, name="untrained"
    )
    assert scores.frames == 3
    assert 0 < scores.metrics["MSR"] < 1


def test_template_matching_on_real_sequences():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    found = open_dataset(shared("data/sequences"), "rgbt234").sequences
    groups = {one.name: (one,) for one in found if one.name.startswith("tno")}
    scores = score_tracker(NCCTracker, groups, name="NCC")
    success = {name: one.metrics["MSR"] for name, one in scores.attributes.items()}
    # figures that came with the sequences
    assert success["tno_nato_a"] == pytest.approx(0.729, abs=0.05)
    assert success["tno_tree"] == pytest.approx(0.786, abs=0.05)

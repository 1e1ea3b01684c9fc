"""Validation: the figure is the scorer's own, what it measures is not trained on, and it decides
which weights are kept and when to end."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.test_clips import write_lasher
from one_training import PLAIN_DATA, small_training
from rgbt_fusion.data.clips import DatasetClips, MixedClips
from rgbt_fusion.evaluation.held_out import SingleModality, held_out_sequences, score_tracker
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.tracking.tracker import Tracker
from rgbt_fusion.training import TrainConfig, TrainingError, ValidationConfig, train
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.samples import open_clips
from rgbt_fusion.training.validation import Validation, hold_out, success_of
from rgbt_fusion.weights.checkpoints import load_model
from rgbt_fusion.weights.pretrained import create_model

ALONE = Processes(0, 1)
OFTEN = {"every": 2, "sequences": 2, "frames": 5}


def validated(**changes) -> TrainConfig:
    return small_training(**({"validation": OFTEN} | changes))


def dataset(root, count: int):
    """A dataset of several sequences in LasHeR's layout."""
    for number in range(count):
        one = write_lasher(root / f"part{number}", frames=4)
        (root / f"walk{number}").parent.mkdir(exist_ok=True)
        (one / "walk").rename(root / f"walk{number}")
        one.rmdir()
    return root


def test_the_success_is_that_of_the_evaluation():
    model = create_model("ainet_tiny_128", pretrained=True)
    groups = held_out_sequences(["mixed"], sequences=2, frames=12)
    scores = score_tracker(lambda: Tracker(model), groups, name="tiny")
    ours = [success_of(model, one, frames=12) for one in groups["mixed"]]
    assert np.mean(ours) == pytest.approx(scores.metrics["MSR"], abs=1e-9)
    assert ours[0] != ours[1]


def test_the_first_frames_alone_are_tracked():
    model = create_model("ainet_tiny_128", pretrained=True)
    sequence = SyntheticSequence(3, frames=8, challenge="none", held_out=True)
    asked = []

    class Watched:
        name = sequence.name
        truth = sequence.truth

        def __len__(self):
            return len(sequence)

        def __getitem__(self, index):
            asked.append(index)
            return sequence[index]

    assert success_of(model, Watched(), frames=3) > 0
    assert asked == [0, 1, 2]


def test_what_is_validated_on_is_not_trained_on(tmp_path):
    root = dataset(tmp_path, 4)
    settings = {"validation": OFTEN, "data": {"layout": "lasher", "workers": 0}}
    config = small_training(**settings)
    chosen = []
    for seed in (0, 0, 1, 2, 3):
        clips = open_clips(config, root)
        config = small_training(**settings, seed=seed)
        held = [one.name for one in hold_out(config, clips, root, "lasher")]
        trained = [one.sequence.name for one in clips.sequences]
        assert sorted(held + trained) == ["walk0", "walk1", "walk2", "walk3"]
        drawn = {
            clips.draw(np.random.default_rng(n), length=1, max_gap=9).sequence.sequence.name
            for n in range(20)
        }
        assert drawn == set(trained)
        chosen.append(held)
    assert chosen[0] == chosen[1]
    assert len({tuple(held) for held in chosen}) > 1


def test_both_synthetic_worlds_are_validated_on_as_they_are_trained_on():
    config = validated(data={"wide": 0.5, "workers": 0, "sequences": 4})
    config = replace(config, validation=replace(config.validation, sequences=5))
    found = hold_out(config, open_clips(config, "synthetic"), "synthetic", "synthetic")
    assert [one.wide for one in found] == [False, False, False, True, True]
    assert len({one.name for one in found}) == 5


def test_a_list_says_what_is_validated_on(tmp_path):
    root = dataset(tmp_path / "data", 3)
    names = tmp_path / "names.txt"
    names.write_text("walk1\n")
    config = validated(data={"layout": "lasher", "workers": 0})
    clips = MixedClips([open_clips(config, root), open_clips(validated(), "synthetic")], [1, 1])
    assert [one.name for one in hold_out(config, clips, root, "lasher", names)] == ["walk1"]
    assert isinstance(clips.sources[0], DatasetClips)
    assert [one.sequence.name for one in clips.sources[0].sequences] == ["walk0", "walk2"]


def test_a_modality_is_validated_as_it_is_trained(tmp_path):
    root = dataset(tmp_path, 3)
    config = validated(modality="tir", data={"layout": "lasher", "workers": 0})
    for one in hold_out(config, open_clips(config, root), root, "lasher"):
        assert isinstance(one, SingleModality)
        assert one.modality == "tir"


def test_a_dataset_too_small_to_split_is_refused(tmp_path):
    root = dataset(tmp_path, 2)
    config = validated(data={"layout": "lasher", "workers": 0})
    with pytest.raises(DataError, match=r"must be below the 2 annotated sequences .* got 2"):
        train(config, out=tmp_path / "run", data=root, device="cpu")
    names = tmp_path / "names.txt"
    names.write_text("walk0\nwalk1\n")
    with pytest.raises(DataError, match=r"must hold sequences besides the 2 of the validation"):
        train(config, out=tmp_path / "run", data=root, validation_names=names, device="cpu")
    with pytest.raises(ValueError, match=r"validation_names must come with validation.every"):
        train(small_training(), out=tmp_path / "run", validation_names=names, device="cpu")
    assert not (tmp_path / "run").exists()


def test_the_best_and_the_last_weights_are_kept(tmp_path, monkeypatch):
    figures = [0.3, 0.3, 0.5, 0.5, 0.4, 0.4]
    seen = []

    def measured(model, sequence, **options):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return figures[len(seen) - 1]

    monkeypatch.setattr("rgbt_fusion.training.validation.success_of", measured)
    result = train(validated(steps=6), out=tmp_path, device="cpu")
    assert (result.success, result.best) == (0.5, tmp_path / "best.safetensors")
    assert (tmp_path / "validation.csv").read_text() == "step,success\n2,0.3\n4,0.5\n6,0.4\n"
    best = load_file(tmp_path / "best.safetensors")
    last = load_file(result.model)
    # the average, which is what the training saves, after steps 4 and 6
    for name, value in best.items():
        assert torch.equal(value, seen[2][name]), name
        assert torch.equal(last[name], seen[4][name]), name
    assert not all(torch.equal(best[name], last[name]) for name in best)
    assert load_model(tmp_path / "best.safetensors").settings.dim == 16


def test_a_validation_changes_no_weight(tmp_path):
    with_it = train(validated(steps=4), out=tmp_path / "with", device="cpu")
    without = train(small_training(steps=4), out=tmp_path / "without", device="cpu")
    ours, theirs = load_file(with_it.model), load_file(without.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert with_it.values["loss"] == without.values["loss"]


def test_patience_ends_a_training_and_keeps_it_ended(tmp_path, monkeypatch):
    figures = {2: 0.3, 4: 0.2, 6: 0.3, 8: 0.9}
    calls = []

    def measured(model, sequence, **options):
        calls.append(sequence)
        return figures[2 * ((len(calls) + 1) // 2)]

    monkeypatch.setattr("rgbt_fusion.training.validation.success_of", measured)
    settings = OFTEN | {"patience": 2}
    result = train(validated(steps=20, validation=settings), out=tmp_path, device="cpu")
    assert (result.steps, result.success) == (6, 0.3)
    assert len(calls) == 6
    again = train(validated(steps=20, validation=settings), out=tmp_path, device="cpu")
    assert again.steps == 6
    assert len(calls) == 6
    more = OFTEN | {"patience": 3}
    result = train(validated(steps=8, validation=more), out=tmp_path, device="cpu")
    assert (result.steps, result.success) == (8, 0.9)


def test_a_resumed_training_knows_its_validations(tmp_path):
    whole = train(validated(steps=6), out=tmp_path / "whole", device="cpu")

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(validated(steps=6), out=tmp_path / "killed", device="cpu", on_progress=kill)
    resumed = train(validated(steps=6), out=tmp_path / "killed", device="cpu")
    tables = [(tmp_path / one / "validation.csv").read_text() for one in ("whole", "killed")]
    assert tables[0] == tables[1]
    assert tables[0].count("\n") == 4
    assert whole.success == resumed.success
    ours, theirs = load_file(resumed.best), load_file(whole.best)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("left", [None, "step,success\n2,0.3\n"])
def test_successes_are_written_where_a_kill_left_them_out(tmp_path, left):
    """The checkpoint holds them, and the process ended before their own file was written."""
    train(validated(steps=4), out=tmp_path, device="cpu")
    successes = tmp_path / "validation.csv"
    whole = successes.read_text()
    successes.unlink()
    if left is not None:
        successes.write_text(left)
    train(validated(steps=4), out=tmp_path, device="cpu")
    assert successes.read_text() == whole


def test_a_synthetic_training_may_be_validated_from_the_middle_on(tmp_path):
    train(small_training(steps=4), out=tmp_path, device="cpu")
    result = train(validated(steps=4), out=tmp_path, device="cpu")
    assert result.success is not None
    assert (tmp_path / "validation.csv").read_text().splitlines()[1].startswith("4,")


def test_a_split_may_not_change(tmp_path):
    root = dataset(tmp_path / "data", 4)
    data = {"layout": "lasher", "workers": 0}
    train(small_training(steps=2, data=data), out=tmp_path / "run", data=root, device="cpu")
    with pytest.raises(TrainingError, match=r"validation.sequences must be None, as in the train"):
        train(validated(steps=2, data=data), out=tmp_path / "run", data=root, device="cpu")


def test_processes_share_the_sequences():
    config = validated(validation=OFTEN | {"sequences": 3})
    sequences = held_out_sequences(["none"], sequences=3, frames=5)["none"]
    model = create_model("ostrack_tiny_128", **config.overrides)
    alone = Validation(config, sequences, ALONE)
    expected = alone.measure(model, 2, lambda: False)

    class Shared(Processes):
        def mean(self, x):
            totals.append(x)
            return x

    totals = []
    for rank in range(2):
        Validation(config, sequences, Shared(rank, 2)).measure(model, 2, lambda: False)
    assert float(sum(totals)) / 3 == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 2}, "validation.patience must come with validation.every, got 2 without"),
        ({"every": -1}, "validation.every must be a whole number of at least 0, got -1"),
        ({"every": 1, "frames": 1}, "validation.frames must be at least 2, got 1"),
        ({"every": 1, "sequences": 0}, "validation.sequences must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ValidationConfig(**settings)


def test_the_settings_are_left_out_where_there_is_no_validation(tmp_path):
    train(small_training(steps=1), out=tmp_path, device="cpu")
    settings = json.loads((tmp_path / "config.json").read_text())
    assert "validation" not in settings
    assert settings["data"].keys() == PLAIN_DATA.keys() | {"layout", "max_gap"}

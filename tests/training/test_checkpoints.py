"""The checkpoint file: whole or absent, and never of another training."""

from dataclasses import replace

import pytest
import torch

from rgbt_fusion.training import OptimiserConfig, TrainConfig, TrainingError
from rgbt_fusion.training.checkpoints import check_same_training, read_checkpoint, write_checkpoint
from rgbt_fusion.training.config import config_to_table

CONFIG = TrainConfig(model="ostrack_tiny_128")


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert read_checkpoint(path) is None
    write_checkpoint(path, {"step": 3, "weights": torch.arange(4.0)})
    content = read_checkpoint(path)
    assert content is not None
    assert content["step"] == 3
    assert torch.equal(content["weights"], torch.arange(4.0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_failure_to_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"step": 3})

    def fail(content, file):
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(
        TrainingError,
        match=r"cannot be written: No space left on device; the last one is of step 3",
    ):
        write_checkpoint(path, {"step": 4})
    assert read_checkpoint(path)["step"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(
        TrainingError, match="cannot be written: No such file or directory; there is none yet"
    ):
        write_checkpoint(tmp_path / "absent" / "checkpoint.pt", {"step": 1})


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint .*checkpoint.pt cannot be read"):
        read_checkpoint(path)


def test_another_programs_file_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"net": {}}, path)
    with pytest.raises(TrainingError, match="must be of format 1"):
        read_checkpoint(path)


def test_another_training_is_not_gone_on_with(tmp_path):
    table = config_to_table(CONFIG)
    check_same_training(CONFIG, table, tmp_path)
    other = replace(CONFIG, optimiser=OptimiserConfig(learning_rate=1.0))
    with pytest.raises(
        TrainingError,
        match=r"optimiser.learning_rate must be 0.0001, .* got 1.0; choose another folder",
    ):
        check_same_training(other, table, tmp_path)
    with pytest.raises(TrainingError, match=r"overrides.depth must be None, .* got 2"):
        check_same_training(replace(CONFIG, overrides={"depth": 2}), table, tmp_path)


def test_what_changes_no_weight_may_change(tmp_path):
    table = config_to_table(CONFIG)
    check_same_training(replace(CONFIG, checkpoint_every=3, log_every=7), table, tmp_path)
    check_same_training(replace(CONFIG, data=replace(CONFIG.data, workers=5)), table, tmp_path)

"""Interrupted trainings: whatever ends one, the same call goes on and ends with the same
weights."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import one_training
from one_training import small_training
from rgbt_fusion.files.folder_lock import FolderInUseError
from rgbt_fusion.training import train
from rgbt_fusion.training.checkpoints import read_checkpoint
from rgbt_fusion.weights.stored_tensors import open_weight_file

STEPS = 40
KILLS = int(os.environ.get("RGBT_FUSION_KILLS", "3"))
SCRIPT = [sys.executable, "-W", "ignore", one_training.__file__]


# sums of floats depend on how many threads share them
pytestmark = pytest.mark.usefixtures("one_thread")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = read_checkpoint(folder / "checkpoint.pt")
    assert content is not None
    assert content["step"] == STEPS
    return content["objective"] | {
        f"average {name}": value for name, value in content["average"].items()
    }


def kill_at(process: subprocess.Popen, log: Path, line: int, delay: float) -> bool:
    """Kill a training a moment after a line of its log; return whether it was still alive."""
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_text().count("\n") > line:
            time.sleep(delay)
            break
        time.sleep(0.002)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def test_a_killed_training_ends_with_the_very_weights(tmp_path):
    changes = {"steps": STEPS, "checkpoint_every": 2}
    dice = random.Random(0)
    killed = 0
    moments = sorted(dice.sample(range(1, STEPS - 8), KILLS))
    for line in moments:
        process = subprocess.Popen([*SCRIPT, str(tmp_path / "killed"), json.dumps(changes)])
        killed += kill_at(process, tmp_path / "killed" / "log.csv", line, dice.uniform(0, 0.03))
    assert killed == KILLS
    for which in ("killed", "whole"):
        train(small_training(**changes), out=tmp_path / which, device="cpu")
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    logs = [
        (tmp_path / which / "log.csv").read_text().splitlines() for which in ("killed", "whole")
    ]
    # all but the throughput
    assert [line.rsplit(",", 1)[0] for line in logs[0]] == [
        line.rsplit(",", 1)[0] for line in logs[1]
    ]


def test_a_full_disk_ends_a_training_with_a_checkpoint_to_go_on_from(tmp_path):
    changes = {"steps": 6}
    command = [*SCRIPT, str(tmp_path), json.dumps(changes), "--limit", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "checkpoint.pt cannot be written: File too large; the last one is of step 2" in last
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 2
    train(small_training(**changes), out=tmp_path, device="cpu")
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 6


def test_a_finished_training_is_left_alone(tmp_path):
    config = small_training(steps=2)
    result = train(config, out=tmp_path, device="cpu")
    before = result.model.stat().st_mtime_ns
    assert train(config, out=tmp_path, device="cpu").steps == 2
    assert result.model.stat().st_mtime_ns == before


def test_the_steps_of_a_training_may_be_raised(tmp_path):
    constant = {"average_decay": 0.9, "learning_rate": 1e-3, "schedule": "constant"}
    changes = {"optimiser": constant, "overrides": one_training.SMALL | {"keep_ratio": 1.0}}
    train(small_training(steps=3, **changes), out=tmp_path / "raised", device="cpu")
    raised = train(small_training(steps=6, **changes), out=tmp_path / "raised", device="cpu")
    whole = train(small_training(steps=6, **changes), out=tmp_path / "whole", device="cpu")
    assert raised.steps == whole.steps == 6
    ours, theirs = (
        read_checkpoint(tmp_path / which / "checkpoint.pt") for which in ("raised", "whole")
    )
    # nothing of this training depends on how many steps there are: the weights are the very same
    for part in ("objective", "average"):
        for name, value in theirs[part].items():
            assert torch.equal(ours[part][name], value), name
    assert ours["config"]["steps"] == 6
    with pytest.raises(ValueError, match=r"steps must be at least 6, as many as .* has made"):
        train(small_training(steps=5, **changes), out=tmp_path / "raised", device="cpu")


@pytest.mark.parametrize("spoil", ["lose", "cut", "older", "other"])
def test_the_model_of_a_finished_training_is_written_again(tmp_path, spoil):
    """A training may be killed between its last checkpoint and the model."""
    config = small_training(steps=4)
    result = train(config, out=tmp_path, device="cpu")
    whole = open_weight_file(result.model)
    expected = {name: tensor.read() for name, tensor in whole.tensors.items()}
    if spoil == "lose":
        result.model.unlink()
    elif spoil == "cut":
        result.model.write_bytes(result.model.read_bytes()[:-9])
    else:
        changes = {"steps": 2} if spoil == "older" else {"steps": 4, "seed": 1}
        train(small_training(**changes), out=tmp_path / "other", device="cpu")
        (tmp_path / "other" / "model.safetensors").replace(result.model)
    assert train(config, out=tmp_path, device="cpu").model == result.model
    written = open_weight_file(result.model)
    assert written.metadata == whole.metadata
    assert written.tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(written.tensors[name].read(), value), name


def test_a_second_process_in_the_folder_is_refused(tmp_path):
    changes = {"steps": 400, "checkpoint_every": 100}
    process = subprocess.Popen([*SCRIPT, str(tmp_path), json.dumps(changes)])
    try:
        while not (tmp_path / "log.csv").exists():
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(FolderInUseError, match=rf"in use by process {process.pid} on "):
            train(small_training(**changes), out=tmp_path, device="cpu")
    finally:
        process.kill()
        process.wait()


def test_the_folder_of_another_training_is_refused(tmp_path):
    train(small_training(steps=2), out=tmp_path, device="cpu")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    with pytest.raises(
        ValueError, match=r"seed must be 0, as in the training that .* belongs to, got 1"
    ):
        train(small_training(steps=2, seed=1), out=tmp_path, device="cpu")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir()) == before

"""Ctrl-C and SIGTERM: the step is finished and saved, and the same call goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

import one_training
from one_training import small_training
from rgbt_fusion.training import TrainingStopped, train
from rgbt_fusion.training.checkpoints import read_checkpoint
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.interruption import Interruption

pytestmark = pytest.mark.usefixtures("one_thread")


def stop_at(step: int, number: int = signal.SIGINT):
    def watch(progress):
        if progress.step == step:
            os.kill(os.getpid(), number)

    return watch


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_the_step_is_saved_and_the_same_call_goes_on(tmp_path, number, name):
    config = small_training(steps=6, checkpoint_every=100)
    handler = signal.getsignal(number)
    with pytest.raises(TrainingStopped) as stopped:
        train(config, out=tmp_path / "one", device="cpu", on_progress=stop_at(3, number))
    # the signal comes while step 3 is reported: it is the next one that is finished
    assert str(stopped.value).startswith(f"{name} ended the training after step 4 of 6; ")
    assert "run the same command or call again to go on" in str(stopped.value)
    assert read_checkpoint(tmp_path / "one" / "checkpoint.pt")["step"] == 4
    assert signal.getsignal(number) is handler
    resumed = train(config, out=tmp_path / "one", device="cpu")
    whole = train(config, out=tmp_path / "whole", device="cpu")
    ours, theirs = load_file(resumed.model), load_file(whole.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    steps = [line.split(",")[0] for line in (tmp_path / "one" / "log.csv").read_text().split()]
    assert steps == ["step", *"123456"]


def test_the_log_is_that_of_a_training_that_was_never_stopped(tmp_path):
    config = small_training(steps=9, checkpoint_every=100, log_every=4)
    with pytest.raises(TrainingStopped, match="after step 5 of 9"):
        train(config, out=tmp_path / "one", device="cpu", on_progress=stop_at(4))
    train(config, out=tmp_path / "one", device="cpu")
    train(config, out=tmp_path / "whole", device="cpu")
    # all but the speed
    logs = [
        [line.split(",")[:-1] for line in (tmp_path / name / "log.csv").read_text().split()]
        for name in ("one", "whole")
    ]
    assert [row[0] for row in logs[1]] == ["step", "4", "8", "9"]
    assert logs[0] == logs[1]


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), Interruption(Processes(0, 1)) as interruption:
        assert not interruption.asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.asked()
        os.kill(os.getpid(), signal.SIGINT)


def test_a_validation_is_given_up_and_made_up_for(tmp_path, monkeypatch):
    config = small_training(steps=4, validation={"every": 2, "sequences": 2, "frames": 4})
    from rgbt_fusion.training import validation

    track = validation.success_of
    calls = []

    def interrupted(*arguments, **options):
        calls.append(None)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return track(*arguments, **options)

    monkeypatch.setattr(validation, "success_of", interrupted)
    with pytest.raises(TrainingStopped, match="after step 2 of 4"):
        train(config, out=tmp_path / "one", device="cpu")
    assert (tmp_path / "one" / "validation.csv").read_text() == "step,success\n"
    monkeypatch.undo()
    train(config, out=tmp_path / "one", device="cpu")
    train(config, out=tmp_path / "whole", device="cpu")
    tables = [(tmp_path / name / "validation.csv").read_text() for name in ("one", "whole")]
    assert tables[0] == tables[1]
    assert [line.split(",")[0] for line in tables[0].split()] == ["step", "2", "4"]


def test_another_thread_trains_without_signals(tmp_path):
    results = []

    def work():
        results.append(train(small_training(steps=1), out=tmp_path, device="cpu"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0].steps == 1


def test_a_terminal_stops_a_training_with_workers(tmp_path):
    """Ctrl-C goes to the whole group of processes, workers included."""
    changes = {"steps": 4000, "data": one_training.PLAIN_DATA | {"workers": 1}}
    command = [sys.executable, "-W", "ignore", one_training.__file__, str(tmp_path)]
    process = subprocess.Popen(
        [*command, json.dumps(changes)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "log.csv"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    last = errors.strip().splitlines()[-1]
    assert "TrainingStopped: Ctrl-C ended the training after step" in last
    step = read_checkpoint(tmp_path / "checkpoint.pt")["step"]
    assert f"after step {step} of 4000" in last
    assert "DataLoader" not in errors

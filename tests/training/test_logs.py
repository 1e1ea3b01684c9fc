"""The log: a table that a resumed training continues without a gap or a line twice."""

import csv
import sys

import pytest

from rgbt_fusion.training import TrainingError
from rgbt_fusion.training.logs import Log, Stopwatch


def lines(folder) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_log_is_a_table(tmp_path):
    log = Log(tmp_path, ("loss", "iou"), 0)
    log.add(10, {"loss": 1.25, "iou": 0.5, "more": 3.0})
    assert lines(tmp_path) == [{"step": "10", "loss": "1.25", "iou": "0.5"}]


def test_lines_beyond_the_checkpoint_are_written_again(tmp_path):
    log = Log(tmp_path, ("loss",), 0)
    for step in (10, 20, 30):
        log.add(step, {"loss": step})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("4")  # a line that a kill cut off
    log = Log(tmp_path, ("loss",), 20)
    log.add(30, {"loss": 31})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        ("10", "10"),
        ("20", "20"),
        ("30", "31"),
    ]


def test_a_new_training_starts_a_new_table(tmp_path):
    Log(tmp_path, ("loss",), 0).add(10, {"loss": 1})
    Log(tmp_path, ("loss",), 0)
    assert lines(tmp_path) == []


def test_a_table_that_cannot_be_written_is_named(tmp_path):
    log = Log(tmp_path, ("loss",), 0)
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(
        TrainingError,
        match=r"log.csv cannot be written: Is a directory; the last checkpoint is whole",
    ):
        log.add(1, {"loss": 1})


def test_tensorboard_gets_the_values(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    log = Log(tmp_path, ("loss",), 0, tensorboard=True)
    log.add(1, {"loss": 2.0})
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.0)]


def test_tensorboard_that_is_absent_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rgbt-fusion\[train\]'"):
        Log(tmp_path, ("loss",), 0, tensorboard=True)


def test_the_stopwatch_tells_throughput_and_time_left(monkeypatch):
    now = iter((100.0, 104.0, 105.0))
    monkeypatch.setattr("rgbt_fusion.training.logs.time.monotonic", lambda: next(now))
    watch = Stopwatch(10)
    assert watch.look(18, 100, 32) == pytest.approx((64.0, 41.0))
    assert watch.look(22, 100, 32) == pytest.approx((128.0, 19.5))

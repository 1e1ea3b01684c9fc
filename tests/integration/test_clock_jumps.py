"""The clock of the machine goes backwards in the middle of a training and of an evaluation, as when
it is set: no time is negative and nothing fails.
"""

import csv
import time

import pytest

from evaluation_material import Drift, write_dataset
from one_training import small_training
from rgbt_fusion.data.sequences import open_dataset
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.training import train

HOUR_NS = 3600 * 10**9


@pytest.fixture(autouse=True)
def backwards(monkeypatch):
    """Set the clock back by an hour each time that somebody looks at it."""
    real_ns = time.time_ns
    looks = []

    def time_ns() -> int:
        looks.append(None)
        return real_ns() - len(looks) * HOUR_NS

    monkeypatch.setattr(time, "time_ns", time_ns)
    monkeypatch.setattr(time, "time", lambda: time_ns() / 1e9)
    first = time.time()
    assert time.time() < first


def test_a_training_measures_its_speed_all_the_same(tmp_path):
    told = []
    train(small_training(steps=4), out=tmp_path, device="cpu", on_progress=told.append)
    assert len(told) == 4
    assert all(now.seconds_left >= 0 for now in told)
    with (tmp_path / "log.csv").open() as file:
        speeds = [float(row["samples_per_second"]) for row in csv.DictReader(file)]
    # a time that is not positive would be taken for next to none
    assert all(0 < speed < 1e6 for speed in speeds)
    # and is resumed
    train(small_training(steps=6), out=tmp_path, device="cpu")


def test_an_evaluation_measures_its_frames_all_the_same(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "data", {"a": 4, "b": 5}), "rgbt234")
    report = run_tracker(Drift, dataset, tmp_path / "results", times=True)
    assert not report.failed
    assert report.seconds >= 0
    files = list((tmp_path / "results").glob("*_time.txt"))
    assert len(files) == 2
    for file in files:
        assert all(float(line) >= 0 for line in file.read_text().split())

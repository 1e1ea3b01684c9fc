"""Several processes that track: same files, and a process that dies costs one sequence."""

import multiprocessing
import os
import signal
from functools import partial

import pytest

from evaluation_material import Drift, broken_tracker, deadly_tracker, files, write_dataset
from rgbt_fusion.data.sequences import open_dataset
from rgbt_fusion.evaluation import workers
from rgbt_fusion.evaluation.run import run_tracker


@pytest.mark.slow
def test_processes_write_what_one_does_and_survive_each_other(tmp_path):
    root = write_dataset(tmp_path / "data", {name: 3 + k for k, name in enumerate("abcdef")})
    dataset = open_dataset(root, "rgbt234")
    fails, dies = (int(dataset.sequences[k][2].rgb[0, 0, 0]) for k in (1, 4))
    assert fails != dies
    events = []
    report = run_tracker(
        partial(Drift, fails, dies), dataset, tmp_path / "two", workers=2, on_progress=events.append
    )
    assert dict(report.failed) == {
        "b": "RuntimeError: the tracker fell over",
        "e": "its worker process died with exit code 9",
    }
    assert set(report.finished) == set("acdf")
    assert sum(event.state == "frame" for event in events) == report.frames >= 3 + 5 + 6 + 8
    # what failed is tried again
    report = run_tracker(Drift, dataset, tmp_path / "two")
    assert (set(report.finished), set(report.kept)) == (set("be"), set("acdf"))
    run_tracker(Drift, dataset, tmp_path / "one")
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the system stops no processes")
def test_a_stopped_process_costs_one_sequence(tmp_path, monkeypatch):
    dataset = open_dataset(write_dataset(tmp_path / "data", {"a": 4}), "rgbt234")
    stops = int(dataset.sequences[0][2].rgb[0, 0, 0])
    monkeypatch.setattr(workers, "_LOOK_EVERY_S", 0.1)

    def be_impatient(event):
        # only now: the start of a process takes its time
        monkeypatch.setattr(workers, "LONGEST_SILENCE_S", 1.0)

    report = run_tracker(
        partial(Drift, stops=stops), dataset, tmp_path / "two", workers=2, on_progress=be_impatient
    )
    assert dict(report.failed) == {"a": "its worker process said nothing for 1 s"}
    assert not multiprocessing.active_children()


def test_a_run_that_is_left_ends_its_stopped_process(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "data", {"a": 4}), "rgbt234")

    def stop_and_leave(event):
        (child,) = multiprocessing.active_children()
        os.kill(child.pid, signal.SIGSTOP)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tracker(Drift, dataset, tmp_path / "two", workers=2, on_progress=stop_and_leave)
    assert not multiprocessing.active_children()


def test_a_tracker_that_cannot_be_made_ends_the_run(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "data", {"a": 2}), "rgbt234")
    with pytest.raises(ValueError, match="checkpoint must be a file, got nothing"):
        run_tracker(broken_tracker, dataset, tmp_path / "results", workers=2)
    with pytest.raises(ChildProcessError, match="died with exit code 3 while it made the tracker"):
        run_tracker(deadly_tracker, dataset, tmp_path / "results", workers=2)
    with pytest.raises(
        TypeError, match="make_tracker must be picklable where there are several workers, but: "
    ):
        run_tracker(lambda: Drift(), dataset, tmp_path / "results", workers=2)
    assert files(tmp_path / "results") == {}


def test_nothing_to_do_makes_no_tracker(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "data", {"a": 2}), "rgbt234")
    run_tracker(Drift, dataset, tmp_path / "results")
    for count in (1, 2):
        assert run_tracker(broken_tracker, dataset, tmp_path / "results", workers=count).kept == (
            "a",
        )

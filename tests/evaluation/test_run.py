"""Running a tracker over a dataset: whole files or none, going on where a run was stopped, failures
that stay alone."""

import os
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest

from evaluation_material import Drift, files, write_dataset
from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.data.sequences import Dataset, open_dataset
from rgbt_fusion.evaluation.protocols import PROTOCOLS
from rgbt_fusion.evaluation.results import read_results
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.evaluation.scoring import load_benchmark, score
from rgbt_fusion.files.folder_lock import FolderInUseError, only_process
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.tracking.tracker import TrackResult

LENGTHS = {"a": 4, "b [1]": 6, "c'd": 3}


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return open_dataset(write_dataset(tmp_path / "data", LENGTHS), "rgbt234")


def test_what_is_written(tmp_path, dataset):
    report = run_tracker(Drift, dataset, tmp_path / "drift", times=True)
    assert set(report.finished) == set(LENGTHS)
    assert (report.kept, report.failed, report.frames) == ((), {}, 13)
    results = read_results(tmp_path / "drift", LENGTHS).results
    assert {name: len(result.boxes) for name, result in results.items()} == LENGTHS
    for sequence in dataset.sequences:
        expected = [
            result.box_xywh_px for result in [Drift().init(*sequence[0], sequence.truth.rgb[0])]
        ]
        tracker = Drift()
        tracker.init(*sequence[0], sequence.truth.rgb[0])
        expected += [tracker.update(*sequence[k]).box_xywh_px for k in range(1, len(sequence))]
        assert results[sequence.name].boxes == pytest.approx(np.array(expected), abs=5e-5)
        assert results[sequence.name].seconds > 0
        assert results[sequence.name].confidences[0] == 1
    scores = score(tmp_path / "drift", load_benchmark("rgbt234", tmp_path / "data"))
    assert (scores.tracker, scores.left_out) == ("drift", {})


class Oracle(Drift):
    """A tracker that knows how the boxes of the small dataset move."""

    def update(self, rgb, tir):
        self.frame += 1
        self.box = self.box + np.array((1.0, 0, 0, 0))
        return TrackResult(self.box, 1.0, False, self.frame)


@pytest.mark.parametrize("benchmark", PROTOCOLS)
def test_every_benchmark_is_run_and_scored(tmp_path, benchmark):
    root = write_dataset(tmp_path / "data", {"a": 25, "b": 21}, benchmark)
    report = run_tracker(Oracle, open_dataset(root, benchmark), tmp_path / "oracle")
    assert report.failed == {}
    scores = score(tmp_path / "oracle", load_benchmark(benchmark, root))
    views = LAYOUTS[benchmark].views
    names = {f"{name}.{views[0]}" if views else name for name in ("a", "b")}
    assert (set(scores.sequences), scores.left_out) == (names, {})
    assert min(scores.metrics[name] for name in scores.protocol.metrics) > 0.95
    assert (scores.metrics["AO"], scores.metrics["max_ratio"]) == pytest.approx((1, 0), abs=1e-12)


def test_vtuav_starts_on_its_first_annotated_image(tmp_path):
    root = write_dataset(tmp_path / "data", {"a": 25}, "vtuav_st")
    np.save(root / "init_frame.npy", np.array({"a": 4}, dtype=object), allow_pickle=True)
    run_tracker(Oracle, open_dataset(root, "vtuav_st"), tmp_path / "oracle")
    scores = score(tmp_path / "oracle", load_benchmark("vtuav_st", root))
    assert scores.metrics["AO"] == pytest.approx(1, abs=1e-12)


def test_a_second_run_keeps_what_is_there(tmp_path, dataset):
    run_tracker(Drift, dataset, tmp_path / "drift")
    before = files(tmp_path / "drift")
    (tmp_path / "drift" / "a.txt").unlink()
    # another dataset, or a file that was copied in part
    (tmp_path / "drift" / "c'd.txt").write_text("1,2,3,4\n")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "drift" / f".a.txt.{dead.pid}.part").write_text("1,2")
    events = []
    report = run_tracker(Drift, dataset, tmp_path / "drift", on_progress=events.append)
    assert (set(report.finished), report.kept) == ({"a", "c'd"}, ("b [1]",))
    assert files(tmp_path / "drift") == before
    assert [(event.sequence, event.state) for event in events] == [
        ("b [1]", "kept"),
        *[("a", "frame")] * 4,
        ("a", "finished"),
        *[("c'd", "frame")] * 3,
        ("c'd", "finished"),
    ]


def test_failures_are_reported_and_the_rest_goes_on(tmp_path):
    root = write_dataset(tmp_path / "data", dict.fromkeys("abcdef", 3))
    (root / "a" / "visible" / "001.png").write_bytes(b"damaged")
    (root / "b" / "visible.txt").write_text("1,2,3\n")
    (root / "c" / "infrared" / "002.png").unlink()
    for file in ("visible.txt", "infrared.txt"):
        (root / "d" / file).write_text("5,5,0,0\n" * 3)
    fails = int(open_dataset(root, "rgbt234", names=["e"]).sequences[0][2].rgb[0, 0, 0])
    report = run_tracker(
        partial(Drift, fails=fails), open_dataset(root, "rgbt234"), tmp_path / "drift"
    )
    assert set(report.finished) == {"d", "f"}
    assert "001.png cannot be decoded" in report.failed["a"]
    assert "must have 4 or 8 numbers, got 3" in report.failed["b"]
    assert "must hold an image for each of 3 annotations, got 2" in report.failed["c"]
    assert report.failed["e"] == "RuntimeError: the tracker fell over"
    assert not [path.name for path in (tmp_path / "drift").iterdir() if path.name[0] in "abce."]


def test_a_first_box_without_size_fails_in_a_real_tracker(tmp_path):
    from rgbt_fusion.tracking.ncc import NCCTracker

    root = write_dataset(tmp_path / "data", {"a": 3, "b": 3})
    for file in ("visible.txt", "infrared.txt"):
        (root / "a" / file).write_text("5,5,0,0\n" * 3)
    report = run_tracker(NCCTracker, open_dataset(root, "rgbt234"), tmp_path / "ncc")
    assert report.finished == ("b",)
    assert report.failed["a"] == (
        f"{root / 'a' / 'visible.txt'}, line 1: the box to start on must be finite with width and "
        "height above 0, got (5.0, 5.0, 0.0, 0.0)"
    )


def test_a_sequence_without_boxes_fails(tmp_path):
    root = write_dataset(tmp_path / "data", {"a": 3})
    for file in ("visible.txt", "infrared.txt"):
        (root / "a" / file).unlink()
    report = run_tracker(Drift, open_dataset(root, "folder"), tmp_path / "drift")
    assert report.failed == {
        "a": f"a file of boxes must be there to start on, got {root / 'a' / 'visible'} without any"
    }


def test_shards_share_the_sequences(tmp_path, dataset):
    parts = [
        run_tracker(Drift, dataset, tmp_path / "shards", shard=(rank, 2)).finished
        for rank in range(2)
    ]
    assert parts == [("b [1]", "c'd"), ("a",)]
    run_tracker(Drift, dataset, tmp_path / "whole")
    assert files(tmp_path / "shards") == files(tmp_path / "whole")


def test_results_of_another_run_are_not_mixed_in(tmp_path, dataset):
    settings = {"model": "drift", "weights": "1234"}
    for _ in range(2):
        run_tracker(Drift, dataset, tmp_path / "drift", settings=settings)
    with pytest.raises(DataError, match=r"drift were made with weights '1234', not '5678'$"):
        run_tracker(Drift, dataset, tmp_path / "drift", settings=settings | {"weights": "5678"})
    (tmp_path / "drift" / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run.json must hold the settings of a run as JSON"):
        run_tracker(Drift, dataset, tmp_path / "drift", settings=settings)
    (tmp_path / "drift" / "run.json").write_text("\0")
    with pytest.raises(DataError, match=r"run.json must be a text file, but it holds binary data"):
        run_tracker(Drift, dataset, tmp_path / "drift", settings=settings)


def test_results_that_say_nothing_of_their_settings_are_not_adopted(tmp_path, dataset):
    """They may be those of another tracker, which would be scored under this one's name."""
    run_tracker(Drift, dataset, tmp_path / "drift")
    before = files(tmp_path / "drift")
    with pytest.raises(DataError, match=r"hold run.json of the same run, but .* has results of "):
        run_tracker(Drift, dataset, tmp_path / "drift", settings={"model": "other"})
    assert files(tmp_path / "drift") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("of a person")
    report = run_tracker(Drift, dataset, tmp_path / "other", settings={"model": "other"})
    assert len(report.finished) == 3


def test_any_part_of_a_run_may_be_the_first(tmp_path, dataset):
    settings = {"model": "drift"}
    for rank in (1, 0):
        run_tracker(Drift, dataset, tmp_path / "drift", settings=settings, shard=(rank, 2))
    report = run_tracker(Drift, dataset, tmp_path / "drift", settings=settings)
    assert len(report.kept) == 3


def test_a_second_run_into_the_folder_is_refused(tmp_path, dataset):
    with (
        only_process(tmp_path, part=(0, 2)),
        pytest.raises(FolderInUseError, match=f"in use by process {os.getpid()}"),
    ):
        run_tracker(Drift, dataset, tmp_path)
    assert not [path for path in tmp_path.glob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"shard": (2, 2)}, "shard must be a number below its count, got 2 of 2"),
        ({"shard": (-1, 2)}, "shard must be a number below its count, got -1 of 2"),
    ],
)
def test_bad_settings(tmp_path, dataset, options, message):
    with pytest.raises(ValueError, match=message):
        run_tracker(Drift, dataset, tmp_path / "drift", **options)
    assert not (tmp_path / "drift").exists()


KILLED_AT_EVERY_STEP = """
    import os, signal, sys
    from pathlib import Path
    from evaluation_material import Drift
    from rgbt_fusion.data.sequences import open_dataset
    from rgbt_fusion.evaluation.run import run_tracker

    dataset, folder = open_dataset(sys.argv[1], "rgbt234"), Path(sys.argv[2])
    lengths = {sequence.name: len(sequence) for sequence in dataset.sequences}
    killed = 0
    for step in range(1, 1000):
        child = os.fork()
        if not child:
            seen = 0
            def strike(event, arguments):
                global seen
                writes = event in ("open", "os.rename", "os.remove", "os.mkdir")
                if writes and str(folder) in str(arguments[0]):
                    seen += 1
                    if seen == step:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(strike)
            run_tracker(Drift, dataset, folder, settings={"model": "drift"})
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for name, length in lengths.items():
            if (folder / f"{name}.txt").exists():
                for file in (f"{name}.txt", f"{name}_confidence.txt"):
                    assert len((folder / file).read_text().splitlines()) == length, file
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        if step % 3 == 0:  # else what an earlier run finished hides the later steps
            for path in folder.iterdir():
                path.unlink()
    print(killed)
"""


def test_killed_at_every_step_of_writing(tmp_path, dataset):
    run_tracker(Drift, dataset, tmp_path / "whole", settings={"model": "drift"})
    script = textwrap.dedent(KILLED_AT_EVERY_STEP)
    arguments = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        script,
        str(tmp_path / "data"),
        str(tmp_path / "killed"),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
    assert files(tmp_path / "killed") == files(tmp_path / "whole")

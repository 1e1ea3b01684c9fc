"""Running and scoring from the command line: tables, files, one clear line for each mistake, runs
that are killed."""

import contextlib
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from evaluation_material import files, write_dataset
from rgbt_fusion.cli import main
from shared_material import shared


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as left:
        main(["eval", *map(str, arguments)])
    return left.value.code


@pytest.fixture
def lasher(tmp_path) -> Path:
    """Annotations without images, attributes, and results of two trackers."""
    boxes = np.tile([100.0, 80, 40, 60], (20, 1))
    for number, name in enumerate(("boy", "car", "[dog]")):
        (tmp_path / "data" / name).mkdir(parents=True)
        np.savetxt(tmp_path / "data" / name / "init.txt", boxes, delimiter=",")
        for tracker, drift in (("steady", 0.2), ("drifting", 2.0 + number)):
            (tmp_path / tracker).mkdir(exist_ok=True)
            moved = boxes + np.arange(20)[:, None] * np.array([drift, 0, 0, 0])
            np.savetxt(tmp_path / tracker / f"{tracker}_{name}.txt", moved, delimiter="\t")
        (tmp_path / "AttriSeqsTxt").mkdir(exist_ok=True)
        (tmp_path / "AttriSeqsTxt" / f"{name}.txt").write_text(",".join("1" * 4 + "0" * 15))
    return tmp_path


def test_attributes_that_are_not_there_are_told_with_their_place(lasher, capsys):
    asked = (lasher / "steady", "--root", lasher / "data", "--attributes", "--benchmark")
    assert run(*asked, "lasher") == 0
    assert "SR by attribute" in capsys.readouterr().out
    (lasher / "AttriSeqsTxt").rename(lasher / "elsewhere")
    assert run(*asked, "lasher") == 0
    told = capsys.readouterr()
    assert "by attribute" not in told.out
    assert told.err.count("notice: --attributes shows nothing: ") == 1
    assert "must hold the attributes of LasHeR in AttriSeqsTxt, or it must be beside it" in told.err


def test_results_of_sparse_annotations_are_counted_from_the_first_image_with_a_notice(
    tmp_path, capsys
):
    boxes = np.tile([100.0, 80, 40, 60], (3, 1))
    folder = tmp_path / "data" / "boy"
    folder.mkdir(parents=True)
    for name in ("rgb.txt", "ir.txt"):
        np.savetxt(folder / name, boxes)
    (tmp_path / "mine").mkdir()
    np.savetxt(tmp_path / "mine" / "boy.txt", np.tile(boxes[:1], (21, 1)))
    asked = (tmp_path / "mine", "--root", tmp_path / "data", "--benchmark", "vtuav_st")
    assert run(*asked) == 0
    assert capsys.readouterr().err.count("notice: init_frame.npy is not in ") == 1


def test_two_trackers_in_a_table(lasher, capsys):
    assert (
        run(
            lasher / "drifting",
            lasher / "steady",
            "--benchmark",
            "lasher",
            "--root",
            lasher / "data",
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "LasHeR, 3 sequences" in out
    figure = r" +[01]\.\d{2,} \[[01]\.\d{2,}, [01]\.\d{2,}\]"
    assert re.findall(rf"^ +(steady|drifting)(?:{figure}){{3}} *$", out, re.M) == [
        "steady",
        "drifting",
    ]
    assert "95 % intervals over 3 sequences (5000 bootstrap resamples, seed 0)" in out
    assert re.search(r"steady - drifting +\+0\.\d+ \[[-+]0\.\d+, \+0\.\d+\] ", out)
    assert "hold together for 1 comparison (max-t)" in out
    arguments = [lasher / "drifting", lasher / "steady", "--benchmark", "lasher"]
    assert run(*arguments, "--root", lasher / "data", "--digits", "3", "--metrics", "SR") == 0
    assert re.search(r"steady +[01]\.\d{3} \[", capsys.readouterr().out)


def test_every_number_in_one_file(lasher, capsys):
    arguments = [lasher / "drifting", lasher / "steady", "--benchmark", "lasher"]
    file = lasher / "made" / "scores.json"
    assert run(*arguments, "--root", lasher / "data", "--json", file) == 0
    assert "wrote" in capsys.readouterr().err
    found = json.loads(file.read_text())
    success = found["trackers"]["drifting"]["metrics"]["SR"]
    assert success["low"] < success["value"] < success["high"]
    assert found["trackers"]["drifting"]["attributes"]["NO"]["sequences"] == 3
    (pair,) = found["differences"]["SR"]
    assert (pair["first"], pair["second"]) == ("steady", "drifting")
    assert pair["difference"] == pytest.approx(
        found["trackers"]["steady"]["metrics"]["SR"]["value"] - success["value"]
    )


def test_tables_in_one_csv_say_whose_they_are(lasher, capsys):
    arguments = [lasher / "drifting", lasher / "steady", "--benchmark", "lasher"]
    options = ["--root", lasher / "data", "--format", "csv", "--per-sequence"]
    assert run(*arguments, *options) == 0
    texts = capsys.readouterr().out.strip().split("\n\n")
    tables = [list(csv.reader(text.splitlines())) for text in texts]
    assert [table[0][-1] for table in tables[-2:]] == ["tracker", "tracker"]
    assert [table[1][-1] for table in tables[-2:]] == ["drifting", "steady"]


def test_a_misspelt_metric_is_answered_with_the_nearest(lasher, capsys):
    arguments = [lasher / "steady", "--benchmark", "lasher", "--root", lasher / "data"]
    assert run(*arguments, "--metrics", "SR,npr2") == 2
    assert "--metrics must be one of " in (err := capsys.readouterr().err)
    assert "got 'npr2'; did you mean 'NPR'?" in err


def test_a_csv_of_one_tracker_says_whose_it_is(lasher, capsys):
    arguments = [lasher / "steady", "--benchmark", "lasher", "--root", lasher / "data"]
    assert run(*arguments, "--format", "csv", "--per-sequence") == 0
    *_, sequences = capsys.readouterr().out.strip().split("\n\n")
    header, *rows = csv.reader(sequences.splitlines())
    assert header[-1] == "tracker"
    assert len(rows) > 1
    assert {row[-1] for row in rows} == {"steady"}


def test_every_number_and_table_as_csv(lasher, capsys):
    arguments = [
        lasher / "drifting",
        "--benchmark",
        "lasher",
        "--root",
        lasher / "data",
        "--format",
        "csv",
    ]
    assert run(*arguments, "--metrics", "all", "--attributes", "--per-sequence") == 0
    tables = [
        list(csv.reader(text.splitlines()))
        for text in capsys.readouterr().out.strip().split("\n\n")
    ]
    names = [
        "PR",
        "NPR",
        "SR",
        "AO",
        "SR0.5",
        "SR0.75",
        "SR0.9",
        "APE",
        "miss_count",
        "track_success",
    ]
    assert tables[0][0][: 1 + len(names)] == ["tracker", *names]
    assert tables[0][0][1 + len(names) :][:4] == ["PR low", "PR high", "NPR low", "NPR high"]
    assert float(tables[0][1][1 + names.index("APE")]) == pytest.approx(3 * 9.5)
    assert [table[0][0] for table in tables[1:-1]] == names
    assert [row[:2] for row in tables[1][1:]] == [
        [name, "3"] for name in ("NO", "PO", "TO", "HO", "all")
    ]
    assert [row[0] for row in tables[-1][1:]] == ["[dog]", "car", "boy"]


@pytest.mark.parametrize(
    ("form", "text"), [("markdown", "| tracker | PR | NPR | SR |"), ("latex", r"\toprule")]
)
def test_tables_for_papers(lasher, capsys, form, text):
    assert (
        run(lasher / "steady", "--benchmark", "lasher", "--root", lasher / "data", "--format", form)
        == 0
    )
    assert text in capsys.readouterr().out


def test_plots_and_report(lasher, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    # the attributes lie beside the dataset, the images are drawn on where there are any
    arguments = [
        "--benchmark",
        "rgbt234",
        "--root",
        write_dataset(lasher / "images", {"a": 3, "b": 4}),
    ]
    assert (
        run(
            "--model",
            "ncc",
            "--out",
            lasher / "ncc",
            *arguments,
            "--report",
            lasher / "report.html",
        )
        == 0
    )
    assert (lasher / "report.html").read_text().count("data:image/jpeg") >= 6
    arguments = [lasher / "steady", "--benchmark", "lasher", "--root", lasher / "data"]
    assert run(*arguments, "--plots", lasher / "plots", "--plot-format", "svg") == 0
    names = {path.name for path in (lasher / "plots").iterdir()}
    assert names == {"precision.svg", "normalised_precision.svg", "success.svg", "attributes.svg"}
    assert (
        "wrote precision, normalised precision, success, attributes into" in capsys.readouterr().err
    )


def test_confidences_are_scored_where_there_are_any(lasher, capsys):
    for name in ("boy", "car", "[dog]"):
        np.savetxt(lasher / "steady" / f"{name}_confidence.txt", np.linspace(1, 0.2, 20))
    arguments = [lasher / "steady", lasher / "drifting", "--benchmark", "lasher"]
    options = ["--root", lasher / "data", "--confidence", "--json", lasher / "scores.json"]
    assert run(*arguments, *options) == 0
    written = capsys.readouterr()
    assert re.search(r"tracker +ECE +AUROC of lost +AURC +lost +frames", written.out)
    assert "drifting wrote no confidences" in written.err
    found = json.loads((lasher / "scores.json").read_text())["trackers"]
    assert found["steady"]["confidence"]["frames"] == 57
    assert found["drifting"]["confidence"] is None


def test_folders_of_one_name_are_told_apart(lasher, capsys):
    (lasher / "run1").mkdir()
    (lasher / "steady").rename(lasher / "run1" / "tracker")
    (lasher / "drifting").rename(lasher / "tracker")
    arguments = ["--benchmark", "lasher", "--root", lasher / "data", "--format", "csv"]
    assert run(lasher / "run1" / "tracker", lasher / "tracker", *arguments) == 0
    out = capsys.readouterr().out
    assert f"{lasher}/run1/tracker," in out
    assert f"\n{lasher}/tracker," in out


def test_incomplete_results(lasher, capsys):
    (lasher / "steady" / "steady_car.txt").write_text("1,2,3\n")
    (lasher / "steady" / "steady_boy.txt").unlink()
    arguments = [lasher / "steady", "--benchmark", "lasher", "--root", lasher / "data"]
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "2 cannot be scored: boy (missing), car (" in message
    assert "steady_car.txt, line 1: must have 4 or 8 numbers, got 3" in message
    assert "--incomplete skip scores the others" in message
    assert run(*arguments, "--incomplete", "skip") == 0
    assert "steady: boy left out: missing" in capsys.readouterr().err


def test_a_model_is_run_scored_and_kept(tmp_path, capsys):
    import torch

    from rgbt_fusion.weights.checkpoints import save_checkpoint
    from rgbt_fusion.weights.pretrained import create_model

    torch.manual_seed(0)
    save_checkpoint(create_model("ostrack_tiny_128", depth=1), tmp_path / "mine.safetensors")
    root = write_dataset(tmp_path / "data", {"a": 3, "b": 4, "c": 3})
    (root / "c" / "visible" / "001.png").write_bytes(b"")
    arguments = [
        "--model",
        tmp_path / "mine.safetensors",
        "--out",
        tmp_path / "mine",
        "--root",
        root,
    ]
    assert run(*arguments, "--benchmark", "rgbt234", "--incomplete", "skip") == 1
    written = capsys.readouterr()
    assert re.search(r"c failed: image .*001.png is empty\n", written.err)
    assert re.search(
        r"2 sequences tracked \(\d+ frames, .* frames/s\), 0 kept, 1 failed", written.err
    )
    assert re.search("mine +[01].[0-9]{3}", written.out)
    assert run(*arguments, "--benchmark", "rgbt234", "--incomplete", "skip") == 1
    assert re.search("0 sequences tracked .*, 2 kept, 1 failed", capsys.readouterr().err)
    save_checkpoint(create_model("ostrack_tiny_128", depth=2), tmp_path / "mine.safetensors")
    assert run(*arguments, "--benchmark", "rgbt234") == 2
    assert "were made with weights 'sha256 " in capsys.readouterr().err


def test_a_part_of_a_run_does_not_score(tmp_path, capsys, monkeypatch):
    root = write_dataset(tmp_path / "data", {"a": 3, "b": 4})
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        arguments = [
            "--model",
            "ncc",
            "--out",
            tmp_path / "ncc",
            "--root",
            root,
            "--benchmark",
            "rgbt234",
        ]
        assert run(*arguments) == 0
        written = capsys.readouterr()
        assert written.out == ""
        assert f"part {rank} of 2 is done" in written.err
    assert {path.name for path in (tmp_path / "ncc").glob("?.txt")} == {"a.txt", "b.txt"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RESULTS to score or --model to run must be given, got neither"),
        (["x", "--benchmark", "lasot"], "--benchmark must be one of .* got 'lasot'"),
        (
            ["x", "--benchmark", "visevent", "--protocol", "rgbt"],
            "protocol 'rgbt' must be used with one of",
        ),
        (
            ["x", "--benchmark", "lasher", "--protocol", "mine"],
            "protocol must be one of .* got 'mine'",
        ),
        (
            ["x", "--benchmark", "lasher", "--format", "word"],
            "--format must be one of .* got 'word'",
        ),
        (
            ["x", "--benchmark", "lasher", "--plots", "p", "--plot-format", "gif"],
            "--plot-format must be one of .* got 'gif'",
        ),
        (
            ["x", "--benchmark", "lasher", "--incomplete", "guess"],
            "--incomplete must be one of .* got 'guess'",
        ),
        (
            ["x", "--benchmark", "lasher", "--box-format", "yx"],
            "--box-format must be one of .* got 'yx'",
        ),
        (
            ["x", "--benchmark", "lasher", "--digits", "16"],
            "--digits must be a number from 0 to 1",
        ),
        (
            ["x", "--benchmark", "lasher", "--report", "r", "--worst", "0"],
            "--worst must be at least 1, got 0",
        ),
        (
            ["x", "--benchmark", "lasher", "--out", "y"],
            "--out must come with --model, got it without",
        ),
        (
            ["x", "--benchmark", "lasher", "--size-inertia", "0.5"],
            "--size-inertia must come with --model, got it without",
        ),
        (
            [
                *("--model", "ainet_tiny_128", "--benchmark", "lasher", "--root", "{root}"),
                *("--lost-threshold", "7"),
            ],
            r"--lost-threshold must be a finite number in \[0, 1\], got 7",
        ),
        (["--model", "ncc", "--benchmark", "lasher"], "--root must be given to run a tracker"),
        (
            ["--model", "yolo", "--benchmark", "lasher", "--root", "{root}"],
            "--model must be ncc, a preset, a file of weights",
        ),
        (
            ["--model", "ncc", "--benchmark", "lasher", "--root", "{root}", "--workers", "0"],
            "--workers must be at",
        ),
        (
            ["--model", "ncc", "--benchmark", "gtot", "--root", "{root}"],
            "must hold sequences in the layout of GTOT",
        ),
        (
            ["{root}/gone", "--benchmark", "lasher", "--root", "{root}/data"],
            "results must be a folder of text files",
        ),
        (
            ["{root}/steady", "--benchmark", "lasher", "--root", "{root}/data", "--metrics", "XY"],
            "--metrics must be",
        ),
    ],
)
def test_a_wrong_call_is_one_line_before_anything_is_done(lasher, capsys, arguments, message):
    before = files(lasher)
    assert run(*(text.format(root=lasher) for text in arguments)) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert re.search(message, written.err)
    assert files(lasher) == before


def test_the_real_sequences_score_what_a_correlation_tracker_should(tmp_path, capsys):
    root = shared("data/sequences")
    assert (
        run("--model", "ncc", "--out", tmp_path / "ncc", "--benchmark", "rgbt234", "--root", root)
        == 0
    )
    capsys.readouterr()
    assert (
        run(
            tmp_path / "ncc",
            "--benchmark",
            "rgbt234",
            "--root",
            root,
            "--per-sequence",
            "--format",
            "csv",
        )
        == 0
    )
    rows = list(csv.reader(capsys.readouterr().out.strip().split("\n\n")[1].splitlines()))[1:]
    # as recorded beside the sequences, to the third place
    expected = {
        "tno_nato_a": 0.729,
        "tno_tree": 0.786,
        "pan_cyclist": 0.69,
        "paste_ped_dark": 0.835,
    }
    found = {name: float(success) for name, _, success, _ in rows}
    assert found == pytest.approx(expected, abs=6e-3)


# ---- a run that is killed


COMMAND = [sys.executable, "-W", "ignore", "-c", "from rgbt_fusion.cli import main; main()", "eval"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def kill_after_the_first_file(
    command: list[str], out: Path, *, whole_group: bool, pause: float
) -> None:
    before = set(out.glob("*.txt"))
    process = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and set(out.glob("*.txt")) == before:
        time.sleep(0.005)
    time.sleep(pause)
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again(tmp_path):
    lengths = {f"s{number}": 20 + 2 * number for number in range(10)}
    root = write_dataset(tmp_path / "data", lengths)
    run("--model", "ncc", "--out", tmp_path / "whole", "--benchmark", "rgbt234", "--root", root)
    out = tmp_path / "killed"
    arguments = ["--model", "ncc", "--out", str(out), "--benchmark", "rgbt234", "--root", str(root)]
    moments = random.Random()
    # the parent of two workers alone, then a process with all that belongs to it
    for workers, whole_group in (("2", False), ("1", True)):
        command = [*COMMAND, *arguments, "--workers", workers]
        kill_after_the_first_file(command, out, whole_group=whole_group, pause=moments.random() / 5)
        for path in out.glob("s?.txt"):
            assert len(path.read_text().splitlines()) == lengths[path.stem]
    assert run(*arguments) == 0
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.slow
def test_torchrun_shares_the_sequences_and_scores_once(tmp_path):
    root = write_dataset(tmp_path / "data", {"a": 3, "b": 4, "c": 5, "d": 6})
    # the second process has the second longest, and says so without ending the first
    (root / "c" / "visible" / "001.png").write_bytes(b"")
    arguments = [
        "--model",
        "ncc",
        "--out",
        str(tmp_path / "ncc"),
        "--benchmark",
        "rgbt234",
        "--root",
        str(root),
    ]
    torchrun = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command = [*torchrun, "--no-python", *COMMAND, *arguments, "--incomplete", "skip"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert sorted(re.findall(r"(\d) sequences tracked .*, 0 kept, (\d) failed", done.stderr)) == [
        ("1", "1"),
        ("2", "0"),
    ]
    assert done.stdout.count("RGBT234, 3 sequences") == 1
    assert sorted(path.stem for path in (tmp_path / "ncc").glob("?.txt")) == ["a", "b", "d"]
    assert done.returncode == 1


def test_runs_from_anchors_are_tracked_and_scored(tmp_path, capsys):
    root = write_dataset(tmp_path / "sequences", {"car": 6, "dog": 6}, "vot_rgbt")
    for name in ("car", "dog"):
        (root / name / "anchor.value").write_text("1\n0\n0\n0\n0\n-1\n")
    arguments = ["--benchmark", "vot_rgbt", "--root", root, "--protocol", "vot"]
    numbers = tmp_path / "scores.json"
    out = tmp_path / "mine"
    assert run(*arguments, "--model", "ncc", "--out", out, "--json", numbers) == 0
    told = capsys.readouterr()
    assert "4 sequences tracked (24 frames" in told.err
    assert all(name in told.out for name in ("VOT-RGBT, from anchors, 2 sequences", "EAO"))
    found = json.loads(numbers.read_text())
    assert list(found["trackers"]["mine"]["metrics"]) == ["A", "R", "EAO"]
    assert (out / "car_00000005.txt").is_file()
    (out / "car_00000005.txt").unlink()
    assert run(out, *arguments) == 2
    assert "run car_00000005 is missing; --incomplete skip scores" in capsys.readouterr().err
    assert run(out, *arguments, "--incomplete", "skip") == 0
    assert "car left out: run car_00000005 is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "lasher", "--root", "x"], "--protocol vot must come with --benchmark vot"),
        (["--benchmark", "vot_rgbt"], "and --root, the dataset's folder"),
        (
            ["--benchmark", "vot_rgbt", "--root", "x", "--report", "r.html", "--confidence"],
            "--confidence, --report must not come with --protocol vot",
        ),
    ],
)
def test_what_does_not_go_with_anchors(arguments, message, capsys):
    assert run("y", *arguments, "--protocol", "vot") == 2
    assert message in capsys.readouterr().err

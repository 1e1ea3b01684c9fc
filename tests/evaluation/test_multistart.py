"""VOT-RGBT from anchors: the VOT toolkit's numbers, recorded, and the traps of its files."""

import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation_material import Drift
from rgbt_fusion.data.regions import parse_region
from rgbt_fusion.evaluation.intervals import paired_differences, score_intervals
from rgbt_fusion.evaluation.multistart import (
    EAO_FRAMES,
    open_multistart,
    read_anchors,
    score_multistart,
)
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.evaluation.scoring import IncompleteResultsError
from rgbt_fusion.evaluation.summary import summary
from rgbt_fusion.evaluation.tables import score_table
from rgbt_fusion.files.table import to_markdown
from rgbt_fusion.files.text_tables import DataError

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

LENGTHS = {"car": 70, "dog": 48, "man": 90}

SPAN = (20, 60)
"""Lengths over which the expected overlap of these short sequences is averaged."""


def place(frame: int) -> tuple[float, float]:
    """Left and top of the target, which leaves the image on the left for a while."""
    return 60 + 75 * np.sin(frame / 13), 50 + 30 * np.cos(frame / 17)


def turned(x: float, y: float, w: float, h: float) -> str:
    return (
        f"{x + 2.3:.3f},{y:.3f},{x + w:.3f},{y + 3.2:.3f},{x + w - 2:.3f},{y + h:.3f},{x:.3f},"
        + (f"{y + h - 3:.3f}")
    )


def spotted(x: float, y: float, w: int, h: int) -> str:
    """A mask with holes, as text."""
    rows, columns = np.mgrid[:h, :w]
    pixels = ((rows * columns + rows) % 7 > 1).ravel()
    edges = np.flatnonzero(np.diff(np.concatenate(([0], pixels, [0]))))
    runs = np.diff(np.concatenate(([0], edges[edges < len(pixels)], [len(pixels)])))
    return "m" + ",".join(map(str, [int(x), int(y), w, h, *runs]))


def region(form: str, x: float, y: float, w: int = 26, h: int = 18) -> str:
    if form == "box":
        return f"{x:.3f},{y:.3f},{w},{h}"
    return turned(x, y, w, h) if form == "polygon" else spotted(x, y, w, h)


def write_sequences(root: Path, form: str, *, whole: bool = False) -> Path:
    """Write three sequences of VOT-RGBT, one image of each or all; one has an absent target."""
    for name, length in LENGTHS.items():
        folder = root / name
        for channel in ("color", "ir"):
            (folder / channel).mkdir(parents=True)
            for k in range(length if whole else 1):
                path = folder / channel / f"{k + 1:08d}.png"
                cv2.imwrite(str(path), np.full((120, 160), 127, np.uint8))
        lines = [region(form, *place(k)) for k in range(length)]
        if name == "dog":
            lines[20:24] = ["0" if form == "mask" else "nan,nan,nan,nan"] * 4
        (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
        anchors = np.zeros(length, dtype=int)
        anchors[[0, 25]] = 1
        anchors[length - 5] = -1
        np.savetxt(folder / "anchor.value", anchors, fmt="%d")
        tags = ["1" if name != "man" and k == 3 else "0" for k in range(length)]
        (folder / "occlusion.tag").write_text("\n".join(tags) + "\n")
    return root


def runs_of(name: str) -> Iterator[tuple[str, list[int]]]:
    length = LENGTHS[name]
    yield f"{name}_{0:08d}", list(range(length))
    yield f"{name}_{25:08d}", list(range(25, length))
    yield f"{name}_{length - 5:08d}", list(range(length - 5, -1, -1))


def write_results(folder: Path, form: str, drift: float) -> Path:
    """Write runs of a tracker that is near the target at first and then drifts."""
    for name in LENGTHS:
        (folder / name).mkdir(parents=True)
        for run, frames in runs_of(name):
            lines = ["1"]
            for step, k in enumerate(frames[1:], 1):
                x, y = place(k)
                x += 3 * np.sin(step) + drift * max(step - 15, 0)
                lines.append("0" if step == 7 else region(form, x, y + 2 * np.cos(step), 24, 19))
            (folder / name / f"{run}.txt").write_text("\n".join(lines) + "\n")
    return folder


RECORDED: dict[tuple[str, str, float], tuple[float, float, float]] = {
    ("box", "box", 0.0): (0.7013715295080092, 1.0, 0.7044389032704489),
    ("box", "polygon", 1.5): (0.498829640908523, 0.5104586642054136, 0.4129120716034646),
    ("polygon", "box", 1.5): (0.4935076487568831, 0.5104586642054136, 0.40872497458512014),
    ("polygon", "mask", 0.0): (0.4350673117747267, 1.0, 0.4341600533390265),
    ("mask", "box", 1.5): (0.3588609915304761, 0.5029379144422707, 0.2922462551709486),
    ("mask", "mask", 0.0): (0.33460379283892633, 1.0, 0.33509283094749975),
}
"""A, R and EAO of the VOT toolkit 0.9.0, by form of the annotation, of the result, and drift."""


@pytest.mark.parametrize(("truth", "result", "drift"), RECORDED)
def test_the_numbers_of_the_vot_toolkit(tmp_path, truth, result, drift):
    root = write_sequences(tmp_path / "sequences", truth)
    folder = write_results(tmp_path / "mine", result, drift)
    scores = score_multistart(folder, root, eao_frames=SPAN)
    expected = RECORDED[truth, result, drift]
    assert tuple(scores.metrics.values()) == pytest.approx(expected, abs=1e-12)


def test_the_expected_overlap_is_averaged_as_in_vot_rgbt_2020():
    """From 115 frames to 755, as the stack of its challenge in the VOT toolkit says."""
    assert EAO_FRAMES == (115, 755)


def test_every_number_has_an_interval_and_pairs_are_compared(tmp_path):
    root = write_sequences(tmp_path / "sequences", "polygon")
    steady = score_multistart(write_results(tmp_path / "steady", "box", 0), root, eao_frames=SPAN)
    lost = score_multistart(write_results(tmp_path / "lost", "box", 1.5), root, eao_frames=SPAN)
    intervals = score_intervals([steady, lost])
    for one, own in zip((steady, lost), intervals, strict=True):
        assert list(own.metrics) == ["A", "R", "EAO"]
        for name, (low, high) in own.metrics.items():
            assert low <= one.metrics[name] <= high
    (pair,) = paired_differences([lost, steady])
    assert (pair.first, pair.metric) == ("steady", "EAO")
    assert pair.difference == pytest.approx(steady.metrics["EAO"] - lost.metrics["EAO"])
    assert steady.attributes["occlusion"].names == ("car", "dog")
    assert "| steady |" in to_markdown(score_table([steady, lost], intervals=intervals))
    written = summary([steady, lost], intervals, {"EAO": [pair]})
    assert written["trackers"]["lost"]["metrics"]["R"]["value"] == lost.metrics["R"]
    endless = replace(steady, metrics={**steady.metrics, "A": math.inf, "R": math.nan})
    figures = summary([endless], intervals[:1], {})["trackers"]["steady"]["metrics"]
    assert figures["A"]["value"] is figures["R"]["value"] is None
    # one sequence alone gives the numbers of the whole
    alone = score_multistart(tmp_path / "lost", root, sequences=["man"], eao_frames=SPAN)
    assert dict(alone.metrics) == pytest.approx(dict(lost.sequences["man"]))


def test_a_tracker_is_run_from_every_anchor_and_scored(tmp_path):
    root = write_sequences(tmp_path / "sequences", "polygon", whole=True)
    runs = open_multistart(root)
    assert [run.name for run in runs.sequences[:3]] == [name for name, _ in runs_of("car")]
    back = runs.sequences[2]
    assert [path.stem for path in back.tir] == [f"{k + 1:08d}" for k in range(65, -1, -1)]
    assert back.truth.rgb[0] == pytest.approx([*place(65), 26, 18], abs=1e-3)
    # images and boxes are those of the run alone
    assert all(run.truth.skipped == 0 for run in runs.sequences)
    assert [len(run.truth.frames) for run in runs.sequences] == [len(run) for run in runs.sequences]
    report = run_tracker(Drift, runs, tmp_path / "mine")
    assert (len(report.finished), dict(report.failed)) == (9, {})
    scores = score_multistart(tmp_path / "mine", root, eao_frames=SPAN)
    assert scores.frames == sum(len(run) for run in runs.sequences)
    assert 0 < scores.metrics["A"] < 1
    assert run_tracker(Drift, runs, tmp_path / "mine").kept == report.finished


def test_results_that_lack_a_run_are_refused_or_skipped(tmp_path):
    root = write_sequences(tmp_path / "sequences", "box")
    folder = write_results(tmp_path / "mine", "box", 0)
    (folder / "car" / "car_00000025.txt").unlink()
    short = folder / "dog" / "dog_00000000.txt"
    short.write_text("1\n1,2,3,4\n")
    (folder / "man" / "man_00000000.txt").write_text("1\nnonsense\n")
    with pytest.raises(IncompleteResultsError, match="car: run car_00000025 is missing; dog: run "):
        score_multistart(folder, root)
    with pytest.raises(IncompleteResultsError, match="3 cannot be scored"):
        score_multistart(folder, root, incomplete="skip")
    write_results(tmp_path / "again", "box", 0)
    (folder / "man" / "man_00000000.txt").write_bytes(
        (tmp_path / "again" / "man" / "man_00000000.txt").read_bytes()
    )
    scores = score_multistart(folder, root, incomplete="skip", eao_frames=SPAN)
    assert list(scores.sequences) == ["man"]
    assert scores.left_out["dog"] == "run dog_00000000 must have 48 regions, got 2"
    with pytest.raises(DataError, match="results must be a folder"):
        score_multistart(tmp_path / "nowhere", root)
    with pytest.raises(ValueError, match="eao_frames must be two rising numbers"):
        score_multistart(folder, root, eao_frames=(60, 20))


def binary(lines: list[str]) -> bytes:
    """Regions as the toolkit writes them into its binary files."""
    parts = [struct.pack("<hI", 1, len(lines))]
    for line in lines:
        kind, values, offset = parse_region(line)
        if kind == "none":
            parts.append(struct.pack("<BI", 0, 1))
        elif kind == "box":
            parts.append(struct.pack("<B4f", 1, *values))
        elif kind == "polygon":
            parts.append(struct.pack(f"<BH{values.size}f", 2, len(values), *values.ravel()))
        else:
            numbers = [int(word) for word in line[1:].split(",")]
            runs = numbers[4:]
            parts.append(struct.pack(f"<BhhHHH{len(runs)}H", 3, *numbers[:4], len(runs), *runs))
            assert offset == tuple(numbers[:2])
    return b"".join(parts)


@pytest.mark.parametrize("result", ["box", "polygon", "mask"])
def test_binary_results_score_as_text(tmp_path, result):
    root = write_sequences(tmp_path / "sequences", "polygon")
    folder = write_results(tmp_path / "mine", result, 1.5)
    expected = score_multistart(folder, root, eao_frames=SPAN)
    for path in list(folder.glob("*/*.txt")):
        path.with_suffix(".bin").write_bytes(binary(path.read_text().splitlines()))
        path.unlink()
    scores = score_multistart(folder, root, eao_frames=SPAN)
    assert dict(scores.metrics) == dict(expected.metrics)
    cut = folder / "man" / "man_00000000.bin"
    cut.write_bytes(cut.read_bytes()[:-3])
    with pytest.raises(IncompleteResultsError, match="region 90 cannot be read"):
        score_multistart(folder, root)


@pytest.mark.parametrize("text", ["0\n0\n", "", "a\n", "1 2\n"])
def test_anchors_that_are_none(tmp_path, text):
    (tmp_path / "anchor.value").write_text(text)
    with pytest.raises(DataError, match=r"anchor\.value"):
        read_anchors(tmp_path)


def test_a_sequence_without_anchors_does_not_stop_the_others(tmp_path):
    root = write_sequences(tmp_path / "sequences", "box", whole=True)
    (root / "dog" / "anchor.value").unlink()
    runs = open_multistart(root)
    assert len(runs.sequences) == 6
    assert "anchor.value" in runs.refused["dog"]


@pytest.mark.parametrize("flag", ["1", "-1"])
def test_an_anchor_behind_the_annotation_is_refused(tmp_path, flag):
    root = write_sequences(tmp_path / "sequences", "box", whole=True)
    with (root / "dog" / "anchor.value").open("a") as file:
        file.write(f"{flag}\n")
    message = "must mark frames below 48, which are annotated, got 48"
    assert message in open_multistart(root).refused["dog"]
    with pytest.raises(DataError, match=message):
        score_multistart(write_results(tmp_path / "mine", "box", 0), root)


def test_the_folder_of_a_tracker_in_a_workspace_will_do(tmp_path):
    root = write_sequences(tmp_path / "sequences", "box")
    write_results(tmp_path / "mine" / "baseline", "box", 1.5)
    scores = score_multistart(tmp_path / "mine", root, eao_frames=SPAN)
    inner = score_multistart(tmp_path / "mine" / "baseline", root, eao_frames=SPAN)
    assert (scores.tracker, inner.tracker) == ("mine", "baseline")
    assert scores.metrics == inner.metrics

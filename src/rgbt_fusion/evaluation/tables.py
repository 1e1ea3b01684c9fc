"""Scores as tables: plain data first, then Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rgbt_fusion.evaluation.scores import Scores

__all__ = [
    "Table",
    "attribute_table",
    "score_table",
    "sequence_table",
    "to_cells",
    "to_csv",
    "to_latex",
    "to_markdown",
]

Cell = str | int | float | None

_COUNTS = ("miss_count",)
_LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


class Table(NamedTuple):
    """A header and rows; the first column names the row, None is an empty cell."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


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
        >>> from rgbt_fusion.evaluation.tables import score_table, to_markdown
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


def to_cells(table: Table, *, digits: int = 3) -> list[list[str]]:
    """Return the table as texts, the header first."""
    return [[_text(cell, digits) for cell in row] for row in (table.header, *table.rows)]


def to_markdown(table: Table, *, digits: int = 3) -> str:
    """Return the table in Markdown."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in to_cells(table, digits=digits)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(table.header), *lines[1:]])


def to_latex(table: Table, *, digits: int = 3) -> str:
    """Return the table in LaTeX, for the package booktabs."""
    cells = [[_escape(cell) for cell in row] for row in to_cells(table, digits=digits)]
    lines = [f"{' & '.join(row)} \\\\" for row in cells]
    columns = "l" + "r" * (len(table.header) - 1)
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}"


def to_csv(table: Table) -> str:
    """Return the table as comma-separated values, numbers in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows(
        ["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in row]
        for row in table.rows
    )
    return text.getvalue()


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


def _text(cell: Cell, digits: int) -> str:
    if cell is None:
        return ""
    return f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)

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
    """Return one row a tracker, the best in the benchmark's last number first.

    Args:
        scores: the trackers' scores on one benchmark.
        metrics: the columns; None takes the benchmark's own, and the speed where any tracker's is
            known.

    Raises:
        ValueError: there is no score.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> from rgbt_fusion import score
        >>> from rgbt_fusion.evaluation.scoring import BenchmarkTruth
        >>> from rgbt_fusion.evaluation.tables import score_table, to_markdown
        >>> boxes = np.array([[1.0, 1, 10, 10], [5, 5, 10, 10]])
        >>> truth = BenchmarkTruth("lasher", {"car": GroundTruth(boxes, boxes, np.arange(2))}, {})
        >>> print(to_markdown(score_table([score({"car": boxes}, truth, tracker="mine")])))
        | tracker | PR | NPR | SR |
        |---|---|---|---|
        | mine | 1.000 | 1.000 | 0.952 |
    """
    own = _own_metrics(scores) if metrics is None else tuple(metrics)
    speed = ("fps",) if metrics is None and any(one.fps for one in scores) else ()
    incomplete = ("left out",) if any(one.left_out for one in scores) else ()
    ranked = sorted(scores, key=lambda one: -one.metrics.get(scores[0].protocol.metrics[-1], 0.0))
    rows = [
        (
            one.tracker,
            *(_cell(one.metrics, name) for name in own),
            *((round(one.fps, 1) if one.fps else None,) if speed else ()),
            *((len(one.left_out),) if incomplete else ()),
        )
        for one in ranked
    ]
    return Table(("tracker", *own, *speed, *incomplete), tuple(rows))


def attribute_table(scores: Sequence[Scores], *, metric: str | None = None) -> Table:
    """Return one row an attribute with its number of sequences, one column a tracker; the last row
    is all sequences.

    Args:
        scores: the trackers' scores on one benchmark.
        metric: the number to show; None takes the last of the benchmark's own.

    Raises:
        ValueError: there is no score.
    """
    name = _own_metrics(scores)[-1] if metric is None else metric
    attributes = list(dict.fromkeys(key for one in scores for key in one.attributes))
    rows: list[tuple[Cell, ...]] = []
    for key in attributes:
        found = [one.attributes.get(key) for one in scores]
        count = max(one.sequences for one in found if one)
        rows.append((key, count, *(_cell(one.metrics, name) if one else None for one in found)))
    rows.append(
        (
            "all",
            max(len(one.sequences) for one in scores),
            *(_cell(one.metrics, name) for one in scores),
        )
    )
    return Table((name, "sequences", *(one.tracker for one in scores)), tuple(rows))


def sequence_table(scores: Scores, *, metrics: Sequence[str] | None = None) -> Table:
    """Return one row a sequence, worst first; sequences that were left out come last with their
    reason."""
    own = _own_metrics([scores]) if metrics is None else tuple(metrics)
    ranked = sorted(
        scores.sequences.items(), key=lambda item: item[1].get(scores.protocol.metrics[-1], 0.0)
    )
    rows: list[tuple[Cell, ...]] = [
        (name, *(_cell(numbers, key) for key in own)) for name, numbers in ranked
    ]
    if not scores.left_out:
        return Table(("sequence", *own), tuple(rows))
    rows = [(*row, "") for row in rows]
    rows += [(name, *(None for _ in own), reason) for name, reason in scores.left_out.items()]
    return Table(("sequence", *own, "left out"), tuple(rows))


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


def _cell(numbers: Mapping[str, float], name: str) -> Cell:
    value = numbers.get(name)
    return value if value is None or name not in _COUNTS else round(value)


def _text(cell: Cell, digits: int) -> str:
    if cell is None:
        return ""
    return f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)

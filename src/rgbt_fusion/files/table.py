"""Tables as data first, then as Markdown, LaTeX and CSV; and documents with marked parts."""

import csv
import io
import math
import re
from collections.abc import Callable
from typing import NamedTuple

__all__ = [
    "Cell",
    "Figure",
    "Table",
    "best_cells",
    "decimals_of",
    "fill_marked",
    "to_cells",
    "to_csv",
    "to_latex",
    "to_markdown",
]


class Figure(NamedTuple):
    """A number with its interval.

    Example:
        >>> from rgbt_fusion.files.table import Figure, Table, to_markdown
        >>> rows = (("mine", Figure(0.52431, 0.4902, 0.5611, best=True)), ("theirs", Figure(0.5)))
        >>> print(to_markdown(Table(("tracker", "SR"), rows)))
        | tracker | SR |
        |---|---|
        | mine | **0.524 [0.490, 0.561]** |
        | theirs | 0.500 |
    """

    value: float
    """The number."""
    low: float | None = None
    """Lower end of its interval, None where there is none."""
    high: float | None = None
    """Upper end of its interval, None where there is none."""
    best: bool = False
    """Whether it is the best of those it is compared with; tables show it in bold."""
    signed: bool = False
    """Whether a plus stands before it, as before a difference."""


Cell = str | int | float | Figure | None
"""What stands in a table; None is an empty cell."""

USUAL_DECIMALS = 3
"""Decimals of a number without an interval."""

_LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}

# a spreadsheet takes a text that begins with one of these for a formula, and runs it; some do so
# behind white space, too
_BEGINNINGS_OF_FORMULAS = ("=", "+", "-", "@")


class Table(NamedTuple):
    """A header and rows; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def decimals_of(low: float, high: float) -> int:
    """Return how many decimals an interval justifies: two digits of half its width.

    Example:
        >>> from rgbt_fusion.files.table import decimals_of
        >>> decimals_of(0.490, 0.561), decimals_of(0.3, 0.7), decimals_of(11.0, 96.0)
        (3, 2, 0)
    """
    half = (high - low) / 2
    if not 0 < half < math.inf:
        return USUAL_DECIMALS
    return min(max(1 - math.floor(math.log10(half)), 0), 6)


def to_cells(table: Table, *, digits: int | None = None) -> list[list[str]]:
    """Return the table as texts, the header first.

    Args:
        table: the table.
        digits: decimals of its floating-point numbers. None shows three, and where a number has an
            interval as many as that justifies.
    """
    return [[_text(cell, digits) for cell in row] for row in (table.header, *table.rows)]


def best_cells(table: Table) -> list[list[bool]]:
    """Return which cells are the best of those they are compared with, the header first."""
    return [
        [isinstance(cell, Figure) and cell.best for cell in row]
        for row in (table.header, *table.rows)
    ]


def to_markdown(table: Table, *, digits: int | None = None) -> str:
    """Return the table in Markdown, the best figures in bold.

    Args:
        table: the table.
        digits: as in :func:`to_cells`.

    Example:
        >>> from rgbt_fusion.files.table import Table, to_markdown
        >>> print(to_markdown(Table(("tracker", "SR"), (("mine", 0.5), ("a|b", None)))))
        | tracker | SR |
        |---|---|
        | mine | 0.500 |
        | a\\|b |  |
    """
    header, *rows = _written(table, digits, _markdown_cell)
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(table.header), *lines[1:]])


def to_latex(table: Table, *, digits: int | None = None) -> str:
    """Return the table in LaTeX, for the package booktabs, the best figures in bold.

    Args:
        table: the table.
        digits: as in :func:`to_cells`.
    """
    header, *rows = _written(table, digits, _latex_cell)
    lines = [f"{' & '.join(cells)} \\\\" for cells in (header, *rows)]
    columns = "l" + "r" * (len(table.header) - 1)
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}"


def to_csv(table: Table) -> str:
    """Return the table as comma-separated values, numbers in full precision.

    The ends of intervals stand in columns of their own behind all others. A text that a spreadsheet
    would run as a formula gets an apostrophe in front, which spreadsheets take for "this is a
    text".

    Example:
        >>> from rgbt_fusion.files.table import Figure, Table, to_csv
        >>> print(to_csv(Table(("tracker", "SR"), (("=1+1", 1 / 3), ("-2", -2)))), end="")
        tracker,SR
        '=1+1,0.3333333333333333
        -2,-2
        >>> print(to_csv(Table(("tracker", "SR"), (("mine", Figure(0.5, 0.4, 0.6)),))), end="")
        tracker,SR,SR low,SR high
        mine,0.5,0.4,0.6
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    with_interval = _columns_with_intervals(table)
    header = [_csv_cell(cell) for cell in table.header]
    for column in with_interval:
        header += [f"{header[column]} low", f"{header[column]} high"]
    writer.writerow(header)
    for row in table.rows:
        cells = [_csv_cell(cell) for cell in row]
        for column in with_interval:
            cell = row[column]
            ends = (cell.low, cell.high) if isinstance(cell, Figure) else (None, None)
            cells += [_csv_cell(end) for end in ends]
        writer.writerow(cells)
    return text.getvalue()


def fill_marked(document: str, kind: str, make: Callable[[str], str]) -> str:
    """Return a document with its marked parts made anew.

    A part stands between ``<!-- kind: name -->`` and ``<!-- /kind -->``, or has no name and stands
    between ``<!-- kind -->`` and ``<!-- /kind -->``. The markers stay.

    Args:
        document: the text.
        kind: what the parts to fill are marked as.
        make: returns the content of a part from its name, which is empty where there is none.

    Raises:
        ValueError: a part of ``document`` has no end.

    Example:
        >>> from rgbt_fusion.files.table import fill_marked
        >>> print(fill_marked("<!-- sum: 1+2 -->\\nold\\n<!-- /sum -->", "sum", lambda name: "3"))
        <!-- sum: 1+2 -->
        3
        <!-- /sum -->
    """
    start = re.compile(rf"<!-- {re.escape(kind)}(?:: (\S+))? -->\n")
    end = f"<!-- /{kind} -->"
    filled = []
    position = 0
    for marker in start.finditer(document):
        behind = document.find(end, marker.end())
        if behind < 0:
            raise ValueError(f"document must hold {end} behind {marker[0].strip()}, but does not")
        content = make(marker[1] or "")
        filled += [document[position : marker.end()], content, "\n" if content else ""]
        position = behind
    return "".join([*filled, document[position:]])


def _text(cell: Cell, digits: int | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Figure):
        return _figure(cell, digits)
    if isinstance(cell, float):
        return f"{cell:.{USUAL_DECIMALS if digits is None else digits}f}"
    return str(cell)


def _figure(figure: Figure, digits: int | None) -> str:
    """Return a number and its interval as text."""
    sign = "+" if figure.signed else ""
    if figure.low is None or figure.high is None:
        decimals = USUAL_DECIMALS if digits is None else digits
        return f"{figure.value:{sign}.{decimals}f}"
    decimals = decimals_of(figure.low, figure.high) if digits is None else digits
    number, low, high = (
        f"{part:{sign}.{decimals}f}" for part in (figure.value, figure.low, figure.high)
    )
    return f"{number} [{low}, {high}]"


def _written(
    table: Table, digits: int | None, write: Callable[[str, bool], str]
) -> list[list[str]]:
    """Return all cells in the language of a writer, the header first."""
    texts = to_cells(table, digits=digits)
    bold = best_cells(table)
    return [
        [write(text, best) for text, best in zip(*row, strict=True)]
        for row in zip(texts, bold, strict=True)
    ]


def _markdown_cell(text: str, best: bool) -> str:
    escaped = _one_line(text).replace("|", r"\|")
    return f"**{escaped}**" if best else escaped


def _latex_cell(text: str, best: bool) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in _one_line(text))
    return rf"\textbf{{{escaped}}}" if best else escaped


def _columns_with_intervals(table: Table) -> list[int]:
    """Return the positions of the columns in which a figure has an interval."""
    columns: set[int] = set()
    for row in table.rows:
        for column, cell in enumerate(row):
            if isinstance(cell, Figure) and cell.low is not None:
                columns.add(column)
    return sorted(columns)


def _one_line(cell: str) -> str:
    """Return a text without ends of lines, which would end a row."""
    return " ".join(cell.splitlines())


def _csv_cell(cell: Cell) -> str | int:
    if cell is None:
        return ""
    if isinstance(cell, Figure):
        return repr(float(cell.value))
    if isinstance(cell, float):
        return repr(cell)
    if isinstance(cell, int):
        return cell
    text = _one_line(cell)
    if text.lstrip().startswith(_BEGINNINGS_OF_FORMULAS) and not _is_number(text):
        return f"'{text}"
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Tables as data first, then as Markdown, LaTeX and CSV; and documents with marked parts."""

import csv
import io
import re
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Cell", "Table", "fill_marked", "to_cells", "to_csv", "to_latex", "to_markdown"]

Cell = str | int | float | None
"""What stands in a table; None is an empty cell."""

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


def to_cells(table: Table, *, digits: int = 3) -> list[list[str]]:
    """Return the table as texts, the header first.

    Args:
        table: the table.
        digits: decimals of its floating-point numbers.
    """
    return [[_text(cell, digits) for cell in row] for row in (table.header, *table.rows)]


def to_markdown(table: Table, *, digits: int = 3) -> str:
    """Return the table in Markdown.

    Args:
        table: the table.
        digits: decimals of its floating-point numbers.

    Example:
        >>> from rgbt_fusion.files.table import Table, to_markdown
        >>> print(to_markdown(Table(("tracker", "SR"), (("mine", 0.5), ("a|b", None)))))
        | tracker | SR |
        |---|---|
        | mine | 0.500 |
        | a\\|b |  |
    """
    header, *rows = [_markdown_row(cells) for cells in to_cells(table, digits=digits)]
    return "\n".join([header, "|" + "---|" * len(table.header), *rows])


def to_latex(table: Table, *, digits: int = 3) -> str:
    """Return the table in LaTeX, for the package booktabs.

    Args:
        table: the table.
        digits: decimals of its floating-point numbers.
    """
    header, *rows = [_latex_row(cells) for cells in to_cells(table, digits=digits)]
    columns = "l" + "r" * (len(table.header) - 1)
    body = "\n".join([r"\toprule", header, r"\midrule", *rows, r"\bottomrule"])
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}"


def to_csv(table: Table) -> str:
    """Return the table as comma-separated values, numbers in full precision.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, which spreadsheets
    take for "this is a text".

    Example:
        >>> from rgbt_fusion.files.table import Table, to_csv
        >>> print(to_csv(Table(("tracker", "SR"), (("=1+1", 1 / 3), ("-2", -2)))), end="")
        tracker,SR
        '=1+1,0.3333333333333333
        -2,-2
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (table.header, *table.rows):
        writer.writerow([_csv_cell(cell) for cell in row])
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


def _text(cell: Cell, digits: int) -> str:
    if cell is None:
        return ""
    return f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def _markdown_row(cells: list[str]) -> str:
    escaped = [_one_line(cell).replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _latex_row(cells: list[str]) -> str:
    escaped = ["".join(_LATEX.get(letter, letter) for letter in _one_line(cell)) for cell in cells]
    return f"{' & '.join(escaped)} \\\\"


def _one_line(cell: str) -> str:
    """Return a text without ends of lines, which would end a row."""
    return " ".join(cell.splitlines())


def _csv_cell(cell: Cell) -> str | int:
    if cell is None:
        return ""
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

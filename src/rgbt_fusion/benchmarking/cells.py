"""How figures are written in the cells of a table."""

import math
from collections.abc import Iterable
from itertools import compress

from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.benchmarking.timing import Spread
from rgbt_fusion.files.table import Table

__all__ = [
    "by_comparison",
    "errors",
    "megabytes",
    "milliseconds",
    "ns_per_16_elements",
    "number",
    "parameters",
    "without_empty",
]


def number(value: float) -> str:
    """Return three significant digits without an exponent.

    Example:
        >>> from rgbt_fusion.benchmarking.cells import number
        >>> number(0.01234), number(60.06), number(18713.2)
        ('0.0123', '60.1', '18,713')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def milliseconds(spread: Spread | None) -> str:
    """Return the median and, where there are several samples, the quartiles."""
    if spread is None:
        return ""
    if spread.samples < 2:
        return f"{number(spread.median)} (one run)"
    return f"{number(spread.median)} [{number(spread.q1)}-{number(spread.q3)}]"


def ns_per_16_elements(row: Row) -> float | None:
    """Return the nanoseconds of a scan per token and channel with 16 states; None of other rows."""
    if row.task != "scan" or row.time is None:
        return None
    elements = math.prod(row.sizes[axis] for axis in "BDLN")
    return row.time.median * 1e6 * 16 / elements


def megabytes(row: Row) -> str:
    """Return the extra memory; empty where it was not measured."""
    return "" if row.extra_bytes is None else number(row.extra_bytes / 2**20)


def parameters(row: Row) -> str:
    """Return the number of parameters; empty where they were not counted."""
    return "" if row.parameters is None else f"{row.parameters:,}"


def errors(row: Row) -> str:
    """Return the errors, one after the other; empty where they were not measured."""
    return "" if row.error is None else " / ".join(f"{value:.1e}" for value in row.error.values())


def by_comparison(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each comparison, in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.comparison, []).append(row)
    return groups


def without_empty(table: Table) -> Table:
    """Return a table without the columns that are empty in every row."""
    filled = [any(cells) for cells in zip(*table.rows, strict=True)]
    header = tuple(compress(table.header, filled))
    rows = tuple(tuple(compress(row, filled)) for row in table.rows)
    return Table(header, rows)

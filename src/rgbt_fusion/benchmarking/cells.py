"""How figures are written in the cells of a table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.benchmarking.timing import Spread

__all__ = [
    "Table",
    "by_comparison",
    "errors",
    "markdown",
    "megabytes",
    "milliseconds",
    "ns_per_16_elements",
    "number",
    "without_empty",
]


@dataclass(frozen=True)
class Table:
    """A heading of columns and lines of cells, all text."""

    columns: Sequence[str]
    lines: Sequence[Sequence[str]]


def markdown(table: Table) -> str:
    """Return ``table`` in Markdown."""
    rows = [table.columns, ["---"] * len(table.columns), *table.lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def number(value: float) -> str:
    """Return three significant digits without an exponent."""
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
    """Return nanoseconds for 16 state-elements of a scan: one token of one channel with 16
    states."""
    spread = row.time
    if row.task != "scan" or spread is None:
        return None
    return spread.median * 1e6 * 16 / math.prod(row.sizes[axis] for axis in "BDLN")


def megabytes(row: Row) -> str:
    """Return the extra memory, empty where it was not measured."""
    return "" if row.extra_bytes is None else number(row.extra_bytes / 2**20)


def errors(row: Row) -> str:
    """Return the errors, one after the other."""
    return "" if row.error is None else " / ".join(f"{value:.1e}" for value in row.error.values())


def by_comparison(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each comparison, in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.comparison, []).append(row)
    return groups


def without_empty(table: Table) -> Table:
    """Return a table without the columns that nothing stands in."""
    keep = [i for i in range(len(table.columns)) if any(line[i] for line in table.lines)]
    return Table(
        [table.columns[i] for i in keep], [[line[i] for i in keep] for line in table.lines]
    )

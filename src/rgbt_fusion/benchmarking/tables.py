"""From rows to tables: for the terminal while a run goes on, and for the records of runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from rgbt_fusion.benchmarking.baselines import BOUNDS
from rgbt_fusion.benchmarking.cells import (
    by_comparison,
    errors,
    megabytes,
    milliseconds,
    ns_per_16_elements,
    number,
    parameters,
    without_empty,
)
from rgbt_fusion.benchmarking.records import PASSES, Record, Row
from rgbt_fusion.benchmarking.timing import Spread
from rgbt_fusion.files.table import Table, to_markdown

__all__ = ["TABLES", "MakeTable", "contest_table", "record_tables", "show"]

MakeTable = Callable[[Sequence[Row]], Table]


def contest_table(rows: Sequence[Row]) -> Table:
    """Show one contest, a line per contender that ran.

    The speed is that of the row over that of the baseline, whose own is 1.
    """
    rows = [row for row in rows if row.time]
    columns: dict[str, Callable[[Row], str]] = {
        "": lambda row: row.label,
        f"{rows[0].clock} ms": lambda row: number(_time(row).median),
        "quartiles": _quartiles,
        "speed": lambda row: "" if row.ratio is None else f"{number(row.ratio)}x",
        "ns / 16": _element_time,
        "of bound": lambda row: _share_of_bound(row, rows),
        "extra MB": megabytes,
        "error": errors,
        "parameters": parameters,
        "MMACs": lambda row: "" if row.macs is None else number(row.macs / 1e6),
    }
    cells = []
    for row in rows:
        cells.append(tuple(cell(row) for cell in columns.values()))
    return without_empty(Table(tuple(columns), tuple(cells)))


def _share_of_bound(row: Row, rows: Sequence[Row]) -> str:
    """Return the larger of the bounds over the time of a row: 100 % is as fast as can be."""
    bounds = [_time(other).median for other in rows if other.label in BOUNDS]
    if not bounds or row.label in BOUNDS:
        return ""
    return f"{max(bounds) / _time(row).median:.0%}"


def _time(row: Row) -> Spread:
    """Return the time of a row that was measured."""
    if row.time is None:
        raise ValueError(f"row must have a time, got none for {row.label}")
    return row.time


def _quartiles(row: Row) -> str:
    time = _time(row)
    return f"{number(time.q1)}-{number(time.q3)}" if time.samples > 1 else "one run"


def _element_time(row: Row) -> str:
    nanoseconds = ns_per_16_elements(row)
    return "" if nanoseconds is None else number(nanoseconds)


def against_others(rows: Sequence[Row]) -> Table:
    """Show a line per comparison: our time, and how many times as long each of the others takes."""
    groups = by_comparison(rows)
    ran = {row.label for row in rows if not row.skipped}
    labels = _labels(row for group in groups.values() for row in group[1:])
    others = [label for label in labels if label in ran]
    lines = []
    for title, (ours, *rest) in groups.items():
        found = {row.label: row for row in rest}
        ratios = [_times_as_long(found.get(label), ours) for label in others]
        lines.append(
            (
                title,
                milliseconds(ours.time),
                _element_time(ours),
                *ratios,
                megabytes(ours),
                _range_of_memory(rest),
                errors(ours),
            )
        )
    header = (
        "",
        f"ours, {rows[0].clock} ms",
        "ns / 16 elements",
        *(f"{label} / ours" for label in others),
        "extra MB",
        "others' extra MB",
        "error out / gradients",
    )
    return without_empty(Table(header, tuple(lines)))


def _labels(rows: Iterable[Row]) -> list[str]:
    """Return the labels of rows, each once, in order."""
    return list(dict.fromkeys(row.label for row in rows))


def _times_as_long(row: Row | None, ours: Row) -> str:
    if row is None or row.time is None or ours.time is None:
        return "-"
    return f"{number(row.time.median / ours.time.median)}x"


def _range_of_memory(rows: Sequence[Row]) -> str:
    found = [row.extra_bytes for row in rows if row.extra_bytes is not None]
    if not found:
        return ""
    least = number(min(found) / 2**20)
    most = number(max(found) / 2**20)
    return f"{least}-{most}"


def against_itself(rows: Sequence[Row]) -> Table:
    """Show a line per comparison, a column per variant: its time, and that over the first's."""
    labels = _labels(rows)
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        times = [_time_and_share(found.get(label)) for label in labels]
        lines.append((title, *times, _all_memory(group), _first_and_last_error(group)))
    header = (
        "",
        *(f"{label}, {rows[0].clock} ms" for label in labels),
        "extra MB",
        "error of the first ; last",
    )
    return without_empty(Table(header, tuple(lines)))


def _time_and_share(row: Row | None) -> str:
    if row is None:
        return ""
    share = "" if row.ratio in (None, 1.0) else f", {1 / row.ratio:.2f}x"
    return f"{milliseconds(row.time)}{share}"


def _all_memory(group: Sequence[Row]) -> str:
    if group[0].extra_bytes is None:
        return ""
    return " / ".join(megabytes(row) for row in group)


def _first_and_last_error(group: Sequence[Row]) -> str:
    if not group[0].error:
        return ""
    found = (errors(group[0]), errors(group[-1]))
    return " ; ".join(text for text in found if text)


def layer_table(rows: Sequence[Row]) -> Table:
    """Show a line per layer and size: parameters, arithmetic, time, memory."""
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        passes = [found.get(name) for name in PASSES.values()]
        first = group[0]
        lines.append(
            (
                title,
                f"{first.parameters or 0:,}",
                number((first.macs or 0) / 1e6),
                *("" if row is None else milliseconds(row.time) for row in passes),
                _beside_counterpart(first),
                *("" if row is None else megabytes(row) for row in passes),
            )
        )
    header = (
        "layer",
        "parameters",
        "MMACs",
        *(f"{name}, {rows[0].clock} ms" for name in PASSES.values()),
        "time over",
        *(f"{name}, extra MB" for name in PASSES.values()),
    )
    return without_empty(Table(header, tuple(lines)))


def _beside_counterpart(row: Row) -> str:
    """Return the time over that of the layer which does the same job another way."""
    if not row.ratio or row.baseline in PASSES.values():
        return ""
    return f"{1 / row.ratio:.2f}x {row.baseline}"


TABLES: dict[str, MakeTable] = {
    "scan": against_others,
    "scan-dtypes": against_itself,
    "scan-threads": against_itself,
    "scan-order": against_itself,
    "conv": against_others,
    "conv-dtypes": against_itself,
    "conv-threads": against_itself,
    "conv-order": against_itself,
    "block": against_others,
    "block-share": against_itself,
    "dfm": against_others,
    "ofm-scan": against_others,
    "ofm": against_others,
    "layers": layer_table,
    "attention-scores": against_others,
}
"""How the rows of each table are shown."""


def record_tables(records: Sequence[Record], tables: Mapping[str, MakeTable] = TABLES) -> str:
    """Return the Markdown of every table that the records have rows for.

    Args:
        records: what was measured.
        tables: how the rows of each table are shown.
    """
    parts = []
    for name, make in tables.items():
        shown = show(records, make, table=name)
        if shown:
            parts.append(f"### {name}\n\n{shown}")
    return "\n\n".join(parts)


def show(records: Sequence[Record], make: MakeTable, *, table: str | None = None) -> str:
    """Return one table per machine and device, each above a line that says where it was taken.

    Args:
        records: what was measured.
        make: makes the table from rows.
        table: whose rows are shown; by default those of all tables.
    """
    places: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        places.setdefault((record.machine.name, record.device), []).append(record)
    parts = []
    for group in places.values():
        every_row = chain.from_iterable(record.rows for record in group)
        rows = [row for row in every_row if table in (None, row.table)]
        shown = make(rows) if rows else None
        if shown is not None and shown.rows:
            parts.append(f"{to_markdown(shown)}\n\n{_caption(group[-1], rows)}")
    return "\n\n".join(parts)


def _caption(record: Record, rows: Sequence[Row]) -> str:
    machine = record.machine
    place = f"{machine.cpu}, {machine.cores} cores, {machine.instructions}"
    if record.device == "cuda":
        place = machine.gpu
    counts = sorted({row.threads for row in rows})
    threads = "1 thread" if counts == [1] else f"{' and '.join(map(str, counts))} threads"
    torch_version = record.software.get("torch", "?")
    return f"*{place}; torch {torch_version}; {threads}; version {record.version}.*"

"""From rows to tables: Markdown for the documentation, cells for the terminal, and the tables
inside of documents."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rgbt_fusion.benchmarking.cells import (
    Table,
    by_comparison,
    errors,
    markdown,
    megabytes,
    milliseconds,
    ns_per_16_elements,
    number,
    without_empty,
)
from rgbt_fusion.benchmarking.headline import headline_table, readme_table
from rgbt_fusion.benchmarking.model_tables import (
    forms_table,
    frames_table,
    models_table,
    prompter_table,
    settings_table,
)
from rgbt_fusion.benchmarking.records import Record, Row
from rgbt_fusion.benchmarking.timing import Spread

__all__ = ["TABLES", "Table", "comparison_table", "fill_document", "markdown", "record_tables"]


def comparison_table(rows: Sequence[Row]) -> Table:
    """Show one comparison, a line a contender that ran: what the terminal shows while a run goes
    on.

    The speed is that of the row over that of the baseline, whose own is 1.
    """
    rows = [row for row in rows if row.time]
    columns = {
        "": lambda row: row.label,
        f"{rows[0].clock} ms": lambda row: number(row.time.median),
        "quartiles": lambda row: (
            f"{number(row.time.q1)}-{number(row.time.q3)}" if row.time.samples > 1 else "one run"
        ),
        "speed": lambda row: "" if row.ratio is None else f"{number(row.ratio)}x",
        "ns / 16": lambda row: "" if (ns := ns_per_16_elements(row)) is None else number(ns),
        "extra MB": megabytes,
        "error": errors,
        "parameters": lambda row: "" if row.parameters is None else f"{row.parameters:,}",
        "MMACs": lambda row: "" if row.macs is None else number(row.macs / 1e6),
    }
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    shown = [name for name, column in cells.items() if any(column)]
    return Table(shown, list(zip(*(cells[name] for name in shown), strict=True)))


def against_others(rows: Sequence[Row]) -> Table:
    """One line a comparison: our time, and how many times as long each of the others takes."""
    others = list(
        dict.fromkeys(row.label for group in by_comparison(rows).values() for row in group[1:])
    )
    others = [
        label for label in others if any(row.label == label and not row.skipped for row in rows)
    ]
    lines = []
    for title, (ours, *rest) in by_comparison(rows).items():
        found = {row.label: row for row in rest}
        cells = [title, milliseconds(ours.time)]
        if ns_per_16_elements(ours) is not None:
            cells.append(number(ns_per_16_elements(ours) or 0.0))
        cells += [_times_as_long(found.get(label), ours) for label in others]
        lines.append([*cells, megabytes(ours), _worst_memory(rest), errors(ours)])
    scan = ["ns / 16 elements"] if any(ns_per_16_elements(row) is not None for row in rows) else []
    columns = ["", f"ours, {rows[0].clock} ms", *scan, *(f"{label} / ours" for label in others)]
    return without_empty(
        Table([*columns, "extra MB", "others' extra MB", "error out / gradients"], lines)
    )


def _times_as_long(row: Row | None, ours: Row) -> str:
    theirs, own = None if row is None else row.time, ours.time
    return "-" if theirs is None or own is None else f"{number(theirs.median / own.median)}x"


def _worst_memory(rows: Sequence[Row]) -> str:
    found = [row.extra_bytes for row in rows if row.extra_bytes is not None]
    return f"{number(min(found) / 2**20)}-{number(max(found) / 2**20)}" if found else ""


def against_itself(rows: Sequence[Row]) -> Table:
    """One line a comparison, a column a variant: milliseconds, then how many times as long as the
    first."""
    labels = list(dict.fromkeys(row.label for row in rows))
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        cells = [title]
        for label in labels:
            row = found.get(label)
            share = "" if row is None or row.ratio in (None, 1.0) else f", {1 / row.ratio:.2f}x"
            cells.append("" if row is None else f"{milliseconds(row.time)}{share}")
        first, last = group[0], group[-1]
        memory = "" if first.extra_bytes is None else " / ".join(megabytes(row) for row in group)
        lines.append(
            [
                *cells,
                memory,
                " ; ".join(filter(None, map(errors, (first, last) if first.error else ()))),
            ]
        )
    columns = ["", *(f"{label}, {rows[0].clock} ms" for label in labels)]
    return without_empty(Table([*columns, "extra MB", "error of the first ; last"], lines))


def layer_table(rows: Sequence[Row]) -> Table:
    """One line a layer and size: parameters, arithmetic, time, memory."""
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        times = [milliseconds(found[label].time) if label in found else "" for label in _PASSES]
        memory = [megabytes(found[label]) if label in found else "" for label in _PASSES]
        parameters, macs = group[0].parameters or 0, group[0].macs or 0
        counterpart, ratio = group[0].baseline, group[0].ratio
        beside = f"{1 / ratio:.2f}x {counterpart}" if ratio and counterpart not in _PASSES else ""
        lines.append([title, f"{parameters:,}", number(macs / 1e6), *times, beside, *memory])
    columns = [
        "layer",
        "parameters",
        "MMACs",
        *(f"{name}, {rows[0].clock} ms" for name in _PASSES),
        "time over",
    ]
    return without_empty(Table([*columns, *(f"{name}, extra MB" for name in _PASSES)], lines))


_PASSES = ("forward", "forward+backward")


def complexity_table(rows: Sequence[Row]) -> Table:
    """AINet's Fig. 5: time and memory of all fusion layers, by tokens and layers; then how fast
    they grow."""
    labels = list(dict.fromkeys(row.label for row in rows))
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        cells = [title, str(group[0].sizes["L"] * group[0].sizes["K"])]
        for label in labels:
            row = found.get(label)
            cells += (
                ["", ""] if row is None else [row.skipped or milliseconds(row.time), megabytes(row)]
            )
        lines.append(cells)
    lines.append(
        [
            "growth: exponent of the tokens",
            "",
            *(cell for label in labels for cell in _growth(rows, label)),
        ]
    )
    columns = (
        f"{label}, {what}" for label in labels for what in (f"{rows[0].clock} ms", "extra MB")
    )
    return Table(["", "tokens in all", *columns], lines)


def _growth(rows: Sequence[Row], label: str) -> list[str]:
    """Return the exponents of time and memory between the two largest resolutions that were
    measured."""
    most = max(row.sizes["K"] for row in rows)
    measured = [row for row in rows if row.label == label and row.sizes["K"] == most and row.time]
    ends = sorted(measured, key=lambda row: row.sizes["L"])[-2:]
    if len(ends) < 2:
        return ["", ""]
    span = math.log(ends[1].sizes["L"] / ends[0].sizes["L"])
    exponents = []
    for quantity in (
        lambda row: (row.time or Spread(0, 0, 0, 0)).median,
        lambda row: row.extra_bytes or 0,
    ):
        low, high = map(quantity, ends)
        exponents.append(f"{math.log(high / low) / span:.2f}" if low > 0 and high > 0 else "")
    return exponents


def startup_table(rows: Sequence[Row]) -> Table:
    """What has to be waited for before anything runs."""
    return Table(["", "wall ms"], [[row.label, milliseconds(row.wall_ms)] for row in rows])


TABLES: dict[str, Callable[[Sequence[Row]], Table]] = {
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
    "complexity": complexity_table,
    "models": models_table,
    "models-forms": forms_table,
    "models-settings": settings_table,
    "models-frames": frames_table,
    "models-prompter": prompter_table,
    "startup": startup_table,
}
"""How the rows of each table are shown. A document holds one between ``<!-- benchmark: NAME -->``
and ``<!-- /benchmark -->``."""

SUMMARIES = {"headline": headline_table, "readme": readme_table}
"""Tables whose figures are read off the rows of all others, marked in documents likewise."""


def record_tables(records: Sequence[Record], names: Iterable[str] | None = None) -> str:
    """Return the Markdown of the tables ``names``, all that the records have rows for by
    default."""
    present = [name for name in ("headline", *TABLES) if _shown(records, name)]
    return "\n\n".join(
        f"### {name}\n\n{_shown(records, name)}" for name in (present if names is None else names)
    )


def _shown(records: Sequence[Record], name: str) -> str:
    """Return one table, once a machine and device, each under a line that says where it was
    taken."""
    if name not in (*SUMMARIES, *TABLES):
        raise ValueError(
            f"a benchmark table must be one of {', '.join((*SUMMARIES, *TABLES))}, got {name!r}"
        )
    places: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        places.setdefault((record.machine.name, record.device), []).append(record)
    parts = []
    for group in places.values():
        rows = [row for record in group for row in record.rows]
        if name in SUMMARIES:
            table = Table(*SUMMARIES[name](rows))
        else:
            rows = [row for row in rows if row.table == name]
            table = TABLES[name](rows) if rows else Table([], [])
        if table.lines:
            parts.append(f"{markdown(table)}\n\n{_caption(group[-1], rows)}")
    return "\n\n".join(parts)


def _caption(record: Record, rows: Sequence[Row]) -> str:
    machine = record.machine
    place = (
        machine.gpu
        if record.device == "cuda"
        else f"{machine.cpu}, {machine.cores} cores, {machine.instructions}"
    )
    threads = sorted({row.threads for row in rows})
    used = f"{' and '.join(map(str, threads))} thread{'s' * (threads != [1])}"
    return (
        f"*{place}; torch {record.software.get('torch', '?')}; {used}; version {record.version}.*"
    )


_MARKED = re.compile(r"(<!-- benchmark: (\S+) -->\n).*?(<!-- /benchmark -->)", re.DOTALL)


def fill_document(text: str, records: Sequence[Record]) -> str:
    """Return ``text`` with every marked table made anew from ``records``; nothing stands where none
    has its rows.

    Raises:
        ValueError: a marker names no table.

    Example:
        >>> from rgbt_fusion.benchmarking.tables import fill_document
        >>> print(fill_document("<!-- benchmark: scan -->\\nold\\n<!-- /benchmark -->", []))
        <!-- benchmark: scan -->
        <!-- /benchmark -->
    """

    def fill(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        shown = _shown(records, name)
        return f"{start}{shown}\n{end}" if shown else f"{start}{end}"

    return _MARKED.sub(fill, text)


def fill_file(path: Path, records: Sequence[Record]) -> None:
    """Make the marked tables of a document anew."""
    path.write_text(fill_document(path.read_text(), records))

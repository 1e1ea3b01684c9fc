"""The tables of whole trackers."""

from collections.abc import Sequence

from rgbt_fusion.benchmarking.cells import (
    Table,
    by_comparison,
    megabytes,
    milliseconds,
    number,
    without_empty,
)
from rgbt_fusion.benchmarking.records import Row

__all__ = ["forms_table", "frames_table", "models_table", "prompter_table", "settings_table"]


def models_table(rows: Sequence[Row]) -> Table:
    """One line a tracker: parameters, arithmetic, its time over OSTrack's, and that of the same
    written naively."""
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        naive = found.get("written naively") or found.get("explicit attention")
        ours = group[0]
        process = "" if ours.resident_bytes is None else number(ours.resident_bytes / 2**20)
        lines.append(
            [
                title,
                *_counts(ours),
                milliseconds(ours.time),
                _over(ours),
                _over(naive),
                process,
                megabytes(ours),
            ]
        )
    columns = [
        "tracker",
        "parameters",
        "GMACs",
        f"{rows[0].clock} ms",
        "over OSTrack",
        "written naively, over OSTrack",
    ]
    return without_empty(Table([*columns, "whole process, MB", "one step, MB"], lines))


def prompter_table(rows: Sequence[Row]) -> Table:
    """One line a variant of the teacher, all timed in turn with the two streams that they
    prompt."""
    lines = [[row.label, *_counts(row), milliseconds(row.time), _over(row)] for row in rows]
    return Table(
        ["tracker", "parameters", "GMACs", f"{rows[0].clock} ms", f"over {rows[0].baseline}"], lines
    )


def forms_table(rows: Sequence[Row]) -> Table:
    """One line a tracker and form: its time over the eager one's, and how far its score map is from
    that."""
    lines = []
    for row in rows:
        error = (
            "" if row.error is None or row.label == row.baseline else f"{row.error['score']:.1e}"
        )
        lines.append(
            [row.comparison, row.label, row.skipped or milliseconds(row.time), _over(row), error]
        )
    return Table(
        ["tracker", "form", f"{rows[0].clock} ms", "over eager", "difference of the score"], lines
    )


def settings_table(rows: Sequence[Row]) -> Table:
    """One line a setting, a column a tracker: milliseconds a batch, targets a second, and the time
    over OSTrack's."""
    labels = list(dict.fromkeys(row.label for row in rows))
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        cells = [_speed(found[label]) if label in found else "" for label in labels]
        lines.append([title, group[0].clock, *cells])
    return Table(["", "clock", *labels], lines)


def frames_table(rows: Sequence[Row]) -> Table:
    """One line a tracker: frames a second of the network alone and from the frame to the box."""
    lines = []
    for title, group in by_comparison(rows).items():
        network, tracker = (row.time for row in group)
        if network is None or tracker is None:
            continue
        cells = [
            cell
            for spread in (network, tracker)
            for cell in (milliseconds(spread), number(1e3 / spread.median))
        ]
        lines.append([title, *cells])
    clock = rows[0].clock
    columns = [
        f"network, {clock} ms",
        "frames a second",
        f"end to end, {clock} ms",
        "frames a second",
    ]
    return Table(["tracker", *columns], lines)


def _counts(row: Row) -> list[str]:
    return [
        "" if row.parameters is None else f"{row.parameters:,}",
        "" if row.macs is None else number(row.macs / 1e9),
    ]


def _over(row: Row | None) -> str:
    """Return the time over that of the baseline."""
    return "" if row is None or not row.ratio else f"{1 / row.ratio:.2f}x"


def _speed(row: Row) -> str:
    if row.time is None:
        return row.skipped or ""
    share = "" if row.label == row.baseline else f", {_over(row)}"
    return (
        f"{number(row.time.median)} ms, {number(1e3 * row.sizes['B'] / row.time.median)}/s{share}"
    )

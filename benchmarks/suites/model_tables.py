"""The tables of whole trackers."""

from collections.abc import Sequence

from rgbt_fusion.benchmarking.cells import (
    by_comparison,
    megabytes,
    milliseconds,
    number,
    parameters,
    without_empty,
)
from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.files.table import Table

__all__ = ["forms_table", "frames_table", "models_table", "prompter_table", "settings_table"]


def models_table(rows: Sequence[Row]) -> Table:
    """Show a line per tracker: parameters, arithmetic, its time over OSTrack's, and memory.

    Beside it stands the time of the same tracker written naively.
    """
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        naive = found.get("written naively") or found.get("explicit attention")
        ours = group[0]
        lines.append(
            (
                title,
                parameters(ours),
                _giga_macs(ours),
                milliseconds(ours.time),
                _over(ours),
                _over(naive),
                "" if ours.resident_bytes is None else number(ours.resident_bytes / 2**20),
                megabytes(ours),
            )
        )
    header = (
        "tracker",
        "parameters",
        "GMACs",
        f"{rows[0].clock} ms",
        "over OSTrack",
        "written naively, over OSTrack",
        "whole process, MB",
        "one step, MB",
    )
    return without_empty(Table(header, tuple(lines)))


def prompter_table(rows: Sequence[Row]) -> Table:
    """Show a line per variant of the teacher, timed in turn with the streams that it prompts."""
    lines = [
        (row.label, parameters(row), _giga_macs(row), milliseconds(row.time), _over(row))
        for row in rows
    ]
    first = rows[0]
    header = ("tracker", "parameters", "GMACs", f"{first.clock} ms", f"over {first.baseline}")
    return Table(header, tuple(lines))


def forms_table(rows: Sequence[Row]) -> Table:
    """Show a line per tracker and form: its time over the eager one's.

    Beside it stands how far its score map is from the eager one's.
    """
    lines = [
        (
            row.comparison,
            row.label,
            row.skipped or milliseconds(row.time),
            _over(row),
            _score_difference(row),
        )
        for row in rows
    ]
    header = ("tracker", "form", f"{rows[0].clock} ms", "over eager", "difference of the score")
    return Table(header, tuple(lines))


def _score_difference(row: Row) -> str:
    if row.error is None or row.label == row.baseline:
        return ""
    return f"{row.error['score']:.1e}"


def settings_table(rows: Sequence[Row]) -> Table:
    """Show a line per setting, a column per tracker.

    A cell holds milliseconds per batch, targets per second, and the time over OSTrack's.
    """
    labels = list(dict.fromkeys(row.label for row in rows))
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        cells = [_speed(found[label]) if label in found else "" for label in labels]
        lines.append((title, group[0].clock, *cells))
    return Table(("", "clock", *labels), tuple(lines))


def frames_table(rows: Sequence[Row]) -> Table:
    """Show a line per tracker: the speed of the network alone, and from the frame to the box."""
    lines = []
    for title, group in by_comparison(rows).items():
        network, tracker = (row.time for row in group)
        if network is None or tracker is None:
            continue
        lines.append(
            (
                title,
                milliseconds(network),
                number(1e3 / network.median),
                milliseconds(tracker),
                number(1e3 / tracker.median),
            )
        )
    clock = rows[0].clock
    header = (
        "tracker",
        f"network, {clock} ms",
        "frames a second",
        f"end to end, {clock} ms",
        "frames a second",
    )
    return Table(header, tuple(lines))


def _giga_macs(row: Row) -> str:
    return "" if row.macs is None else number(row.macs / 1e9)


def _over(row: Row | None) -> str:
    """Return the time over that of the baseline."""
    return "" if row is None or not row.ratio else f"{1 / row.ratio:.2f}x"


def _speed(row: Row) -> str:
    if row.time is None:
        return row.skipped or ""
    time = number(row.time.median)
    rate = number(1e3 * row.sizes["B"] / row.time.median)
    share = "" if row.label == row.baseline else f", {_over(row)}"
    return f"{time} ms, {rate}/s{share}"

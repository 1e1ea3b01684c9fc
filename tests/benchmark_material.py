"""Rows and records made up for the tests, with figures that are easy to follow."""

from dataclasses import replace

from rgbt_fusion.benchmarking.records import Machine, Record, Row
from rgbt_fusion.benchmarking.timing import Spread

ROW = Row(
    suite="scan",
    table="scan",
    comparison="(1, 1536, 320, 16), token-major, forward",
    label="native",
    task="scan",
    contender="native",
    sizes={"B": 1, "D": 1536, "L": 320, "N": 16},
    dtype="float32",
    layout="token",
    backward=False,
    threads=1,
    device="cpu",
    baseline="reference loop",
)


def row(label: str, ms: float | None = None, **changes) -> Row:
    """A row whose two clocks show ``ms``, its quartiles a tenth around it."""
    spread = None if ms is None else Spread(ms, 0.9 * ms, 1.1 * ms, 5)
    return replace(ROW, label=label, wall_ms=spread, cpu_ms=spread, **changes)


def record(*rows: Row, suite: str = "scan", machine: str = "a-machine") -> Record:
    return Record(
        suite=suite,
        version="0.1.0",
        commit="0" * 40,
        created="2000-01-01T00:00:00+00:00",
        command="rgbt-fusion bench scan",
        device="cpu",
        machine=Machine(machine, "A Processor", 2, 16.0, "Linux", "AVX2"),
        software={"python": "3.11.0", "torch": "2.9.0"},
        rows=list(rows),
    )


SCAN_ROWS = (
    row("native", 4.0, ratio=60.0, extra_bytes=2 << 20, error={"out": 2e-7}),
    row("vectorised", 24.0, ratio=10.0, extra_bytes=6 << 20, error={"out": 3e-7}),
    row("reference loop", 240.0, ratio=1.0, extra_bytes=90 << 20, error={"out": 3e-7}),
    row("mamba-ssm", skipped="runs on cuda only"),
)

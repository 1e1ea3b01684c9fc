"""Hold what runs on a GPU to the float64 oracle, then time it against mamba-ssm and the card.

    # parity, timings, and a record in benchmarks/results
    python benchmarks/gpu_parity.py

    # some of the parity, nothing timed or written
    python benchmarks/gpu_parity.py --match "length 3840" --no-timing

    # without a GPU: a few tiny cases, interpreted
    python benchmarks/gpu_parity.py --dry-run

Parity takes a quarter of an hour, nearly all of it compilation, because row strides are compiled
in. It ends with status 1 if anything disagrees. The times are medians of CUDA events with a cold L2
cache (``triton.testing.do_bench``). mamba-ssm and causal-conv1d take part where they are
importable: build them from source on the machine.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
# The package and Triton look at it when they are imported.
os.environ["TRITON_INTERPRET"] = "1" if "--dry-run" in sys.argv else "0"

from ops.agreement import (
    ALL_OPTIONS,
    CONV_CASES,
    LAYOUTS,
    OTHER_TOLERANCE,
    SCAN_CASES,
    ScanCase,
    assert_conv_agrees,
    assert_scan_agrees,
    make_scan_inputs,
    run_scan,
)
from rgbt_fusion import backend_report
from rgbt_fusion.benchmarking.baselines import why_missing
from rgbt_fusion.benchmarking.records import PASSES, Row, new_record, read_record, write_record
from rgbt_fusion.benchmarking.timing import Spread, spread
from rgbt_fusion.benchmarking.workloads import Workload, error_against_float64, prepare
from rgbt_fusion.ops.triton import backend as triton_backend

ROOT = Path(__file__).resolve().parents[1]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = (
    (1, 1536, 320, 16),
    (8, 768, 320, 16),
    (1, 384, 3840, 8),
    (1, 1536, 3840, 16),
    (16, 1536, 3840, 16),
)
"""B, D, L, N."""
TAPS = 4
BFLOAT16_BYTES = 2
EXPONENTIALS_PER_CYCLE = 16
"""Of a multiprocessor, from compute capability 7.0 to 10.0."""

Check = Callable[[], None]


@dataclass(frozen=True)
class Run:
    """On what everything runs: a card, or the interpreter with next to nothing to do."""

    device: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    layouts: tuple[str, ...]
    cases: Callable[[int], bool]
    """Which lengths of the agreement cases are run."""

    @property
    def dry(self) -> bool:
        """Nothing is measured that means anything."""
        return self.device == "cpu"


CARD = Run("cuda", SHAPES, DTYPES, LAYOUTS, lambda length: True)
DRY = Run("cpu", ((1, 4, 24, 4),), DTYPES[:1], LAYOUTS[:1], lambda length: length <= 3)


def parity_checks(run: Run) -> Iterator[tuple[str, Check]]:
    """Yield the name of each check and what raises if it fails.

    The Triton kernels come first, then all that users call.
    """
    for dtype in run.dtypes:
        layouts = run.layouts if dtype == torch.float32 else run.layouts[:1]
        for layout in layouts:
            yield from _agreement_checks(run, dtype, layout)
    yield "gradients are the same in every run", lambda: _check_determinism(run)
    for workload in _public_workloads(run):
        name = f"{workload.task} by {workload.contender}, {workload.dtype}, {workload.layout}"
        yield name, partial(_check_error, workload)


def _agreement_checks(run: Run, dtype: torch.dtype, layout: str) -> Iterator[tuple[str, Check]]:
    how = f"{_name(dtype)}, {layout}"
    for case in SCAN_CASES:
        if run.cases(case.length):
            check = partial(
                assert_scan_agrees, triton_backend, case, dtype, layout, device=run.device
            )
            yield f"triton scan, {case}, {how}", check
    for case in CONV_CASES:
        if run.cases(case.length):
            check = partial(
                assert_conv_agrees, triton_backend, case, dtype, layout, device=run.device
            )
            yield f"triton conv, {case}, {how}", check


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_determinism(run: Run) -> None:
    """Raise unless two runs give the same bits, with enough programs at once for a race to show."""
    size: dict[str, Any] = {"length": 500, "channels": 1536, "batch": 4}
    if run.dry:
        size = {"length": 5, "channels": 6}
    options = ALL_OPTIONS | {"readout", "initial_state"}
    case = ScanCase("determinism", state=16, options=options, **size)
    inputs = make_scan_inputs(case, torch.float32, device=run.device)
    first = run_scan(triton_backend, inputs)
    second = run_scan(triton_backend, inputs)
    different = [name for name in first if not torch.equal(first[name], second[name])]
    if different:
        raise AssertionError(f"two runs differ in {', '.join(different)}")


def _public_workloads(run: Run) -> Iterator[Workload]:
    """Yield the scan and the convolution on every backend that can run here."""
    batch, channels, length, states = run.shapes[0]
    sizes = {"B": batch, "D": channels, "L": length}
    ops = {
        "scan": ("selective_scan", sizes | {"N": states}),
        "conv": ("causal_conv1d", sizes | {"W": TAPS}),
    }
    for dtype in run.dtypes:
        for task, (op, op_sizes) in ops.items():
            why_not = backend_report(run.device, dtype)[op]["why_not"]
            able = [name for name, reasons in why_not.items() if not reasons]
            for backend in able:
                if backend == "reference":
                    continue  # it is the oracle
                for layout in run.layouts[:2]:
                    if backend == "mamba-ssm" and layout == "token" and task == "scan":
                        continue  # it would need copies
                    yield Workload(
                        task,
                        backend,
                        op_sizes,
                        _name(dtype),
                        layout,
                        backward=True,
                        device=run.device,
                    )


def _check_error(workload: Workload) -> None:
    limit = OTHER_TOLERANCE[getattr(torch, workload.dtype)]
    errors = error_against_float64(workload)
    if not all(error <= limit for error in errors.values()):
        raise AssertionError(f"errors {errors}, allowed {limit:.0e}")


def run_parity(run: Run, match: str) -> list[str]:
    """Run the checks whose names contain ``match``; print and return those that fail."""
    failures = []
    done = 0
    for name, check in parity_checks(run):
        if match not in name:
            continue
        done += 1
        try:
            check()
        except Exception as error:  # a compiler, a launch and a wrong number fail alike
            failures.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {str(error)[:600]}", flush=True)
            if "CUDA error" in str(error):  # nothing after it can run
                break
    print(f"parity: {done - len(failures)} of {done} checks agree", flush=True)
    return failures


def measure(run: Run) -> Iterator[Row]:
    """Time the scan and the convolution in bfloat16; print and yield a row per contender."""
    for batch, channels, length, states in run.shapes:
        segments = next(k for k in range(12, 0, -1) if length % k == 0)
        sizes = {"B": batch, "D": channels, "L": length}
        for backward in PASSES:
            for task, package, axis in (
                ("scan", "mamba-ssm", {"N": states}),
                ("conv", "causal-conv1d", {"W": TAPS}),
            ):
                base = Workload(
                    task,
                    "triton",
                    sizes | axis,
                    "bfloat16",
                    device=run.device,
                    backward=backward,
                )
                yield from _compared(base, package, base.sizes | {"K": segments}, run)


def _compared(base: Workload, package: str, ordered: dict[str, int], run: Run) -> Iterator[Row]:
    """Yield ours on both layouts and in an order, that of the package, and the bound."""
    title = f"{tuple(base.sizes.values())}, bfloat16, {PASSES[base.backward]}"
    contenders = {
        "triton": base,
        "triton, (B, D, L)": replace(base, layout="channel"),
        "triton, ordered": replace(base, sizes=ordered),
        package: replace(base, contender=package, layout="channel"),
    }
    missing = why_missing(package, run.device)
    rows = []
    for label, workload in contenders.items():
        row = _row(title, label, package, workload)
        if label == package and missing:
            rows.append(replace(row, skipped=missing))
        else:
            rows.append(replace(row, wall_ms=_time(prepare(workload), run)))
    if not base.backward:
        bound = bound_ms(base, run)
        row = _row(title, "bound", package, replace(base, contender="bound"))
        rows.append(replace(row, wall_ms=Spread(bound, bound, bound, 0)))
    theirs = next(row.time for row in rows if row.label == package)
    print(title, base.task)
    for row in rows:
        ratio = theirs.median / row.time.median if theirs and row.time else None
        _print(row, ratio)
        yield replace(row, ratio=ratio)


def _row(title: str, label: str, package: str, workload: Workload) -> Row:
    return Row(
        suite=workload.task,
        table=workload.task,
        comparison=title,
        label=label,
        baseline=package,
        clock="wall",
        **asdict(workload),
    )


def _print(row: Row, ratio: float | None) -> None:
    shown = f"{row.time.median * 1e3:12.1f} us" if row.time else f"   skipped: {row.skipped}"
    times = "" if ratio is None else f"{ratio:8.2f}x"
    print(f"  {row.label:18}{shown}{times}", flush=True)


def _time(call: Callable[[], object], run: Run) -> Spread:
    if run.dry:
        start = time.perf_counter()
        call()
        return spread([(time.perf_counter() - start) * 1e3])
    import triton.testing

    return spread(triton.testing.do_bench(call, return_mode="all"))  # pyright: ignore[reportArgumentType]


def bound_ms(workload: Workload, run: Run) -> float:
    """Return the least that a forward pass can take.

    That is all exponentials at full rate or all memory once, whichever takes longer.
    """
    card = _card(run)
    tokens = workload.sizes["B"] * workload.sizes["L"]
    channels = workload.sizes["D"]
    states = workload.sizes.get("N", 0)
    exponentials_per_s = card.processors * EXPONENTIALS_PER_CYCLE * card.clock_hz
    exponentials_s = tokens * channels * states / exponentials_per_s
    values = 4 * channels + 2 * states if workload.task == "scan" else 2 * channels
    memory_s = BFLOAT16_BYTES * tokens * values / card.bytes_per_s
    return 1e3 * max(exponentials_s, memory_s)


class Card(NamedTuple):
    """What bounds a kernel: multiprocessors, their clock, and the speed of the memory."""

    processors: int
    clock_hz: float
    bytes_per_s: float


def _card(run: Run) -> Card:
    if run.dry:
        return Card(1, 1e9, 1e9)
    import triton

    driver: Any = triton.runtime.driver.active
    found = driver.utils.get_device_properties(torch.cuda.current_device())
    transfers_per_s = 2 * found["mem_clock_rate"] * 1e3
    return Card(
        processors=found["multiprocessor_count"],
        clock_hz=found["sm_clock_rate"] * 1e3,
        bytes_per_s=transfers_per_s * found["mem_bus_width"] / 8,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--save", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the records"
    )
    parser.add_argument(
        "--machine", help="this machine's name in the record; by default made from its CPU"
    )
    parser.add_argument(
        "--match", default="", help="run only the parity checks whose name contains this"
    )
    parser.add_argument("--no-parity", action="store_true", help="only the timings")
    parser.add_argument("--no-timing", action="store_true", help="only parity; nothing is written")
    parser.add_argument(
        "--dry-run", action="store_true", help="a few tiny cases without a GPU; no record is kept"
    )
    return parser.parse_args()


def main() -> int:
    """Run what was asked for; 1 if anything disagrees."""
    given = _arguments()
    if not given.dry_run and not torch.cuda.is_available():
        sys.exit("no CUDA device: --dry-run is all that can be run here")
    run = DRY if given.dry_run else CARD
    failures = [] if given.no_parity else run_parity(run, given.match)
    if given.no_timing:
        return bool(failures)
    command = f"python benchmarks/{Path(__file__).name}"
    record = new_record("gpu", run.device, command, given.machine)
    record = replace(record, rows=list(measure(run)))
    with tempfile.TemporaryDirectory() as scratch:
        path = (Path(scratch) if run.dry else given.save) / record.file_name
        write_record(record, path)
        rows = len(read_record(path).rows)
        said = f"and removed {path.name}" if run.dry else str(path)
        print(f"wrote {said}: {rows} rows")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())

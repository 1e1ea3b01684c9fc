"""Hold what runs on a GPU to the float64 oracle, then time it against mamba-ssm and against the
card's bounds.

    python benchmarks/gpu_parity.py                                   # parity, timings, a record in
    benchmarks/results python benchmarks/gpu_parity.py --match "length 3840" --no-timing # some of
    the parity, nothing timed or written python benchmarks/gpu_parity.py --dry-run
    # without a GPU: a few tiny cases, interpreted

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
from typing import Any

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
from rgbt_fusion.benchmarking.records import Row, new_record, read_record, write_record
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
EXPONENTIALS_A_CYCLE = 16
"""Of a multiprocessor, from compute capability 7.0 to 10.0."""
PASSES = {False: "forward", True: "forward+backward"}

Check = Callable[[], None]


@dataclass(frozen=True)
class Plan:
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


CARD = Plan("cuda", SHAPES, DTYPES, LAYOUTS, lambda length: True)
DRY = Plan("cpu", ((1, 4, 24, 4),), DTYPES[:1], LAYOUTS[:1], lambda length: length <= 3)


def parity_checks(plan: Plan) -> Iterator[tuple[str, Check]]:
    """Yield the name of each check and what raises if it fails: the Triton kernels, then all that
    users call."""
    for dtype in plan.dtypes:
        for layout in plan.layouts if dtype == torch.float32 else plan.layouts[:1]:
            how = f"{_name(dtype)}, {layout}"
            for case in SCAN_CASES:
                if plan.cases(case.length):
                    yield (
                        f"triton scan, {case}, {how}",
                        _agrees(assert_scan_agrees, case, dtype, layout, plan),
                    )
            for case in CONV_CASES:
                if plan.cases(case.length):
                    yield (
                        f"triton conv, {case}, {how}",
                        _agrees(assert_conv_agrees, case, dtype, layout, plan),
                    )
    yield "gradients are the same in every run", lambda: _check_determinism(plan)
    for workload in _public_workloads(plan):
        name = f"{workload.task} by {workload.contender}, {workload.dtype}, {workload.layout}"
        yield name, partial(_check_error, workload)


def _agrees(
    check: Callable[..., None], case: object, dtype: torch.dtype, layout: str, plan: Plan
) -> Check:
    return lambda: check(triton_backend, case, dtype, layout, device=plan.device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_determinism(plan: Plan) -> None:
    """Raise unless two runs give the same bits, with enough programs at once for a race to show."""
    size = (
        {"length": 5, "channels": 6} if plan.dry else {"length": 500, "channels": 1536, "batch": 4}
    )
    case = ScanCase(
        "determinism", state=16, options=ALL_OPTIONS | {"readout", "initial_state"}, **size
    )
    inputs = make_scan_inputs(case, torch.float32, device=plan.device)
    first, second = run_scan(triton_backend, inputs), run_scan(triton_backend, inputs)
    different = [name for name in first if not torch.equal(first[name], second[name])]
    if different:
        raise AssertionError(f"two runs differ in {', '.join(different)}")


def _public_workloads(plan: Plan) -> Iterator[Workload]:
    batch, channels, length, states = plan.shapes[0]
    for dtype in plan.dtypes:
        for task, op, axis in (
            ("scan", "selective_scan", {"N": states}),
            ("conv", "causal_conv1d", {"W": TAPS}),
        ):
            reasons = backend_report(plan.device, dtype)[op]["why_not"]
            for backend in (
                name for name, why_not in reasons.items() if not why_not and name != "reference"
            ):
                for layout in plan.layouts[:2]:
                    if backend == "mamba-ssm" and layout == "token" and task == "scan":
                        continue  # it would need copies
                    sizes = {"B": batch, "D": channels, "L": length, **axis}
                    yield Workload(
                        task,
                        backend,
                        sizes,
                        _name(dtype),
                        layout,
                        backward=True,
                        device=plan.device,
                    )


def _check_error(workload: Workload) -> None:
    limit = OTHER_TOLERANCE[getattr(torch, workload.dtype)]
    errors = error_against_float64(workload)
    if not all(error <= limit for error in errors.values()):
        raise AssertionError(f"errors {errors}, allowed {limit:.0e}")


def run_parity(plan: Plan, match: str) -> list[str]:
    """Run the checks whose names contain ``match``; print and return those that fail."""
    failures, done = [], 0
    for name, check in parity_checks(plan):
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


def measure(plan: Plan) -> Iterator[Row]:
    """Time the scan and the convolution in bfloat16, print and yield a row a contender."""
    for batch, channels, length, states in plan.shapes:
        segments = next(k for k in range(12, 0, -1) if length % k == 0)
        for backward in PASSES:
            sizes = {"B": batch, "D": channels, "L": length}
            base = Workload(
                "scan",
                "triton",
                {**sizes, "N": states},
                "bfloat16",
                device=plan.device,
                backward=backward,
            )
            yield from _compared(base, "mamba-ssm", {**base.sizes, "K": segments}, plan)
            base = replace(base, task="conv", sizes={**sizes, "W": TAPS})
            yield from _compared(base, "causal-conv1d", {**base.sizes, "K": segments}, plan)


def _compared(base: Workload, package: str, ordered: dict[str, int], plan: Plan) -> Iterator[Row]:
    """Yield ours on both layouts and in an order, the package's where it is installed, and the
    bound."""
    title = f"{tuple(base.sizes.values())}, bfloat16, {PASSES[base.backward]}"
    row = Row(base.task, base.task, title, "", baseline=package, clock="wall", **asdict(base))
    contenders = {
        "triton": base,
        "triton, (B, D, L)": replace(base, layout="channel"),
        "triton, ordered": replace(base, sizes=ordered),
        package: replace(base, contender=package, layout="channel"),
    }
    rows = []
    for label, workload in contenders.items():
        missing = why_missing(package, plan.device) if label == package else ""
        spent = None if missing else _time(prepare(workload), plan)
        rows.append(
            replace(row, label=label, wall_ms=spent, skipped=missing or None, **asdict(workload))
        )
    if not base.backward:
        bound = bound_ms(base, plan)
        rows.append(
            replace(row, label="bound", contender="bound", wall_ms=Spread(bound, bound, bound, 0))
        )
    theirs = next(row for row in rows if row.label == package).time
    print(title, base.task)
    for row in rows:
        ratio = theirs.median / row.time.median if theirs and row.time else None
        shown = f"{row.time.median * 1e3:12.1f} us" if row.time else f"   skipped: {row.skipped}"
        print(f"  {row.label:18}{shown}{'' if ratio is None else f'{ratio:8.2f}x'}", flush=True)
        yield replace(row, ratio=ratio)


def _time(call: Callable[[], object], plan: Plan) -> Spread:
    if plan.dry:
        start = time.perf_counter()
        call()
        return spread([(time.perf_counter() - start) * 1e3])
    import triton.testing

    return spread(triton.testing.do_bench(call, return_mode="all"))  # pyright: ignore[reportArgumentType]


def bound_ms(workload: Workload, plan: Plan) -> float:
    """The least that a forward pass can take: all exponentials at full rate, or all memory once,
    whichever is more."""
    processors, clock_hz, bytes_a_second = _card(plan)
    tokens = workload.sizes["B"] * workload.sizes["L"]
    channels, states = workload.sizes["D"], workload.sizes.get("N", 0)
    exponentials = tokens * channels * states / (processors * EXPONENTIALS_A_CYCLE * clock_hz)
    streams = 4 * channels + 2 * states if workload.task == "scan" else 2 * channels
    return 1e3 * max(exponentials, 2 * tokens * streams / bytes_a_second)


def _card(plan: Plan) -> tuple[int, float, float]:
    """Multiprocessors, their clock in Hz and the memory's bytes a second."""
    if plan.dry:
        return 1, 1e9, 1e9
    import triton

    driver: Any = triton.runtime.driver.active
    found = driver.utils.get_device_properties(torch.cuda.current_device())
    memory = found["mem_clock_rate"] * 1e3 * 2 * found["mem_bus_width"] / 8
    return found["multiprocessor_count"], found["sm_clock_rate"] * 1e3, memory


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
    plan = DRY if given.dry_run else CARD
    failures = [] if given.no_parity else run_parity(plan, given.match)
    if given.no_timing:
        return bool(failures)
    record = new_record(
        "gpu", plan.device, f"python benchmarks/{Path(__file__).name}", given.machine
    )
    record = replace(record, rows=list(measure(plan)))
    with tempfile.TemporaryDirectory() as scratch:
        path = (Path(scratch) if plan.dry else given.save) / record.file_name
        write_record(record, path)
        print(
            f"wrote {path if not plan.dry else 'and removed ' + path.name}: {len(read_record(path).rows)} rows"
        )
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())

"""Run the suites of mamba and causal-conv1d, files untouched, on the ops of this library.

The checkouts lie beside this one, or where ``--mamba`` and ``--causal-conv1d`` say. Their own
Python stays: the compiled extensions under it are ours, and so are the functions that they write in
Triton. What they compare with is their own reference, in plain PyTorch::

    python benchmarks/upstream.py --every 10

prints how many cases passed, failed and were skipped, by suite, and the reasons.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import itertools
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from rgbt_fusion import compat

SUITES = {
    "mamba": (
        "tests/ops/test_selective_scan.py",
        "tests/ops/triton/test_selective_state_update.py",
    ),
    "causal-conv1d": ("tests/test_causal_conv1d.py",),
}
TRITON_FILES = {
    "mamba_ssm.ops.triton.selective_state_update": "selective_state_update_ref",
    "causal_conv1d.causal_conv1d_varlen": "causal_conv1d_varlen_states_ref",
}
"""Modules of theirs that need a GPU, and the reference in each that does not."""

GRID_LENGTHS = (1, 7, 129, 151, 372)
GRID_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
GRID_NAMES = (
    "seqlen",
    "itype",
    "return_last_state",
    "has_delta_bias",
    "delta_softplus",
    "has_z",
    "has_D",
    "is_variable_C",
    "is_variable_B",
    "varBC_groups",
)

LEFT_OUT = {
    "test_causal_conv1d_race_condition": "10,000 runs of one case, looking for races of a GPU",
}


class Picker:
    """A plugin of pytest that takes every so many cases and counts what became of them."""

    def __init__(self, every: int, offset: int) -> None:
        self.every = every
        self.offset = offset
        self.collected = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.collected = len(items)
        named = []
        for item in items:
            function = item.name.partition("[")[0]
            if function in LEFT_OUT:
                self.reasons[function, f"left out: {LEFT_OUT[function]}"] += 1
            else:
                named.append(item)
        items[:] = named[self.offset :: self.every]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        function = report.nodeid.rpartition("::")[2].partition("[")[0]
        if report.when == "call" or report.outcome == "skipped":
            self.outcomes[function, report.outcome] += 1
        if report.failed:
            self.failed.append(report.nodeid.rpartition("::")[2])
        if report.failed or report.skipped:
            lines = str(report.longrepr).strip().splitlines()
            last = lines[-1] if lines else "no reason"
            if report.skipped and isinstance(report.longrepr, tuple):
                last = str(report.longrepr[2])
            self.reasons[function, f"{report.outcome}: {last[:140]}"] += 1


def theirs(name: str, path: Path) -> ModuleType:
    """Load a file of theirs under another name."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def substitute(checkouts: dict[str, Path], *, functions: bool) -> None:
    """Put ours under their names; with ``functions`` also in the place of their Python."""
    for checkout in checkouts.values():
        sys.path.insert(0, str(checkout))
    compat.install(packages=False, replace=tuple(TRITON_FILES))
    for name, reference in TRITON_FILES.items():
        package = name.partition(".")[0]
        folder = next(one for one in checkouts.values() if (one / package).is_dir())
        file = folder.joinpath(*name.split(".")).with_suffix(".py")
        setattr(sys.modules[name], reference, getattr(theirs(f"their_{package}", file), reference))
    if functions:
        from rgbt_fusion.compat import mamba_functions as ours

        scan: Any = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
        scan.selective_scan_fn = ours.selective_scan_fn
        scan.mamba_inner_fn = ours.mamba_inner_fn
        conv: Any = importlib.import_module("causal_conv1d.causal_conv1d_interface")
        conv.causal_conv1d_fn = ours.causal_conv1d_fn
        conv.causal_conv1d_update = ours.causal_conv1d_update


def in_float32(reference: Any) -> Any:
    """Return their state update with its sums in float32: the control of cases in half precision.

    Their reference adds up a whole state in the precision of the state.
    """

    def controlled(state: torch.Tensor, x: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        def wide(value: Any) -> Any:
            return value.float() if isinstance(value, torch.Tensor) else value

        precise = state.float()
        options = {name: wide(value) for name, value in options.items()}
        out = reference(precise, x.float(), *(wide(value) for value in arguments), **options)
        state.copy_(precise)
        return out.to(x.dtype)

    return controlled


def run_control(path: Path, failed: list[str], arguments: list[str]) -> None:
    """Repeat the failed cases of the state update against :func:`in_float32`."""
    name = "mamba_ssm.ops.triton.selective_state_update"
    reference = getattr(sys.modules[name], TRITON_FILES[name])
    setattr(sys.modules[name], TRITON_FILES[name], in_float32(reference))
    sys.modules.pop(path.stem, None)
    picker = Picker(1, 0)
    cases = [f"{path}::{case}" for case in failed]
    with compat.on_cpu():
        pytest.main([*cases, *arguments], plugins=[picker])
    for (function, outcome), count in sorted(picker.outcomes.items()):
        print(f"  {function}: {count} of the failed {outcome} with sums in float32")
    setattr(sys.modules[name], TRITON_FILES[name], reference)


def run_grid(path: Path, every: int) -> None:
    """Call their test of the scan over the grid that stands in its comments, with odd lengths.

    Their reference takes the silu of the gate in half precision. A case that fails is repeated with
    a float32 gate in the reference: the control.
    """
    module: Any = theirs("their_test_selective_scan", path)
    reference = module.selective_scan_ref

    def controlled(*arguments: Any, z: Any = None, **options: Any) -> Any:
        return reference(*arguments, z=None if z is None else z.float(), **options)

    outcomes: Counter[tuple[str, str, str]] = Counter()
    flags = [(False, True)] * 7
    grid = itertools.product(GRID_LENGTHS, GRID_DTYPES, *flags, (1, 2))
    for values in itertools.islice(grid, 0, None, every):
        case: dict[str, Any] = dict(zip(GRID_NAMES, values, strict=True))
        outcome = outcome_of(module, case)
        if outcome == "failed":
            module.selective_scan_ref = controlled
            outcome = f"failed, {outcome_of(module, case)} with a float32 gate in the reference"
            module.selective_scan_ref = reference
        gate = "with z" if case["has_z"] else "without z"
        outcomes[str(case["itype"]), gate, outcome] += 1
    print(f"\nmamba: the commented grid of {path.name}, lengths {GRID_LENGTHS}")
    for (dtype, gate, outcome), count in sorted(outcomes.items()):
        print(f"  {dtype}, {gate}: {count} {outcome}")


def outcome_of(module: Any, case: dict[str, Any]) -> str:
    """Run one case of their test of the scan."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), compat.on_cpu():
            module.test_selective_scan(**case, wtype=torch.float32)
    except pytest.skip.Exception:
        return "not applicable"
    except AssertionError:
        return "failed"
    return "passed"


def main() -> None:
    """Run what was asked for and print the counts."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mamba", type=Path, default=root / "mamba")
    parser.add_argument("--causal-conv1d", type=Path, default=root / "causal-conv1d")
    parser.add_argument("--suite", choices=[*SUITES], action="append")
    parser.add_argument("--every", type=int, default=1, help="Run every so many cases.")
    parser.add_argument("--offset", type=int, default=0, help="Skip this many cases first.")
    parser.add_argument("-k", default="", help="Run the cases whose name holds this.")
    parser.add_argument(
        "--grid", action="store_true", help="Also run the scan's grid that they commented out."
    )
    parser.add_argument(
        "--functions",
        action="store_true",
        help="Test the functions of this library instead of theirs on our extensions.",
    )
    options = parser.parse_args()
    checkouts = {"mamba": options.mamba, "causal-conv1d": options.causal_conv1d}
    substitute(checkouts, functions=options.functions)
    for suite in options.suite or SUITES:
        for file in SUITES[suite]:
            path = checkouts[suite] / file
            picker = Picker(options.every, options.offset)
            arguments = ["-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
            arguments += ["--rootdir", str(checkouts[suite]), "-c", "/dev/null"]
            with compat.on_cpu():
                pytest.main([str(path), *arguments, "-k", options.k], plugins=[picker])
            print(f"\n{suite}: {file}, {picker.collected} cases in all")
            for (function, outcome), count in sorted(picker.outcomes.items()):
                print(f"  {function}: {count} {outcome}")
            for (function, reason), count in sorted(picker.reasons.items()):
                print(f"    {count} x {function}: {reason}")
            if picker.failed and path.stem == "test_selective_state_update":
                run_control(path, picker.failed, arguments)
    if options.grid:
        run_grid(checkouts["mamba"] / SUITES["mamba"][0], options.every)
    print(f"\n{compat.report()}")


if __name__ == "__main__":
    main()

"""The stages of a quarter of an hour on one card.

Each yields rows of plain values as soon as it has them: what has been measured stays, whatever
happens later. A stage is a process of its own, because after an error of CUDA nothing else can run
in a process.
"""

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks import ROOT
from benchmarks.card.run import Run, Shape, replay_us, wall_us
from rgbt_fusion import ImagePair, Tracker, create_model
from rgbt_fusion.benchmarking.baselines import why_missing
from rgbt_fusion.benchmarking.workloads import Workload, prepare
from rgbt_fusion.ops.triton import backend as triton_backend

__all__ = ["STAGES", "Row", "Stage", "parity"]

Row = dict[str, Any]
"""One line of the output, in JSON."""

TAPS = 4
OPTIONS = {"enable_fp_fusion": True}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def environment(run: Run) -> Iterator[Row]:
    """Say what runs here, and whether the kernels run at all."""
    import triton

    from rgbt_fusion import backend_report

    properties = torch.cuda.get_device_properties(0)
    yield {
        "card": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "cpus": os.cpu_count(),
    }
    for dtype in run.dtypes:
        yield {"dtype": _name(dtype), **backend_report(run.device, dtype)["selective_scan"]}
    query = "clocks.max.sm,clocks.max.mem,clocks.sm,power.limit,driver_version"
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        yield {"nvidia-smi": query, "values": said.stdout.strip()}


def ceilings(run: Run) -> Iterator[Row]:
    """Measure what nothing can be faster than: memory, units, and launches."""
    kernels: Any = importlib.import_module("benchmarks.card.ceilings")
    source = torch.zeros(run.elements, device=run.device)
    target = torch.empty_like(source)
    copied_us = replay_us(lambda: target.copy_(source), run, calls=2)
    copied_bytes = 2 * source.element_size() * source.numel()
    yield {"ceiling": "memory", "gb_per_s": copied_bytes / copied_us / 1e3}

    processors = torch.cuda.get_device_properties(0).multi_processor_count
    size, programs, steps = 256, 16 * processors, 256
    values = torch.zeros(size * programs, device=run.device)
    for name in ("exponentials", "multiply_adds"):
        kernel = getattr(kernels, f"{name}_kernel")
        launch = partial(kernel[(programs,)], values, steps, SIZE=size, num_warps=4, **OPTIONS)
        took_us = replay_us(launch, run, calls=2)
        done = 8 * steps * size * programs
        yield {"ceiling": name, "per_ns": done / took_us / 1e3, "us": took_us}

    one = torch.zeros(1, device=run.device)
    empty = partial(kernels.empty_kernel[(1,)], one, **OPTIONS)
    yield {"ceiling": "launch in a graph", "us": replay_us(empty, run, calls=100)}
    yield {"ceiling": "launch by Triton", "us": wall_us(empty, run, calls=100)}
    yield {"ceiling": "torch.add on the host", "us": wall_us(lambda: one + one, run, calls=100)}


def parity(run: Run, part: int) -> Iterator[Row]:
    """Hold one share of the agreement cases to the oracle in float64."""
    for number, (name, check) in enumerate(_checks(run)):
        if number % run.parity_processes != part:
            continue
        start = time.perf_counter()
        row: Row = {"check": name, "agrees": True}
        try:
            check()
        except Exception as error:  # a compiler, a launch and a wrong number fail alike
            row |= {"agrees": False, "error": f"{type(error).__name__}: {str(error)[:600]}"}
        yield row | {"s": round(time.perf_counter() - start, 2)}
        if "CUDA error" in row.get("error", ""):
            return


def _checks(run: Run) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield every check, those of the shapes that trackers have first."""
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    agreement: Any = importlib.import_module("ops.agreement")
    scan = partial(agreement.assert_scan_agrees, triton_backend, device=run.device)
    conv = partial(agreement.assert_conv_agrees, triton_backend, device=run.device)
    if run.rehearsed:
        yield "scan, length 3", lambda: scan(agreement.ScanCase("length 3", length=3))
        yield "conv, length 3", lambda: conv(agreement.ConvCase("length 3", length=3))
        return
    every = agreement.ALL_OPTIONS
    real = (
        agreement.ScanCase("DFM", length=320, channels=768, state=16, batch=1, options=every),
        agreement.ScanCase(
            "OFM",
            length=3840,
            channels=384,
            state=16,
            batch=1,
            directions=3,
            options=every,
            order=(3, 1, 12),
            merge=True,
            shared=frozenset({"u", "z"}),
        ),
        agreement.ScanCase("wide", length=320, channels=768, state=16, batch=16, options=every),
    )
    dtypes = (torch.float16, torch.float32, torch.bfloat16)
    for dtype, case in product(dtypes, real):
        yield f"scan, {case}, {_name(dtype)}", partial(scan, case, dtype)
    yield "the same bits twice", partial(_check_determinism, run, agreement)
    yield "gates of the prompter", partial(_check_gates, run)
    for dtype in dtypes:
        layouts = agreement.LAYOUTS if dtype == torch.float32 else agreement.LAYOUTS[:1]
        for layout in layouts:
            how = f"{_name(dtype)}, {layout}"
            for case in agreement.SCAN_CASES:
                yield f"scan, {case}, {how}", partial(scan, case, dtype, layout)
            for case in agreement.CONV_CASES:
                yield f"conv, {case}, {how}", partial(conv, case, dtype, layout)


def _check_determinism(run: Run, agreement: Any) -> None:
    """Raise unless two runs give the same bits, with enough programs at once for a race to show."""
    options = agreement.ALL_OPTIONS | {"readout", "initial_state"}
    case = agreement.ScanCase(
        "determinism", length=500, channels=1536, batch=4, state=16, options=options
    )
    inputs = agreement.make_scan_inputs(case, torch.float32, device=run.device)
    first = agreement.run_scan(triton_backend, inputs)
    second = agreement.run_scan(triton_backend, inputs)
    different = [name for name in first if not torch.equal(first[name], second[name])]
    if different:
        raise AssertionError(f"two runs differ in {', '.join(different)}")


def _check_gates(run: Run) -> None:
    """Raise unless a prompter on the card agrees with itself in float64 on the CPU."""
    from rgbt_fusion import MutualPrompter

    torch.manual_seed(0)
    prompter = MutualPrompter(320, history=False)
    rgb, tir = torch.randn(2, 1, 320, 768)
    with torch.no_grad():
        want = prompter.double()(rgb.double(), tir.double())
        prompter = prompter.float().to(run.device)
        got = prompter(rgb.to(run.device), tir.to(run.device))
    for ours, theirs in zip(got, want, strict=True):
        error = (ours.cpu().double() - theirs).abs().max().item() / theirs.abs().max().item()
        if not error < 1e-5:
            raise AssertionError(f"relative error {error:.1e}, allowed 1e-5")


def timings(run: Run) -> Iterator[Row]:
    """Time the scan and the convolution, and mamba-ssm's and causal-conv1d's where they import."""
    ops = (("scan", "mamba-ssm", "N"), ("conv", "causal-conv1d", "W"))
    for shape, (task, package, axis), backward in product(run.shapes, ops, (False, True)):
        base = _workload(task, shape, axis, run, backward=backward)
        segments = next(k for k in range(12, 0, -1) if shape[2] % k == 0)
        contenders = {
            "triton": base,
            "triton, (B, D, L)": replace(base, layout="channel"),
            "triton, ordered": replace(base, sizes=base.sizes | {"K": segments}),
            package: replace(base, contender=package, layout="channel"),
        }
        for label, workload in contenders.items():
            row: Row = {"op": task, "shape": shape, "backward": backward, "contender": label}
            missing = why_missing(package, run.device) if label == package else ""
            if missing:
                yield row | {"skipped": missing}
                continue
            call = prepare(workload)
            yield row | {"device_us": replay_us(call, run), "wall_us": wall_us(call, run)}


def _workload(task: str, shape: Shape, axis: str, run: Run, *, backward: bool) -> Workload:
    batch, channels, length, states = shape
    sizes = {"B": batch, "D": channels, "L": length, axis: states if axis == "N" else TAPS}
    return Workload(task, "triton", sizes, "bfloat16", device=run.device, backward=backward)


CONSTANTS = {
    "FORWARD_WARPS": (8, 16, 32),
    "BACKWARD_WARPS": (4, 8, 16),
    "FEW_WARPS": (2, 4, 8),
    "HIDING_WARPS": (4, 8, 16),
    "LEAST_BLOCK": (8, 16, 32, 64),
    "MOST_LOOKED_BACK": (16, 48, 128),
}
"""What decides how a scan is cut, and what is tried in place of each."""


def sweep(run: Run) -> Iterator[Row]:
    """Time the scan with each constant of the plan changed alone."""
    for shape, backward in product(run.shapes, (False, True)):
        call = prepare(_workload("scan", shape, "N", run, backward=backward))
        row: Row = {"shape": shape, "backward": backward}
        yield row | {"constant": "as they are", "device_us": replay_us(call, run)}
        for constant, values in CONSTANTS.items():
            for value in values[: 1 if run.rehearsed else None]:
                if value == getattr(triton_backend, constant):
                    continue
                with mock.patch.object(triton_backend, constant, value):
                    yield row | {constant: value, "device_us": replay_us(call, run)}


def models(run: Run) -> Iterator[Row]:
    """Time whole networks, launch by launch and replayed from a graph, and say how they differ."""
    for preset, dtype in product(run.presets, run.dtypes):
        precisions = (False, True) if dtype == torch.float32 else (False,)
        network: Any = create_model(preset).eval().to(run.device, dtype)
        images = [
            ImagePair(*torch.rand(2, 1, 3, size, size, device=run.device, dtype=dtype))
            for size in (network.template_size, network.search_size)
        ]
        for tf32 in precisions:
            row: Row = {"model": preset, "dtype": _name(dtype), "tf32": tf32}
            with torch.inference_mode(), _tf32(tf32):
                template = network.embed_template(images[0])
                state = network(template, images[1]).state
                step = partial(network, template, images[1], state)
                yield row | {
                    "eager_ms": wall_us(step, run, calls=3) / 1e3,
                    "graph_ms": replay_us(step, run, calls=1) / 1e3,
                    "memory_mib": torch.cuda.max_memory_allocated() / 2**20,
                }


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Let matrix products of float32 compute in TF32, or not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def tracker(run: Run) -> Iterator[Row]:
    """Follow a target from frame to frame: milliseconds, waits for the card, and equal boxes."""
    random = np.random.default_rng(0)
    frames = [
        (
            random.integers(0, 256, (480, 640, 3), dtype=np.uint8),
            random.integers(0, 256, (480, 640), dtype=np.uint8),
        )
        for _ in range(8)
    ]
    for preset, dtype in product(run.presets, run.dtypes):
        boxes = {}
        for graph in (False, True):
            torch.manual_seed(0)
            follower = _follower(preset, dtype, run, graph=graph)
            follower.init(*frames[0], (300, 200, 40, 60))
            for frame in frames[1:4]:
                follower.update(*frame)
            torch.cuda.synchronize()
            start = time.perf_counter()
            for number in range(run.frames):
                boxes[graph] = follower.update(*frames[number % len(frames)]).box_xywh_px
            took_ms = (time.perf_counter() - start) * 1e3 / run.frames
            row: Row = {"model": preset, "dtype": _name(dtype), "graph": graph, "ms": took_ms}
            yield row | {"waits": _waits(partial(follower.update, *frames[0]))}
        off_px = float(np.abs(boxes[True] - boxes[False]).max())
        yield {"model": preset, "dtype": _name(dtype), "graph_and_eager_differ_px": off_px}


def _follower(preset: str, dtype: torch.dtype, run: Run, *, graph: bool) -> Tracker:
    model = create_model(preset)
    if not run.rehearsed:
        return Tracker(model, device=run.device, dtype=dtype, graph=graph)
    with mock.patch("rgbt_fusion.tracking.tracker.why_no_graph", lambda device: ""):
        return Tracker(model, device=run.device, dtype=dtype, graph=graph)


def _waits(call: Callable[[], Any]) -> int:
    """Return how often a call waits for the card, by what torch warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def training(run: Run) -> Iterator[Row]:
    """Take one step of training in bfloat16, and time the next."""
    network: Any = create_model(run.training_preset).to(run.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    batch = 2 if run.rehearsed else 16
    images = [
        ImagePair(*torch.rand(2, batch, 3, size, size, device=run.device))
        for size in (network.template_size, network.search_size)
    ]

    def step() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(run.device, torch.bfloat16):
            answer = network(*images)
            loss = answer.score_logits.mean() + answer.size_map.mean() + answer.offset_map.mean()
        loss.backward()
        optimiser.step()
        return loss

    loss = step().item()
    lacking = [name for name, p in network.named_parameters() if p.grad is None]
    wrong = [
        name
        for name, p in network.named_parameters()
        if p.grad is not None and not p.grad.isfinite().all()
    ]
    yield {
        "model": run.training_preset,
        "batch": batch,
        "loss_is_finite": math.isfinite(loss),
        "without_gradient": len(lacking),
        "not_finite": wrong[:8],
        "memory_mib": torch.cuda.max_memory_allocated() / 2**20,
    }
    yield {"step_ms": wall_us(step, run, calls=1) / 1e3}


SANITIZERS = ("memcheck", "racecheck", "initcheck")


def sanitizer(run: Run) -> Iterator[Row]:
    """Run three tiny cases under compute-sanitizer, where it is installed."""
    found = shutil.which("compute-sanitizer")
    if found is None:
        yield {"skipped": "compute-sanitizer is not installed"}
        return
    for tool in SANITIZERS:
        command = [found, "--tool", tool, "--error-exitcode", "86", sys.executable]
        command += ["-m", "benchmarks.card.tiny_cases"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        yield {"tool": tool, "clean": done.returncode == 0, "said": done.stdout[-2000:]}


@dataclass(frozen=True)
class Stage:
    """A function of a run that yields rows, and the seconds after which it is ended."""

    rows: Callable[..., Iterator[Row]]
    deadline_s: float


STAGES = {
    "environment": Stage(environment, 30),
    "ceilings": Stage(ceilings, 40),
    "parity": Stage(parity, 220),
    "timings": Stage(timings, 150),
    "models": Stage(models, 120),
    "tracker": Stage(tracker, 100),
    "training": Stage(training, 50),
    "sweep": Stage(sweep, 110),
    "sanitizer": Stage(sanitizer, 60),
}
"""Every stage in its order; together they end within a quarter of an hour."""


def write_rows(rows: Iterator[Row], write: Callable[[str], object]) -> None:
    """Write each row as a line of JSON as soon as it is there, and an error as the last one."""
    with suppress(KeyboardInterrupt):
        try:
            for row in rows:
                write(json.dumps(row))
        except Exception as error:  # the other stages shall run whatever went wrong in this one
            write(json.dumps({"failed": f"{type(error).__name__}: {str(error)[:2000]}"}))

"""Carrying out comparisons: time in turn, memory in fresh processes, errors against float64."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cache

import torch

from rgbt_fusion.benchmarking.arithmetic import count_macs, count_parameters
from rgbt_fusion.benchmarking.baselines import CONVOLUTIONS, SCANS
from rgbt_fusion.benchmarking.cases import find_setup
from rgbt_fusion.benchmarking.comparison import Comparison
from rgbt_fusion.benchmarking.memory import MemoryMeter
from rgbt_fusion.benchmarking.model_summary import measure_step, summarise
from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.benchmarking.timing import Effort, interleave
from rgbt_fusion.benchmarking.trackers import build, parse
from rgbt_fusion.benchmarking.workloads import (
    Workload,
    error_against_float64,
    exact_results,
    prepare,
)

__all__ = ["measure"]


def measure(
    comparison: Comparison,
    effort: Effort,
    meter: MemoryMeter,
    *,
    on_progress: Callable[[str, float], object] = lambda step, share: None,
) -> list[Row]:
    """Return one row a contender, those that were skipped included.

    Args:
        comparison: what to measure.
        effort: how long to time it.
        meter: measures the memory, where the comparison asks for it.
        on_progress: is told what is going on, and the share of the comparison that was done since
            it was last told.
    """
    on_progress("preparing", 0.0)
    calls = {label: prepare(workload) for label, workload in comparison.entries.items()}
    synchronise = torch.cuda.synchronize if _on_gpu(comparison) else lambda: None
    threads = torch.get_num_threads()
    try:
        clocks = interleave(
            calls,
            effort,
            synchronise=synchronise,
            on_sample=lambda share: on_progress("timing", share),
        )
        errors = dict(_errors(comparison, calls)) if comparison.errors else {}
        del calls
    finally:
        torch.set_num_threads(threads)
    rows = []
    for label, workload in comparison.entries.items():
        row = replace(
            _row(comparison, label, workload),
            wall_ms=clocks[label].wall_ms,
            cpu_ms=None if workload.device == "cuda" else clocks[label].cpu_ms,
            error=errors.get(label),
            **_counts(workload),
        )
        if comparison.memory and (
            not rows or _worth_its_memory(workload, clocks[label].wall_ms.samples)
        ):
            on_progress(f"memory of {label}", 0.0)
            row = replace(
                row,
                extra_bytes=meter.peak_extra_bytes(workload),
                resident_bytes=_resident_bytes(workload),
            )
        rows.append(row)
    for label, reason in comparison.skipped.items():
        first = next(iter(comparison.entries.values()))
        rows.append(
            replace(_row(comparison, label, replace(first, contender=label)), skipped=reason)
        )
    return _with_ratios(rows, comparison)


def _on_gpu(comparison: Comparison) -> bool:
    return any(workload.device == "cuda" for workload in comparison.entries.values())


def _row(comparison: Comparison, label: str, workload: Workload) -> Row:
    return Row(
        comparison.suite,
        comparison.table,
        comparison.title,
        label,
        baseline=comparison.baseline,
        clock=comparison.clock,
        **asdict(workload),
    )


def _errors(
    comparison: Comparison, calls: Mapping[str, Callable[[], tuple[torch.Tensor, ...]]]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the error of each of our contenders; the float64 run is made once for all that have the
    same inputs.

    A tracker's is the difference of its score map from that of the first contender.
    """
    if next(iter(comparison.entries.values())).task == "model":
        (first,) = next(iter(calls.values()))()
        for label, call in calls.items():
            yield label, {"score": (call()[0] - first).abs().max().item()}
        return
    truths = {}
    for label, workload in comparison.entries.items():
        if workload.contender in (*SCANS, *CONVOLUTIONS):
            continue  # the tests hold them against the same loop
        key = (workload.dtype, workload.layout, str(workload.sizes))
        if key not in truths:
            truths[key] = exact_results(workload)
        yield label, error_against_float64(workload, truths[key])


def _worth_its_memory(workload: Workload, samples: int) -> bool:
    """Say whether the memory of a contender that is not ours is asked for."""
    if workload.task == "model":
        return False  # each tracker is the first in a comparison of its own
    # what was too slow to run twice is run again only where memory is the question
    return samples > 1 or workload.task == "fusion"


def _resident_bytes(workload: Workload) -> int | None:
    """Return the peak memory of a process that builds a tracker and runs it four times."""
    if workload.task != "model" or workload.device != "cpu":
        return None
    return measure_step(build(workload.contender), rounds=3).peak_resident_bytes


@cache
def _tracker_counts(tracker: str, size: str) -> dict[str, int]:
    summary = summarise(build(f"{tracker}: {size}"))
    return {"parameters": summary.parameters, "macs": summary.macs}


def _counts(workload: Workload) -> dict[str, int]:
    if workload.task == "model":
        return _tracker_counts(*parse(workload.contender)[:2])
    if workload.task != "layer":
        return {}
    setup = find_setup(workload.contender)
    module = setup.build().eval()
    inputs = setup.inputs(torch.Generator().manual_seed(0), torch.float32)
    return {"parameters": count_parameters(module), "macs": count_macs(module, *inputs)}


def _with_ratios(rows: list[Row], comparison: Comparison) -> list[Row]:
    """Give every row its baseline's median over its own."""
    medians = {row.label: row.time.median for row in rows if row.time}
    base = medians.get(comparison.baseline or "")
    if base is None:
        return rows
    return [
        replace(row, ratio=base / medians[row.label]) if row.label in medians else row
        for row in rows
    ]

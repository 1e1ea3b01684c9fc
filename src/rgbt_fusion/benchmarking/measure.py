"""Carrying out contests: time in turn, memory in fresh processes, errors against float64."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import torch

from rgbt_fusion.benchmarking.contest import Contest
from rgbt_fusion.benchmarking.memory import MemoryMeter
from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.benchmarking.timing import Clocks, Effort, interleave
from rgbt_fusion.benchmarking.workloads import TASKS, Task, Workload, prepare

__all__ = ["measure"]


def measure(
    contest: Contest,
    effort: Effort,
    meter: MemoryMeter,
    *,
    tasks: Mapping[str, Task] = TASKS,
    on_progress: Callable[[str, float], object] = lambda step, share: None,
) -> list[Row]:
    """Return one row per contender, those that were skipped included.

    Args:
        contest: what to measure.
        effort: how long to time it.
        meter: measures the memory, where the contest asks for it.
        tasks: what can be run.
        on_progress: called with what is going on, and with the share of the contest that was done
            since the last call.
    """
    on_progress("preparing", 0.0)
    threads = torch.get_num_threads()
    calls = {label: prepare(entry, tasks=tasks) for label, entry in contest.entries.items()}
    try:
        clocks = interleave(
            calls,
            effort,
            synchronise=torch.cuda.synchronize if _on_gpu(contest) else lambda: None,
            on_sample=lambda share: on_progress("timing", share),
        )
        errors = _task(contest, tasks).errors(contest.entries, calls) if contest.errors else {}
        # what the calls hold would be in the way of what is measured next
        del calls
    finally:
        torch.set_num_threads(threads)
    rows = []
    for label, workload in contest.entries.items():
        row = replace(
            _timed_row(contest, label, clocks[label]),
            error=errors.get(label),
            **tasks[workload.task].count(workload),
        )
        first = not rows
        if contest.memory and _worth_its_memory(tasks[workload.task], clocks[label], first):
            on_progress(f"memory of {label}", 0.0)
            row = replace(
                row,
                extra_bytes=meter.peak_extra_bytes(workload),
                resident_bytes=tasks[workload.task].resident_bytes(workload),
            )
        rows.append(row)
    return _with_ratios([*rows, *_skipped_rows(contest)], contest)


def _on_gpu(contest: Contest) -> bool:
    return any(workload.device == "cuda" for workload in contest.entries.values())


def _task(contest: Contest, tasks: Mapping[str, Task]) -> Task:
    """Return the task of the first contender, who is ours."""
    first = next(iter(contest.entries.values()))
    return tasks[first.task]


def _row(contest: Contest, label: str, workload: Workload) -> Row:
    return Row(
        suite=contest.suite,
        table=contest.table,
        comparison=contest.title,
        label=label,
        baseline=contest.baseline,
        clock=contest.clock,
        **asdict(workload),
    )


def _timed_row(contest: Contest, label: str, clocks: Clocks) -> Row:
    workload = contest.entries[label]
    # the process's own clock does not see what runs on a GPU
    cpu_ms = None if workload.device == "cuda" else clocks.cpu_ms
    return replace(_row(contest, label, workload), wall_ms=clocks.wall_ms, cpu_ms=cpu_ms)


def _skipped_rows(contest: Contest) -> list[Row]:
    first = next(iter(contest.entries.values()))
    return [
        replace(_row(contest, label, replace(first, contender=label)), skipped=reason)
        for label, reason in contest.skipped.items()
    ]


def _worth_its_memory(task: Task, clocks: Clocks, first: bool) -> bool:
    if first or task.memory_of == "all":
        return True
    # what was too slow to run twice is not run once more for its memory
    return task.memory_of == "repeated" and clocks.wall_ms.samples > 1


def _with_ratios(rows: list[Row], contest: Contest) -> list[Row]:
    """Give every row its baseline's median over its own."""
    medians = {row.label: row.time.median for row in rows if row.time}
    base = medians.get(contest.baseline or "")
    if base is None:
        return rows
    return [
        replace(row, ratio=base / medians[row.label]) if row.label in medians else row
        for row in rows
    ]

"""Peak extra memory of one call: resident memory of a fresh process, so that no allocator hides anything.

``python -m rgbt_fusion.benchmarking.memory`` reads a workload as JSON and prints bytes. The process makes the inputs,
runs the same workload at next to no size (which loads libraries and starts threads), gives freed memory back to the
system, and then compares its peak resident memory during one call with what it had before. What PyTorch, a native
kernel or another package allocates counts alike; so does the result.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from rgbt_fusion.benchmarking.workloads import Workload, prepare, shrunk

__all__ = ["peak_extra_bytes", "resident_bytes"]

# Freed blocks of 64 kB and more leave the process at once: memory that is kept would hide what is taken again.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def peak_extra_bytes(workload: Workload) -> int:
    """Return how much memory one call of ``workload`` takes at its peak beyond its inputs and parameters.

    Raises:
        RuntimeError: the fresh process failed; the message ends with its last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", "rgbt_fusion.benchmarking.memory"],
        input=json.dumps(asdict(workload)),
        capture_output=True,
        text=True,
        env={**os.environ, **_ALLOCATOR},
        check=False,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"measuring the memory of {workload.task} ({workload.contender}) failed: {words[-1]}")
    return int(done.stdout.split()[-1])


def measure(workload: Workload) -> int:
    """Measure in this process, which should be a fresh one."""
    prepare(shrunk(workload))()
    run = prepare(workload)
    gc.collect()
    return _on_gpu(run) if workload.device == "cuda" else _on_cpu(run)


def _on_gpu(run: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = run()
    torch.cuda.synchronize()
    del kept
    return torch.cuda.max_memory_allocated() - before


def _on_cpu(run: Callable[[], object]) -> int:
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    reset_peak = Path("/proc/self/clear_refs")
    if reset_peak.exists():
        reset_peak.write_text("5")
    before = resident_bytes("VmRSS")
    kept = run()
    peak = resident_bytes("VmHWM")
    del kept
    return max(0, peak - before)


def resident_bytes(field: str) -> int:
    """Return a size of this process as Linux states it: ``"VmRSS"`` now, ``"VmHWM"`` at its peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise RuntimeError("peak memory of a CPU call is read from /proc, which this system does not have")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(f"{measure(Workload(**json.loads(sys.stdin.read())))}\n")

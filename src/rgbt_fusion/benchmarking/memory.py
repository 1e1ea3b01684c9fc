"""Peak extra memory of one call, read off a fresh process, so that no allocator hides anything.

``python -m rgbt_fusion.benchmarking.memory`` reads one workload per line as JSON and answers each
with a line: bytes, or what went wrong. It only imports what is needed and leaves each workload to a
process that it forks. That one makes the inputs, runs the same workload at next to no size (which
loads libraries and starts threads), gives freed memory back to the system, and then compares its
peak resident memory during one call with what it had before. What PyTorch, a native kernel or
another package allocates counts alike; so does the result.
"""

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, NoReturn, cast

import torch

from rgbt_fusion.benchmarking.workloads import TASKS, Task, Workload, prepare, shrunk

__all__ = ["MemoryMeter", "resident_bytes", "serve"]

# Freed blocks of 64 kB and more leave the process at once: memory that is kept would hide what is
# taken again. A thread that a numerical library starts at import would not live on in a forked
# process.
_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_ARENA_MAX": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class MemoryMeter:
    """Measures workloads, each in a process of its own; to be used in a ``with`` statement.

    Args:
        program: the module that serves the workloads when Python runs it; it calls :func:`serve`.
        folder: where Python finds that module, beside where it finds all others.

    Example:
        >>> from rgbt_fusion.benchmarking.memory import MemoryMeter
        >>> from rgbt_fusion.benchmarking.workloads import Workload
        >>> workload = Workload("conv", "vectorised", {"B": 1, "D": 64, "L": 4096, "W": 4})
        >>> with MemoryMeter() as meter:
        ...     extra = meter.peak_extra_bytes(workload)
        >>> extra > 4 * 64 * 4096
        True
    """

    def __init__(
        self, program: str = "rgbt_fusion.benchmarking.memory", folder: Path | None = None
    ) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "MemoryMeter":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def peak_extra_bytes(self, workload: Workload) -> int:
        """Return the peak memory of one call of ``workload`` beyond its inputs and parameters.

        Raises:
            RuntimeError: the fresh process failed; the message ends with its last words.
        """
        answer = self._ask(json.dumps(asdict(workload)))
        if not answer.isdigit():
            raise RuntimeError(
                f"measuring the memory of {workload.task} ({workload.contender}) failed: {answer}"
            )
        return int(answer)

    def _ask(self, question: str) -> str:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environment(),
            )
        to_process = cast(IO[str], self._process.stdin)
        from_process = cast(IO[str], self._process.stdout)
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            to_process.write(f"{question}\n")
            to_process.flush()
        return from_process.readline().strip() or "it ended without an answer"

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, **_SETTINGS}
        if self._folder is not None:
            places = [str(self._folder), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
        return environment


def measure(workload: Workload, tasks: Mapping[str, Task]) -> int:
    """Measure in this process, which should be a fresh one."""
    prepare(shrunk(workload, tasks=tasks), tasks=tasks)()
    run = prepare(workload, tasks=tasks)
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
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
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
    """Return a size of this process as Linux states it.

    Args:
        field: ``"VmRSS"`` for the size now, ``"VmHWM"`` for that at its peak.

    Raises:
        RuntimeError: this system has no ``/proc``.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        raise RuntimeError(
            "peak memory of a CPU call is read from /proc, which this system does not have"
        )
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def serve(tasks: Mapping[str, Task]) -> None:
    """Answer a line for each line that comes in: the program of a :class:`MemoryMeter`."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _answer(line, tasks)
        _, status = os.waitpid(child, 0)
        if status:
            sys.stdout.write(f"the process was ended by status {status}\n")
            sys.stdout.flush()


def _answer(line: str, tasks: Mapping[str, Task]) -> NoReturn:
    try:
        words = str(measure(Workload(**json.loads(line)), tasks))
    except Exception as error:
        words = f"{type(error).__name__}: {error}".replace("\n", " ")
    os.write(sys.stdout.fileno(), f"{words}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    serve(TASKS)

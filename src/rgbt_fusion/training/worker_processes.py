"""The processes that make samples, and how a training ends when they fail or fall silent."""

import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.data import DataLoader

from rgbt_fusion.training.checkpoints import TrainingError

__all__ = [
    "LONGEST_SILENCE_S",
    "explaining_dead_workers",
    "in_shared_memory",
    "leave_signals_to_the_training",
    "watched",
]

LONGEST_SILENCE_S = 900.0
"""Processes that make no batch for so long, such as stopped ones, end the training."""

LOOK_EVERY_S = 5.0
"""How often the time of a silence is added up."""

# how torch names the cause, up to the end of its first sentence
_END_OF_PROCESS = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (.*?)(\. |$)", re.DOTALL)

SHARED_MEMORY = Path("/dev/shm")

T = TypeVar("T")


def in_shared_memory(value: T) -> T:
    """Move the tensors of nested tuples to shared memory, where the training can read them.

    Torch does the same on the way to the training, in a thread whose errors nobody hears: where
    there is no room, the training would wait forever.

    Raises:
        TrainingError: there is no room.
    """
    try:
        _share(value)
    except RuntimeError as error:
        if "shared memory" not in str(error) and "No space left" not in str(error):
            raise
        raise TrainingError(_no_room()) from None
    return value


def _share(value: Any) -> None:
    if isinstance(value, Tensor):
        value.share_memory_()
    elif isinstance(value, tuple):
        for part in value:
            _share(part)


def _no_room() -> str:
    """Say that shared memory ran out, and what to do."""
    size = ""
    with suppress(OSError):
        usage = shutil.disk_usage(SHARED_MEMORY)
        size = f" {SHARED_MEMORY} holds {usage.total / 2**20:.4g} MiB:"
    return (
        f"the processes that make samples ran out of shared memory;{size} make it larger (in "
        "Docker with --shm-size), or set data.workers = 0"
    )


def watched(loader: "DataLoader[T]") -> Iterator[T]:
    """Yield what a loader makes, and kill its processes when they fall silent.

    The time of a silence is added up in short steps. So a training goes on that was stopped itself,
    or whose machine slept. The loader's own ``timeout`` is not enough: where a process is stopped
    after it announced a batch and before it handed over the memory, torch waits without it.

    Raises:
        TrainingError: the processes say nothing for :data:`LONGEST_SILENCE_S`.
    """
    before = set(active_children())
    made = iter(loader)
    watch = _Watch([process for process in active_children() if process not in before])
    try:
        while True:
            try:
                with watch.waiting():
                    batch = next(made)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError):
                if not watch.has_killed:
                    raise
                raise TrainingError(
                    f"the processes that make samples said nothing for {LONGEST_SILENCE_S:g} s, "
                    "as if they were stopped: run the same command or call again to go on from "
                    "the last checkpoint"
                ) from None
            yield batch
    finally:
        watch.close()
        # a loader that nobody holds ends its processes, but not those that are stopped
        del made
        _kill(watch.processes)


class _Watch:
    """Kills processes that let the training wait too long."""

    def __init__(self, processes: list[BaseProcess]) -> None:
        self.processes = processes
        self.has_killed = False
        self._waited_s = 0.0
        self._is_waiting = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        if processes:
            self._thread.start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Say that the training waits for a batch inside the block."""
        self._waited_s = 0.0
        self._is_waiting = True
        try:
            yield
        finally:
            self._is_waiting = False

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        if self.processes:
            self._thread.join()

    def _look(self) -> None:
        """Add up the time of a silence, in a thread of its own."""
        while not self._closed.wait(LOOK_EVERY_S):
            if not self._is_waiting:
                continue
            self._waited_s += LOOK_EVERY_S
            if self._waited_s >= LONGEST_SILENCE_S:
                self.has_killed = True
                for process in self.processes:
                    process.kill()
                return


def _kill(processes: list[BaseProcess]) -> None:
    """Kill processes: a stopped one obeys no other signal."""
    for process in processes:
        # torch's handler raises an error when a process ends
        with suppress(RuntimeError):
            if process.is_alive():
                process.kill()
            process.join()


@contextmanager
def explaining_dead_workers() -> Iterator[None]:
    """Say in one sentence why a process that made samples died.

    Torch raises an error of it at any moment of the training, not only where it waits for a batch.

    Raises:
        TrainingError: a process died.
    """
    try:
        yield
    except RuntimeError as error:
        found = _END_OF_PROCESS.match(str(error))
        if found is None:
            raise
        how = found[1].strip()
        if "Bus error" in how:
            raise TrainingError(_no_room()) from None
        hint = ""
        if "Killed" in how:
            hint = ", as the system does where memory runs out: set data.workers lower"
        raise TrainingError(f"a process that makes samples {how}{hint}") from None


def leave_signals_to_the_training(number: int) -> None:
    """Let a worker survive Ctrl-C: the training ends it after its last step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a forked worker has inherited the handler of the training
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # torch's handler writes a hint of its own beside the sentence of the training
    if hasattr(signal, "SIGBUS"):
        signal.signal(signal.SIGBUS, signal.SIG_DFL)

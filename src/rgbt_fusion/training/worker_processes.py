"""The processes that make samples, and what becomes of a training when they fail or fall silent."""

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
    "in_shared_memory",
    "leave_signals_to_the_training",
    "patiently",
    "telling_of_ends",
]

LONGEST_SILENCE_S = 900.0
"""Processes that make no batch for so long, such as stopped ones, end the training."""

LOOK_EVERY_S = 5.0

# what torch says of it, up to the end of its first sentence
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


def patiently(loader: "DataLoader[T]") -> Iterator[T]:
    """Yield what a loader makes, and end its processes when they fall silent.

    A silence is counted in short looks, so that a training that was stopped itself, or slept with
    its machine, goes on. The loader's own ``timeout`` would not do: a process that is stopped
    between a batch and its memory is waited for elsewhere.

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
                if not watch.has_ended_them:
                    raise
                raise TrainingError(
                    f"the processes that make samples said nothing for {LONGEST_SILENCE_S:g} s, "
                    "as if they were stopped: run the same command or call again to go on from "
                    "the last checkpoint"
                ) from None
            yield batch
    finally:
        watch.close()
        # the loader ends its processes when nobody holds it, but not those that are stopped
        del made
        _end(watch.processes)


class _Watch:
    """Ends processes that let the training wait too long."""

    def __init__(self, processes: list[BaseProcess]) -> None:
        self.processes = processes
        self.has_ended_them = False
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
        """Look no more."""
        self._closed.set()
        if self.processes:
            self._thread.join()

    def _look(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            if not self._is_waiting:
                continue
            self._waited_s += LOOK_EVERY_S
            if self._waited_s >= LONGEST_SILENCE_S:
                self.has_ended_them = True
                for process in self.processes:
                    # a stopped process takes no other signal
                    process.kill()
                return


def _end(processes: list[BaseProcess]) -> None:
    """End processes for good; a stopped one takes no other signal."""
    for process in processes:
        # torch's handler makes an error of the end of each process
        with suppress(RuntimeError):
            if process.is_alive():
                process.kill()
            process.join()


@contextmanager
def telling_of_ends() -> Iterator[None]:
    """Say in one sentence why a process that made samples came to its end.

    Torch notices such an end at any moment of the training, not only where it waits for a batch.

    Raises:
        TrainingError: a process ended, and why.
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
    """Have a worker live on at Ctrl-C: the training ends it when its last step is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a forked worker has inherited the handler of the training
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # torch's handler writes a hint of its own beside the sentence of the training
    if hasattr(signal, "SIGBUS"):
        signal.signal(signal.SIGBUS, signal.SIG_DFL)

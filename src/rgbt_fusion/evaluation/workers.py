"""The processes that track, one sequence at a time each, and what happens when one fails."""

import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from rgbt_fusion.data.sequences import ImageSequence
from rgbt_fusion.tracking.interface import FrameTracker

__all__ = ["LONGEST_SILENCE_S", "MakeTracker", "RunEvent", "Work", "work_here", "work_in_processes"]

LONGEST_SILENCE_S = 900.0
"""A worker that says nothing for so long, such as one that is stopped, is ended."""

_LOOK_EVERY_S = 5.0

MakeTracker: TypeAlias = Callable[[], FrameTracker]
"""Returns a tracker."""


class RunEvent(NamedTuple):
    """What just happened to a sequence of a run."""

    sequence: str
    """The sequence's name."""
    state: Literal["frame", "finished", "failed", "kept"]
    """``"frame"``: one more frame is tracked. ``"kept"``: an earlier run had finished it."""
    reason: str = ""
    """Why it failed."""


class Work(NamedTuple):
    """What is done with each sequence; picklable where there are several processes."""

    make_tracker: MakeTracker
    """Returns the tracker, once per process."""
    track: Callable[[FrameTracker, ImageSequence, Path, bool], Iterator[None]]
    """Tracks a sequence, writes its files into a folder and yields after every frame."""
    folder: Path
    """Where the files go."""
    times: bool
    """Whether the seconds of each frame are written."""


def work_here(work: Work, sequences: Iterable[ImageSequence]) -> Generator[RunEvent, None, None]:
    """Track all sequences in this process; yield after every frame and every sequence.

    Raises:
        Exception: whatever ``work.make_tracker`` raises.
    """
    if "LOCAL_RANK" in os.environ:
        _choose_gpu(0)
    tracker = None
    for sequence in sequences:
        if tracker is None:
            tracker = work.make_tracker()
        yield from _track(work, tracker, sequence)


def work_in_processes(
    work: Work, sequences: Iterable[ImageSequence], workers: int
) -> Generator[RunEvent, None, None]:
    """Track all sequences in several processes; yield after every frame and every sequence.

    A process that dies, or says nothing for :data:`LONGEST_SILENCE_S`, costs the sequence that it
    was tracking; another process takes its place.

    Raises:
        TypeError: ``work`` cannot be sent to another process.
        ChildProcessError: a process dies or falls silent while it makes the tracker.
        Exception: whatever ``work.make_tracker`` raises.
    """
    try:
        pickle.dumps(work)
    except Exception as error:
        raise TypeError(
            f"make_tracker must be picklable where there are several workers, but: {error}"
        ) from None
    crew = _Crew(work, deque(sequences), workers)
    try:
        yield from crew.work()
    finally:
        crew.dismiss()


class _Worker(NamedTuple):
    process: BaseProcess
    number: int
    sequence: ImageSequence | None
    """What it is tracking; None before it has its tracker."""
    silent_s: float = 0.0
    """How long this process has waited in vain for a word."""


class _Crew:
    """The worker processes of a run, seen from the process that started it."""

    def __init__(self, work: Work, waiting: deque[ImageSequence], count: int) -> None:
        self.task = work
        self.waiting = waiting
        self.count = count
        self.workers: dict[Connection, _Worker] = {}

    def work(self) -> Iterator[RunEvent]:
        """Start the workers and pass on what they say until all sequences are done."""
        for number in range(min(self.count, len(self.waiting))):
            self._start(number)
        while self.workers:
            start = time.monotonic()
            ready = wait(list(self.workers), timeout=_LOOK_EVERY_S)
            # what is longer was no waiting: all processes were stopped, or the machine slept
            waited = min(time.monotonic() - start, _LOOK_EVERY_S)
            for pipe in list(self.workers):
                if pipe in ready:
                    yield from self._hear(pipe)
                else:
                    yield from self._miss(pipe, waited)

    def dismiss(self) -> None:
        """End the workers that are left."""
        for pipe, worker in self.workers.items():
            # a stopped process takes no other signal
            worker.process.kill()
            worker.process.join()
            pipe.close()

    def _miss(self, pipe: Connection, waited: float) -> Iterator[RunEvent]:
        """Note that a worker said nothing for a while, and end it when that is too long."""
        worker = self.workers[pipe]
        silent = worker.silent_s + waited
        self.workers[pipe] = worker._replace(silent_s=silent)
        if silent >= LONGEST_SILENCE_S:
            worker.process.kill()
            yield from self._replace(pipe, f"said nothing for {LONGEST_SILENCE_S:g} s")

    def _start(self, number: int) -> None:
        # spawned, not forked: threads and CUDA do not survive a fork
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self.task, number, self.count), daemon=True
        )
        process.start()
        theirs.close()
        self.workers[ours] = _Worker(process, number, None)

    def _hear(self, pipe: Connection) -> Iterator[RunEvent]:
        """Take one message of a worker, and give it its next sequence when it has none."""
        try:
            message: RunEvent | Exception | None = pipe.recv()
        except (EOFError, ConnectionResetError):
            yield from self._replace(pipe)
            return
        self.workers[pipe] = self.workers[pipe]._replace(silent_s=0.0)
        if isinstance(message, Exception):
            raise message
        if message is not None:
            yield message
        if message is None or message.state != "frame":
            self._assign_next(pipe)

    def _assign_next(self, pipe: Connection) -> None:
        """Send a worker its next sequence, or send it home where none is left."""
        worker = self.workers[pipe]
        following = self.waiting.popleft() if self.waiting else None
        self.workers[pipe] = worker._replace(sequence=following)
        # a worker that has died meanwhile is noticed at the next message
        with suppress(BrokenPipeError, ConnectionResetError):
            pipe.send(following)
        if following is None:
            worker.process.join()
            del self.workers[pipe]
            pipe.close()

    def _replace(self, pipe: Connection, silence: str = "") -> Iterator[RunEvent]:
        """Report the sequence of a worker that died or fell silent, and start another worker."""
        worker = self.workers.pop(pipe)
        pipe.close()
        worker.process.join()
        death = silence or f"died with exit code {worker.process.exitcode}"
        if worker.sequence is None:
            raise ChildProcessError(f"a worker process {death} while it made the tracker")
        yield RunEvent(worker.sequence.name, "failed", f"its worker process {death}")
        if self.waiting:
            self._start(worker.number)


def _serve(pipe: Connection, work: Work, number: int, workers: int) -> None:
    """Be a worker: say that the tracker is made, then track sequences until None comes."""
    # an interruption reaches every process of the terminal; the first one ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _share_threads(workers)
    _choose_gpu(number)
    # an end of the pipe means that the first process is gone
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            tracker = work.make_tracker()
        except Exception as error:
            pipe.send(_sendable(error))
            return
        pipe.send(None)
        while (sequence := pipe.recv()) is not None:
            for event in _track(work, tracker, sequence):
                pipe.send(event)


def _share_threads(workers: int) -> None:
    """Give torch, where it is installed, this worker's share of the threads."""
    try:
        import torch
    except ModuleNotFoundError:
        return
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def _choose_gpu(number: int) -> None:
    """Make one of several GPUs the current one: torchrun's choice, or the worker's number."""
    try:
        import torch
    except ModuleNotFoundError:
        return
    if torch.cuda.is_available():
        wanted = int(os.environ.get("LOCAL_RANK", number))
        torch.cuda.set_device(wanted % torch.cuda.device_count())


def _track(work: Work, tracker: FrameTracker, sequence: ImageSequence) -> Iterator[RunEvent]:
    """Track one sequence; a failure becomes an event."""
    try:
        for _ in work.track(tracker, sequence, work.folder, work.times):
            yield RunEvent(sequence.name, "frame")
    except Exception as error:
        yield RunEvent(sequence.name, "failed", _reason(error))
    else:
        yield RunEvent(sequence.name, "finished")


def _reason(error: Exception) -> str:
    """Return an error in one line, with its type where no file or setting explains it."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}"


def _sendable(error: Exception) -> Exception:
    """Return an error that survives the way to another process."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return ValueError(_reason(error))

"""The processes that track: one sequence at a time each, and what happens when a sequence, or a
process, fails."""

import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rgbt_fusion.data.sequences import ImageSequence
from rgbt_fusion.tracking.tracker import FrameTracker

__all__ = ["MakeTracker", "Progress", "Work", "work_here", "work_in_processes"]

MakeTracker = Callable[[], FrameTracker]


class Progress(NamedTuple):
    """What just happened in a run."""

    sequence: str
    state: str
    """``"frame"`` (one more is tracked), ``"finished"``, ``"failed"`` or ``"kept"`` (of an earlier
run)."""
    reason: str = ""


class Work(NamedTuple):
    """What is done with each sequence; it must be picklable where there are several processes."""

    make_tracker: MakeTracker
    track: Callable[[FrameTracker, ImageSequence, Path, bool], Iterator[None]]
    folder: Path
    times: bool


class _Worker(NamedTuple):
    process: BaseProcess
    number: int
    sequence: ImageSequence | None
    """What it is working on; None before it has its tracker."""


def work_here(work: Work, sequences: Iterable[ImageSequence]) -> Generator[Progress, None, None]:
    """Track all sequences in this process; yield after every frame and sequence."""
    if "LOCAL_RANK" in os.environ:
        _choose_gpu(0)
    tracker = None
    for sequence in sequences:
        tracker = tracker or work.make_tracker()
        yield from _track(work, tracker, sequence)


def work_in_processes(
    work: Work, sequences: Iterable[ImageSequence], workers: int
) -> Generator[Progress, None, None]:
    """Track all sequences in several processes; yield after every frame and sequence of each.

    A process that dies costs the sequence it was at; another takes its place.

    Raises:
        TypeError: ``work`` cannot be handed to another process.
        ChildProcessError: a process dies while it makes the tracker.
        Exception: whatever ``work.make_tracker`` raises.
    """
    try:
        pickle.dumps(work)
    except Exception as error:
        raise TypeError(
            f"make_tracker must be picklable where there are several workers, but: {error}"
        ) from None
    waiting = deque(sequences)
    working: dict[Connection, _Worker] = {}
    try:
        for number in range(min(workers, len(waiting))):
            _start(work, number, workers, working)
        while working:
            ready = wait(list(working))
            for pipe in [pipe for pipe in working if pipe in ready]:
                yield from _hear(pipe, work, waiting, workers, working)
    finally:
        for pipe, worker in working.items():
            worker.process.terminate()
            worker.process.join()
            pipe.close()


def _start(work: Work, number: int, workers: int, working: dict[Connection, _Worker]) -> None:
    # spawned, not forked: threads and CUDA do not survive a fork
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, number, workers), daemon=True)
    process.start()
    theirs.close()
    working[ours] = _Worker(process, number, None)


def _hear(
    pipe: Connection,
    work: Work,
    waiting: deque[ImageSequence],
    workers: int,
    working: dict[Connection, _Worker],
) -> Iterator[Progress]:
    """Take one message of a worker, and hand it its next sequence when it has none."""
    worker = working[pipe]
    try:
        message = pipe.recv()
    except (EOFError, ConnectionResetError):
        yield from _bury(pipe, work, waiting, workers, working)
        return
    if isinstance(message, Exception):
        raise message
    if message is not None:
        yield message
    if message is None or message.state != "frame":
        following = waiting.popleft() if waiting else None
        working[pipe] = worker._replace(sequence=following)
        # where it has died meanwhile, that is heard next
        with suppress(BrokenPipeError, ConnectionResetError):
            pipe.send(following)
        if following is None:
            worker.process.join()
            del working[pipe]
            pipe.close()


def _bury(
    pipe: Connection,
    work: Work,
    waiting: deque[ImageSequence],
    workers: int,
    working: dict[Connection, _Worker],
) -> Iterator[Progress]:
    worker = working.pop(pipe)
    pipe.close()
    worker.process.join()
    what = f"with exit code {worker.process.exitcode}"
    if worker.sequence is None:
        raise ChildProcessError(f"a worker process died {what} while it made the tracker")
    yield Progress(worker.sequence.name, "failed", f"its worker process died {what}")
    if waiting:
        _start(work, worker.number, workers, working)


def _serve(pipe: Connection, work: Work, number: int, workers: int) -> None:
    """Be a worker: say that the tracker is there, then track what comes until None comes, or the
    other end is gone."""
    # an interruption reaches every process of the terminal; the first one ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    _choose_gpu(number)
    try:
        try:
            tracker = work.make_tracker()
        except Exception as error:
            pipe.send(_sendable(error))
            return
        pipe.send(None)
        while (sequence := pipe.recv()) is not None:
            for progress in _track(work, tracker, sequence):
                pipe.send(progress)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _choose_gpu(number: int) -> None:
    """Make one of several GPUs the current one: torchrun's choice, or the worker's number in
    turn."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", number)) % torch.cuda.device_count())


def _track(work: Work, tracker: FrameTracker, sequence: ImageSequence) -> Iterator[Progress]:
    try:
        for _ in work.track(tracker, sequence, work.folder, work.times):
            yield Progress(sequence.name, "frame")
    except Exception as error:
        yield Progress(sequence.name, "failed", _reason(error))
    else:
        yield Progress(sequence.name, "finished")


def _reason(error: Exception) -> str:
    """Return one line; an error that no file or setting explains gives its type, too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def _sendable(error: Exception) -> Any:
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return ValueError(_reason(error))

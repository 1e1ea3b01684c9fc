"""Run a tracker over a dataset: one file of boxes per sequence, whole or not there at all."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.data.sequences import Dataset, ImageSequence
from rgbt_fusion.evaluation.workers import (
    MakeTracker,
    RunEvent,
    Work,
    work_here,
    work_in_processes,
)
from rgbt_fusion.files.folder_lock import only_process
from rgbt_fusion.files.text_tables import DataError, read_text
from rgbt_fusion.files.whole import write_text
from rgbt_fusion.tracking.interface import FrameTracker, first_box, naming_annotation

__all__ = ["RunEvent", "RunReport", "run_tracker", "track_and_write"]

SETTINGS = "run.json"
"""The file that says what the results of a folder were made with."""


class RunReport(NamedTuple):
    """What happened to the sequences of a run."""

    folder: Path
    """Where the results are."""
    finished: tuple[str, ...]
    """The sequences tracked in this run."""
    kept: tuple[str, ...]
    """The sequences that an earlier run had finished."""
    failed: Mapping[str, str]
    """The sequences without a result, each with its reason."""
    frames: int
    """How many frames were tracked in this run."""
    seconds: float
    """How long this run took."""


def run_tracker(
    make_tracker: MakeTracker,
    dataset: Dataset,
    folder: str | Path,
    *,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    settings: Mapping[str, str] | None = None,
    times: bool = False,
    on_progress: Callable[[RunEvent], None] | None = None,
) -> RunReport:
    """Run a tracker over a dataset and write its results as the field does.

    ``<sequence>.txt`` holds left, top, width and height of every frame, beginning with the
    annotation, and ``<sequence>_confidence.txt`` the tracker's confidence. Each file is written
    whole: a run that is killed at any moment leaves complete files or none. Run it again to resume:
    finished sequences are kept. A sequence that fails is reported and the run continues.

    Args:
        make_tracker: returns a tracker. With several workers it is called in each of them and must
            be picklable: a function of a module, or a ``functools.partial`` of one.
        dataset: the sequences, see :func:`~rgbt_fusion.data.sequences.open_dataset`. Those that it
            refused count as failed.
        folder: where the results go; its name is the tracker's name.
        workers: how many processes track. 1 tracks in this process. Where there are several GPUs,
            the workers take them in turn.
        shard: number and count of parts, as in ``(RANK, WORLD_SIZE)``. Only this part of the
            sequences is tracked.
        settings: what the results are made with. A folder with results of other settings is
            refused, and so is one with results that say nothing of their settings: they may be
            another tracker's.
        times: also write ``<sequence>_time.txt``, the seconds of each frame. These differ from run
            to run.
        on_progress: called for every sequence that is kept or refused, and after every frame and
            every sequence.

    Raises:
        DataError: ``folder`` holds results that were made with other settings, or that may have
            been.
        FolderInUseError: another process runs a tracker into ``folder``; the message says which
            one. The parts of one run, see ``shard``, may share it.
        ValueError: ``workers`` or ``shard`` is out of range.
        ChildProcessError: a worker dies while it makes the tracker.
        Exception: whatever ``make_tracker`` raises.

    Example:
        >>> import tempfile
        >>> from rgbt_fusion import Tracker, create_model, run_tracker
        >>> from rgbt_fusion.data.sequences import Dataset
        >>> from rgbt_fusion.synthetic.world import SyntheticSequence
        >>> dataset = Dataset((SyntheticSequence(1, frames=3),), {})
        >>> make = lambda: Tracker(create_model("ostrack_tiny_128"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     reports = [run_tracker(make, dataset, folder) for attempt in (1, 2)]
        >>> [(len(report.finished), len(report.kept)) for report in reports]
        [(1, 0), (0, 1)]
    """
    check_positive_int(workers, name="workers")
    rank, count = shard
    if not 0 <= rank < count:
        raise ValueError(f"shard must be a number below its count, got {rank} of {count}")
    base = Path(folder)
    base.mkdir(parents=True, exist_ok=True)
    with only_process(base, part=shard):
        _check_settings(base, settings, dataset.sequences)
        return _run_part(make_tracker, dataset, base, workers, shard, times, on_progress)


def _run_part(
    make_tracker: MakeTracker,
    dataset: Dataset,
    base: Path,
    workers: int,
    shard: tuple[int, int],
    times: bool,
    on_progress: Callable[[RunEvent], None] | None,
) -> RunReport:
    """Track what the folder lacks of one part of the sequences."""
    rank, count = shard
    part = _longest_first(dataset.sequences)[rank::count]
    waiting: list[ImageSequence] = []
    known: list[RunEvent] = []
    for sequence in part:
        if _is_finished(base, sequence):
            known.append(RunEvent(sequence.name, "kept"))
        else:
            waiting.append(sequence)
    if rank == 0:
        known += [RunEvent(name, "failed", reason) for name, reason in dataset.refused.items()]

    work = Work(make_tracker, track_and_write, base, times)
    if workers == 1:
        events = work_here(work, waiting)
    else:
        events = work_in_processes(work, waiting, workers)
    with closing(events):
        return _report(base, chain(known, events), on_progress)


def _report(
    folder: Path, events: Iterable[RunEvent], on_progress: Callable[[RunEvent], None] | None
) -> RunReport:
    """Pass events on and sum them up."""
    finished: list[str] = []
    kept: list[str] = []
    failed: dict[str, str] = {}
    frames = 0
    start = time.perf_counter()
    for event in events:
        if event.state == "frame":
            frames += 1
        elif event.state == "finished":
            finished.append(event.sequence)
        elif event.state == "kept":
            kept.append(event.sequence)
        else:
            failed[event.sequence] = event.reason
        if on_progress is not None:
            on_progress(event)
    seconds = time.perf_counter() - start
    return RunReport(folder, tuple(finished), tuple(kept), failed, frames, seconds)


def track_and_write(
    tracker: FrameTracker, sequence: ImageSequence, folder: Path, times: bool
) -> Iterator[None]:
    """Track a sequence and write its files at the end; yield after every frame.

    Raises:
        DataError: ``sequence`` has no annotation to start on.
        ValueError: its first box is one that no tracker can start on; file and line are named.
        Exception: whatever the tracker or the images raise.
    """
    boxes: list[str] = []
    confidences: list[str] = []
    seconds: list[str] = []
    if sequence.truth is None:
        images = (sequence.rgb or sequence.tir)[0].parent
        raise DataError(f"a file of boxes must be there to start on, got {images} without any")
    first = first_box(sequence)
    for number, (rgb, tir) in enumerate(sequence):
        start = time.perf_counter()
        if number == 0:
            with naming_annotation(sequence.truth):
                result = tracker.init(rgb, tir, first)
        else:
            result = tracker.update(rgb, tir)
        seconds.append(f"{time.perf_counter() - start:.6f}")
        box = np.asarray(result.box_xywh_px, dtype=np.float64)
        boxes.append(",".join(f"{value:.4f}" for value in box))
        confidences.append(f"{float(result.confidence):.6f}")
        yield
    # the boxes come last: a sequence with boxes is finished
    if times:
        _write_lines(folder / f"{sequence.name}_time.txt", seconds)
    _write_lines(folder / f"{sequence.name}_confidence.txt", confidences)
    _write_lines(folder / f"{sequence.name}.txt", boxes)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


def _is_finished(folder: Path, sequence: ImageSequence) -> bool:
    """Return whether the folder holds a box for every frame of a sequence."""
    path = folder / f"{sequence.name}.txt"
    return path.is_file() and path.read_bytes().count(b"\n") == len(sequence)


def _longest_first(sequences: Iterable[ImageSequence]) -> list[ImageSequence]:
    """Order sequences so that no worker starts on a long one when the others are done."""
    return sorted(sequences, key=lambda sequence: (-len(sequence), sequence.name))


def _check_settings(
    folder: Path, settings: Mapping[str, str] | None, sequences: Iterable[ImageSequence]
) -> None:
    """Refuse a folder of results that were made with other settings; note ours in a new one."""
    if settings is None:
        return
    path = folder / SETTINGS
    if not path.is_file():
        there = [one.name for one in sequences if (folder / f"{one.name}.txt").exists()]
        if there:
            raise DataError(
                f"folder must be new or hold {SETTINGS} of the same run, but {folder} has results "
                f"of {there[0]} without one: they may be another tracker's; choose another folder"
            )
        _write_lines(path, [json.dumps(settings, indent=1)])
        return
    text = read_text(path)
    try:
        earlier = json.loads(text)
    except (ValueError, RecursionError):
        earlier = None
    if not isinstance(earlier, dict):
        raise DataError(f"{path} must hold the settings of a run as JSON, but does not")
    if earlier == dict(settings):
        return
    differences: list[str] = []
    for name in {**earlier, **settings}:
        before = earlier.get(name)
        now = settings.get(name)
        if before != now:
            differences.append(f"{name} {before!r}, not {now!r}")
    raise DataError(
        f"folder must hold results of the same run, but those in {folder} were made with "
        f"{', '.join(differences)}"
    )

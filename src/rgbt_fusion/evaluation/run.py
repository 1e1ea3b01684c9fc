"""Running a tracker over a dataset: one file of boxes a sequence, whole or not there at all."""

import glob
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.data.sequences import Dataset, ImageSequence
from rgbt_fusion.evaluation.workers import MakeTracker, Progress, Work, work_here, work_in_processes
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.tracking.tracker import FrameTracker, first_box

__all__ = ["Progress", "RunReport", "run_tracker", "track_and_write"]

SETTINGS = "run.json"
"""The file that says what the results of a folder were made with."""


class RunReport(NamedTuple):
    """What became of the sequences of a run."""

    folder: Path
    finished: tuple[str, ...]
    """The sequences tracked in this run."""
    kept: tuple[str, ...]
    """The sequences that an earlier run had finished."""
    failed: Mapping[str, str]
    """Why each other sequence has no result."""
    frames: int
    seconds: float
    """How many frames were tracked in this run, and how long that took."""


def run_tracker(
    make_tracker: MakeTracker,
    dataset: Dataset,
    folder: str | Path,
    *,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    settings: Mapping[str, str] | None = None,
    times: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunReport:
    """Run a tracker over a dataset and write its results as the field does; start it again to go
    on.

    ``<sequence>.txt`` holds left, top, width and height of every frame, the annotation at the
    first, and ``<sequence>_confidence.txt`` how sure the tracker was. Files are written beside,
    flushed to the disk and renamed: killed at any moment, a run leaves whole files or none, and
    starting it again tracks what is missing. A sequence that fails is reported and the rest goes
    on.

    Args:
        make_tracker: returns a tracker; with several workers it is called in each and must be
            picklable: a function of a module, or a ``functools.partial`` of one.
        dataset: the sequences, see :func:`~rgbt_fusion.data.sequences.open_dataset`; those it
            refused count as failed.
        folder: where the results go; its name is the tracker's.
        workers: how many processes track; 1 tracks in this one. Where there are several GPUs, each
            worker has its own current one.
        shard: number and count of parts, ``(RANK, WORLD_SIZE)``: only this part of the sequences is
            tracked.
        settings: what the results are made with; a folder of results that were made with anything
            else is refused.
        times: write ``<sequence>_time.txt`` too, the seconds of each frame; no two runs are alike
            in these.
        on_progress: called for every sequence that is kept or refused, and after every frame and
            sequence.

    Raises:
        DataError: ``folder`` holds results that were made with other settings.
        ValueError: ``workers`` or ``shard`` is out of range.
        ChildProcessError: a worker dies while it makes the tracker.
        Exception: whatever ``make_tracker`` raises.

    Example:
        >>> import tempfile
        >>> from rgbt_fusion import Tracker
        >>> from rgbt_fusion.data.sequences import Dataset
        >>> from rgbt_fusion.synthetic.world import SyntheticSequence
        >>> from rgbt_fusion import run_tracker
        >>> from rgbt_fusion import create_model
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
    _check_settings(base, settings, write=rank == 0)
    part = _part(dataset.sequences, rank, count)
    kept = {sequence.name for sequence in part if _is_finished(base, sequence)}
    waiting = [sequence for sequence in part if sequence.name not in kept]
    known = [Progress(sequence.name, "kept") for sequence in part if sequence.name in kept]
    if rank == 0:
        known += [Progress(name, "failed", reason) for name, reason in dataset.refused.items()]
    work = Work(make_tracker, track_and_write, base, times)
    with closing(
        work_here(work, waiting) if workers == 1 else work_in_processes(work, waiting, workers)
    ) as events:
        return _report(base, chain(known, events), on_progress)


def _report(
    folder: Path, events: Iterable[Progress], on_progress: Callable[[Progress], None] | None
) -> RunReport:
    ended: dict[str, dict[str, str]] = {"finished": {}, "kept": {}, "failed": {}}
    frames, start = 0, time.perf_counter()
    for event in events:
        if event.state == "frame":
            frames += 1
        else:
            ended[event.state][event.sequence] = event.reason
        if on_progress is not None:
            on_progress(event)
    seconds = time.perf_counter() - start
    return RunReport(
        folder, tuple(ended["finished"]), tuple(ended["kept"]), ended["failed"], frames, seconds
    )


def track_and_write(
    tracker: FrameTracker, sequence: ImageSequence, folder: Path, times: bool
) -> Iterator[None]:
    """Track a sequence and write its files at the end; yield after every frame."""
    boxes, confidences, seconds = [], [], []
    first = first_box(sequence)
    for number, (rgb, tir) in enumerate(sequence):
        start = time.perf_counter()
        result = tracker.update(rgb, tir) if number else tracker.init(rgb, tir, first)
        seconds.append(time.perf_counter() - start)
        boxes.append(np.asarray(result.box_xywh_px, dtype=np.float64))
        confidences.append(float(result.confidence))
        yield
    # the boxes come last: a sequence with boxes is finished
    if times:
        _write(folder / f"{sequence.name}_time.txt", (f"{value:.6f}" for value in seconds))
    _write(folder / f"{sequence.name}_confidence.txt", (f"{value:.6f}" for value in confidences))
    _write(
        folder / f"{sequence.name}.txt",
        (",".join(f"{value:.4f}" for value in box) for box in boxes),
    )


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write a file that is whole or not there, whenever the process is killed."""
    for left_by_a_killed_run in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        left_by_a_killed_run.unlink(missing_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    # the new name is on the disk only when the folder is
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_finished(folder: Path, sequence: ImageSequence) -> bool:
    path = folder / f"{sequence.name}.txt"
    return path.is_file() and path.read_bytes().count(b"\n") == len(sequence)


def _part(sequences: Iterable[ImageSequence], rank: int, count: int) -> list[ImageSequence]:
    """Return one part of the sequences, the longest first: nobody starts on a long one when the
    others are done."""
    return sorted(sequences, key=lambda sequence: (-len(sequence), sequence.name))[rank::count]


def _check_settings(folder: Path, settings: Mapping[str, str] | None, *, write: bool) -> None:
    path = folder / SETTINGS
    if settings is None:
        return
    if not path.is_file():
        if write:
            _write(path, [json.dumps(settings, indent=1)])
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path} must hold the settings of a run as JSON, but does not") from None
    if earlier != dict(settings):
        names = [
            name for name in {**earlier, **settings} if earlier.get(name) != settings.get(name)
        ]
        told = ", ".join(
            f"{name} {earlier.get(name)!r}, not {settings.get(name)!r}" for name in names
        )
        raise DataError(
            f"folder must hold results of the same run, but those in {folder} were made with {told}"
        )

"""Result folders as the field leaves them: one text file a sequence, in any separator, 4 or 8
columns, any prefix."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.data.annotations import to_xywh
from rgbt_fusion.files.text_tables import DataError, read_numbers

__all__ = ["ResultFolder", "TrackResult", "read_results"]

# <sequence>_time.txt and its kin hold no boxes
_NO_BOXES = re.compile(r"_(time|times|conf|confidence|score|scores|all_boxes|all_scores)$")


class TrackResult(NamedTuple):
    """What a tracker wrote for one sequence."""

    boxes: NDArray[np.float64]
    """``(T, 4)``, left, top, width, height."""
    corners: bool = False
    """Whether they were written as four corners."""
    confidences: NDArray[np.float64] | None = None
    """``(T,)``, where the tracker wrote them."""
    seconds: float | None = None
    """What the tracker took for the sequence, where it wrote that."""


@dataclass(frozen=True)
class ResultFolder:
    """The results of one tracker, and what could not be read."""

    tracker: str
    results: Mapping[str, TrackResult]
    missing: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """The sentence for each sequence whose file is malformed."""


def read_results(
    folder: str | Path,
    sequences: Iterable[str],
    *,
    prefix: str | None = None,
    box_format: str = "auto",
    tracker: str | None = None,
) -> ResultFolder:
    """Read a tracker's results for the named sequences.

    A sequence's file is ``<prefix><sequence>.txt``, or the GOT-10k and VOT toolkits'
    ``<sequence>/<sequence>_001.txt``; ``<sequence>_time.txt`` and ``<sequence>_confidence.txt`` are
    read when they lie beside it.

    Args:
        folder: the result folder.
        sequences: the sequences' names.
        prefix: what the file names begin with; None finds it out.
        box_format: ``"auto"`` (4 columns are xywh, 8 are four corners), ``"xywh"``, ``"xyxy"`` or
            ``"corners"``.
        tracker: the name to report; None takes the folder's.

    Raises:
        DataError: there is no such folder.
        ValueError: ``box_format`` is unknown.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion import read_results
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "mine_car.txt").write_text("1\\t2\\t3\\t4\\n")
        >>> found = read_results(folder, ["car", "dog"])
        >>> found.results["car"].boxes.tolist(), found.missing
        ([[1.0, 2.0, 3.0, 4.0]], ('dog',))
    """
    base, names = Path(folder), tuple(sequences)
    if not base.is_dir():
        raise DataError(f"results must be a folder of text files, got {folder}")
    stems = {path.stem for path in base.glob("*.txt")}
    start = _common_prefix(stems, names) if prefix is None else prefix
    results: dict[str, TrackResult] = {}
    missing: list[str] = []
    unreadable: dict[str, str] = {}
    for name in names:
        path = _file(base, start, name)
        if path is None:
            missing.append(name)
            continue
        try:
            results[name] = _read(path, name, box_format)
        except DataError as error:
            unreadable[name] = str(error)
    return ResultFolder(tracker or base.resolve().name, results, tuple(missing), unreadable)


def _common_prefix(stems: set[str], names: tuple[str, ...]) -> str:
    """Return the prefix under which most sequences are found, the shortest on a tie."""
    found = Counter(
        stem[: -len(name)]
        for stem in stems
        if not _NO_BOXES.search(stem)
        for name in names
        if stem.endswith(name)
    )
    return min(found, key=lambda start: (-found[start], len(start)), default="")


def _file(base: Path, prefix: str, name: str) -> Path | None:
    # the GOT-10k and VOT toolkits number repetitions; a deterministic tracker has the first alone
    spellings = (
        f"{prefix}{name}.txt",
        f"{name}/{name}_001.txt",
        f"{name}/{prefix}{name}.txt",
        f"{prefix}{name}_001.txt",
    )
    return next((base / spelling for spelling in spellings if (base / spelling).is_file()), None)


def _read(path: Path, name: str, box_format: str) -> TrackResult:
    boxes, corners = _read_track(path, box_format)
    return TrackResult(
        boxes, corners, _read_confidences(path, name, len(boxes)), _read_seconds(path, name)
    )


def _read_track(path: Path, box_format: str) -> tuple[NDArray[np.float64], bool]:
    table = read_numbers(path, columns=(4, 8))
    try:
        return to_xywh(table, box_format=box_format), table.shape[1] == 8
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _read_confidences(path: Path, name: str, count: int) -> NDArray[np.float64] | None:
    for ending in (
        "_confidence.txt",
        "_confidence.value",
        "_001_confidence.value",
        "_all_scores.txt",
    ):
        file = path.with_name(name + ending)
        if file.is_file():
            values = read_numbers(file, columns=(1,))[:, 0]
            if len(values) < count:
                raise DataError(
                    f"{file} must have a confidence for each of {count} boxes, got {len(values)}"
                )
            return values[:count]
    return None


def _read_seconds(path: Path, name: str) -> float | None:
    for file in (path.with_name(f"{path.stem}_time.txt"), path.with_name(f"{name}_time.txt")):
        if file.is_file():
            try:
                return float(np.nansum(read_numbers(file)))
            except DataError:
                # a broken time file costs the speed, not the scores
                return None
    return None

"""Read result folders as the field leaves them: one text file per sequence, in many spellings."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.data.annotations import to_xywh
from rgbt_fusion.data.layouts import BoxFormat
from rgbt_fusion.files.text_tables import DataError, read_numbers

__all__ = ["ResultFolder", "StoredTrack", "names_of_folders", "read_results"]

# <sequence>_time.txt and its kin hold no boxes
_NO_BOXES = re.compile(r"_(time|times|conf|confidence|score|scores|all_boxes|all_scores)$")

_CONFIDENCE_ENDINGS = (
    "_confidence.txt",
    "_confidence.value",
    "_001_confidence.value",
    "_all_scores.txt",
)


class StoredTrack(NamedTuple):
    """What a tracker wrote for one sequence."""

    boxes: NDArray[np.float64]
    """``(T, 4)``: left, top, width, height."""
    corners: bool = False
    """Whether the boxes were written as four corners."""
    confidences: NDArray[np.float64] | None = None
    """``(T,)``, or None where the tracker wrote none."""
    seconds: float | None = None
    """How long the tracker took for the sequence, or None where it did not write that."""
    written_corners: NDArray[np.float64] | None = None
    """``(T, 8)``: x and y of the four corners as they were written, or None."""


@dataclass(frozen=True)
class ResultFolder:
    """The results of one tracker, and what could not be read."""

    tracker: str
    """The tracker's name."""
    results: Mapping[str, StoredTrack]
    """What was read, by sequence."""
    missing: tuple[str, ...] = ()
    """The sequences without a file."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """The sequences whose file is malformed, each with the error."""


def read_results(
    folder: str | Path,
    sequences: Iterable[str],
    *,
    prefix: str | None = None,
    box_format: BoxFormat = "auto",
    tracker: str | None = None,
) -> ResultFolder:
    """Read a tracker's results for the named sequences.

    The file of a sequence is ``<prefix><sequence>.txt``, or ``<sequence>/<sequence>_001.txt`` as
    the GOT-10k and VOT toolkits name it. ``<sequence>_time.txt`` and ``<sequence>_confidence.txt``
    are read where they lie beside it. A ``.mat`` file in place of a text file counts as unreadable,
    and its reason says how to turn it into text.

    Args:
        folder: the result folder.
        sequences: the names of the sequences.
        prefix: how the file names begin. None finds it out.
        box_format: ``"auto"`` (4 columns are xywh, 8 are four corners), ``"xywh"``, ``"xyxy"`` or
            ``"corners"``.
        tracker: the tracker's name. None takes the folder's name.

    Raises:
        DataError: ``folder`` does not exist.
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
    base = Path(folder)
    if not base.is_dir():
        raise DataError(f"results must be a folder of text files, got {folder}")
    names = tuple(sequences)
    if prefix is None:
        stems = {path.stem for path in base.glob("*.txt")}
        prefix = _common_prefix(stems or {path.stem for path in base.glob("*.mat")}, names)
    results: dict[str, StoredTrack] = {}
    listed: dict[Path, frozenset[str]] = {}
    missing: list[str] = []
    unreadable: dict[str, str] = {}
    for name in names:
        path = _file_of(base, prefix, name)
        if path is None:
            matlab = base / f"{prefix}{name}.mat"
            if matlab.is_file():
                unreadable[name] = _of_matlab(matlab)
            else:
                missing.append(name)
            continue
        if path.parent not in listed:
            # a folder is listed once, instead of asked for several files per sequence
            listed[path.parent] = frozenset(entry.name for entry in path.parent.iterdir())
        try:
            results[name] = _read_track(path, name, box_format, listed[path.parent])
        except DataError as error:
            unreadable[name] = str(error)
    return ResultFolder(tracker or base.resolve().name, results, tuple(missing), unreadable)


def names_of_folders(folders: Sequence[Path]) -> list[str]:
    """Return what the content of each folder is called: folders of one name by their paths.

    Example:
        >>> from pathlib import Path
        >>> from rgbt_fusion.evaluation.results import names_of_folders
        >>> names_of_folders([Path("runs/first"), Path("a/last"), Path("b/last")])
        ['first', 'a/last', 'b/last']
    """
    names = [folder.resolve().name for folder in folders]
    return [
        name if names.count(name) == 1 else str(folder)
        for folder, name in zip(folders, names, strict=True)
    ]


def _of_matlab(path: Path) -> str:
    """Say what a MATLAB file is and how its boxes become a text file."""
    return (
        f"{path} is a file of MATLAB: toolkits keep boxes or finished errors there, under names of "
        "their own. Boxes can be scored as text: in MATLAB load it and "
        f"writematrix(boxes, '{path.stem}.txt'); in Python scipy.io.loadmat and numpy.savetxt"
    )


def _common_prefix(stems: set[str], names: tuple[str, ...]) -> str:
    """Return the prefix under which most sequences are found, the shortest one on a tie."""
    wanted = set(names)
    if wanted <= stems:
        return ""
    lengths = {len(name) for name in names}
    found: Counter[str] = Counter()
    for stem in stems:
        if _NO_BOXES.search(stem):
            continue
        # an end of each length is looked up, instead of each name at the end
        starts = [len(stem) - length for length in lengths if length <= len(stem)]
        found.update(stem[:start] for start in starts if stem[start:] in wanted)
    return min(found, key=lambda start: (-found[start], len(start)), default="")


def _file_of(base: Path, prefix: str, name: str) -> Path | None:
    """Return the file that holds the boxes of a sequence, None where there is none."""
    # the GOT-10k and VOT toolkits number repetitions; a deterministic tracker has the first alone
    spellings = (
        f"{prefix}{name}.txt",
        f"{name}/{name}_001.txt",
        f"{name}/{prefix}{name}.txt",
        f"{prefix}{name}_001.txt",
    )
    for spelling in spellings:
        path = base / spelling
        if path.is_file():
            return path
    return None


def _read_track(
    path: Path, name: str, box_format: BoxFormat, beside: frozenset[str]
) -> StoredTrack:
    """Read the boxes of a sequence, and its confidences and times where they lie beside them."""
    table = read_numbers(path, columns=(4, 8))
    try:
        boxes = to_xywh(table, box_format=box_format)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    corners = table.shape[1] == 8
    return StoredTrack(
        boxes,
        corners=corners,
        written_corners=table if corners else None,
        confidences=_read_confidences(path, name, len(boxes), beside),
        seconds=_read_seconds(path, name, beside),
    )


def _read_confidences(
    path: Path, name: str, count: int, beside: frozenset[str]
) -> NDArray[np.float64] | None:
    for ending in _CONFIDENCE_ENDINGS:
        if name + ending not in beside:
            continue
        file = path.with_name(name + ending)
        values = read_numbers(file, columns=(1,))[:, 0]
        if len(values) < count:
            raise DataError(
                f"{file} must have a confidence for each of {count} boxes, got {len(values)}"
            )
        return values[:count]
    return None


def _read_seconds(path: Path, name: str, beside: frozenset[str]) -> float | None:
    for file in (f"{path.stem}_time.txt", f"{name}_time.txt"):
        if file not in beside:
            continue
        try:
            return float(np.nansum(read_numbers(path.with_name(file))))
        except DataError:
            # a broken time file costs the speed, not the scores
            return None
    return None

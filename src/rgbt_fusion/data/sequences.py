"""Sequences of both modalities as their datasets lay them out; ``LAYOUTS`` says where all is."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.annotations import Located, find_sequences, read_truth
from rgbt_fusion.data.first_frames import first_frames
from rgbt_fusion.data.folders import first_folder, holds_images, unread_folders
from rgbt_fusion.data.frame_numbers import pairing_notices
from rgbt_fusion.data.layouts import (
    LAYOUTS,
    Layout,
    SecondModality,
    get_layout,
    unnamed_images,
)
from rgbt_fusion.files.text_tables import DataError, natural_key
from rgbt_fusion.frames.reading import image_size, is_image, read_depth, read_rgb, read_thermal
from rgbt_fusion.frames.types import FramePair, GroundTruth

__all__ = [
    "SEQUENCE_MODALITIES",
    "Dataset",
    "ImageSequence",
    "SequenceModality",
    "list_images",
    "open_dataset",
    "open_sequence",
    "read_sizes",
]

SequenceModality: TypeAlias = Literal["both", "rgb", "tir"]
"""Which images of a sequence are opened."""

SEQUENCE_MODALITIES: tuple[SequenceModality, ...] = get_args(SequenceModality)
"""What may be opened of a sequence."""

NO_MODALITY = (".", "img")
"""Folders that hold images of either modality, such as LSOTB-TIR's ``img``."""


@dataclass(frozen=True)
class ImageSequence:
    """A sequence whose images are read on demand: ``sequence[k]``, or a loop over it."""

    name: str
    rgb: tuple[Path, ...]
    """Colour images; empty for a sequence of the second modality alone."""
    tir: tuple[Path, ...]
    """Images of the second modality; empty for a sequence of colour alone."""
    kind: SecondModality | Literal["none"]
    """What the second modality is."""
    truth: GroundTruth | None
    notices: tuple[str, ...] = ()
    """What is odd about it but does not make it unusable."""
    shown: NDArray[np.bool_] | None = None
    """``(T, 2)``: whether the colour image and the other one are shown in each frame; None shows
    all."""
    rgb_is_depth: bool = False
    """Whether depth takes the place of colour; it is painted."""

    def __len__(self) -> int:
        return len(self.rgb or self.tir)

    def __getitem__(self, index: int) -> FramePair:
        """Read one frame.

        Raises:
            DataError: an image is damaged.
            IndexError: ``index`` is beyond the end.
        """
        shows_rgb, shows_tir = (True, True) if self.shown is None else self.shown[index]
        read_first = read_depth if self.rgb_is_depth else read_rgb
        rgb = read_first(self.rgb[index]) if self.rgb and shows_rgb else None
        if not self.tir or not shows_tir:
            return FramePair(rgb, None)
        read = read_depth if self.kind == "depth" else read_thermal
        return FramePair(rgb, read(self.tir[index]))

    def __iter__(self) -> Iterator[FramePair]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the first colour image, or of the only modality."""
        return image_size((self.rgb or self.tir)[0])


class Dataset(NamedTuple):
    """The sequences of a dataset that can be used, and why the others cannot."""

    sequences: tuple[ImageSequence, ...]
    refused: dict[str, str]
    """By name: why a sequence cannot be used."""


def open_dataset(
    root: str | Path,
    layout: str,
    *,
    names: str | Path | Iterable[str] | None = None,
    on_refusal: Callable[[str, str], None] | None = None,
) -> Dataset:
    """Open all sequences of a dataset; a broken one is reported and the others are opened.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: take only these sequences, in this order: names, or a file that lists them.
        on_refusal: called with name and reason of each sequence that cannot be used.

    Raises:
        DataError: ``root`` holds no sequence of the layout, or lacks one of ``names``.
        ValueError: ``layout`` is unknown.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion import open_dataset
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> (root / "car" / "visible").mkdir(parents=True)
        >>> reason = open_dataset(root, "lasher").refused["car"]
        >>> reason.endswith("visible must hold images, but is empty")
        True
    """
    row = get_layout(layout)
    starts = first_frames(root) if row.annotated_every > 1 else {}
    sequences: list[ImageSequence] = []
    refused: dict[str, str] = {}
    for name, place in find_sequences(root, layout, names=names).items():
        try:
            sequences.append(_open(name, place, row, starts))
        except DataError as error:
            refused[name] = str(error)
            if on_refusal is not None:
                on_refusal(name, str(error))
    return Dataset(tuple(sequences), refused)


def open_sequence(
    folder: str | Path, layout: str = "folder", *, modality: SequenceModality = "both"
) -> ImageSequence:
    """Open one sequence.

    Images are sorted naturally and paired by position; ``notices`` says where numbers in their
    names do not belong together. If there are annotations, images beyond the last annotated one
    are left out (147 sequences of RGBT210 have some) and named in ``notices``.

    Args:
        folder: the sequence's folder.
        layout: a key of ``LAYOUTS``; ``"folder"`` takes a folder with images of one or both
            modalities under any usual name, with or without boxes.
        modality: ``"rgb"`` or ``"tir"`` opens that one alone; the boxes are then those of its
            images.

    Raises:
        DataError: images or boxes are missing, there are fewer images than annotations, or a plain
            folder has images of one modality beside others whose name says no modality.
        ValueError: ``layout`` or ``modality`` is unknown.
    """
    row = get_layout(layout)
    check_choice(modality, SEQUENCE_MODALITIES, name="modality")
    base = Path(folder)
    if not base.is_dir():
        raise DataError(f"folder must be that of a sequence, got {folder}")
    located = find_sequences(base, layout)
    # a view has its sequence's name, too
    name = f"{base.parent.name}.{base.name}" if row.views else base.name
    place = located.get(name, Located(base, None))
    starts = first_frames(base.parent) if row.annotated_every > 1 else {}
    return _open(name, place, row, starts, modality)


def list_images(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the images of the first folder of these names, in any case, naturally sorted.

    Raises:
        DataError: there is no such folder, or it holds no image.
    """
    base = first_folder(folder, names)
    if base is None:
        raise DataError(f"{folder} must hold a folder {' or '.join(names)}, but does not")
    images = [path for path in base.iterdir() if is_image(path)]
    if not images:
        raise DataError(f"{base} must hold images, but is empty")
    return tuple(sorted(images, key=lambda path: natural_key(path.name)))


def read_sizes(root: str | Path, layout: str, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return width and height of the images of the named sequences, of those that have images."""
    row = get_layout(layout)
    sizes: dict[str, tuple[int, int]] = {}
    for name, place in find_sequences(root, layout, names=names).items():
        if place.folder is None:
            continue
        own = row.of(place.folder.name)
        base = first_folder(place.folder, (*own.rgb, *own.tir))
        if base is None:
            continue
        any_image = next((path for path in base.iterdir() if is_image(path)), None)
        if any_image is not None:
            sizes[name] = image_size(any_image)
    return sizes


class _Images(NamedTuple):
    """The images of a sequence, and what is odd about its folder."""

    rgb: tuple[Path, ...]
    tir: tuple[Path, ...]
    notices: list[str]


def _open(
    name: str,
    place: Located,
    row: Layout,
    starts: dict[str, int],
    modality: SequenceModality = "both",
) -> ImageSequence:
    """Open a sequence; ``starts`` has the number of its first annotated image, if known."""
    folder = place.folder
    if folder is None:
        raise DataError(f"{place.truth} has no images beside it")
    row = row.of(folder.name)
    rgb, tir, notices = _find_images(folder, row, modality)
    kind = _kind(tir, row)
    notices += pairing_notices(rgb, tir)
    if place.truth is None and row is LAYOUTS["folder"]:
        if rgb and tir and len(tir) != len(rgb):
            raise DataError(
                f"{folder} must hold as many images of both modalities, "
                f"got {len(rgb)} and {len(tir)}"
            )
        return ImageSequence(name, rgb, tir, kind, None, tuple(notices))

    numbers = [_number(path) for path in rgb or tir] if row.annotated_every > 1 else None
    truth = read_truth(place, row, first=starts.get(name), numbers=numbers)
    if modality == "tir":
        truth = truth._replace(rgb=truth.tir, files=truth.files[-1:])
    if row.annotated_every > 1 and not starts:
        notices.append(
            f"init_frame.npy is not there: the first image of {name} is taken for the first "
            "annotated one"
        )
    if truth.skipped:
        notices.append(f"{truth.skipped} images before the first annotated one are left out")
    for images in (rgb, tir):
        if images:
            notices += _check_length(images, row, truth)
    rgb = rgb[truth.skipped :]
    tir = tir[truth.skipped :]

    if row.annotated_every == 1:
        length = len(truth.frames)
    else:
        length = min(len(images) for images in (rgb, tir) if images)
    return ImageSequence(
        name,
        rgb[:length],
        tir[:length],
        kind,
        truth,
        tuple(notices),
        rgb_is_depth=row.rgb_is_depth,
    )


def _find_images(folder: Path, row: Layout, modality: SequenceModality) -> _Images:
    """Find the images of a sequence; a plain folder may lack one modality."""
    found_rgb = first_folder(folder, row.rgb)
    found_tir = first_folder(folder, row.tir)
    may_lack = row is LAYOUTS["folder"] and modality == "both"
    if may_lack and (found_rgb is None or found_tir is None):
        _refuse_unread(folder, found_rgb, found_tir)

    rgb: tuple[Path, ...] = ()
    tir: tuple[Path, ...] = ()
    no_colour = modality == "both" and not row.rgb
    if modality != "tir" and not no_colour and not (may_lack and found_rgb is None):
        rgb = list_images(folder, row.rgb)
    if modality == "tir":
        tir = _only_thermal(folder, row)
    elif modality == "both" and row.tir and not (may_lack and found_tir is None):
        tir = list_images(folder, row.tir)

    notices = []
    if modality == "both" and "." not in (*row.rgb, *row.tir):
        names = unread_folders(folder, (found_rgb, found_tir))
        if names:
            notices.append(f"images in {', '.join(names)} are not read: {row.title} has none there")
    return _Images(rgb, tir, notices)


def _refuse_unread(folder: Path, rgb: Path | None, tir: Path | None) -> None:
    """Refuse a plain folder whose missing modality may be in a folder of another name."""
    names = unread_folders(folder, (rgb, tir))
    if rgb is None and holds_images(folder):
        names.append("the folder itself")
    if names:
        raise DataError(unnamed_images(folder, names, beside=rgb or tir))


def _only_thermal(folder: Path, row: Layout) -> tuple[Path, ...]:
    """Return the thermal images; a folder whose name says no modality may hold them."""
    if first_folder(folder, row.tir) is not None:
        return list_images(folder, row.tir)
    unnamed = tuple(name for name in row.rgb if name in NO_MODALITY)
    if unnamed and first_folder(folder, unnamed) is not None:
        return list_images(folder, unnamed)
    return list_images(folder, row.tir or LAYOUTS["folder"].tir)


def _kind(tir: tuple[Path, ...], row: Layout) -> SecondModality | Literal["none"]:
    if not tir:
        return "none"
    if tir[0].parent.name.lower() == "depth":
        return "depth"
    return row.kind


def _check_length(images: tuple[Path, ...], row: Layout, truth: GroundTruth) -> list[str]:
    """Check that each annotation has an image; return a notice if there are more images."""
    folder = images[0].parent
    usable = max(len(images) - truth.skipped, 0)
    needed = int(truth.frames[-1]) + 1
    if usable < needed:
        raise DataError(
            f"{folder} must hold an image for each of {len(truth.frames)} annotations, got {usable}"
        )
    left_out = usable - needed
    if left_out and row.annotated_every == 1:
        return [f"{left_out} images of {folder.name} beyond the last annotated one are left out"]
    return []


def _number(path: Path) -> int:
    """Return the number in the name of an image."""
    digits = "".join(character for character in path.stem if character.isdecimal())
    if not digits:
        raise DataError(f"{path} must have a number in its name")
    return int(digits)

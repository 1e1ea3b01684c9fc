"""Sequences of both modalities, as their datasets lay them out; see ``LAYOUTS`` for where each
keeps what."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from rgbt_fusion.data.annotations import Located, find_sequences, first_frames, read_truth
from rgbt_fusion.data.layouts import LAYOUTS, Layout, get_layout
from rgbt_fusion.files.text_tables import DataError, natural_key
from rgbt_fusion.frames.reading import image_size, is_image, read_depth, read_rgb, read_thermal
from rgbt_fusion.frames.types import FramePair, GroundTruth

__all__ = ["Dataset", "ImageSequence", "list_images", "open_dataset", "open_sequence", "read_sizes"]


@dataclass(frozen=True)
class ImageSequence:
    """A sequence whose images are read when they are asked for: ``sequence[k]``, or a loop over
    it."""

    name: str
    rgb: tuple[Path, ...]
    tir: tuple[Path, ...]
    kind: str
    """What the second modality is: ``"thermal"``, ``"depth"``, ``"event"`` or ``"none"``."""
    truth: GroundTruth | None
    notices: tuple[str, ...] = ()
    """What is odd about it without making it unusable."""

    def __len__(self) -> int:
        return len(self.rgb)

    def __getitem__(self, index: int) -> FramePair:
        """Read one frame; raise ``DataError`` where an image is damaged, ``IndexError`` beyond the
        end."""
        read = read_depth if self.kind == "depth" else read_thermal
        return FramePair(read_rgb(self.rgb[index]), read(self.tir[index]) if self.tir else None)

    def __iter__(self) -> Iterator[FramePair]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the first colour image."""
        return image_size(self.rgb[0])


class Dataset(NamedTuple):
    """The sequences of a dataset that can be used, and why the others cannot."""

    sequences: tuple[ImageSequence, ...]
    refused: dict[str, str]


def open_dataset(
    root: str | Path,
    layout: str,
    *,
    names: str | Path | Iterable[str] | None = None,
    on_refusal: Callable[[str, str], None] | None = None,
) -> Dataset:
    """Open all sequences of a dataset; a broken one is reported and the rest goes on.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: only these, in this order: names, or a file that lists them.
        on_refusal: called with name and reason of each sequence that cannot be used.

    Raises:
        DataError: ``root`` holds no sequence of the layout, or lacks one of ``names``.
        ValueError: ``layout`` is unknown.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion import open_dataset
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> (root / "car" / "visible").mkdir(parents=True)
        >>> open_dataset(root, "lasher").refused["car"].endswith("visible must hold images, but is empty")
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


def open_sequence(folder: str | Path, layout: str = "folder") -> ImageSequence:
    """Open one sequence.

    Images are sorted naturally and paired by position, whatever their names. Where there are
    annotations, images beyond the last annotated one are left out (in 147 sequences of RGBT210, for
    one) and named in ``notices``.

    Args:
        folder: the sequence's folder.
        layout: a key of ``LAYOUTS``; ``"folder"`` takes a folder with images of both modalities
            under any usual name, with or without boxes.

    Raises:
        DataError: images or boxes are missing, or there are fewer images than annotations.
        ValueError: ``layout`` is unknown.
    """
    row, base = get_layout(layout), Path(folder)
    if not base.is_dir():
        raise DataError(f"folder must be that of a sequence, got {folder}")
    place = find_sequences(base, layout).get(base.name, Located(base, None))
    starts = first_frames(base.parent) if row.annotated_every > 1 else {}
    return _open(base.name, place, row, starts)


def list_images(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the images of the first folder of these names, naturally sorted."""
    base = _folder(folder, names)
    if base is None:
        raise DataError(f"{folder} must hold a folder {' or '.join(names)}, but does not")
    images = sorted(
        (path for path in base.iterdir() if is_image(path)), key=lambda path: natural_key(path.name)
    )
    if not images:
        raise DataError(f"{base} must hold images, but is empty")
    return tuple(images)


def read_sizes(root: str | Path, layout: str, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return width and height of the images of the named sequences, of those that have images."""
    row = get_layout(layout)
    sizes: dict[str, tuple[int, int]] = {}
    for name, place in find_sequences(root, layout, names=names).items():
        base = _folder(place.folder, row.rgb) if place.folder else None
        image = next((path for path in base.iterdir() if is_image(path)), None) if base else None
        if image is not None:
            sizes[name] = image_size(image)
    return sizes


def _folder(base: Path, names: tuple[str, ...]) -> Path | None:
    return next((base / name for name in names if (base / name).is_dir()), None)


def _open(name: str, place: Located, row: Layout, starts: dict[str, int]) -> ImageSequence:
    folder = place.folder
    if folder is None:
        raise DataError(f"{place.truth} has no images beside it")
    rgb = list_images(folder, row.rgb)
    plain = row is LAYOUTS["folder"]
    tir = (
        list_images(folder, row.tir)
        if row.tir and not (plain and _folder(folder, row.tir) is None)
        else ()
    )
    kind = "depth" if tir and tir[0].parent.name == "depth" else row.kind if tir else "none"
    if place.truth is None and plain:
        if tir and len(tir) != len(rgb):
            raise DataError(
                f"{folder} must hold as many images of both modalities, got {len(rgb)} and {len(tir)}"
            )
        return ImageSequence(name, rgb, tir, kind, None)
    numbers = [_number(path) for path in rgb] if row.annotated_every > 1 else None
    truth = read_truth(place, row, first=starts.get(name), numbers=numbers)
    notices = _notices(name, row, starts, truth)
    rgb, tir = rgb[truth.skipped :], tir[truth.skipped :]
    needed = int(truth.frames[-1]) + 1
    for images, modality in ((rgb, row.rgb), (tir, row.tir)):
        if images and len(images) < needed:
            annotated = f"{len(truth.frames)} annotations"
            raise DataError(
                f"{folder / modality[0]} must hold an image for each of {annotated}, got {len(images)}"
            )
        if len(images) > needed and row.annotated_every == 1:
            notices.append(
                f"{len(images) - needed} images of {modality[0]} beyond the last annotated one are left out"
            )
    length = needed if row.annotated_every == 1 else min(len(rgb), len(tir) or len(rgb))
    return ImageSequence(name, rgb[:length], tir[:length], kind, truth, tuple(notices))


def _notices(name: str, row: Layout, starts: dict[str, int], truth: GroundTruth) -> list[str]:
    notices = []
    if row.annotated_every > 1 and not starts:
        notices.append(
            f"init_frame.npy is not there: the first image of {name} is taken for the first annotated one"
        )
    if truth.skipped:
        notices.append(f"{truth.skipped} images before the first annotated one are left out")
    return notices


def _number(path: Path) -> int:
    digits = "".join(character for character in path.stem if character.isdecimal())
    if not digits:
        raise DataError(f"{path} must have a number in its name")
    return int(digits)

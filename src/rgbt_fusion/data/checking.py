"""A check of a dataset on disk: counts, missing and unreadable images, sizes, boxes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.data.layouts import LAYOUTS, Layout, get_layout
from rgbt_fusion.data.sequences import ImageSequence, open_dataset
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.reading import image_size, is_image, read_rgb, read_thermal

__all__ = ["DatasetCheck", "Problem", "check_dataset", "guess_layout"]

# Where several layouts fit as many sequences, the first one here is taken: the one that reads most
# of what is there.
_GUESSED = ("gtot", "rgbt234", "lasher", "vtuav_st", "depthtrack", "visevent", "otb100", "got10k")
_LOOKED_AT = 50
_DEEPEST = 3


class Problem(NamedTuple):
    """One thing that is wrong, or odd."""

    sequence: str
    kind: str
    """``"sequence"`` (cannot be used), ``"image"``, ``"size"``, ``"box"`` or ``"notice"`` (odd, but
usable)."""
    message: str


@dataclass(frozen=True)
class DatasetCheck:
    """What a dataset on disk holds and what is wrong with it."""

    root: Path
    layout: str
    sequences: int
    """The sequences that can be used."""
    frames: int
    boxes: int
    absent: int
    """The annotations without a target."""
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether there is nothing wrong; notices do not count."""
        return all(problem.kind == "notice" for problem in self.problems)

    def summary(self) -> str:
        """Return the findings as text, one line a problem."""
        wrong = sum(problem.kind != "notice" for problem in self.problems)
        head = (
            f"{get_layout(self.layout).title}: {self.sequences} sequences, {self.frames} frames, {self.boxes} boxes, "
            f"{self.absent} without target, {wrong} problems"
        )
        return "\n".join(
            [head, *(f"{one.sequence}: {one.kind}: {one.message}" for one in self.problems)]
        )


def check_dataset(
    root: str | Path,
    layout: str,
    *,
    names: str | Path | Iterable[str] | None = None,
    images: str = "decode",
    threads: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> DatasetCheck:
    """Check a dataset: every sequence, image and box of it.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: only these, in this order: names, or a file that lists them.
        images: ``"decode"`` reads every image, ``"size"`` the headers alone (a hundred times
            faster), ``"none"`` no image.
        threads: how many read images at a time.
        progress: called before each sequence with its name, its number and the number of all.

    Raises:
        DataError: ``root`` holds no sequence of the layout, or lacks one of ``names``.
        ValueError: ``layout`` or ``images`` is unknown, or ``threads`` is below 1.
        ModuleNotFoundError: images are to be decoded and OpenCV is not installed.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion import check_dataset
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> (root / "car" / "visible").mkdir(parents=True)
        >>> check_dataset(root, "lasher").ok
        False
    """
    if images not in ("decode", "size", "none"):
        raise ValueError(f"images must be 'decode', 'size' or 'none', got {images!r}")
    check_positive_int(threads, name="threads")
    dataset = open_dataset(root, layout, names=names)
    problems = [Problem(name, "sequence", reason) for name, reason in dataset.refused.items()]
    frames = boxes = absent = 0
    for number, sequence in enumerate(dataset.sequences, 1):
        if progress is not None:
            progress(sequence.name, number, len(dataset.sequences))
        frames += len(sequence)
        problems += [Problem(sequence.name, "notice", notice) for notice in sequence.notices]
        size = (
            None
            if images == "none"
            else _check_images(sequence, images == "decode", threads, problems)
        )
        if sequence.truth is not None:
            boxes += len(sequence.truth.rgb)
            absent += int((~_has_size(sequence.truth.rgb)).sum())
            _check_boxes(sequence, size, problems)
    return DatasetCheck(
        Path(root), layout, len(dataset.sequences), frames, boxes, absent, tuple(problems)
    )


def guess_layout(root: str | Path) -> str:
    """Return the layout that most of a dataset's sequences are complete in.

    Where the paper is silent: fifty sequences are looked at. LasHeR and RGBT210 cannot be told from
    each other, nor VTUAV's two halves; they are read alike, and one of the pair is returned.

    Args:
        root: the dataset's folder, or a sequence's.

    Raises:
        DataError: ``root`` is no folder, or holds no sequence that is complete in any layout.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.data.checking import check_dataset
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("visible", "infrared"):
        ...     (root / "car" / name).mkdir(parents=True)
        >>> _ = (root / "car" / "init.txt").write_text("1,2,3,4")
        >>> guess_layout(root)
        'lasher'
    """
    if not Path(root).is_dir():
        raise DataError(f"root must be a folder with sequences, got {root}")
    found = Counter(
        name for names in islice(_layouts_below(Path(root), _DEEPEST), _LOOKED_AT) for name in names
    )
    if not found:
        raise DataError(
            f"{root} holds no complete sequence of any layout; name its layout: {', '.join(LAYOUTS)}"
        )
    # a plain folder is what any sequence is, too
    best = max(_GUESSED, key=lambda name: found[name])
    return best if found[best] else "folder"


def _layouts_below(folder: Path, depth: int) -> Iterator[list[str]]:
    """Yield, for each sequence, the layouts in which it is complete."""
    names = [name for name in (*_GUESSED, "folder") if _is_complete(folder, LAYOUTS[name])]
    if names:
        yield names
    elif depth:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _layouts_below(child, depth - 1)


def _is_complete(folder: Path, row: Layout) -> bool:
    numbered = (f"{Path(row.truth[0]).stem}.1.txt",) if row.several_targets else ()
    files = () if row is LAYOUTS["folder"] else ((*row.truth, *numbered), row.truth_tir)
    folders = (row.rgb,) if row is LAYOUTS["folder"] else (row.rgb, row.tir)
    return (
        all(any((folder / name).is_file() for name in names) for names in files if names)
        and all(any((folder / name).is_dir() for name in names) for names in folders if names)
        and (row.rgb != (".",) or any(is_image(path) for path in folder.iterdir()))
    )


def _check_images(
    sequence: ImageSequence, decode: bool, threads: int, problems: list[Problem]
) -> tuple[int, int] | None:
    """Check each image of both modalities; return the size of the colour images."""
    sizes = []
    for paths, read in ((sequence.rgb, read_rgb), (sequence.tir, read_thermal)):
        with ThreadPoolExecutor(threads) as pool:
            read_sizes = list(pool.map(partial(_size_or_fault, read if decode else None), paths))
        found: dict[tuple[int, int], list[Path]] = {}
        for path, size in zip(paths, read_sizes, strict=True):
            if isinstance(size, str):
                problems.append(Problem(sequence.name, "image", size))
            else:
                found.setdefault(size, []).append(path)
        usual = max(found, key=lambda size: len(found[size]), default=None)
        sizes.append(usual)
        for size, odd in found.items():
            if usual is not None and size != usual:
                message = f"{odd[0]} is {size[0]}x{size[1]}, most are {usual[0]}x{usual[1]} ({len(odd)} differ)"
                problems.append(Problem(sequence.name, "size", message))
    rgb, tir = sizes
    if rgb and tir and rgb != tir:
        message = (
            f"colour images are {rgb[0]}x{rgb[1]}, those of the second modality {tir[0]}x{tir[1]}"
        )
        problems.append(Problem(sequence.name, "notice", message))
    return rgb


def _size_or_fault(
    read: Callable[[Path], NDArray[Any]] | None, path: Path
) -> tuple[int, int] | str:
    """Return an image's width and height, or what is wrong with it."""
    try:
        if read is None:
            return image_size(path)
        height, width = read(path).shape[:2]
    except DataError as error:
        return str(error)
    return width, height


def _check_boxes(
    sequence: ImageSequence, size: tuple[int, int] | None, problems: list[Problem]
) -> None:
    truth = sequence.truth
    if truth is None:
        return
    tracks = (
        {"": truth.rgb}
        if truth.tir is truth.rgb
        else {" (colour)": truth.rgb, " (second modality)": truth.tir}
    )
    for which, track in tracks.items():
        sized = _has_size(track)
        if not sized[0]:
            problems.append(
                Problem(
                    sequence.name, "box", f"the first box{which} has no size: {track[0].tolist()}"
                )
            )
        if not sized.all():
            message = (
                f"{_frames(~sized, truth.frames)} without size{which}: the target counts as absent"
            )
            problems.append(Problem(sequence.name, "notice", message))
        if size is None:
            continue
        ends = track[:, :2] + track[:, 2:]
        outside = sized & ((ends <= 0).any(axis=1) | (track[:, :2] >= size).any(axis=1))
        if outside.any():
            message = (
                f"{_frames(outside, truth.frames)} outside the image of {size[0]}x{size[1]}{which}"
            )
            problems.append(Problem(sequence.name, "box", message))


def _has_size(track: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.all(track[:, 2:] > 0, axis=1) & np.all(np.isfinite(track), axis=1)


def _frames(chosen: NDArray[np.bool_], frames: NDArray[np.int64]) -> str:
    positions = frames[chosen]
    listed = ", ".join(str(int(position) + 1) for position in positions[:5])
    return f"{len(positions)} boxes (frames {listed}{', ...' if len(positions) > 5 else ''})"

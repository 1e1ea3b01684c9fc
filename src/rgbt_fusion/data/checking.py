"""A check of a dataset on disk: counts, missing and unreadable images, sizes, boxes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.data.annotations import is_view
from rgbt_fusion.data.folders import first_folder, is_left_over, unread_folders
from rgbt_fusion.data.layouts import LAYOUTS, Layout, get_layout, unnamed_images
from rgbt_fusion.data.sequences import ImageSequence, open_dataset
from rgbt_fusion.files.text_tables import DataError, read_numbers
from rgbt_fusion.frames.reading import image_size, is_image, read_rgb, read_thermal
from rgbt_fusion.frames.square import LARGEST_FIRST_SIDE
from rgbt_fusion.frames.types import Frame

__all__ = [
    "IMAGE_CHECKS",
    "DatasetCheck",
    "ImageCheck",
    "Problem",
    "check_dataset",
    "guess_layout",
]

ImageCheck: TypeAlias = Literal["decode", "size", "none"]
"""How images are checked: decode each one, read the headers only, or not at all."""

IMAGE_CHECKS: tuple[ImageCheck, ...] = get_args(ImageCheck)
"""How thoroughly images are looked at."""

Size: TypeAlias = tuple[int, int]
"""Width and height."""

# If several layouts fit as many sequences, the first one here is taken: it reads most of what is
# there.
GUESSED = (
    *("gtot", "mv_rgbt", "rgbt234", "lasher", "vtuav_st", "luart", "drgbt603", "drgbt1k"),
    *("rgbdt500", "vot_rgbt", "depthtrack", "visevent", "coesot", "felt", "otb100"),
    *("antiuav410", "trackingnet", "got10k"),
)

LOOKED_AT = 50
"""Number of sequences from which a layout is guessed."""

DEEPEST = 3
"""How deep sequences are looked for."""


class Problem(NamedTuple):
    """One thing that is wrong, or odd."""

    sequence: str
    kind: Literal["sequence", "image", "size", "box", "notice"]
    """``"sequence"``: cannot be used; ``"notice"``: odd, but usable."""
    message: str


@dataclass(frozen=True)
class DatasetCheck:
    """What a dataset on disk holds and what is wrong with it."""

    root: Path
    layout: str
    sequences: int
    """Number of sequences that can be used."""
    frames: int
    boxes: int
    absent: int
    """Number of annotations without a target."""
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; notices do not count."""
        return not self._wrong

    @property
    def _wrong(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.kind != "notice"]

    def summary(self) -> str:
        """Return the findings as text, one line per problem."""
        lines = [
            f"{get_layout(self.layout).title}: {self.sequences} sequences, {self.frames} frames, "
            f"{self.boxes} boxes, {self.absent} without target, {len(self._wrong)} problems"
        ]
        lines += [f"{one.sequence}: {one.kind}: {one.message}" for one in self.problems]
        return "\n".join(lines)


def check_dataset(
    root: str | Path,
    layout: str,
    *,
    names: str | Path | Iterable[str] | None = None,
    images: ImageCheck = "decode",
    threads: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> DatasetCheck:
    """Check every sequence, image and box of a dataset.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: take only these sequences, in this order: names, or a file that lists them.
        images: ``"decode"`` decodes every image, ``"size"`` reads the headers only (a hundred times
            faster), ``"none"`` reads no image.
        threads: number of images to read at the same time.
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
    if images not in IMAGE_CHECKS:
        raise ValueError(f"images must be 'decode', 'size' or 'none', got {images!r}")
    check_positive_int(threads, name="threads")
    dataset = open_dataset(root, layout, names=names)
    problems = [Problem(name, "sequence", reason) for name, reason in dataset.refused.items()]
    frames = 0
    boxes = 0
    absent = 0
    for number, sequence in enumerate(dataset.sequences, 1):
        if progress is not None:
            progress(sequence.name, number, len(dataset.sequences))
        frames += len(sequence)
        problems += [Problem(sequence.name, "notice", notice) for notice in sequence.notices]
        size = None
        if images != "none":
            size = _check_images(sequence, images == "decode", threads, problems)
        if sequence.truth is not None:
            boxes += len(sequence.truth.rgb)
            absent += int((~_has_size(sequence.truth.rgb)).sum())
            _check_boxes(sequence, size, problems)
    return DatasetCheck(
        Path(root), layout, len(dataset.sequences), frames, boxes, absent, tuple(problems)
    )


def guess_layout(root: str | Path) -> str:
    """Return the layout in which most of a dataset's sequences are complete.

    Choices: fifty sequences are looked at. LasHeR and RGBT210 look the same, and so do VTUAV's two
    halves. They are read in the same way, and one of the pair is returned.

    Args:
        root: the folder of a dataset or of one sequence.

    Raises:
        DataError: ``root`` is not a folder, or holds no sequence that is complete in any layout.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.data.checking import guess_layout
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("visible", "infrared"):
        ...     (root / "car" / name).mkdir(parents=True)
        >>> _ = (root / "car" / "init.txt").write_text("1,2,3,4")
        >>> guess_layout(root)
        'lasher'
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f"root must be a folder with sequences, got {root}")
    fitting: Counter[str] = Counter()
    for names in islice(_layouts_below(folder, DEEPEST), LOOKED_AT):
        fitting.update(names)
    unnamed = unread_folders(folder, ())
    if not fitting and unnamed:
        raise DataError(unnamed_images(folder, unnamed))
    if not fitting:
        raise DataError(
            f"{root} holds no complete sequence of any layout; name its layout: "
            f"{', '.join(LAYOUTS)}"
        )
    best = max(GUESSED, key=lambda name: fitting[name])
    # every sequence is a plain folder, too, so that one comes last
    return best if fitting[best] else "folder"


def _layouts_below(folder: Path, depth: int) -> Iterator[list[str]]:
    """Yield, for each sequence, the layouts in which it is complete."""
    names = [name for name in (*GUESSED, "folder") if _is_complete(folder, LAYOUTS[name])]
    if names:
        yield names
    elif depth:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not is_left_over(child):
                yield from _layouts_below(child, depth - 1)


def _is_complete(folder: Path, row: Layout) -> bool:
    """Return whether a folder holds one of each set of alternatives of a layout."""
    plain = LAYOUTS["folder"]
    row = row.of(folder.name)
    if row is plain:
        return first_folder(folder, (*row.rgb, *row.tir)) is not None
    if not row.tir and first_folder(folder, plain.tir) is not None:
        # a layout of colour alone would leave the second modality out
        return False
    truth = row.truth
    if row.several_targets:
        truth = (*truth, f"{Path(row.truth[0]).stem}.1.txt")
    images_beside_the_truth = "." in (*row.rgb, *row.tir)
    if images_beside_the_truth and not any(is_image(path) for path in folder.iterdir()):
        return False
    if row.views and not is_view(folder, row):
        return False
    beginnings = tuple(f"{attribute}_" for attribute in row.name_attributes)
    if beginnings and not folder.name.startswith(beginnings):
        return False
    if row.truth_folder:
        return (folder.parent.parent / row.truth_folder / f"{folder.name}.txt").is_file()
    if row is LAYOUTS["rgbdt500"] and first_folder(folder, ("depth",)) is None:
        return False
    if row.annotated_every > 1 and not _is_sparse(folder, row):
        return False
    return (
        _has_a_file(folder, truth)
        and (not row.truth_tir or _has_a_file(folder, row.truth_tir))
        and (not row.rgb or first_folder(folder, row.rgb) is not None)
        and (not row.tir or first_folder(folder, row.tir) is not None)
    )


def _is_sparse(folder: Path, row: Layout) -> bool:
    """Return whether there are about as few annotations as the layout says.

    Folders of one's own may have the names of such a layout, with a box in every frame.
    """
    base = first_folder(folder, row.rgb)
    path = next((folder / name for name in row.truth if (folder / name).is_file()), None)
    if base is None or path is None:
        return False
    images = sum(is_image(image) for image in base.iterdir())
    try:
        annotated = len(read_numbers(path))
    except DataError:
        return True
    return annotated * row.annotated_every <= images + 2 * row.annotated_every


def _has_a_file(folder: Path, names: Iterable[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _check_images(
    sequence: ImageSequence, decode: bool, threads: int, problems: list[Problem]
) -> Size | None:
    """Check each image of both modalities; return the size of those that boxes are drawn in."""
    rgb = _check_sizes(sequence.name, sequence.rgb, read_rgb if decode else None, threads, problems)
    tir = _check_sizes(
        sequence.name, sequence.tir, read_thermal if decode else None, threads, problems
    )
    if rgb and tir and rgb != tir:
        message = (
            f"colour images are {rgb[0]}x{rgb[1]}, those of the second modality {tir[0]}x{tir[1]}"
        )
        problems.append(Problem(sequence.name, "notice", message))
    return rgb or tir


def _check_sizes(
    name: str,
    paths: tuple[Path, ...],
    read: Callable[[Path], Frame] | None,
    threads: int,
    problems: list[Problem],
) -> Size | None:
    """Check that all images of one modality can be read and have one size; return that size."""
    with ThreadPoolExecutor(threads) as pool:
        sizes = list(pool.map(partial(_size_or_fault, read), paths))
    by_size: dict[Size, list[Path]] = {}
    for path, size in zip(paths, sizes, strict=True):
        if isinstance(size, str):
            problems.append(Problem(name, "image", size))
        else:
            by_size.setdefault(size, []).append(path)
    usual = max(by_size, key=lambda size: len(by_size[size]), default=None)
    if usual is None:
        return None
    for size, odd in by_size.items():
        if size != usual:
            message = (
                f"{odd[0]} is {size[0]}x{size[1]}, most are {usual[0]}x{usual[1]} "
                f"({len(odd)} differ)"
            )
            problems.append(Problem(name, "size", message))
    return usual


def _size_or_fault(read: Callable[[Path], Frame] | None, path: Path) -> Size | str:
    """Return an image's width and height, or what is wrong with it."""
    try:
        if read is None:
            return image_size(path)
        height, width = read(path).shape[:2]
    except DataError as error:
        return str(error)
    return width, height


def _check_boxes(sequence: ImageSequence, size: Size | None, problems: list[Problem]) -> None:
    """Check the boxes of both modalities, once if they are the same."""
    truth = sequence.truth
    if truth is None:
        return
    if truth.tir is truth.rgb:
        tracks = {"": truth.rgb}
    else:
        tracks = {" (colour)": truth.rgb, " (second modality)": truth.tir}
    for which, track in tracks.items():
        sized = _has_size(track)
        if not sized[0]:
            message = f"the first box{which} has no size: {track[0].tolist()}"
            place = truth.place_of_first_box(tir=track is truth.tir)
            if place is not None:
                message = f"{place}: {message}"
            problems.append(Problem(sequence.name, "box", message))
        if not sized.all():
            without = _listed(~sized, truth.frames)
            message = f"{without} without size{which}: the target counts as absent"
            problems.append(Problem(sequence.name, "notice", message))
        if size is None:
            continue
        starts = track[:, :2]
        ends = starts + track[:, 2:]
        beyond = (ends <= 0).any(axis=1) | (starts >= size).any(axis=1)
        outside = sized & beyond
        if outside.any():
            boxes = _listed(outside, truth.frames)
            message = f"{boxes} outside the image of {size[0]}x{size[1]}{which}"
            problems.append(Problem(sequence.name, "box", message))
        # training leaves them out, and no tracker is started on one
        is_long = track[:, 2:] > LARGEST_FIRST_SIDE * np.array(size)
        far_larger = sized & is_long.any(axis=1)
        if far_larger.any():
            boxes = _listed(far_larger, truth.frames)
            message = f"{boxes} far larger than the image of {size[0]}x{size[1]}{which}"
            problems.append(Problem(sequence.name, "box", message))


def _has_size(track: NDArray[np.float64]) -> NDArray[np.bool_]:
    positive = np.all(track[:, 2:] > 0, axis=1)
    finite = np.all(np.isfinite(track), axis=1)
    return positive & finite


def _listed(chosen: NDArray[np.bool_], frames: NDArray[np.int64]) -> str:
    """Return how many boxes are chosen and the numbers of their first five frames, from 1."""
    numbers = (frames[chosen] + 1).tolist()
    listed = ", ".join(map(str, numbers[:5]))
    if len(numbers) > 5:
        listed += ", ..."
    return f"{len(numbers)} boxes (frames {listed})"

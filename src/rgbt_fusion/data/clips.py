"""Training samples: which frames of which sequence, and both modalities cropped around a box.

Datasets on disk and the synthetic world look alike here: a source draws a :class:`Clip`, and the
clip's sequence crops its own frames.
"""

import logging
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.data.sequences import Dataset, ImageSequence, open_dataset
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.crop import CropPair, crop_pair
from rgbt_fusion.frames.square import search_square
from rgbt_fusion.synthetic.plan import CHALLENGES, Challenge
from rgbt_fusion.synthetic.world import SyntheticSequence

__all__ = [
    "Clip",
    "ClipSource",
    "CropSequence",
    "DatasetClips",
    "Modality",
    "SyntheticClips",
]

LOGGER = logging.getLogger(__name__)
"""Where notices go: without a handler of one's own, Python writes them to the error stream."""

SHOWN = 3
"""Number of examples that a notice shows."""

Modality: TypeAlias = Literal["both", "rgb", "tir"]
"""What a network is trained on."""


class CropSequence(Protocol):
    """A sequence that training samples are cut from."""

    def usable(self, modality: Modality | Literal["any"]) -> NDArray[np.int64]:
        """Return, in ascending order, the frames in which the target has a box and an image.

        ``modality`` says which images must be there: both, the one that is named, or any one.
        """
        ...

    def box(self, frame: int, modality: Modality) -> NDArray[np.float64]:
        """Return left, top, width and height in pixels, in the thermal image for ``"tir"``."""
        ...

    def crop(
        self, frame: int, box_xywh_px: NDArray[np.float64], factor: float, size: int
    ) -> CropPair:
        """Crop both modalities at one place; see :func:`~rgbt_fusion.frames.crop.crop_pair`."""
        ...


class Clip(NamedTuple):
    """A template's frame and the frames to search, in ascending order, of one sequence."""

    sequence: CropSequence
    template: int
    searches: tuple[int, ...]


class ClipSource(Protocol):
    """Where clips are drawn from."""

    def draw(
        self,
        generator: np.random.Generator,
        *,
        length: int,
        max_gap: int,
        modality: Modality = "both",
    ) -> Clip:
        """Draw a clip of ``length`` search frames, at most ``max_gap`` frames from its template."""
        ...


class SyntheticClips:
    """Draw clips from a number of synthetic sequences, rendered on demand.

    Args:
        sequences: number of sequences; their seeds are 0, 1, ...
        frames: length of each sequence.
        challenges: what happens in the sequences, each equally often.
        held_out: take places and objects that no sequence with ``held_out=False`` shows.

    Raises:
        ValueError: ``challenges`` is empty or has an unknown one, or ``sequences`` or ``frames`` is
            below 1.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.data.clips import SyntheticClips
        >>> clip = SyntheticClips(frames=50).draw(np.random.default_rng(0), length=1, max_gap=20)
        >>> abs(clip.template - clip.searches[0]) <= 20
        True
    """

    def __init__(
        self,
        *,
        sequences: int = 4000,
        frames: int = 120,
        challenges: Sequence[Challenge] = CHALLENGES,
        held_out: bool = False,
    ) -> None:
        self.sequences = check_positive_int(sequences, name="sequences")
        self.frames = check_positive_int(frames, name="frames")
        if not challenges:
            raise ValueError("challenges must name at least one challenge, got none")
        self.challenges = tuple(
            check_choice(challenge, CHALLENGES, name="challenges") for challenge in challenges
        )
        self.held_out = held_out

    def draw(
        self,
        generator: np.random.Generator,
        *,
        length: int,
        max_gap: int,
        modality: Modality = "both",
    ) -> Clip:
        """Draw a clip; see :class:`ClipSource`."""
        number = int(generator.integers(self.sequences))
        challenge = self.challenges[number % len(self.challenges)]
        sequence = _rendered(number, self.frames, challenge, self.held_out)
        return _draw_clip(sequence, generator, length, max_gap, modality)


class DatasetClips:
    """Draw clips from the sequences of a dataset on disk.

    Sequences that cannot be opened and boxes without size or outside of the image are left out;
    ``notices`` says so, and so does a line of the log each.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: a file that lists the sequences to take; None takes all.

    Raises:
        DataError: ``root`` holds no sequence of the layout with a box to train on.
        ValueError: ``layout`` is unknown.
    """

    def __init__(self, root: str | Path, layout: str, *, names: str | Path | None = None) -> None:
        dataset = open_dataset(root, layout, names=names)
        sequences = [_StoredSequence(sequence) for sequence in dataset.sequences]
        self.sequences = [sequence for sequence in sequences if len(sequence.usable("both"))]
        if not self.sequences:
            raise DataError(f"data must hold sequences of {layout} with boxes, got {root}")
        # one of a single modality is also drawn for both
        self._showing: dict[Modality, list[_StoredSequence]] = {
            "both": self.sequences,
            "rgb": [one for one in self.sequences if one.sequence.rgb],
            "tir": [one for one in self.sequences if one.sequence.tir],
        }
        self.notices = _notices(dataset, sequences)
        """What is left out of the training, and what is odd about the rest."""
        for notice in self.notices:
            LOGGER.warning("%s: %s", root, notice)

    def draw(
        self,
        generator: np.random.Generator,
        *,
        length: int,
        max_gap: int,
        modality: Modality = "both",
    ) -> Clip:
        """Draw a clip; see :class:`ClipSource`."""
        sequences = self._showing[modality]
        if not sequences:
            raise DataError(f"data must hold images of {modality} to train on them, but holds none")
        sequence = sequences[int(generator.integers(len(sequences)))]
        return _draw_clip(sequence, generator, length, max_gap, modality)


def _notices(dataset: Dataset, sequences: "list[_StoredSequence]") -> list[str]:
    """Say what is left out of a training, each kind in one line."""
    notices = []
    for reason in list(dataset.refused.values())[:SHOWN]:
        notices.append(f"not trained on: {reason}")
    if len(dataset.refused) > SHOWN:
        notices.append(f"{len(dataset.refused)} sequences in all are not trained on")
    left_out = {one.sequence.name: one.left_out for one in sequences if one.left_out}
    if left_out:
        some = ", ".join(list(left_out)[:SHOWN])
        notices.append(
            f"{sum(left_out.values())} boxes without size or outside of the image are not trained "
            f"on, in {len(left_out)} sequences ({some}{', ...' if len(left_out) > SHOWN else ''})"
        )
    odd = [(one.sequence.name, notice) for one in sequences for notice in one.sequence.notices]
    notices += [f"{name}: {notice}" for name, notice in odd[:SHOWN]]
    if len(odd) > SHOWN:
        notices.append(f"{len(odd)} notices in all: rgbt-fusion data check shows them")
    return notices


def _draw_clip(
    sequence: CropSequence,
    generator: np.random.Generator,
    length: int,
    max_gap: int,
    modality: Modality,
) -> Clip:
    """Draw a template and, near it, ``length`` search frames that follow one another."""
    templates = sequence.usable("both")
    template = int(templates[generator.integers(len(templates))])
    searchable = sequence.usable("any" if modality == "both" else modality)
    near = searchable[np.abs(searchable - template) <= max_gap]
    last_start = max(0, len(near) - length)
    start = int(generator.integers(last_start + 1))
    searches = near[start : start + length].tolist()
    # a sequence shorter than the clip repeats its last frame
    searches += searches[-1:] * (length - len(searches))
    return Clip(sequence, template, tuple(searches))


class _RenderedSequence:
    """A synthetic sequence of which only crops are rendered."""

    def __init__(self, sequence: SyntheticSequence) -> None:
        self.sequence = sequence

    def usable(self, modality: Modality | Literal["any"]) -> NDArray[np.int64]:
        has_rgb = ~self._is_missing["rgb"]
        has_tir = ~self._is_missing["tir"]
        if modality == "both":
            chosen = has_rgb & has_tir
        elif modality == "any":
            chosen = has_rgb | has_tir
        else:
            chosen = has_rgb if modality == "rgb" else has_tir
        return np.flatnonzero(chosen)

    def box(self, frame: int, modality: Modality) -> NDArray[np.float64]:
        truth = self.sequence.truth
        track = truth.tir if modality == "tir" else truth.rgb
        return track[frame]

    def crop(
        self, frame: int, box_xywh_px: NDArray[np.float64], factor: float, size: int
    ) -> CropPair:
        # the square of crop_pair, rendered at once at the size of the crop
        square = search_square(box_xywh_px, factor)
        rgb, tir = self.sequence.window(frame, square.left, square.top, square.side, size)
        images = crop_pair(rgb, tir, (0, 0, size, size), factor=1.0, size=size).images
        width, height = self.sequence.size
        return CropPair(images, square.centre, square.side, (height, width))

    @cached_property
    def _is_missing(self) -> dict[str, NDArray[np.bool_]]:
        plan = self.sequence.plan
        frames = range(len(self.sequence))
        return {
            modality: np.array([plan.is_missing(modality, frame) for frame in frames])
            for modality in ("rgb", "tir")
        }


@lru_cache(maxsize=4096)
def _rendered(number: int, frames: int, challenge: Challenge, held_out: bool) -> _RenderedSequence:
    """Return a sequence; it is kept, since its plan takes as long to draw as a crop to render."""
    return _RenderedSequence(
        SyntheticSequence(number, frames=frames, challenge=challenge, held_out=held_out)
    )


class _StoredSequence:
    """A sequence of a dataset."""

    def __init__(self, sequence: ImageSequence) -> None:
        self.sequence = sequence

    def usable(self, modality: Modality | Literal["any"]) -> NDArray[np.int64]:
        boxes = self._boxes_tir if modality == "tir" else self._boxes_rgb
        return np.array(sorted(boxes), dtype=np.int64)

    def box(self, frame: int, modality: Modality) -> NDArray[np.float64]:
        boxes = self._boxes_tir if modality == "tir" else self._boxes_rgb
        if frame in boxes:
            return boxes[frame]
        return self._boxes_rgb[frame]

    def crop(
        self, frame: int, box_xywh_px: NDArray[np.float64], factor: float, size: int
    ) -> CropPair:
        rgb, tir = self.sequence[frame]
        if rgb is not None and tir is not None and rgb.shape[:2] != tir.shape[:2]:
            raise DataError(
                f"{self.sequence.name}: both modalities must have one size to train on, "
                f"got {rgb.shape[1]}x{rgb.shape[0]} and {tir.shape[1]}x{tir.shape[0]} "
                f"at frame {frame + 1}"
            )
        # a tracker's range forgets within a few frames, so that each frame has its own
        return crop_pair(rgb, tir, box_xywh_px, factor=factor, size=size)

    @cached_property
    def _boxes_rgb(self) -> dict[int, NDArray[np.float64]]:
        truth = self.sequence.truth
        return {} if truth is None else self._usable_boxes(truth.frames, truth.rgb)

    @cached_property
    def _boxes_tir(self) -> dict[int, NDArray[np.float64]]:
        truth = self.sequence.truth
        return {} if truth is None else self._usable_boxes(truth.frames, truth.tir)

    @property
    def left_out(self) -> int:
        """Number of boxes that cannot be trained on."""
        truth = self.sequence.truth
        return 0 if truth is None else len(truth.rgb) - len(self._boxes_rgb)

    def _usable_boxes(
        self, frames: NDArray[np.int64], track: NDArray[np.float64]
    ) -> dict[int, NDArray[np.float64]]:
        """Return the boxes that are finite, have a size and lie in the image, by frame."""
        usable = np.isfinite(track).all(axis=1) & (track[:, 2:] > 0).all(axis=1)
        try:
            size = self.sequence.size
        except DataError:
            # a damaged first image is told when it is read
            size = None
        if size is not None:
            starts = track[:, :2]
            ends = starts + track[:, 2:]
            usable &= (starts < size).all(axis=1) & (ends > 0).all(axis=1)
        numbers = frames[usable].tolist()
        return dict(zip(numbers, track[usable], strict=True))

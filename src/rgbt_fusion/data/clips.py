"""Training samples: which frames of which sequence, and both modalities cropped around a box.

Datasets on disk and the synthetic world look alike here: a source draws a :class:`Clip`, and the
clip's sequence crops its own frames.
"""

import logging
from collections.abc import Collection, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int
from rgbt_fusion.data.sequences import Dataset, ImageSequence, open_dataset
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.crop import CropPair, crop_pair
from rgbt_fusion.frames.square import LARGEST_FIRST_SIDE, search_square
from rgbt_fusion.synthetic.plan import CHALLENGES, Challenge
from rgbt_fusion.synthetic.world import SyntheticSequence

__all__ = [
    "Absence",
    "Clip",
    "ClipSource",
    "CropSequence",
    "DatasetClips",
    "MixedClips",
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
    absent: "Absence | None" = None
    """Where to search instead, if the target is not to be seen."""


class Absence(NamedTuple):
    """Search frames that do not show the target of a clip."""

    sequence: CropSequence
    """What is searched: another sequence, or the clip's own where its target is marked absent."""
    places: tuple[int, ...]
    """For each search frame, the frame whose box says where to look."""


class ClipSource(Protocol):
    """Where clips are drawn from."""

    def draw(
        self,
        generator: np.random.Generator,
        *,
        length: int,
        max_gap: int,
        modality: Modality = "both",
        absent: bool = False,
    ) -> Clip:
        """Draw a clip of ``length`` search frames, at most ``max_gap`` frames from its template.

        With ``absent`` the search frames do not show the target. It is given only where
        ``data.absent`` is above 0: a source of your own may do without it.
        """
        ...


class SyntheticClips:
    """Draw clips from a number of synthetic sequences, rendered on demand.

    Args:
        sequences: number of sequences; their seeds are 0, 1, ...
        frames: length of each sequence.
        challenges: what happens in the sequences, each equally often.
        held_out: take places and objects that no sequence with ``held_out=False`` shows.
        wide: share of the sequences, the last ones, that are of the wide world: objects of any
            size, lookalikes that cross, imperfect cameras.

    Raises:
        ValueError: ``challenges`` is empty or has an unknown one, ``sequences`` or ``frames`` is
            below 1, or ``wide`` is not from 0 to 1.

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
        wide: float = 0.0,
    ) -> None:
        self.wide = check_finite_number(wide, name="wide", low=0.0, high=1.0)
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
        absent: bool = False,
    ) -> Clip:
        """Draw a clip; see :class:`ClipSource`."""
        number = int(generator.integers(self.sequences))
        clip = _draw_clip(self._sequence(number), generator, length, max_gap, modality)
        if not absent:
            return clip
        other = _another(number, self.sequences, generator)
        return _elsewhere(clip, self._sequence(other), generator, modality)

    def _sequence(self, number: int) -> "_RenderedSequence":
        challenge = self.challenges[number % len(self.challenges)]
        wide = number >= (1 - self.wide) * self.sequences
        return _rendered(number, self.frames, challenge, self.held_out, wide)


class DatasetClips:
    """Draw clips from the sequences of a dataset on disk.

    Sequences that cannot be opened are left out, and so are boxes without size, outside of the
    image or more than twice as large; ``notices`` says so, and so does a line of the log each.

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
        absent: bool = False,
    ) -> Clip:
        """Draw a clip; see :class:`ClipSource`."""
        sequences = self._showing[modality]
        if not sequences:
            raise DataError(f"data must hold images of {modality} to train on them, but holds none")
        number = int(generator.integers(len(sequences)))
        sequence = sequences[number]
        clip = _draw_clip(sequence, generator, length, max_gap, modality)
        if not absent:
            return clip
        marked = sequence.absent
        near = marked[np.abs(marked - clip.template) <= max_gap]
        # both kinds where there are both: a place without the target, and another target
        if len(near) and (len(sequences) == 1 or generator.random() < 0.5):
            return _without_target(clip, sequence, near, generator)
        other = _another(number, len(sequences), generator)
        return _elsewhere(clip, sequences[other], generator, modality)

    def hold_out(self, names: Collection[str]) -> None:
        """Draw no more clips from these sequences.

        Raises:
            DataError: no sequence would be left to train on.
        """
        left = [one for one in self.sequences if one.sequence.name not in names]
        if not left:
            raise DataError(
                f"data must hold sequences besides the {len(names)} of the validation, "
                f"but holds {len(self.sequences)}"
            )
        self.sequences = left
        for modality, sequences in self._showing.items():
            self._showing[modality] = [one for one in sequences if one.sequence.name not in names]


class MixedClips:
    """Draw clips from several sources, each as often as its weight says.

    Args:
        sources: where clips come from.
        weights: one number above 0 per source; only their ratios count.

    Raises:
        ValueError: ``sources`` is empty, or there is not one weight above 0 for each.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.data.clips import MixedClips, SyntheticClips
        >>> day = SyntheticClips(challenges=["none"])
        >>> night = SyntheticClips(challenges=["night"])
        >>> mixed = MixedClips([day, night], [3, 1])
        >>> generator = np.random.default_rng(0)
        >>> clips = [mixed.draw(generator, length=1, max_gap=20) for _ in range(100)]
        >>> sum(clip.sequence.sequence.challenge == "night" for clip in clips)
        27
    """

    def __init__(self, sources: Sequence[ClipSource], weights: Sequence[float]) -> None:
        if not sources or len(weights) != len(sources):
            raise ValueError(
                f"weights must be one per source, got {len(weights)} for {len(sources)} sources"
            )
        for weight in weights:
            if not check_finite_number(weight, name="weights", low=0.0):
                raise ValueError(f"weights must be above 0, got {list(weights)}")
        self.sources = tuple(sources)
        self.shares = np.asarray(weights, dtype=np.float64) / sum(weights)

    def draw(
        self,
        generator: np.random.Generator,
        *,
        length: int,
        max_gap: int,
        modality: Modality = "both",
        absent: bool = False,
    ) -> Clip:
        """Draw a clip; see :class:`ClipSource`."""
        source = self.sources[int(generator.choice(len(self.sources), p=self.shares))]
        # a source of one's own may not know of absent targets
        options = {"absent": True} if absent else {}
        return source.draw(generator, length=length, max_gap=max_gap, modality=modality, **options)


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
        if len(left_out) > SHOWN:
            some += ", ..."
        notices.append(
            f"{sum(left_out.values())} boxes without size, outside of the image or far larger are "
            f"not trained on, in {len(left_out)} sequences ({some})"
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


def _another(number: int, count: int, generator: np.random.Generator) -> int:
    """Draw one of ``count`` numbers that is not ``number``."""
    if count == 1:
        raise DataError(
            "data.absent must be 0 where one sequence is all there is and no frame is marked as "
            "without the target"
        )
    return (number + 1 + int(generator.integers(count - 1))) % count


def _elsewhere(
    clip: Clip, other: CropSequence, generator: np.random.Generator, modality: Modality
) -> Clip:
    """Return a clip that is searched in another sequence, around its target."""
    frames = other.usable("both" if modality == "both" else modality)
    last_start = max(0, len(frames) - len(clip.searches))
    start = int(generator.integers(last_start + 1))
    searches = frames[start : start + len(clip.searches)].tolist()
    searches += searches[-1:] * (len(clip.searches) - len(searches))
    places = tuple(searches)
    return clip._replace(searches=places, absent=Absence(other, places))


def _without_target(
    clip: Clip,
    sequence: "_StoredSequence",
    near: NDArray[np.int64],
    generator: np.random.Generator,
) -> Clip:
    """Return a clip that is searched where its target is marked absent, at its last box."""
    last_start = max(0, len(near) - len(clip.searches))
    start = int(generator.integers(last_start + 1))
    searches = near[start : start + len(clip.searches)].tolist()
    searches += searches[-1:] * (len(clip.searches) - len(searches))
    with_box = sequence.usable("both")
    places = []
    for frame in searches:
        before = with_box[with_box < frame]
        places.append(int(before[-1] if len(before) else with_box[0]))
    return clip._replace(searches=tuple(searches), absent=Absence(sequence, tuple(places)))


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
        pixels = size
        if self.sequence.wide:
            # a small object has few pixels, and its crop shows no more than they do
            pixels = min(size, square.side)
        rgb, tir = self.sequence.window(frame, square.left, square.top, square.side, pixels)
        images = crop_pair(rgb, tir, (0, 0, pixels, pixels), factor=1.0, size=size).images
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
def _rendered(
    number: int, frames: int, challenge: Challenge, held_out: bool, wide: bool
) -> _RenderedSequence:
    """Return a sequence; it is kept, since its plan takes as long to draw as a crop to render."""
    return _RenderedSequence(
        SyntheticSequence(number, frames=frames, challenge=challenge, held_out=held_out, wide=wide)
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
                f"at frame {frame + 1}; where they show the same view or its part, give align"
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

    @cached_property
    def absent(self) -> NDArray[np.int64]:
        """The frames that the dataset marks as without the target, in ascending order."""
        truth = self.sequence.truth
        if truth is None:
            return np.zeros(0, dtype=np.int64)
        is_known = np.isfinite(truth.rgb).all(axis=1)
        has_no_size = (truth.rgb[:, 2:] <= 0).all(axis=1)
        marked = is_known & has_no_size
        if truth.present is not None:
            marked |= ~truth.present
        return truth.frames[marked]

    @property
    def left_out(self) -> int:
        """Number of boxes that cannot be trained on."""
        truth = self.sequence.truth
        return 0 if truth is None else len(truth.rgb) - len(self._boxes_rgb)

    def _usable_boxes(
        self, frames: NDArray[np.int64], track: NDArray[np.float64]
    ) -> dict[int, NDArray[np.float64]]:
        """Return the boxes that are finite, have a size and fit the image, by frame."""
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
            # no tracker is started on a larger one either
            largest = LARGEST_FIRST_SIDE * np.array(size)
            usable &= (track[:, 2:] <= largest).all(axis=1)
        numbers = frames[usable].tolist()
        return dict(zip(numbers, track[usable], strict=True))

"""Training samples: which frames of which sequence, and both modalities cropped around a box.

Datasets on disk and the synthetic world are read alike: a source draws a :class:`Clip`, whose
sequence crops itself.
"""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.data.sequences import ImageSequence, open_dataset
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.crop import CropPair, crop_pair
from rgbt_fusion.frames.square import search_square
from rgbt_fusion.frames.thermal import thermal_range
from rgbt_fusion.frames.types import GroundTruth
from rgbt_fusion.synthetic.world import CHALLENGES, SyntheticSequence

__all__ = ["Clip", "ClipSource", "CropSequence", "DatasetClips", "SyntheticClips"]

Box = NDArray[np.float64]


class CropSequence(Protocol):
    """A sequence that training samples are cut from."""

    def usable(self, modality: str) -> NDArray[np.int64]:
        """Return the frames in which the target has a box and ``modality`` (``"both"``, ``"rgb"``
        or ``"tir"``) an image, in ascending order."""
        ...

    def box(self, frame: int, modality: str) -> Box:
        """Return left, top, width and height in pixels, in the thermal image for ``"tir"``."""
        ...

    def crop(self, frame: int, box_xywh_px: Box, factor: float, size: int) -> CropPair:
        """Crop both modalities at one place; see :func:`~rgbt_fusion.frames.crop.crop_pair`."""
        ...


class Clip(NamedTuple):
    """A template's frame and the frames to search, in ascending order, of one sequence."""

    sequence: CropSequence
    template: int
    searches: tuple[int, ...]


class ClipSource(Protocol):
    """What clips are drawn from."""

    def draw(
        self, generator: np.random.Generator, *, length: int, max_gap: int, modality: str = "both"
    ) -> Clip:
        """Draw a clip of ``length`` search frames, at most ``max_gap`` frames from its template."""
        ...


class SyntheticClips:
    """Draw clips from a number of synthetic sequences, made on the fly.

    Args:
        sequences: how many there are, with seeds 0, 1, ...
        frames: their length.
        challenges: what happens in them, each as often.
        held_out: take places and objects that no sequence with ``held_out=False`` shows.

    Raises:
        ValueError: an unknown challenge, or none; a number below 1.

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
        challenges: tuple[str, ...] = CHALLENGES,
        held_out: bool = False,
    ) -> None:
        self.sequences = check_positive_int(sequences, name="sequences")
        self.frames = check_positive_int(frames, name="frames")
        if not challenges:
            raise ValueError("challenges must name at least one challenge, got none")
        for challenge in challenges:
            check_choice(challenge, CHALLENGES, name="challenges")
        self.challenges = tuple(challenges)
        self.held_out = held_out

    def draw(
        self, generator: np.random.Generator, *, length: int, max_gap: int, modality: str = "both"
    ) -> Clip:
        """Draw a clip; see :class:`ClipSource`."""
        number = int(generator.integers(self.sequences))
        sequence = _rendered(
            number, self.frames, self.challenges[number % len(self.challenges)], self.held_out
        )
        return _clip(sequence, generator, length, max_gap, modality)


class DatasetClips:
    """Draw clips from the sequences of a dataset on disk.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.
        names: only these sequences: a file that lists them.

    Raises:
        DataError: the folder holds no sequence of the layout with a box to train on.
        ValueError: ``layout`` is unknown.
    """

    def __init__(self, root: str | Path, layout: str, *, names: str | Path | None = None) -> None:
        found = open_dataset(root, layout, names=names).sequences
        self.sequences = [one for one in map(_StoredSequence, found) if len(one.usable("both"))]
        if not self.sequences:
            raise DataError(f"data must hold sequences of {layout} with boxes, got {root}")

    def draw(
        self, generator: np.random.Generator, *, length: int, max_gap: int, modality: str = "both"
    ) -> Clip:
        """Draw a clip; see :class:`ClipSource`."""
        sequence = self.sequences[int(generator.integers(len(self.sequences)))]
        return _clip(sequence, generator, length, max_gap, modality)


def _clip(
    sequence: CropSequence, generator: np.random.Generator, length: int, max_gap: int, modality: str
) -> Clip:
    frames = sequence.usable("both")
    template = int(frames[generator.integers(len(frames))])
    frames = sequence.usable("any" if modality == "both" else modality)
    near = frames[np.abs(frames - template) <= max_gap]
    start = int(generator.integers(max(1, len(near) - length + 1)))
    chosen = near[start : start + length]
    # a sequence shorter than the clip repeats its last frame
    chosen = np.concatenate((chosen, np.repeat(chosen[-1:], length - len(chosen))))
    return Clip(sequence, template, tuple(int(frame) for frame in chosen))


class _RenderedSequence:
    """A synthetic sequence, of which only the crops are ever rendered."""

    def __init__(self, sequence: SyntheticSequence) -> None:
        self.sequence = sequence

    @cached_property
    def _missing(self) -> dict[str, NDArray[np.bool_]]:
        plan, frames = self.sequence.plan, range(len(self.sequence))
        return {
            which: np.array([plan.is_missing(which, frame) for frame in frames])
            for which in ("rgb", "tir")
        }

    def usable(self, modality: str) -> NDArray[np.int64]:
        rgb, tir = self._missing["rgb"], self._missing["tir"]
        missing = {"both": rgb | tir, "rgb": rgb, "tir": tir, "any": rgb & tir}[modality]
        return np.flatnonzero(~missing)

    @cached_property
    def _truth(self) -> GroundTruth:
        return self.sequence.truth

    def box(self, frame: int, modality: str) -> Box:
        return (self._truth.tir if modality == "tir" else self._truth.rgb)[frame]

    def crop(self, frame: int, box_xywh_px: Box, factor: float, size: int) -> CropPair:
        # the square of crop_pair, rendered at once at the size of the crop
        square = search_square(box_xywh_px, factor)
        rgb, tir = self.sequence.window(frame, square.left, square.top, square.side, size)
        images = crop_pair(rgb, tir, (0, 0, size, size), factor=1.0, size=size).images
        width, height = self.sequence.size
        return CropPair(images, square.centre, square.side, (height, width))


@lru_cache(maxsize=4096)
def _rendered(number: int, frames: int, challenge: str, held_out: bool) -> _RenderedSequence:
    """Return a sequence; drawing what happens in it costs as much as rendering a crop, so it is
    kept."""
    return _RenderedSequence(
        SyntheticSequence(number, frames=frames, challenge=challenge, held_out=held_out)
    )


class _StoredSequence:
    """A sequence of a dataset."""

    def __init__(self, sequence: ImageSequence) -> None:
        self.sequence = sequence

    @cached_property
    def _boxes(self) -> dict[str, dict[int, Box]]:
        truth = self.sequence.truth
        if truth is None:
            return {"rgb": {}, "tir": {}}
        frames = [int(frame) for frame in truth.frames]
        tracks = {"rgb": truth.rgb, "tir": truth.tir}
        return {
            which: {frame: box for frame, box in zip(frames, track, strict=True) if _has_size(box)}
            for which, track in tracks.items()
        }

    def usable(self, modality: str) -> NDArray[np.int64]:
        return np.array(sorted(self._boxes["tir" if modality == "tir" else "rgb"]), dtype=np.int64)

    def box(self, frame: int, modality: str) -> Box:
        boxes = self._boxes["tir" if modality == "tir" else "rgb"]
        return boxes[frame] if frame in boxes else self._boxes["rgb"][frame]

    @cached_property
    def _limits(self) -> tuple[float, float] | None:
        """The range of a 16-bit thermal sequence, which its first frame decides."""
        first = self.sequence[0].tir
        return thermal_range(first) if first is not None and first.dtype == np.uint16 else None

    def crop(self, frame: int, box_xywh_px: Box, factor: float, size: int) -> CropPair:
        rgb, tir = self.sequence[frame]
        if rgb is not None and tir is not None and rgb.shape[:2] != tir.shape[:2]:
            raise DataError(
                f"{self.sequence.name}: both modalities must have one size to train on, got {rgb.shape[1]}x"
                f"{rgb.shape[0]} and {tir.shape[1]}x{tir.shape[0]} at frame {frame + 1}"
            )
        limits = self._limits if tir is not None and tir.dtype == np.uint16 else None
        return crop_pair(rgb, tir, box_xywh_px, factor=factor, size=size, tir_range=limits)


def _has_size(box: Box) -> bool:
    return bool(np.isfinite(box).all() and box[2] > 0 and box[3] > 0)

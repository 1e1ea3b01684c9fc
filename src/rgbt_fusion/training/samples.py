"""Samples and batches, each decided by the seed, the step and the place in the batch alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from rgbt_fusion.alignment.aligned_frames import (
    AlignmentChoice,
    AlignmentLike,
    choose_alignment,
)
from rgbt_fusion.data.clips import (
    Clip,
    ClipSource,
    CropSequence,
    DatasetClips,
    MixedClips,
    Modality,
    SyntheticClips,
)
from rgbt_fusion.evaluation.metrics import overlap
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.crop import CropPair
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import TrackerModel
from rgbt_fusion.training.augmentation import (
    FAILURES,
    Failure,
    Misalignment,
    draw_appearance,
    draw_misalignment,
    fail,
    flip_pair,
    is_blind,
    jitter_box,
    rotate_offset,
    rotate_pair,
    vary_pair,
)
from rgbt_fusion.training.config import TrainConfig
from rgbt_fusion.training.worker_processes import (
    in_shared_memory,
    leave_signals_to_the_training,
    watched,
)

__all__ = [
    "ATTEMPTS",
    "Batch",
    "DataPart",
    "Paths",
    "Sample",
    "Sampler",
    "batches",
    "data_parts",
    "open_clips",
    "with_layouts",
]

Paths: TypeAlias = str | Path | Sequence[str | Path]
"""One path, or one for each dataset."""

LONGEST_DELAY = 60
"""Largest number of frames by which a late camera is behind."""

STILL_THERE = 0.5
"""From this IoU of the target's boxes, in a late frame and in the present one, the late camera may
still show the target: it is unknown whether it does. Below, it does not."""

ATTEMPTS = 10
"""How many samples are tried for one place of the batch, before what cannot be read is an error."""


class Sample(NamedTuple):
    """A template and the search crops that follow it."""

    template: ImagePair
    """``(1, 3, H, W)`` each."""
    searches: tuple[ImagePair, ...]
    """``(1, 3, H, W)`` each, one pair per search frame."""
    boxes_cxcywh_unit: tuple[Tensor, ...]
    """The target's box ``(1, 4)`` in each search crop, NaN where it is absent."""
    seen: tuple[Tensor, ...]
    """Whether RGB and TIR show the target, ``(1, 2)`` for each search crop: 1 or 0, NaN where it
    is not known."""
    offsets: tuple[Tensor, ...]
    """From the target in the colour crop to the target in the thermal crop, ``(1, 2)`` for each
    search crop, x and y as fractions of the crop; NaN where a single modality is shown."""


class Batch(NamedTuple):
    """Samples side by side."""

    template: ImagePair
    """``(B, 3, H, W)`` each."""
    searches: tuple[ImagePair, ...]
    """``(B, 3, H, W)`` each, one pair per search frame."""
    boxes_cxcywh_unit: tuple[Tensor, ...]
    """The targets' boxes ``(B, 4)`` in the search crops, one tensor per search frame; a row is NaN
    where the target is absent."""
    damaged: tuple[str, ...] = ()
    """Why samples could not be read; others took their place."""
    seen: tuple[Tensor, ...] = ()
    """Whether RGB and TIR show the target, ``(B, 2)`` for each search frame: 1 or 0, NaN where it
    is not known. Nothing is known in a batch without it."""
    offsets: tuple[Tensor, ...] = ()
    """From the target in the colour crop to the target in the thermal crop, ``(B, 2)`` for each
    search frame, x and y as fractions of the crop; NaN where it is not known. Nothing is known in a
    batch without it."""

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """Return the batch on a device and in a dtype."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype, non_blocking=True)

        def move_pair(pair: ImagePair) -> ImagePair:
            return ImagePair(move(pair.rgb), move(pair.tir))

        return Batch(
            move_pair(self.template),
            tuple(move_pair(search) for search in self.searches),
            tuple(move(boxes) for boxes in self.boxes_cxcywh_unit),
            self.damaged,
            tuple(move(seen) for seen in self.seen),
            tuple(move(offset) for offset in self.offsets),
        )


def open_clips(
    config: TrainConfig,
    data: Paths | None = None,
    *,
    names: Paths | None = None,
    align: AlignmentLike | None = None,
) -> ClipSource:
    """Open the sequences that a config's samples are drawn from.

    Args:
        config: its ``data`` says what to open.
        data: the folder of a dataset, or ``"synthetic"``, whatever the config's layout is; one for
            each dataset of the config. None stands for ``"synthetic"`` where that is the layout.
        names: a file that lists the sequences of the dataset to use, ``"all"`` for all of them; one
            for each dataset. None uses all.
        align: how the thermal frames of each sequence are laid on its colour frames; see
            :func:`~rgbt_fusion.alignment.aligned_frames.choose_alignment`.

    Raises:
        ValueError: ``data`` does not fit the config's layouts, ``names`` or ``align`` is given for
            synthetic data, or ``align`` needs the frames in order.
        DataError: see :class:`~rgbt_fusion.data.clips.DatasetClips`.
    """
    parts = data_parts(config, data)
    lists = [None] * len(parts) if names is None else _as_list(names)
    if len(lists) != len(parts):
        raise ValueError(
            f"names must be one file for each of {len(parts)} datasets, got {len(lists)}"
        )
    choice = None if align is None else choose_alignment(align)
    sources = []
    for part, listed in zip(parts, lists, strict=True):
        chosen = listed
        if str(listed) == "all":
            chosen = None
        sources.append(_open_one(config, part, chosen, choice))
    if len(sources) == 1:
        return sources[0]
    return MixedClips(sources, [part.weight for part in parts])


class DataPart(NamedTuple):
    """One dataset of a training."""

    layout: str
    """A key of ``LAYOUTS``, or ``"synthetic"``."""
    root: str | Path
    """Its folder, or ``"synthetic"``."""
    weight: float
    """How often a sample is drawn from it."""


def data_parts(config: TrainConfig, data: Paths | None) -> list[DataPart]:
    """Return the datasets of a config with their folders.

    Raises:
        ValueError: there is not one folder for each, or a folder comes with the layout
            ``"synthetic"``.
    """
    layouts = [config.data.layout, *(more.layout for more in config.data.more)]
    weights = [config.data.weight, *(more.weight for more in config.data.more)]
    if data is None:
        wanting = [layout for layout in layouts if layout != "synthetic"]
        if wanting:
            raise ValueError(
                f"data must be the folder of a dataset of layout {wanting[0]!r}, as data.layout "
                "says, or 'synthetic', got none"
            )
        data = layouts
    roots = _as_list(data)
    if len(roots) != len(layouts):
        raise ValueError(
            f"data must be one folder for each of {len(layouts)} datasets, data.layout and those "
            f"of data.more, got {len(roots)}"
        )
    parts = []
    for layout, root, weight in zip(layouts, roots, weights, strict=True):
        if str(root) == "synthetic":
            layout = "synthetic"
        elif layout == "synthetic":
            raise ValueError(
                f"data must be 'synthetic', as data.layout says, got {str(root)!r}; "
                "set data.layout for a dataset"
            )
        parts.append(DataPart(layout, root, weight))
    return parts


def with_layouts(config: TrainConfig, data: Paths | None) -> TrainConfig:
    """Return a config whose layouts are those of the folders, ``"synthetic"`` where they say so.

    Raises:
        ValueError: see :func:`data_parts`.
    """
    first, *others = data_parts(config, data)
    more = tuple(
        replace(one, layout=part.layout) for one, part in zip(config.data.more, others, strict=True)
    )
    return replace(config, data=replace(config.data, layout=first.layout, more=more))


def _as_list(paths: Paths) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)


def _open_one(
    config: TrainConfig,
    part: DataPart,
    names: str | Path | None,
    align: AlignmentChoice | None,
) -> ClipSource:
    """Open one dataset."""
    if part.layout != "synthetic":
        clips = DatasetClips(part.root, part.layout, names=names)
        if align is not None:
            if align.name == "follow":
                raise ValueError(
                    "align must be 'auto', 'fit' or an alignment, got 'follow', which needs the "
                    "frames in order"
                )
            for stored in clips.sequences:
                # behaves like the sequence, and is estimated when a frame is first needed
                stored.sequence = align.of(stored.sequence)  # pyright: ignore[reportAttributeAccessIssue]
        return clips
    if align is not None:
        raise ValueError(f"align must be absent with synthetic data, got {align.name}")
    if names is not None:
        raise ValueError(f"names must be absent with synthetic data, got {str(names)!r}")
    return SyntheticClips(
        sequences=config.data.sequences,
        frames=config.data.frames,
        challenges=config.data.challenges,
        wide=config.data.wide,
    )


@dataclass(frozen=True)
class Sampler:
    """Cut samples for one kind of model."""

    config: TrainConfig
    """How samples are drawn and varied."""
    clips: ClipSource
    """What they are drawn from."""
    template_size: int
    """Side of the template crop in pixels."""
    search_size: int
    """Side of the search crop in pixels."""
    search_factor: float
    """Side of the search crop over the square root of the target's area."""

    @classmethod
    def of(cls, config: TrainConfig, clips: ClipSource, model: TrackerModel) -> "Sampler":
        """Return a sampler that cuts crops as ``model`` takes them."""
        return cls(config, clips, model.template_size, model.search_size, model.search_factor)

    def sample(self, step: int, index: int, attempt: int = 0) -> Sample:
        """Return sample ``index`` of a step; further attempts draw others in its place.

        Raises:
            DataError, OSError: an image cannot be read.
        """
        # the first attempt is drawn as in 0.1.0, which knew of no others
        numbers = (step, index, attempt) if attempt else (step, index)
        generator = np.random.default_rng((self.config.seed, *numbers))
        modality = self.config.modality
        if modality == "either":
            modality = _either(generator)
        options: dict[str, bool] = {}
        if self.config.data.absent:
            options["absent"] = bool(generator.random() < self.config.data.absent)
        clip = self.clips.draw(
            generator,
            length=self.config.clip_length,
            max_gap=self.config.data.max_gap,
            modality=modality,
            **options,
        )
        variation = self._draw_variation(modality, generator)
        template = self._template(clip, modality, variation, generator)
        searches: list[ImagePair] = []
        boxes: list[Tensor] = []
        seen: list[Tensor] = []
        offsets: list[Tensor] = []
        for number in range(len(clip.searches)):
            found = self._search(clip, number, modality, variation, generator)
            searches.append(found.images)
            boxes.append(found.box_cxcywh_unit)
            seen.append(found.seen)
            offsets.append(found.offset)
        return Sample(template, tuple(searches), tuple(boxes), tuple(seen), tuple(offsets))

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Return samples ``start`` to ``stop`` of a step, without the latter."""
        damaged: list[str] = []
        samples = [self._readable_sample(step, index, damaged) for index in range(start, stop)]
        template = _stack([sample.template for sample in samples])
        searches: list[ImagePair] = []
        boxes: list[Tensor] = []
        seen: list[Tensor] = []
        offsets: list[Tensor] = []
        for frame in range(self.config.clip_length):
            searches.append(_stack([sample.searches[frame] for sample in samples]))
            boxes.append(torch.cat([sample.boxes_cxcywh_unit[frame] for sample in samples]))
            seen.append(torch.cat([sample.seen[frame] for sample in samples]))
            offsets.append(torch.cat([sample.offsets[frame] for sample in samples]))
        return Batch(
            template,
            tuple(searches),
            tuple(boxes),
            tuple(damaged),
            tuple(seen),
            tuple(offsets),
        )

    def _readable_sample(self, step: int, index: int, damaged: list[str]) -> Sample:
        """Return a sample, or another one in its place; note in ``damaged`` why."""
        attempts = ATTEMPTS if self.config.data.most_damaged else 1
        for attempt in range(attempts):
            try:
                return self.sample(step, index, attempt)
            except (DataError, OSError) as error:
                if attempt + 1 == attempts:
                    raise
                damaged.append(str(error))
        raise AssertionError  # the last attempt returns or raises

    def _draw_variation(self, modality: Modality, generator: np.random.Generator) -> "_Variation":
        """Draw what all crops of a sample have in common."""
        chances = self.config.augmentation
        grey = generator.random() < chances.grey
        mirrored = generator.random() < chances.flip
        blank = None
        if generator.random() < chances.missing:
            blank = _either(generator)
        if modality != "both":
            # a single camera cannot differ from another one, and must show the target
            return _Variation(grey, mirrored, blank, None, None)
        misalignment = draw_misalignment(chances, generator)
        failure = None
        if blank is None and chances.failing and generator.random() < chances.failing:
            failure = _Failure(_either(generator), _FAILURES[generator.integers(len(_FAILURES))])
        return _Variation(grey, mirrored, blank, misalignment, failure)

    def _cut(self, view: "_View", variation: "_Variation", *, factor: float, size: int) -> "_Cut":
        """Cut a crop; each camera has its own view where they are misaligned."""
        crop = view.sequence.crop(view.frame, view.around_xywh_px, factor, size)
        seen_by_both = crop.images.rgb.any() and crop.images.tir.any()
        if variation.misalignment is None or not seen_by_both:
            return _Cut(crop.images, crop, crop)
        height = float(view.target_xywh_px[3])
        around_tir = variation.misalignment.view(view.around_xywh_px, height)
        crop_tir = view.sequence.crop(view.frame, around_tir, factor, size)
        return _Cut(ImagePair(crop.images.rgb, crop_tir.images.tir), crop, crop_tir)

    def _cut_search(self, view: "_View", variation: "_Variation") -> "_Cut":
        """Cut a crop as large as a search crop."""
        return self._cut(view, variation, factor=self.search_factor, size=self.search_size)

    def _template(
        self,
        clip: Clip,
        modality: Modality,
        variation: "_Variation",
        generator: np.random.Generator,
    ) -> ImagePair:
        """Cut the template crop."""
        box = clip.sequence.box(clip.template, modality)
        view = _View(clip.sequence, clip.template, box, box)
        factor = self.config.template_factor
        crop = self._cut(view, variation, factor=factor, size=self.template_size)
        appearance = draw_appearance(self.config.augmentation, generator)
        images = vary_pair(crop.images, appearance, grey=variation.grey)
        if variation.mirrored:
            images, _ = flip_pair(images)
        return self._shown(images, modality)

    def _search(
        self,
        clip: Clip,
        number: int,
        modality: Modality,
        variation: "_Variation",
        generator: np.random.Generator,
    ) -> "_Search":
        """Cut the search crop of a search frame."""
        settings = self.config.augmentation
        sequence = clip.sequence if clip.absent is None else clip.absent.sequence
        frame = clip.searches[number]
        place = frame if clip.absent is None else clip.absent.places[number]
        target = sequence.box(place, modality)
        around = jitter_box(target, settings, generator, factor=self.search_factor)
        view = _View(sequence, frame, around, target)
        crop = self._cut_search(view, variation)
        box = crop.rgb.to_crop(torch.from_numpy(target)).float()[None]
        offset = torch.full((1, 2), torch.nan)
        if modality == "both":
            target_tir = torch.from_numpy(sequence.box(place, "tir"))
            offset = crop.tir.to_crop(target_tir).float()[None, :2] - box[:, :2]
        if clip.absent is not None:
            box = torch.full_like(box, torch.nan)
        appearance = draw_appearance(settings, generator)
        images = vary_pair(crop.images, appearance, grey=variation.grey)
        images, seen = self._failed(images, clip, view, variation, generator)
        if clip.absent is not None:
            seen = torch.full_like(seen, torch.nan)
        if settings.rotation:
            degrees = float(generator.uniform(-settings.rotation, settings.rotation))
            images, box = rotate_pair(images, box, degrees)
            offset = rotate_offset(offset, degrees)
        if variation.mirrored:
            images, box = flip_pair(images, box)
            offset = offset * torch.tensor((-1.0, 1.0))
        shown = self._shown(images, modality, variation.blank)
        # a blank image shows nothing, whatever the reason
        is_blank = torch.tensor([[not bool(image.any()) for image in shown]])
        return _Search(shown, box, seen.masked_fill(is_blank, 0.0), offset)

    def _failed(
        self,
        images: ImagePair,
        clip: Clip,
        view: "_View",
        variation: "_Variation",
        generator: np.random.Generator,
    ) -> tuple[ImagePair, Tensor]:
        """Return what the cameras show of a search crop, and whether each shows the target.

        One modality fails, or both are swapped, where the variation says so.
        """
        rgb, tir = images
        failure = variation.failure
        if failure is None or not (rgb.any() and tir.any()):
            # the camera that is left must not fail as well
            return images, torch.ones(1, 2)
        if failure.kind == "swapped":
            # both show the target, each where the other one is expected
            return ImagePair(tir, rgb), torch.full((1, 2), torch.nan)
        sees = 0.0
        if failure.kind == "late":
            earlier = self._earlier(clip, view.frame, generator)
            before = clip.sequence.box(earlier, "both")
            view_then = view._replace(sequence=clip.sequence, frame=earlier)
            late = self._cut_search(view_then, variation)
            shown = _image_of(late.images, failure.modality)
            (iou,) = overlap(before[None], view.target_xywh_px[None], inclusive=False)
            if iou >= STILL_THERE:
                sees = torch.nan
        elif failure.kind == "foreign":
            other = self._other(clip, generator)
            frame = other.searches[0]
            target = other.sequence.box(frame, "both")
            foreign = self._cut_search(_View(other.sequence, frame, target, target), variation)
            shown = _image_of(foreign.images, failure.modality)
            if other.sequence is clip.sequence:
                # there is one sequence only, and its target may be in the picture
                sees = torch.nan
        else:
            shown = fail(_image_of(images, failure.modality), failure.kind, generator)
            if failure.kind == "saturated" and not is_blind(shown):
                sees = torch.nan
        if failure.modality == "rgb":
            return ImagePair(shown, tir), torch.tensor([[sees, 1.0]])
        return ImagePair(rgb, shown), torch.tensor([[1.0, sees]])

    def _earlier(self, clip: Clip, frame: int, generator: np.random.Generator) -> int:
        """Draw the frame that a late camera shows; the template's if there is no earlier one."""
        if clip.absent is not None:
            return clip.template
        frames = clip.sequence.usable("both")
        before = frames[(frames < frame) & (frames >= frame - LONGEST_DELAY)]
        if not len(before):
            return clip.template
        return int(before[generator.integers(len(before))])

    def _other(self, clip: Clip, generator: np.random.Generator) -> Clip:
        """Draw a clip of another sequence, if there is one."""
        other = clip
        for _ in range(ATTEMPTS):
            gap = self.config.data.max_gap
            other = self.clips.draw(generator, length=1, max_gap=gap, modality="both")
            if other.sequence is not clip.sequence:
                break
        return other

    def _shown(self, images: ImagePair, modality: Modality, blank: str | None = None) -> ImagePair:
        """Return what the model is shown of a crop."""
        if self.config.modality == "either":
            one = _image_of(images, "rgb" if modality == "rgb" else "tir")
            return ImagePair(one, one)
        if modality == "rgb":
            blank = "tir"
        elif modality == "tir":
            blank = "rgb"
        # where one camera shows nothing, the other one must show the target
        if blank == "rgb" and images.tir.any():
            return ImagePair(torch.zeros_like(images.rgb), images.tir)
        if blank == "tir" and images.rgb.any():
            return ImagePair(images.rgb, torch.zeros_like(images.tir))
        return images


class _View(NamedTuple):
    """Where a crop is cut."""

    sequence: CropSequence
    frame: int
    around_xywh_px: NDArray[np.float64]
    """The box in the middle of the crop."""
    target_xywh_px: NDArray[np.float64]
    """The target's box, whose height is the unit of a misalignment."""


class _Variation(NamedTuple):
    """What all crops of a sample have in common."""

    grey: bool
    mirrored: bool
    blank: Literal["rgb", "tir"] | None
    """The modality whose search crops are blank."""
    misalignment: Misalignment | None
    failure: "_Failure | None"


class _Search(NamedTuple):
    """A search crop and what is true of it."""

    images: ImagePair
    box_cxcywh_unit: Tensor
    seen: Tensor
    offset: Tensor


class _Cut(NamedTuple):
    """What both cameras show of a place, and where each of them looks."""

    images: ImagePair
    rgb: CropPair
    """The crop of the colour image."""
    tir: CropPair
    """The crop of the thermal image: the same where the cameras are aligned."""


Exchange: TypeAlias = Literal["late", "foreign", "swapped"]
"""What one modality shows in place of its image: an earlier image, an image of another sequence, or
the image of the other camera."""


class _Failure(NamedTuple):
    """How one modality of the search crops fails."""

    modality: Literal["rgb", "tir"]
    kind: Failure | Exchange


_FAILURES: tuple[Failure | Exchange, ...] = (*FAILURES, *get_args(Exchange))


def _image_of(images: ImagePair, modality: Literal["rgb", "tir"]) -> Tensor:
    """Return the image of one modality."""
    return images.rgb if modality == "rgb" else images.tir


def _either(generator: np.random.Generator) -> Literal["rgb", "tir"]:
    """Draw one of the two modalities."""
    return "tir" if generator.integers(2) else "rgb"


def batches(
    sampler: Sampler, first: int, last: int, *, start: int, stop: int, pin: bool = False
) -> Iterator[Batch]:
    """Yield the batches of steps ``first`` to ``last``, without the latter, in order.

    Args:
        sampler: cuts the samples.
        first: the first step.
        last: the step before which to stop.
        start: the first place of the global batch that belongs to this process.
        stop: the place before which this process's part ends.
        pin: put batches into memory that a graphics card reads faster.

    Raises:
        DataError: an image cannot be read.
        TrainingError: the processes that make batches have no room for them, or fall silent.
    """
    workers = min(sampler.config.data.workers, last - first)
    dataset = _Batches(sampler, range(first, last), start, stop)
    ahead = 4 if workers else None
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=ahead,
        worker_init_fn=leave_signals_to_the_training,
    )
    for batch in watched(loader):
        if isinstance(batch, Exception):
            raise batch
        yield _pinned(batch) if pin else batch


class _Batches(TorchDataset[Batch | Exception]):
    """The batches of one process, by their position."""

    def __init__(self, sampler: Sampler, steps: range, start: int, stop: int) -> None:
        self.sampler = sampler
        self.steps = steps
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, position: int) -> Batch | Exception:
        # returned, not raised: an exception that a worker raises arrives wrapped in its traceback
        try:
            batch = self.sampler.batch(self.steps[position], self.start, self.stop)
            return batch if get_worker_info() is None else in_shared_memory(batch)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            return error


def _pinned(batch: Batch) -> Batch:
    """Return the batch with its images in pinned memory."""

    def pin(pair: ImagePair) -> ImagePair:
        return ImagePair(pair.rgb.pin_memory(), pair.tir.pin_memory())

    searches = tuple(pin(search) for search in batch.searches)
    return batch._replace(template=pin(batch.template), searches=searches)


def _stack(pairs: list[ImagePair]) -> ImagePair:
    """Put crops side by side in one batch."""
    return ImagePair(
        torch.cat([pair.rgb for pair in pairs]), torch.cat([pair.tir for pair in pairs])
    )

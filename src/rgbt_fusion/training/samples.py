"""Samples and batches, each decided by the seed, the step and the place in the batch alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from rgbt_fusion.alignment.aligned_frames import AlignedFrames
from rgbt_fusion.alignment.estimate import read_alignment
from rgbt_fusion.data.clips import Clip, ClipSource, DatasetClips, Modality, SyntheticClips
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import TrackerModel
from rgbt_fusion.training.augmentation import (
    draw_appearance,
    flip_pair,
    jitter_box,
    rotate_pair,
    vary_pair,
)
from rgbt_fusion.training.config import TrainConfig

__all__ = ["Batch", "Sample", "Sampler", "batches", "open_clips"]


class Sample(NamedTuple):
    """A template and the search crops that follow it."""

    template: ImagePair
    """``(1, 3, H, W)`` each."""
    searches: tuple[ImagePair, ...]
    """``(1, 3, H, W)`` each, one pair per search frame."""
    boxes_cxcywh_unit: tuple[Tensor, ...]
    """The target's box ``(1, 4)`` in each search crop."""


class Batch(NamedTuple):
    """Samples side by side."""

    template: ImagePair
    """``(B, 3, H, W)`` each."""
    searches: tuple[ImagePair, ...]
    """``(B, 3, H, W)`` each, one pair per search frame."""
    boxes_cxcywh_unit: tuple[Tensor, ...]
    """The targets' boxes ``(B, 4)`` in the search crops, one tensor per search frame."""

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
        )


def open_clips(
    config: TrainConfig,
    data: str | Path,
    *,
    names: str | Path | None = None,
    align: str | Path | None = None,
) -> ClipSource:
    """Open the sequences that a config's samples are drawn from.

    Args:
        config: its ``data`` says what to open.
        data: the folder of a dataset, or ``"synthetic"``.
        names: a file that lists the sequences of the dataset to use. None uses all.
        align: ``"auto"`` or a file of an alignment; see :func:`~rgbt_fusion.training.loop.train`.

    Raises:
        ValueError: ``data`` does not fit the config's layout, or ``names`` or ``align`` is given
            for synthetic data.
        DataError: see :class:`~rgbt_fusion.data.clips.DatasetClips`.
    """
    layout = config.data.layout
    is_synthetic = str(data) == "synthetic"
    if layout == "synthetic" and not is_synthetic:
        raise ValueError(f"data must be 'synthetic', as data.layout says, got {str(data)!r}")
    if layout != "synthetic" and is_synthetic:
        raise ValueError(
            f"data must be the folder of a dataset of layout {layout!r}, as data.layout says, "
            f"got {str(data)!r}"
        )
    if not is_synthetic:
        clips = DatasetClips(data, layout, names=names)
        if align is not None:
            known = None if str(align) == "auto" else read_alignment(align)
            for stored in clips.sequences:
                # behaves like the sequence, and is estimated when a frame is first needed
                stored.sequence = AlignedFrames(stored.sequence, known)  # pyright: ignore[reportAttributeAccessIssue]
        return clips
    if align is not None:
        raise ValueError(f"align must be absent with synthetic data, got {str(align)!r}")
    if names is not None:
        raise ValueError(f"names must be absent with synthetic data, got {str(names)!r}")
    return SyntheticClips(
        sequences=config.data.sequences,
        frames=config.data.frames,
        challenges=config.data.challenges,
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

    def sample(self, step: int, index: int) -> Sample:
        """Return sample ``index`` of a step."""
        generator = np.random.default_rng((self.config.seed, step, index))
        modality = self.config.modality
        if modality == "either":
            modality = _either(generator)
        clip = self.clips.draw(
            generator,
            length=self.config.clip_length,
            max_gap=self.config.data.max_gap,
            modality=modality,
        )
        variation = self._draw_variation(generator)
        template = self._template(clip, modality, variation, generator)
        searches: list[ImagePair] = []
        boxes: list[Tensor] = []
        for frame in clip.searches:
            images, box = self._search(clip, frame, modality, variation, generator)
            searches.append(images)
            boxes.append(box)
        return Sample(template, tuple(searches), tuple(boxes))

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Return samples ``start`` to ``stop`` of a step, without the latter."""
        samples = [self.sample(step, index) for index in range(start, stop)]
        template = _stack([sample.template for sample in samples])
        searches: list[ImagePair] = []
        boxes: list[Tensor] = []
        for frame in range(self.config.clip_length):
            searches.append(_stack([sample.searches[frame] for sample in samples]))
            boxes.append(torch.cat([sample.boxes_cxcywh_unit[frame] for sample in samples]))
        return Batch(template, tuple(searches), tuple(boxes))

    def _draw_variation(self, generator: np.random.Generator) -> "_Variation":
        """Draw what all crops of a sample have in common."""
        chances = self.config.augmentation
        grey = generator.random() < chances.grey
        mirrored = generator.random() < chances.flip
        blank = None
        if generator.random() < chances.missing:
            blank = _either(generator)
        return _Variation(grey, mirrored, blank)

    def _template(
        self,
        clip: Clip,
        modality: Modality,
        variation: "_Variation",
        generator: np.random.Generator,
    ) -> ImagePair:
        """Cut the template crop."""
        box = clip.sequence.box(clip.template, modality)
        factor = self.config.template_factor
        crop = clip.sequence.crop(clip.template, box, factor, self.template_size)
        appearance = draw_appearance(self.config.augmentation, generator)
        images = vary_pair(crop.images, appearance, grey=variation.grey)
        if variation.mirrored:
            images, _ = flip_pair(images)
        return self._shown(images, modality)

    def _search(
        self,
        clip: Clip,
        frame: int,
        modality: Modality,
        variation: "_Variation",
        generator: np.random.Generator,
    ) -> tuple[ImagePair, Tensor]:
        """Cut the search crop of a frame; return it with the target's box in it."""
        settings = self.config.augmentation
        target = clip.sequence.box(frame, modality)
        around = jitter_box(target, settings, generator, factor=self.search_factor)
        crop = clip.sequence.crop(frame, around, self.search_factor, self.search_size)
        box = crop.to_crop(torch.from_numpy(target)).float()[None]
        appearance = draw_appearance(settings, generator)
        images = vary_pair(crop.images, appearance, grey=variation.grey)
        if settings.rotation:
            degrees = float(generator.uniform(-settings.rotation, settings.rotation))
            images, box = rotate_pair(images, box, degrees)
        if variation.mirrored:
            images, box = flip_pair(images, box)
        return self._shown(images, modality, variation.blank), box

    def _shown(self, images: ImagePair, modality: Modality, blank: str | None = None) -> ImagePair:
        """Return what the model is shown of a crop."""
        if self.config.modality == "either":
            one = images.rgb if modality == "rgb" else images.tir
            return ImagePair(one, one)
        if modality == "rgb":
            blank = "tir"
        elif modality == "tir":
            blank = "rgb"
        if blank == "rgb":
            return ImagePair(torch.zeros_like(images.rgb), images.tir)
        if blank == "tir":
            return ImagePair(images.rgb, torch.zeros_like(images.rgb))
        return images


class _Variation(NamedTuple):
    """What all crops of a sample have in common."""

    grey: bool
    mirrored: bool
    blank: Literal["rgb", "tir"] | None
    """The modality whose search crops are blank."""


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
    """
    workers = min(sampler.config.data.workers, last - first)
    steps = _Steps(sampler, range(first, last), start, stop)
    ahead = 4 if workers else None
    loader = DataLoader(steps, batch_size=None, num_workers=workers, prefetch_factor=ahead)
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield _pinned(batch) if pin else batch


class _Steps(TorchDataset[Batch | Exception]):
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
            return self.sampler.batch(self.steps[position], self.start, self.stop)
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

"""Samples and batches: each a function of the seed, the step and its place in the batch, and of
nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rgbt_fusion.data.clips import ClipSource, DatasetClips, SyntheticClips
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.network import TrackingNetwork
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
    """A template and what follows it: crops ``(1, 3, H, W)``, and for each search crop its box
    ``(1, 4)``."""

    template: ImagePair
    searches: tuple[ImagePair, ...]
    boxes_cxcywh_unit: tuple[Tensor, ...]


class Batch(NamedTuple):
    """Samples side by side: crops ``(B, 3, H, W)``, and for each search frame the boxes ``(B,
    4)``."""

    template: ImagePair
    searches: tuple[ImagePair, ...]
    boxes_cxcywh_unit: tuple[Tensor, ...]

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """Return the batch on a device and in a dtype."""

        def move(image: Tensor) -> Tensor:
            return image.to(device, dtype, non_blocking=True)

        searches = tuple(ImagePair(*map(move, search)) for search in self.searches)
        return Batch(
            ImagePair(*map(move, self.template)), searches, tuple(map(move, self.boxes_cxcywh_unit))
        )


def open_clips(
    config: TrainConfig, data: str | Path, *, names: str | Path | None = None
) -> ClipSource:
    """Open what a config's samples are drawn from.

    Raises:
        ValueError: ``data`` is ``"synthetic"`` and the config's layout is not, or the other way
            round.
        DataError: see :class:`~rgbt_fusion.data.clips.DatasetClips`.
    """
    synthetic = config.data.layout == "synthetic"
    if synthetic != (str(data) == "synthetic"):
        rule = (
            "'synthetic'"
            if synthetic
            else f"the folder of a dataset of layout {config.data.layout!r}"
        )
        raise ValueError(f"data must be {rule}, as data.layout says, got {str(data)!r}")
    if synthetic:
        if names is not None:
            raise ValueError(f"names must be absent with synthetic data, got {str(names)!r}")
        return SyntheticClips(
            sequences=config.data.sequences,
            frames=config.data.frames,
            challenges=config.data.challenges,
        )
    return DatasetClips(data, config.data.layout, names=names)


@dataclass(frozen=True)
class Sampler:
    """Cut samples for one kind of model.

    ``template_size``, ``search_size`` and ``search_factor`` are the model's.
    """

    config: TrainConfig
    clips: ClipSource
    template_size: int
    search_size: int
    search_factor: float

    @classmethod
    def of(cls, config: TrainConfig, clips: ClipSource, model: TrackingNetwork) -> "Sampler":
        """Cut samples as ``model`` takes them."""
        return cls(config, clips, model.template_size, model.search_size, model.search_factor)

    def sample(self, step: int, index: int) -> Sample:
        """Return sample ``index`` of a step."""
        config, vary = self.config, self.config.augmentation
        generator = np.random.default_rng((config.seed, step, index))
        modality = config.modality
        if modality == "either":
            modality = ("rgb", "tir")[generator.integers(2)]
        clip = self.clips.draw(
            generator, length=config.clip_length, max_gap=config.data.max_gap, modality=modality
        )
        grey, mirrored = generator.random() < vary.grey, generator.random() < vary.flip
        blank = None
        if generator.random() < vary.missing:
            blank = ("rgb", "tir")[generator.integers(2)]
        box = clip.sequence.box(clip.template, modality)
        crop = clip.sequence.crop(clip.template, box, config.template_factor, self.template_size)
        template = vary_pair(crop.images, draw_appearance(vary, generator), grey=grey)
        template = self._shown(flip_pair(template)[0] if mirrored else template, modality, None)
        searches, boxes = [], []
        for frame in clip.searches:
            target = clip.sequence.box(frame, modality)
            around = jitter_box(target, vary, generator, factor=self.search_factor)
            crop = clip.sequence.crop(frame, around, self.search_factor, self.search_size)
            found = crop.to_crop(torch.from_numpy(target)).float()[None]
            images = vary_pair(crop.images, draw_appearance(vary, generator), grey=grey)
            if vary.rotation:
                images, found = rotate_pair(
                    images, found, float(generator.uniform(-vary.rotation, vary.rotation))
                )
            if mirrored:
                images, found = flip_pair(images, found)
            searches.append(self._shown(images, modality, blank))
            boxes.append(found)
        return Sample(template, tuple(searches), tuple(boxes))

    def _shown(self, images: ImagePair, modality: str, blank: str | None) -> ImagePair:
        """Return what the model is shown of a crop."""
        if self.config.modality == "either":
            one = getattr(images, modality)
            return ImagePair(one, one)
        other = {"rgb": "tir", "tir": "rgb"}.get(modality, blank)
        if other is None:
            return images
        images = images._replace(**{other: torch.zeros_like(images.rgb)})
        return images

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Return samples ``start`` to ``stop`` of a step."""
        samples = [self.sample(step, index) for index in range(start, stop)]
        template = _stack([sample.template for sample in samples])
        searches = tuple(
            _stack(list(pairs))
            for pairs in zip(*(sample.searches for sample in samples), strict=True)
        )
        boxes = tuple(
            torch.cat(found)
            for found in zip(*(sample.boxes_cxcywh_unit for sample in samples), strict=True)
        )
        return Batch(template, searches, boxes)


def batches(
    sampler: Sampler, first: int, last: int, *, start: int, stop: int, pin: bool = False
) -> Iterator[Batch]:
    """Yield the batches of steps ``first`` to ``last``, the latter not included, in order.

    Args:
        sampler: what cuts the samples.
        first: the first step.
        last: the step before which to end.
        start: this process's first place in the global batch.
        stop: the place before which it ends.
        pin: put batches where a graphics card reads them faster.

    Raises:
        DataError: an image cannot be read.
    """
    workers = min(sampler.config.data.workers, last - first)
    steps = _Steps(sampler, range(first, last), start, stop)
    loader = DataLoader(
        steps, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield _pinned(batch) if pin else batch


class _Steps(Dataset[Any]):
    """The batches of one process, by their position."""

    def __init__(self, sampler: Sampler, steps: range, start: int, stop: int) -> None:
        self.sampler, self.steps, self.start, self.stop = sampler, steps, start, stop

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, position: int) -> Batch | Exception:
        # handed over rather than raised: a worker's exceptions arrive wrapped in its traceback
        try:
            return self.sampler.batch(self.steps[position], self.start, self.stop)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            return error


def _pinned(batch: Batch) -> Batch:
    def pin(pair: ImagePair) -> ImagePair:
        return ImagePair(pair.rgb.pin_memory(), pair.tir.pin_memory())

    return batch._replace(template=pin(batch.template), searches=tuple(map(pin, batch.searches)))


def _stack(pairs: list[ImagePair]) -> ImagePair:
    return ImagePair(
        torch.cat([pair.rgb for pair in pairs]), torch.cat([pair.tir for pair in pairs])
    )

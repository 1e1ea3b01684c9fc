"""Crops that are cut where the network runs: frames go there as they come from the camera."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD
from rgbt_fusion.frames.sampling import sample_square
from rgbt_fusion.frames.square import SearchSquare
from rgbt_fusion.frames.thermal import ThermalRange, is_deep
from rgbt_fusion.frames.types import Frame, ImagePair

__all__ = ["CropNumbers", "cut_crops", "indexable", "number_count", "pack_numbers"]

MODALITIES = 2
AXES = 2
CHANNELS = 3
ROWS = 4
"""Of an axis: two places and two weights."""


class CropNumbers(NamedTuple):
    """All that says where and how to cut, as views of one float32 vector.

    One vector is one upload per frame.
    """

    samples: Tensor
    """``(N, modality, axis, row, size)``, see ``sample_square``."""
    units: Tensor
    """``(N, modality, axis)``: what sums are rounded to, 0 where they are not."""
    levels: Tensor
    """``(modality, 2)``: the value that becomes 0, and the factor behind; (0, 1) leaves values."""
    mix: Tensor
    """``(shown, modality)``: which crop stands for which; zeros for the mean image."""
    colours: Tensor
    """``(2, 3)``: the mean of each channel, and the factor behind."""

    @classmethod
    def of(cls, numbers: Tensor, targets: int, size: int) -> "CropNumbers":
        """View a vector of :func:`number_count` numbers."""
        shapes = _shapes(targets, size)
        parts = numbers.split([int(np.prod(shape)) for shape in shapes])
        return cls(*(part.view(shape) for part, shape in zip(parts, shapes, strict=True)))


def _shapes(targets: int, size: int) -> tuple[tuple[int, ...], ...]:
    return (
        (targets, MODALITIES, AXES, ROWS, size),
        (targets, MODALITIES, AXES),
        (MODALITIES, 2),
        (MODALITIES, MODALITIES),
        (2, CHANNELS),
    )


def number_count(targets: int, size: int) -> int:
    """Return how many numbers say where and how to cut."""
    return sum(int(np.prod(shape)) for shape in _shapes(targets, size))


def pack_numbers(
    numbers: CropNumbers,
    frames: tuple[Frame | None, Frame | None],
    squares: list[SearchSquare],
    *,
    tir_range: ThermalRange | None,
    tir_offset: ArrayLike | None,
    other_for_missing: bool,
) -> None:
    """Write where and how to cut each square, for frames that may be missing.

    Args:
        numbers: where to write, on the CPU.
        frames: the colour and the thermal frame.
        squares: one per target, in the colour frame.
        tir_range: the values that become 0 and 255 where thermal frames have more than 8 bits.
        tir_offset: whole pixels (x, y) from the colour frame to the thermal one.
        other_for_missing: whether the other modality stands for a missing one.
    """
    size = numbers.samples.shape[-1]
    numbers.levels.copy_(torch.tensor([[0.0, 1.0]]))
    numbers.mix.zero_()
    numbers.colours[0] = torch.tensor(IMAGENET_MEAN) * 255
    numbers.colours[1] = 1 / (torch.tensor(IMAGENET_STD) * 255)
    offsets: list[tuple[int, int]] = [(0, 0), (0, 0)]
    if tir_offset is not None:
        x, y = (round(float(number)) for number in np.asarray(tir_offset).tolist())
        offsets[1] = (x, y)
    for modality, frame in enumerate(frames):
        if frame is None:
            if other_for_missing:
                numbers.mix[modality, 1 - modality] = 1.0
            continue
        numbers.mix[modality, modality] = 1.0
        height, width = frame.shape[:2]
        eight_bit = frame.dtype == np.uint8 and frame.shape[2:] == (3,)
        for target, square in enumerate(squares):
            left = square.left + offsets[modality][0]
            top = square.top + offsets[modality][1]
            samples = sample_square(
                height, width, left, top, square.side, size, eight_bit=eight_bit
            )
            for axis, along in enumerate(samples):
                *rows, unit = along
                numbers.samples[target, modality, axis] = torch.from_numpy(np.stack(rows))
                numbers.units[target, modality, axis] = unit
        if is_deep(frame) and tir_range is not None:
            low, high = tir_range
            contrast = 255.0 / (high - low) if high > low else 0.0
            numbers.levels[modality] = torch.tensor([low, contrast])


def cut_crops(
    frames: tuple[Tensor, Tensor], numbers: CropNumbers, *, deep: tuple[bool, bool]
) -> ImagePair:
    r"""Cut and normalise both crops of each target where the frames lie.

    Nothing here depends on a value that only the device knows: it can be captured in a graph.

    Args:
        frames: colour ``(H, W, 3)`` and thermal ``(H, W)`` or ``(H, W, C)``; 16-bit counts as int16
            with the same bits.
        numbers: where and how to cut, on the same device.
        deep: of which frames the values are scaled.

    Shape:
        - returns two images ``(N, 3, size, size)``, float32, normalised
    """
    mean, factor = numbers.colours.view(2, CHANNELS, 1, 1)
    crops = []
    for modality, frame in enumerate(frames):
        crop = _cut(frame, numbers.samples[:, modality], numbers.units[:, modality])
        if deep[modality]:
            low, contrast = numbers.levels[modality]
            crop = ((crop - low) * contrast).nan_to_num(0.0).clamp(0, 255)
        crops.append((crop - mean) * factor)
    both = torch.stack(crops)
    mixed = torch.einsum("sm,mnchw->snchw", numbers.mix, both)
    return ImagePair(mixed[0], mixed[1])


def _cut(frame: Tensor, samples: Tensor, units: Tensor) -> Tensor:
    """Return the squares of a frame, resized, in its own values: ``(N, C, size, size)``."""
    if frame.dim() == 2:
        frame = frame[:, :, None]
    columns = samples[:, 0, :2].long()
    rows = samples[:, 1, :2].long()
    # (N, 2 rows, size, 2 columns, size, C)
    pixels = frame[rows[:, :, :, None, None], columns[:, None, None]]
    if pixels.dtype == torch.int16:
        pixels = pixels.int().bitwise_and(0xFFFF)
    pixels = pixels.float()
    across = (pixels * samples[:, 0, 2:, :, None][:, None, None]).sum(3)
    across = _rounded(across, units[:, 0, None, None, None, None])
    down = (across * samples[:, 1, 2:, :, None, None]).sum(1)
    down = _rounded(down, units[:, 1, None, None, None])
    return down.permute(0, 3, 1, 2)


def _rounded(sums: Tensor, unit: Tensor) -> Tensor:
    """Return sums of integer weights as whole values; others as they are."""
    whole = torch.floor(sums * unit + 0.5)
    return torch.where(unit > 0, whole, sums)


def indexable(frame: NDArray) -> NDArray:
    """Return a frame of the same bits in a type that every device can index: counts as int16."""
    if frame.dtype == np.uint16:
        return frame.view(np.int16)
    return frame

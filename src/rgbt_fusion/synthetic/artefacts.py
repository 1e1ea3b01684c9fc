"""What real cameras add to a picture: smear, fixed patterns, dead columns, gain steps, blocks.

Everything lies at places of the frame, so a window of a frame shows what the frame shows there.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from rgbt_fusion.synthetic.places import noise_tile

__all__ = ["Artefacts", "compressed", "draw_artefacts", "smeared", "through_thermal_sensor"]

BLOCK = 8
"""Side in pixels of the blocks that a video is compressed in."""

Axis = NDArray[np.floating]


class Artefacts(NamedTuple):
    """The artefacts of the two cameras of a sequence; the defaults are cameras without any."""

    loss_rgb: float = 0.0
    """The detail that compression drops from colour: differences from the mean of a block of 8
    pixels, in 0 to 255."""
    loss_tir: float = 0.0
    """The detail that compression drops from the thermal image."""
    jerks: tuple[tuple[int, float], ...] = ()
    """Frames in which the camera is jerked sideways, and over how many pixels they are smeared."""
    pattern: float = 0.0
    """Standard deviation of the thermal sensor's fixed pattern, in 0 to 255."""
    dead_columns: tuple[int, ...] = ()
    """Columns of the frame in which the thermal sensor shows white."""
    gain_steps: tuple[tuple[int, float, float], ...] = ()
    """First frame of each setting of the thermal camera, its gain, and its level in 0 to 255."""

    def smear(self, index: int) -> float:
        """Return over how many pixels a frame is smeared; 1 leaves it sharp."""
        return dict(self.jerks).get(index, 1.0)

    def exposure(self, index: int) -> tuple[float, float]:
        """Return gain and level of the thermal camera at a frame."""
        gain = 1.0
        level = 0.0
        for start, new_gain, new_level in self.gain_steps:
            if start <= index:
                gain = new_gain
                level = new_level
        return gain, level


def draw_artefacts(generator: np.random.Generator, frames: int, width: int) -> Artefacts:
    """Draw the cameras of a sequence: each artefact in about a third of them."""

    def sometimes(value: float) -> float:
        return float(value) if generator.random() < 0.35 else 0.0

    count_of_jerks = int(sometimes(frames / 10))
    jerks = []
    for index in generator.integers(frames, size=count_of_jerks).tolist():
        jerks.append((index, float(generator.uniform(3, 12))))
    count_of_dead = int(sometimes(int(generator.integers(1, 4))))
    dead = tuple(generator.integers(width, size=count_of_dead).tolist())
    count_of_steps = int(sometimes(int(generator.integers(1, 4))))
    steps = []
    for index in sorted(generator.integers(frames, size=count_of_steps).tolist()):
        gain = float(np.exp(generator.uniform(-0.4, 0.4)))
        steps.append((index, gain, float(generator.uniform(-30, 30))))
    return Artefacts(
        loss_rgb=sometimes(generator.uniform(3, 14)),
        loss_tir=sometimes(generator.uniform(3, 12)),
        jerks=tuple(jerks),
        pattern=sometimes(generator.uniform(1, 5)),
        dead_columns=dead,
        gain_steps=tuple(steps),
    )


def smeared(image: Tensor, length: float, x: Axis) -> Tensor:
    """Return ``image`` ``(C, H, W)`` blurred sideways over ``length`` pixels of the frame.

    Args:
        image: the image.
        length: number of pixels of the frame.
        x: columns of the image in the frame.
    """
    if len(x) < 2:
        return image
    columns_per_pixel = (len(x) - 1) / max(float(x[-1] - x[0]), 1e-6)
    reach = round((length * columns_per_pixel - 1) / 2)
    if reach < 1 or reach >= len(x):
        return image
    return avg_pool2d(
        image[None],
        (1, 2 * reach + 1),
        stride=1,
        padding=(0, reach),
        count_include_pad=False,
    )[0]


def through_thermal_sensor(
    image: Tensor, artefacts: Artefacts, index: int, x: Axis, y: Axis
) -> Tensor:
    """Return a thermal image ``(1, H, W)`` with the gain, pattern and dead columns of a sensor.

    Args:
        image: what reaches the sensor, in 0 to 255.
        artefacts: of the camera.
        index: the frame.
        x: columns of the image in the frame.
        y: rows of the image in the frame.
    """
    gain, level = artefacts.exposure(index)
    image = (image - 128) * gain + 128 + level
    columns = torch.from_numpy(np.floor(x).astype(np.int64))
    if artefacts.pattern:
        rows = torch.from_numpy(np.floor(y).astype(np.int64))
        tile = noise_tile()
        pattern = tile[rows % len(tile)][:, columns % len(tile)]
        image = image + artefacts.pattern * pattern
    if artefacts.dead_columns:
        dead = torch.isin(columns, torch.tensor(artefacts.dead_columns))
        image = image.masked_fill(dead, 255.0)
    return image


def compressed(image: Tensor, loss: float, x: Axis, y: Axis) -> Tensor:
    r"""Return ``image`` ``(C, H, W)`` as a compressed video shows it.

    Within a block :math:`B` of the frame, small differences from the block's mean are dropped:

    .. math::
        v' = \bar v_B + \operatorname{sign}(v - \bar v_B) \max(|v - \bar v_B| - t, 0)

    Args:
        image: the image.
        loss: :math:`t`; 0 returns the image as it is.
        x: columns of the image in the frame.
        y: rows of the image in the frame.
    """
    if not loss:
        return image
    to_columns, columns = _blocks(x)
    to_rows, rows = _blocks(y)
    mean = (to_rows @ image @ to_columns.T)[:, rows][:, :, columns]
    detail = image - mean
    return mean + detail.sign() * (detail.abs() - loss).clamp(min=0)


def _blocks(places: Axis) -> tuple[Tensor, Tensor]:
    """Return the matrix that takes means over blocks, and the block of each place."""
    _, number = np.unique(np.floor(places / BLOCK), return_inverse=True)
    members = number[None] == np.arange(number.max() + 1)[:, None]
    means = members / members.sum(axis=1, keepdims=True)
    return torch.from_numpy(means).float(), torch.from_numpy(number)

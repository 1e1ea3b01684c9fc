"""How crops are varied: both modalities in the same way."""

from math import cos, pi, sin
from typing import Literal, NamedTuple, TypeAlias, get_args, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.training.config import AugmentationConfig

__all__ = [
    "FAILURES",
    "Appearance",
    "Failure",
    "Misalignment",
    "draw_appearance",
    "draw_misalignment",
    "fail",
    "flip_pair",
    "is_blind",
    "jitter_box",
    "rotate_offset",
    "rotate_pair",
    "vary_pair",
]

Failure: TypeAlias = Literal["flat", "saturated", "noise"]
"""How the image of a camera fails: one level, bright pixels at the largest value, noise alone."""

FAILURES: tuple[Failure, ...] = get_args(Failure)
"""How the image of a camera may fail."""

ZOOM = 0.05
"""Largest difference of scale between the cameras of a misaligned sample."""

_MEAN = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
_STD = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
# the weights of red, green and blue in ITU-R BT.601, which OpenCV uses
_LUMA = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)

_ALMOST_WHITE = 0.999

_ATTEMPTS = 20


class Appearance(NamedTuple):
    """How a crop looks."""

    brightness: float
    """What the brightness is multiplied by."""
    contrast: float
    """What the contrast is multiplied by."""
    blurred: bool
    """Whether the crop is blurred."""


class Misalignment(NamedTuple):
    """How the thermal camera sees the scene that the colour camera sees."""

    shift: tuple[float, float]
    """How far its view is moved, x and y in heights of the target."""
    zoom: float
    """Size of its view over that of the colour camera."""

    def view(self, around_xywh_px: np.ndarray, height_px: float) -> np.ndarray:
        """Return the box that the thermal crop is cut around, where the colour crop has another.

        Args:
            around_xywh_px: the box of the colour crop.
            height_px: height of the target.

        Shape:
            - around_xywh_px: ``(4,)``
            - returns ``(4,)``
        """
        size = around_xywh_px[2:] * self.zoom
        shift_px = np.array(self.shift) * height_px
        centre = around_xywh_px[:2] + around_xywh_px[2:] / 2 + shift_px
        return np.concatenate((centre - size / 2, size))


def draw_misalignment(
    config: AugmentationConfig, generator: np.random.Generator
) -> Misalignment | None:
    """Draw how a sample's cameras differ; None if they are aligned."""
    if not config.misalignment:
        return None
    x, y = generator.uniform(-config.misalignment, config.misalignment, 2)
    zoom = 1 + generator.uniform(-ZOOM, ZOOM)
    return Misalignment((float(x), float(y)), float(zoom))


def fail(image: Tensor, failure: Failure, generator: np.random.Generator) -> Tensor:
    """Return what a failing camera shows in the place of a normalised crop ``(1, 3, H, W)``.

    ``"flat"`` has one level, ``"saturated"`` is five times as bright, and ``"noise"`` has the mean
    of the crop and no scene.
    """
    pixels = (image * _STD + _MEAN).clamp(0, 1)
    if failure == "flat":
        pixels = torch.full_like(pixels, float(generator.random()))
    elif failure == "saturated":
        pixels = (5 * pixels).clamp(max=1)
    else:
        noise = torch.from_numpy(generator.standard_normal(tuple(pixels.shape[1:]))).float()
        pixels = (pixels.mean() + 0.1 * noise[None]).clamp(0, 1)
    return (pixels - _MEAN) / _STD


def is_blind(image: Tensor) -> bool:
    """Say whether at least half of a normalised crop ``(1, 3, H, W)`` is at the largest value."""
    pixels = image * _STD + _MEAN
    return bool((pixels > _ALMOST_WHITE).float().mean() >= 0.5)


def jitter_box(
    box_xywh_px: np.ndarray,
    config: AugmentationConfig,
    generator: np.random.Generator,
    *,
    factor: float,
) -> np.ndarray:
    r"""Return the box that a search crop is centred on: close to the target's, as in tracking.

    .. math::
        s' = s\, e^{0.25\, n}, \quad n \sim N(0, 1), \qquad
        c' = c + 3 \sqrt{w' h'}\, (u - \tfrac12), \quad u \sim U(0, 1)

    Paper and code: the box is drawn again while the target's centre lies outside the crop. After 20
    attempts the target's own box is taken.

    Args:
        box_xywh_px: the target's box.
        config: the factors 0.25 (``scale_jitter``) and 3 (``centre_jitter``).
        generator: where the random numbers come from.
        factor: side of the crop over the square root of the box's area.

    Shape:
        - box_xywh_px: ``(4,)``
        - returns ``(4,)``

    Source:
        Ye et al., "OSTrack", ECCV 2022 (their code).
    """
    box = np.asarray(box_xywh_px, dtype=np.float64)
    centre = box[:2] + box[2:] / 2
    for _ in range(_ATTEMPTS):
        size = box[2:] * np.exp(config.scale_jitter * generator.standard_normal(2))
        root = np.sqrt(size.prod())
        shift = config.centre_jitter * root * (generator.random(2) - 0.5)
        if (np.abs(shift) < 0.5 * factor * root).all():
            return np.concatenate((centre + shift - size / 2, size))
    return box


def draw_appearance(config: AugmentationConfig, generator: np.random.Generator) -> Appearance:
    """Draw how one crop of both modalities looks."""
    from_minus_one_to_one = 2 * generator.random(2) - 1
    brightness, contrast = 1 + from_minus_one_to_one * (config.brightness, config.contrast)
    blurred = generator.random() < config.blur
    return Appearance(float(brightness), float(contrast), bool(blurred))


def vary_pair(images: ImagePair, appearance: Appearance, *, grey: bool) -> ImagePair:
    """Return a normalised crop ``(1, 3, H, W)`` with another appearance.

    The image of a missing modality stays as it is.
    """
    return ImagePair(
        _vary(images.rgb, appearance, grey=grey), _vary(images.tir, appearance, grey=grey)
    )


def _vary(image: Tensor, appearance: Appearance, *, grey: bool) -> Tensor:
    if appearance == (1.0, 1.0, False) and not grey:
        return image
    if not image.any():
        # the mean image stands for a camera that shows nothing
        return image
    image = image * _STD + _MEAN
    if grey:
        image = (image * _LUMA).sum(1, keepdim=True).expand_as(image)
    if appearance.blurred:
        image = F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
    image = image * appearance.brightness
    if appearance.contrast != 1:
        middle = image.mean()
        image = middle + (image - middle) * appearance.contrast
    return (image.clamp(0, 1) - _MEAN) / _STD


@overload
def flip_pair(images: ImagePair) -> tuple[ImagePair, None]: ...


@overload
def flip_pair(images: ImagePair, box_cxcywh_unit: Tensor) -> tuple[ImagePair, Tensor]: ...


def flip_pair(
    images: ImagePair, box_cxcywh_unit: Tensor | None = None
) -> tuple[ImagePair, Tensor | None]:
    """Return a crop, and a box in it, mirrored left to right."""
    mirrored = ImagePair(images.rgb.flip(-1), images.tir.flip(-1))
    if box_cxcywh_unit is None:
        return mirrored, None
    x = 1 - box_cxcywh_unit[..., :1]
    rest = box_cxcywh_unit[..., 1:]
    return mirrored, torch.cat((x, rest), dim=-1)


def rotate_pair(
    images: ImagePair, box_cxcywh_unit: Tensor, degrees: float
) -> tuple[ImagePair, Tensor]:
    """Return a crop turned about its centre, and the smallest upright box around the turned box."""
    turn = _turn(degrees)
    matrix = torch.cat((turn, torch.zeros(2, 1)), dim=1)[None]
    turned = []
    for image in images:
        grid = F.affine_grid(matrix, list(image.shape), align_corners=False)
        black = -_MEAN / _STD if image.any() else torch.zeros(1, 3, 1, 1)
        turned.append(F.grid_sample(image - black, grid, align_corners=False) + black)
    # the grid says where each pixel comes from: a point goes the opposite way
    centre = (box_cxcywh_unit[..., :2] - 0.5) @ turn + 0.5
    size = box_cxcywh_unit[..., 2:] @ turn.abs()
    return ImagePair(*turned), torch.cat((centre, size), dim=-1)


def rotate_offset(offset: Tensor, degrees: float) -> Tensor:
    """Return the offset ``(1, 2)`` of the thermal crop, of crops turned by :func:`rotate_pair`."""
    return offset @ _turn(degrees)


def _turn(degrees: float) -> Tensor:
    angle = degrees * pi / 180
    return torch.tensor(((cos(angle), -sin(angle)), (sin(angle), cos(angle))))

"""One square crop of both modalities around a box, normalised for the network, and the way back to
the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from rgbt_fusion.boxes import clip_xywh
from rgbt_fusion.checks import ShapeError, check_finite_number, check_positive_int
from rgbt_fusion.frames.thermal import scale_thermal, thermal_range
from rgbt_fusion.frames.types import Frame, ImagePair

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "CropPair", "crop_pair"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)

IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class CropPair:
    """A crop of both modalities, and where it lies in the image."""

    images: ImagePair
    """Two crops ``(1, 3, size, size)``, float32, normalised alike: what a model takes."""
    centre_px: tuple[float, float]
    """The centre of the box that was cropped around."""
    side_px: int
    """The side of the square in the image."""
    image_size: tuple[int, int]
    """Height and width of the image."""

    def to_image(self, box_cxcywh_unit: Tensor, *, margin_px: float = 10.0) -> Tensor:
        r"""Map boxes from the crop to the image and clip them there.

        .. math::
            c = c_\text{prev} - \frac{s}{2} + s\,c_\text{crop}, \qquad (w, h) = s\,(w, h)_\text{crop}

        Args:
            box_cxcywh_unit: centre, width and height in fractions of the crop.
            margin_px: smallest width and height left inside the image.

        Shape:
            ``(..., 4)`` to ``(..., 4)``, left, top, width, height in pixels.

        Raises:
            ShapeError: the last axis is not 4.

        Source:
            Ye et al., "OSTrack", ECCV 2022 (their code).
        """
        start = box_cxcywh_unit.new_tensor(self.centre_px) - self.side_px / 2
        centre, size = (
            box_cxcywh_unit[..., :2] * self.side_px + start,
            box_cxcywh_unit[..., 2:] * self.side_px,
        )
        height, width = self.image_size
        box = torch.cat((centre - size / 2, size), dim=-1)
        return clip_xywh(box, height=height, width=width, margin=min(margin_px, height, width))

    def to_crop(self, box_xywh_px: Tensor) -> Tensor:
        """Map boxes from the image to the crop: the inverse of :meth:`to_image`, without clipping.

        Shape:
            ``(..., 4)``, left, top, width, height in pixels, to ``(..., 4)``, centre, width, height
            in fractions.
        """
        start = box_xywh_px.new_tensor(self.centre_px) - self.side_px / 2
        centre, size = box_xywh_px[..., :2] + box_xywh_px[..., 2:] / 2, box_xywh_px[..., 2:]
        return torch.cat((centre - start, size), dim=-1) / self.side_px


def crop_pair(
    rgb: NDArray[np.uint8] | None,
    tir: Frame | None,
    box_xywh_px: ArrayLike | Tensor,
    *,
    factor: float = 4.0,
    size: int = 256,
    tir_range: tuple[float, float] | None = None,
    tir_from_rgb: ArrayLike | None = None,
) -> CropPair:
    r"""Crop both modalities around a box and normalise them for the network.

    The square has its centre at the box's, whole pixels as corners and zeros outside the image, and
    is resized bilinearly; both modalities are cut at the same place and normalised with ImageNet's
    mean and standard deviation.

    .. math::
        s = \left\lceil f \sqrt{w h} \right\rceil

    Where the paper is silent: a missing modality gives zeros, the mean image. An aligned pair needs
    no ``tir_from_rgb``.

    Args:
        rgb: the colour frame, red first; None where it is missing.
        tir: the thermal frame, of 8 or 16 bits; None where it is missing.
        box_xywh_px: left, top, width, height in the colour frame.
        factor: the side of the square in units of the box's; 2 for templates, 4 for search regions
            (OSTrack-384: 5).
        size: the side of the crop.
        tir_range: the 16-bit values that become 0 and 255; None takes percentiles 1 and 99 of this
            frame.
        tir_from_rgb: where the cameras are not aligned: the offset (x, y) in whole pixels, or the
            3x3 homography, that takes a pixel of the colour frame to the thermal frame.

    Shape:
        ``(H, W, 3)`` uint8 and ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` uint8 or uint16 to two
        ``(1, 3, size, size)``.

    Raises:
        TypeError: a frame is not an array of such numbers.
        ShapeError: a frame, the box or ``tir_from_rgb`` has another shape, or the frames differ in
            size with no ``tir_from_rgb`` given.
        ValueError: both frames are missing, the box is not finite or has no size, or a setting is
            out of range.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.crop import crop_pair
        >>> frame = np.zeros((1080, 1920, 3), dtype=np.uint8)
        >>> crop = crop_pair(frame, frame[:, :, 0], (900, 500, 40, 90))
        >>> crop.images.rgb.shape, crop.side_px
        (torch.Size([1, 3, 256, 256]), 240)

    Source:
        Ye et al., "OSTrack", ECCV 2022 (their code).
    """
    box = check_box(box_xywh_px)
    check_finite_number(factor, name="factor", low=1e-3)
    check_positive_int(size, name="size")
    image_size = check_frames(rgb, tir, aligned=tir_from_rgb is None)
    x, y, width, height = box
    side = max(1, ceil(sqrt(width * height) * factor))
    centre = (x + width / 2, y + height / 2)
    left, top = round(centre[0] - side / 2), round(centre[1] - side / 2)
    colour = None if rgb is None else _square(rgb, left, top, side, size)
    if tir is None:
        thermal = None
    elif tir_from_rgb is None:
        thermal = _square(tir, left, top, side, size)
    else:
        thermal = _warped(tir, left, top, side, size, tir_from_rgb)
    limits = None
    if tir is not None and tir.dtype == np.uint16:
        limits = thermal_range(tir) if tir_range is None else tir_range
    images = ImagePair(_normalise(colour, size), _normalise(thermal, size, limits))
    return CropPair(images, centre, side, image_size)


def check_box(box_xywh_px: ArrayLike | Tensor) -> tuple[float, float, float, float]:
    """Return a box as four numbers, or raise where it is none."""
    box = np.asarray(box_xywh_px, dtype=np.float64)
    if box.shape != (4,):
        raise ShapeError(f"box_xywh_px must be left, top, width, height, got shape {box.shape}")
    x, y, width, height = (float(number) for number in box)
    if not np.isfinite(box).all() or width <= 0 or height <= 0:
        raise ValueError(
            f"box_xywh_px must be finite with width and height above 0, got {(x, y, width, height)}"
        )
    return x, y, width, height


def check_frames(rgb: Frame | None, tir: Frame | None, *, aligned: bool = True) -> tuple[int, int]:
    """Return the height and width of a pair of frames, the colour frame's where they differ, or
    raise."""
    _check_frame(rgb, "rgb", (np.uint8,), colour=True)
    _check_frame(tir, "tir", (np.uint8, np.uint16), colour=False)
    frame = rgb if rgb is not None else tir
    if frame is None:
        raise ValueError("rgb and tir must not both be missing, got None and None")
    if rgb is not None and tir is not None and aligned and rgb.shape[:2] != tir.shape[:2]:
        raise ShapeError(
            f"tir must have the height and width of rgb {rgb.shape[:2]}, got {tir.shape[:2]}; "
            "for cameras that are not aligned, give tir_from_rgb"
        )
    return frame.shape[0], frame.shape[1]


def _check_frame(frame: Any, name: str, dtypes: Sequence[type], *, colour: bool) -> None:
    if frame is None:
        return
    expected = " or ".join(np.dtype(one).name for one in dtypes)
    if not isinstance(frame, np.ndarray) or frame.dtype not in dtypes:
        given = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise TypeError(f"{name} must be a numpy array of {expected}, got {given}")
    channels = (3,) if colour else (1, 3)
    plane = frame.ndim == 2 and not colour
    if not (plane or (frame.ndim == 3 and frame.shape[2] in channels)) or 0 in frame.shape:
        rule = "(H, W, 3)" if colour else "(H, W), (H, W, 1) or (H, W, 3)"
        raise ShapeError(f"{name} must have shape {rule}, got {frame.shape}")


def _square(frame: Frame, left: int, top: int, side: int, size: int) -> Tensor:
    """Return a square of the frame, resized, in 0 to 255: ``(1, C, size, size)``."""
    height, width = frame.shape[:2]
    if side * side > 16 * height * width:
        # nearly all of the square is outside: sampling it costs less than holding it
        return _sample(frame, *_pixel_grid(left, top, side, size))
    if side <= 4 * size:
        return _resized(_cut(frame, left, side, range(top, top + side)), size, size)
    # of a large square only the two rows around each row of the crop are needed, where they are
    # inside
    steps = (np.arange(size) + 0.5) * (side / size) - 0.5
    above = np.floor(steps).astype(np.int64)
    rows = top + np.concatenate((above, above + 1))
    inside = np.flatnonzero((rows >= 0) & (rows < height))
    sampled = torch.zeros(1, 3 if frame.ndim == 3 and frame.shape[2] == 3 else 1, 2 * size, size)
    if len(inside):
        found = _resized(_cut(frame, left, side, rows[inside]), len(inside), size)
        sampled[:, :, torch.from_numpy(inside)] = found.float()
    upper, lower = sampled.chunk(2, dim=2)
    return upper.lerp(lower, torch.from_numpy(steps - above).float().view(-1, 1))


def _cut(frame: Frame, left: int, side: int, rows: range | NDArray[np.int64]) -> Frame:
    """Return some rows of ``side`` pixels, zeros outside the frame; rows given by their numbers are
    all inside."""
    height, width = frame.shape[:2]
    x0, x1 = max(left, 0), max(min(left + side, width), 0)
    skipped = 0
    if isinstance(rows, range):
        # a run of rows is copied several times as fast as rows by their numbers, or not at all
        start, stop = max(rows.start, 0), max(min(rows.stop, height), 0)
        found, skipped = frame[start:stop, x0:x1], start - rows.start
    else:
        found = frame[rows, x0:x1]
    if found.shape[:2] == (len(rows), side):
        return found
    cut = np.zeros((len(rows), side, *frame.shape[2:]), dtype=frame.dtype)
    if found.size:
        cut[skipped : skipped + len(found), x0 - left : x1 - left] = found
    return cut


def _resized(image: Frame, height: int, width: int) -> Tensor:
    """Return an image resized: ``(1, C, height, width)``."""
    return interpolate(_planes(image), (height, width), mode="bilinear", align_corners=False)


def _warped(
    tir: Frame, left: int, top: int, side: int, size: int, tir_from_rgb: ArrayLike
) -> Tensor:
    matrix = np.asarray(tir_from_rgb, dtype=np.float64)
    if matrix.shape not in ((2,), (3, 3)):
        raise ShapeError(f"tir_from_rgb must have shape (2,) or (3, 3), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"tir_from_rgb must be finite, got {matrix.tolist()}")
    if matrix.shape == (2,):
        return _square(
            tir, left + round(float(matrix[0])), top + round(float(matrix[1])), side, size
        )
    x, y = _pixel_grid(left, top, side, size)
    columns, rows = np.meshgrid(x, y)
    u, v, w = np.tensordot(matrix, np.stack((columns, rows, np.ones_like(rows))), axes=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # behind the camera is nowhere
        u, v = np.where(w > 0, u / w, -1e6), np.where(w > 0, v / w, -1e6)
    return _sample(tir, u, v)


def _pixel_grid(
    left: int, top: int, side: int, size: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the columns and rows of the frame at which the crop's pixels have their centres."""
    steps = (np.arange(size) + 0.5) * (side / size) - 0.5
    return left + steps, top + steps


def _sample(frame: Frame, x: NDArray[np.floating], y: NDArray[np.floating]) -> Tensor:
    """Return the frame at points, bilinearly, zeros outside: ``(1, C, size, size)``."""
    if x.ndim == 1:
        x, y = np.meshgrid(x, y)
    height, width = frame.shape[:2]
    x0, y0 = (
        int(np.clip(np.floor(axis.min()), 0, end - 1)) for axis, end in ((x, width), (y, height))
    )
    x1, y1 = (
        int(np.clip(np.ceil(axis.max()) + 1, 1, end)) for axis, end in ((x, width), (y, height))
    )
    part = frame[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    # grid_sample's -1 and 1 are the outer edges of the first and the last pixel
    u, v = (2 * (x - x0) + 1) / part.shape[1] - 1, (2 * (y - y0) + 1) / part.shape[0] - 1
    grid = torch.from_numpy(np.stack((u, v), axis=-1).clip(-1e3, 1e3).astype(np.float32))[None]
    return grid_sample(
        _planes(part).float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )


def _planes(image: Frame) -> Tensor:
    """Return ``(1, C, H, W)``: uint8 for colours, whose kernel is three times as fast as float's,
    else float32."""
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        usable = min(image.strides) > 0 and image.flags.writeable
        return torch.from_numpy(image if usable else image.copy()).permute(2, 0, 1)[None]
    pixels = torch.from_numpy(image.astype(np.float32))
    return pixels[None, None] if image.ndim == 2 else pixels.permute(2, 0, 1)[None]


def _normalise(
    image: Tensor | None, size: int, limits: tuple[float, float] | None = None
) -> Tensor:
    if image is None:
        return torch.zeros(1, 3, size, size)
    if limits is not None:
        image = torch.from_numpy(scale_thermal(image.numpy(), limits))
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255
    scale = 1 / (torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255)
    out = torch.empty(1, 3, size, size)
    return out.copy_(image.expand(1, 3, size, size)).sub_(mean).mul_(scale)

"""One square crop of both modalities, normalised for a network, and the way back to the image.

Crops are tensors; torch is imported where one is made, so that frames can be read and drawn without
it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import ShapeError, check_finite_number, check_positive_int
from rgbt_fusion.frames.square import search_square
from rgbt_fusion.frames.thermal import is_deep, scale_thermal, thermal_range
from rgbt_fusion.frames.types import Frame, ImagePair, check_frames

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "CropPair", "crop_pair"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue, of pixels in [0, 1]."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue, of pixels in [0, 1]."""

NOWHERE = -1e6
"""A coordinate outside every frame."""


@dataclass(frozen=True)
class CropPair:
    """A crop of both modalities, and where it lies in the image."""

    images: ImagePair
    """Two crops ``(1, 3, size, size)``, float32, normalised alike: what a model takes."""
    centre_px: tuple[float, float]
    """Centre of the box that was cropped around, x and y."""
    side_px: int
    """Side of the square in the image."""
    image_size: tuple[int, int]
    """Height and width of the image."""

    def to_image(self, box_cxcywh_unit: "Tensor", *, margin_px: float = 10.0) -> "Tensor":
        r"""Map boxes from the crop to the image and clip them there.

        .. math::
            c = c_\text{prev} - \frac{s}{2} + s\,c_\text{crop}, \qquad
            (w, h) = s\,(w, h)_\text{crop}

        Args:
            box_cxcywh_unit: centre, width and height in fractions of the crop.
            margin_px: smallest width and height left inside the image.

        Shape:
            - box_cxcywh_unit: ``(..., 4)``
            - returns ``(..., 4)``: left, top, width, height in pixels

        Raises:
            ShapeError: ``box_cxcywh_unit`` has a last axis other than 4.

        Source:
            Ye et al., "OSTrack", ECCV 2022 (their code).
        """
        import torch

        from rgbt_fusion.boxes import clip_xywh

        corner_of_crop = box_cxcywh_unit.new_tensor(self.centre_px) - self.side_px / 2
        centre = box_cxcywh_unit[..., :2] * self.side_px + corner_of_crop
        size = box_cxcywh_unit[..., 2:] * self.side_px
        box = torch.cat((centre - size / 2, size), dim=-1)
        height, width = self.image_size
        return clip_xywh(box, height=height, width=width, margin=min(margin_px, height, width))

    def to_crop(self, box_xywh_px: "Tensor") -> "Tensor":
        """Map boxes from the image to the crop: the inverse of :meth:`to_image`, without clipping.

        Shape:
            - box_xywh_px: ``(..., 4)``: left, top, width, height in pixels
            - returns ``(..., 4)``: centre, width, height in fractions of the crop
        """
        import torch

        corner_of_crop = box_xywh_px.new_tensor(self.centre_px) - self.side_px / 2
        size = box_xywh_px[..., 2:]
        centre = box_xywh_px[..., :2] + size / 2
        return torch.cat((centre - corner_of_crop, size), dim=-1) / self.side_px


def crop_pair(
    rgb: NDArray[np.uint8] | None,
    tir: Frame | None,
    box_xywh_px: "ArrayLike | Tensor",
    *,
    factor: float = 4.0,
    size: int = 256,
    tir_range: tuple[float, float] | None = None,
    tir_from_rgb: ArrayLike | None = None,
) -> CropPair:
    r"""Crop both modalities around a box and normalise them for the network.

    The square has the centre of the box, whole pixels as corners, and zeros outside the image. It
    is resized bilinearly. Both modalities are cut at the same place and normalised with ImageNet's
    mean and standard deviation.

    .. math::
        s = \left\lceil f \sqrt{w h} \right\rceil

    Choices: a missing modality becomes zeros, the mean image. An aligned pair needs no
    ``tir_from_rgb``.

    Args:
        rgb: the colour frame, red first; None if it is missing.
        tir: the thermal frame, of 8 or 16 bits or float32; None if it is missing.
        box_xywh_px: left, top, width, height in the colour frame.
        factor: side of the square over the square root of the box's area; 2 for templates, 4 for
            search regions (OSTrack-384: 5).
        size: side of the crop.
        tir_range: the values that become 0 and 255 where a frame has more than 8 bits; None takes
            those of this frame, see :func:`~rgbt_fusion.frames.thermal.thermal_range`.
        tir_from_rgb: for cameras that are not aligned: the offset (x, y) in whole pixels, or the
            3x3 homography, that takes a pixel of the colour frame to the thermal frame.

    Shape:
        - rgb: ``(H, W, 3)`` uint8
        - tir: ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` uint8, uint16 or float32
        - returns two images ``(1, 3, size, size)``

    Raises:
        TypeError: ``rgb`` or ``tir`` is not an array of such numbers.
        ShapeError: ``rgb``, ``tir``, ``box_xywh_px`` or ``tir_from_rgb`` has another shape, or
            ``rgb`` and ``tir`` differ in size and ``tir_from_rgb`` is None.
        ValueError: ``rgb`` and ``tir`` are both missing, ``box_xywh_px`` is not finite or has no
            size, or ``factor``, ``size``, ``tir_range`` or ``tir_from_rgb`` is out of range.

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
    check_finite_number(factor, name="factor", low=1e-3)
    check_positive_int(size, name="size")
    image_size = check_frames(rgb, tir, aligned=tir_from_rgb is None)
    square = search_square(box_xywh_px, factor)
    left, top, side = square.left, square.top, square.side

    colour = None
    if rgb is not None:
        colour = _square(rgb, left, top, side, size)

    thermal, limits = None, None
    if tir is not None:
        if tir_from_rgb is None:
            thermal = _square(tir, left, top, side, size)
        else:
            thermal = _warped(tir, left, top, side, size, tir_from_rgb)
        if is_deep(tir):
            limits = thermal_range(tir) if tir_range is None else tir_range

    images = ImagePair(_normalise(colour, size), _normalise(thermal, size, limits))
    return CropPair(images, square.centre, side, image_size)


def _square(frame: Frame, left: int, top: int, side: int, size: int) -> "Tensor":
    """Return a square of the frame, resized, in 0 to 255: ``(1, C, size, size)``."""
    height, width = frame.shape[:2]
    if side * side > 16 * height * width:
        # nearly all of the square is outside: sampling it costs less than holding it
        return _sample(frame, *_pixel_grid(left, top, side, size))
    if side <= 4 * size:
        return _resized(_cut(frame, left, top, side, side), size, size)
    return _from_few_rows(frame, left, top, side, size)


def _from_few_rows(frame: Frame, left: int, top: int, side: int, size: int) -> "Tensor":
    """Return a large square, resized from the two rows around each row of the crop alone."""
    import torch

    height, width = frame.shape[:2]
    steps = (np.arange(size) + 0.5) * (side / size) - 0.5
    above = np.floor(steps).astype(np.int64)
    rows = top + np.concatenate((above, above + 1))
    inside = np.flatnonzero((rows >= 0) & (rows < height))
    channels = 3 if frame.ndim == 3 and frame.shape[2] == 3 else 1
    sampled = torch.zeros(1, channels, 2 * size, size)
    if len(inside):
        first_column = max(left, 0)
        end_column = max(min(left + side, width), 0)
        found = frame[rows[inside], first_column:end_column]
        strips = _cut(found, left - first_column, 0, side, len(inside))
        sampled[:, :, torch.from_numpy(inside)] = _resized(strips, len(inside), size).float()
    upper, lower = sampled.chunk(2, dim=2)
    share = torch.from_numpy(steps - above).float().view(-1, 1)
    return upper.lerp(lower, share)


def _cut(frame: Frame, left: int, top: int, width: int, height: int) -> Frame:
    """Return a window of the frame, zeros outside it; a view if it lies inside."""
    rows, columns = frame.shape[:2]
    x0 = max(left, 0)
    x1 = max(min(left + width, columns), 0)
    y0 = max(top, 0)
    y1 = max(min(top + height, rows), 0)
    found = frame[y0:y1, x0:x1]
    if found.shape[:2] == (height, width):
        return found
    cut = np.zeros((height, width, *frame.shape[2:]), dtype=frame.dtype)
    if found.size:
        cut[y0 - top : y1 - top, x0 - left : x1 - left] = found
    return cut


def _warped(
    tir: Frame, left: int, top: int, side: int, size: int, tir_from_rgb: ArrayLike
) -> "Tensor":
    """Return the square of the colour frame as the thermal camera sees it."""
    matrix = np.asarray(tir_from_rgb, dtype=np.float64)
    if matrix.shape not in ((2,), (3, 3)):
        raise ShapeError(f"tir_from_rgb must have shape (2,) or (3, 3), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"tir_from_rgb must be finite, got {matrix.tolist()}")
    if matrix.shape == (2,):
        shift_x, shift_y = (round(number) for number in matrix.tolist())
        return _square(tir, left + shift_x, top + shift_y, side, size)
    x, y = _pixel_grid(left, top, side, size)
    columns, rows = np.meshgrid(x, y)
    u, v, w = np.tensordot(matrix, np.stack((columns, rows, np.ones_like(rows))), axes=1)
    in_front = w > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(in_front, u / w, NOWHERE)
        v = np.where(in_front, v / w, NOWHERE)
    return _sample(tir, u, v)


def _pixel_grid(
    left: int, top: int, side: int, size: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the columns and rows of the frame at which the crop's pixels have their centres."""
    steps = (np.arange(size) + 0.5) * (side / size) - 0.5
    return left + steps, top + steps


def _sample(frame: Frame, x: NDArray[np.floating], y: NDArray[np.floating]) -> "Tensor":
    """Return the frame at points, bilinearly, zeros outside: ``(1, C, size, size)``."""
    import torch
    from torch.nn.functional import grid_sample

    if x.ndim == 1:
        x, y = np.meshgrid(x, y)
    height, width = frame.shape[:2]
    x0, x1 = _span(x, width)
    y0, y1 = _span(y, height)
    part = frame[y0:y1, x0:x1]
    # grid_sample's -1 and 1 are the outer edges of the first and the last pixel
    u = (2 * (x - x0) + 1) / part.shape[1] - 1
    v = (2 * (y - y0) + 1) / part.shape[0] - 1
    points = np.stack((u, v), axis=-1).clip(-1e3, 1e3).astype(np.float32)
    return grid_sample(
        _planes(part).float(),
        torch.from_numpy(points)[None],
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )


def _span(places: NDArray[np.floating], length: int) -> tuple[int, int]:
    """Return the first pixel that sampling at ``places`` reads, and the one after the last."""
    start = int(np.clip(np.floor(places.min()), 0, length - 1))
    stop = int(np.clip(np.ceil(places.max()) + 1, 1, length))
    return start, max(stop, start + 1)


def _resized(image: Frame, height: int, width: int) -> "Tensor":
    """Return an image resized: ``(1, C, height, width)``."""
    from torch.nn.functional import interpolate

    return interpolate(_planes(image), (height, width), mode="bilinear", align_corners=False)


def _planes(image: Frame) -> "Tensor":
    """Return ``(1, C, H, W)``, uint8 for colours and float32 for all else.

    Resizing uint8 is three times as fast as resizing floats.
    """
    import torch

    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        torch_can_share_it = min(image.strides) > 0 and image.flags.writeable
        shared = image if torch_can_share_it else image.copy()
        return torch.from_numpy(shared).permute(2, 0, 1)[None]
    pixels = torch.from_numpy(image.astype(np.float32))
    if image.ndim == 2:
        return pixels[None, None]
    return pixels.permute(2, 0, 1)[None]


def _normalise(
    image: "Tensor | None", size: int, limits: tuple[float, float] | None = None
) -> "Tensor":
    """Return ``(1, 3, size, size)`` as ImageNet's networks expect it, zeros for no image."""
    import torch

    if image is None:
        return torch.zeros(1, 3, size, size)
    if limits is not None:
        image = torch.from_numpy(scale_thermal(image.numpy(), limits))
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255
    scale = 1 / (torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255)
    normalised = torch.empty(1, 3, size, size)
    return normalised.copy_(image.expand(1, 3, size, size)).sub_(mean).mul_(scale)

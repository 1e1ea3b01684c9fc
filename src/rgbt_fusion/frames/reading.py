"""Reading images of both modalities: colour, thermal of 8 or 16 bits, depth and event frames."""

from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.files.text_tables import DataError, check_regular_file
from rgbt_fusion.frames.image_header import (
    JPEG_START,
    PNG_START,
    claimed_size,
    has_whole_chunks,
    upright_size,
)
from rgbt_fusion.frames.types import Frame

__all__ = [
    "depth_to_colours",
    "image_size",
    "is_image",
    "load_cv2",
    "read_depth",
    "read_rgb",
    "read_thermal",
]

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")

FARTHEST_DEPTH_MM = 10_000
"""The farthest depth that the DeT and ViPT pipelines tell apart."""

HEADER_BYTES = 1 << 20
"""Where to look for the size of an image: metadata may stand before it."""

JPEG_END = b"\xff\xd9"

MOST_BYTES = 1 << 28
"""The largest file that is read: more than the largest image takes without compression."""

MOST_PIXELS = 1 << 26
"""The largest image that is decoded: 8,192 x 8,192 pixels, 200 MB in colour."""


def load_cv2() -> ModuleType:
    """Import OpenCV, whichever package installed it.

    Raises:
        ModuleNotFoundError: OpenCV is not installed; the message says how to install it.
    """
    try:
        import cv2
    except ImportError as error:
        raise ModuleNotFoundError(
            f"images are read with OpenCV, which cannot be imported ({error}): "
            "pip install 'rgbt-fusion[tracking]'",
            name="cv2",
        ) from None
    return cv2


def is_image(path: Path) -> bool:
    """Return whether a file is named like an image, and is no hidden file of an archive."""
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def read_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read a colour image.

    Args:
        path: the image file; grey and 16-bit images become colour images of 8 bits.

    Shape:
        - returns ``(H, W, 3)`` uint8, red first

    Raises:
        DataError: ``path`` is missing, empty, cut off, not an image, or of more than 67 million
            pixels.
        ModuleNotFoundError: OpenCV is not installed.
    """
    cv2 = load_cv2()
    return np.ascontiguousarray(_decode(path, cv2.IMREAD_COLOR)[:, :, ::-1])


def read_thermal(path: str | Path) -> Frame:
    """Read a thermal or event image as it is stored.

    Choices: nothing is scaled here. Frames of more than 8 bits are scaled when they are cropped
    (:func:`~rgbt_fusion.frames.thermal.thermal_range`). Whole numbers of 32 bits and temperatures
    become float32.

    Args:
        path: the image file.

    Shape:
        - returns ``(H, W)`` or ``(H, W, 3)``, uint8, uint16 or float32; red first, without an alpha
          channel

    Raises:
        DataError: ``path`` is missing, empty, cut off, not an image, or of another kind of numbers.
        ModuleNotFoundError: OpenCV is not installed.
    """
    cv2 = load_cv2()
    # unlike IMREAD_UNCHANGED, these flags turn an image as its EXIF orientation says, as for colour
    image = _decode(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if image.dtype in (np.int32, np.uint32, np.float64):
        image = image.astype(np.float32)
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise DataError(
            f"{path} must hold 8 or 16 bits or temperatures per channel, got {image.dtype}"
        )
    if image.ndim == 2:
        return image
    if image.shape[2] < 3:
        return np.ascontiguousarray(image[:, :, 0])
    return np.ascontiguousarray(image[:, :, 2::-1])


def read_depth(path: str | Path) -> NDArray[np.uint8]:
    """Read a depth image as colours; see :func:`depth_to_colours`.

    Args:
        path: the image file, 16 bits per pixel (millimetres); an image of 8 bits and three channels
            is taken as colours already.

    Shape:
        - returns ``(H, W, 3)`` uint8

    Raises:
        DataError: as :func:`read_thermal`.
        ModuleNotFoundError: OpenCV is not installed.
    """
    image = read_thermal(path)
    if image.ndim == 3 and image.dtype == np.uint8:
        return image.astype(np.uint8)
    return depth_to_colours(image)


def depth_to_colours(depth: Frame) -> NDArray[np.uint8]:
    r"""Turn a depth image into the colours that RGB-D trackers are trained with.

    .. math::
        d' = \min(d,\ \min(3\,\mathrm{median}(d),\ 10000)), \qquad
        \text{image} = \mathrm{JET}\left(255\,\frac{d' - \min d'}{\max d' - \min d'}\right)

    Paper and code: the channels stay in OpenCV's order, blue first, as in the code of DeT and ViPT;
    a checkpoint trained there expects them so. Where more than half of an image is empty, the
    median is that of the rest.

    Args:
        depth: the depth in millimetres; of several channels, the first is read.

    Shape:
        - depth: ``(H, W)`` or ``(H, W, C)``
        - returns ``(H, W, 3)`` uint8

    Raises:
        ModuleNotFoundError: OpenCV is not installed.

    Source:
        Yan et al., "DepthTrack", ICCV 2021 (their code, DeT); Zhu et al., "ViPT", CVPR 2023.
    """
    cv2 = load_cv2()
    plane = depth if depth.ndim == 2 else depth[:, :, 0]
    middle = float(np.median(plane))
    if middle == 0 and plane.any():
        # most of the image is empty, and the median of it all would leave a single colour
        middle = float(np.median(plane[plane > 0]))
    farthest = min(3.0 * middle, FARTHEST_DEPTH_MM)
    near = np.minimum(plane, farthest).astype(plane.dtype)
    scaled = cv2.normalize(near, None, alpha=0, beta=255, norm_type=cv2.NORM_MINMAX)
    return cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_JET)


def image_size(path: str | Path) -> tuple[int, int]:
    """Return an image's width and height, as :func:`read_rgb` returns it.

    They are read from the header of a PNG, JPEG or BMP file; others are decoded. The EXIF
    orientation of a JPEG file counts.

    Raises:
        DataError: ``path`` is missing, empty or not an image.
        ModuleNotFoundError: the image must be decoded and OpenCV is not installed.
    """
    size = upright_size(_read_bytes(path, HEADER_BYTES))
    if size is not None:
        return size
    cv2 = load_cv2()
    height, width = _decode(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR).shape[:2]
    return width, height


def _read_bytes(path: str | Path, count: int = -1) -> bytes:
    check_regular_file(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1 if count < 0 else count)
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror or error}") from None
    if not data:
        raise DataError(f"image {path} is empty")
    if len(data) > MOST_BYTES:
        raise DataError(f"image {path} must be a file of at most {MOST_BYTES >> 20} MB, got more")
    return data


def _decode(path: str | Path, flags: int) -> NDArray:
    cv2 = load_cv2()
    data = _read_bytes(path)
    if _is_cut_off(data):
        raise DataError(f"image {path} is cut off: {len(data)} bytes without an end of image")
    size = claimed_size(data)
    if size is None:
        raise DataError(
            f"image {path} cannot be decoded: it is damaged, or no PNG, JPEG, BMP, TIFF, WebP, PGM "
            "or PPM file"
        )
    width, height = size
    if width * height > MOST_PIXELS:
        raise DataError(
            f"image {path} must have at most {MOST_PIXELS} pixels, got {width} x {height}"
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"image {path} cannot be decoded: {error.err}") from None
    if image is None:
        raise DataError(f"image {path} cannot be decoded: it is no image, or damaged")
    return image


def _is_cut_off(data: bytes) -> bool:
    """Return whether the end is missing: OpenCV fills the rest with grey and says nothing."""
    end = data[-4096:]
    if data.startswith(JPEG_START):
        return JPEG_END not in end
    if data.startswith(PNG_START[:4]):
        return not has_whole_chunks(data)
    return False

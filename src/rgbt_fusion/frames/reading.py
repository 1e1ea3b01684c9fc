"""Reading the images of both modalities: colour, thermal of 8 or 16 bits, depth and event
frames."""

import struct
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.files.text_tables import DataError

__all__ = ["depth_to_colours", "image_size", "load_cv2", "read_depth", "read_rgb", "read_thermal"]

_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# the farthest depth, in millimetres, that the DeT and ViPT pipelines tell apart
_FARTHEST = 10_000


def load_cv2() -> ModuleType:
    """Import OpenCV, whichever package installed it.

    Raises:
        ModuleNotFoundError: OpenCV is not installed; the message says how to install it.
    """
    try:
        import cv2
    except ImportError as error:
        raise ModuleNotFoundError(
            f"images are read with OpenCV, which cannot be imported ({error}): pip install 'rgbt-fusion[tracking]'",
            name="cv2",
        ) from None
    return cv2


def is_image(path: Path) -> bool:
    """Return whether a file's name is that of an image, the hidden files of archives aside."""
    return path.suffix.lower() in _IMAGE_ENDINGS and not path.name.startswith(".")


def read_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read a colour image.

    Args:
        path: the image file; grey and 16-bit images become colour images of 8 bits.

    Shape:
        ``(H, W, 3)`` uint8, red first.

    Raises:
        DataError: the file is missing, empty, cut off, or no image.
        ModuleNotFoundError: OpenCV is not installed.
    """
    cv2 = load_cv2()
    return np.ascontiguousarray(_decode(path, cv2.IMREAD_COLOR)[:, :, ::-1])


def read_thermal(path: str | Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a thermal or event image as it is stored.

    Where the paper is silent: nothing is scaled here; 16 bits are scaled where frames are cropped,
    by percentiles 1 and 99 of the sequence's first frame (see
    :func:`~rgbt_fusion.frames.thermal.thermal_range`).

    Args:
        path: the image file.

    Shape:
        ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16; red first, an alpha channel is dropped.

    Raises:
        DataError: the file is missing, empty, cut off, no image, or of another depth.
        ModuleNotFoundError: OpenCV is not installed.
    """
    cv2 = load_cv2()
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} must hold 8 or 16 bits a channel, got {image.dtype}")
    if image.ndim == 2:
        return image
    if image.shape[2] < 3:
        return np.ascontiguousarray(image[:, :, 0])
    return np.ascontiguousarray(image[:, :, 2::-1])


def read_depth(path: str | Path) -> NDArray[np.uint8]:
    """Read a depth image and paint it, see :func:`depth_to_colours`.

    Args:
        path: the image file, 16 bits a pixel (millimetres); images of 8 bits and three channels are
            taken for painted ones.

    Shape:
        ``(H, W, 3)`` uint8.

    Raises:
        DataError: as :func:`read_thermal`.
        ModuleNotFoundError: OpenCV is not installed.
    """
    image = read_thermal(path)
    return (
        image.astype(np.uint8)
        if image.ndim == 3 and image.dtype == np.uint8
        else depth_to_colours(image)
    )


def depth_to_colours(depth: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    r"""Paint a depth image in the colours that RGB-D trackers are trained with.

    .. math::
        d' = \min(d,\ \min(3\,\mathrm{median}(d),\ 10000)), \qquad
        \text{image} = \mathrm{JET}\left(255\,\frac{d' - \min d'}{\max d' - \min d'}\right)

    Where the paper is silent: the channels stay in OpenCV's order, blue first, as in DeT and ViPT;
    a checkpoint trained there expects them so.

    Args:
        depth: the depth in millimetres; of several channels, the first.

    Shape:
        ``(H, W)`` or ``(H, W, C)`` to ``(H, W, 3)`` uint8.

    Raises:
        ModuleNotFoundError: OpenCV is not installed.

    Source:
        Yan et al., "DepthTrack", ICCV 2021 (their code, DeT); Zhu et al., "ViPT", CVPR 2023.
    """
    cv2 = load_cv2()
    plane = depth if depth.ndim == 2 else depth[:, :, 0]
    near = np.minimum(plane, min(3.0 * float(np.median(plane)), _FARTHEST)).astype(plane.dtype)
    scaled = cv2.normalize(near, None, alpha=0, beta=255, norm_type=cv2.NORM_MINMAX)
    return cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_JET)


def image_size(path: str | Path) -> tuple[int, int]:
    """Return an image's width and height from its header (PNG, JPEG, BMP), or by decoding it
    (others).

    Raises:
        DataError: the file is missing, empty or no image.
        ModuleNotFoundError: the header is none of these and OpenCV is not installed.
    """
    head = _read_bytes(path, 1 << 20)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        return struct.unpack_from(">II", head, 16)
    if head[:2] == b"BM" and len(head) >= 26:
        width, height = struct.unpack_from("<ii", head, 18)
        return width, abs(height)
    size = _jpeg_size(head) if head[:2] == b"\xff\xd8" else None
    if size is None:
        height, width = _decode(path, load_cv2().IMREAD_UNCHANGED).shape[:2]
        size = (width, height)
    return size


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], struct.unpack_from(">H", head, at + 2)[0]
        # the frame headers are C0 to CF, but for the tables C4, C8 and CC
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        at += 2 + length
    return None


def _read_bytes(path: str | Path, count: int = -1) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(count)
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror or error}") from None
    if not data:
        raise DataError(f"image {path} is empty")
    return data


def _decode(path: str | Path, flags: int) -> NDArray:
    cv2 = load_cv2()
    data = _read_bytes(path)
    # OpenCV fills what is missing of a cut-off image with grey and says nothing
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:]:
        raise DataError(f"image {path} is cut off: {len(data)} bytes without an end of image")
    if data[:4] == b"\x89PNG" and b"IEND" not in data[-4096:]:
        raise DataError(f"image {path} is cut off: {len(data)} bytes without an end of image")
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"image {path} cannot be decoded: {error.err}") from None
    if image is None:
        raise DataError(f"image {path} cannot be decoded: it is no image, or damaged")
    return image

"""Boxes drawn on both modalities side by side, and the video file that the pictures go to."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.annotations import DataError
from rgbt_fusion.data.images import load_cv2
from rgbt_fusion.tracking.crop import Frame, scale_thermal, thermal_range

__all__ = ["COLOURS", "VIDEO_CODES", "Mark", "Picture", "VideoFile", "draw_overlay", "write_text", "writing_video"]

Picture = NDArray[np.uint8]
"""``(H, W, 3)``, red first."""

COLOURS = ((255, 70, 60), (70, 200, 255), (255, 200, 40), (200, 120, 255), (120, 255, 120), (255, 140, 220))
"""One for each track, in this order: the tracker's own first."""

TRUTH_COLOUR = (255, 255, 255)

HEADER = 26
"""Pixels above the frames for the names of what is drawn."""

VIDEO_CODES = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}
"""What a video file of each ending is encoded with."""


class Mark(NamedTuple):
    """A box to draw."""

    box_xywh_px: ArrayLike
    label: str
    colour: tuple[int, int, int]
    dashed: bool = False
    """Whether the target counts as lost there."""


def draw_overlay(
    rgb: Frame | None,
    tir: Frame | None,
    marks: Sequence[Mark] = (),
    *,
    text: str = "",
    tir_range: tuple[float, float] | None = None,
    tir_from_rgb: ArrayLike | None = None,
) -> Picture:
    """Draw both modalities side by side, of equal height, with the same boxes on both.

    Args:
        rgb: the colour frame; where it is missing, its place says so.
        tir: the thermal frame.
        marks: the boxes, in the colour frame; their labels are listed above. One that is not finite is left out.
        text: what to write above the frames.
        tir_range: the 16-bit values that become black and white; None takes percentiles 1 and 99 of this frame.
        tir_from_rgb: the offset or homography between the cameras, as for the tracker.

    Shape:
        ``(H, W, 3)`` and ``(H, W)`` or ``(H, W, 3)`` to ``(H', W', 3)`` uint8, with even sides for a video.

    Raises:
        ValueError: both frames are missing.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.video.overlay import COLOURS, Mark, draw_overlay
        >>> frame = np.zeros((120, 160, 3), dtype=np.uint8)
        >>> draw_overlay(frame, None, [Mark((40, 30, 50, 60), "mine", COLOURS[0])]).shape
        (266, 640, 3)
    """
    given = rgb if rgb is not None else tir
    if given is None:
        raise ValueError("rgb and tir must not both be missing, got None and None")
    height = _drawn_height(given.shape[0])
    colour = _panel(rgb, given, height, "no RGB")
    thermal = _panel(None if tir is None else eight_bits(tir, tir_range), given, height, "no TIR")
    scale_rgb = height / given.shape[0]
    scale_tir = scale_rgb if tir is None else height / tir.shape[0]
    for mark in marks:
        corners = _corners(mark.box_xywh_px)
        if not np.isfinite(corners).all():
            continue
        _draw_outline(colour, corners * scale_rgb, mark)
        _draw_outline(thermal, _moved(corners, tir_from_rgb) * scale_tir, mark)
    picture = np.concatenate((colour, thermal), axis=1)
    return np.concatenate((_header(picture.shape[1], text, marks), picture))


def write_text(picture: Picture, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a line that can be read on any ground; ``place`` is its lower left corner."""
    cv2 = load_cv2()
    for ink, thickness in (((0, 0, 0), 3), (colour, 1)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, thickness, cv2.LINE_AA)


def eight_bits(frame: Frame, limits: tuple[float, float] | None = None) -> Picture:
    """Return a frame of either modality as a picture; 16 bits are scaled by ``limits``."""
    if frame.dtype == np.uint16:
        frame = scale_thermal(frame, limits or thermal_range(frame)).astype(np.uint8)
    plane = frame if frame.ndim == 3 else frame[:, :, None]
    return np.ascontiguousarray(np.repeat(plane, 3, axis=2) if plane.shape[2] == 1 else plane, dtype=np.uint8)


def resize(picture: Picture, width: int, height: int) -> Picture:
    """Return the picture in another size."""
    cv2 = load_cv2()
    smaller = width < picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _header(width: int, text: str, marks: Sequence[Mark]) -> Picture:
    cv2 = load_cv2()
    header, left = np.full((HEADER, width, 3), 20, dtype=np.uint8), 8
    words = [(text, (255, 255, 255))] if text else []
    for word, ink in [*words, *((mark.label, mark.colour) for mark in marks if mark.label)]:
        write_text(header, word, (left, HEADER - 8), ink)
        left += cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] + 16
    return header


def _drawn_height(height: int) -> int:
    # small frames are enlarged so that labels can be read, and an odd side cannot be encoded
    enlarged = height * -(-240 // height)
    return min(enlarged, 720) // 2 * 2


def _panel(frame: Frame | None, like: Frame, height: int, missing: str) -> Picture:
    source = like if frame is None else frame
    width = max(2, round(source.shape[1] * height / source.shape[0]) // 2 * 2)
    if frame is not None:
        return resize(eight_bits(frame), width, height).copy()
    panel = np.full((height, width, 3), 30, dtype=np.uint8)
    write_text(panel, missing, (width // 2 - 26, height // 2), (150, 150, 150))
    return panel


def _corners(box_xywh_px: ArrayLike) -> NDArray[np.float64]:
    x, y, width, height = np.asarray(box_xywh_px, dtype=np.float64)
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def _moved(corners: NDArray[np.float64], tir_from_rgb: ArrayLike | None) -> NDArray[np.float64]:
    if tir_from_rgb is None:
        return corners
    matrix = np.asarray(tir_from_rgb, dtype=np.float64)
    if matrix.shape == (2,):
        return corners + matrix
    moved = np.column_stack((corners, np.ones(4))) @ matrix.T
    return moved[:, :2] / np.maximum(moved[:, 2:], 1e-9)


def _draw_outline(panel: Picture, corners: NDArray[np.float64], mark: Mark) -> None:
    cv2 = load_cv2()
    # OpenCV draws with 32-bit integers
    points = np.clip(corners, -1e4, 1e4)
    for ink, thickness in (((0, 0, 0), 4), (mark.colour, 2)):
        for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
            for low, high in _pieces(float(np.hypot(*(end - start))), mark.dashed):
                one, other = (np.rint(start + (end - start) * share).astype(int).tolist() for share in (low, high))
                cv2.line(panel, one, other, ink, thickness, cv2.LINE_AA)


def _pieces(length: float, dashed: bool) -> list[tuple[float, float]]:
    """Return the parts of a line that are drawn."""
    count = max(1, min(int(length / 14), 200))
    return [(k / count, (k + 0.5) / count) for k in range(count)] if dashed else [(0.0, 1.0)]


class VideoFile:
    """A video that is written beside its place and moved there when it is whole; see :func:`writing_video`."""

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path, self.fps = Path(path), fps
        check_choice(self.path.suffix.lower(), VIDEO_CODES, name="the ending of the video")
        self.beside = self.path.with_name(f".{self.path.stem}.part{self.path.suffix}")
        self._writer: Any = None
        self._size = (0, 0)
        self._written = 0

    def write(self, picture: Picture) -> None:
        """Append a picture; the first one's size is the video's."""
        cv2 = load_cv2()
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            code = cv2.VideoWriter.fourcc(*VIDEO_CODES[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self.beside), code, self.fps, self._size)
            if not self._writer.isOpened():
                raise DataError(f"{self.path} cannot be written: OpenCV cannot open it")
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = resize(picture, *self._size)
        self._writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
        self._written += 1

    def close(self, *, whole: bool) -> None:
        """Move the video to its place, or throw it away where it is not whole."""
        if self._writer is not None:
            self._writer.release()
        try:
            if whole and self._writer is not None:
                self._check()
                self.beside.replace(self.path)
        finally:
            self.beside.unlink(missing_ok=True)

    def _check(self) -> None:
        """Raise where the file does not hold what was written: OpenCV says nothing of a full disk."""
        cv2 = load_cv2()
        capture = cv2.VideoCapture(str(self.beside))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        # the count of a container is an estimate, but the file of a full disk lacks its end or its index
        if found < self._written - 1:
            raise DataError(f"{self.path} cannot be written: {found} of {self._written} pictures arrived on the disk")


@contextlib.contextmanager
def writing_video(path: str | Path, *, fps: float = 25.0) -> Iterator[VideoFile]:
    """Write a video that appears at ``path`` only when it is whole.

    Args:
        path: the file; its ending, one of ``VIDEO_CODES``, says how it is encoded.
        fps: pictures a second.

    Raises:
        ValueError: another ending.
        DataError: the file cannot be written.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from rgbt_fusion.video.overlay import writing_video
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "grey.avi"
        >>> with writing_video(path) as video:
        ...     video.write(np.full((48, 64, 3), 128, dtype=np.uint8))
        ...     path.exists()
        False
        >>> path.exists()
        True
    """
    load_cv2()
    video = VideoFile(path, fps)
    try:
        yield video
    except BaseException:
        video.close(whole=False)
        raise
    video.close(whole=True)

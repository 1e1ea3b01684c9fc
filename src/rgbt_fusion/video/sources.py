"""Pairs of frames from whatever shows both modalities: videos, folders, cameras, sequences of a
dataset."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.data.checking import guess_layout
from rgbt_fusion.data.sequences import list_images, open_sequence
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.reading import load_cv2, read_rgb, read_thermal
from rgbt_fusion.frames.types import FramePair, GroundTruth

__all__ = ["ARRANGEMENTS", "Source", "open_source"]

ARRANGEMENTS = ("rgb-left", "rgb-right", "rgb-top", "rgb-bottom", "rgb-only", "tir-only")
"""Where the colour image is in the frames of a single video."""


@dataclass(frozen=True)
class Source:
    """Pairs of frames, to be looped over; a camera's only once."""

    name: str
    length: int | None
    """How many pairs there are, as far as that is known: not for cameras."""
    fps: float | None
    """How many a second, where that is known."""
    truth: GroundTruth | None
    """The annotation, of a dataset's sequence."""
    frames: Callable[[], Iterator[FramePair]]

    def __iter__(self) -> Iterator[FramePair]:
        return self.frames()


def open_source(
    rgb: str | Path,
    tir: str | Path | None = None,
    *,
    arrangement: str = "rgb-left",
    layout: str = "auto",
    frames: int | None = None,
) -> Source:
    """Open two videos, two folders of images, two cameras, one video that shows both, or a sequence
    of a dataset.

    Frames are paired by position. Images are sorted naturally, whatever their names; cameras are
    asked for a frame both before either frame is decoded.

    Where the paper is silent: two recordings must be equally long; ``frames`` leaves out what one
    has too many at the end.

    Args:
        rgb: the colour video, folder of images or camera (its number or its address,
            ``rtsp://...``); alone, a video with both modalities in each frame, or the folder of a
            sequence.
        tir: the same of the thermal images.
        arrangement: one of ``ARRANGEMENTS``, for a single video.
        layout: a key of ``LAYOUTS``, for the folder of a sequence; ``"auto"`` finds it out.
        frames: take only so many.

    Raises:
        DataError: something is missing, empty or no video, or the two are not equally long. When a
            video turns out to be cut off, the loop raises it.
        ValueError: ``arrangement``, ``layout`` or ``frames`` is none of these.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.video.sources import open_source
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("colour", "heat"):
        ...     (root / name).mkdir()
        ...     for number in (1, 2, 10):
        ...         _ = (root / name / f"{number}.pgm").write_bytes(b"P5 4 3 255 " + bytes(12))
        >>> source = open_source(root / "colour", root / "heat", frames=2)
        >>> source.length, [rgb.shape for rgb, tir in source]
        (2, [(3, 4, 3), (3, 4, 3)])
    """
    check_choice(arrangement, ARRANGEMENTS, name="arrangement")
    if frames is not None:
        check_positive_int(frames, name="frames")
    if tir is None and Path(rgb).is_dir():
        return _sequence(rgb, layout, frames)
    first = _stream(rgb, "rgb", read_rgb)
    if tir is None:
        return _single(first, arrangement, frames)
    return _pair(first, _stream(tir, "tir", read_thermal), frames)


class _Stream(Protocol):
    """One row of images. ``open`` starts it; ``grab`` says whether there is another; ``retrieve``
    decodes it."""

    name: str
    length: int | None
    fps: float | None

    def open(self, stack: ExitStack) -> "_Reader": ...


class _Reader(Protocol):
    def grab(self) -> bool: ...

    def retrieve(self) -> NDArray[Any]: ...


class _Images:
    fps: float | None = None

    def __init__(self, folder: Path, read: Callable[[Path], NDArray[Any]]) -> None:
        self.name, self.paths, self.read = str(folder), list_images(folder, (".",)), read
        self.length: int | None = len(self.paths)

    def open(self, stack: ExitStack) -> "_ImageReader":
        return _ImageReader(self.paths, self.read)


class _ImageReader:
    def __init__(self, paths: Iterable[Path], read: Callable[[Path], NDArray[Any]]) -> None:
        self.paths, self.read = iter(paths), read
        self.path: Path | None = None

    def grab(self) -> bool:
        self.path = next(self.paths, None)
        return self.path is not None

    def retrieve(self) -> NDArray[Any]:
        if self.path is None:
            raise IndexError("there is no image left")
        return self.read(self.path)


class _Video:
    """A video file, or a camera, which has no length."""

    def __init__(self, place: str | int, name: str) -> None:
        self.place, self.name = place, name
        cv2 = load_cv2()
        with ExitStack() as stack:
            capture = _capture(place, name, stack)
            # what a camera has counted, or a container does not know, is 0 or negative
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            fps = float(capture.get(cv2.CAP_PROP_FPS))
        live = isinstance(place, int) or "://" in place
        self.length: int | None = count if count > 0 and not live else None
        self.fps: float | None = fps if 0 < fps < 1000 else None

    def open(self, stack: ExitStack) -> "_VideoReader":
        return _VideoReader(_capture(self.place, self.name, stack), self)


class _VideoReader:
    def __init__(self, capture: Any, video: _Video) -> None:
        self.capture, self.video, self.taken = capture, video, 0

    def grab(self) -> bool:
        if self.capture.grab():
            self.taken += 1
            return True
        length = self.video.length or 0
        # the count of a container is an estimate
        if length - self.taken > max(2, length // 50):
            raise DataError(
                f"{self.video.name} is cut off: it ends after {self.taken} of {length} frames"
            )
        return False

    def retrieve(self) -> NDArray[np.uint8]:
        found, image = self.capture.retrieve()
        if not found:
            raise DataError(f"{self.video.name} is damaged: frame {self.taken} cannot be decoded")
        return (
            np.ascontiguousarray(image[:, :, ::-1])
            if image.ndim == 3
            else np.repeat(image[:, :, None], 3, axis=2)
        )


def _capture(place: str | int, name: str, stack: ExitStack) -> Any:
    cv2 = load_cv2()
    before = cv2.utils.logging.getLogLevel()
    # what cannot be opened is said below, once
    cv2.utils.logging.setLogLevel(0)
    try:
        capture = cv2.VideoCapture(place)
    finally:
        cv2.utils.logging.setLogLevel(before)
    stack.callback(capture.release)
    if not capture.isOpened():
        kind = "camera" if isinstance(place, int) or "://" in place else "video"
        raise DataError(f"{name} must be a {kind} that OpenCV can read, but cannot be opened")
    return capture


def _stream(place: str | Path, argument: str, read: Callable[[Path], NDArray[Any]]) -> _Stream:
    text = str(place)
    if text.isdecimal() and not Path(text).exists():
        return _Video(int(text), f"camera {text}")
    if "://" in text:
        return _Video(text, text)
    path = Path(place)
    if path.is_dir():
        return _Images(path, read)
    if not path.is_file():
        raise DataError(
            f"{argument} must be a video, a folder of images or a camera, but {text} does not exist"
        )
    return _Video(text, text)


def _pair(rgb: _Stream, tir: _Stream, frames: int | None) -> Source:
    lengths = rgb.length, tir.length
    known = [length for length in lengths if length is not None]
    enough = frames is not None and all(length >= frames for length in known)
    if len(set(known)) > 1 and not enough:
        raise DataError(
            f"rgb and tir must have as many frames, got {lengths[0]} in {rgb.name} and {lengths[1]} in {tir.name}; "
            f"frames = {min(known)} takes the first of both"
        )

    def read() -> Iterator[FramePair]:
        with ExitStack() as stack:
            colour, thermal = rgb.open(stack), tir.open(stack)
            count = 0
            while frames is None or count < frames:
                # both at once, before the time that decoding takes
                more = colour.grab(), thermal.grab()
                if more[0] != more[1]:
                    ended = rgb.name if not more[0] else tir.name
                    raise DataError(
                        f"rgb and tir must have as many frames, but {ended} ends after {count}"
                    )
                if not more[0]:
                    return
                yield FramePair(colour.retrieve(), thermal.retrieve())
                count += 1

    return Source(
        _name(rgb.name), _length(min(known, default=None), frames), rgb.fps or tir.fps, None, read
    )


def _single(video: _Stream, arrangement: str, frames: int | None) -> Source:
    def read() -> Iterator[FramePair]:
        with ExitStack() as stack:
            reader = video.open(stack)
            count = 0
            while (frames is None or count < frames) and reader.grab():
                yield _split(reader.retrieve(), arrangement, video.name)
                count += 1

    return Source(_name(video.name), _length(video.length, frames), video.fps, None, read)


def _split(image: NDArray[np.uint8], arrangement: str, name: str) -> FramePair:
    if arrangement == "rgb-only":
        return FramePair(image, None)
    if arrangement == "tir-only":
        return FramePair(None, image)
    beside = arrangement in ("rgb-left", "rgb-right")
    side = image.shape[1] if beside else image.shape[0]
    if side % 2:
        raise DataError(
            f"{name} must be even in {'width' if beside else 'height'} to hold two images, got {side}"
        )
    halves = image[:, : side // 2], image[:, side // 2 :]
    if not beside:
        halves = image[: side // 2], image[side // 2 :]
    rgb, tir = halves if arrangement in ("rgb-left", "rgb-top") else halves[::-1]
    return FramePair(np.ascontiguousarray(rgb), np.ascontiguousarray(tir))


def _sequence(folder: str | Path, layout: str, frames: int | None) -> Source:
    sequence = open_sequence(folder, guess_layout(folder) if layout == "auto" else layout)
    length = _length(len(sequence), frames)
    return Source(sequence.name, length, None, sequence.truth, lambda: islice(sequence, length))


def _length(length: int | None, frames: int | None) -> int | None:
    return length if frames is None else frames if length is None else min(length, frames)


def _name(place: str) -> str:
    return Path(place).stem or place

"""Pairs of frames from videos, folders of images, cameras and sequences of a dataset."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.data.checking import guess_layout
from rgbt_fusion.data.sequences import list_images, open_sequence
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.reading import load_cv2, read_rgb, read_thermal
from rgbt_fusion.frames.types import FramePair, GroundTruth

__all__ = ["ARRANGEMENTS", "Arrangement", "Source", "open_source"]

Arrangement: TypeAlias = Literal[
    "rgb-left", "rgb-right", "rgb-top", "rgb-bottom", "rgb-only", "tir-only"
]
"""Where the colour image is in the frames of a single video."""

ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
"""How one picture holds both modalities."""

HIGHEST_FPS = 1000
"""Some containers give absurd rates; they count as unknown."""


@dataclass(frozen=True)
class Source:
    """Pairs of frames to loop over; a camera can be looped over only once."""

    name: str
    length: int | None
    """Number of pairs; None if it is not known, as for cameras."""
    fps: float | None
    """Pairs per second; None if it is not known."""
    truth: GroundTruth | None
    """The annotation, if this is a sequence of a dataset that has one."""
    frames: Callable[[], Iterator[FramePair]]
    """Starts from the first pair at every call."""

    def __iter__(self) -> Iterator[FramePair]:
        return self.frames()


def open_source(
    rgb: str | Path,
    tir: str | Path | None = None,
    *,
    arrangement: Arrangement = "rgb-left",
    layout: str = "auto",
    frames: int | None = None,
) -> Source:
    """Open pairs of frames from wherever both modalities are.

    This may be two videos, two folders of images, two cameras, one video that shows both
    modalities, or a sequence of a dataset. Frames are paired by position. Images are sorted
    naturally, whatever their names. Both cameras are asked for a frame before either frame is
    decoded.

    Choices: two recordings must be equally long. ``frames`` cuts off what one has more than the
    other.

    Args:
        rgb: the colour video, folder of images or camera (its number, or its address
            ``rtsp://...``); without ``tir``, a video that shows both modalities in each frame, or
            the folder of a sequence.
        tir: the thermal video, folder of images or camera.
        arrangement: where the colour image is in the frames of a single video.
        layout: a key of ``LAYOUTS`` for the folder of a sequence; ``"auto"`` guesses it.
        frames: stop after this many pairs; None takes all.

    Raises:
        DataError: ``rgb`` or ``tir`` is missing, empty or not a video, or one is longer than the
            other. A video that turns out to be cut off raises it inside the loop.
        ValueError: ``arrangement``, ``layout`` or ``frames`` is not a valid choice.
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
    colour = _stream(rgb, "rgb", read_rgb)
    if tir is None:
        return _single(colour, arrangement, frames)
    thermal = _stream(tir, "tir", read_thermal)
    return _pair(colour, thermal, frames)


class _Reader(Protocol):
    """Images one after another: ``grab`` moves to the next one, ``retrieve`` decodes it.

    Two cameras are both grabbed before either image is decoded, so that decoding takes no time
    between them.
    """

    def grab(self) -> bool: ...

    def retrieve(self) -> NDArray[Any]: ...


class _Stream(Protocol):
    """A row of images that can be read; ``stack`` closes the reader."""

    name: str
    length: int | None
    fps: float | None

    def open(self, stack: ExitStack) -> _Reader: ...


class _ImageFolder:
    fps: float | None = None

    def __init__(self, folder: Path, read: Callable[[Path], NDArray[Any]]) -> None:
        self.name = str(folder)
        self.paths = list_images(folder, (".",))
        self.read = read
        self.length: int | None = len(self.paths)

    def open(self, stack: ExitStack) -> "_ImageReader":
        return _ImageReader(self.paths, self.read)


class _ImageReader:
    def __init__(self, paths: Iterable[Path], read: Callable[[Path], NDArray[Any]]) -> None:
        self.paths = iter(paths)
        self.read = read
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
        self.place = place
        self.name = name
        cv2 = load_cv2()
        with ExitStack() as stack:
            capture = _capture(place, name, stack)
            # 0 or negative if the container does not know it
            frame_count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            fps = float(capture.get(cv2.CAP_PROP_FPS))
        self.length: int | None = None
        if frame_count > 0 and not _is_camera(place):
            self.length = frame_count
        self.fps: float | None = fps if 0 < fps < HIGHEST_FPS else None

    def open(self, stack: ExitStack) -> "_VideoReader":
        return _VideoReader(_capture(self.place, self.name, stack), self)


class _VideoReader:
    def __init__(self, capture: Any, video: _Video) -> None:
        self.capture = capture
        self.video = video
        self.taken = 0

    def grab(self) -> bool:
        if self.capture.grab():
            self.taken += 1
            return True
        length = self.video.length or 0
        # a container only estimates its count
        tolerance = max(2, length // 50)
        if length - self.taken > tolerance:
            raise DataError(
                f"{self.video.name} is cut off: it ends after {self.taken} of {length} frames"
            )
        return False

    def retrieve(self) -> NDArray[np.uint8]:
        found, image = self.capture.retrieve()
        if not found:
            raise DataError(f"{self.video.name} is damaged: frame {self.taken} cannot be decoded")
        if image.ndim == 2:
            return np.repeat(image[:, :, None], 3, axis=2)
        red_first = image[:, :, ::-1]
        return np.ascontiguousarray(red_first)


def _is_camera(place: str | int) -> bool:
    return isinstance(place, int) or "://" in place


def _capture(place: str | int, name: str, stack: ExitStack) -> Any:
    """Open a video or a camera with OpenCV; ``stack`` closes it."""
    cv2 = load_cv2()
    level = cv2.utils.logging.getLogLevel()
    # OpenCV would print what the error below says
    cv2.utils.logging.setLogLevel(0)
    try:
        capture = cv2.VideoCapture(place)
    finally:
        cv2.utils.logging.setLogLevel(level)
    stack.callback(capture.release)
    if not capture.isOpened():
        kind = "camera" if _is_camera(place) else "video"
        raise DataError(f"{name} must be a {kind} that OpenCV can read, but cannot be opened")
    return capture


def _stream(place: str | Path, argument: str, read: Callable[[Path], NDArray[Any]]) -> _Stream:
    """Return the folder of images, the video or the camera at ``place``."""
    text = str(place)
    path = Path(place)
    if text.isdecimal() and not path.exists():
        return _Video(int(text), f"camera {text}")
    if "://" in text:
        return _Video(text, text)
    if path.is_dir():
        return _ImageFolder(path, read)
    if not path.is_file():
        raise DataError(
            f"{argument} must be a video, a folder of images or a camera, but {text} does not exist"
        )
    return _Video(text, text)


def _pair(rgb: _Stream, tir: _Stream, frames: int | None) -> Source:
    """Return a source of two streams that are equally long."""
    known = [length for length in (rgb.length, tir.length) if length is not None]
    shortest = min(known, default=None)
    longest = max(known, default=None)
    both_reach_the_end = frames is not None and (shortest is None or shortest >= frames)
    if shortest != longest and not both_reach_the_end:
        raise DataError(
            f"rgb and tir must have as many frames, got {rgb.length} in {rgb.name} and "
            f"{tir.length} in {tir.name}; frames = {shortest} takes the first of both"
        )

    def read() -> Iterator[FramePair]:
        with ExitStack() as stack:
            colour = rgb.open(stack)
            thermal = tir.open(stack)
            for number in _first(frames):
                has_rgb = colour.grab()
                has_tir = thermal.grab()
                if has_rgb != has_tir:
                    ended = tir.name if has_rgb else rgb.name
                    raise DataError(
                        f"rgb and tir must have as many frames, but {ended} ends after {number}"
                    )
                if not has_rgb:
                    return
                yield FramePair(colour.retrieve(), thermal.retrieve())

    length = _shorter(shortest, frames)
    return Source(_name(rgb.name), length, rgb.fps or tir.fps, None, read)


def _single(video: _Stream, arrangement: Arrangement, frames: int | None) -> Source:
    """Return a source of one video that shows both modalities, or one of them."""

    def read() -> Iterator[FramePair]:
        with ExitStack() as stack:
            reader = video.open(stack)
            for _ in _first(frames):
                if not reader.grab():
                    return
                yield _split(reader.retrieve(), arrangement, video.name)

    return Source(_name(video.name), _shorter(video.length, frames), video.fps, None, read)


def _split(image: NDArray[np.uint8], arrangement: Arrangement, name: str) -> FramePair:
    """Return the two modalities that one image shows."""
    if arrangement == "rgb-only":
        return FramePair(image, None)
    if arrangement == "tir-only":
        return FramePair(None, image)
    height, width = image.shape[:2]
    if arrangement in ("rgb-left", "rgb-right"):
        _check_even(width, "width", name)
        first = image[:, : width // 2]
        second = image[:, width // 2 :]
    else:
        _check_even(height, "height", name)
        first = image[: height // 2]
        second = image[height // 2 :]
    if arrangement in ("rgb-left", "rgb-top"):
        rgb, tir = first, second
    else:
        rgb, tir = second, first
    return FramePair(np.ascontiguousarray(rgb), np.ascontiguousarray(tir))


def _check_even(length: int, side: str, name: str) -> None:
    if length % 2:
        raise DataError(f"{name} must be even in {side} to hold two images, got {length}")


def _sequence(folder: str | Path, layout: str, frames: int | None) -> Source:
    """Return a sequence of a dataset as a source."""
    if layout == "auto":
        layout = guess_layout(folder)
    sequence = open_sequence(folder, layout)
    length = _shorter(len(sequence), frames)
    return Source(sequence.name, length, None, sequence.truth, lambda: islice(sequence, length))


def _first(frames: int | None) -> Iterable[int]:
    """Return the numbers of the frames to take."""
    return count() if frames is None else range(frames)


def _shorter(length: int | None, frames: int | None) -> int | None:
    """Return the smaller of two lengths, of which None is not known."""
    if length is None:
        return frames
    if frames is None:
        return length
    return min(length, frames)


def _name(place: str) -> str:
    return Path(place).stem or place

"""Pairs of frames from videos, folders of images, cameras and sequences of a dataset."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int
from rgbt_fusion.data.checking import guess_layout
from rgbt_fusion.data.folders import holds_images
from rgbt_fusion.data.frame_numbers import pairing_notices
from rgbt_fusion.data.sequences import SequenceModality, list_images, open_sequence
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.reading import load_cv2, read_rgb, read_thermal
from rgbt_fusion.frames.types import Frame, FramePair, GroundTruth

__all__ = ["ARRANGEMENTS", "Arrangement", "Source", "open_source"]

Arrangement: TypeAlias = Literal[
    "rgb-left", "rgb-right", "rgb-top", "rgb-bottom", "rgb-only", "tir-only"
]
"""What the pictures of a single source show: both modalities, with the place of colour, or one."""

ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
"""How one picture holds both modalities."""

HIGHEST_FPS = 1000
"""Some containers give absurd rates; they count as unknown."""

ALIKE_FPS = 0.01
"""Frame rates that differ by less than this share are the same: 29.97 and 30."""

UNTOLD_16_BITS = (b"RGB\x0f", b"RGB\x10")
"""FFmpeg's pixel formats for raw pixels of 16 bits that nothing describes: 5 bits a colour."""

REOPEN_AFTER_S = 2.0
"""How long to wait before a camera that stopped is opened again."""


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
    notices: list[str] = field(default_factory=list)
    """What is odd about it. A loop over the frames adds what it meets, such as an early end."""
    live: bool = False
    """Whether it comes from a camera, which has no end of its own."""

    def __iter__(self) -> Iterator[FramePair]:
        return self.frames()


def open_source(
    rgb: str | Path,
    tir: str | Path | None = None,
    *,
    arrangement: Arrangement | None = None,
    layout: str = "auto",
    frames: int | None = None,
    delay: float = 0.0,
) -> Source:
    """Open pairs of frames from wherever both modalities are.

    This may be two videos, two folders of images, two cameras, one source whose pictures show both
    modalities or one of them, or a sequence of a dataset. Images are sorted naturally. Frames are
    paired by position; two videos of different frame rates, or with a ``delay``, are paired by
    their time stamps, one pair per colour frame.

    Choices: two recordings of which the number of frames is stored must be equally long, unless
    they are paired by time. ``frames`` cuts off what one has more than the other. A container that
    only estimates its number of frames is read until it ends. A video that stops early, and a
    camera that stops, end the loop or go on with the other camera, and ``notices`` says so.

    Args:
        rgb: the colour video, folder of images or camera (its number, or its address
            ``rtsp://...``); without ``tir``, one source for both, or the folder of a sequence.
        tir: the thermal video, folder of images or camera.
        arrangement: what the pictures of a single source show; it must be given for a single
            video, camera or folder of images. For the folder of a sequence it may be
            ``"rgb-only"`` or ``"tir-only"``.
        layout: a key of ``LAYOUTS`` for the folder of a sequence; ``"auto"`` guesses it.
        frames: stop after this many pairs; None takes all.
        delay: how many seconds the thermal video is behind: it shows at ``t + delay`` what the
            colour video shows at ``t``.

    Raises:
        DataError: ``rgb`` or ``tir`` is missing, empty or not a video, one is longer than the
            other, or ``tir`` is a video whose values of more than 8 bits cannot be read.
        ValueError: ``arrangement``, ``layout``, ``frames`` or ``delay`` is not a valid choice, does
            not apply to these sources, or is missing.
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
    if arrangement is not None:
        check_choice(arrangement, ARRANGEMENTS, name="arrangement")
    if frames is not None:
        check_positive_int(frames, name="frames")
    check_finite_number(delay, name="delay")
    if tir is not None:
        _refuse_options_of_one_source(arrangement, layout)
        colour = _stream(rgb, "rgb", read_rgb)
        thermal = _stream(tir, "tir", read_thermal, deep=True)
        return _pair(colour, thermal, frames, delay)
    if delay:
        raise ValueError(f"delay must come with two videos, got {delay:g} with one source")
    folder = Path(rgb)
    if folder.is_dir() and not _is_folder_of_images(folder, layout):
        return _sequence(folder, layout, arrangement, frames)
    if layout != "auto":
        raise ValueError(
            f"layout must come with the folder of a sequence, got {layout!r} for {rgb}"
        )
    shows_thermal = arrangement == "tir-only"
    read = read_thermal if shows_thermal else read_rgb
    single = _stream(rgb, "rgb", read, deep=shows_thermal)
    return _single(single, _needed(arrangement, single), frames)


def _refuse_options_of_one_source(arrangement: Arrangement | None, layout: str) -> None:
    if arrangement is not None:
        raise ValueError(f"arrangement must come with one source, got {arrangement!r} with two")
    if layout != "auto":
        raise ValueError(
            f"layout must come with the folder of a sequence, got {layout!r} with two sources"
        )


def _needed(arrangement: Arrangement | None, single: "_Stream") -> Arrangement:
    """Return the arrangement, which nothing in a single source tells."""
    if arrangement is None:
        raise ValueError(
            f"arrangement must be given for one source, as {single.name} may show both modalities "
            f"({', '.join(ARRANGEMENTS[:4])}) or one ({', '.join(ARRANGEMENTS[4:])}), got none"
        )
    return arrangement


def _is_folder_of_images(folder: Path, layout: str) -> bool:
    """Return whether a folder holds the images themselves and is no sequence of a dataset."""
    if layout != "auto" or not holds_images(folder):
        return False
    try:
        guess_layout(folder)
    except DataError:
        return True
    return False


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
    """None where the number of images is not stored."""
    fps: float | None
    live: bool

    def open(self, stack: ExitStack) -> _Reader: ...


class _ImageFolder:
    fps: float | None = None
    live = False

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

    def __init__(self, place: str | int, name: str, *, deep: bool) -> None:
        self.place = place
        self.name = name
        self.deep = deep
        """Whether pixels of more than 8 bits are read as they are."""
        self.live = _is_camera(place)
        cv2 = load_cv2()
        with ExitStack() as stack:
            capture = self.capture(stack)
            # 0 or negative if the container does not know it
            frame_count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            fps = float(capture.get(cv2.CAP_PROP_FPS))
        self.length: int | None = None
        if frame_count > 0 and not self.live and _stores_its_length(place):
            self.length = frame_count
        self.fps: float | None = fps if 0 < fps < HIGHEST_FPS else None

    def capture(self, stack: ExitStack) -> Any:
        """Return the opened video; ``stack`` closes it."""
        capture = _capture(self.place, self.name, stack)
        if self.deep:
            _read_all_bits(capture, self.name)
        return capture

    def open(self, stack: ExitStack) -> "_VideoReader":
        if self.live:
            return _CameraReader(self, stack)
        return _VideoReader(self, stack)


class _VideoReader:
    """The frames of a video, one after another."""

    def __init__(self, video: _Video, stack: ExitStack) -> None:
        self.video = video
        self.capture = video.capture(stack)
        self.taken = 0

    def grab(self) -> bool:
        if not self.capture.grab():
            return False
        self.taken += 1
        return True

    def time_s(self) -> float:
        """Return when the last grabbed frame was taken, in seconds from the first one."""
        stamp_ms = self.capture.get(load_cv2().CAP_PROP_POS_MSEC)
        if stamp_ms > 0 or self.taken <= 1:
            return max(stamp_ms, 0.0) / 1000
        # a container without time stamps has its frames at equal distances
        return (self.taken - 1) / (self.video.fps or 1.0)

    def retrieve(self) -> NDArray[Any]:
        found, image = self.capture.retrieve()
        # OpenCV calls a frame of no pixels found
        if not found or image is None:
            raise _StoppedError
        if self.video.deep and image.dtype == np.uint16:
            return np.ascontiguousarray(image)
        if image.ndim == 2:
            return np.repeat(image[:, :, None], 3, axis=2)
        red_first = image[:, :, ::-1]
        return np.ascontiguousarray(red_first)


class _StoppedError(Exception):
    """A video holds a frame that cannot be decoded."""


class _CameraReader(_VideoReader):
    """The frames of a camera; after it has stopped, it is opened again in the background."""

    def __init__(self, video: _Video, stack: ExitStack) -> None:
        super().__init__(video, stack)
        self.stack = stack
        self.tried_at: float | None = None
        self.waiting: Thread | None = None

    def grab(self) -> bool:
        if self.waiting is None and super().grab():
            self.tried_at = None
            return True
        self._reopen()
        return False

    def _reopen(self) -> None:
        # a file that stands for a camera would begin anew
        if str(self.video.place).startswith("file://"):
            return
        if self.waiting is not None:
            if not self.waiting.is_alive():
                self.waiting = None
            return
        now = monotonic()
        if self.tried_at is None or now - self.tried_at >= REOPEN_AFTER_S:
            self.tried_at = now
            self.waiting = Thread(target=self._open_again, daemon=True)
            self.waiting.start()

    def _open_again(self) -> None:
        try:
            self.capture = self.video.capture(self.stack)
        except DataError:
            return


def _is_camera(place: str | int) -> bool:
    return isinstance(place, int) or "://" in place


def _stores_its_length(place: str | int) -> bool:
    """Return whether a container stores its number of frames: MP4, MOV and AVI do.

    OpenCV estimates it for others from a duration and a mean rate.
    """
    if not isinstance(place, str):
        return False
    with Path(place).open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:] == b"AVI ")


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


def _read_all_bits(capture: Any, name: str) -> None:
    """Have a thermal video of more than 8 bits read as it is, or refuse it."""
    cv2 = load_cv2()
    camera_format = _bytes_of(capture.get(cv2.CAP_PROP_FOURCC))
    pixels = _bytes_of(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))
    if camera_format == b"Y16 " or pixels == b"Y1\x00\x10":
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        return
    if pixels in UNTOLD_16_BITS and camera_format == bytes(4):
        raise DataError(
            f"{name} holds raw pixels of 16 bits and does not say what they are, so that OpenCV "
            "reads thermal counts as colours of 5 bits: write it as FFV1 with gray16le, or as a "
            "folder of images"
        )
    bits = _bits_per_value(pixels)
    if bits > 8:
        raise DataError(
            f"{name} holds values of {bits} bits, which OpenCV reads as 8 bits from this kind of "
            f"video: ffmpeg -i {name} -c:v ffv1 -pix_fmt gray16le thermal.mkv writes one that is "
            "read as it is"
        )


def _bytes_of(code: float) -> bytes:
    """Return the four characters of a code; they are zeros if there is none."""
    return (int(code) & 0xFFFFFFFF).to_bytes(4, "little") if code > 0 else bytes(4)


def _bits_per_value(pixels: bytes) -> int:
    """Return the bits of FFmpeg's planar formats, ``Y1..`` for grey and ``Y3..`` for colour."""
    for layout, bits in ((pixels[:2], pixels[3]), (pixels[:1:-1], pixels[0])):
        if layout[:1] in (b"Y", b"G") and layout[1:].isdigit() and 8 < bits <= 16:
            return bits
    return 8


def _stream(
    place: str | Path, argument: str, read: Callable[[Path], NDArray[Any]], *, deep: bool = False
) -> _Stream:
    """Return the folder of images, the video or the camera at ``place``."""
    text = str(place)
    path = Path(place)
    if text.isdecimal() and not path.exists():
        return _Video(int(text), f"camera {text}", deep=deep)
    if "://" in text:
        return _Video(text, text, deep=deep)
    if path.is_dir():
        return _ImageFolder(path, read)
    if not path.is_file():
        raise DataError(
            f"{argument} must be a video, a folder of images or a camera, but {text} does not exist"
        )
    return _Video(text, text, deep=deep)


def _pair(rgb: _Stream, tir: _Stream, frames: int | None, delay: float) -> Source:
    """Return a source of two streams, paired by time where their rates differ, else by position."""
    can_tell_time = isinstance(rgb, _Video) and isinstance(tir, _Video)
    can_tell_time = can_tell_time and not (rgb.live or tir.live)
    if delay and not can_tell_time:
        raise ValueError(
            f"delay must come with two videos, which have time stamps, got {delay:g} with "
            f"{rgb.name} and {tir.name}"
        )
    if can_tell_time and (delay or _rates_differ(rgb.fps, tir.fps)):
        return _pair_by_time(rgb, tir, frames, delay)  # pyright: ignore[reportArgumentType]
    return _pair_by_position(rgb, tir, frames)


def _rates_differ(rgb: float | None, tir: float | None) -> bool:
    """Return whether two known frame rates are not the same."""
    if rgb is None or tir is None:
        return False
    return abs(rgb - tir) > ALIKE_FPS * max(rgb, tir)


def _pair_by_position(rgb: _Stream, tir: _Stream, frames: int | None) -> Source:
    """Return a source of two streams; the number of frames must agree where both store it."""
    stored = [length for length in (rgb.length, tir.length) if length is not None]
    shortest = min(stored, default=None)
    longest = max(stored, default=None)
    both_reach_the_end = frames is not None and (shortest is None or shortest >= frames)
    if shortest != longest and not both_reach_the_end:
        raise DataError(
            f"rgb and tir must have as many frames, got {rgb.length} in {rgb.name} and "
            f"{tir.length} in {tir.name}; frames = {shortest} takes the first of both"
        )
    notices: list[str] = []
    if isinstance(rgb, _ImageFolder) and isinstance(tir, _ImageFolder):
        notices += pairing_notices(rgb.paths, tir.paths)

    def read() -> Iterator[FramePair]:
        with ExitStack() as stack:
            colour = rgb.open(stack)
            thermal = tir.open(stack)
            watch = _Watch(rgb, tir, colour, thermal, notices)
            for number in _first(frames):
                has_rgb = colour.grab()
                has_tir = thermal.grab()
                if not watch.goes_on(number, has_rgb, has_tir):
                    return
                try:
                    yield FramePair(
                        colour.retrieve() if has_rgb else None,
                        thermal.retrieve() if has_tir else None,
                    )
                except _StoppedError:
                    notices.append(f"frame {number + 1} cannot be decoded: the pairs end there")
                    return

    length = _shorter(shortest, frames)
    if longest is not None and (rgb.length is None or tir.length is None):
        # one of them may end before the other
        length = None
    live = rgb.live or tir.live
    return Source(_name(rgb.name), length, rgb.fps or tir.fps, None, read, notices, live)


class _Watch:
    """Watches two streams, and says once what is odd about them."""

    def __init__(
        self, rgb: _Stream, tir: _Stream, colour: _Reader, thermal: _Reader, notices: list[str]
    ) -> None:
        self.rgb = rgb
        self.tir = tir
        self.colour = colour
        self.thermal = thermal
        self.notices = notices
        self.stopped: _Stream | None = None
        self.told_times = False

    def goes_on(self, number: int, has_rgb: bool, has_tir: bool) -> bool:
        """Return whether there is a pair, or half of one, at this number."""
        if has_rgb and has_tir:
            if self.stopped is not None:
                self.notices.append(f"{self.stopped.name} is back at frame {number + 1}")
                self.stopped = None
            self._compare_times(number)
            return True
        if not has_rgb and not has_tir:
            self._tell_early_end(number)
            return False
        ended = self.tir if has_rgb else self.rgb
        other = self.rgb if has_rgb else self.tir
        if not ended.live:
            self.notices.append(
                f"{ended.name} ends after {number} frames and {other.name} goes on: "
                "the pairs end there"
            )
            return False
        if self.stopped is not ended:
            self.stopped = ended
            self.notices.append(
                f"{ended.name} gives no frame after {number}: goes on with {other.name} alone"
            )
        return True

    def _tell_early_end(self, number: int) -> None:
        for stream in (self.rgb, self.tir):
            # of one that had stopped before, it is told already
            if stream is not self.stopped:
                _tell_early_end(stream, number, self.notices)

    def _compare_times(self, number: int) -> None:
        """Say where the time stamps of two videos drift apart that are paired by position."""
        colour = self.colour
        thermal = self.thermal
        if self.told_times or self.rgb.live or self.tir.live or self.rgb.fps is None:
            return
        if not (isinstance(colour, _VideoReader) and isinstance(thermal, _VideoReader)):
            return
        apart = thermal.time_s() - colour.time_s()
        if number == 0:
            self.apart_at_first = apart
        elif abs(apart - self.apart_at_first) > 1.5 / self.rgb.fps:
            self.told_times = True
            self.notices.append(
                f"from frame {number + 1} on, the time stamps of {self.rgb.name} and "
                f"{self.tir.name} are {abs(apart - self.apart_at_first):.2f} s apart, but they are "
                "paired by position: a frame may be missing there"
            )


def _tell_early_end(stream: _Stream, taken: int, notices: list[str]) -> None:
    """Say that a stream ended before its stored number of frames."""
    if stream.live:
        notices.append(f"{stream.name} stops after {taken} frames")
    elif stream.length is not None and taken < stream.length:
        notices.append(
            f"{stream.name} ends after {taken} of {stream.length} frames: it may be cut off"
        )


def _pair_by_time(rgb: _Video, tir: _Video, frames: int | None, delay: float) -> Source:
    """Return a source of two videos; each colour frame gets the thermal frame nearest in time."""
    notices: list[str] = []
    if rgb.fps != tir.fps:
        notices.append(
            f"{rgb.name} has {_rate(rgb.fps)} and {tir.name} {_rate(tir.fps)}: "
            "paired by time stamps, one pair per colour frame"
        )

    def read() -> Iterator[FramePair]:
        with ExitStack() as stack:
            colour = _VideoReader(rgb, stack)
            nearest = _Nearest(_VideoReader(tir, stack))
            early = 0
            number = 0
            while frames is None or number < frames:
                if not colour.grab():
                    _tell_early_end(rgb, colour.taken, notices)
                    break
                moment = colour.time_s() + delay
                if nearest.begins_after(moment):
                    early += 1
                    continue
                if early and not number:
                    notices.append(
                        f"the first {early} frames of {rgb.name} are left out: "
                        f"{tir.name} begins after them"
                    )
                try:
                    thermal = nearest.at(moment)
                    if thermal is None:
                        notices.append(
                            f"{tir.name} ends before frame {colour.taken} of {rgb.name}: "
                            "the pairs end there"
                        )
                        break
                    image = colour.retrieve()
                except _StoppedError:
                    notices.append(
                        f"frame {colour.taken} of {rgb.name}, or its thermal frame, cannot be "
                        "decoded: the pairs end there"
                    )
                    break
                yield FramePair(image, thermal)
                number += 1

    return Source(_name(rgb.name), None, rgb.fps, None, read, notices)


def _rate(fps: float | None) -> str:
    return "an unknown rate" if fps is None else f"{fps:.4g} frames a second"


class _Nearest:
    """The frame of a video that is nearest to a moment; moments must not go back."""

    def __init__(self, reader: _VideoReader) -> None:
        self.reader = reader
        self.image: Frame | None = None
        self.image_at = 0.0
        self.next_at: float | None = None
        self.spacing = 0.0
        """Seconds between the last two frames."""
        self._advance()

    def begins_after(self, moment: float) -> bool:
        """Return whether the first frame comes later than half a frame after ``moment``."""
        return self.image is None and self.next_at is not None and moment < self.next_at - 1e-3

    def at(self, moment: float) -> Frame | None:
        """Return the nearest frame; None where the video has ended."""
        while self.next_at is not None and self._next_is_nearer(self.next_at, moment):
            self.spacing = self.next_at - self.image_at if self.image is not None else 0.0
            self.image = self.reader.retrieve()
            self.image_at = self.next_at
            self._advance()
        has_ended = self.next_at is None and moment > self.image_at + max(self.spacing, 1e-3)
        return None if has_ended else self.image

    def _next_is_nearer(self, next_at: float, moment: float) -> bool:
        return self.image is None or abs(next_at - moment) <= abs(self.image_at - moment)

    def _advance(self) -> None:
        self.next_at = self.reader.time_s() if self.reader.grab() else None


def _single(video: _Stream, arrangement: Arrangement, frames: int | None) -> Source:
    """Return a source of one video that shows both modalities, or one of them."""
    notices: list[str] = []

    def read() -> Iterator[FramePair]:
        with ExitStack() as stack:
            reader = video.open(stack)
            for number in _first(frames):
                if not reader.grab():
                    _tell_early_end(video, number, notices)
                    return
                try:
                    image = reader.retrieve()
                except _StoppedError:
                    notices.append(f"frame {number + 1} cannot be decoded: the video ends there")
                    return
                yield _split(image, arrangement, video.name)

    length = _shorter(video.length, frames)
    if video.length is None and not video.live:
        length = None
    return Source(_name(video.name), length, video.fps, None, read, notices, video.live)


def _split(image: NDArray[Any], arrangement: Arrangement, name: str) -> FramePair:
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


def _sequence(
    folder: Path, layout: str, arrangement: Arrangement | None, frames: int | None
) -> Source:
    """Return a sequence of a dataset as a source."""
    modality: SequenceModality = "both"
    if arrangement == "rgb-only":
        modality = "rgb"
    elif arrangement == "tir-only":
        modality = "tir"
    elif arrangement is not None:
        raise ValueError(
            "arrangement must be 'rgb-only' or 'tir-only' for the folder of a sequence, "
            f"got {arrangement!r} for {folder}"
        )
    if layout == "auto":
        layout = guess_layout(folder)
    sequence = open_sequence(folder, layout, modality=modality)
    length = min(len(sequence), frames or len(sequence))
    notices = list(sequence.notices)
    if modality == "both" and not sequence.tir:
        notices.append(f"{folder} holds colour images alone")
    if modality == "both" and not sequence.rgb:
        notices.append(f"{folder} holds thermal images alone")
    return Source(
        sequence.name, length, None, sequence.truth, lambda: islice(sequence, length), notices
    )


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

"""The tracker's side of TraX, the protocol by which the VOT toolkit drives trackers; no torch."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TextIO, TypeAlias, get_args

from rgbt_fusion.checks import check_choice
from rgbt_fusion.frames.reading import read_depth, read_rgb, read_thermal
from rgbt_fusion.frames.types import FramePair
from rgbt_fusion.tracking.interface import FrameTracker, TrackResult

__all__ = [
    "TRAX_CHANNELS",
    "TraxChannel",
    "TraxError",
    "TraxMessage",
    "format_message",
    "parse_message",
    "serve",
]

TraxChannel: TypeAlias = Literal["color", "ir", "depth"]
"""What a client calls the images of one camera."""

TRAX_CHANNELS: tuple[TraxChannel, ...] = get_args(TraxChannel)
"""The channels that a client may send."""

PREFIX = "@@TRAX:"

VERSION = 3
"""Clients of version 4 speak the older dialects, too, and those of version 3 know no newer one."""

FILE_SCHEME = "file://"

_KEY = re.compile(r"[A-Za-z0-9._]{1,64}")
_ARGUMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


class TraxError(ValueError):
    """The client sent what the protocol does not allow."""


class TraxMessage(NamedTuple):
    """One message of either side."""

    name: str
    """``"hello"``, ``"initialize"``, ``"frame"``, ``"state"`` or ``"quit"``."""
    arguments: tuple[str, ...]
    """All arguments; named ones stand as ``key=value``."""


def parse_message(line: str) -> TraxMessage | None:
    r"""Return the message of a line, or None for a line that is no message.

    Args:
        line: one line, without or with its end.

    Raises:
        TraxError: ``line`` has the prefix of a message, but its arguments are malformed.

    Example:
        >>> from rgbt_fusion.tracking.trax import parse_message
        >>> parse_message('@@TRAX:frame "file:///a b.jpg" "k=v"\n').arguments
        ('file:///a b.jpg', 'k=v')
        >>> parse_message("loading weights") is None
        True
    """
    if not line.startswith(PREFIX):
        return None
    text = line[len(PREFIX) :].rstrip("\r\n")
    name, _, rest = text.partition(" ")
    arguments: list[str] = []
    place = 0
    rest = rest.strip()
    while place < len(rest):
        found = _ARGUMENT.match(rest, place)
        if found is None:
            raise TraxError(f"arguments must be words or in double quotes, got {rest[place:]!r}")
        quoted, plain = found.groups()
        arguments.append(plain if quoted is None else _unescaped(quoted))
        place = found.end()
        while place < len(rest) and rest[place].isspace():
            place += 1
    return TraxMessage(name, tuple(arguments))


def format_message(
    name: str, arguments: Sequence[str] = (), properties: Mapping[str, object] | None = None
) -> str:
    r"""Return a message as a line.

    Args:
        name: what the message is.
        arguments: what its kind asks for.
        properties: named arguments.

    Raises:
        ValueError: ``properties`` has a key of other characters than letters, digits, dot and
            underscore, or one of more than 64.

    Example:
        >>> from rgbt_fusion.tracking.trax import format_message
        >>> format_message("state", ["1,2,3,4"], {"confidence": 0.5})
        '@@TRAX:state "1,2,3,4" "confidence=0.5"\n'
    """
    words = list(arguments)
    for key, value in (properties or {}).items():
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"properties must have keys of A-Z, a-z, 0-9, '.', '_', got {key!r}")
        words.append(f"{key}={value}")
    quoted = [f'"{_escaped(word)}"' for word in words]
    return " ".join([PREFIX + name, *quoted]) + "\n"


def serve(
    tracker: FrameTracker,
    requests: Iterable[str],
    replies: TextIO,
    *,
    name: str = "rgbt_fusion",
    channels: Sequence[TraxChannel] = ("color", "ir"),
) -> int:
    """Track what a client asks for, until it quits or closes the line.

    The client names the images of each frame by their paths, and gets a rectangle and the
    tracker's confidence. ``initialize`` starts the tracker anew, as often as the client likes.

    Paper and code: version 3 of the protocol, with several channels. Clients turn polygons and
    masks into rectangles for a tracker that takes rectangles only.

    Args:
        tracker: the tracker.
        requests: the lines that the client writes.
        replies: where the client reads.
        name: the tracker's name, which a client may check.
        channels: which images the client sends for each frame, in this order: ``"color"``, and
            ``"ir"`` or ``"depth"``, or one of them alone.

    Returns:
        How many frames were tracked.

    Raises:
        TraxError: a message is malformed, or comes at the wrong time. The client is told.
        DataError: an image cannot be read. The client is told.
        ValueError: ``channels`` has no channel, an unknown one, or two of the second modality.

    Source:
        Cehovin, "TraX: The visual Tracking eXchange protocol and library", Neurocomputing 2017, and
        the specification of the reference implementation.
    """
    _check_channels(channels)
    capabilities = {
        "trax.version": VERSION,
        "trax.name": name,
        "trax.image": "path;",
        "trax.region": "rectangle;",
        "trax.channels": "".join(f"{channel};" for channel in channels),
    }
    _send(replies, format_message("hello", properties=capabilities))
    try:
        return _answer_all(tracker, requests, replies, tuple(channels))
    except Exception as error:
        reason = {"trax.reason": str(error) or type(error).__name__}
        _send(replies, format_message("quit", properties=reason))
        raise


def _answer_all(
    tracker: FrameTracker,
    requests: Iterable[str],
    replies: TextIO,
    channels: tuple[TraxChannel, ...],
) -> int:
    """Answer each request; return how many frames were tracked."""
    frames = 0
    started = False
    for line in requests:
        message = parse_message(line)
        if message is None:
            continue
        if message.name == "quit":
            break
        if message.name == "initialize":
            pair = _read_frame(message, channels)
            box = _region(message, len(channels))
            result = tracker.init(pair.rgb, pair.tir, box)
            started = True
        elif message.name == "frame" and started:
            pair = _read_frame(message, channels)
            result = tracker.update(pair.rgb, pair.tir)
        elif message.name == "frame":
            raise TraxError("initialize must come before the first frame, got frame")
        else:
            raise TraxError(f"message must be initialize, frame or quit, got {message.name!r}")
        frames += 1
        _send(replies, _state(result))
    return frames


def _check_channels(channels: Sequence[TraxChannel]) -> None:
    for channel in channels:
        check_choice(channel, TRAX_CHANNELS, name="channels")
    second = [channel for channel in channels if channel != "color"]
    if not channels or len(second) > 1 or len(set(channels)) != len(channels):
        raise ValueError(
            f"channels must be color, and ir or depth, or one of them, got {list(channels)}"
        )


def _read_frame(message: TraxMessage, channels: tuple[TraxChannel, ...]) -> FramePair:
    """Read the images that a message names."""
    if len(message.arguments) < len(channels):
        raise TraxError(
            f"{message.name} must have an image for each of {', '.join(channels)}, "
            f"got {len(message.arguments)} arguments"
        )
    readers: dict[TraxChannel, Callable] = {
        "color": read_rgb,
        "ir": read_thermal,
        "depth": read_depth,
    }
    images = {
        channel: readers[channel](_path(uri))
        for channel, uri in zip(channels, message.arguments, strict=False)
    }
    return FramePair(images.get("color"), images.get("ir", images.get("depth")))


def _path(uri: str) -> Path:
    """Return the path in an address of a file; clients write it as it is, without percent signs."""
    scheme, separator, _ = uri.partition(":")
    # one letter is the drive of a path
    if separator and len(scheme) > 1 and not uri.startswith(FILE_SCHEME):
        raise TraxError(f"image must be a path or {FILE_SCHEME}PATH, got {uri[:60]!r}")
    return Path(uri.removeprefix(FILE_SCHEME))


def _region(message: TraxMessage, images: int) -> tuple[float, ...]:
    """Return the rectangle that stands behind the images."""
    if len(message.arguments) <= images:
        raise TraxError("initialize must have a region behind its images, got none")
    text = message.arguments[images]
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4:
        raise TraxError(f"region must be left,top,width,height, got {text[:60]!r}")
    return numbers


def _state(result: TrackResult) -> str:
    box = ",".join(f"{float(value):.4f}" for value in result.box_xywh_px)
    return format_message("state", [box], {"confidence": f"{float(result.confidence):.6f}"})


def _send(replies: TextIO, message: str) -> None:
    replies.write(message)
    replies.flush()


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)

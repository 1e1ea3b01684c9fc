"""A picture of one frame with all boxes that trackers and annotators give for it."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.frames.drawing import Mark, Picture, resize
from rgbt_fusion.frames.types import FramePairLike, GroundTruth
from rgbt_fusion.tracking.interface import FrameTracker, TrackResult
from rgbt_fusion.tracking.tracker import Tracker
from rgbt_fusion.video.overlay import COLOURS, TRUTH_COLOUR, draw_overlay
from rgbt_fusion.video.panels import draw_panels

__all__ = ["draw_result"]

LARGEST_HEIGHT = 1080
"""Height above which no picture is enlarged to be as wide as the panels below it."""


def draw_result(
    tracker: FrameTracker,
    frame: FramePairLike,
    result: TrackResult,
    *,
    label: str = "tracker",
    tracks: Mapping[str, NDArray[np.float64]] | None = None,
    truth: GroundTruth | None = None,
    debug: bool = False,
) -> Picture:
    """Draw a frame with the boxes of the tracker, of other trackers and of the annotation.

    Args:
        tracker: the tracker, just after it returned ``result``.
        frame: the pair of images that the tracker looked at.
        result: what the tracker returned.
        label: name of the tracker.
        tracks: boxes of other trackers by name, ``(T, 4)`` each.
        truth: the annotation; it is drawn in the frames that have one.
        debug: also draw the panels of a :class:`~rgbt_fusion.Tracker` below. The first frame of a
            sequence is searched for that purpose only.

    Raises:
        ValueError: ``frame`` lacks both modalities.
        TypeError: ``debug`` is set and ``tracker`` has no network of this package.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.tracking.ncc import NCCTracker
        >>> from rgbt_fusion.video.result_picture import draw_result
        >>> rgb = np.zeros((240, 320, 3), dtype=np.uint8)
        >>> tracker = NCCTracker()
        >>> result = tracker.init(rgb, rgb, (100, 80, 40, 60))
        >>> draw_result(tracker, (rgb, rgb), result).shape
        (266, 640, 3)
    """
    network_tracker = tracker if isinstance(tracker, Tracker) else None
    targets = np.size(result.confidence)
    marks = []
    if truth is not None:
        marks += _annotation(truth, result.frame)
    marks += _others(tracks or {}, result.frame, first_colour=targets)
    marks += _own(result, label)
    rgb, tir = frame
    picture = draw_overlay(
        rgb,
        tir,
        marks,
        text=f"{result.frame + 1}",
        tir_range=network_tracker.state.tir_range if network_tracker else None,
        tir_from_rgb=network_tracker.tir_from_rgb if network_tracker else None,
    )
    if not debug:
        return picture
    if network_tracker is None:
        raise TypeError(f"tracker must be a Tracker for debug panels, got {type(tracker).__name__}")
    if network_tracker.last_look is None:
        _look_once(network_tracker, frame)
    return _stacked(picture, draw_panels(network_tracker))


def _annotation(truth: GroundTruth, frame: int) -> list[Mark]:
    rows = np.flatnonzero(truth.frames == frame)
    return [Mark(truth.rgb[row], "annotation", TRUTH_COLOUR) for row in rows[:1]]


def _others(
    tracks: Mapping[str, NDArray[np.float64]], frame: int, *, first_colour: int
) -> list[Mark]:
    """Return the boxes of other trackers; the colours before ``first_colour`` are taken."""
    marks = []
    for number, (name, boxes) in enumerate(tracks.items(), first_colour):
        if frame < len(boxes):
            marks.append(Mark(boxes[frame], name, COLOURS[number % len(COLOURS)]))
    return marks


def _own(result: TrackResult, label: str) -> list[Mark]:
    """Return the tracker's own boxes, one colour per target, and numbers where there are several.

    The numbers are those of the files that the boxes are written to.
    """
    boxes = np.atleast_2d(result.box_xywh_px)
    confidences = np.atleast_1d(result.confidence)
    losses = np.atleast_1d(result.lost)
    marks = []
    for number, (box, confidence, lost) in enumerate(zip(boxes, confidences, losses, strict=True)):
        tag = str(number + 1) if len(boxes) > 1 else ""
        # the first label names the tracker, the numbers tell its targets apart
        name = f"{label} {tag}".rstrip() if number == 0 else tag
        words = f"{name} {confidence:.2f}"
        if lost:
            words += " lost"
        marks.append(Mark(box, words, COLOURS[number % len(COLOURS)], bool(lost), tag))
    return marks


def _look_once(tracker: Tracker, frame: FramePairLike) -> None:
    """Let the tracker look at its first frame, and take nothing of it into its state."""
    rgb, tir = frame
    state = tracker.state
    tracker.update(rgb, tir)
    tracker.state = state


def _stacked(picture: Picture, strip: Picture) -> Picture:
    """Return ``picture`` above ``strip``, enlarged a whole number of times towards its width."""
    height, width = picture.shape[:2]
    times = min(strip.shape[1] // width, LARGEST_HEIGHT // height)
    if times > 1:
        picture = resize(picture, times * width, times * height)
    widest = max(picture.shape[1], strip.shape[1])
    return np.concatenate((_widened(picture, widest), _widened(strip, widest)))


def _widened(picture: Picture, width: int) -> Picture:
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)))

"""One picture of a frame and of all that trackers say of it: what a film of a tracker is made
of."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.frames.drawing import Mark, Picture, resize
from rgbt_fusion.frames.types import Frame, GroundTruth
from rgbt_fusion.tracking.tracker import FrameTracker, Tracker, TrackResult
from rgbt_fusion.video.overlay import COLOURS, TRUTH_COLOUR, draw_overlay
from rgbt_fusion.video.panels import draw_panels

__all__ = ["draw_result"]


def draw_result(
    tracker: FrameTracker,
    frame: tuple[NDArray[np.uint8] | None, Frame | None],
    result: TrackResult,
    *,
    label: str = "tracker",
    tracks: Mapping[str, NDArray[np.float64]] | None = None,
    truth: GroundTruth | None = None,
    debug: bool = False,
) -> Picture:
    """Draw a frame with the tracker's boxes, those of others and the annotation; below, what the
    network thought.

    Args:
        tracker: the tracker, just after it gave ``result``.
        frame: the frame that it looked at.
        result: what it said.
        label: its name.
        tracks: the boxes of other trackers, ``(T, 4)`` each, by name.
        truth: the annotation, drawn in the frames that have one.
        debug: draw the panels of a :class:`~rgbt_fusion.Tracker`, too; the first frame is searched
            for them alone.

    Raises:
        ValueError: the frame lacks both modalities.
        TypeError: ``debug`` for a tracker without a network of this package.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.tracking.ncc import NCCTracker
        >>> from rgbt_fusion.video.result_picture import draw_result
        >>> rgb, tracker = np.zeros((240, 320, 3), dtype=np.uint8), NCCTracker()
        >>> draw_result(tracker, (rgb, rgb), tracker.init(rgb, rgb, (100, 80, 40, 60))).shape
        (266, 640, 3)
    """
    network = tracker if isinstance(tracker, Tracker) else None
    picture = draw_overlay(
        *frame,
        [
            *_others(result.frame, tracks or {}, truth, np.size(result.confidence)),
            *_own(result, label),
        ],
        text=f"{result.frame + 1}",
        tir_range=network.state.tir_range if network else None,
        tir_from_rgb=network.tir_from_rgb if network else None,
    )
    if not debug:
        return picture
    if network is None:
        raise TypeError(f"tracker must be a Tracker for debug panels, got {type(tracker).__name__}")
    if network.last_look is None:
        state = network.state
        network.update(*frame)
        network.state = state
    strip = draw_panels(network)
    if 2 * picture.shape[1] <= strip.shape[1]:
        picture = resize(picture, 2 * picture.shape[1], 2 * picture.shape[0])
    wide = max(picture.shape[1], strip.shape[1])
    rows = [np.pad(row, ((0, 0), (0, wide - row.shape[1]), (0, 0))) for row in (picture, strip)]
    return np.concatenate(rows)


def _others(
    frame: int, tracks: Mapping[str, NDArray[np.float64]], truth: GroundTruth | None, targets: int
) -> list[Mark]:
    marks = []
    at = [] if truth is None else np.flatnonzero(truth.frames == frame)
    if truth is not None and len(at):
        marks.append(Mark(truth.rgb[at[0]], "annotation", TRUTH_COLOUR))
    # the first colours are the tracker's own, one a target
    for number, (name, boxes) in enumerate(tracks.items(), targets):
        if frame < len(boxes):
            marks.append(Mark(boxes[frame], name, COLOURS[number % len(COLOURS)]))
    return marks


def _own(result: TrackResult, label: str) -> list[Mark]:
    boxes = np.atleast_2d(result.box_xywh_px)
    confidences, lost = np.atleast_1d(result.confidence), np.atleast_1d(result.lost)
    marks = []
    for number, box in enumerate(boxes):
        words = f"{label} {confidences[number]:.2f}{' lost' if lost[number] else ''}"
        marks.append(Mark(box, words, COLOURS[number % len(COLOURS)], bool(lost[number])))
    return marks

"""What every tracker here takes and gives, with a network or without."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.square import check_box
from rgbt_fusion.frames.types import Frame, FramePairLike

__all__ = ["FrameTracker", "TrackResult", "TrackedState", "check_boxes", "first_box", "follow"]


class TrackResult(NamedTuple):
    """Where the targets of one frame are: scalars and ``(4,)`` for one target, with a leading N for
    a batch of N."""

    box_xywh_px: NDArray[np.float64]
    """``(4,)`` or ``(N, 4)``: left, top, width, height in the colour image."""
    confidence: float | NDArray[np.float64]
    """The network's score at the box, in (0, 1) and as it comes: without the window; 1 at the first
    frame, 0 where there was nothing to look at."""
    lost: bool | NDArray[np.bool_]
    """Whether the confidence is below the tracker's ``lost_threshold``."""
    frame: int
    """How many frames came before, 0 for the one that the tracker was started on."""

    @classmethod
    def of(
        cls, state: "TrackedState", confidences: NDArray[np.float64], lost_threshold: float
    ) -> "TrackResult":
        """Return what the caller gets of a state: a batch where a batch was asked for, else the
        only target's."""
        lost = confidences < lost_threshold
        if state.batched:
            return cls(state.boxes.copy(), confidences, lost, state.frame)
        return cls(state.boxes[0].copy(), float(confidences[0]), bool(lost[0]), state.frame)


class TrackedState(Protocol):
    """What every tracker's state holds at least."""

    @property
    def boxes(self) -> NDArray[np.float64]: ...

    @property
    def batched(self) -> bool: ...

    @property
    def frame(self) -> int: ...


class FrameTracker(Protocol):
    """What evaluation and the command line ask of a tracker."""

    def init(
        self, rgb: NDArray[np.uint8] | None, tir: Frame | None, box_xywh_px: ArrayLike
    ) -> TrackResult:
        """Start on a frame."""
        ...

    def update(self, rgb: NDArray[np.uint8] | None, tir: Frame | None) -> TrackResult:
        """Look for the target in the next frame."""
        ...

    def track(
        self, source: Iterable[FramePairLike], box_xywh_px: ArrayLike | None = None
    ) -> Iterator[TrackResult]:
        """Follow the target through all frames of ``source``."""
        ...


def follow(
    tracker: FrameTracker, source: Iterable[FramePairLike], box_xywh_px: ArrayLike | None = None
) -> Iterator[TrackResult]:
    """Run a tracker over the frames of ``source``: ``track`` of every tracker here, see
    :meth:`Tracker.track`."""
    box = first_box(source) if box_xywh_px is None else box_xywh_px

    def results() -> Iterator[TrackResult]:
        for number, (rgb, tir) in enumerate(source):
            yield tracker.update(rgb, tir) if number else tracker.init(rgb, tir, box)

    return results()


def first_box(source: Any) -> NDArray[np.float64]:
    """Return the annotation of a source's first frame, or raise where it carries none."""
    truth = getattr(source, "truth", None)
    if truth is None or not len(truth.rgb):
        raise ValueError("box_xywh_px must be given for a source without annotations, got None")
    return np.asarray(truth.rgb[0], dtype=np.float64)


def check_boxes(box_xywh_px: ArrayLike) -> tuple[NDArray[np.float64], bool]:
    """Return the boxes to start on, ``(N, 4)``, and whether a batch was given, or raise."""
    boxes = np.array(box_xywh_px, dtype=np.float64)
    if boxes.shape[-1:] != (4,) or boxes.ndim not in (1, 2) or not boxes.size:
        raise ShapeError(f"box_xywh_px must have shape (4,) or (N, 4), got {boxes.shape}")
    for box in np.atleast_2d(boxes):
        check_box(box)
    return np.atleast_2d(boxes), boxes.ndim == 2

"""What every tracker here takes and gives, with a network or without; no torch."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.square import check_box, check_first_box
from rgbt_fusion.frames.types import Frame, FramePair, FramePairLike, GroundTruth

__all__ = [
    "FrameTracker",
    "TrackResult",
    "TrackedState",
    "check_boxes",
    "first_box",
    "follow",
    "naming_annotation",
]

_REFUSED_BOX = "box_xywh_px must "
"""How every refusal of a first box begins."""


class TrackResult(NamedTuple):
    """Where the targets of one frame are.

    The fields are scalars and ``(4,)`` for one target, and have a leading N for a batch of N.
    """

    box_xywh_px: NDArray[np.float64]
    """``(4,)`` or ``(N, 4)``: left, top, width, height in the colour image."""
    confidence: float | NDArray[np.float64]
    """How sure the tracker is, from 0 to 1.

    It is the probability that the overlap exceeds 0.5 where that was measured for the network's
    weights, else the network's score. It is 1 at the first frame, and 0 if the frame lacks both
    modalities.
    """
    lost: bool | NDArray[np.bool_]
    """Whether the confidence fell below ``lost_threshold`` of the tracker, and has not risen to its
    ``found_threshold`` since."""
    frame: int
    """Number of frames before this one; 0 for the frame that the tracker was started on."""
    score: float | NDArray[np.float64] | None = None
    """The network's score at the box as it comes, in (0, 1), without the window.

    It is 1 at the first frame, and 0 if the frame lacks both modalities. None where a tracker has
    no other than its confidence.
    """

    @classmethod
    def of(
        cls,
        state: "TrackedState",
        confidences: NDArray[np.float64],
        lost: NDArray[np.bool_],
        scores: NDArray[np.float64] | None = None,
    ) -> "TrackResult":
        """Return the result of a state: a batch if a batch was asked for, else the only target."""
        if state.batched:
            return cls(state.boxes.copy(), confidences, lost, state.frame, scores)
        return cls(
            state.boxes[0].copy(),
            float(confidences[0]),
            bool(lost[0]),
            state.frame,
            None if scores is None else float(scores[0]),
        )


class TrackedState(Protocol):
    """What the state of every tracker holds at least."""

    @property
    def boxes(self) -> NDArray[np.float64]:
        """``(N, 4)``: the last boxes."""
        ...

    @property
    def batched(self) -> bool:
        """Whether the caller asked for a batch."""
        ...

    @property
    def frame(self) -> int:
        """Number of the last frame."""
        ...


class FrameTracker(Protocol):
    """A tracker, as evaluation and the command line use it."""

    def init(
        self, rgb: NDArray[np.uint8] | None, tir: Frame | None, box_xywh_px: ArrayLike
    ) -> TrackResult:
        """Start on a frame."""
        ...

    def update(self, rgb: NDArray[np.uint8] | None, tir: Frame | None) -> TrackResult:
        """Look for the targets in the next frame."""
        ...

    def track(
        self, source: Iterable[FramePairLike], box_xywh_px: ArrayLike | None = None
    ) -> Iterator[TrackResult]:
        """Follow the targets through all frames of ``source``."""
        ...


def follow(
    tracker: FrameTracker,
    source: Iterable[FramePairLike],
    box_xywh_px: ArrayLike | None = None,
    *,
    read_ahead: bool = False,
) -> Iterator[TrackResult]:
    """Run a tracker over the frames of ``source``, the first included.

    This is ``track`` of every tracker here. A wrong ``source`` is refused at once, not at the first
    result.

    Args:
        tracker: the tracker.
        source: pairs of frames.
        box_xywh_px: the boxes in the first frame; None takes the annotation of ``source``.
        read_ahead: whether the next frame is read in a thread while this one is looked at.

    Raises:
        ValueError: ``box_xywh_px`` is None and ``source`` has no annotation. At the first result:
            the annotation is one that no tracker can start on; its file and line are named.
    """
    truth = None
    box = box_xywh_px
    if box is None:
        box = first_box(source)
        truth = getattr(source, "truth", None)

    def results() -> Iterator[TrackResult]:
        frames = _one_ahead(source) if read_ahead else source
        for number, (rgb, tir) in enumerate(frames):
            if number:
                yield tracker.update(rgb, tir)
                continue
            with naming_annotation(truth):
                result = tracker.init(rgb, tir, box)
            yield result

    return results()


def _one_ahead(source: Iterable[FramePairLike]) -> Iterator[FramePairLike]:
    """Yield what a source yields, the next frame being read meanwhile.

    Frames are copies, because a source may write the next frame where the last one was.
    """
    frames = iter(source)

    def read() -> FramePairLike | None:
        for rgb, tir in frames:
            return FramePair(_copy(rgb), _copy(tir))
        return None

    with ThreadPoolExecutor(1, thread_name_prefix="rgbt-fusion-reader") as reader:
        pending = reader.submit(read)
        while (frame := pending.result()) is not None:
            pending = reader.submit(read)
            yield frame


def _copy(frame: Any) -> Any:
    """Return a copy of an array; anything else is left for the tracker to refuse."""
    return frame.copy() if isinstance(frame, np.ndarray) else frame


def first_box(source: object) -> NDArray[np.float64]:
    """Return the annotated box in the first frame of ``source``, ``(4,)``.

    Raises:
        ValueError: ``source`` has no annotation.
    """
    truth = getattr(source, "truth", None)
    if truth is None or not len(truth.rgb):
        raise ValueError("box_xywh_px must be given for a source without annotations, got None")
    return np.asarray(truth.rgb[0], dtype=np.float64)


@contextmanager
def naming_annotation(truth: GroundTruth | None) -> Iterator[None]:
    """Have a tracker that refuses the annotation it is started on name its file and line.

    Args:
        truth: the annotation; None, and one that was read from no file, changes nothing.

    Raises:
        ValueError: the tracker refused its ``box_xywh_px``.
    """
    try:
        yield
    except ValueError as error:
        told = str(error)
        place = None if truth is None else truth.place_of_first_box()
        if place is None or not told.startswith(_REFUSED_BOX):
            raise
        rule = told.removeprefix(_REFUSED_BOX)
        raise ValueError(f"{place}: the box to start on must {rule}") from None


def check_boxes(
    box_xywh_px: ArrayLike, frame_size: tuple[int, int] | None = None
) -> tuple[NDArray[np.float64], bool]:
    """Check the boxes to start on; return them as ``(N, 4)``, and whether a batch was given.

    Args:
        box_xywh_px: the boxes, ``(4,)`` or ``(N, 4)``.
        frame_size: height and width of the frame that they are in; None if it is not known.

    Raises:
        ShapeError: ``box_xywh_px`` is neither ``(4,)`` nor ``(N, 4)``.
        ValueError: ``box_xywh_px`` has a box that is not finite, has no size or does not fit the
            frame; see :func:`~rgbt_fusion.frames.square.check_first_box`.
    """
    boxes = np.array(box_xywh_px, dtype=np.float64)
    if boxes.shape[-1:] != (4,) or boxes.ndim not in (1, 2) or not boxes.size:
        raise ShapeError(f"box_xywh_px must have shape (4,) or (N, 4), got {boxes.shape}")
    batched = boxes.ndim == 2
    boxes = np.atleast_2d(boxes)
    for box in boxes:
        if frame_size is None:
            check_box(box)
        else:
            check_first_box(box, frame_size)
    return boxes, batched

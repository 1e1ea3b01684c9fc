"""One track against one annotation, frame by frame, under the rules of a benchmark."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.evaluation.metrics import (
    Array,
    centre_error,
    clip_to_image,
    normalised_centre_error,
    overlap,
    repeat_previous,
    round_half_away,
)
from rgbt_fusion.evaluation.protocols import Protocol
from rgbt_fusion.evaluation.results import TrackResult
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.types import GroundTruth

__all__ = ["Comparison", "compare", "frames_needed"]


class Comparison(NamedTuple):
    """How well one track follows one annotation, one value a scored frame."""

    overlap: Array
    """Intersection over union; -1 where the benchmark counts an absent target as a failure."""
    error_px: Array
    """Distance of the centres in pixels; -1 where the benchmark counts an absent target as a
success."""
    error_normalised: Array
    """The same in units of the annotated width and height."""
    present: NDArray[np.bool_]
    """Whether the target is there."""
    boxes: Array
    """The predicted boxes as they were scored, ``(T, 4)``."""
    frames: NDArray[np.int64]
    """The position of each scored frame in the sequence."""


def frames_needed(truth: GroundTruth) -> int:
    """Return how many rows a result must have to be scored."""
    return int(truth.frames[-1]) + 1 if len(truth.frames) else 0


def compare(
    result: TrackResult,
    truth: GroundTruth,
    protocol: Protocol,
    *,
    size: tuple[int, int] | None = None,
) -> Comparison:
    """Compare a track with its annotation under a benchmark's rules.

    In the toolkits' order: rows without annotation are dropped, boxes rounded, the first frame
    replaced, invalid boxes replaced, everything cut at the image, overlaps and errors computed,
    absent targets handled.

    Args:
        result: the track; rows beyond the last annotated frame are ignored.
        truth: the annotation.
        protocol: the rules, see :func:`~rgbt_fusion.evaluation.protocols.get_protocol`.
        size: width and height of the images, for the benchmarks that cut boxes there; None does not
            cut.

    Raises:
        DataError: the track is shorter than the annotation.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> from rgbt_fusion.evaluation.comparison import compare
        >>> from rgbt_fusion.evaluation.protocols import get_protocol
        >>> from rgbt_fusion import TrackResult
        >>> boxes = np.array([[1.0, 1, 10, 10], [5, 5, 10, 10]])
        >>> truth = GroundTruth(boxes, boxes, np.arange(2))
        >>> compare(TrackResult(boxes), truth, get_protocol("lasher")).overlap.tolist()
        [1.0, 1.0]
    """
    dtype = np.dtype(protocol.dtype)
    boxes = _annotated_rows(result.boxes, truth)
    boxes = _prepare(boxes, result.corners, truth, protocol).astype(dtype)
    tracks = [truth.rgb.astype(dtype)] + (
        [truth.tir.astype(dtype)] if protocol.modalities == "best" else []
    )
    absent = np.logical_and.reduce([_absent(track, truth, protocol) for track in tracks])
    if protocol.bounded and size is not None:
        width, height = size
        boxes = clip_to_image(boxes, width=width, height=height)
        tracks = [clip_to_image(track, width=width, height=height) for track in tracks]
    offset = protocol.centre_offset
    overlaps = _best(
        [overlap(boxes, track, inclusive=protocol.inclusive) for track in tracks], np.maximum
    )
    errors = _best(
        [centre_error(boxes, track, centre_offset=offset) for track in tracks], np.minimum
    )
    normalised = _best(
        [normalised_centre_error(boxes, track, centre_offset=offset) for track in tracks],
        np.minimum,
    )
    if protocol.absent == "minus_one":
        overlaps, errors, normalised = (
            np.where(absent, -1.0, values) for values in (overlaps, errors, normalised)
        )
    scored = ~absent if protocol.absent == "excluded" else np.ones(len(boxes), dtype=bool)
    scored[:1] &= protocol.first_frame != "dropped"
    found = Comparison(overlaps, errors, normalised, ~absent, boxes, truth.frames)
    return found if scored.all() else Comparison._make(values[scored] for values in found)


def _annotated_rows(boxes: Array, truth: GroundTruth) -> Array:
    needed, annotated = frames_needed(truth), len(truth.frames)
    if truth.skipped and len(boxes) == needed + truth.skipped:
        # the tracker also ran over the images before the first annotated one
        boxes = boxes[truth.skipped :]
    if len(boxes) == annotated < needed:
        # written for the annotated frames alone
        return boxes
    if len(boxes) < needed:
        raise DataError(f"a result must have a box for each of {needed} frames, got {len(boxes)}")
    return boxes[truth.frames]


def _prepare(boxes: Array, corners: bool, truth: GroundTruth, protocol: Protocol) -> Array:
    if protocol.rounding == "all":
        boxes = np.round(boxes)
    elif protocol.rounding == "corners" and corners:
        boxes = round_half_away(boxes)
    if protocol.first_frame == "truth":
        boxes = np.concatenate((truth.rgb[:1], boxes[1:]))
    if protocol.invalid == "kept":
        return boxes
    return repeat_previous(boxes, nan=protocol.invalid == "previous")


def _absent(track: Array, truth: GroundTruth, protocol: Protocol) -> NDArray[np.bool_]:
    if protocol.absent_rule == "not_positive":
        return np.any(~(track > 0), axis=1)
    without_size = np.any(~(track[:, 2:] > 0), axis=1)
    if protocol.absent_rule == "label" and truth.present is not None:
        return without_size | ~truth.present
    return without_size


def _best(values: list[Array], choose: np.ufunc) -> Array:
    return values[0] if len(values) == 1 else choose(*values)

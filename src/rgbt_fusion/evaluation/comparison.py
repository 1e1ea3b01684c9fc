"""Compare one track with one annotation, frame by frame, under the rules of a benchmark."""

from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.data.annotations import to_xywh
from rgbt_fusion.evaluation.metrics import (
    Array,
    centre_error,
    clip_to_image,
    normalised_centre_error,
    overlap,
    repeat_previous,
    round_half_away,
)
from rgbt_fusion.evaluation.protocols import ScoringRules
from rgbt_fusion.evaluation.results import StoredTrack
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.types import GroundTruth

__all__ = ["Comparison", "compare", "frames_needed", "rows_of_frames"]


class Comparison(NamedTuple):
    """How well one track follows one annotation, one value per scored frame."""

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
    if not len(truth.frames):
        return 0
    return int(truth.frames[-1]) + 1


def compare(
    result: StoredTrack,
    truth: GroundTruth,
    rules: ScoringRules,
    *,
    size: tuple[int, int] | None = None,
) -> Comparison:
    """Compare a track with its annotation under a benchmark's rules.

    The steps follow the toolkits' order: boxes are rounded, rows without annotation are dropped,
    the first frame is replaced, invalid boxes are replaced, everything is cut at the image,
    overlaps and errors are computed, absent targets are handled.

    Args:
        result: the track. Rows beyond the last annotated frame are ignored.
        truth: the annotation.
        rules: how to compare, see :func:`~rgbt_fusion.evaluation.protocols.get_protocol`.
        size: width and height of the images, for the benchmarks that cut boxes there. None does
            not cut.

    Raises:
        DataError: ``result`` is shorter than the annotation.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.evaluation.comparison import compare
        >>> from rgbt_fusion.evaluation.protocols import get_protocol
        >>> from rgbt_fusion.evaluation.results import StoredTrack
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> annotated = np.array([[1.0, 1, 10, 10], [5, 5, 10, 10]])
        >>> truth = GroundTruth(annotated, annotated, np.arange(2))
        >>> shifted = StoredTrack(annotated + np.array([5, 0, 0, 0]))
        >>> compare(shifted, truth, get_protocol("rgbt234")).overlap.round(3).tolist()
        [0.333, 0.333]
    """
    dtype = np.dtype(rules.dtype)
    boxes = _rounded(result, rules)[rows_of_frames(len(result.boxes), truth)]
    boxes = _with_valid_boxes(boxes, truth, rules).astype(dtype)
    tracks = [truth.rgb.astype(dtype, copy=False)]
    if rules.modalities == "best":
        tracks.append(truth.tir.astype(dtype, copy=False))
    absent = reduce(np.logical_and, [_absent(track, truth, rules) for track in tracks])
    if rules.bounded and size is not None:
        width, height = size
        boxes = clip_to_image(boxes, width=width, height=height)
        tracks = [clip_to_image(track, width=width, height=height) for track in tracks]

    inclusive = rules.inclusive
    offset = rules.centre_offset
    overlaps = reduce(np.maximum, [overlap(boxes, one, inclusive=inclusive) for one in tracks])
    if rules.least_overlap:
        overlaps = np.where(overlaps < rules.least_overlap, 0.0, overlaps)
    errors = reduce(
        np.minimum, [centre_error(boxes, track, centre_offset=offset) for track in tracks]
    )
    normalised = reduce(
        np.minimum,
        [normalised_centre_error(boxes, track, centre_offset=offset) for track in tracks],
    )
    if rules.absent == "minus_one":
        overlaps = np.where(absent, -1.0, overlaps)
        errors = np.where(absent, -1.0, errors)
    if rules.absent == "minus_one" or rules.absent_succeeds_normalised:
        normalised = np.where(absent, -1.0, normalised)

    scored = np.ones(len(boxes), dtype=bool)
    if rules.absent == "excluded":
        scored = ~absent
    if rules.first_frame == "dropped":
        scored[:1] = False
    everything = Comparison(overlaps, errors, normalised, ~absent, boxes, truth.frames)
    if scored.all():
        return everything
    return Comparison._make(values[scored] for values in everything)


def rows_of_frames(written: int, truth: GroundTruth) -> NDArray[np.int64]:
    """Return which row of a result belongs to each annotated frame.

    Args:
        written: how many rows the result has.
        truth: the annotation.

    Raises:
        DataError: ``written`` is fewer than the annotation needs.
    """
    needed = frames_needed(truth)
    annotated = len(truth.frames)
    if truth.skipped and written == needed + truth.skipped:
        # the tracker also ran over the images before the first annotated one
        return truth.frames + truth.skipped
    if written == annotated < needed:
        # written for the annotated frames alone
        return np.arange(annotated)
    if written < needed:
        raise DataError(f"a result must have a box for each of {needed} frames, got {written}")
    return truth.frames


def _rounded(result: StoredTrack, rules: ScoringRules) -> Array:
    """Return the boxes of a result, rounded as the rules ask."""
    if rules.rounding == "corners" and result.corners:
        return round_half_away(result.boxes)
    if rules.rounding != "all":
        return result.boxes
    if result.written_corners is None:
        return np.round(result.boxes.astype(rules.dtype))
    # the corners are rounded, then converted
    boxes = to_xywh(np.round(result.written_corners.astype(rules.dtype)))
    boxes[:, 2:] += rules.corner_offset
    return boxes


def _with_valid_boxes(boxes: Array, truth: GroundTruth, rules: ScoringRules) -> Array:
    """Replace the first box and the invalid boxes, as the rules ask."""
    if rules.first_frame == "truth":
        boxes = np.concatenate((truth.rgb[:1], boxes[1:]))
    if rules.invalid == "kept":
        return boxes
    return repeat_previous(boxes, nan=rules.invalid == "previous")


def _absent(track: Array, truth: GroundTruth, rules: ScoringRules) -> NDArray[np.bool_]:
    """Return in which frames the target is absent, by one annotation."""
    if rules.absent_rule == "not_positive":
        return ~_all_positive(track)
    without_size = ~_all_positive(track[:, 2:])
    if rules.absent_rule == "label" and truth.present is not None:
        return without_size | ~truth.present
    return without_size


def _all_positive(numbers: Array) -> NDArray[np.bool_]:
    """Return in which rows all numbers are above 0."""
    # column by column: a reduction over so short an axis costs several times as much
    return reduce(np.logical_and, [column > 0 for column in numbers.T])

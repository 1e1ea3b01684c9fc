"""Hints for result files whose numbers are not what their columns usually mean."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.data.annotations import to_xywh
from rgbt_fusion.evaluation.metrics import overlap
from rgbt_fusion.evaluation.results import StoredTrack
from rgbt_fusion.frames.types import GroundTruth

__all__ = ["result_hint"]

CLEARLY_BETTER = 0.3
"""By how much the overlap must rise for two corners to be the likelier meaning."""


def result_hint(results: Mapping[str, StoredTrack], truth: Mapping[str, GroundTruth]) -> str | None:
    """Return what result files seem to hold instead of left, top, width and height.

    Args:
        results: what was read, by sequence.
        truth: the annotations, by sequence.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.evaluation.hints import result_hint
        >>> from rgbt_fusion.evaluation.results import StoredTrack
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> boxes = np.array([[100.0, 80, 40, 60]])
        >>> truth = {"car": GroundTruth(boxes, boxes, np.arange(1))}
        >>> corners = StoredTrack(np.array([[100.0, 80, 140, 140]]))
        >>> result_hint({"car": corners}, truth)
        'its boxes look like two corners: --box-format xyxy reads them so'
    """
    found = [name for name in results if name in truth and len(results[name].boxes)]
    if not found:
        return None
    pairs = [_common(results[name].boxes, truth[name]) for name in found]
    boxes = np.concatenate([ours for ours, _ in pairs])
    expected = np.concatenate([theirs for _, theirs in pairs])
    if not len(boxes):
        return None
    reached = overlap(boxes, expected).mean()
    eights = [results[name].written_corners for name in found]
    written = [eight for eight in eights if eight is not None]
    if len(written) == len(found):
        fours = [_with_decimal_commas(eight) for eight in written]
        pairs = [_common(four, truth[name]) for name, four in zip(found, fours, strict=True)]
        joined = np.concatenate([ours for ours, _ in pairs])
        if overlap(joined, expected).mean() - reached >= CLEARLY_BETTER:
            return "its numbers look like four with decimal commas: write points"
        return None
    if np.abs(boxes).max() <= 1.5 and np.abs(expected).max() > 10:
        return "its boxes look like fractions of the image: they must be in pixels"
    as_corners = to_xywh(boxes, box_format="xyxy")
    if overlap(as_corners, expected).mean() - reached >= CLEARLY_BETTER:
        return "its boxes look like two corners: --box-format xyxy reads them so"
    return None


def _common(
    boxes: NDArray[np.float64], truth: GroundTruth
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the boxes of both in the annotated frames, those without a number left out."""
    inside = truth.frames < len(boxes)
    ours = boxes[truth.frames[inside]]
    theirs = truth.rgb[inside]
    finite = np.isfinite(ours).all(axis=1) & np.isfinite(theirs).all(axis=1)
    return ours[finite], theirs[finite]


def _with_decimal_commas(eight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return four numbers of which a comma between whole number and fraction made eight."""
    whole = eight[:, 0::2]
    fraction = eight[:, 1::2]
    digits = np.floor(np.log10(np.maximum(np.abs(fraction), 1))) + 1
    return whole + fraction / 10**digits

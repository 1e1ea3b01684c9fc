"""Precision, recall and F of trackers that say how sure they are: what DepthTrack and the VOT
challenges measure."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rgbt_fusion.checks import ShapeError, check_positive_int
from rgbt_fusion.evaluation.metrics import Array, as_frames

__all__ = ["PrecisionRecall", "confidence_thresholds", "f_score", "precision_recall"]


class PrecisionRecall(NamedTuple):
    """Tracking precision and recall of one sequence, one value a confidence threshold."""

    precision: Array
    recall: Array


def confidence_thresholds(confidences: ArrayLike, *, count: int = 100) -> Array:
    """Return the confidences at which precision and recall are read, highest first, infinity at
    both ends.

    Where the paper is silent: ``count`` includes the two infinities, as in the VOT toolkit; with
    fewer frames than that, every confidence is a threshold.

    Args:
        confidences: the confidences of all frames of all sequences; NaN is left out.
        count: how many thresholds.

    Shape:
        ``(N,)`` to ``(min(N + 2, count),)``.

    Raises:
        ShapeError: ``confidences`` has not one axis, or no value.
        ValueError: ``count`` is below 1.

    Example:
        >>> from rgbt_fusion.evaluation.long_term import confidence_thresholds
        >>> confidence_thresholds([0.2, 0.9]).tolist()
        [inf, 0.9, 0.2, -inf]

    Source:
        Lukezic et al., "Performance Evaluation Methodology for Long-Term Single-Object Tracking",
        T-Cybernetics 2021.
    """
    pooled = as_frames(confidences, "confidences")
    pooled = np.sort(pooled[~np.isnan(pooled)])[::-1]
    inner = check_positive_int(count, name="count") - 2
    if len(pooled) > inner > 0:
        margin = len(pooled) // inner
        pooled = pooled[np.round(np.linspace(margin, len(pooled) - margin, inner)).astype(int)]
    return np.concatenate(([np.inf], pooled, [-np.inf]))


def precision_recall(
    overlaps: ArrayLike, confidences: ArrayLike, visible: ArrayLike, thresholds: ArrayLike
) -> PrecisionRecall:
    r"""Return the tracking precision and recall of one sequence at each confidence threshold.

    .. math::
        \mathrm{Pr}(t) = \frac{1}{|F_t|} \sum_{i \in F_t} \mathrm{IoU}_i, \qquad
        \mathrm{Re}(t) = \frac{1}{|V|} \sum_{i \in F_t} \mathrm{IoU}_i, \qquad F_t = \{i : \text{confidence}_i \ge t\}

    Where the paper is silent: Pr is 1 where no frame is confident enough; an absent target overlaps
    nothing.

    Args:
        overlaps: one overlap a frame.
        confidences: one confidence a frame; NaN is below every threshold but minus infinity.
        visible: whether the target is visible, one a frame.
        thresholds: the thresholds.

    Shape:
        ``(T,)``, ``(T,)``, ``(T,)`` and ``(K,)`` to two arrays ``(K,)``.

    Raises:
        ShapeError: the lengths differ, or there is no frame.

    Example:
        >>> from rgbt_fusion.evaluation.long_term import precision_recall
        >>> curve = precision_recall([0.8, 0.4], [0.9, 0.1], [True, True], [float("inf"), 0.5, 0.0])
        >>> curve.precision.round(2).tolist(), curve.recall.round(2).tolist()
        ([1.0, 0.8, 0.6], [0.0, 0.4, 0.6])

    Source:
        Yan et al., "DepthTrack", ICCV 2021; the VOT long-term challenges.
    """
    values, scores = as_frames(overlaps, "overlaps"), as_frames(confidences, "confidences")
    seen = np.asarray(visible, dtype=bool)
    for name, array in (("confidences", scores), ("visible", seen)):
        if array.shape != values.shape:
            raise ShapeError(
                f"{name} must have the length of overlaps {len(values)}, got shape {array.shape}"
            )
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind="stable")
    total = np.concatenate(([0.0], np.cumsum(np.where(seen, values, 0.0)[order])))
    confident = np.searchsorted(-scores[order], -as_frames(thresholds, "thresholds"), side="right")
    precision = np.where(confident > 0, total[confident] / np.maximum(confident, 1), 1.0)
    return PrecisionRecall(precision, total[confident] / max(int(seen.sum()), 1))


def f_score(precision: ArrayLike, recall: ArrayLike) -> Array:
    """Return the harmonic mean of precision and recall, 0 where both are 0.

    Example:
        >>> from rgbt_fusion.evaluation.long_term import f_score
        >>> f_score([1.0, 0.0], [0.5, 0.0]).round(4).tolist()
        [0.6667, 0.0]
    """
    p, r = np.asarray(precision, dtype=np.float64), np.asarray(recall, dtype=np.float64)
    return np.where(p + r > 0, 2 * p * r / np.where(p + r > 0, p + r, 1), 0.0)

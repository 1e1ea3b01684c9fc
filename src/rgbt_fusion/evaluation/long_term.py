"""Precision, recall and F over confidences, as DepthTrack and the VOT challenges measure."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rgbt_fusion.checks import ShapeError, check_positive_int
from rgbt_fusion.evaluation.metrics import Array, as_frames

__all__ = [
    "BestF",
    "PrecisionRecall",
    "at_best_f",
    "confidence_thresholds",
    "f_score",
    "precision_recall",
]


class PrecisionRecall(NamedTuple):
    """Tracking precision and recall, one value per confidence threshold."""

    precision: Array
    """Mean overlap of the frames that are confident enough."""
    recall: Array
    """Sum of these overlaps per frame in which the target is visible."""


def confidence_thresholds(confidences: ArrayLike, *, count: int = 100) -> Array:
    """Return the confidences at which precision and recall are read, the highest first.

    The first threshold is infinity, the last is minus infinity.

    Paper and code: ``count`` includes the two infinities, as in the VOT toolkit. With fewer frames
    than that, every confidence is a threshold.

    Args:
        confidences: the confidences of all frames of all sequences; NaN is ignored.
        count: how many thresholds.

    Shape:
        - confidences: ``(N,)``
        - returns ``(min(N + 2, count),)``

    Raises:
        ShapeError: ``confidences`` does not have exactly one axis, or is empty.
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
        places = np.linspace(margin, len(pooled) - margin, inner)
        pooled = pooled[np.round(places).astype(int)]
    return np.concatenate(([np.inf], pooled, [-np.inf]))


def precision_recall(
    overlaps: ArrayLike, confidences: ArrayLike, visible: ArrayLike, thresholds: ArrayLike
) -> PrecisionRecall:
    r"""Return the tracking precision and recall of one sequence at each confidence threshold.

    .. math::
        \mathrm{Pr}(t) = \frac{1}{|F_t|} \sum_{i \in F_t} \mathrm{IoU}_i, \qquad
        \mathrm{Re}(t) = \frac{1}{|V|} \sum_{i \in F_t} \mathrm{IoU}_i, \qquad
        F_t = \{i : \text{confidence}_i \ge t\}

    Paper and code: Pr is 1 where no frame is confident enough. An absent target overlaps nothing.

    Args:
        overlaps: one overlap per frame.
        confidences: one confidence per frame; NaN is below every threshold but minus infinity.
        visible: per frame, whether the target is visible.
        thresholds: the thresholds.

    Shape:
        - overlaps, confidences, visible: ``(T,)``
        - thresholds: ``(K,)``
        - returns ``precision`` and ``recall``, ``(K,)`` each

    Raises:
        ShapeError: ``confidences`` or ``visible`` differs from ``overlaps`` in length, or there is
            no frame.

    Example:
        >>> from rgbt_fusion.evaluation.long_term import precision_recall
        >>> curve = precision_recall([0.8, 0.4], [0.9, 0.1], [True, True], [float("inf"), 0.5, 0.0])
        >>> curve.precision.round(2).tolist(), curve.recall.round(2).tolist()
        ([1.0, 0.8, 0.6], [0.0, 0.4, 0.6])

    Source:
        Yan et al., "DepthTrack", ICCV 2021; the VOT long-term challenges.
    """
    values = as_frames(overlaps, "overlaps")
    sure = as_frames(confidences, "confidences")
    seen = np.asarray(visible, dtype=bool)
    for name, array in (("confidences", sure), ("visible", seen)):
        if array.shape != values.shape:
            raise ShapeError(
                f"{name} must have the length of overlaps {len(values)}, got shape {array.shape}"
            )
    sure = np.where(np.isnan(sure), -np.inf, sure)
    surest_first = np.argsort(-sure, kind="stable")
    overlaps_of_visible = np.where(seen, values, 0.0)[surest_first]
    # total[k]: the sum over the k surest frames
    total = np.concatenate(([0.0], np.cumsum(overlaps_of_visible)))
    limits = as_frames(thresholds, "thresholds")
    confident = np.searchsorted(-sure[surest_first], -limits, side="right")
    precision = np.where(confident > 0, total[confident] / np.maximum(confident, 1), 1.0)
    recall = total[confident] / max(int(seen.sum()), 1)
    return PrecisionRecall(precision, recall)


class BestF(NamedTuple):
    """Precision, recall and F at the threshold of the best F, one value per row."""

    precision: Array
    recall: Array
    f: Array


def at_best_f(precision: Array, recall: Array) -> BestF:
    """Read precision and recall at the threshold of the best F.

    Shape:
        - precision, recall: ``(M, thresholds)``
        - returns ``(M,)`` each

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.evaluation.long_term import at_best_f
        >>> best = at_best_f(np.array([[1.0, 0.8, 0.5]]), np.array([[0.1, 0.6, 0.7]]))
        >>> best.precision.tolist(), best.recall.tolist()
        ([0.8], [0.6])
    """
    f = f_score(precision, recall)
    rows = np.arange(len(f))
    best = f.argmax(axis=1)
    return BestF(precision[rows, best], recall[rows, best], f[rows, best])


def f_score(precision: ArrayLike, recall: ArrayLike) -> Array:
    """Return the harmonic mean of precision and recall, 0 where both are 0.

    Example:
        >>> from rgbt_fusion.evaluation.long_term import f_score
        >>> f_score([1.0, 0.0], [0.5, 0.0]).round(4).tolist()
        [0.6667, 0.0]
    """
    p = np.asarray(precision, dtype=np.float64)
    r = np.asarray(recall, dtype=np.float64)
    total = p + r
    divisor = np.where(total > 0, total, 1)
    return np.where(total > 0, 2 * p * r / divisor, 0.0)

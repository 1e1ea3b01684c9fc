"""Track sequences, fit the confidence to what was found, and say what settings are worth."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.evaluation.confidence import FOUND_ABOVE, LOST_BELOW, confidence_scores
from rgbt_fusion.evaluation.metrics import overlap
from rgbt_fusion.files.table import Table
from rgbt_fusion.models.tracking_settings import ConfidenceMap, TrackingSettings, logit
from rgbt_fusion.tracking.interface import TrackResult
from rgbt_fusion.tracking.peaks import scores_of_peaks
from rgbt_fusion.tracking.tracker import Tracker

__all__ = [
    "Followed",
    "Worth",
    "fit_confidence",
    "follow_all",
    "logistic_fit",
    "lost_thresholds",
    "table",
    "worth",
]

MOST_FALSE = 0.04
"""Share of good frames that may be flagged: a little less than the 0.05 that is wanted."""


class Followed(NamedTuple):
    """What a tracker made of a sequence; one value per frame, the given one left out."""

    group: str
    """What the sequence shows."""
    scores: NDArray[np.float64]
    """Of the network at the box, as they come."""
    rivals: NDArray[np.float64]
    """Of the network away from the box."""
    confidences: NDArray[np.float64]
    overlaps: NDArray[np.float64]
    """With the annotation of the modality that fits better; 0 where the target is absent."""
    present: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    """What the tracker said."""


class Worth(NamedTuple):
    """What a tracker's boxes and confidence are worth."""

    success: float
    """Area under the success curve, over the frames with the target in them."""
    ece: float
    """Expected calibration error of the overlap above 0.5."""
    auroc: float
    """How well low confidence finds lost frames."""
    flagged_lost: float
    """Share of the lost frames that the tracker says are lost."""
    flagged_good: float
    """Share of the good frames that the tracker says are lost."""


def follow_all(
    model: Any, sequences: Mapping[str, Sequence[Any]], settings: TrackingSettings
) -> list[Followed]:
    """Track sequences, by group, with a network under some settings."""
    model.tracking_settings = settings
    tracker = Tracker(model)
    return [
        _followed(tracker, group, sequence)
        for group, members in sequences.items()
        for sequence in members
    ]


def _followed(tracker: Tracker, group: str, sequence: Any) -> Followed:
    """Track a sequence, and keep the frames whose annotation is known, without the given one."""
    results: list[TrackResult] = []
    rivals: list[float] = []
    for result in tracker.track(sequence):
        results.append(result)
        look = tracker.last_look
        rival = 0.0
        if look is not None:
            rival = float(scores_of_peaks(look.output.score_map, look.window)[0, 1])
        rivals.append(rival)
    truth = sequence.truth
    present = np.ones(len(truth.frames), bool) if truth.present is None else truth.present
    known = (truth.frames > 0) & (np.isfinite(truth.rgb).all(axis=1) | ~present)
    rows = truth.frames[known]
    boxes = np.stack([result.box_xywh_px for result in results])[rows]
    fits = [overlap(boxes, own[known], inclusive=False) for own in (truth.rgb, truth.tir)]
    return Followed(
        group=group,
        scores=np.array([result.score for result in results], dtype=np.float64)[rows],
        rivals=np.array(rivals)[rows],
        confidences=np.array([result.confidence for result in results], dtype=np.float64)[rows],
        overlaps=np.where(present[known], np.maximum(*fits), 0.0),
        present=present[known],
        lost=np.array([result.lost for result in results])[rows],
    )


def fit_confidence(tracks: Sequence[Followed]) -> ConfidenceMap:
    """Return the map from scores to probabilities that makes what was found most likely."""
    scores = np.concatenate([one.scores for one in tracks])
    rivals = np.concatenate([one.rivals for one in tracks])
    overlaps = np.concatenate([one.overlaps for one in tracks])
    # a frame without both modalities has no score: its confidence is 0 in any case
    asked = scores > 0
    return logistic_fit(scores[asked], rivals[asked], overlaps[asked] > FOUND_ABOVE)


def logistic_fit(
    scores: ArrayLike, rivals: ArrayLike, found: ArrayLike, *, steps: int = 50
) -> ConfidenceMap:
    """Return the map from scores to probabilities that makes what was found most likely.

    Choices: Newton's method on the three parameters, with one frame of either kind added at scores
    of one half, so that a perfect order keeps finite slopes. Rivals count only where a better rival
    comes with worse boxes.

    Args:
        scores: of the network at the box, ``(N,)`` in [0, 1].
        rivals: of the network away from the box, ``(N,)`` in [0, 1].
        found: whether the overlap exceeds 0.5, ``(N,)``.
        steps: how many steps to take.

    Raises:
        ValueError: higher scores do not come with better boxes.

    Example:
        >>> import numpy as np
        >>> from benchmarks.tracking.measure import logistic_fit
        >>> random = np.random.default_rng(0)
        >>> scores, rivals = random.random((2, 20_000))
        >>> odds = (scores / (1 - scores)) ** 2 / (rivals / (1 - rivals))
        >>> fitted = logistic_fit(scores, rivals, random.random(20_000) < odds / (1 + odds))
        >>> abs(round(fitted.offset, 1)), round(fitted.slope, 1), round(fitted.rival_slope, 1)
        (0.0, 2.0, 1.0)
    """
    own = logit(np.asarray(scores, dtype=np.float64))
    other = -logit(np.asarray(rivals, dtype=np.float64))
    targets = np.concatenate((np.asarray(found, dtype=np.float64), (0.0, 1.0)))
    features = np.stack((np.ones_like(own), own, other), axis=1)
    features = np.concatenate((features, [(1.0, 0.0, 0.0)] * 2))
    offset, slope, rival_slope = _newton(features, targets, steps)
    if rival_slope < 0:
        offset, slope = _newton(features[:, :2], targets, steps)
        rival_slope = 0.0
    return ConfidenceMap(round(offset, 4), round(slope, 4), round(rival_slope, 4))


def _newton(features: NDArray[np.float64], targets: NDArray[np.float64], steps: int) -> list[float]:
    """Return the weights of a logistic regression."""
    weights = np.zeros(features.shape[1])
    for _ in range(steps):
        probabilities = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (targets - probabilities)
        spread = probabilities * (1 - probabilities)
        curvature = (features * spread[:, None]).T @ features
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
        weights = weights + step.clip(-1, 1)
    return weights.tolist()


def lost_thresholds(tracks: Sequence[Followed], confidence: ConfidenceMap) -> tuple[float, float]:
    """Return the confidences below which a target is lost and from which on it is found again.

    They flag the most lost frames of all pairs, in steps of 0.01, that flag few enough of the good
    ones. Of equal pairs it is the one with the highest first threshold, then the lowest second one.
    """
    lost_below, found_from = np.triu_indices(99)
    lost_below, found_from = (lost_below + 1) / 100, (found_from + 1) / 100
    flags = [_flags(one, confidence, lost_below, found_from) for one in tracks]
    flagged = np.concatenate(flags)
    overlaps = np.concatenate([one.overlaps for one in tracks])
    few_enough = flagged[overlaps > FOUND_ABOVE].mean(axis=0) <= MOST_FALSE
    if not few_enough.any():
        return 0.0, 0.0
    flagged_lost = flagged[_is_lost(tracks)].sum(axis=0)
    best = np.lexsort((-found_from, lost_below, flagged_lost, few_enough))[-1]
    return float(lost_below[best]), float(found_from[best])


def _flags(
    one: Followed,
    confidence: ConfidenceMap,
    lost_below: NDArray[np.float64],
    found_from: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which frames each pair of thresholds flags, ``(frames, pairs)``."""
    confidences = np.where(one.scores > 0, confidence(one.scores, one.rivals), 0.0)
    lost = np.zeros((len(confidences), len(lost_below)), dtype=bool)
    before = np.zeros(len(lost_below), dtype=bool)
    for number, sure in enumerate(confidences):
        before = sure < np.where(before, found_from, lost_below)
        lost[number] = before
    return lost


def _is_lost(tracks: Sequence[Followed]) -> NDArray[np.bool_]:
    """Return in which frames the target is lost in truth: not there, or hardly in the box."""
    overlaps = np.concatenate([one.overlaps for one in tracks])
    present = np.concatenate([one.present for one in tracks])
    return (overlaps < LOST_BELOW) | ~present


def worth(tracks: Sequence[Followed]) -> Worth:
    """Return what boxes and confidences are worth."""
    scored = confidence_scores(
        [one.confidences for one in tracks],
        [one.overlaps for one in tracks],
        [one.present for one in tracks],
    )
    overlaps = np.concatenate([one.overlaps for one in tracks])
    flagged = np.concatenate([one.lost for one in tracks])
    present = np.concatenate([one.present for one in tracks])
    is_lost = _is_lost(tracks)
    thresholds = np.linspace(0, 1, 21)
    success = (overlaps[present][:, None] > thresholds).mean()
    return Worth(
        success=float(success),
        ece=float("nan") if scored.ece is None else scored.ece,
        auroc=float("nan") if scored.auroc is None else scored.auroc,
        flagged_lost=float(flagged[is_lost].mean()) if is_lost.any() else float("nan"),
        flagged_good=float(flagged[overlaps > FOUND_ABOVE].mean()),
    )


def table(tracks: Sequence[Followed]) -> Table:
    """Return what boxes and confidences are worth, overall and by group."""
    groups = dict.fromkeys(one.group for one in tracks)
    rows = [("all", *worth(tracks))]
    for group in groups:
        rows.append((group, *worth([one for one in tracks if one.group == group])))
    header = ("sequences", "success", "ECE", "AUROC of lost", "lost flagged", "good flagged")
    return Table(header, tuple(rows))

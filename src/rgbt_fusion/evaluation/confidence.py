"""How far a tracker's confidence can be trusted: calibration, finding losses, and selecting frames.

A tracker has found its target in a frame where the overlap exceeds one half, and lost it where the
overlap is below a fifth or the target is absent. The confidence is read as the probability that it
has found it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import ShapeError, check_finite_number, check_positive_int
from rgbt_fusion.evaluation.intervals import Interval, Resampling, percentiles, resample_counts
from rgbt_fusion.evaluation.metrics import Array, as_frames
from rgbt_fusion.evaluation.scores import Curve, Scores
from rgbt_fusion.files.table import Cell, Figure, Table

__all__ = [
    "FOUND_ABOVE",
    "LOST_BELOW",
    "ConfidenceScores",
    "Reliability",
    "confidence_scores",
    "confidence_table",
    "score_confidence",
]

FOUND_ABOVE = 0.5
"""Above this overlap the target counts as found."""

LOST_BELOW = 0.2
"""Below this overlap the target counts as lost."""

_LEVELS = 200
"""How many levels of confidence the resamples of the bootstrap tell apart."""


class Reliability(NamedTuple):
    """How often the target is found, by confidence: one value per bin of equal width."""

    confidence: Array
    """The mean confidence, NaN where a bin is empty."""
    hits: Array
    """The share of frames in which the target is found, NaN where a bin is empty."""
    frames: NDArray[np.int64]
    """How many frames fall into the bin."""


class ConfidenceScores(NamedTuple):
    """What a tracker's confidence is worth."""

    frames: int
    """How many frames were scored."""
    lost: float
    """The share of these in which the target is lost."""
    ece: float | None
    """Expected calibration error; None where a confidence is no probability."""
    auroc: float | None
    """How well low confidence finds losses; None where there are only losses, or none."""
    aurc: float
    """The area under the risk-coverage curve."""
    reliability: Reliability | None
    """None where a confidence is no probability."""
    risk: Curve
    """The mean of 1 - overlap over the most confident share of the frames."""
    intervals: dict[str, Interval]
    """Of ``"ECE"``, ``"AUROC"`` and ``"AURC"`` over sequences, where there are two or more."""


class _Frames(NamedTuple):
    """Frames of all sequences, one after another."""

    confidences: Array
    """NaN became minus infinity."""
    losses: Array
    """1 - overlap, 1 where the target is absent."""
    found: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    sequence: NDArray[np.int64]
    """The number of the sequence of each frame."""


def confidence_scores(
    confidences: Sequence[ArrayLike],
    overlaps: Sequence[ArrayLike],
    present: Sequence[ArrayLike],
    *,
    found_above: float = FOUND_ABOVE,
    lost_below: float = LOST_BELOW,
    bins: int = 10,
    resampling: Resampling | None = None,
) -> ConfidenceScores:
    r"""Score confidences against overlaps, with 95 % intervals over sequences.

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{hits}_b - \mathrm{confidence}_b|, \qquad
        \mathrm{AUROC} = P(c_\text{lost} < c_\text{other}) + \tfrac12 P(c_\text{lost} =
        c_\text{other}), \qquad
        \mathrm{AURC} = \frac1n \sum_{k=1}^{n} \frac1k \sum_{i \le k} (1 - \mathrm{IoU}_i)

    A hit is a frame whose target is found. The other frames of AUROC are those whose target is not
    lost. The frames of AURC are in the order of falling confidence; equal confidences count
    together.

    Choices: frames of all sequences are pooled. The intervals tell 200 levels of confidence apart.
    A resample cannot be better calibrated than perfectly, so that the interval of a small ECE lies
    a little high.

    Args:
        confidences: per sequence, one confidence per frame; NaN is below all others.
        overlaps: per sequence, one overlap per frame.
        present: per sequence and frame, whether the target is there.
        found_above: the overlap above which the target is found.
        lost_below: the overlap below which the target is lost.
        bins: how many bins of confidence the calibration has.
        resampling: how the bootstrap draws.

    Shape:
        - confidences, overlaps, present: a list of ``(T,)``, one per sequence

    Raises:
        ShapeError: the three differ in length, or there is no frame.
        ValueError: ``found_above`` or ``lost_below`` is not in [0, 1], or ``bins`` is below 1.

    Example:
        >>> from rgbt_fusion.evaluation.confidence import confidence_scores
        >>> found = confidence_scores([[0.9, 0.8, 0.1, 0.3]], [[0.7, 0.6, 0.1, 0.5]], [[True] * 4])
        >>> round(found.auroc, 3), round(found.ece, 3), round(found.lost, 3)
        (1.0, 0.175, 0.25)

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017; Geifman, El-Yaniv,
        "Selective Classification for Deep Neural Networks", NeurIPS 2017.
    """
    check_finite_number(found_above, name="found_above", low=0, high=1)
    check_finite_number(lost_below, name="lost_below", low=0, high=1)
    check_positive_int(bins, name="bins")
    frames = _pooled(confidences, overlaps, present, found_above, lost_below)
    probable = bool(((frames.confidences >= 0) & (frames.confidences <= 1)).all())
    reliability = None
    ece = None
    if probable:
        sums = _bin_sums(frames, bins, len(confidences))
        ece = float(_calibration_error(sums.sum(axis=1, keepdims=True))[0])
        reliability = _reliability(sums.sum(axis=1))
    levels = np.unique(frames.confidences, return_inverse=True)[1]
    exact = _level_sums(frames, levels, one_group=True)
    coverage, risk = _risk_curve(exact)
    intervals = {}
    if len(confidences) > 1:
        intervals = _intervals(frames, len(confidences), bins if probable else None, resampling)
    auroc = float(_auroc(exact)[0])
    return ConfidenceScores(
        frames=len(frames.lost),
        lost=float(frames.lost.mean()),
        ece=ece,
        auroc=None if np.isnan(auroc) else auroc,
        aurc=float(_aurc(exact)[0]),
        reliability=reliability,
        risk=Curve(coverage, risk),
        intervals=intervals,
    )


def score_confidence(
    scores: Scores, *, resampling: Resampling | None = None
) -> ConfidenceScores | None:
    """Score the confidences of a tracker; None where it wrote none.

    The first frame of each sequence is left out: it is given to the tracker.

    Args:
        scores: what :func:`~rgbt_fusion.evaluation.scoring.score` returned.
        resampling: how the bootstrap draws.
    """
    confidences: list[Array] = []
    overlaps: list[Array] = []
    present: list[NDArray[np.bool_]] = []
    for name, written in scores.confidences.items():
        track = scores.tracks[name]
        counted = track.frames > 0
        if counted.any():
            confidences.append(written[counted])
            overlaps.append(track.overlap[counted])
            present.append(track.present[counted])
    if not confidences:
        return None
    return confidence_scores(confidences, overlaps, present, resampling=resampling)


def confidence_table(names: Sequence[str], found: Sequence[ConfidenceScores | None]) -> Table:
    """Return one row per tracker that wrote confidences, the best of each column marked.

    Args:
        names: the trackers.
        found: what :func:`score_confidence` returned for each.

    Raises:
        ValueError: ``names`` and ``found`` differ in number.
    """
    if len(names) != len(found):
        raise ValueError(f"found must have one entry per name {len(names)}, got {len(found)}")
    known = [(name, one) for name, one in zip(names, found, strict=True) if one is not None]
    errors = [one.ece for _, one in known]
    areas = [one.auroc for _, one in known]
    risks: list[float | None] = [one.aurc for _, one in known]
    rows: list[tuple[Cell, ...]] = []
    for name, one in known:
        rows.append(
            (
                name,
                _figure(one.ece, one.intervals.get("ECE"), _best(errors)),
                _figure(one.auroc, one.intervals.get("AUROC"), _best(areas, lowest=False)),
                _figure(one.aurc, one.intervals.get("AURC"), _best(risks)),
                one.lost,
                one.frames,
            )
        )
    return Table(("tracker", "ECE", "AUROC of lost", "AURC", "lost", "frames"), tuple(rows))


def _best(values: Sequence[float | None], *, lowest: bool = True) -> float | None:
    """Return the best of several values, None where there is nothing to compare."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    return min(known) if lowest else max(known)


def _figure(value: float | None, interval: Interval | None, best: float | None) -> Cell:
    if value is None:
        return None
    low, high = (None, None) if interval is None else interval
    return Figure(value, low, high, best=value == best)


def _pooled(
    confidences: Sequence[ArrayLike],
    overlaps: Sequence[ArrayLike],
    present: Sequence[ArrayLike],
    found_above: float,
    lost_below: float,
) -> _Frames:
    """Check the frames of all sequences and put them one after another."""
    if not len(confidences) == len(overlaps) == len(present) > 0:
        raise ShapeError(
            "confidences, overlaps and present must have as many sequences, at least one, got "
            f"{len(confidences)}, {len(overlaps)} and {len(present)}"
        )
    known: list[Array] = []
    fits: list[Array] = []
    seen: list[NDArray[np.bool_]] = []
    for sure, overlap, shown in zip(confidences, overlaps, present, strict=True):
        own = as_frames(sure, "confidences")
        fit = as_frames(overlap, "overlaps")
        there = np.asarray(shown, dtype=bool)
        if not own.shape == fit.shape == there.shape:
            raise ShapeError(
                f"confidences, overlaps and present must have one length, got {own.shape}, "
                f"{fit.shape} and {there.shape}"
            )
        known.append(np.where(np.isnan(own), -np.inf, own))
        fits.append(np.where(there, np.clip(fit, 0, 1), 0.0))
        seen.append(there)
    overlap_of_all = np.concatenate(fits)
    is_there = np.concatenate(seen)
    lengths = [len(one) for one in known]
    return _Frames(
        confidences=np.concatenate(known),
        losses=1 - overlap_of_all,
        found=(overlap_of_all > found_above) & is_there,
        lost=(overlap_of_all < lost_below) | ~is_there,
        sequence=np.repeat(np.arange(len(known)), lengths),
    )


def _bin_sums(frames: _Frames, bins: int, sequences: int) -> Array:
    """Return frames, confidence and hits per sequence and bin, ``(3, sequences, bins)``."""
    place = np.minimum((frames.confidences * bins).astype(np.int64), bins - 1)
    return _sums(
        frames.sequence * bins + place,
        (np.ones(len(place)), frames.confidences, frames.found),
        (sequences, bins),
    )


def _level_sums(frames: _Frames, levels: NDArray[np.int64], *, one_group: bool) -> Array:
    """Return frames, loss and lost frames per group and level of confidence, the highest first."""
    count = int(levels.max()) + 1
    groups = 1 if one_group else int(frames.sequence.max()) + 1
    group = 0 if one_group else frames.sequence
    values = (np.ones(len(levels)), frames.losses, frames.lost)
    return _sums(group * count + (count - 1 - levels), values, (groups, count))


def _sums(
    place: NDArray[np.int64], values: Sequence[NDArray[Any]], shape: tuple[int, int]
) -> Array:
    """Return the sum of each value at each place."""
    size = shape[0] * shape[1]
    sums = [np.bincount(place, weights=value, minlength=size) for value in values]
    return np.stack(sums).reshape(len(sums), *shape).astype(np.float64)


def _calibration_error(sums: Array) -> Array:
    """Return ECE per group of ``(3, groups, bins)``."""
    _, confidence, hits = sums
    return np.abs(hits - confidence).sum(axis=1) / sums[0].sum(axis=1)


def _reliability(sums: Array) -> Reliability:
    frames, confidence, hits = sums
    filled = np.where(frames > 0, frames, np.nan)
    return Reliability(confidence / filled, hits / filled, frames.astype(np.int64))


def _auroc(sums: Array) -> Array:
    """Return AUROC per group of ``(3, groups, levels)``, the highest level first."""
    frames, _, lost = sums
    found = frames - lost
    # found frames that are surer than those of a level, and half of the equally sure ones
    surer = np.cumsum(found, axis=1) - found / 2
    pairs = lost.sum(axis=1) * found.sum(axis=1)
    return (lost * surer).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)


def _aurc(sums: Array) -> Array:
    """Return AURC per group of ``(3, groups, levels)``, the highest level first."""
    frames, losses, _ = sums
    covered = np.cumsum(frames, axis=1)
    risk = np.cumsum(losses, axis=1) / np.where(covered > 0, covered, 1)
    return (frames * risk).sum(axis=1) / frames.sum(axis=1)


def _risk_curve(sums: Array) -> tuple[Array, Array]:
    """Return coverage and risk of one group."""
    covered = np.cumsum(sums[0][0])
    return covered / covered[-1], np.cumsum(sums[1][0]) / covered


def _intervals(
    frames: _Frames, sequences: int, bins: int | None, resampling: Resampling | None
) -> dict[str, Interval]:
    """Return the intervals over sequences."""
    counts = resample_counts(sequences, resampling)
    shares = np.linspace(0, 1, _LEVELS + 1)[1:-1]
    edges = np.unique(np.quantile(frames.confidences, shares))
    levels = np.searchsorted(edges, frames.confidences, side="right")
    sums = _level_sums(frames, levels, one_group=False)
    drawn = np.stack([counts @ part for part in sums])
    resampled = {"AUROC": _auroc(drawn), "AURC": _aurc(drawn)}
    if bins is not None:
        binned = np.stack([counts @ part for part in _bin_sums(frames, bins, sequences)])
        resampled["ECE"] = _calibration_error(binned)
    found: dict[str, Interval] = {}
    for name, values in resampled.items():
        known = values[~np.isnan(values)]
        if len(known):
            band = percentiles(known[None], sequences, resampling)
            found[name] = Interval(float(band.low[0]), float(band.high[0]))
    return found

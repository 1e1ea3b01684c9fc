"""How far a score can be trusted: intervals over sequences, and which differences are decided.

A benchmark's sequences are taken as a sample of all sequences that one could have recorded. A
bootstrap draws benchmarks of the same size from them, with replacement, and looks at how the
numbers vary. All trackers get the same draws, so that a difference between two trackers does not
suffer from what is hard for both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from rgbt_fusion.checks import (
    ShapeError,
    check_choice,
    check_finite_number,
    check_positive_int,
)
from rgbt_fusion.evaluation.long_term import BestF, at_best_f
from rgbt_fusion.evaluation.metrics import Array
from rgbt_fusion.evaluation.scores import (
    LONG_TERM,
    WHERE_MISSING,
    CurveName,
    Scores,
    SequenceTable,
)

__all__ = [
    "LOWER_IS_BETTER",
    "Band",
    "Interval",
    "PairedDifference",
    "Pairs",
    "Resampling",
    "ScoreIntervals",
    "curve_bands",
    "mean_interval",
    "paired_differences",
    "percentiles",
    "resample_counts",
    "score_intervals",
    "smallest_decidable",
]

Pairs: TypeAlias = Literal["all", "first"]
"""Which trackers are compared: ``"all"`` with each other, or the ``"first"`` with all others."""

LOWER_IS_BETTER = ("APE", "miss_count", "max_ratio", "ECE", "AURC")
"""The numbers of which less is better."""

_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How the bootstrap draws.

    Raises:
        ValueError: ``resamples`` is below 1, ``seed`` is below 0 or ``level`` is not in (0, 1).
        TypeError: a number is of another type.
    """

    resamples: int = 5000
    """How many benchmarks are drawn."""
    seed: int = 0
    """The same seed draws the same benchmarks."""
    level: float = 0.95
    """How often an interval should hold the truth."""

    def __post_init__(self) -> None:
        check_positive_int(self.resamples, name="resamples")
        check_finite_number(self.seed, name="seed", low=0)
        level = check_finite_number(self.level, name="level", low=0, high=1)
        if level in (0, 1):
            raise ValueError(f"level must lie between 0 and 1, got {level}")


class Interval(NamedTuple):
    """What a number may be."""

    low: float
    high: float


class Band(NamedTuple):
    """What a curve may be: one interval per threshold."""

    low: Array
    high: Array


class ScoreIntervals(NamedTuple):
    """The intervals of one tracker's numbers."""

    metrics: Mapping[str, Interval]
    """By number. A number that has none is absent: a maximum, or what a single sequence gives."""
    attributes: Mapping[str, Mapping[str, Interval]]
    """By attribute, then by number."""
    fps: Interval | None
    """Of the frames per second."""


class PairedDifference(NamedTuple):
    """How much one tracker is above another on the same sequences."""

    first: str
    """The name of one tracker."""
    second: str
    """The name of the other."""
    metric: str
    """The number that is compared."""
    difference: float
    """The first one's number less the second one's."""
    interval: Interval
    """What the difference may be, corrected for the number of comparisons."""
    alone: Interval
    """The same if this were the only comparison."""
    comparisons: int
    """How many comparisons the interval is corrected for."""
    sequences: int
    """How many sequences both trackers have."""

    @property
    def decided(self) -> bool:
        """Whether the corrected interval leaves out 0."""
        return self.interval.low > 0 or self.interval.high < 0

    @property
    def better(self) -> str | None:
        """The name of the better tracker, None where that is undecided."""
        if not self.decided:
            return None
        higher_is_better = self.metric not in LOWER_IS_BETTER
        first_is_better = (self.difference > 0) == higher_is_better
        return self.first if first_is_better else self.second

    @property
    def decidable(self) -> float:
        """The smallest difference that these sequences decide between these two trackers."""
        return (self.interval.high - self.interval.low) / 2


def resample_counts(sequences: int, resampling: Resampling | None = None) -> Array:
    """Return how often each resample draws each sequence.

    Args:
        sequences: how many sequences there are.
        resampling: how to draw.

    Shape:
        - returns ``(resamples, sequences)``; each row adds up to ``sequences``

    Raises:
        ValueError: ``sequences`` is below 1.
        TypeError: ``sequences`` is not a whole number.

    Example:
        >>> from rgbt_fusion.evaluation.intervals import Resampling, resample_counts
        >>> resample_counts(4, Resampling(resamples=2)).tolist()
        [[0.0, 1.0, 2.0, 1.0], [3.0, 1.0, 0.0, 0.0]]
    """
    check_positive_int(sequences, name="sequences")
    how = resampling or Resampling()
    drawn = np.random.default_rng(how.seed).integers(0, sequences, (how.resamples, sequences))
    # one row after the other, so that a single count of all numbers does
    drawn += sequences * np.arange(how.resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=how.resamples * sequences)
    return counts.reshape(how.resamples, sequences).astype(np.float64)


def mean_interval(
    values: ArrayLike, weights: ArrayLike | None = None, *, resampling: Resampling | None = None
) -> Interval:
    r"""Return the interval of a mean over sequences.

    The interval goes from one percentile of the resampled means to another. Means of few sequences
    vary more than their resamples show, so the percentiles are moved outwards:

    .. math::
        \frac{\alpha'}{2} = \Phi\!\left(-\sqrt{\tfrac{n}{n-1}}\; t_{1-\alpha/2,\,n-1}\right)

    Args:
        values: one number per sequence.
        weights: how much each sequence counts; None counts all the same.
        resampling: how to draw.

    Shape:
        - values, weights: ``(sequences,)``
        - returns two numbers

    Raises:
        ShapeError: ``values`` has fewer than two numbers or ``weights`` differs in shape.

    Example:
        >>> from rgbt_fusion.evaluation.intervals import mean_interval
        >>> low, high = mean_interval([0.2, 0.4, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9])
        >>> round(low, 2), round(high, 2)
        (0.39, 0.75)

    Source:
        Hesterberg, "What Teachers Should Know about the Bootstrap", The American Statistician 2015,
        section 5.2 (expanded percentiles).
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ShapeError(
            f"values must have shape (sequences,) with at least 2, got {numbers.shape}"
        )
    shares = np.ones(len(numbers)) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != numbers.shape:
        raise ShapeError(
            f"weights must have the shape of values {numbers.shape}, got {shares.shape}"
        )
    counts = resample_counts(len(numbers), resampling)
    band = percentiles(_means(numbers[:, None], shares, counts), len(numbers), resampling)
    return Interval(float(band.low[0]), float(band.high[0]))


def score_intervals(
    scores: Sequence[Scores], *, resampling: Resampling | None = None
) -> tuple[ScoreIntervals, ...]:
    """Return the intervals of every number of every tracker, overall and by attribute.

    Args:
        scores: the trackers' scores on one benchmark.
        resampling: how to draw; trackers that have the same sequences get the same draws.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion import score
        >>> from rgbt_fusion.evaluation.intervals import score_intervals
        >>> from rgbt_fusion.evaluation.scoring import BenchmarkTruth
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> boxes = np.tile([50.0, 50, 20, 20], (10, 1))
        >>> truth = {str(n): GroundTruth(boxes, boxes, np.arange(10)) for n in range(8)}
        >>> results = {str(n): boxes + np.array([n, 0, 0, 0]) for n in range(8)}
        >>> mine = score(results, BenchmarkTruth("rgbt234", truth, {}))
        >>> low, high = score_intervals([mine])[0].metrics["MSR"]
        >>> f"{mine.metrics['MSR']:.2f}, from {low:.2f} to {high:.2f}"
        '0.70, from 0.57 to 0.85'
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, one in enumerate(scores):
        groups.setdefault(one.table.names, []).append(number)
    found: dict[int, ScoreIntervals] = {}
    for members in groups.values():
        intervals = _of_same_sequences([scores[number] for number in members], resampling)
        found.update(zip(members, intervals, strict=True))
    return tuple(found[number] for number in range(len(scores)))


def curve_bands(
    scores: Sequence[Scores], curve: CurveName, *, resampling: Resampling | None = None
) -> tuple[Band, ...]:
    """Return the band of a curve of every tracker: an interval at each threshold.

    Each interval is right on its own; the whole curve leaves a band more often. The band of
    ``"recall"`` is that of the recall at a confidence threshold.

    Args:
        scores: the trackers' scores on one benchmark, each with the curve.
        curve: which curve.
        resampling: how to draw; trackers that have the same sequences get the same draws.
    """
    bands: list[Band] = []
    counts_of: dict[int, Array] = {}
    for one in scores:
        table = one.table
        count = len(table.names)
        if count < 2:
            values = one.curves[curve].values
            bands.append(Band(values, values))
            continue
        if count not in counts_of:
            counts_of[count] = resample_counts(count, resampling)
        curves, weights = _curves_of_sequences(table, curve)
        bands.append(percentiles(_means(curves, weights, counts_of[count]), count, resampling))
    return tuple(bands)


def paired_differences(
    scores: Sequence[Scores],
    metric: str | None = None,
    *,
    pairs: Pairs = "all",
    resampling: Resampling | None = None,
) -> tuple[PairedDifference, ...]:
    r"""Return what is decided between trackers, the better of each pair first in rank.

    Each pair is compared on the sequences that all trackers have. All intervals hold together with
    the level of ``resampling``: they are as wide as the largest deviation of any pair asks for.

    .. math::
        d \pm c\,s, \qquad
        c = \text{quantile}_{1-\alpha}\, \max_{\text{pairs}} \frac{|d^* - d|}{s}
            \cdot \frac{t_{1-\alpha/2,\,n-1}}{z_{1-\alpha/2}}

    :math:`d^*` are the resampled differences and :math:`s` is their standard deviation, times
    :math:`\sqrt{n/(n-1)}`. This corrects for the number of comparisons without the waste of
    Bonferroni's rule: it knows that trackers fail on the same sequences.

    Args:
        scores: the trackers' scores on one benchmark.
        metric: the number to compare. None takes the last of the benchmark's own.
        pairs: ``"all"``, or ``"first"`` for the first tracker against each other one, which is a
            smaller number of comparisons and must be chosen before one sees the scores.
        resampling: how to draw.

    Raises:
        ValueError: ``scores`` hold fewer than two trackers, ``metric`` has no interval, ``pairs``
            is unknown, or the trackers share fewer than two sequences.

    Source:
        Westfall, Young, "Resampling-Based Multiple Testing", 1993 (single-step max-t).
    """
    check_choice(pairs, get_args(Pairs), name="pairs")
    if len(scores) < 2:
        raise ValueError(f"scores must hold at least two trackers to compare, got {len(scores)}")
    name = scores[0].protocol.metrics[-1] if metric is None else metric
    how = resampling or Resampling()
    shared = _shared_sequences(scores)
    counts = resample_counts(len(shared), how)
    every_sequence_once = np.ones((1, len(shared)))
    tables = [_rows(one.table, shared) for one in scores]
    resampled = np.stack([_resampled(table, counts, name) for table in tables])
    exact = np.concatenate([_resampled(table, every_sequence_once, name) for table in tables])
    order = _ranked(exact, name)
    chosen = _pairs_of(order, pairs)
    first = np.array([pair[0] for pair in chosen])
    second = np.array([pair[1] for pair in chosen])

    difference = exact[first] - exact[second]
    deviation = np.abs(resampled[first] - resampled[second] - difference[:, None])
    count = len(shared)
    spread = np.sqrt((deviation**2).mean(axis=1) * count / (count - 1))
    relative = deviation / np.where(spread > 0, spread, np.inf)[:, None]
    # of few sequences the resamples vary too little
    share = (1 + how.level) / 2
    widened = _student_quantile(share, count - 1) / _NORMAL.inv_cdf(share)
    factor = float(np.quantile(relative.max(axis=0), how.level)) * widened
    factors_alone = np.quantile(relative, how.level, axis=1) * widened
    found: list[PairedDifference] = []
    for k, (a, b) in enumerate(chosen):
        together = float(factor * spread[k])
        alone = float(factors_alone[k] * spread[k])
        d = float(difference[k])
        found.append(
            PairedDifference(
                first=scores[a].tracker,
                second=scores[b].tracker,
                metric=name,
                difference=d,
                interval=Interval(d - together, d + together),
                alone=Interval(d - alone, d + alone),
                comparisons=len(chosen),
                sequences=count,
            )
        )
    return tuple(found)


def smallest_decidable(differences: Sequence[PairedDifference]) -> float:
    """Return the difference that half of the pairs decide: the median of their half widths.

    Raises:
        ValueError: ``differences`` is empty.
    """
    if not differences:
        raise ValueError("differences must hold at least one pair, got none")
    return float(np.median([pair.decidable for pair in differences]))


def _of_same_sequences(
    scores: Sequence[Scores], resampling: Resampling | None
) -> list[ScoreIntervals]:
    """Return the intervals of trackers that have the same sequences."""
    names = scores[0].table.names
    overall = _intervals([one.table for one in scores], resampling)
    by_attribute: list[dict[str, Mapping[str, Interval]]] = [{} for _ in scores]
    for attribute, found in scores[0].attributes.items():
        members = found.names
        tables = [_rows(one.table, members) for one in scores]
        of_all = overall if members == names else _intervals(tables, resampling)
        for intervals, own in zip(of_all, by_attribute, strict=True):
            own[attribute] = {key: value for key, value in intervals.items() if key != "fps"}
    together: list[ScoreIntervals] = []
    for intervals, attributes in zip(overall, by_attribute, strict=True):
        speed = intervals.get("fps")
        metrics = {key: value for key, value in intervals.items() if key != "fps"}
        together.append(ScoreIntervals(metrics, attributes, speed))
    return together


def _intervals(
    tables: Sequence[SequenceTable], resampling: Resampling | None
) -> list[dict[str, Interval]]:
    """Return the intervals by number, one dictionary per tracker; all have the same sequences."""
    count = len(tables[0].names)
    if count < 2:
        return [{} for _ in tables]
    counts = resample_counts(count, resampling)
    weights = tables[0].weights
    places: list[tuple[int, str]] = []
    columns: list[Array] = []
    for number, table in enumerate(tables):
        for name, values in table.columns.items():
            if name in table.ratios or (name in LONG_TERM and table.long_term is not None):
                continue
            if name == "miss_count" or not _has_a_mean(name, values):
                continue
            places.append((number, name))
            columns.append(values)
    resampled = [_means(np.stack(columns, axis=1), weights, counts)] if columns else []
    for number, table in enumerate(tables):
        for name in _numbers_of_their_own(table):
            places.append((number, name))
            resampled.append(_resampled(table, counts, name)[None])
    band = percentiles(np.concatenate(resampled), count, resampling)
    found: list[dict[str, Interval]] = [{} for _ in tables]
    for (number, name), low, high in zip(places, band.low, band.high, strict=True):
        found[number][name] = Interval(float(low), float(high))
    return found


def _numbers_of_their_own(table: SequenceTable) -> list[str]:
    """Return the numbers of a table that are no mean of a column."""
    names = list(table.ratios)
    if "miss_count" in table.columns:
        names.append("miss_count")
    if table.long_term is not None:
        names += LONG_TERM
    if table.seconds.any():
        names.append("fps")
    return names


def _rows(table: SequenceTable, names: tuple[str, ...]) -> SequenceTable:
    """Return the rows of some sequences."""
    if names == table.names:
        return table
    return table.take(table.rows_of(names))


def _shared_sequences(scores: Sequence[Scores]) -> tuple[str, ...]:
    """Return the sequences that all trackers have."""
    of_all = set.intersection(*(set(one.table.names) for one in scores))
    shared = tuple(name for name in scores[0].table.names if name in of_all)
    if len(shared) < 2:
        raise ValueError(
            f"scores must share at least two sequences to be compared, got {len(shared)}"
        )
    return shared


def _ranked(numbers: Array, metric: str) -> list[int]:
    """Return the trackers' positions, the best first; the order given where they are equal."""
    sign = 1 if metric in LOWER_IS_BETTER else -1
    return [int(k) for k in np.argsort(sign * numbers, kind="stable")]


def _pairs_of(order: list[int], pairs: Pairs) -> list[tuple[int, int]]:
    """Return who is compared with whom."""
    if pairs == "first":
        return [(0, other) for other in order if other != 0]
    chosen: list[tuple[int, int]] = []
    # neighbours come first, then those two places apart, and so on
    for distance in range(1, len(order)):
        chosen += zip(order, order[distance:], strict=False)
    return chosen


def _resampled(table: SequenceTable, counts: Array, name: str) -> Array:
    """Return a number over each resample."""
    if name == "miss_count":
        return counts @ table.columns[name]
    if name == "fps":
        seconds = counts @ table.seconds
        return (counts @ table.timed_frames) / np.where(seconds > 0, seconds, np.nan)
    if name in table.ratios:
        return table.ratios[name].over(counts)
    if name in LONG_TERM and table.long_term is not None:
        return _long_term_numbers(table, counts)[LONG_TERM.index(name)]
    values = table.columns.get(name)
    if values is None or not _has_a_mean(name, values):
        raise ValueError(f"metric must be a mean over sequences that all have it, got {name!r}")
    return _means(values[:, None], table.weights, counts)[0]


def _long_term_numbers(table: SequenceTable, counts: Array) -> BestF:
    """Return precision, recall and F at the threshold of the best F, over each resample."""
    if table.long_term is None:
        raise ValueError("table must hold precision and recall by confidence, but does not")
    drawn = counts.sum(axis=1, keepdims=True)
    precision = counts @ table.long_term.precision / drawn
    recall = counts @ table.long_term.recall / drawn
    return at_best_f(precision, recall)


def _curves_of_sequences(table: SequenceTable, curve: CurveName) -> tuple[Array, Array]:
    """Return the curves of the sequences, and how much each sequence counts."""
    if curve == "recall":
        if table.long_term is None:
            raise ValueError("scores must hold a recall curve, got none")
        return table.long_term.recall, np.ones(len(table.names))
    curves: dict[CurveName, Array] = {
        "precision": table.precision,
        "normalised precision": table.normalised,
        "success": table.success,
    }
    return curves[curve], table.weights


def _has_a_mean(name: str, values: Array) -> bool:
    """Return whether a number is a mean over sequences, of those that must have it."""
    known = np.isfinite(values)
    return name != "max_ratio" and bool(known.any() if name in WHERE_MISSING else known.all())


def _means(values: Array, weights: Array, counts: Array) -> Array:
    """Return the weighted means of columns ``(sequences, M)`` over each resample, ``(M, R)``.

    A sequence whose value is NaN does not count in that column.
    """
    known = np.isfinite(values)
    if known.all():
        total = (values * weights[:, None]).T @ counts.T
        return total / (counts @ weights)
    shares = known * weights[:, None]
    filled = np.where(known, values, 0)
    total = (filled * shares).T @ counts.T
    drawn = shares.T @ counts.T
    # a resample without any of the sequences that count says nothing: it gets the mean of all
    of_all = (filled * shares).sum(axis=0) / shares.sum(axis=0)
    return np.where(drawn > 0, total / np.where(drawn > 0, drawn, 1), of_all[:, None])


def percentiles(resampled: Array, count: int, resampling: Resampling | None) -> Band:
    """Return the two expanded percentiles of each of several resampled numbers.

    Args:
        resampled: the numbers over each resample.
        count: how many sequences a resample has, at least 2.
        resampling: how they were drawn.

    Shape:
        - resampled: ``(M, resamples)``
        - returns ``low`` and ``high``, ``(M,)`` each
    """
    level = (resampling or Resampling()).level
    student = _student_quantile((1 + level) / 2, count - 1)
    tail = _NORMAL.cdf(-student * (count / (count - 1)) ** 0.5)
    last = resampled.shape[1] - 1
    places = (tail * last, (1 - tail) * last)
    # only the numbers that are read need to stand where a sort would put them
    read: set[int] = set()
    for place in places:
        read |= {int(place), min(int(place) + 1, last)}
    ordered = np.partition(resampled, sorted(read), axis=1)

    def at(place: float) -> Array:
        """Return the number at a place between two of the ordered ones."""
        k = int(place)
        below = ordered[:, k]
        above = ordered[:, min(k + 1, last)]
        return below + (place - k) * (above - below)

    return Band(at(places[0]), at(places[1]))


def _student_quantile(share: float, freedom: int) -> float:
    """Return a quantile of Student's t, by its expansion around the normal distribution."""
    z = _NORMAL.inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))

"""What scoring a tracker yields: numbers and curves, by sequence and by attribute."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.evaluation.comparison import Comparison
from rgbt_fusion.evaluation.long_term import PrecisionRecall
from rgbt_fusion.evaluation.metrics import Array
from rgbt_fusion.evaluation.protocols import ScoringRules

__all__ = [
    "LONG_TERM",
    "WHERE_MISSING",
    "AttributeScores",
    "Curve",
    "CurveName",
    "Ratio",
    "Scores",
    "SequenceTable",
]

WHERE_MISSING = ("PRm", "SRm", "MPRm", "MSRm")
"""The numbers over frames that lack a modality. A sequence without such a frame has none of them,
and does not count in their means."""

LONG_TERM = ("Pr", "Re", "F")
"""Precision, recall and F over confidences, at the threshold of the best F."""

CurveName: TypeAlias = Literal["precision", "normalised precision", "success", "recall"]
"""The plots of the field."""


class Curve(NamedTuple):
    """One line of a plot."""

    thresholds: Array
    """Where the curve is read: the horizontal axis."""
    values: Array
    """What it is there: the vertical axis."""


class AttributeScores(NamedTuple):
    """The numbers over the sequences that have one attribute."""

    sequences: int
    """How many sequences have it."""
    metrics: Mapping[str, float]
    """The numbers by name."""
    names: tuple[str, ...] = ()
    """The sequences that have it."""


class Ratio(NamedTuple):
    """A number that is a sum over sequences over another such sum, or the mean of several."""

    parts: Array
    """What each sequence adds above, ``(sequences, M)``."""
    wholes: Array
    """What it adds below, ``(sequences, M)``."""

    def over(self, counts: Array) -> Array:
        """Return the number where sequences count so often, ``(R,)`` of ``(R, sequences)``.

        A ratio without anything below is 0.
        """
        return _mean_ratio(counts @ self.parts, counts @ self.wholes)

    def alone(self) -> Array:
        """Return the number of each sequence, ``(sequences,)``."""
        return _mean_ratio(self.parts, self.wholes)


def _mean_ratio(parts: Array, wholes: Array) -> Array:
    something = wholes > 0
    ratios = np.where(something, parts / np.where(something, wholes, 1), 0.0)
    return ratios.mean(axis=1)


class SequenceTable(NamedTuple):
    """The curves and numbers of the scored sequences, one row per sequence."""

    names: tuple[str, ...]
    """The sequences."""
    precision: Array
    """The precision curves, ``(sequences, thresholds)``."""
    normalised: Array
    """The normalised precision curves."""
    success: Array
    """The success curves."""
    columns: Mapping[str, Array]
    """The numbers by name, ``(sequences,)`` each."""
    weights: Array
    """How much each sequence counts in a mean."""
    long_term: PrecisionRecall | None
    """Precision and recall by confidence, ``(sequences, thresholds)`` each."""
    timed_frames: Array
    """How many frames of each sequence were timed."""
    seconds: Array
    """How long the tracker took for each sequence, 0 where that is unknown."""
    ratios: Mapping[str, Ratio] = {}
    """The numbers that are no means of a column, by name."""

    def rows_of(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of some sequences, in their order."""
        row_of = {name: row for row, name in enumerate(self.names)}
        return np.array([row_of[name] for name in names], dtype=np.int64)

    def by_sequence(self) -> dict[str, dict[str, float]]:
        """Return the numbers of each sequence by name."""
        numbers: dict[str, dict[str, float]] = {}
        for row, name in enumerate(self.names):
            numbers[name] = {metric: float(column[row]) for metric, column in self.columns.items()}
        return numbers

    def take(self, rows: NDArray[np.int64]) -> "SequenceTable":
        """Return some rows."""
        long_term = self.long_term
        if long_term is not None:
            long_term = PrecisionRecall(long_term.precision[rows], long_term.recall[rows])
        ratios: dict[str, Ratio] = {}
        for name, ratio in self.ratios.items():
            ratios[name] = Ratio(ratio.parts[rows], ratio.wholes[rows])
        return SequenceTable(
            names=tuple(self.names[row] for row in rows),
            precision=self.precision[rows],
            normalised=self.normalised[rows],
            success=self.success[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
            weights=self.weights[rows],
            long_term=long_term,
            timed_frames=self.timed_frames[rows],
            seconds=self.seconds[rows],
            ratios=ratios,
        )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a tracker reaches on a benchmark."""

    tracker: str
    """The tracker's name."""
    benchmark: str
    """A key of ``PROTOCOLS``."""
    protocol: ScoringRules
    """How it was scored."""
    metrics: Mapping[str, float]
    """The benchmark's own numbers first, then the others that its data allow."""
    curves: Mapping[CurveName, Curve]
    """``"precision"``, ``"normalised precision"`` and ``"success"``; for DepthTrack ``"recall"``
    against precision, too."""
    sequences: Mapping[str, Mapping[str, float]]
    """The numbers of each sequence."""
    attributes: Mapping[str, AttributeScores]
    """The numbers over the sequences with each attribute."""
    left_out: Mapping[str, str]
    """The sequences that were not scored, each with its reason."""
    cut: tuple[str, ...]
    """The sequences whose results were longer than the annotation."""
    frames: int
    """How many frames were scored."""
    fps: float | None
    """Frames per second, None where the tracker wrote no times."""
    tracks: Mapping[str, Comparison]
    """Overlaps, errors and boxes of each sequence, frame by frame."""
    confidences: Mapping[str, Array] = field(default_factory=dict)
    """The confidence in each scored frame, of the sequences for which the tracker wrote any."""
    table: SequenceTable
    """Numbers and curves of each sequence, as the means and their intervals are made from them."""

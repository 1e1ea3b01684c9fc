"""What scoring a tracker yields: numbers and curves, by sequence and by attribute."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from rgbt_fusion.evaluation.comparison import Comparison
from rgbt_fusion.evaluation.metrics import Array
from rgbt_fusion.evaluation.protocols import ScoringRules

__all__ = ["AttributeScores", "Curve", "CurveName", "Scores"]

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

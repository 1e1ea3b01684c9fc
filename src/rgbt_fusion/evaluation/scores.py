"""What scoring a tracker yields: numbers, curves, and both by sequence and attribute."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rgbt_fusion.evaluation.comparison import Comparison
from rgbt_fusion.evaluation.metrics import Array
from rgbt_fusion.evaluation.protocols import Protocol

__all__ = ["AttributeScores", "Curve", "Scores"]


class Curve(NamedTuple):
    """One line of a plot."""

    thresholds: Array
    values: Array


class AttributeScores(NamedTuple):
    """The numbers over the sequences with one attribute."""

    sequences: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a tracker reaches on a benchmark."""

    tracker: str
    benchmark: str
    protocol: Protocol
    metrics: Mapping[str, float]
    """The benchmark's own numbers first, then every other that its data allow."""
    curves: Mapping[str, Curve]
    """``"precision"``, ``"normalised precision"`` and ``"success"``; ``"recall"`` against precision
for DepthTrack."""
    sequences: Mapping[str, Mapping[str, float]]
    attributes: Mapping[str, AttributeScores]
    left_out: Mapping[str, str]
    """The sequences that are not in the numbers, each with its reason."""
    cut: tuple[str, ...]
    """The sequences whose results were longer than the annotation."""
    frames: int
    fps: float | None
    tracks: Mapping[str, Comparison]

"""All numbers of several trackers as plain values, for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from rgbt_fusion.evaluation.confidence import score_confidence
from rgbt_fusion.evaluation.intervals import (
    Interval,
    PairedDifference,
    Resampling,
    ScoreIntervals,
)
from rgbt_fusion.evaluation.scores import Scores

__all__ = ["summary"]


def summary(
    scores: Sequence[Scores],
    intervals: Sequence[ScoreIntervals],
    differences: Mapping[str, Sequence[PairedDifference]],
    *,
    resampling: Resampling | None = None,
) -> dict[str, Any]:
    """Return all numbers with their intervals, by tracker, and the differences between trackers.

    Args:
        scores: the trackers' scores on one benchmark.
        intervals: what :func:`~rgbt_fusion.evaluation.intervals.score_intervals` returned for them.
        differences: by number, what
            :func:`~rgbt_fusion.evaluation.intervals.paired_differences` returned for them.
        resampling: how the intervals were drawn.

    Raises:
        ValueError: ``scores`` is empty, or ``intervals`` differ from them in number.
    """
    if not scores:
        raise ValueError("scores must hold at least one tracker, got none")
    if len(intervals) != len(scores):
        raise ValueError(
            f"intervals must be those of the {len(scores)} scores, got {len(intervals)}"
        )
    how = resampling or Resampling()
    trackers = {}
    for one, known in zip(scores, intervals, strict=True):
        trackers[one.tracker] = _tracker(one, known)
    by_metric = {}
    for metric, pairs in differences.items():
        by_metric[metric] = [_difference(pair) for pair in pairs]
    return {
        "benchmark": scores[0].benchmark,
        "title": scores[0].protocol.title,
        "own_metrics": list(scores[0].protocol.metrics),
        "intervals": {"level": how.level, "resamples": how.resamples, "seed": how.seed},
        "trackers": trackers,
        "differences": by_metric,
    }


def _tracker(scores: Scores, known: ScoreIntervals) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, found in scores.attributes.items():
        numbers = _figures(found.metrics, known.attributes.get(name, {}))
        attributes[name] = {"sequences": found.sequences, "metrics": numbers}
    sequences: dict[str, dict[str, float | None]] = {}
    for name, numbers in scores.sequences.items():
        sequences[name] = {metric: _finite(value) for metric, value in numbers.items()}
    speed = None
    if scores.fps is not None:
        speed = _figure(scores.fps, known.fps)
    return {
        "sequences_scored": len(scores.sequences),
        "frames": scores.frames,
        "metrics": _figures(scores.metrics, known.metrics),
        "fps": speed,
        "confidence": _confidence(scores),
        "attributes": attributes,
        "sequences": sequences,
        "left_out": dict(scores.left_out),
        "cut": list(scores.cut),
    }


def _confidence(scores: Scores) -> dict[str, Any] | None:
    found = score_confidence(scores)
    if found is None:
        return None
    numbers = {"AURC": found.aurc}
    if found.ece is not None:
        numbers["ECE"] = found.ece
    if found.auroc is not None:
        numbers["AUROC"] = found.auroc
    return {"frames": found.frames, "lost": found.lost, **_figures(numbers, found.intervals)}


def _figures(
    numbers: Mapping[str, float], intervals: Mapping[str, Interval]
) -> dict[str, dict[str, float | None]]:
    figures: dict[str, dict[str, float | None]] = {}
    for name, value in numbers.items():
        figures[name] = _figure(value, intervals.get(name))
    return figures


def _figure(value: float, interval: Interval | None) -> dict[str, float | None]:
    low, high = (None, None) if interval is None else interval
    return {"value": _finite(value), "low": low, "high": high}


def _finite(value: float) -> float | None:
    """Return None for what JSON cannot hold: NaN and infinity."""
    return float(value) if abs(value) < float("inf") else None


def _difference(pair: PairedDifference) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "difference": pair.difference,
        "interval": list(pair.interval),
        "interval_alone": list(pair.alone),
        "comparisons": pair.comparisons,
        "sequences": pair.sequences,
        "decided": pair.decided,
        "better": pair.better,
        "decidable_from": pair.decidable,
    }

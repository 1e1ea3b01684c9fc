"""Draw the plots of the field: precision, success, and a radar of attributes."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from rgbt_fusion.checks import check_choice
from rgbt_fusion.evaluation.confidence import ConfidenceScores
from rgbt_fusion.evaluation.intervals import ScoreIntervals, curve_bands, score_intervals
from rgbt_fusion.evaluation.scores import CurveName, Scores
from rgbt_fusion.files.table import decimals_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "CURVES",
    "confidence_figures",
    "new_figure",
    "plot_attributes",
    "plot_curves",
    "plot_reliability",
    "plot_risk_coverage",
    "score_figures",
]

CURVES: dict[CurveName, tuple[str, str]] = {
    "precision": ("centre error threshold (pixels)", "precision"),
    "normalised precision": ("normalised centre error threshold", "normalised precision"),
    "success": ("overlap threshold", "success rate"),
    "recall": ("precision", "recall"),
}
"""What the two axes of each plot say."""

_METRICS = {"precision": "PR", "normalised precision": "NPR", "success": "SR"}
_STYLES = ("-", "--", "-.", ":")


def plot_curves(
    scores: Sequence[Scores],
    curve: CurveName = "success",
    *,
    bands: bool = True,
    intervals: Sequence[ScoreIntervals] | None = None,
) -> "Figure":
    """Draw one curve per tracker, each with the number that the benchmark reads off it.

    The legend lists the best tracker first, each number with its interval. A tracker has the same
    colour in all plots.

    Args:
        scores: the trackers' scores on one benchmark.
        curve: ``"precision"``, ``"normalised precision"``, ``"success"`` or ``"recall"``
            (DepthTrack).
        bands: whether to draw around each curve where it may be: its 95 % interval over sequences
            at each threshold.
        intervals: what :func:`~rgbt_fusion.evaluation.intervals.score_intervals` returned for
            ``scores``. None computes them.

    Raises:
        ValueError: ``curve`` is unknown, or no tracker in ``scores`` has it.
        ModuleNotFoundError: matplotlib is not installed.
    """
    check_choice(curve, CURVES, name="curve")
    shown = [one for one in scores if curve in one.curves]
    if not shown:
        raise ValueError(f"scores must hold a {curve} curve, got none")
    metric = _metric_of(curve, shown[0])
    known = score_intervals(scores) if intervals is None else intervals
    of_shown = [own for one, own in zip(scores, known, strict=True) if curve in one.curves]
    figure, axes = new_figure(width=6.0)
    drawn_bands = curve_bands(shown, curve) if bands else ()
    best_first = sorted(enumerate(shown), key=lambda pair: -pair[1].metrics[metric])
    for number, one in best_first:
        colour, line = _style(number)
        label = f"{one.tracker} [{_number(one, of_shown[number], metric)}]"
        thresholds, values = one.curves[curve]
        axes.plot(thresholds, values, line, color=colour, label=label)
        if drawn_bands:
            low, high = drawn_bands[number]
            axes.fill_between(thresholds, low, high, color=colour, alpha=0.15, linewidth=0)
    x_label, y_label = CURVES[curve]
    last = shown[0].curves[curve].thresholds.max()
    title = _title(curve, shown[0])
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, last), ylim=(0, 1), title=title)
    axes.grid(visible=True, alpha=0.3)
    falls = curve in ("success", "recall")
    axes.legend(loc="lower left" if falls else "lower right", fontsize="small")
    return figure


def plot_attributes(
    scores: Sequence[Scores],
    metric: str | None = None,
    *,
    intervals: Sequence[ScoreIntervals] | None = None,
) -> "Figure":
    """Draw a radar with one spoke per attribute and one outline per tracker.

    Args:
        scores: the trackers' scores on one benchmark.
        metric: the number to draw. None takes the last of the benchmark's own.
        intervals: what :func:`~rgbt_fusion.evaluation.intervals.score_intervals` returned for
            ``scores``: each outline gets its band. None draws no bands.

    Raises:
        ValueError: ``scores`` hold fewer than three attributes.
        ModuleNotFoundError: matplotlib is not installed.
    """
    counts = _attribute_counts(scores)
    if len(counts) < 3:
        raise ValueError(f"scores must hold at least 3 attributes for a radar, got {len(counts)}")
    if metric is None:
        metric = scores[0].protocol.metrics[-1]
    figure, axes = new_figure(width=6.5, polar=True)
    angles = np.linspace(0, 2 * np.pi, len(counts), endpoint=False)
    closed_angles = np.append(angles, angles[0])
    highest = 0.0
    for number, one in enumerate(scores):
        values = [_attribute_value(one, name, metric) for name in counts]
        highest = max(highest, *values)
        colour, line = _style(number)
        axes.plot(closed_angles, [*values, values[0]], line, color=colour, label=one.tracker)
        if intervals is None:
            axes.fill(angles, values, alpha=0.08, color=colour)
            continue
        own = intervals[number].attributes
        ends = [
            own.get(name, {}).get(metric, (value, value))
            for name, value in zip(counts, values, strict=True)
        ]
        ends.append(ends[0])
        low = [end[0] for end in ends]
        high = [end[1] for end in ends]
        highest = max(highest, *high)
        axes.fill_between(closed_angles, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xticks(angles, [f"{name} ({count})" for name, count in counts.items()])
    axes.tick_params(axis="x", pad=12)
    next_tenth = np.ceil(highest * 10) / 10
    axes.set_ylim(0, min(1.0, next_tenth) or 1.0)
    axes.set_title(f"{metric} by attribute on {scores[0].protocol.title}", pad=24)
    axes.legend(loc="upper left", bbox_to_anchor=(1.05, 1.1), fontsize="small")
    return figure


def plot_reliability(names: Sequence[str], found: Sequence[ConfidenceScores | None]) -> "Figure":
    """Draw how often the target is there against the confidence; the diagonal is perfect.

    A larger dot stands for more frames.

    Args:
        names: the trackers.
        found: what :func:`~rgbt_fusion.evaluation.confidence.score_confidence` returned for each.

    Raises:
        ValueError: no tracker has confidences that are probabilities.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if not any(one is not None and one.reliability is not None for one in found):
        raise ValueError("found must hold confidences in [0, 1] of any tracker, got none")
    figure, axes = new_figure(width=5.5)
    axes.plot((0, 1), (0, 1), color="0.6", linewidth=1, label="perfectly calibrated")
    for number, (name, one) in enumerate(zip(names, found, strict=True)):
        if one is None or one.reliability is None:
            continue
        confidence, hits, frames = one.reliability
        colour, line = _style(number)
        axes.plot(
            confidence, hits, line, color=colour, label=f"{name} [ECE {one.ece:.3f}]", clip_on=False
        )
        # dots at 0 and at 1 are whole
        sizes = 4 + 80 * frames / frames.sum()
        axes.scatter(confidence, hits, s=sizes, color=colour, clip_on=False, zorder=3)
    axes.set(xlabel="mean confidence", ylabel="share of frames with the target", xlim=(0, 1))
    axes.set(ylim=(0, 1), title="reliability of the confidence")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
    return figure


def plot_risk_coverage(names: Sequence[str], found: Sequence[ConfidenceScores | None]) -> "Figure":
    """Draw the mean of 1 - overlap over the most confident share of the frames.

    Args:
        names: the trackers.
        found: what :func:`~rgbt_fusion.evaluation.confidence.score_confidence` returned for each.

    Raises:
        ValueError: no tracker has confidences.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if not any(one is not None for one in found):
        raise ValueError("found must hold the confidences of any tracker, got none")
    figure, axes = new_figure(width=5.5)
    for number, (name, one) in enumerate(zip(names, found, strict=True)):
        if one is None:
            continue
        colour, line = _style(number)
        label = f"{name} [AURC {one.aurc:.3f}]"
        axes.plot(one.risk.thresholds, one.risk.values, line, color=colour, label=label)
    axes.set(xlabel="share of frames, the most confident first", ylabel="mean of 1 - overlap")
    axes.set(xlim=(0, 1), ylim=(0, None), title="risk against coverage")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    return figure


def score_figures(
    scores: Sequence[Scores], intervals: Sequence[ScoreIntervals]
) -> "dict[str, Figure]":
    """Draw every curve that the trackers have and, of three attributes or more, the radar.

    Returns:
        The figures by name.
    """
    figures: dict[str, Figure] = {}
    for name in scores[0].curves:
        figures[name] = plot_curves(scores, name, intervals=intervals)
    if len(scores[0].attributes) >= 3:
        figures["attributes"] = plot_attributes(scores, intervals=intervals)
    return figures


def confidence_figures(
    names: Sequence[str], found: Sequence[ConfidenceScores | None]
) -> "dict[str, Figure]":
    """Draw what the confidences of trackers are worth; nothing where none wrote any.

    Returns:
        The figures by name.
    """
    figures: dict[str, Figure] = {}
    if any(found):
        figures["risk coverage"] = plot_risk_coverage(names, found)
    if any(one is not None and one.reliability is not None for one in found):
        figures["reliability"] = plot_reliability(names, found)
    return figures


def _attribute_counts(scores: Sequence[Scores]) -> dict[str, int]:
    """Return how many sequences have each attribute, in the order in which they come up."""
    counts: dict[str, int] = {}
    for one in scores:
        for name, attribute in one.attributes.items():
            counts[name] = max(counts.get(name, 0), attribute.sequences)
    return counts


def _attribute_value(scores: Scores, attribute: str, metric: str) -> float:
    if attribute not in scores.attributes:
        return 0.0
    return scores.attributes[attribute].metrics[metric]


def _number(scores: Scores, intervals: ScoreIntervals, metric: str) -> str:
    """Return a number and its interval, in the digits that the interval justifies."""
    value = scores.metrics[metric]
    if metric not in intervals.metrics:
        return f"{value:.3f}"
    low, high = intervals.metrics[metric]
    digits = decimals_of(low, high)
    return f"{value:.{digits}f}, {low:.{digits}f} to {high:.{digits}f}"


def _style(number: int) -> tuple[str, str]:
    """Return the colour and the line style of a tracker: ten colours, then other lines."""
    return f"C{number % 10}", _STYLES[number // 10 % len(_STYLES)]


def _metric_of(curve: CurveName, scores: Scores) -> str:
    """Return the number that the benchmark reads off a curve."""
    if curve == "recall":
        return "F"
    best = "M" if scores.protocol.modalities == "best" else ""
    return best + _METRICS[curve]


def _title(curve: CurveName, scores: Scores) -> str:
    return f"{curve} on {scores.protocol.title} ({len(scores.sequences)} sequences)"


def new_figure(*, width: float, height: float = 4.5, polar: bool = False) -> "tuple[Figure, Axes]":
    """Return a new figure of a size in inches, and its axes.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        figures = import_module("matplotlib.figure")
    except ImportError as error:
        raise ModuleNotFoundError(
            f"plots are drawn with matplotlib, which cannot be imported ({error}): "
            "pip install 'rgbt-fusion[tracking]'",
            name="matplotlib",
        ) from None
    # a figure of its own: pyplot would keep a global one and choose a window system
    figure = figures.Figure(figsize=(width, height), dpi=150, layout="constrained")
    return figure, figure.add_subplot(polar=polar)

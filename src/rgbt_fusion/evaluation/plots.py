"""The plots of the field: precision, normalised precision, success, and a radar of attributes."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from rgbt_fusion.checks import check_choice
from rgbt_fusion.evaluation.scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plot_attributes", "plot_curves"]

CURVES = {
    "precision": ("centre error threshold (pixels)", "precision"),
    "normalised precision": ("normalised centre error threshold", "normalised precision"),
    "success": ("overlap threshold", "success rate"),
    "recall": ("precision", "recall"),
}
_STYLES = ("-", "--", "-.", ":")


def plot_curves(scores: Sequence[Scores], curve: str = "success") -> "Figure":
    """Draw one curve a tracker, best first in the legend, each with the number that the benchmark
    reads off it.

    Args:
        scores: the trackers' scores on one benchmark.
        curve: ``"precision"``, ``"normalised precision"``, ``"success"``, or ``"recall"``
            (DepthTrack).

    Raises:
        ValueError: the curve is unknown, or no tracker has it.
        ModuleNotFoundError: matplotlib is not installed.
    """
    check_choice(curve, CURVES, name="curve")
    shown = [one for one in scores if curve in one.curves]
    if not shown:
        raise ValueError(f"scores must hold a {curve} curve, got none")
    metric = _metric_of(curve, shown[0])
    figure, axes = new_figure(width=6.0)
    # a tracker has one colour in all plots; the legend is ranked
    for number, one in sorted(enumerate(shown), key=lambda pair: -pair[1].metrics[metric]):
        colour, line = _style(number)
        label = f"{one.tracker} [{one.metrics[metric]:.3f}]"
        axes.plot(
            one.curves[curve].thresholds, one.curves[curve].values, line, color=colour, label=label
        )
    x_label, y_label = CURVES[curve]
    last = shown[0].curves[curve].thresholds.max()
    axes.set(
        xlabel=x_label, ylabel=y_label, xlim=(0, last), ylim=(0, 1), title=_title(curve, shown[0])
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend(
        loc="lower left" if curve in ("success", "recall") else "lower right", fontsize="small"
    )
    return figure


def plot_attributes(scores: Sequence[Scores], metric: str | None = None) -> "Figure":
    """Draw a radar with one spoke an attribute and one outline a tracker.

    Args:
        scores: the trackers' scores on one benchmark.
        metric: the number to draw; None takes the last of the benchmark's own.

    Raises:
        ValueError: there are fewer than three attributes to draw.
        ModuleNotFoundError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(name for one in scores for name in one.attributes))
    if len(names) < 3:
        raise ValueError(f"scores must hold at least 3 attributes for a radar, got {len(names)}")
    metric = scores[0].protocol.metrics[-1] if metric is None else metric
    figure, axes = new_figure(width=6.5, polar=True)
    angles = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    highest = 0.0
    for number, one in enumerate(scores):
        values = [
            one.attributes[name].metrics[metric] if name in one.attributes else 0.0
            for name in names
        ]
        highest = max(highest, *values)
        colour, line = _style(number)
        axes.plot(
            np.append(angles, angles[0]),
            [*values, values[0]],
            line,
            color=colour,
            label=one.tracker,
        )
        axes.fill(angles, values, alpha=0.08, color=colour)
    counts = {
        name: max(one.attributes[name].sequences for one in scores if name in one.attributes)
        for name in names
    }
    axes.set_xticks(angles, [f"{name} ({counts[name]})" for name in names])
    axes.tick_params(axis="x", pad=12)
    axes.set_ylim(0, min(1.0, np.ceil(highest * 10) / 10) or 1.0)
    axes.set_title(f"{metric} by attribute on {scores[0].protocol.title}", pad=24)
    axes.legend(loc="upper left", bbox_to_anchor=(1.05, 1.1), fontsize="small")
    return figure


def _style(number: int) -> tuple[str, str]:
    return f"C{number % 10}", _STYLES[number // 10 % 4]


def _metric_of(curve: str, scores: Scores) -> str:
    endings = {"precision": "PR", "normalised precision": "NPR", "success": "SR", "recall": "F"}
    best = "M" if scores.protocol.modalities == "best" else ""
    return endings[curve] if curve == "recall" else best + endings[curve]


def _title(curve: str, scores: Scores) -> str:
    return f"{curve} on {scores.protocol.title} ({len(scores.sequences)} sequences)"


def new_figure(*, width: float, height: float = 4.5, polar: bool = False) -> "tuple[Figure, Axes]":
    """Return a figure in inches and its only axes.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        figures = import_module("matplotlib.figure")
    except ImportError as error:
        raise ModuleNotFoundError(
            f"plots are drawn with matplotlib, which cannot be imported ({error}): pip install 'rgbt-fusion[tracking]'",
            name="matplotlib",
        ) from None
    # a figure of its own: pyplot would keep a global one and choose a window system
    figure = figures.Figure(figsize=(width, height), dpi=150, layout="constrained")
    return figure, figure.add_subplot(polar=polar)

"""The study's two plots: who reaches what, and how the student learns with and without teacher."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.study.records import Trial
from benchmarks.study.tables import success
from benchmarks.study.variants import VARIANTS
from rgbt_fusion.evaluation.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LEARNING", "plot_learning", "plot_success"]


class Line(NamedTuple):
    """How a variant is drawn."""

    label: str
    colour: str


LEARNING = {"student": Line("alone", "C0"), "distilled": Line("with its teacher", "C1")}
"""The variants whose learning is drawn."""

SMOOTHED_LINES = 5
"""Over how many lines of the log a loss is smoothed."""


def plot_success(trials: Sequence[Trial]) -> "Figure":
    """Draw a line per variant from its lowest seed to its highest, with a dot at the mean.

    Args:
        trials: of one settings.

    Raises:
        ValueError: there is no trial.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if not trials:
        raise ValueError("trials must hold at least one, got none")
    tried = [name for name in VARIANTS if success(trials, name) is not None]
    figure, axes = new_figure(width=7.0, height=1.2 + 0.3 * len(tried))
    for row, name in enumerate(tried):
        mean, low, high = success(trials, name) or (0.0, 0.0, 0.0)
        colour = "C0" if VARIANTS[name].ablation is None else "C7"
        axes.plot((low, high), (row, row), color=colour, linewidth=3, alpha=0.4)
        axes.plot(mean, row, "o", color=colour)
    axes.set_yticks(range(len(tried)), [VARIANTS[name].title for name in tried])
    axes.invert_yaxis()
    axes.set_xlabel("success, mean of five challenges; lines span the seeds")
    axes.grid(visible=True, axis="x", alpha=0.3)
    return figure


def plot_learning(trials: Sequence[Trial]) -> "Figure":
    """Draw the localisation loss of the student over its training, alone and distilled.

    Each seed is a thin line, their mean a thick one.

    Args:
        trials: of one settings.

    Raises:
        ValueError: either student is not tried.
        ModuleNotFoundError: matplotlib is not installed.
    """
    figure, axes = new_figure(width=6.5, height=4.0)
    for name, line in LEARNING.items():
        own = [one for one in trials if one.variant == name]
        if not own:
            raise ValueError(f"trials must hold the variant {name!r}, got none")
        steps = np.array(own[0].curve["step"])
        losses = np.array([_localisation(one) for one in own])
        for loss in losses:
            axes.plot(steps, loss, color=line.colour, linewidth=0.7, alpha=0.3)
        label = f"{line.label} ({len(own)} seeds)"
        axes.plot(steps, losses.mean(axis=0), color=line.colour, label=label)
    axes.set(
        xlabel="step",
        ylabel="localisation loss (focal + 2 GIoU + 5 L1)",
        title="The one-stream student",
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def _localisation(trial: Trial) -> np.ndarray:
    """Return what both students minimise, smoothed over a few lines of the log."""
    focal = np.array(trial.curve["focal"])
    giou = np.array(trial.curve["giou"])
    l1 = np.array(trial.curve["l1"])
    loss = focal + 2 * giou + 5 * l1
    width = min(SMOOTHED_LINES, len(loss))
    padded = np.pad(loss, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")

"""The study's plots: success by variant and by challenge, and the learning of the student."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from benchmarks.study.comparisons import SeedRange, success
from benchmarks.study.records import Trial
from benchmarks.study.variants import VARIANTS
from rgbt_fusion.evaluation.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LEARNING", "plot_challenges", "plot_learning", "plot_success"]


class Line(NamedTuple):
    """How a variant is drawn."""

    label: str
    colour: str


LEARNING = {"student": Line("alone", "C0"), "distilled": Line("with its teacher", "C1")}
"""The variants whose learning is drawn."""

LEGEND_COLUMNS = 2

SMOOTHED_LINES = 5
"""Over how many lines of the log a loss is smoothed."""


def plot_success(trials: Sequence[Trial]) -> "Figure":
    """Draw a line per variant from its lowest seed to its highest, with a dot at the mean.

    A variant that is scored with aligned frames as well has a second line.

    Args:
        trials: of one settings.

    Raises:
        ValueError: there is no trial.
        ModuleNotFoundError: matplotlib is not installed.
    """
    tried = _tried(trials)
    figure, axes = new_figure(width=7.0, height=1.2 + 0.3 * len(tried))
    for row, entrant in enumerate(tried):
        reached = _success(trials, entrant)
        colour = "C0" if VARIANTS[entrant.variant].ablation is None else "C7"
        if entrant.aligned:
            colour = "C2"
        axes.plot((reached.low, reached.high), (row, row), color=colour, linewidth=3, alpha=0.4)
        axes.plot(reached.mean, row, "o", color=colour)
    count = len(trials[0].settings.challenges)
    _label_rows(
        axes,
        [entrant.title for entrant in tried],
        f"success, mean of {count} challenges; lines span the seeds",
    )
    return figure


def plot_challenges(trials: Sequence[Trial]) -> "Figure":
    """Draw the success of each variant in each challenge.

    A dot is the mean of the seeds, filled where the thermal frames are aligned. Its line goes from
    the lowest seed to the highest. Trials and errors are as in :func:`plot_success`.
    """
    tried = _tried(trials)
    challenges = trials[0].settings.challenges
    variants = list(dict.fromkeys(entrant.variant for entrant in tried))
    legend_rows = -(-len(tried) // LEGEND_COLUMNS)
    figure, axes = new_figure(width=8.0, height=1.2 + 0.7 * len(challenges) + 0.22 * legend_rows)
    for place, entrant in enumerate(tried):
        colour = f"C{variants.index(entrant.variant)}"
        # the entrants of a challenge stand below one another
        rows = np.arange(len(challenges)) + 0.7 * (place / len(tried) - 0.5)
        reached = [_success(trials, entrant, (name,)) for name in challenges]
        axes.hlines(
            rows, [one.low for one in reached], [one.high for one in reached], colors=colour
        )
        axes.plot(
            [one.mean for one in reached],
            rows,
            "o",
            color=colour,
            markerfacecolor=colour if entrant.aligned else "white",
            label=entrant.title,
        )
    names = [name.replace("_", " ") for name in challenges]
    _label_rows(axes, names, "success; lines span the seeds")
    # so many entrants would hide what is drawn
    figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS)
    return figure


def _label_rows(axes: "Axes", names: Sequence[str], xlabel: str) -> None:
    """Name the rows of a plot from top to bottom, and its horizontal axis."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.grid(visible=True, axis="x", alpha=0.3)


class _Entrant(NamedTuple):
    """A variant, with or without aligned thermal frames."""

    variant: str
    aligned: bool

    @property
    def title(self) -> str:
        return VARIANTS[self.variant].titled(aligned=self.aligned)


def _tried(trials: Sequence[Trial]) -> list[_Entrant]:
    """Return what the trials score, in the order of the variants.

    Raises:
        ValueError: there is no trial.
    """
    if not trials:
        raise ValueError("trials must hold at least one, got none")
    every = [_Entrant(name, aligned) for name in VARIANTS for aligned in (False, True)]
    return [one for one in every if success(trials, one.variant, aligned=one.aligned) is not None]


def _success(
    trials: Sequence[Trial], entrant: _Entrant, challenges: Sequence[str] | None = None
) -> SeedRange:
    """Return the success of an entrant that is tried."""
    reached = success(trials, entrant.variant, challenges, aligned=entrant.aligned)
    return cast(SeedRange, reached)


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

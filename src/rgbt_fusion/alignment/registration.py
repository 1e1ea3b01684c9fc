"""From pairs of images to the placement that fits best, and by how much it is ahead."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rgbt_fusion.alignment.geometry import distance, distinct, is_plausible
from rgbt_fusion.alignment.refinement import Fit, Level, MotionModel
from rgbt_fusion.alignment.search import PlanePair, search

__all__ = ["Registration", "register"]

CANDIDATES = 14
"""Placements of the search that are refined."""

FINALISTS = 8

WIDTHS = (112, 200, 360)
"""Widths at which all candidates, the finalists and the winner are refined."""

STEPS = 8

DISTINCT = 0.03
"""Placements that differ by less than this share of the image width are one."""

SMALLEST_OVERLAP = 0.05

REFINED_PAIRS = 6
"""Pairs that the refinement of candidates uses; the search uses all."""


class Registration(NamedTuple):
    """The placement that fits best, and what speaks for and against it."""

    fit: Fit
    strength: float
    """Strength of the best placement at the width of the finalists."""
    second: float
    """Strength of the next placement that is another one; 0 if there is none."""
    disagreement: float
    """How far apart two halves of the image place it, as a share of the image width."""
    support: float
    """Over how many fields of the image the agreement is spread."""

    @property
    def margin(self) -> float:
        """How far the best placement is ahead of the next one."""
        return self.strength - self.second


def register(pairs: Sequence[PlanePair], model: MotionModel) -> Registration | None:
    """Return the best placement of the thermal on the colour images, None if none is plausible.

    Args:
        pairs: images of the same moments.
        model: what the placement may be.
    """
    few = _spread(pairs, REFINED_PAIRS)
    candidates = [
        Fit(placement.tir_from_rgb, placement.score, 1.0)
        for placement in search(pairs, count=CANDIDATES)
    ]
    coarse = Level(few, WIDTHS[0])
    candidates = _refined(coarse, candidates, "similarity")
    middle = Level(few, WIDTHS[1])
    middle_model: MotionModel = "similarity" if model == "similarity" else "affine"
    finalists = _refined(middle, candidates[:FINALISTS], middle_model)
    if not finalists:
        return None
    winner = finalists[0]
    # what was refined at the smallest width alone is a rival, too
    rivals = distinct([winner, *finalists, *candidates], coarse.full_size, DISTINCT)[1:]
    second = max((rival.strength for rival in rivals), default=0.0)
    fit = winner
    for level in (middle, Level(pairs, WIDTHS[2])):
        fit = _last_step(level, fit, model)
    return Registration(
        fit=fit,
        strength=winner.strength,
        second=second,
        disagreement=_disagreement(middle, fit),
        support=middle.support(fit.tir_from_rgb),
    )


def _refined(level: Level, fits: Sequence[Fit], model: MotionModel) -> list[Fit]:
    """Return the refined placements, each only once, the best first.

    One that becomes implausible stays as it was: it is still a rival of the others.
    """
    refined = []
    for fit in fits:
        better = level.refine(fit.tir_from_rgb, model, steps=STEPS)
        if not _is_usable(better, level):
            better = level.refine(fit.tir_from_rgb, model, steps=0)
        if _is_usable(better, level):
            refined.append(better)
    refined.sort(key=lambda fit: -fit.strength)
    return distinct(refined, level.full_size, DISTINCT)


def _last_step(level: Level, fit: Fit, model: MotionModel) -> Fit:
    """Return a placement refined once more, or as it was if that leads astray."""
    better = level.refine(fit.tir_from_rgb, model, steps=STEPS)
    return better if _is_usable(better, level) else fit


def _is_usable(fit: Fit, level: Level) -> bool:
    return fit.overlap > SMALLEST_OVERLAP and is_plausible(fit.tir_from_rgb, level.full_size)


def _disagreement(level: Level, fit: Fit) -> float:
    """Return how far apart the fields of a checkerboard place the image."""
    columns = np.floor(2 * (level.x + 1)).astype(int)
    rows = np.floor(2 * (level.y + 1)).astype(int)
    black = (columns + rows) % 2 == 0
    first = level.refine(fit.tir_from_rgb, "similarity", steps=STEPS, part=black)
    second = level.refine(fit.tir_from_rgb, "similarity", steps=STEPS, part=~black)
    return distance(first.tir_from_rgb, second.tir_from_rgb, level.full_size)


def _spread(pairs: Sequence[PlanePair], count: int) -> list[PlanePair]:
    """Return at most ``count`` pairs, evenly spread."""
    if len(pairs) <= count:
        return list(pairs)
    places = np.linspace(0, len(pairs) - 1, count).round().astype(int)
    return [pairs[place] for place in places]

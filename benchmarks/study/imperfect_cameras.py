"""Does an aligned fusion ever lose to a single modality? Tables on imperfect cameras."""

from collections.abc import Sequence
from statistics import mean, median
from typing import NamedTuple

from benchmarks.study.challenges import EMPTY
from benchmarks.study.comparisons import answer, best_success, seeds_of, success
from benchmarks.study.records import Trial
from benchmarks.study.variants import SINGLE_MODALITIES, VARIANTS, Question
from rgbt_fusion.files.table import Table, to_markdown

__all__ = [
    "GAIN",
    "TOLERANCE",
    "Margin",
    "difference_table",
    "imperfect_camera_tables",
    "layer_table",
    "margin",
    "verdict_table",
]

TOLERANCE = 0.01
"""How far a fusion may lie below the better single modality in a challenge."""

GAIN = 0.03
"""How far it must lie above the better single modality on the mean of the challenges."""


LAYER = "sum_alignment_layer"
"""The variant with an alignment layer."""

WITHOUT_LAYER = "sum"
"""The same without it."""

LAYER_CHALLENGE = "misalignment_x2"
"""Where the layer has to gain."""

LAYER_SEEDS = 3
"""From so many seeds at least."""

LAYER_TIME = 1.15
"""What a frame may take with the layer, in times without it."""


class Margin(NamedTuple):
    """How far a fusion lies above the better single modality, in success."""

    by_challenge: dict[str, float]
    """Success less that of the single modality that is better in this very challenge."""
    of_the_means: float
    """Mean success less that of the single modality with the higher mean.

    Challenges with an empty modality do not count: they lower the mean of that single modality, so
    that any fusion would gain.
    """

    @property
    def below(self) -> list[str]:
        """The challenges in which the fusion is lower by more than the tolerance."""
        return [name for name, above in self.by_challenge.items() if above < -TOLERANCE]

    @property
    def holds(self) -> bool:
        """Whether the fusion is never below, and gains enough on the mean."""
        return not self.below and self.of_the_means >= GAIN


def margin(trials: Sequence[Trial], variant: str, *, aligned: bool) -> Margin | None:
    """Return how far a variant lies above the better single modality.

    Args:
        trials: of one settings.
        variant: its name.
        aligned: with the thermal frames laid on the colour frames.

    Returns:
        None where the variant or a single modality is not tried.
    """
    counted = _counted(trials)
    ours = success(trials, variant, counted, aligned=aligned)
    better = best_success(trials, SINGLE_MODALITIES, counted)
    if ours is None or better is None:
        return None
    by_challenge: dict[str, float] = {}
    for name in trials[0].settings.challenges:
        own = success(trials, variant, (name,), aligned=aligned)
        single = best_success(trials, SINGLE_MODALITIES, (name,))
        if own is not None and single is not None:
            by_challenge[name] = own.mean - single.mean
    return Margin(by_challenge, ours.mean - better.mean)


def _counted(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return the challenges that count in the mean: those in which no modality is empty."""
    challenges = trials[0].settings.challenges
    return tuple(name for name in challenges if name not in EMPTY)


class _Fusion(NamedTuple):
    """A column of differences, a row of the verdict."""

    variant: str
    aligned: bool
    margin: Margin

    @property
    def title(self) -> str:
        return VARIANTS[self.variant].titled(aligned=self.aligned)


def _fusions(trials: Sequence[Trial]) -> list[_Fusion]:
    """Return the variants of two modalities that are tried, without and with alignment."""
    found: list[_Fusion] = []
    for name, variant in VARIANTS.items():
        if variant.modality != "both":
            continue
        for aligned in (False, True):
            above = margin(trials, name, aligned=aligned)
            if above is not None:
                found.append(_Fusion(name, aligned, above))
    return found


def difference_table(trials: Sequence[Trial]) -> Table:
    """Return a row per challenge: each fusion less the single modality that is better there."""
    fusions = _fusions(trials)
    unsure = _unsure(trials)
    settings = trials[0].settings
    rows: list[tuple[str, ...]] = []
    for name in settings.challenges:
        unaligned = "" if unsure is None else f"{unsure[name]} of {settings.sequences}"
        differences = [f"{one.margin.by_challenge[name]:+.3f}" for one in fusions]
        rows.append((name.replace("_", " "), unaligned, *differences))
    titles = [one.title for one in fusions]
    return Table(("challenge", "alignment not sure", *titles), tuple(rows))


def _unsure(trials: Sequence[Trial]) -> dict[str, int] | None:
    """Return the sequences that went on unaligned, by challenge; all networks see the same."""
    for one in trials:
        if one.aligned is not None:
            return one.aligned.unsure
    return None


def verdict_table(trials: Sequence[Trial]) -> Table:
    """Return a row per fusion: where it loses to a single modality, and what it gains."""
    rows: list[tuple[str, ...]] = []
    for one in _fusions(trials):
        above = one.margin.by_challenge
        worst = min(above, key=lambda name: above[name])
        question = Question(
            "", one.variant, SINGLE_MODALITIES, _counted(trials), aligned=one.aligned
        )
        verdict = "yes" if one.margin.holds else "no"
        fewest = min(len(seeds_of(trials, name)) for name in (one.variant, *SINGLE_MODALITIES))
        if fewest < 2:
            verdict += ", from one seed"
        rows.append(
            (
                one.title,
                f"{len(above) - len(one.margin.below)} of {len(above)}",
                f"{worst.replace('_', ' ')} {above[worst]:+.3f}",
                answer(trials, question) or "",
                f"{mean(above.values()):+.3f}",
                verdict,
            )
        )
    header = (
        "fusion",
        f"challenges not below by more than {TOLERANCE}",
        "worst challenge",
        "mean without empty modalities, less that of the better single one",
        "mean of the differences by challenge",
        f"never below, and {GAIN} above on the mean",
    )
    return Table(header, tuple(rows))


def layer_table(trials: Sequence[Trial]) -> Table | None:
    """Return one row: whether the alignment layer gains enough for its time; None without it."""
    ours = success(trials, LAYER, (LAYER_CHALLENGE,))
    theirs = success(trials, WITHOUT_LAYER, (LAYER_CHALLENGE,))
    if ours is None or theirs is None:
        return None
    gain = ours.mean - theirs.mean
    apart = ours.low > theirs.high
    times = _network_ms(trials, LAYER) / _network_ms(trials, WITHOUT_LAYER)
    fewest = min(len(seeds_of(trials, name)) for name in (LAYER, WITHOUT_LAYER))
    if fewest < LAYER_SEEDS:
        verdict = f"unknown, from {fewest} of {LAYER_SEEDS} seeds"
    else:
        verdict = "yes" if gain >= GAIN and apart and times <= LAYER_TIME else "no"
    header = (
        "variant",
        "misalignment x2",
        "without the layer",
        f"gain, {GAIN} asked",
        "every seed above every other",
        f"time of a frame over that without, {LAYER_TIME:.2f} at most",
        "keep it as a default",
    )
    row = (
        VARIANTS[LAYER].title,
        str(ours),
        str(theirs),
        f"{gain:+.3f}",
        "yes" if apart else "no",
        f"{times:.2f}",
        verdict,
    )
    return Table(header, (row,))


def _network_ms(trials: Sequence[Trial], variant: str) -> float:
    return median(one.network_ms for one in trials if one.variant == variant)


def imperfect_camera_tables(trials: Sequence[Trial]) -> list[str]:
    """Return the paragraphs that answer whether a fusion ever loses; none without the variants."""
    if not _fusions(trials):
        return []
    tables = [
        "Each fusion less the single modality that is better in the challenge:",
        to_markdown(difference_table(trials)),
        f"Is a fusion at or above the better single modality in every challenge, within "
        f"{TOLERANCE}, and {GAIN} above it on the mean?",
        to_markdown(verdict_table(trials)),
    ]
    layer = layer_table(trials)
    if layer is not None:
        tables.append("Is the alignment layer worth its time?")
        tables.append(to_markdown(layer))
    return tables

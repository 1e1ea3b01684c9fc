"""The success of a variant over its seeds, and the difference of two variants."""

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import NamedTuple

from benchmarks.study.challenges import challenge_of
from benchmarks.study.records import Trial
from benchmarks.study.variants import Question
from rgbt_fusion.evaluation.intervals import Interval, mean_interval

__all__ = [
    "SeedRange",
    "answer",
    "best_success",
    "seeds_of",
    "sequence_interval",
    "success",
    "with_interval",
]


class SeedRange(NamedTuple):
    """What several seeds reach: their mean, the lowest and the highest."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "SeedRange":
        """Return the range of at least one value."""
        return cls(mean(values), min(values), max(values))

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def success(
    trials: Iterable[Trial],
    variant: str,
    challenges: Sequence[str] | None = None,
    *,
    aligned: bool = False,
) -> SeedRange | None:
    """Return the success of a variant over its seeds; None where it is not tried or not scored.

    Args:
        trials: of one settings.
        variant: its name.
        challenges: what the success of each seed is the mean of; None takes all that are scored.
        aligned: take the scores with aligned thermal frames.
    """
    means = []
    for one in trials:
        scores = one.aligned if aligned else one
        if one.variant != variant or scores is None:
            continue
        counted = one.settings.challenges if challenges is None else challenges
        if scores.success.keys() >= set(counted):
            means.append(mean(scores.success[name] for name in counted))
    return SeedRange.of(means) if means else None


def sequence_interval(
    trials: Iterable[Trial],
    variant: str,
    challenges: Sequence[str] | None = None,
    *,
    less: str | None = None,
    aligned: bool = False,
) -> Interval | None:
    """Return the interval over sequences of a variant's success, the mean of its seeds.

    Args:
        trials: of one settings.
        variant: its name.
        challenges: the challenges whose sequences count; None takes all that are scored.
        less: another variant, whose success in each sequence is taken off. None takes nothing off.
        aligned: the variant with aligned thermal frames; the other one is never aligned.

    Returns:
        None where a trial is lacking or does not know its sequences.
    """
    known = list(trials)
    ours = _success_by_sequence(known, variant, challenges, aligned=aligned)
    theirs = {} if less is None else _success_by_sequence(known, less, challenges)
    if less is not None:
        shared = [name for name in ours if name in theirs]
        ours = {name: ours[name] - theirs[name] for name in shared}
    return mean_interval(list(ours.values())) if len(ours) > 1 else None


def _success_by_sequence(
    trials: Iterable[Trial],
    variant: str,
    challenges: Sequence[str] | None,
    *,
    aligned: bool = False,
) -> dict[str, float]:
    """Return the mean over seeds of a variant's success, by sequence of the challenges."""
    own = []
    for one in trials:
        scores = one.aligned if aligned else one
        if one.variant == variant and scores is not None:
            own.append(scores.sequences)
    if not own or not all(own):
        return {}
    return {
        name: mean(sequences[name] for sequences in own)
        for name in own[0]
        if challenges is None or challenge_of(name) in challenges
    }


def best_success(
    trials: Sequence[Trial], variants: Sequence[str], challenges: Sequence[str] | None = None
) -> SeedRange | None:
    """Return the highest success of several variants; None where one of them is not tried.

    Args:
        trials: of one settings.
        variants: their names; none of them is aligned.
        challenges: as in :func:`success`.
    """
    found = [success(trials, variant, challenges) for variant in variants]
    tried = [one for one in found if one is not None]
    return max(tried) if len(tried) == len(variants) else None


def seeds_of(trials: Iterable[Trial], variant: str) -> list[int]:
    """Return the seeds that a variant is tried from."""
    return sorted(one.seed for one in trials if one.variant == variant)


def with_interval(text: str, interval: Interval | None, *, sign: str = "") -> str:
    """Return a text with an interval in brackets behind it, if there is one."""
    if interval is None:
        return text
    return f"{text} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def answer(trials: Sequence[Trial], question: Question) -> str | None:
    """Return the difference of a pair of variants in words; None where one of them is not tried.

    There is a difference where every seed of one lies above every seed of the other. Otherwise it
    is inside the spread; of a single seed the spread is unknown. Trials that know their sequences
    add the interval of the difference over sequences, in brackets.

    Args:
        trials: of one settings.
        question: the pair.
    """
    ours = success(trials, question.variant, question.challenges, aligned=question.aligned)
    theirs = best_success(trials, question.against, question.challenges)
    if ours is None or theirs is None:
        return None
    difference = ours.mean - theirs.mean
    fewest = min(len(seeds_of(trials, name)) for name in (question.variant, *question.against))
    if fewest < 2:
        return f"unknown: {difference:+.3f} from one seed"
    if ours.low > theirs.high or ours.high < theirs.low:
        interval = None
        if len(question.against) == 1:
            interval = sequence_interval(
                trials,
                question.variant,
                question.challenges,
                less=question.against[0],
                aligned=question.aligned,
            )
        return with_interval(f"{difference:+.3f}", interval, sign="+")
    return f"none ({difference:+.3f} is inside the spread)"

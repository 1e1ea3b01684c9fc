"""The study's tables: means with their range over seeds, and what pairs of variants say."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from benchmarks.study.records import StudySettings, Trial, by_settings
from benchmarks.study.variants import QUESTIONS, VARIANTS, Question
from rgbt_fusion.evaluation.held_out import HARD
from rgbt_fusion.evaluation.intervals import Interval, mean_interval
from rgbt_fusion.files.table import Table, fill_marked, to_markdown
from rgbt_fusion.files.whole import write_text

__all__ = [
    "SeedRange",
    "answer",
    "answer_table",
    "fill_document",
    "fill_text",
    "result_table",
    "sequence_interval",
    "study_tables",
    "success",
]

ABLATIONS = tuple(dict.fromkeys(variant.ablation for variant in VARIANTS.values()))
"""Whose ablations there are; None stands for the study proper."""


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
    trials: Iterable[Trial], variant: str, challenges: Sequence[str] = HARD
) -> SeedRange | None:
    """Return the success of a variant over its seeds; None where it is not tried.

    Args:
        trials: of one settings.
        variant: its name.
        challenges: what the success of each seed is the mean of.
    """
    found = [
        mean(one.success[name] for name in challenges) for one in trials if one.variant == variant
    ]
    return SeedRange.of(found) if found else None


def sequence_interval(
    trials: Iterable[Trial],
    variant: str,
    challenges: Sequence[str] = HARD,
    *,
    less: str | None = None,
) -> Interval | None:
    """Return the interval over sequences of a variant's success, the mean of its seeds.

    Args:
        trials: of one settings.
        variant: its name.
        challenges: the challenges whose sequences count.
        less: another variant, whose success in each sequence is taken off. None takes nothing off.

    Returns:
        None where a trial is lacking or does not know its sequences.
    """
    known = list(trials)
    ours = _success_by_sequence(known, variant, challenges)
    theirs = {} if less is None else _success_by_sequence(known, less, challenges)
    if less is not None:
        shared = [name for name in ours if name in theirs]
        ours = {name: ours[name] - theirs[name] for name in shared}
    return mean_interval(list(ours.values())) if len(ours) > 1 else None


def _success_by_sequence(
    trials: Iterable[Trial], variant: str, challenges: Sequence[str]
) -> dict[str, float]:
    """Return the mean over seeds of a variant's success, by sequence of the challenges."""
    own = [one.sequences for one in trials if one.variant == variant]
    if not own or not all(own):
        return {}
    starts = tuple(f"synthetic_{challenge}_" for challenge in challenges)
    return {
        name: mean(sequences[name] for sequences in own)
        for name in own[0]
        if name.startswith(starts)
    }


def _with_interval(text: str, interval: Interval | None, *, sign: str = "") -> str:
    if interval is None:
        return text
    return f"{text} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _best(
    trials: Sequence[Trial], variants: Sequence[str], challenges: Sequence[str]
) -> SeedRange | None:
    """Return the highest success of several variants; None where one of them is not tried."""
    found = [success(trials, variant, challenges) for variant in variants]
    tried = [one for one in found if one is not None]
    return max(tried) if len(tried) == len(variants) else None


def _seeds(trials: Iterable[Trial], variant: str) -> list[int]:
    return sorted(one.seed for one in trials if one.variant == variant)


def result_table(trials: Sequence[Trial], *, ablation: str | None = None) -> Table:
    """Return a row per variant: its seeds, its success by challenge, its size and its speed.

    Args:
        trials: of one settings.
        ablation: whose ablation to show; None the study proper.
    """
    rows = []
    for name, variant in VARIANTS.items():
        own = [one for one in trials if one.variant == name]
        if not own or variant.ablation != ablation:
            continue
        by_challenge = [str(success(own, name, (challenge,))) for challenge in HARD]
        rows.append(
            (
                variant.title,
                ", ".join(str(seed) for seed in _seeds(own, name)),
                *by_challenge,
                _with_interval(str(success(own, name)), sequence_interval(own, name)),
                f"{own[0].parameters / 1e6:.2f}",
                f"{mean(one.network_ms for one in own):.1f}",
            )
        )
    challenges = (name.replace("_", " ") for name in HARD)
    header = ("variant", "seeds", *challenges, "mean", "M parameters", "ms a frame")
    return Table(header, tuple(rows))


def answer(trials: Sequence[Trial], question: Question) -> str | None:
    """Return what a pair of variants says, or None where one of them is not tried.

    There is a difference where every seed of one lies above every seed of the other. Less is a
    difference inside the spread, and one seed has no spread to speak of. Trials that know their
    sequences add the interval of the difference over sequences, in brackets.

    Args:
        trials: of one settings.
        question: the pair.
    """
    ours = success(trials, question.variant, question.challenges)
    theirs = _best(trials, question.against, question.challenges)
    if ours is None or theirs is None:
        return None
    difference = ours.mean - theirs.mean
    fewest = min(len(_seeds(trials, name)) for name in (question.variant, *question.against))
    if fewest < 2:
        return f"unknown: {difference:+.3f} from one seed"
    if ours.low > theirs.high or ours.high < theirs.low:
        interval = None
        if len(question.against) == 1:
            interval = sequence_interval(
                trials, question.variant, question.challenges, less=question.against[0]
            )
        return _with_interval(f"{difference:+.3f}", interval, sign="+")
    return f"none ({difference:+.3f} is inside the spread)"


def answer_table(trials: Sequence[Trial]) -> Table:
    """Return a row per question: what is compared, both successes, and the difference."""
    rows = []
    for question in QUESTIONS:
        said = answer(trials, question)
        if said is not None:
            ours = success(trials, question.variant, question.challenges)
            theirs = _best(trials, question.against, question.challenges)
            rows.append((question.text, str(ours), str(theirs), said))
    return Table(("question", "success", "of the other", "difference"), tuple(rows))


def study_tables(trials: Iterable[Trial]) -> str:
    """Return all tables in Markdown, under a line that says what was run."""
    parts = []
    for settings, own in by_settings(trials).items():
        parts.append(_said(settings, own))
        tried = {VARIANTS[one.variant].ablation for one in own}
        for ablation in ABLATIONS:
            if ablation in tried:
                if ablation is not None:
                    parts.append(f"Ablation: {ablation}.")
                parts.append(to_markdown(result_table(own, ablation=ablation)))
        answers = answer_table(own)
        if answers.rows:
            parts.append(to_markdown(answers))
    return "\n\n".join(parts)


def _said(settings: StudySettings, trials: Sequence[Trial]) -> str:
    seeds = ", ".join(str(seed) for seed in sorted({one.seed for one in trials}))
    start = "a backbone from a file"
    if settings.backbone_steps:
        start = f"a backbone of {settings.backbone_steps} steps"
    hours = sum(one.train_seconds for one in trials) / 3600
    machines = ", ".join(sorted({one.machine for one in trials}))
    return (
        f"{len(trials)} trials, seeds {seeds}: {settings.steps} steps of {settings.batch_size} "
        f"from {start} ({settings.backbone}), {hours:.1f} hours of training; "
        f"success on {len(HARD)} challenges x {settings.sequences} held-out sequences x "
        f"{settings.frames} frames. Machines: {machines}."
    )


def fill_text(text: str, trials: Iterable[Trial]) -> str:
    """Return a document with its marked tables made anew.

    They stand between ``<!-- study -->`` and ``<!-- /study -->``.

    Raises:
        ValueError: nothing is marked in it.
    """
    if "<!-- study -->" not in text or "<!-- /study -->" not in text:
        raise ValueError("text must hold <!-- study --> and <!-- /study -->, but does not")
    tables = study_tables(trials)
    return fill_marked(text, "study", lambda name: tables)


def fill_document(path: Path, trials: Iterable[Trial]) -> None:
    """Make the marked tables of a document anew.

    Raises:
        ValueError: nothing is marked in it.
    """
    text = path.read_text(encoding="utf-8")
    try:
        filled = fill_text(text, trials)
    except ValueError as error:
        raise ValueError(str(error).replace("text", str(path), 1)) from None
    write_text(path, filled)

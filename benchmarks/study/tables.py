"""The study's tables: means with their spread, and what each pair of variants says, if anything."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from benchmarks.study.records import Settings, Trial, by_settings
from benchmarks.study.variants import QUESTIONS, VARIANTS, Question
from rgbt_fusion.evaluation.held_out import HARD
from rgbt_fusion.evaluation.tables import Table, to_markdown

__all__ = ["Spread", "answer", "answer_table", "fill_document", "result_table", "study_tables"]


class Spread(NamedTuple):
    """What several seeds reach: their mean, the lowest and the highest."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(mean(values), min(values), max(values))

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def success(
    trials: Iterable[Trial], variant: str, challenges: Sequence[str] = HARD
) -> Spread | None:
    """Return the success of a variant, the mean over some challenges from each seed; None where it
    is not tried."""
    found = [
        mean(one.success[name] for name in challenges) for one in trials if one.variant == variant
    ]
    return Spread.of(found) if found else None


def result_table(trials: Sequence[Trial], *, ablation: str | None = None) -> Table:
    """Return a row a variant: its seeds, its success by challenge, its size and its speed.

    Args:
        trials: of one settings.
        ablation: whose ablation to show; None the study proper.
    """
    rows = []
    for name, variant in VARIANTS.items():
        own = [one for one in trials if one.variant == name]
        if own and variant.ablation == ablation:
            spreads = (
                str(success(own, name, challenges))
                for challenges in (*((one,) for one in HARD), HARD)
            )
            seeds = ", ".join(str(one.seed) for one in sorted(own, key=lambda one: one.seed))
            millions, speed = own[0].parameters / 1e6, mean(one.network_ms for one in own)
            rows.append((variant.title, seeds, *spreads, f"{millions:.2f}", f"{speed:.1f}"))
    challenges = (name.replace("_", " ") for name in HARD)
    return Table(
        ("variant", "seeds", *challenges, "mean", "M parameters", "ms a frame"), tuple(rows)
    )


def answer(trials: Sequence[Trial], question: Question) -> str | None:
    """Return what a pair of variants says, or None where one of them is not tried.

    There is a difference where every seed of one lies above every seed of the other. Less is a
    difference inside the spread, and one seed has no spread to speak of.
    """
    ours = success(trials, question.variant, question.challenges)
    others = [
        found for name in question.against if (found := success(trials, name, question.challenges))
    ]
    if ours is None or len(others) < len(question.against):
        return None
    theirs = max(others)
    difference = ours.mean - theirs.mean
    tried = [
        [one.seed for one in trials if one.variant == name]
        for name in (question.variant, *question.against)
    ]
    fewest = min(map(len, tried))
    if fewest < 2:
        return f"unknown: {difference:+.3f} from one seed"
    if ours.low > theirs.high or ours.high < theirs.low:
        return f"{difference:+.3f}"
    return f"none ({difference:+.3f} is inside the spread)"


def answer_table(trials: Sequence[Trial]) -> Table:
    """Return a row a question: what is compared, both successes, and the difference."""
    rows = []
    for question in QUESTIONS:
        said = answer(trials, question)
        if said is not None:
            ours = success(trials, question.variant, question.challenges)
            theirs = max(
                found
                for name in question.against
                if (found := success(trials, name, question.challenges))
            )
            rows.append((question.text, str(ours), str(theirs), said))
    return Table(("question", "success", "of the other", "difference"), tuple(rows))


def study_tables(trials: Iterable[Trial]) -> str:
    """Return all tables in Markdown, under a line that says what was run."""
    parts = []
    for settings, own in by_settings(trials).items():
        parts.append(_said(settings, own))
        ablations = dict.fromkeys(VARIANTS[one.variant].ablation for one in own)
        for ablation in sorted(ablations, key=lambda name: list(_ABLATIONS).index(name)):
            title = [] if ablation is None else [f"Ablation: {ablation}."]
            parts += [*title, to_markdown(result_table(own, ablation=ablation))]
        answers = answer_table(own)
        if answers.rows:
            parts.append(to_markdown(answers))
    return "\n\n".join(parts)


_ABLATIONS = dict.fromkeys(variant.ablation for variant in VARIANTS.values())


def _said(settings: Settings, trials: Sequence[Trial]) -> str:
    machines = ", ".join(sorted({one.machine for one in trials}))
    start = (
        f"a backbone of {settings.backbone_steps} steps"
        if settings.backbone_steps
        else "a backbone from a file"
    )
    seeds = ", ".join(str(seed) for seed in sorted({one.seed for one in trials}))
    hours = sum(one.train_seconds for one in trials) / 3600
    return (
        f"{len(trials)} trials, seeds {seeds}: {settings.steps} steps of {settings.batch_size} from {start} "
        f"({settings.backbone}), {hours:.1f} hours of training; success on {len(HARD)} challenges x "
        f"{settings.sequences} held-out sequences x {settings.frames} frames. Machines: {machines}."
    )


_MARKED = re.compile(r"(<!-- study -->\n).*?(<!-- /study -->)", re.DOTALL)


def fill_document(path: Path, trials: Iterable[Trial]) -> None:
    """Make the marked tables of a document anew.

    Raises:
        ValueError: nothing is marked in it.
    """
    text = path.read_text(encoding="utf-8")
    if not _MARKED.search(text):
        raise ValueError(f"{path} must hold <!-- study --> and <!-- /study -->, but does not")
    tables = study_tables(trials)
    path.write_text(
        _MARKED.sub(lambda found: f"{found[1]}{tables}\n{found[2]}", text), encoding="utf-8"
    )

"""The study's tables: means with their range over seeds, and what pairs of variants say."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.study.comparisons import (
    answer,
    best_success,
    seeds_of,
    sequence_interval,
    success,
    with_interval,
)
from benchmarks.study.imperfect_cameras import imperfect_camera_tables
from benchmarks.study.records import StudySettings, Trial, by_settings
from benchmarks.study.variants import QUESTIONS, VARIANTS
from rgbt_fusion.files.table import Table, fill_marked, to_markdown
from rgbt_fusion.files.whole import write_text

__all__ = ["answer_table", "fill_document", "fill_text", "result_table", "study_tables"]

ABLATIONS = tuple(dict.fromkeys(variant.ablation for variant in VARIANTS.values()))
"""Whose ablations there are; None stands for the study proper."""


def result_table(trials: Sequence[Trial], *, ablation: str | None = None) -> Table:
    """Return a row per variant: its seeds, its success by challenge, its size and its speed.

    Args:
        trials: of one settings.
        ablation: whose ablation to show; None the study proper.
    """
    rows = []
    challenges = trials[0].settings.challenges if trials else ()
    for name, variant in VARIANTS.items():
        own = [one for one in trials if one.variant == name]
        if not own or variant.ablation != ablation:
            continue
        rows.append(_result_row(own, challenges, aligned=False))
        if any(one.aligned is not None for one in own):
            rows.append(_result_row(own, challenges, aligned=True))
    titles = (name.replace("_", " ") for name in challenges)
    header = ("variant", "seeds", *titles, "mean", "M parameters", "ms a frame")
    return Table(header, tuple(rows))


def _result_row(
    trials: Sequence[Trial], challenges: Sequence[str], *, aligned: bool
) -> tuple[str, ...]:
    """Return the row of one variant, of which all ``trials`` are."""
    scored = [one for one in trials if one.aligned is not None or not aligned]
    name = scored[0].variant
    by_challenge = [
        str(success(scored, name, (challenge,), aligned=aligned)) for challenge in challenges
    ]
    interval = sequence_interval(scored, name, aligned=aligned)
    return (
        VARIANTS[name].titled(aligned=aligned),
        ", ".join(str(seed) for seed in seeds_of(scored, name)),
        *by_challenge,
        with_interval(str(success(scored, name, aligned=aligned)), interval),
        f"{scored[0].parameters / 1e6:.2f}",
        f"{mean(one.network_ms for one in scored):.1f}",
    )


def answer_table(trials: Sequence[Trial]) -> Table:
    """Return a row per question: what is compared, both successes, and the difference."""
    rows = []
    for question in QUESTIONS:
        said = answer(trials, question)
        if said is not None:
            ours = success(trials, question.variant, question.challenges, aligned=question.aligned)
            theirs = best_success(trials, question.against, question.challenges)
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
        if settings.imperfect_cameras:
            parts += imperfect_camera_tables(own)
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
    said = (
        f"{len(trials)} trials, seeds {seeds}: {settings.steps} steps of {settings.batch_size} "
        f"from {start} ({settings.backbone}), {hours:.1f} hours of training; "
        f"success on {len(settings.challenges)} challenges x {settings.sequences} held-out "
        f"sequences x {settings.frames} frames. Machines: {machines}."
    )
    if settings.misalignment or settings.failing:
        said += (
            f" In training the thermal image of both modalities is up to {settings.misalignment:g} "
            f"target heights off, and one modality fails in {settings.failing:g} of the samples."
        )
    return said


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

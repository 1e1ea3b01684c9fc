"""``python -m benchmarks study``: train every fusion alike from several seeds, and compare them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rgbt_fusion.cli.train import DeviceOption, ThreadsOption, use_threads

__all__ = ["study"]

if TYPE_CHECKING:
    from benchmarks.study.records import StudySettings, Trial
    from rgbt_fusion.training import Progress

MISALIGNMENT = 0.4
"""Largest shift of the thermal image in the training for imperfect cameras, in target heights."""

FAILING = 0.15
"""Share of the samples of that training in which one modality fails."""


def study(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Result files to show, with --table."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder that keeps the results and the trainings."),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds: whole numbers with commas between them.")
    ] = "1,2,3",
    variants: Annotated[
        str | None,
        typer.Option(
            help="Names of variants, with commas between them; by default the study proper."
        ),
    ] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also train the ablations of the papers.")
    ] = False,
    imperfect_cameras: Annotated[
        bool,
        typer.Option(
            "--imperfect-cameras",
            help="Train with misaligned samples and failing modalities, and also score shifted "
            "cameras and empty modalities, without and with alignment.",
        ),
    ] = False,
    misalignment: Annotated[
        float | None,
        typer.Option(
            help="Largest shift of the thermal image in training, in heights of the target; "
            "0.4 with --imperfect-cameras, else 0."
        ),
    ] = None,
    failing: Annotated[
        float | None,
        typer.Option(
            help="Share of the training samples in which one modality fails; "
            "0.15 with --imperfect-cameras, else 0."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Number of training steps of each variant.")] = 500,
    batch_size: Annotated[int, typer.Option(help="Number of samples in one step.")] = 32,
    backbone: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights that all variants start from; by default they are trained.",
        ),
    ] = None,
    backbone_steps: Annotated[
        int, typer.Option(help="Number of training steps of the backbone.")
    ] = 3000,
    sequences: Annotated[
        int, typer.Option(help="Number of held-out sequences of each challenge.")
    ] = 10,
    frames: Annotated[int, typer.Option(help="Length of the held-out sequences in frames.")] = 60,
    workers: Annotated[
        int,
        typer.Option(
            help="Number of processes that make samples and that track; 0 does all in this one."
        ),
    ] = 1,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    table: Annotated[
        bool, typer.Option("--table", help="Train nothing; show the tables of result files.")
    ] = False,
    into: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Document whose marked tables are made anew, repeatable, with --table.",
        ),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for the plots, with --table.")
    ] = None,
) -> None:
    """Train and score what is not there yet, and append a line to FOLDER/results.jsonl.

    Run the same command again to resume; with more seeds or other steps it adds to the results.
    """
    if table:
        from benchmarks.study.records import read_trials

        _show(read_trials(files or []), into or [], plots)
        return
    if out is None:
        raise ValueError("--out must be given, or --table with result files")
    if files or into or plots:
        raise ValueError("files, --into and --plots must come with --table, got them without")
    from benchmarks.study.records import StudySettings
    from benchmarks.study.trials import run_study
    from benchmarks.study.variants import IMPERFECT_CAMERA_VARIANTS, choose_variants

    names = None if variants is None else variants.split(",")
    if names is None and imperfect_cameras and not ablation:
        names = list(IMPERFECT_CAMERA_VARIANTS)
    if misalignment is None:
        misalignment = MISALIGNMENT if imperfect_cameras else 0.0
    if failing is None:
        failing = FAILING if imperfect_cameras else 0.0
    settings = StudySettings(
        steps=steps,
        batch_size=batch_size,
        backbone_steps=backbone_steps,
        sequences=sequences,
        frames=frames,
        imperfect_cameras=imperfect_cameras,
        misalignment=misalignment,
        failing=failing,
    )
    chosen = choose_variants(names, ablation=ablation)
    use_threads(threads)
    try:
        trials = run_study(
            out,
            chosen,
            _numbers(seeds),
            settings,
            backbone=backbone,
            device=device,
            workers=workers,
            on_progress=_Teller(),
        )
    except KeyboardInterrupt:
        typer.echo("\nstopped: run the same command again to resume", err=True)
        raise
    _show(trials, [], out)


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"--seeds must be whole numbers with commas between them, got {text!r}")
    return [int(part) for part in parts]


class _Teller:
    """Says what is going on: a line for each step of the study.

    On a terminal the line also says how far a training is.
    """

    def __init__(self) -> None:
        self.last = ""
        self.clear = "\r\x1b[K" if sys.stderr.isatty() else ""

    def __call__(self, what: str, progress: "Progress | None") -> None:
        if progress is not None and self.clear:
            done = f"{progress.step}/{progress.steps}"
            left = f"{progress.seconds_left / 60:.1f} minutes left"
            sys.stderr.write(f"{self.clear}{what} {done}, {left}")
            sys.stderr.flush()
        elif what != self.last:
            sys.stderr.write(self.clear)
            typer.echo(what, err=True)
        self.last = what


def _show(trials: list["Trial"], documents: list[Path], plots: Path | None) -> None:
    from benchmarks.study.records import by_settings
    from benchmarks.study.tables import fill_document, study_tables

    if not trials:
        raise ValueError("result files must hold at least one trial, got none")
    for document in documents:
        fill_document(document, trials)
    if not documents:
        typer.echo(study_tables(trials))
    if plots is not None:
        _draw(by_settings(trials), plots)


def _draw(groups: dict["StudySettings", list["Trial"]], folder: Path) -> None:
    """Draw the largest study, and the largest one of imperfect cameras."""
    from benchmarks.study.plots import LEARNING, plot_challenges, plot_learning, plot_success
    from rgbt_fusion.files.whole import writing

    folder.mkdir(parents=True, exist_ok=True)
    largest = next(iter(groups.values()))
    figures = {"study-success.png": plot_success(largest)}
    if {one.variant for one in largest} >= set(LEARNING):
        figures["study-distillation.png"] = plot_learning(largest)
    imperfect = [own for settings, own in groups.items() if settings.imperfect_cameras]
    if imperfect:
        figures["study-imperfect-cameras.png"] = plot_challenges(imperfect[0])
    for name, figure in figures.items():
        with writing(folder / name, keep_suffix=True) as part:
            figure.savefig(part)
        typer.echo(f"wrote {folder / name}", err=True)

"""``rgbt-fusion study``: train every fusion of this library alike, from several seeds, and say what
helps."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rgbt_fusion.cli.train import DeviceOption, ThreadsOption, use_threads

if TYPE_CHECKING:
    from benchmarks.study.records import Trial
    from rgbt_fusion.training import Progress


def study(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="With --table: result files to show."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where results and trainings are kept.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Whole numbers with commas between them.")] = "1,2,3",
    variants: Annotated[
        str | None,
        typer.Option(help="Names with commas between them; by default the study proper."),
    ] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="The papers' own ablations, too.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Steps of each variant.")] = 500,
    batch_size: Annotated[int, typer.Option(help="Samples of a step.")] = 32,
    backbone: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What all start from; by default one is trained."),
    ] = None,
    backbone_steps: Annotated[int, typer.Option(help="Steps of the backbone.")] = 3000,
    sequences: Annotated[int, typer.Option(help="Held-out sequences of each challenge.")] = 10,
    frames: Annotated[int, typer.Option(help="Their length.")] = 60,
    workers: Annotated[
        int, typer.Option(help="Processes that make samples, and that track; 0 does all in one.")
    ] = 1,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    table: Annotated[
        bool, typer.Option("--table", help="Train nothing; show the tables of result files.")
    ] = False,
    into: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="With --table: renew the marked tables of a document."),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With --table: draw the plots into this folder."),
    ] = None,
) -> None:
    """Train what is not trained yet, score it on held-out sequences and append a line to
    FOLDER/results.jsonl.

    The same command again goes on where it was interrupted; with more seeds or other steps it adds
    to the results.
    """
    from benchmarks.study.records import Settings, read_trials
    from benchmarks.study.trials import run_study
    from benchmarks.study.variants import choose_variants

    if table:
        _show(read_trials(files or []), into or [], plots)
        return
    if out is None:
        raise ValueError("--out must be given, or --table with result files")
    if files or into or plots:
        raise ValueError("files, --into and --plots must come with --table, got them without")
    names = None if variants is None else variants.split(",")
    settings = Settings(
        steps=steps,
        batch_size=batch_size,
        backbone_steps=backbone_steps,
        sequences=sequences,
        frames=frames,
    )
    chosen = choose_variants(names, ablation=ablation)
    use_threads(threads)
    trials = run_study(
        out,
        chosen,
        _numbers(seeds),
        settings,
        backbone=backbone,
        device=device,
        workers=workers,
        on_progress=_teller(),
    )
    _show(trials, [], out)


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"--seeds must be whole numbers with commas between them, got {text!r}")
    return [int(part) for part in parts]


def _teller() -> Callable[[str, "Progress | None"], None]:
    """Return what says what is going on: a line for each step of the study, the training's own on a
    terminal."""
    last = ""

    def tell(what: str, progress: "Progress | None") -> None:
        nonlocal last
        if progress is not None and sys.stderr.isatty():
            left = (
                f"{progress.step}/{progress.steps}, {progress.seconds_left / 60:.1f} minutes left"
            )
            sys.stderr.write(f"\r\x1b[K{what} {left}")
            sys.stderr.flush()
        elif what != last:
            sys.stderr.write("\r\x1b[K" if sys.stderr.isatty() else "")
            typer.echo(what, err=True)
        last = what

    return tell


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
        _draw(next(iter(by_settings(trials).values())), plots)


def _draw(trials: list["Trial"], folder: Path) -> None:
    from benchmarks.study.plots import LEARNING, plot_learning, plot_success

    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"study-success.png": plot_success}
    if {one.variant for one in trials} >= set(LEARNING):
        drawn["study-distillation.png"] = plot_learning
    for name, draw in drawn.items():
        draw(trials).savefig(folder / name)
        typer.echo(f"wrote {folder / name}", err=True)

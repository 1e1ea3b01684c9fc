"""The commands that measure what only a checkout has, and that make the published tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rgbt_fusion.cli.measuring import (
    BackendOption,
    BudgetOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MachineOption,
    PlotOption,
    QuickOption,
    RoundsOption,
    SaveOption,
    ThreadsOption,
    new_effort,
    new_options,
    print_rows,
    read_records,
    record_of,
    run_suites,
    write,
)

if TYPE_CHECKING:
    from rgbt_fusion.benchmarking.contest import Contest
    from rgbt_fusion.benchmarking.records import Row
    from rgbt_fusion.benchmarking.timing import Effort

__all__ = ["complexity", "models", "startup", "tables"]

PROGRAM = "python -m benchmarks"


def models(
    quick: QuickOption = False,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Batch to measure, repeatable; by default 1, and 8 in one table."),
    ] = None,
    dtype: DtypeOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    rounds: RoundsOption = None,
    budget: BudgetOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    save: SaveOption = None,
    machine: MachineOption = None,
) -> None:
    """Compare whole trackers with plain OSTrack.

    They run eager, compiled, in int8 and in ONNX Runtime, over batches, threads and data types.
    """
    options = new_options(quick=quick, device=device, shapes=shape, dtypes=dtype, threads=threads)
    effort = new_effort(quick=quick, rounds=rounds, budget=budget)
    from benchmarks.suites import models as suite

    rows = _run("models", list(suite.models(options)), effort)
    _keep("models", rows, device, machine, json, save)
    if plot:
        from rgbt_fusion.benchmarking.plots import draw_ratios

        draw_ratios(rows, plot)


def complexity(
    quick: QuickOption = False,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Pixels of the search crop and number of fused layers, repeatable: px,K."
        ),
    ] = None,
    backend: BackendOption = None,
    dtype: DtypeOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    rounds: RoundsOption = None,
    budget: BudgetOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    save: SaveOption = None,
    machine: MachineOption = None,
) -> None:
    """Measure what AINet adds to an encoder, over resolution and over fused layers."""
    options = new_options(
        quick=quick, device=device, shapes=shape, backends=backend, dtypes=dtype, threads=threads
    )
    effort = new_effort(quick=quick, rounds=rounds, budget=budget)
    from benchmarks.suites import complexity as suite

    rows = _run("complexity", list(suite.complexity(options)), effort)
    _keep("complexity", rows, device, machine, json, save)
    if plot:
        suite.draw_growth(rows, plot)


def startup(
    quick: QuickOption = False,
    json: JsonOption = None,
    save: SaveOption = None,
    machine: MachineOption = None,
) -> None:
    """Measure how long it takes until something can run: the import, and the help."""
    from rich.console import Console

    from benchmarks.suites.startup import measure_startup

    rows = measure_startup(rounds=3 if quick else 5)
    print_rows(Console(highlight=False), "startup", rows)
    _keep("startup", rows, "cpu", machine, json, save)


def tables(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Record files to show.")
    ] = None,
    into: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Document whose marked tables are made anew, repeatable; by default all tables "
            "are printed as Markdown.",
        ),
    ] = None,
) -> None:
    """Make the published tables from records."""
    from benchmarks.suites.tables import all_tables, fill_document

    records = read_records(files or [])
    for document in into or ():
        fill_document(document, records)
    if not into:
        typer.echo(all_tables(records))


def _run(suite: str, contests: "Sequence[Contest]", effort: "Effort") -> "list[Row]":
    from benchmarks.suites.memory import new_meter
    from benchmarks.suites.workloads import TASKS

    ((_, rows),) = run_suites({suite: contests}, effort, new_meter(), TASKS)
    return rows


def _keep(
    suite: str,
    rows: "Sequence[Row]",
    device: str,
    machine: str | None,
    json: Path | None,
    save: Path | None,
) -> None:
    """Write the record of a suite where the user wants it."""
    record = record_of(suite, rows, program=PROGRAM, device=device, machine=machine)
    if save:
        write(record, save / record.file_name)
    if json:
        write(record, json)

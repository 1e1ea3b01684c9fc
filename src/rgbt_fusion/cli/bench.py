"""``rgbt-fusion bench``: time, memory and error of ops, blocks and layers on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rgbt_fusion.cli.idle_options import refuse_idle
from rgbt_fusion.cli.measuring import (
    BackendOption,
    BudgetOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MachineOption,
    PassOption,
    PlotOption,
    QuickOption,
    RoundsOption,
    SaveOption,
    ThreadsOption,
    new_effort,
    new_options,
    read_records,
    record_of,
    run_suites,
    write,
)

if TYPE_CHECKING:
    from rgbt_fusion.benchmarking.records import Row

SUITE_NAMES = ("scan", "conv", "block", "dfm", "ofm", "layers")
QUICK_SUITE_NAMES = ("scan", "conv", "block", "dfm", "ofm")
PROGRAM = "rgbt-fusion"


def bench(
    context: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUITE|FILE",
            help=f"Suites to run: {', '.join(SUITE_NAMES)} or all. "
            "With --table: record files to show.",
        ),
    ] = None,
    quick: QuickOption = False,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Shape to measure, repeatable: B,D,L,N for scan; B,D,L,W for conv; "
            "B,L,C for block and dfm; B,L,C,K for ofm."
        ),
    ] = None,
    backend: BackendOption = None,
    dtype: DtypeOption = None,
    threads: ThreadsOption = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            help="Memory layout, repeatable: token for (B, L, D), channel for (B, D, L); "
            "by default both."
        ),
    ] = None,
    passes: PassOption = None,
    device: DeviceOption = "cpu",
    rounds: RoundsOption = None,
    budget: BudgetOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    save: SaveOption = None,
    machine: MachineOption = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table", help="Measure nothing; print the tables of record files as Markdown."
        ),
    ] = False,
) -> None:
    """Compare ops, blocks and layers with what people use instead.

    All contenders run in turn in one process. Without a suite, all of them are run.
    """
    measuring = ("quick", "shape", "backend", "dtype", "threads", "layout", "passes", "device")
    writing = ("rounds", "budget", "json", "plot", "save", "machine")
    refuse_idle(context, excludes=dict.fromkeys((*measuring, *writing), "table"))
    if table:
        _show_records(what or [])
        return
    from rgbt_fusion.benchmarking.memory import MemoryMeter
    from rgbt_fusion.benchmarking.suites import contests
    from rgbt_fusion.benchmarking.workloads import TASKS

    suites = _chosen_suites(what or [], quick)
    options = new_options(
        quick=quick,
        device=device,
        shapes=shape,
        backends=backend,
        dtypes=dtype,
        threads=threads,
        layouts=layout,
        passes=passes,
    )
    effort = new_effort(quick=quick, rounds=rounds, budget=budget)
    planned = {suite: contests([suite], options) for suite in suites}
    rows: list[Row] = []
    for suite, found in run_suites(planned, effort, MemoryMeter(), TASKS):
        rows += found
        if save:
            record = record_of(suite, found, program=PROGRAM, device=device, machine=machine)
            write(record, save / record.file_name)
    if json:
        name = _record_name(suites, quick)
        write(record_of(name, rows, program=PROGRAM, device=device, machine=machine), json)
    if plot:
        from rgbt_fusion.benchmarking.plots import draw_ratios

        draw_ratios(rows, plot)


def _chosen_suites(names: Sequence[str], quick: bool) -> list[str]:
    from rgbt_fusion.checks import check_choice

    for name in names:
        check_choice(name, (*SUITE_NAMES, "all"), name="a suite")
    if not names or "all" in names:
        return list(QUICK_SUITE_NAMES if quick else SUITE_NAMES)
    return [name for name in SUITE_NAMES if name in names]


def _record_name(suites: Sequence[str], quick: bool) -> str:
    if quick:
        return "quick"
    return "all" if list(suites) == list(SUITE_NAMES) else "-".join(suites)


def _show_records(files: Sequence[str | Path]) -> None:
    from rgbt_fusion.benchmarking.tables import record_tables

    typer.echo(record_tables(read_records(files)))

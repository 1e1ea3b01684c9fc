"""What every command that measures has in common: its options, its run, and what it leaves."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rgbt_fusion.cli.terminal_tables import drawn_numbers

if TYPE_CHECKING:
    from rich.console import Console

    from rgbt_fusion.benchmarking.contest import Contest, Options
    from rgbt_fusion.benchmarking.memory import MemoryMeter
    from rgbt_fusion.benchmarking.records import Record, Row
    from rgbt_fusion.benchmarking.timing import Effort
    from rgbt_fusion.benchmarking.workloads import Task

__all__ = [
    "BackendOption",
    "BudgetOption",
    "DeviceOption",
    "DtypeOption",
    "JsonOption",
    "MachineOption",
    "PassOption",
    "PlotOption",
    "QuickOption",
    "RoundsOption",
    "SaveOption",
    "ThreadsOption",
    "new_effort",
    "new_options",
    "print_rows",
    "read_records",
    "record_of",
    "run_suites",
    "write",
]

QuickOption = Annotated[
    bool, typer.Option("--quick", help="Measure fewer shapes in fewer rounds: a few minutes.")
]
BackendOption = Annotated[
    list[str] | None,
    typer.Option(help="Backend of the ops to measure, repeatable; by default all that can run."),
]
DtypeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Data type, repeatable: float32, bfloat16 or float16. "
        "The others are compared with the first."
    ),
]
ThreadsOption = Annotated[
    list[int] | None,
    typer.Option(help="Number of threads, repeatable. The others are compared with the first."),
]
PassOption = Annotated[
    list[str] | None,
    typer.Option(
        "--pass", help="What to run, repeatable: forward or forward+backward; by default both."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Where to measure: cpu or cuda.")]
RoundsOption = Annotated[
    int | None,
    typer.Option(help="Number of samples per contender; by default 9, with --quick 7."),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        help="Seconds per contender, after which it gets fewer samples; "
        "by default 2.5, with --quick 1."
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write everything that is measured into one record."),
]
PlotOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw the results into this image file.")
]
SaveOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write one record per suite into this folder: VERSION/SUITE--MACHINE--DEVICE.json.",
    ),
]
MachineOption = Annotated[
    str | None,
    typer.Option(help="Name of this machine in the records; by default made from its CPU."),
]

DTYPES = ("float32", "bfloat16", "float16")
RESULT_OPTIONS = ("--json", "--plot", "--save")
"""Options that only say where the results go."""


def new_options(
    *,
    quick: bool,
    device: str,
    shapes: Sequence[str] | None = None,
    backends: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    layouts: Sequence[str] | None = None,
    passes: Sequence[str] | None = None,
) -> "Options":
    """Return what the user narrows a run to.

    Raises:
        ValueError: an option of the command line is not one of its choices.
    """
    import torch

    from rgbt_fusion.benchmarking.contest import Options
    from rgbt_fusion.benchmarking.records import PASSES
    from rgbt_fusion.benchmarking.suites import MEMORY_LAYOUTS
    from rgbt_fusion.checks import check_choice

    check_choice(device, ("cpu", "cuda"), name="--device")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device must be cpu on a machine without a CUDA device, got 'cuda'")
    for dtype in dtypes or ():
        check_choice(dtype, DTYPES, name="--dtype")
    for layout in layouts or ():
        check_choice(layout, tuple(MEMORY_LAYOUTS), name="--layout")
    for one in passes or ():
        check_choice(one, tuple(PASSES.values()), name="--pass")
    for count in threads or ():
        if count < 1:
            raise ValueError(f"--threads must be at least 1, got {count}")
    wanted_passes = passes or PASSES.values()
    return Options(
        quick=quick,
        device=device,
        shapes=tuple(_shape(text) for text in shapes or ()),
        backends=tuple(backends or ()),
        dtypes=tuple(dtypes or Options.dtypes),
        threads=tuple(threads or _usual_threads(device)),
        layouts=tuple(layouts or Options.layouts),
        passes=tuple(one == PASSES[True] for one in wanted_passes),
    )


def _usual_threads(device: str) -> tuple[int, ...]:
    several = device == "cpu" and (os.cpu_count() or 1) > 1
    return (1, 2) if several else (1,)


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(
            f"--shape must be whole numbers above 0 with commas between them, got {text!r}"
        )
    return tuple(int(part) for part in parts)


def new_effort(*, quick: bool, rounds: int | None, budget: float | None) -> "Effort":
    """Return how much time a contest is worth.

    Raises:
        ValueError: ``rounds`` or ``budget`` is not above 0.
    """
    from rgbt_fusion.benchmarking.timing import Effort

    if rounds is not None and rounds <= 0:
        raise ValueError(f"--rounds must be above 0, got {rounds}")
    if budget is not None and budget <= 0:
        raise ValueError(f"--budget must be above 0, got {budget:g}")
    usual = Effort(rounds=7, budget_s=1.0) if quick else Effort(rounds=9, budget_s=2.5)
    return Effort(rounds or usual.rounds, budget or usual.budget_s)


def run_suites(
    planned: "Mapping[str, Sequence[Contest]]",
    effort: "Effort",
    meter: "MemoryMeter",
    tasks: "Mapping[str, Task]",
) -> "Iterator[tuple[str, list[Row]]]":
    """Measure suites, with a bar that moves and a table for each contest that is done.

    Args:
        planned: the contests of each suite.
        effort: how long to time each of them.
        meter: measures the memory.
        tasks: what can be run.

    Yields:
        The name of each suite and its rows.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from rgbt_fusion.benchmarking.measure import measure

    bars = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(highlight=False),
        transient=True,
    )
    with bars, meter:
        bar = bars.add_task("", total=sum(len(contests) for contests in planned.values()))

        def follow(title: str) -> Callable[[str, float], None]:
            def show(step: str, share: float) -> None:
                bars.update(bar, advance=share, description=f"{title}: {step}")

            return show

        for suite, contests in planned.items():
            rows: list[Row] = []
            for contest in contests:
                title = contest.full_title
                found = measure(contest, effort, meter, tasks=tasks, on_progress=follow(title))
                print_rows(bars.console, title, found)
                rows += found
            yield suite, rows


def print_rows(console: "Console", title: str, rows: "list[Row]") -> None:
    """Show the rows of a contest as a table, and who took no part."""
    from rgbt_fusion.benchmarking.tables import contest_table

    console.print(drawn_numbers(title, contest_table(rows)))
    for row in rows:
        if row.skipped:
            console.print(f"  without {row.label}: {row.skipped}", style="dim", markup=False)


def record_of(
    name: str, rows: "Sequence[Row]", *, program: str, device: str, machine: str | None
) -> "Record":
    """Return the record of a run that was started now by this process's command line."""
    from dataclasses import replace

    from rgbt_fusion.benchmarking.records import new_record

    command = _repeatable(program, sys.argv[1:])
    return replace(new_record(name, device, command, machine), rows=list(rows))


def _repeatable(program: str, arguments: Sequence[str]) -> str:
    """Return the command that repeats a run, without the places where its results went."""
    kept = [program]
    previous = ""
    for argument in arguments:
        is_place = previous in RESULT_OPTIONS or argument.startswith(RESULT_OPTIONS)
        if not is_place:
            kept.append(argument)
        previous = argument
    return " ".join(kept)


def write(record: "Record", path: Path) -> None:
    """Write a record and say so."""
    from rgbt_fusion.benchmarking.records import write_record

    write_record(record, path)
    typer.echo(f"wrote {path}", err=True)


def read_records(files: Sequence[str | Path]) -> "list[Record]":
    """Read record files.

    Raises:
        ValueError: there is no file, or one is no record.
    """
    from rgbt_fusion.benchmarking.records import read_record

    if not files:
        raise ValueError("--table must come with record files, got none")
    return [read_record(Path(file)) for file in files]

"""``rgbt-fusion data``: what a dataset on disk holds, and what is wrong with it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rgbt_fusion.data.checking import DatasetCheck

data = typer.Typer(no_args_is_help=True, help="Look at a dataset on disk.")


@data.command()
def check(
    root: Annotated[Path, typer.Argument(help="The dataset's folder, or a sequence's.")],
    layout: Annotated[
        str | None,
        typer.Option(help="How it is laid out: gtot, rgbt234, lasher, ...; by default found out."),
    ] = None,
    sequences: Annotated[
        Path | None, typer.Option(help="A file that lists the sequences to check.")
    ] = None,
    images: Annotated[
        str,
        typer.Option(
            help="decode: every image; size: their headers, much faster; none: counts and boxes."
        ),
    ] = "decode",
    threads: Annotated[
        int | None, typer.Option(help="Images read at a time; by default one a core.")
    ] = None,
    most: Annotated[
        int, typer.Option(help="How many problems to show at most; 0 shows all.")
    ] = 100,
) -> None:
    """Check every sequence, image and box: counts, missing, damaged and mismatched images, boxes
    outside.

    The status is 1 where something is wrong; notices are no fault.
    """
    from rgbt_fusion.data.checking import guess_layout

    for name, value, least in (("--most", most, 0), ("--threads", threads, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    found = layout or guess_layout(root)
    if layout is None:
        typer.echo(f"layout {found}, found out; --layout names another", err=True)
    result = _check(root, found, sequences, images, threads or os.cpu_count() or 1)
    lines = result.summary().splitlines()
    shown = lines[: most + 1] if most else lines
    typer.echo("\n".join(shown))
    if len(shown) < len(lines):
        typer.echo(f"and {len(lines) - len(shown)} more; --most 0 shows all")
    if not result.ok:
        raise typer.Exit(1)


def _check(
    root: Path, layout: str, sequences: Path | None, images: str, threads: int
) -> "DatasetCheck":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from rgbt_fusion.data.checking import check_dataset

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("", total=None)

        def show(name: str, number: int, count: int) -> None:
            progress.update(
                bar, total=count, completed=number - 1, description=name.replace("[", r"\[")
            )

        return check_dataset(
            root, layout, names=sequences, images=images, threads=threads, progress=show
        )

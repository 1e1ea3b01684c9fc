"""``rgbt-fusion data``: what a dataset on disk holds, and what is wrong with it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rgbt_fusion.cli.bars import Bar
from rgbt_fusion.cli.completion import complete_layouts

if TYPE_CHECKING:
    from rgbt_fusion.data.checking import DatasetCheck, ImageCheck

data = typer.Typer(no_args_is_help=True, help="Look at a dataset on disk.")


@data.command()
def check(
    root: Annotated[Path, typer.Argument(help="Folder of the dataset, or of one sequence.")],
    layout: Annotated[
        str | None,
        typer.Option(
            help="Layout of the folder: gtot, rgbt234, lasher, ...; by default it is guessed.",
            autocompletion=complete_layouts,
        ),
    ] = None,
    sequences: Annotated[
        Path | None,
        typer.Option(help="File that lists the sequences to check; by default all are checked."),
    ] = None,
    images: Annotated[
        str,
        typer.Option(
            help="How to check images: decode reads every image, size only the headers (much "
            "faster), none only counts them."
        ),
    ] = "decode",
    threads: Annotated[
        int | None,
        typer.Option(help="Number of images to read at a time; by default one per core."),
    ] = None,
    most: Annotated[
        int, typer.Option(help="Largest number of problems to show; 0 shows all.")
    ] = 100,
) -> None:
    """Check every sequence, image and box of a dataset.

    Finds wrong counts, images that are missing, damaged or mismatched, and boxes outside. The
    status is 1 where something is wrong; notices are no fault.
    """
    from rgbt_fusion.data.checking import guess_layout

    for name, value, least in (("--most", most, 0), ("--threads", threads, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    found = layout or guess_layout(root)
    if layout is None:
        typer.echo(f"layout {found}, found out; --layout names another", err=True)
    result = _check(root, found, sequences, images, threads or os.cpu_count() or 1)
    _print(result, most)
    if not result.ok:
        raise typer.Exit(1)


def _check(
    root: Path, layout: str, sequences: Path | None, images: str, threads: int
) -> "DatasetCheck":
    from rgbt_fusion.data.checking import check_dataset

    with Bar() as bar:

        def show(name: str, number: int, count: int) -> None:
            bar.show(number - 1, count, name)

        return check_dataset(
            root,
            layout,
            names=sequences,
            # an unknown one is refused there
            images=cast("ImageCheck", images),
            threads=threads,
            progress=show,
        )


def _print(result: "DatasetCheck", most: int) -> None:
    """Show the summary line and the problems, ``most`` of them at most; 0 shows all."""
    lines = result.summary().splitlines()
    shown = lines[: most + 1] if most else lines
    typer.echo("\n".join(shown))
    if len(shown) < len(lines):
        typer.echo(f"and {len(lines) - len(shown)} more; --most 0 shows all")

"""``rgbt-fusion plot``: one picture of one or several trainings."""

from pathlib import Path
from typing import Annotated

import typer

ENDINGS = (".png", ".pdf", ".svg")


def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders of trainings, finished or still running."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Picture to write: .png, .pdf or .svg; by default training.png in the folder of "
            "a single training.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE where it exists.")] = False,
) -> None:
    """Draw the loss, the overlap, the learning rate and the validations of trainings.

    The picture of a single training in its own folder is renewed without being asked.
    """
    from rgbt_fusion.checks import check_choice
    from rgbt_fusion.cli.model_argument import refuse_overwriting
    from rgbt_fusion.files.whole import writing
    from rgbt_fusion.training.plots import plot_trainings

    if out is None and len(runs) > 1:
        raise ValueError(f"--out must be given for several trainings, got {len(runs)} without")
    if out is not None:
        check_choice(out.suffix.lower(), ENDINGS, name="the ending of --out")
        refuse_overwriting(out, force=force)
    path = out or runs[0] / "training.png"
    figure = plot_trainings(runs)
    with writing(path) as part:
        figure.savefig(part, format=path.suffix.lower().removeprefix("."))
    typer.echo(f"wrote {path}", err=True)

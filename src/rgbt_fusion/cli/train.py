"""``rgbt-fusion train``: train a tracker from a recipe, or resume a training."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rgbt_fusion.cli.align import FIT_HELP, HOMOGRAPHY_HELP, REMEDY, choose, name_options
from rgbt_fusion.cli.completion import complete_recipes

if TYPE_CHECKING:
    from rgbt_fusion.training import Progress, TrainResult

ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|FILE.toml",
        help="Settings of the training: a recipe's name or a TOML file.",
        autocompletion=complete_recipes,
    ),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ROOT|synthetic",
        help="Folder of the dataset, or synthetic for the made-up world; one per dataset of the "
        "recipe, in order. A recipe of the synthetic world needs none.",
    ),
]
OutOption = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Folder for the checkpoint, the model and the log.")
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE|all",
        help="File that lists the sequences to train on, one per line; by default all are used. "
        "One per dataset, in order.",
    ),
]
ValidationNamesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File that lists the sequences of the first dataset to validate on; by default they "
        "are drawn.",
    ),
]
StartOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File of weights to start from.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting, repeatable, in TOML: optimiser.learning_rate=1e-3.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="Device to train on: cpu, cuda or cuda:N; by default a GPU if there is one."),
]
ThreadsOption = Annotated[
    int | None, typer.Option(help="Number of CPU threads; by default torch chooses.")
]
AlignOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|FILE",
        help="Lay the thermal on the colour frames of a dataset: auto estimates how, per sequence, "
        "FILE is what `rgbt-fusion align` wrote.",
    ),
]
FitOption = Annotated[bool, typer.Option("--fit", help=FIT_HELP)]
HomographyOption = Annotated[Path | None, typer.Option(metavar="FILE", help=HOMOGRAPHY_HELP)]
BoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Also write events for TensorBoard.")
]


def train(
    config: ConfigArgument,
    out: OutOption,
    data: DataOption = None,
    names: NamesOption = None,
    validation_names: ValidationNamesOption = None,
    start_from: StartOption = None,
    change: SetOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    tensorboard: BoardOption = False,
    align: AlignOption = None,
    fit: FitOption = False,
    homography: HomographyOption = None,
) -> None:
    """Train a tracker.

    Ctrl-C saves the training first. Run the same command again to resume it; `--set steps=N` may
    have raised the number of steps.
    """
    from rgbt_fusion.training import TrainConfig, config_from_table, read_table
    from rgbt_fusion.training import train as run

    settings = config_from_table(TrainConfig, changed(read_table(config), change or []))
    use_threads(threads)
    choice = choose(align, fit=fit, homography=homography)
    with name_options({}, REMEDY), progress_line() as show, told_when_stopped():
        result = run(
            settings,
            out=out,
            data=data or None,
            names=names or None,
            validation_names=validation_names,
            start_from=start_from,
            device=device,
            tensorboard=tensorboard,
            on_progress=show,
            align=choice,
        )
    say_result(result)


def say_result(result: "TrainResult") -> None:
    """Say what was made, in only one of the processes."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"{result.steps} steps done; the model is {result.model}")
        if result.best is not None:
            typer.echo(f"best success {result.success:.3f}: {result.best}")
        if result.damaged:
            typer.echo(
                f"notice: {result.damaged} samples could not be read, and others took their place",
                err=True,
            )


@contextmanager
def told_when_stopped() -> Iterator[None]:
    """Say how to go on with a training that Ctrl-C ended."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        if str(stopped) and os.environ.get("RANK", "0") == "0":
            typer.echo(f"\n{stopped}", err=True)
        raise


def changed(table: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """Return a table of settings with changes made.

    Args:
        table: the settings; it is changed itself.
        changes: ``KEY=VALUE``, KEY with dots between tables, VALUE in TOML.

    Raises:
        ValueError: a change is not written so, or its KEY names no setting.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set must be KEY=VALUE, got {change!r}")
        value = _parsed(text, change)
        *tables, last = key.strip().split(".")
        place = table
        for name in tables:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ValueError(
                    f"--set must name a setting, got {key!r}, of which {name!r} is no table"
                )
        place[last] = value
    return table


def _parsed(text: str, change: str) -> Any:
    """Return a value written in TOML; a bare word is a text."""
    from rgbt_fusion.training.config import parse_toml

    try:
        return parse_toml(f"value = {text}", name=f"--set {change}")["value"]
    except ValueError:
        return text.strip()


def use_threads(threads: int | None) -> None:
    """Let torch use this many threads; None leaves the choice to torch."""
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"--threads must be at least 1, got {threads}")
    import torch

    torch.set_num_threads(threads)


@contextmanager
def progress_line() -> Iterator[Callable[["Progress"], None]]:
    """Show where a training is: a bar on a terminal, now and then a line elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bars(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task("first step")

        def show(now: "Progress") -> None:
            bars.update(bar, total=now.steps, completed=now.step, description=_said(now))

        yield show


class _Lines:
    """Write a line at the first report, then whenever a hundredth of the training has passed."""

    def __init__(self) -> None:
        self.next = 0

    def __call__(self, now: "Progress") -> None:
        if now.step >= self.next:
            typer.echo(f"{now.step}/{now.steps} {_said(now)}", err=True)
            self.next = now.step + now.steps // 100


def _said(now: "Progress") -> str:
    loss = f"loss {now.values['loss']:.3f}"
    iou = f" IoU {now.values['iou']:.3f}" if "iou" in now.values else ""
    best = "" if now.best_success is None else f" best success {now.best_success:.3f}"
    damaged = f" {now.damaged} damaged" if now.damaged else ""
    speed = f"{now.samples_per_second:.1f} samples/s"
    return f"{loss}{iou}{best}{damaged} {speed}, {_clock(now.seconds_left)} left"


def _clock(seconds: float) -> str:
    """Return a time in hours, minutes and seconds."""
    whole = round(seconds)
    hours = whole // 3600
    minutes = whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}"

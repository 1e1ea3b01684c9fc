"""The command line: ``rgbt-fusion COMMAND``.

One file here is one command; :data:`COMMANDS` is the one place that lists them. No file of this
folder imports torch, or anything that does, before its command runs: ``rgbt-fusion --help`` answers
at once.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from rgbt_fusion import __version__
from rgbt_fusion.cli import (
    bench,
    compare,
    convert,
    data,
    demo,
    distill,
    export,
    info,
    study,
    track,
    train,
)
from rgbt_fusion.cli.eval import evaluate

__all__ = ["COMMANDS", "app", "main"]

COMMANDS = {
    "info": info.info,
    "demo": demo.demo,
    "bench": bench.bench,
    "train": train.train,
    "distill": distill.distill,
    "track": track.track,
    "eval": evaluate,
    "compare": compare.compare,
    "study": study.study,
    "data": data.data,
    "convert": convert.convert,
    "export": export.export,
}
"""Every command, or group of commands, in the order in which the help shows them."""

INTERRUPTED = 130
"""The status of a process that Ctrl-C ended."""

TRACEBACK_VARIABLE = "RGBT_FUSION_TRACEBACK"
"""The environment variable that shows where an error comes from."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Fusion layers and trackers for RGB and thermal video, on any machine."""


def _build() -> typer.Typer:
    app = typer.Typer(
        name="rgbt-fusion",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, command in COMMANDS.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


app = _build()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process: status 0 when it worked, 2 and one clear line
    when the user erred."""
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        status = app(given, prog_name="rgbt-fusion", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _leave("interrupted", INTERRUPTED)
    except Exception as error:
        message = _user_error(error)
        if message is None or os.environ.get(TRACEBACK_VARIABLE):
            raise
        _leave(message, 2)
    if status == INTERRUPTED:  # what typer makes of an interruption within a command
        _leave("interrupted", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _user_error(error: Exception) -> str | None:
    """Return what to tell the user in one line, or None where the error is a fault of the
    program."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
    if hasattr(
        error, "format_message"
    ):  # of the command line itself: an unknown command, option or value
        return f"error: {error.format_message()}"  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"error: {error.filename}: {error.strerror}"
    # BackendUnavailableError by name: its module imports torch
    expected = isinstance(error, ValueError | OSError | ModuleNotFoundError)
    return (
        f"error: {error}" if expected or type(error).__name__ == "BackendUnavailableError" else None
    )


def _leave(message: str, status: int) -> NoReturn:
    sys.stderr.write(message and f"{message}\n")
    sys.exit(status)

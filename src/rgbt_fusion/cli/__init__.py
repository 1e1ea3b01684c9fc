"""The command line: ``rgbt-fusion COMMAND``.

One file here is one command; :data:`COMMANDS` is the one place that lists them. No file of this
folder imports torch before its command runs, so ``rgbt-fusion --help`` answers at once.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import cleandoc
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from rgbt_fusion import __version__
from rgbt_fusion.cli import (
    align,
    bench,
    compare,
    convert,
    data,
    demo,
    distill,
    export,
    info,
    models,
    plot,
    recipes,
    track,
    train,
    trax,
    verify,
)
from rgbt_fusion.cli.eval import evaluate

__all__ = ["COMMANDS", "OnceCommand", "app", "main", "new_app", "run_app"]

Command = Callable[..., None] | typer.Typer
"""A command, or a group of commands."""

COMMANDS: dict[str, Command] = {
    "info": info.info,
    "models": models.models,
    "demo": demo.demo,
    "bench": bench.bench,
    "recipes": recipes.recipes,
    "train": train.train,
    "distill": distill.distill,
    "plot": plot.plot,
    "track": track.track,
    "trax": trax.trax,
    "align": align.align,
    "eval": evaluate,
    "compare": compare.compare,
    "data": data.data,
    "convert": convert.convert,
    "export": export.export,
    "verify": verify.verify,
}
"""Every command, or group of commands, in the order in which the help shows them."""

INTERRUPTED = 130
"""The status of a process that Ctrl-C ended."""

TRACEBACK_VARIABLE = "RGBT_FUSION_TRACEBACK"
"""The environment variable that shows where an error comes from."""


class OnceCommand(TyperCommand):
    """A command that refuses an option given twice, where the last one would win silently."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        parser = self.make_parser(ctx)
        _, _, given = parser.parse_args(args=list(args))
        for parameter in set(given):
            is_repeatable = getattr(parameter, "multiple", False)
            if given.count(parameter) > 1 and not is_repeatable:
                ctx.fail(f"{parameter.opts[0]} must be given once, got it more often")
        return super().parse_args(ctx, args)


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


def new_app(name: str, commands: Mapping[str, Command], root: Callable[..., None]) -> typer.Typer:
    """Return a command line.

    Args:
        name: what the user types.
        commands: its commands, in the order in which the help shows them.
        root: what it says of itself, and its own options.
    """
    app = typer.Typer(
        name=name,
        no_args_is_help=True,
        # handed down to every command
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    app.callback()(root)
    for command_name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=command_name)
        else:
            app.command(command_name, cls=OnceCommand, help=_help_of(command))(command)
    return app


def _help_of(command: Callable[..., object]) -> str:
    """Return a docstring with one line per paragraph, which the help wraps to the terminal."""
    paragraphs = cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


app = new_app("rgbt-fusion", COMMANDS, _root)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process.

    The status is 0 when it worked, and 2 with one clear line when the user erred.

    Args:
        arguments: what the user typed behind ``rgbt-fusion``; by default those of this process.
    """
    run_app(app, "rgbt-fusion", sys.argv[1:] if arguments is None else arguments)


def run_app(app: Callable[..., Any], name: str, arguments: Sequence[str]) -> NoReturn:
    """Run a command line and leave the process, as :func:`main` does.

    Args:
        app: the command line.
        name: what the user types to start it.
        arguments: what the user typed behind.
    """
    try:
        status = app(list(arguments), prog_name=name, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _leave("interrupted", INTERRUPTED)
    except Exception as error:
        message = _user_error(error)
        if message is None or os.environ.get(TRACEBACK_VARIABLE):
            raise
        _leave(message, 2)
    # typer returns this status where a command was interrupted
    if status == INTERRUPTED:
        _leave("interrupted", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _user_error(error: Exception) -> str | None:
    """Return what to tell the user in one line, or None where the program is at fault."""
    if hasattr(error, "format_message"):
        # an error of the command line itself: an unknown command, option or value
        message = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
        shows_help = type(error).__name__ == "NoArgsIsHelpError"
        return message if shows_help else f"error: {message}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"error: {error.filename}: {error.strerror}"
    is_expected = isinstance(error, ValueError | OSError | ModuleNotFoundError)
    # by their names: a command imports what it needs when it runs
    if is_expected or type(error).__name__ in ("BackendUnavailableError", "NetworkError"):
        return f"error: {error}"
    return None


def _leave(message: str, status: int) -> NoReturn:
    if message:
        sys.stderr.write(f"{message}\n")
    sys.exit(status)

"""Options that would do nothing, because of another one that is given or is not."""

from collections.abc import Mapping

import typer

__all__ = ["refuse_idle"]


def refuse_idle(
    context: typer.Context,
    *,
    needs: Mapping[str, str] | None = None,
    excludes: Mapping[str, str] | None = None,
) -> None:
    """Refuse options that would do nothing.

    An option counts as given where the user typed it, whatever its value.

    Args:
        context: of the command.
        needs: by the name of a parameter, that of the parameter without which it does nothing.
        excludes: by the name of a parameter, that of the parameter with which it does nothing.

    Raises:
        ValueError: such an option is given; the message names both.
    """
    names = {parameter.name: parameter.opts[0] for parameter in context.command.params}

    def is_given(parameter: str) -> bool:
        source = context.get_parameter_source(parameter)
        return source is not None and source.name == "COMMANDLINE"

    for parameter, other in (needs or {}).items():
        if is_given(parameter) and not is_given(other):
            raise ValueError(
                f"{names[parameter]} must come with {names[other]}, got it without: it would do "
                "nothing"
            )
    for parameter, other in (excludes or {}).items():
        if is_given(parameter) and is_given(other):
            raise ValueError(
                f"{names[parameter]} must not come with {names[other]}, got both: it would do "
                "nothing"
            )

"""The options that say how a tracker goes from what a network finds to a box."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any

import typer

from rgbt_fusion.cli.align import name_options
from rgbt_fusion.cli.trackers import TEMPLATE_MATCHING

__all__ = ["NOTHING_GIVEN", "OPTIONS", "settings_in_words", "takes_settings"]

NOTHING_GIVEN: Mapping[str, Any] = MappingProxyType({})
"""The settings of a user who gives none."""

_BOXES = "Boxes"
_DEFAULT = "By default as measured for the weights, else as in OSTrack's paper"

OPTIONS: Mapping[str, Any] = {
    "window_weight": Annotated[
        float | None,
        typer.Option(
            help=f"Weight of the window that prefers the middle, 0 to 1. {_DEFAULT}: 1.",
            rich_help_panel=_BOXES,
        ),
    ],
    "size_inertia": Annotated[
        float | None,
        typer.Option(
            help="Share of the old size that a box keeps in each frame, 0 to 0.999. "
            f"{_DEFAULT}: 0.",
            rich_help_panel=_BOXES,
        ),
    ],
    "aspect_inertia": Annotated[
        float | None,
        typer.Option(
            help="Share of the old aspect that a box keeps in each frame, 0 to 0.999. "
            f"{_DEFAULT}: 0.",
            rich_help_panel=_BOXES,
        ),
    ],
    "size_correction": Annotated[
        float | None,
        typer.Option(
            help="Share of the network's error of the size in the first frame that is taken off "
            f"later sizes, 0 to 1. {_DEFAULT}: 0.",
            rich_help_panel=_BOXES,
        ),
    ],
    "size_growth": Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR",
            help=f"Largest factor by which a side changes in one frame. {_DEFAULT}: inf.",
            rich_help_panel=_BOXES,
        ),
    ],
    "smallest_px": Annotated[
        float | None,
        typer.Option(
            metavar="PIXELS",
            help=f"Width and height that a box has at least. {_DEFAULT}: 10.",
            rich_help_panel=_BOXES,
        ),
    ],
    "hold_when_lost": Annotated[
        bool | None,
        typer.Option(
            "--hold-when-lost/--move-when-lost",
            help=f"Keep the box where it is while the target counts as lost. {_DEFAULT}: move.",
            rich_help_panel=_BOXES,
            show_default=False,
        ),
    ],
    "lost_threshold": Annotated[
        float | None,
        typer.Option(
            help=f"Confidence below which the target counts as lost, 0 to 1. {_DEFAULT}: 0.25.",
            rich_help_panel=_BOXES,
        ),
    ],
}


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options in the place of its parameter ``settings``.

    The command has a parameter ``model``, too. It gets what the user gave, by name and checked.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name == "settings":
            parameters += [
                parameter.replace(name=name, annotation=option, default=None)
                for name, option in OPTIONS.items()
            ]
        else:
            parameters.append(parameter)

    @wraps(command)
    def with_settings(**given: Any) -> None:
        options = {name: given.pop(name) for name in OPTIONS}
        command(**given, settings=_given_settings(given["model"], **options))

    # typer reads the options of a command from these two
    with_settings.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore
    with_settings.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_settings


def _given_settings(model: str, **given: Any) -> dict[str, Any]:
    """Return the settings that the user gave, checked.

    Args:
        model: the tracker.
        **given: settings of :class:`~rgbt_fusion.models.tracking_settings.TrackingSettings`, None
            where the user gave nothing.

    Raises:
        ValueError: one is out of range, or ``model`` is template matching, which has none of them.
    """
    from rgbt_fusion.models.tracking_settings import TrackingSettings

    chosen = {name: value for name, value in given.items() if value is not None}
    options = {name: _option(name) for name in given}
    if chosen and model == TEMPLATE_MATCHING:
        names = ", ".join(options[name] for name in chosen)
        raise ValueError(f"{names} must come with a network, not with {TEMPLATE_MATCHING}")
    with name_options(options, ""):
        TrackingSettings().chosen(**chosen)
    return chosen


def settings_in_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as what tells results apart."""
    return {name: str(value) for name, value in settings.items()}


def _option(name: str) -> str:
    if name == "hold_when_lost":
        return "--hold-when-lost"
    return f"--{name.replace('_', '-')}"

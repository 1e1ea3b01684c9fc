"""The options that say how a tracker goes from what a network finds to a box."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any

import typer

from rgbt_fusion.cli.align import name_options
from rgbt_fusion.cli.trackers import TEMPLATE_MATCHING

__all__ = [
    "NOTHING_GIVEN",
    "OPTIONS",
    "setting_options",
    "settings_in_words",
    "takes",
    "takes_settings",
]

NOTHING_GIVEN: Mapping[str, Any] = MappingProxyType({})
"""The settings of a user who gives none."""

_BOXES = "Boxes"


def setting_options(default: str) -> dict[str, Any]:
    """Return the option of each setting, by the setting's name.

    Args:
        default: what the help says of a setting that is not given, before the value that OSTrack's
            paper has.
    """

    def number(what: str, of_the_paper: str, metavar: str | None = None) -> Any:
        help_text = f"{what} {default}: {of_the_paper}."
        option = typer.Option(help=help_text, metavar=metavar, rich_help_panel=_BOXES)
        return Annotated[float | None, option]

    return {
        "window_weight": number("Weight of the window that prefers the middle, 0 to 1.", "1"),
        "size_inertia": number(
            "Share of the old size that a box keeps in each frame, 0 to 0.999.", "0"
        ),
        "aspect_inertia": number(
            "Share of the old aspect that a box keeps in each frame, 0 to 0.999.", "0"
        ),
        "size_correction": number(
            "Share of the network's error of the size in the first frame that is taken off later "
            "sizes, 0 to 1.",
            "0",
        ),
        "size_growth": number(
            "Largest factor by which a side changes in one frame.", "inf", metavar="FACTOR"
        ),
        "smallest_px": number("Width and height that a box has at least.", "10", metavar="PIXELS"),
        "hold_below": number(
            "Confidence below which the box stays where it is, 0 to 1; 0 never holds it.", "0"
        ),
        "look_ahead": number(
            "Share of a fast target's last motion that the search crop lies ahead of the last box, "
            "0 to 1.",
            "0",
        ),
        "match_weight": number(
            "Share of the way to where the target looks most like before that a box moves, 0 to 1.",
            "0",
        ),
        "lost_threshold": number(
            "Confidence below which the target counts as lost, 0 to 1.", "0.25"
        ),
        "found_threshold": number(
            "Confidence from which on a lost target counts as found again; 0, or at least that of "
            "lost.",
            "0",
        ),
    }


OPTIONS: Mapping[str, Any] = setting_options(
    "By default as measured for the weights, else as in OSTrack's paper"
)
"""The options of a command that runs a tracker."""


def takes(options: Mapping[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command options in place of its parameter ``settings``.

    The command gets what the user gave, by name and checked. If its parameter ``model`` is template
    matching, which takes no settings, they are refused.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == "settings":
                parameters += [
                    parameter.replace(name=name, annotation=option, default=None)
                    for name, option in options.items()
                ]
            else:
                parameters.append(parameter)

        @wraps(command)
        def with_settings(**given: Any) -> None:
            settings = {name: given.pop(name) for name in options}
            command(**given, settings=_given_settings(given.get("model"), settings))

        # typer reads the options of a command from these two
        with_settings.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore
        with_settings.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_settings

    return give


takes_settings = takes(OPTIONS)
"""Give a command that runs a tracker the options of its settings; see :func:`takes`."""


def _given_settings(model: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the user gave, checked.

    Args:
        model: the tracker.
        settings: those of :class:`~rgbt_fusion.models.tracking_settings.TrackingSettings`, None
            where the user gave nothing.

    Raises:
        ValueError: one is out of range, or ``model`` is template matching, which has none of them.
    """
    from rgbt_fusion.models.tracking_settings import TrackingSettings

    chosen = {name: value for name, value in settings.items() if value is not None}
    options = {name: f"--{name.replace('_', '-')}" for name in settings}
    if chosen and model == TEMPLATE_MATCHING:
        names = ", ".join(options[name] for name in chosen)
        raise ValueError(f"{names} must come with a network, not with {TEMPLATE_MATCHING}")
    with name_options(options, ""):
        TrackingSettings().chosen(**chosen)
    return chosen


def settings_in_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as text, by which stored results are told apart."""
    return {name: str(value) for name, value in settings.items()}

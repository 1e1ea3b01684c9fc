"""Checks of plain values: one function per rule; errors name argument, rule and value."""

from collections.abc import Collection, Iterable
from math import inf
from sys import float_info
from typing import Any, TypeVar

__all__ = [
    "NetworkError",
    "ShapeError",
    "check_choice",
    "check_divisible",
    "check_finite_number",
    "check_positive_int",
    "did_you_mean",
    "first_line",
]

Choice = TypeVar("Choice")

LARGEST_FLOAT = float_info.max


class ShapeError(ValueError):
    """A tensor has the wrong number of axes or the wrong sizes."""


class NetworkError(TypeError):
    """A network does not offer, take or return what a tracking network must."""


def check_positive_int(value: Any, *, name: str) -> int:
    """Return ``value`` if it is a whole number above zero.

    Raises:
        TypeError: ``value`` is not a whole number.
        ValueError: ``value`` is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def check_finite_number(value: Any, *, name: str, low: float = -inf, high: float = inf) -> float:
    """Return ``value`` as a float if it is a finite number in ``[low, high]``.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is not finite or outside the range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    # a whole number may be beyond any float
    if abs(value) <= LARGEST_FLOAT and low <= value <= high:
        return float(value)
    rule = "finite"
    if low != -inf or high != inf:
        rule = f"a finite number in [{low:g}, {high:g}]"
    raise ValueError(f"{name} must be {rule}, got {value!r}")


def check_choice(value: Any, choices: Collection[Choice], *, name: str) -> Choice:
    """Return ``value``, with the type of the choices, if it is one of ``choices``.

    Raises:
        ValueError: ``value`` is not one of ``choices``; the nearest one is named.

    Example:
        >>> from rgbt_fusion.checks import check_choice
        >>> check_choice("night", ("day", "night"), name="light")
        'night'
        >>> check_choice("dusk", ("day", "night"), name="light")
        Traceback (most recent call last):
            ...
        ValueError: light must be one of 'day', 'night', got 'dusk'
        >>> check_choice("nigth", ("day", "night"), name="light")
        Traceback (most recent call last):
            ...
        ValueError: light must be one of 'day', 'night', got 'nigth'; did you mean 'night'?
    """
    if value not in choices:
        hint = did_you_mean(value, choices)
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}{hint}"
        )
    return value


def did_you_mean(value: Any, known: Iterable[Any], *, most: int = 1) -> str:
    """Return how to end a message on a misspelt name; nothing where no known name is near.

    Args:
        value: what was given.
        known: the names that there are; what is no text is left out.
        most: how many near names to show.

    Example:
        >>> from rgbt_fusion.checks import did_you_mean
        >>> did_you_mean("lashr", ["gtot", "lasher", "vtuav_st"])
        "; did you mean 'lasher'?"
        >>> did_you_mean("dusk", ["day", "night"])
        ''
    """
    # only a mistake needs it: nothing that starts pays for its import
    from difflib import get_close_matches

    if not isinstance(value, str):
        return ""
    # names of this package are in lower case, except for the metrics
    spelt = {name.lower(): name for name in known if isinstance(name, str)}
    near = get_close_matches(value.lower(), spelt, n=most)
    if not near:
        return ""
    return f"; did you mean {' or '.join(repr(spelt[name]) for name in near)}?"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing.

    Example:
        >>> from rgbt_fusion.checks import first_line
        >>> first_line(ValueError("no such file\\nTraceback ...")), first_line(MemoryError())
        ('no such file', 'MemoryError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def check_divisible(value: int, divisor: int, *, name: str, divisor_name: str) -> None:
    """Check that ``value`` is a multiple of ``divisor``.

    Raises:
        ValueError: ``value`` is not divisible by ``divisor``.
    """
    if value % divisor:
        raise ValueError(f"{name} must be divisible by {divisor_name} = {divisor}, got {value}")

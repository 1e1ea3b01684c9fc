"""Checks of plain values: one function per rule; errors name argument, rule and value."""

from collections.abc import Collection
from math import inf
from typing import Any, TypeVar

__all__ = [
    "ShapeError",
    "check_choice",
    "check_divisible",
    "check_finite_number",
    "check_positive_int",
]

Choice = TypeVar("Choice")


class ShapeError(ValueError):
    """A tensor has the wrong number of axes or the wrong sizes."""


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
    if abs(value) < inf and low <= value <= high:
        return float(value)
    rule = "finite"
    if low != -inf or high != inf:
        rule = f"a finite number in [{low:g}, {high:g}]"
    raise ValueError(f"{name} must be {rule}, got {value!r}")


def check_choice(value: Any, choices: Collection[Choice], *, name: str) -> Choice:
    """Return ``value``, with the type of the choices, if it is one of ``choices``.

    Raises:
        ValueError: ``value`` is not one of ``choices``.

    Example:
        >>> from rgbt_fusion.checks import check_choice
        >>> check_choice("night", ("day", "night"), name="light")
        'night'
        >>> check_choice("dusk", ("day", "night"), name="light")
        Traceback (most recent call last):
            ...
        ValueError: light must be one of 'day', 'night', got 'dusk'
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_divisible(value: int, divisor: int, *, name: str, divisor_name: str) -> None:
    """Check that ``value`` is a multiple of ``divisor``.

    Raises:
        ValueError: ``value`` is not divisible by ``divisor``.
    """
    if value % divisor:
        raise ValueError(f"{name} must be divisible by {divisor_name} = {divisor}, got {value}")

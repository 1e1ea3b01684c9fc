"""Checks of plain values: one function per rule; each error names the argument, the rule and the
value."""

from collections.abc import Collection
from typing import Any

__all__ = [
    "ShapeError",
    "check_choice",
    "check_divisible",
    "check_finite_number",
    "check_positive_int",
]


class ShapeError(ValueError):
    """A tensor has the wrong number of axes or the wrong sizes."""


def check_positive_int(value: Any, *, name: str) -> int:
    """Check that ``value`` is a whole number above zero and return it; raise ``TypeError`` or
    ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def check_finite_number(
    value: Any, *, name: str, low: float = float("-inf"), high: float = float("inf")
) -> float:
    """Check that ``value`` is a finite number in ``[low, high]``, return it; raise ``TypeError`` or
    ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (abs(value) < float("inf") and low <= value <= high):
        rule = (
            f"a finite number in [{low:g}, {high:g}]"
            if (low, high) != (float("-inf"), float("inf"))
            else "finite"
        )
        raise ValueError(f"{name} must be {rule}, got {value!r}")
    return float(value)


def check_choice(value: Any, choices: Collection[Any], *, name: str) -> None:
    """Check that ``value`` is one of ``choices``; raise ``ValueError`` otherwise."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_divisible(value: int, divisor: int, *, name: str, divisor_name: str) -> None:
    """Check that ``value`` is a multiple of ``divisor``; raise ``ValueError`` otherwise."""
    if value % divisor:
        raise ValueError(f"{name} must be divisible by {divisor_name} = {divisor}, got {value}")

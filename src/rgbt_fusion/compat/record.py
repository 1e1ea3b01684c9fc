"""What was served under foreign names: how often each was called, and what was refused."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["CALLS", "REFUSED", "recorded", "refuse"]

CALLS: Counter[str] = Counter()
"""How often each name was called since :func:`~rgbt_fusion.compat.install`."""

REFUSED: dict[str, str] = {}
"""The last error that each name raised on its arguments, or why it is not served."""

Function = TypeVar("Function", bound=Callable[..., Any])


def recorded(name: str) -> Callable[[Function], Function]:
    """Return a decorator that counts the calls under ``name`` and keeps its refusals.

    The function keeps its signature, which clients look at.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def counted(*arguments: Any, **options: Any) -> Any:
            CALLS[name] += 1
            try:
                return function(*arguments, **options)
            except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
                REFUSED[name] = f"{type(error).__name__}: {error}"
                raise

        return counted  # pyright: ignore[reportReturnType]

    return decorate


def refuse(name: str, why: str) -> NotImplementedError:
    """Return the error for what a function of this name cannot do here."""
    return NotImplementedError(f"{name}: {why}")

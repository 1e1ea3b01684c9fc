"""Networks that a user names on the command line as ``package.module:function``."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from rgbt_fusion.checks import did_you_mean
from rgbt_fusion.models.interface import check_model

__all__ = ["NAMED_FORM", "build_named", "names_code"]

NAMED_FORM = "package.module:function"
"""How a function that builds a network is named."""

_FORM = re.compile(r"[\w.]+:[A-Za-z_]\w*")


def names_code(name: str) -> bool:
    """Say whether a name has the form ``package.module:function``.

    Example:
        >>> from rgbt_fusion.models.named import names_code
        >>> names_code("mine.trackers:build"), names_code("ainet_tiny_128")
        (True, False)
    """
    return _FORM.fullmatch(name) is not None


def build_named(name: str, **options: Any) -> nn.Module:
    """Import what a name says, call it, and return the network that it builds.

    The module is looked for where Python looks, and in the working folder first. Nothing is
    imported but what ``name`` says.

    Args:
        name: ``package.module:function``; a class works as well.
        **options: what the function is called with.

    Raises:
        ValueError: ``name`` is not written so, there is no such module or function, it cannot be
            called so, or what it returns is not a tracking network.

    Example:
        >>> from rgbt_fusion.models.named import build_named
        >>> build_named("rgbt_fusion.models:OSTrack", modality="tir").modality
        'tir'
    """
    if not names_code(name):
        raise ValueError(f"name must be {NAMED_FORM}, got {name!r}")
    module_name, _, function_name = name.partition(":")
    with _working_folder_first():
        try:
            module = import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                # the module is there, and lacks something itself
                raise
            raise ValueError(
                f"{name} must name a module that can be imported from here, "
                f"there is no {error.name}"
            ) from error
    function = getattr(module, function_name, None)
    if function is None:
        hint = did_you_mean(function_name, dir(module))
        raise ValueError(f"{name} must name a function, {module_name} has none of that name{hint}")
    if isinstance(function, nn.Module) or not callable(function):
        raise ValueError(
            f"{name} must name a function or class that builds the network, got "
            f"{'a network' if isinstance(function, nn.Module) else 'a value'} of type "
            f"{type(function).__name__}"
        )
    _check_options(function, options, name)
    network = function(**options)
    try:
        check_model(network, name=name)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must return an nn.Module, got {type(network).__name__}")
    return network


def _check_options(function: Callable[..., Any], options: dict[str, Any], name: str) -> None:
    """Check that a function can be called with ``options`` alone."""
    try:
        parameters = signature(function)
    except ValueError:
        # a function of an extension does not say what it takes
        return
    try:
        parameters.bind(**options)
    except TypeError as error:
        called = f"with {', '.join(options)}" if options else "without arguments"
        raise ValueError(f"{name} must be callable {called}: {error}") from None


@contextmanager
def _working_folder_first() -> Iterator[None]:
    """Look for modules in the working folder first, inside the block."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)

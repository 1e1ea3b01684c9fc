"""Dataclasses from plain values, as TOML and JSON have them, and back."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rgbt_fusion.checks import check_choice, did_you_mean

__all__ = ["from_plain", "to_plain"]

Kind = TypeVar("Kind")

_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def from_plain(kind: type[Kind], values: Any, *, name: str = "", every_field: bool = False) -> Kind:
    """Build a dataclass from plain values, each checked against the annotation of its field.

    Annotations may be text, whole number, number, truth value, ``Literal``, list, tuple of any
    length, dictionary, named tuple (from a list), another dataclass, or any of these or None. A
    whole number stands for a number, too.

    Args:
        kind: the dataclass.
        values: a dictionary of its fields.
        name: what an error calls the whole; the fields follow behind a dot.
        every_field: refuse a dictionary that lacks a field with a default, too.

    Raises:
        ValueError: a field is missing, unknown or of another type, or ``kind`` refuses the values.

    Example:
        >>> from dataclasses import dataclass
        >>> from rgbt_fusion.files.plain import from_plain
        >>> @dataclass
        ... class Settings:
        ...     steps: int
        ...     rates: tuple[float, ...] = ()
        >>> from_plain(Settings, {"steps": 3, "rates": [1, 0.5]})
        Settings(steps=3, rates=(1.0, 0.5))
        >>> from_plain(Settings, {"step": 3})
        Traceback (most recent call last):
        ...
        ValueError: unknown key step; known are steps, rates; did you mean 'steps'?
    """
    return _Reader(every_field).dataclass(kind, values, name)


def to_plain(value: Any) -> dict[str, Any]:
    """Return a dataclass as plain values, which :func:`from_plain` reads back."""
    return _plain(asdict(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


class _Reader:
    """Reads plain values by annotations; ``name`` is always what an error calls the value."""

    def __init__(self, every_field: bool) -> None:
        self.every_field = every_field

    def dataclass(self, kind: Any, values: Any, name: str) -> Any:
        table = _mapping(values, name)
        prefix = f"{name}." if name else ""
        known = [one.name for one in fields(kind)]
        self.check_keys(kind, table, prefix)
        hints = get_type_hints(kind)
        given = {
            key: self.value(hints[key], table[key], f"{prefix}{key}")
            for key in known
            if key in table
        }
        try:
            return kind(**given)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def check_keys(self, kind: Any, table: Mapping[str, Any], prefix: str) -> None:
        known = [one.name for one in fields(kind)]
        unknown = sorted(str(key) for key in table if key not in known)
        if unknown:
            hint = did_you_mean(unknown[0], known)
            raise ValueError(
                f"unknown key {prefix}{unknown[0]}; known are {', '.join(known)}{hint}"
            )
        for one in fields(kind):
            has_default = one.default is not MISSING or one.default_factory is not MISSING
            if one.name not in table and (self.every_field or not has_default):
                raise ValueError(f"{prefix}{one.name} must be given")

    def value(self, hint: Any, value: Any, name: str) -> Any:
        origin = get_origin(hint)
        arguments = get_args(hint)
        if hint is Any:
            return value
        if is_dataclass(hint):
            return self.dataclass(hint, value, name)
        if origin in (Union, types.UnionType):
            if value is None and type(None) in arguments:
                return None
            (hint,) = (one for one in arguments if one is not type(None))
            return self.value(hint, value, name)
        if origin is Literal:
            check_choice(value, arguments, name=name)
            return value
        if origin in (list, tuple):
            return origin(self.items(arguments[0], value, name))
        if isinstance(hint, type) and issubclass(hint, tuple):
            return self.named_tuple(hint, value, name)
        if origin is not None:
            entries = _mapping(value, name).items()
            return {key: self.value(arguments[1], one, f"{name}.{key}") for key, one in entries}
        return _plain_value(hint, value, name)

    def items(self, hint: Any, value: Any, name: str) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list, got {value!r}")
        if get_origin(hint) is Literal:
            return [self.value(hint, one, name) for one in value]
        return [self.value(hint, one, f"{name}[{i}]") for i, one in enumerate(value)]

    def named_tuple(self, kind: Any, value: Any, name: str) -> Any:
        hints = get_type_hints(kind)
        if not isinstance(value, list | tuple) or len(value) != len(hints):
            raise ValueError(f"{name} must be a list of {', '.join(hints)}, got {value!r}")
        items = zip(hints.items(), value, strict=True)
        return kind(*(self.value(hint, one, f"{name}.{key}") for (key, hint), one in items))


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name or 'the content'} must be a table, got {value!r}")
    return value


def _plain_value(kind: type, value: Any, name: str) -> Any:
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} must be a number, got one out of range") from None
    if type(value) is not kind:
        raise ValueError(f"{name} must be {_NAMES[kind]}, got {value!r}")
    return value

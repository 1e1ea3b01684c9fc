"""Dataclasses from plain values: what fits is built, all else is refused by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pytest

from rgbt_fusion.files.plain import from_plain, to_plain


class Spread(NamedTuple):
    median: float
    samples: int


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"inner.rate must be positive, got {self.rate}")


@dataclass(frozen=True)
class Outer:
    model: str
    steps: int = 3
    exact: bool = False
    share: float | None = None
    layers: tuple[int, ...] = ()
    kinds: tuple[Literal["a", "b"], ...] = ()
    rows: list[Inner] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    time: Spread | None = None
    inner: Inner = field(default_factory=Inner)


FULL = Outer(
    model="x",
    steps=7,
    exact=True,
    share=0.5,
    layers=(1, 2),
    kinds=("a", "a"),
    rows=[Inner(0.2), Inner(schedule="cosine")],
    sizes={"B": 2},
    overrides={"depth": 2, "names": ["p", {"q": None}]},
    time=Spread(1.5, 4),
    inner=Inner(1.0),
)


@pytest.mark.parametrize("value", [Outer("x"), FULL])
def test_a_dataclass_survives_the_way_through_json(value: Outer) -> None:
    assert from_plain(Outer, json.loads(json.dumps(to_plain(value)))) == value


def test_whole_numbers_stand_for_numbers() -> None:
    found = from_plain(Outer, {"model": "x", "share": 1, "time": [2, 3], "inner": {"rate": 4}})
    assert type(found.share) is type(found.inner.rate) is float
    assert found.time is not None
    assert type(found.time.median) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "model must be given"),
        ({"model": 3}, "model must be a text, got 3"),
        ({"model": None}, "model must be a text, got None"),
        ({"steps": "3"}, "steps must be a whole number, got '3'"),
        ({"steps": 3.0}, "steps must be a whole number, got 3.0"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"exact": 1}, "exact must be true or false, got 1"),
        ({"share": "half"}, "share must be a number, got 'half'"),
        ({"share": False}, "share must be a number, got False"),
        ({"share": 10**400}, "share must be a number, got one out of range"),
        ({"layers": 3}, "layers must be a list, got 3"),
        ({"layers": "12"}, "layers must be a list, got '12'"),
        ({"layers": [1, None]}, r"layers\[1\] must be a whole number, got None"),
        ({"kinds": ["a", "c"]}, "kinds must be one of 'a', 'b', got 'c'"),
        ({"rows": [{}, 3]}, r"rows\[1\] must be a table, got 3"),
        ({"rows": [{"rate": "x"}]}, r"rows\[0\].rate must be a number, got 'x'"),
        ({"rows": [{"speed": 1}]}, r"unknown key rows\[0\].speed; known are rate, schedule$"),
        ({"sizes": [1]}, r"sizes must be a table, got \[1\]"),
        ({"sizes": {"B": "two"}}, "sizes.B must be a whole number, got 'two'"),
        ({"overrides": 3}, "overrides must be a table, got 3"),
        ({"time": [1.0]}, r"time must be a list of median, samples, got \[1.0\]"),
        ({"time": [1.0, 0.5]}, "time.samples must be a whole number, got 0.5"),
        ({"inner": 3}, "inner must be a table, got 3"),
        ({"inner": {"rate": -1}}, "inner.rate must be positive, got -1.0"),
        ({"inner": {"schedule": "x"}}, "inner.schedule must be one of 'constant', 'cosine', got"),
        ({"inner": {"schedule": ["x"]}}, "inner.schedule must be one of"),
        ({"step": 4}, "unknown key step; known are model, steps, .*; did you mean 'steps'"),
        ({"inner": {"rates": 4}}, "unknown key inner.rates; known are rate.* did you mean 'rate'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    table = values if not values or "model" in values else {"model": "x", **values}
    with pytest.raises(ValueError, match=message):
        from_plain(Outer, table)


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_the_whole_must_be_a_table(values: Any) -> None:
    with pytest.raises(ValueError, match="the content must be a table, got"):
        from_plain(Outer, values)
    with pytest.raises(ValueError, match="settings must be a table, got"):
        from_plain(Outer, values, name="settings")


def test_the_whole_can_have_a_name() -> None:
    with pytest.raises(ValueError, match=r"settings.steps must be a whole number"):
        from_plain(Outer, {"model": "x", "steps": None}, name="settings")


def test_fields_with_defaults_can_be_demanded() -> None:
    table = to_plain(FULL)
    assert from_plain(Outer, table, every_field=True) == FULL
    del table["rows"][0]["schedule"]
    with pytest.raises(ValueError, match=r"rows\[0\].schedule must be given"):
        from_plain(Outer, table, every_field=True)

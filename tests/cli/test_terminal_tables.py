"""Tables on a terminal: whole, with the names of files as they are and the best in bold."""

import io

import pytest
from rich.console import Console

from rgbt_fusion.cli.terminal_tables import drawn_numbers, print_whole
from rgbt_fusion.files.table import Figure, Table

SCORES = Table(
    ("tracker", "success [%]"),
    (("runs[1]", Figure(51.25, best=True)), ("runs[2]", Figure(49.5))),
)


def shown(table, **options) -> str:
    out = io.StringIO()
    Console(file=out, width=80, **options).print(table)
    return out.getvalue()


def test_brackets_are_no_markup():
    out = shown(drawn_numbers("in [here]", SCORES, digits=1))
    title, header, _, first, second = [line.split() for line in out.splitlines() if line.strip()]
    assert title == ["in", "[here]"]
    assert header == ["tracker", "success", "[%]"]
    assert first == ["runs[1]", "51.2"]
    assert second == ["runs[2]", "49.5"]


def test_the_best_is_bold():
    coloured = shown(drawn_numbers("", SCORES, digits=1), force_terminal=True)
    assert "\x1b[1m51.2\x1b[0m" in coloured
    assert "\x1b[1m49.5" not in coloured


def test_a_long_line_is_not_cut(capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "20")
    name = "a_tracker_with_a_long_name"
    print_whole(drawn_numbers("", Table(("tracker", "success"), ((name, 0.5),))))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if name in line] == [[name, "0.500"]]

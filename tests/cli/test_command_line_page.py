"""The page of the command line is that of the commands' own help."""

import importlib.util
import re
from pathlib import Path

import pytest

from rgbt_fusion.cli import COMMANDS, main

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("page", DOCS / "command_line_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_the_help_says(generator):
    assert (DOCS / "command_line.md").read_text() == generator.page(), (
        "run python docs/command_line_page.py"
    )


def test_every_command_has_an_example_that_it_takes(generator):
    names = [name for name, _ in generator.commands()]
    assert {name.split()[0] for name in names} == set(COMMANDS)
    assert list(generator.EXAMPLES) == names
    for example in generator.EXAMPLES.values():
        assert generator.parse(example) is not None


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_names_every_option_of_the_help(generator, name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for full_name, command in generator.commands():
        if full_name.split()[0] != name:
            continue
        with pytest.raises(SystemExit):
            main([*full_name.split(), "--help"])
        shown = capsys.readouterr().out
        for parameter in generator.parameters(command):
            if isinstance(parameter.info, generator.OptionInfo):
                first_name = re.split("[ /]", generator._names(parameter))[0]
                assert first_name in shown
            assert parameter.info.help.split()[0] in shown


def test_every_help_is_a_sentence(generator):
    for name, command in generator.commands():
        for parameter in generator.parameters(command):
            text = parameter.info.help
            assert text[0].isupper(), (name, text)
            assert text.endswith((".", "...")), (name, text)
            assert not text.lower().startswith(("of ", "the same", "their ", "with ")), (name, text)

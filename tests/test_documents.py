"""What the pages say is run: their code, the docstrings' examples, the generated tables, the
links."""

import doctest
import importlib
import re
import shlex
from pathlib import Path
from unittest.mock import patch

import pytest
import typer

import benchmarks.__main__
import rgbt_fusion
import rgbt_fusion.cli
from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.evaluation.protocols import PROTOCOLS
from rgbt_fusion.models import MODELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"])
SOURCE = Path(rgbt_fusion.__file__).parent
MODULES = sorted(
    ".".join(("rgbt_fusion", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in SOURCE.rglob("*.py")
    if not path.name.startswith("_triton") and path.name != "__main__.py"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    namespace: dict[str, object] = {"__name__": "page"}
    # what a page adds to a table is gone with the page
    with patch.dict(MODELS), patch.dict(LAYOUTS), patch.dict(PROTOCOLS):
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)


PROGRAMS = {
    "rgbt-fusion": rgbt_fusion.cli.app,
    "python -m benchmarks": benchmarks.__main__.app,
}
# behind a prompt, a variable, a time limit, or the launcher of several processes
CALL = re.compile(rf"(?:\$ |\w+=\S+ |timeout .* |torchrun .* )?({'|'.join(PROGRAMS)}) (.+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_command_lines_of_a_page_are_taken(page):
    """Their commands and options exist; nothing is run."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            call = CALL.match(line)
            if call is not None:
                _parse(PROGRAMS[call[1]], shlex.split(call[2], comments=True))


def _parse(app, words: list[str]) -> None:
    """Take the words behind the name of a program apart."""
    if ">" in words:
        # the shell reads the rest itself
        words = words[: words.index(">")]
    command = typer.main.get_command(app)
    context = command.make_context("program", list(words))
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(set(rgbt_fusion.__all__) - {"__version__"}))
def test_a_public_name_is_documented(name):
    documentation = getattr(rgbt_fusion, name).__doc__
    assert documentation
    assert not documentation.startswith(f"{name}("), (
        "a NamedTuple's own signature is no documentation"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target

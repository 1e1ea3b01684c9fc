import sys
from pathlib import Path

import pytest
import torch

from rgbt_fusion import __version__, backend_report
from rgbt_fusion.cli import info as info_command
from rgbt_fusion.cli.info import EXTRAS, info

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_everything_is_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    info(device="cpu")
    out = capsys.readouterr().out
    assert __version__ in out
    assert torch.__version__ in out
    for op, report in backend_report().items():
        assert op in out
        for name, reasons in report["why_not"].items():
            assert name in out
            assert all(reason[:40] in out for reason in reasons)
    assert all(extra in out for extra in EXTRAS)


def test_a_missing_extra_comes_with_its_command(capsys, monkeypatch):
    monkeypatch.setattr(info_command, "EXTRAS", {"cuda": ("a_package_that_nobody_has",)})
    info(device="cpu")
    out = capsys.readouterr().out
    assert "a_package_that_nobody_has" in out
    assert "pip install 'rgbt-fusion[cuda]'" in out


def test_extras_are_those_of_the_package():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    provided = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(EXTRAS) | {"dev", "docs"} == set(provided)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "--dtype must be one of .*, got 'int8'"),
        ({"device": "tpu"}, "--device must be one of 'cpu', 'cuda', got 'tpu'"),
    ],
)
def test_what_there_is_not_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        info(**options)

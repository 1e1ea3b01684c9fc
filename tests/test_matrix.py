"""The test matrix finds what a host has, and names its rows."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

MATRIX_FILE = Path(__file__).with_name("matrix.py")
MATRIX = runpy.run_path(str(MATRIX_FILE))

REPORT = """<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10"
time="12.3"/></testsuites>"""


def program(path: Path, status: int) -> Path:
    """Write a program that ends with a status."""
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name != "posix", reason="no such programs: the shims of pyenv are scripts")
def test_a_python_of_pyenv_is_found_behind_a_shim_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = program(tmp_path / "shims" / "python3.10", 127)
    installed = program(tmp_path / "versions" / "3.10.13" / "bin" / "python3.10", 0)
    monkeypatch.setenv("PATH", str(shim.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert MATRIX["find_interpreter"]("3.10") == str(installed)
    assert MATRIX["find_interpreter"]("3.12") is None


@pytest.mark.skipif(os.name != "posix", reason="no such programs: the shims of pyenv are scripts")
def test_a_python_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program(tmp_path / "bin" / "python3.10", 0)
    program(tmp_path / "versions" / "3.10.13" / "bin" / "python3.10", 0)
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert MATRIX["find_interpreter"]("3.10") == str(on_path)


def test_a_report_is_counted(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    counted = MATRIX["count_tests"](tmp_path / "report.xml")
    assert counted == "4 passed, 3 failed, 3 skipped in 12 s"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(MATRIX_FILE), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_host_reads_the_names_of_all_rows() -> None:
    done = run("rows")
    assert done.stdout.split() == [*MATRIX["SITUATIONS"], *MATRIX["VERSIONS"]]
    for python, torch in MATRIX["VERSIONS"].values():
        assert f"python{python}-torch{torch}" in done.stdout.split()


@pytest.mark.parametrize("arguments", (["row", "nobody"], ["row"], ["versions", "2.7"], []))
def test_what_is_no_row_is_refused(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr

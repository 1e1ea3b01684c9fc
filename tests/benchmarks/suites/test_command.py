"""``python -m benchmarks``: what only a checkout has, measured, kept and shown."""

import re

import pytest

from benchmark_material import SCAN_ROWS, record
from benchmarks.__main__ import main
from benchmarks.suites import startup
from rgbt_fusion.benchmarking.records import read_record, write_record


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as left:
        main(list(map(str, arguments)))
    return left.value.code


def test_a_suite_is_measured_and_kept(tmp_path, capsys, monkeypatch):
    arguments = ["complexity", "--quick", "--shape", "64,2", "--rounds", "2", "--budget", "0.01"]
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments, "--save", str(tmp_path)])
    assert run(*arguments, "--threads", 1, "--save", tmp_path, "--machine", "here") == 0
    written = capsys.readouterr()
    assert "complexity: 64 px, 2 layers" in written.out
    assert "written-out attention" in written.out
    (saved,) = tmp_path.glob("*/complexity--here--cpu.json")
    kept = read_record(saved)
    assert kept.command == f"python -m benchmarks {' '.join(arguments)}"
    assert [row.label for row in kept.rows] == ["Mamba", "fused attention", "written-out attention"]
    assert all(row.extra_bytes for row in kept.rows)


def test_startup_is_a_suite(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(startup, "_python", lambda code: "0.03")
    assert run("startup", "--quick", "--json", tmp_path / "r.json") == 0
    assert "from rgbt_fusion import DFM" in capsys.readouterr().out
    assert read_record(tmp_path / "r.json").suite == "startup"


def test_tables_on_the_terminal_and_in_a_document(tmp_path, capsys):
    write_record(record(*SCAN_ROWS), tmp_path / "r")
    assert run("tables", tmp_path / "r") == 0
    out = capsys.readouterr().out
    assert "### headline" in out
    assert "### scan\n\n|  | ours, cpu ms |" in out
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmark: scan -->\n<!-- /benchmark -->\n")
    assert run("tables", tmp_path / "r", "--into", page) == 0
    assert "| (1, 1536, 320, 16), token-major, forward |" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "--shape", "1,2"], "shape must be B for this suite, got 1,2"),
        (["models", "--device", "tpu"], "--device must be one of .* got 'tpu'"),
        (["models", "--rounds", "0"], "--rounds must be above 0, got 0"),
        (["complexity", "--shape", "256"], "shape must be px,K for this suite, got 256"),
        (["complexity", "--backend", "triton"], "backend triton cannot run on cpu"),
        (["tables"], "record files, got none"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(capsys, arguments, message):
    assert run(*arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert re.search(message, written.err)

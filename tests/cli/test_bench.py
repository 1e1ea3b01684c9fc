import json
import re

import pytest

from rgbt_fusion.benchmarking.records import read_record
from rgbt_fusion.benchmarking.suites import SUITES
from rgbt_fusion.cli import bench as bench_command
from rgbt_fusion.cli import main

SMALL = ["--shape", "1,8,12,4", "--threads", "1", "--rounds", "2", "--budget", "0.01", "--quick"]


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as left:
        main(["bench", *arguments])
    return left.value.code


def test_the_suites_are_those_there_are():
    assert list(SUITES) == list(bench_command.SUITE_NAMES)
    assert set(bench_command.QUICK_SUITE_NAMES) <= set(bench_command.SUITE_NAMES)


def test_a_run_prints_a_table_and_writes_its_record(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv",
        ["rgbt-fusion", "bench", "scan", "--json", str(tmp_path / "run.json"), "--quick"],
    )
    status = run(
        "scan",
        *SMALL,
        "--json",
        str(tmp_path / "run.json"),
        "--save",
        str(tmp_path),
        "--machine",
        "here",
    )
    assert status == 0
    written = capsys.readouterr()
    assert "scan: (1, 8, 12, 4), token-major, forward" in written.out
    assert "reference loop" in written.out
    assert "without mamba-ssm: runs on cuda only" in written.out
    record = read_record(tmp_path / "run.json")
    assert record.suite == "quick"
    assert record.command == "rgbt-fusion bench scan --quick"
    (saved,) = tmp_path.glob("*/scan--here--cpu.json")
    assert read_record(saved).rows == record.rows
    assert {row.table for row in record.rows} == {"scan", "scan-dtypes", "scan-order"}


def test_tables_of_records_on_the_terminal(tmp_path, capsys):
    run(
        "scan",
        *SMALL,
        "--layout",
        "token",
        "--pass",
        "forward",
        "--dtype",
        "float32",
        "--json",
        str(tmp_path / "r"),
    )
    capsys.readouterr()
    assert run("--table", str(tmp_path / "r")) == 0
    out = capsys.readouterr().out
    assert "### scan\n\n|  | ours, cpu ms |" in out
    assert "### scan-dtypes" not in out


def test_a_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    arguments = [
        "conv",
        *SMALL,
        "--layout",
        "token",
        "--pass",
        "forward",
        "--plot",
        str(tmp_path / "plot.svg"),
    ]
    assert run(*arguments) == 0
    assert (
        "torch conv1d" in (tmp_path / "plot.svg").read_text()
        or (tmp_path / "plot.svg").stat().st_size > 1000
    )


def test_all_and_no_suite_are_everything():
    assert bench_command._chosen_suites([], False) == list(bench_command.SUITE_NAMES)
    assert bench_command._chosen_suites(["all"], True) == list(bench_command.QUICK_SUITE_NAMES)
    assert bench_command._chosen_suites(["ofm", "scan"], True) == ["scan", "ofm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "a suite must be one of 'scan', .* got 'nonsense'"),
        (["scan", "--shape", "1,2"], "shape must be B,D,L,N for this suite, got 1,2"),
        (["scan", "--shape", "1,0,3,4"], "--shape must be whole numbers above 0 .* got '1,0,3,4'"),
        (["scan", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["scan", "--rounds", "0"], "--rounds must be above 0, got 0"),
        (["scan", "--budget", "-1"], "--budget must be above 0, got -1"),
        (["scan", "--dtype", "int8"], "--dtype must be one of .* got 'int8'"),
        (["scan", "--layout", "diagonal"], "--layout must be one of .* got 'diagonal'"),
        (["scan", "--pass", "sideways"], "--pass must be one of .* got 'sideways'"),
        (["scan", "--device", "tpu"], "--device must be one of .* got 'tpu'"),
        (["scan", "--backend", "triton"], "backend triton cannot run on cpu"),
        (["models"], "a suite must be one of 'scan', .* got 'models'"),
        (["--table"], "--table must come with record files, got none"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(capsys, arguments, message):
    assert run(*arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert re.search(message, written.err)


def test_a_record_file_that_is_none_is_refused(tmp_path, capsys):
    (tmp_path / "r.json").write_text(json.dumps({"format": 1}))
    assert run("--table", str(tmp_path / "r.json")) == 2
    assert "suite must be given" in capsys.readouterr().err

import json
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch

from benchmark_material import SCAN_ROWS, record
from rgbt_fusion import __version__
from rgbt_fusion.benchmarking.records import Record, Row, new_record, read_record, write_record


def changed(tmp_path, change) -> Path:
    """A record's file after ``change`` of its data."""
    path = tmp_path / "record.json"
    data = json.loads(json.dumps(asdict(record(*SCAN_ROWS))))
    change(data)
    path.write_text(json.dumps(data))
    return path


def test_a_record_survives_its_file(tmp_path):
    written = record(*SCAN_ROWS)
    path = tmp_path / written.file_name
    write_record(written, path)
    assert path.relative_to(tmp_path) == Path("0.1.0/scan--a-machine--cpu.json")
    assert read_record(path) == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(format=99), "must have format 1, got 99"),
        (lambda data: data.pop("commit"), "commit must be given"),
        (
            lambda data: data["rows"][0].update(speed=3),
            r"unknown key rows\[0\].speed; known are suite, ",
        ),
        (
            lambda data: data["rows"][1].update(threads="two"),
            r"rows\[1\].threads must be a whole number, got 'two'",
        ),
        (
            lambda data: data["rows"][1].update(backward=1),
            r"rows\[1\].backward must be true or false, got 1",
        ),
        (
            lambda data: data["rows"][0].update(cpu_ms=[1.0, 2.0]),
            r"rows\[0\].cpu_ms must be a list of median, q1, q3, samples, got",
        ),
        (
            lambda data: data["rows"][0]["sizes"].update(B="one"),
            r"sizes.B must be a whole number, got 'one'",
        ),
        (
            lambda data: data["rows"][0].update(error={"out": None}),
            r"error.out must be a number, got None",
        ),
        (lambda data: data.update(rows={}), r"rows must be a list, got \{\}"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_record(changed(tmp_path, change))


def test_whole_numbers_may_stand_for_others(tmp_path):
    path = changed(tmp_path, lambda data: data["rows"][0].update(ratio=60))
    assert read_record(path).rows[0].ratio == 60.0


def test_a_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(ValueError, match=r"record\.json must be a benchmark record, got no JSON"):
        read_record(tmp_path / "record.json")


def test_a_new_record_describes_this_moment():
    made = new_record("scan", "cpu", "rgbt-fusion bench scan", machine_name="My Machine (2 cores)")
    assert made.version == __version__
    assert made.machine.name == "my-machine-2-cores"
    assert made.machine.cores > 0
    assert made.machine.memory_gb > 0
    assert (
        made.software["torch"] == torch.__version__.partition("+")[0]
        or "+" in made.software["torch"]
    )
    assert made.rows == []
    assert made.created.endswith("+00:00")


def test_the_commit_is_that_of_the_source_tree():
    commit = new_record("scan", "cpu", "").commit.removesuffix("+")
    assert commit == "" or (len(commit) == 40 and int(commit, 16))


def test_every_field_is_documented_or_speaks_for_itself():
    names = [
        "suite",
        "version",
        "commit",
        "created",
        "command",
        "device",
        "machine",
        "software",
        "rows",
        "format",
    ]
    assert [field.name for field in fields(Record)] == names
    assert Row.__doc__


def test_a_record_says_what_the_kernels_are_held_to(monkeypatch):
    free = new_record("scan", "cpu", "a command").machine
    monkeypatch.setenv("RGBT_FUSION_CPU_LEVEL", "avx2")
    held = new_record("scan", "cpu", "a command").machine
    assert "held" not in free.name
    assert held.instructions == f"{free.instructions}, kernels held to avx2"
    assert held.name == f"{free.name}-kernels-held-to-avx2"

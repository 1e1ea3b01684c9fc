"""The quarter of an hour on a card, rehearsed without one as far as a test may take."""

import json
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton", minversion="3.3", reason="Triton is not installed")

from benchmarks import ROOT
from benchmarks.card import stages
from benchmarks.card.run import CARD, REHEARSAL, replay_us
from benchmarks.card.stages import STAGES, write_rows
from benchmarks.gpu import BUDGET_S, read_rows


def rehearse(out, *names):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(out), "--rehearse"]
    for name in names:
        command += ["--stage", name]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_stages_end_within_their_budget():
    assert sum(stage.deadline_s for stage in STAGES.values()) <= BUDGET_S + 30
    assert BUDGET_S < 15 * 60


def test_a_rehearsal_measures_and_compares(tmp_path):
    done = rehearse(tmp_path, "ceilings", "parity", "tracker")
    assert done.returncode == 0, done.stdout + (tmp_path / "stderr.txt").read_text()
    named = {row["ceiling"] for row in read_rows(tmp_path / "ceilings.jsonl")}
    assert {"memory", "exponentials", "multiply_adds"} <= named
    checks = read_rows(tmp_path / "parity.jsonl")
    assert len(checks) == 2
    assert all(row["agrees"] for row in checks)
    assert {row.get("graph") for row in read_rows(tmp_path / "tracker.jsonl")} >= {False, True}


def test_a_wrong_result_is_said_and_the_rest_goes_on(monkeypatch):
    def wrong():
        raise AssertionError("u: error 1e-1")

    monkeypatch.setattr(stages, "_checks", lambda run: [("bad", wrong), ("good", lambda: None)] * 2)
    rows = list(stages.parity(REHEARSAL, 0)) + list(stages.parity(REHEARSAL, 1))
    assert [row["agrees"] for row in rows] == [False, False, True, True]


def test_what_was_found_before_an_error_stays():
    lines = []

    def rows():
        yield {"found": 1}
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    write_rows(rows(), lines.append)
    first, last = map(json.loads, lines)
    assert first == {"found": 1}
    assert "illegal memory access" in last["failed"]


def test_a_cut_line_is_not_read(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"b": ')
    assert read_rows(tmp_path / "x.jsonl") == [{"a": 1}]


def test_an_unknown_stage_is_refused(tmp_path):
    done = rehearse(tmp_path, "nothing")
    assert done.returncode == 1
    assert "must be one of environment, ceilings" in done.stderr


def test_the_shapes_of_the_trackers_come_first():
    names = [name for name, _ in stages._checks(CARD)]
    assert names[0].startswith("scan, DFM")
    assert names[1].startswith("scan, OFM")
    assert len(names) > 300


def test_a_replay_runs_what_was_captured_on_a_real_card():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = torch.zeros(8, device="cuda")
    assert replay_us(lambda: x.add_(1), CARD) > 0

import json
import sys
from pathlib import Path

import pytest
import torch

from rgbt_fusion import __version__, backend_report
from rgbt_fusion.benchmarking.timing import Spread
from rgbt_fusion.cli import info as info_command
from rgbt_fusion.cli import step_cost
from rgbt_fusion.cli.info import EXTRAS, info
from rgbt_fusion.cli.step_cost import StepCost
from rgbt_fusion.models.tracking_settings import ConfidenceMap, TrackingSettings
from rgbt_fusion.weights.checkpoints import save_checkpoint
from rgbt_fusion.weights.pretrained import create_model

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
    assert set(EXTRAS) | {"dev", "docs", "release"} == set(provided)


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


def test_a_model_is_described_part_by_part(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    info("ainet_tiny_128", static=True)
    out = capsys.readouterr().out
    parameters = sum(p.numel() for p in create_model("ainet_tiny_128").parameters())
    for shown in (
        "backbone.blocks",
        "dfm",
        "ofm",
        "box_head",
        f"{parameters:,}",
        "16 template, 64 search",
        "G a step",
    ):
        assert shown in out
    assert "latency" not in out


def test_a_file_is_described_as_json_with_the_cost_of_a_step(tmp_path, capsys, monkeypatch):
    save_checkpoint(create_model("ostrack_tiny_128", keep_ratio=0.5), tmp_path / "own")
    cost = StepCost(1, Spread(5.0, 4.0, 6.0, 3), Spread(7.0, 6.0, 8.0, 3), 300_000_000)
    monkeypatch.setattr(step_cost, "measure_step", lambda model, **_: cost)
    info(str(tmp_path / "own"), json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["search_tokens"] == [64, 64, 32, 16, 8]
    assert found["step"] == {
        "threads": 1,
        "cpu_ms": [5.0, 4.0, 6.0, 3],
        "wall_ms": [7.0, 6.0, 8.0, 3],
        "peak_resident_bytes": 300_000_000,
    }
    info(str(tmp_path / "own"))
    out = capsys.readouterr().out
    assert "300 MB at the peak of a fresh process" in out
    assert "5.0 ms of CPU time, 7.0 ms by the clock (1 thread)" in out


def test_the_tracking_settings_of_a_file_are_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    model = create_model("ostrack_tiny_128")
    model.tracking_settings = TrackingSettings(
        size_inertia=0.8, confidence=ConfidenceMap(offset=-1.5, slope=2.0)
    )
    save_checkpoint(model, tmp_path / "own")
    info(str(tmp_path / "own"), static=True)
    shown = "size_inertia 0.8, confidence offset -1.5, confidence slope 2.0"
    assert shown in capsys.readouterr().out
    info(str(tmp_path / "own"), static=True, json=True)
    assert json.loads(capsys.readouterr().out)["tracking_settings"] == {
        "size_inertia": 0.8,
        "confidence": {"offset": -1.5, "slope": 2.0, "rival_slope": 0.0},
    }


def test_what_belongs_to_a_model_needs_one():
    with pytest.raises(ValueError, match="--json and --static must come with MODEL"):
        info(json=True)

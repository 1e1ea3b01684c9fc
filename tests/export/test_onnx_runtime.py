"""Importing ONNX Runtime: its telemetry is off unless the program has chosen otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rgbt_fusion.export.onnx_runtime import TELEMETRY_VARIABLE, onnx_runtime

SOURCES = Path(__file__).parents[2] / "src" / "rgbt_fusion"


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")


def test_telemetry_is_off_and_a_choice_stays(monkeypatch):
    monkeypatch.delenv(TELEMETRY_VARIABLE, raising=False)
    assert onnx_runtime().__name__ == "onnxruntime"
    assert os.environ[TELEMETRY_VARIABLE] == "1"
    monkeypatch.setenv(TELEMETRY_VARIABLE, "0")
    onnx_runtime()
    assert os.environ[TELEMETRY_VARIABLE] == "0"


@pytest.mark.slow
def test_it_leaves_no_file_of_its_telemetry(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop(TELEMETRY_VARIABLE, None)
    script = "from rgbt_fusion.export.onnx_runtime import onnx_runtime; onnx_runtime()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=environment, check=True)
    assert not list(tmp_path.glob(".ses"))


def test_nothing_else_imports_it_first():
    for path in SOURCES.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "onnxruntime." in text or "import onnxruntime" in text:
            assert "onnx_runtime()" in text, path

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model_material import tiny
from rgbt_fusion.export import onnx_file
from rgbt_fusion.export.agreement import BoxError, ExportError, ExportReport
from rgbt_fusion.export.float16 import export_float16
from rgbt_fusion.export.int8 import export_int8
from rgbt_fusion.export.onnx_file import (
    INITIAL_STATE_KEY,
    TRACKING_KEY,
    export_onnx,
    need_onnx,
    open_session,
    run_session,
)
from rgbt_fusion.export.step import TrackerStep, recorded_steps
from rgbt_fusion.models.presets import list_models
from rgbt_fusion.weights.formats import CONFIGURATION_KEY

try:
    need_onnx()
except (ModuleNotFoundError, ExportError) as error:
    pytest.skip(f"no ONNX here: {error}", allow_module_level=True)

import onnx

OPTIONS: dict[str, dict[str, Any]] = {
    # the released predictor pools to a length that does not divide the tokens
    "ainet_tiny_128": {"order_predictor": "released", "order_gradient": "none", "depth": 2},
    "one_stream_student_tiny_128": {"keep_ratio": 0.7, "depth": 2},
}
# the two-stream baseline is exported for int8 below
NAMES = [
    name
    for name in list_models()
    if "tiny" in name and "compact" not in name and "two_stream" not in name
]


def scans(path: Path) -> int:
    return sum(node.op_type == "Scan" for node in onnx.load(path).graph.node)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_model_becomes_a_file_that_gives_the_same(name: str, tmp_path: Path) -> None:
    model = tiny(name, **{"depth": 1} | OPTIONS.get(name, {}))
    report = export_onnx(model, tmp_path / "step.onnx")
    assert report.errors["score_map"] < 1e-5 and report.errors["offset_map"] < 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"step.onnx", "step.template.onnx"}
    step = TrackerStep(model, embedded=True)
    session = open_session(tmp_path / "step.onnx", threads=1)
    assert [entry.name for entry in session.get_inputs()] == step.input_names
    assert [entry.name for entry in session.get_outputs()] == step.output_names
    texts = session.get_modelmeta().custom_metadata_map
    known = json.loads(texts[TRACKING_KEY])
    template = tmp_path / known["template"]["file"]
    assert known["template"]["sha256"] == hashlib.sha256(template.read_bytes()).hexdigest()
    assert json.loads(texts[CONFIGURATION_KEY])["model"] == type(model).__name__
    initial = {
        name: tensor.tolist()
        for name, tensor in zip(step.state_names, step.initial_state, strict=True)
    }
    assert json.loads(texts[INITIAL_STATE_KEY]) == initial
    # two scans of the DFMs, one for the three directions of the OFM
    assert scans(tmp_path / "step.onnx") == (3 if name.startswith("ainet") else 0)
    (opset,) = {
        entry.version
        for entry in onnx.load(tmp_path / "step.onnx").opset_import
        if entry.domain == ""
    }
    assert opset == 18
    (recorded,) = recorded_steps(step, 1, seed=7)
    found = run_session(session, dict(zip(step.input_names, recorded.inputs, strict=True)))
    torch.testing.assert_close(found, recorded.outputs, atol=1e-4, rtol=0)
    if name.startswith("ainet"):
        half = export_float16(model, tmp_path / "step.onnx", tmp_path / "float16.onnx")
        assert 0 < half.errors["score_map"] < 0.01 and half.precision == "float16"
        # with a layer whose weight the quantiser turns round, and scans, which stay as they are
        assert (
            export_int8(model, tmp_path / "step.onnx", tmp_path / "int8.onnx").errors["score_map"]
            < 0.2
        )
        assert scans(tmp_path / "int8.onnx") == 3


def test_a_file_that_does_not_agree_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = ExportReport(tmp_path, 1, 1, {"score_map": 2e-4}, BoxError(0.0, 0.0, 1.0))
    monkeypatch.setattr(onnx_file, "_write", lambda step, path, template: path.write_text("wrong"))
    monkeypatch.setattr(onnx_file, "check_onnx", lambda step, path, count: report)
    (tmp_path / "step.onnx").write_text("what was there")
    with pytest.raises(ExportError, match="score_map of the exported step differs from PyTorch"):
        export_onnx(tiny("two_stream_tiny_128", depth=1), tmp_path / "step.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["what was there"]


def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs onnxscript: pip install 'rgbt-fusion\[export\]'"
    ):
        need_onnx()


def test_a_torch_that_cannot_write_scans_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.7.1+cpu")
    with pytest.raises(
        ExportError, match=r"exporting to ONNX needs torch 2\.8 or later, got 2\.7\.1"
    ):
        need_onnx()

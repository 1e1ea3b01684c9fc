from pathlib import Path

import pytest

from model_material import tiny
from rgbt_fusion.export.agreement import ExportError
from rgbt_fusion.export.float16 import export_float16
from rgbt_fusion.export.onnx_file import export_onnx, need_onnx

try:
    need_onnx()
except (ModuleNotFoundError, ExportError) as error:
    pytest.skip(f"no ONNX here: {error}", allow_module_level=True)

import onnx


def test_float16_halves_the_file_and_says_what_it_costs(tmp_path: Path) -> None:
    model = tiny("two_stream_tiny_128", depth=1, dim=128)
    export_onnx(model, tmp_path / "step.onnx")
    report = export_float16(model, tmp_path / "step.onnx", tmp_path / "half.onnx")
    whole = (tmp_path / "step.onnx").stat().st_size
    assert whole * 0.5 <= report.size_bytes < whole * 0.6
    assert 1e-6 < report.errors["score_map"] < 0.01
    assert "float16" in str(report)
    half = onnx.load(report.path).graph
    # the file is used like the other one
    assert {value.type.tensor_type.elem_type for value in half.input} == {onnx.TensorProto.FLOAT}
    matrices = [one.data_type for one in half.initializer if len(one.dims) == 2]
    assert set(matrices) == {onnx.TensorProto.FLOAT16}

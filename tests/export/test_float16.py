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

from rgbt_fusion.export.int8 import export_int8


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


def test_a_source_that_is_no_step_of_the_model_is_refused_with_its_name(tmp_path: Path) -> None:
    model = tiny("two_stream_tiny_128", depth=1)
    export_onnx(model, tmp_path / "of_two.onnx", batch=2)
    (tmp_path / "text.onnx").write_text("no network")
    whole = onnx.load(tmp_path / "of_two.onnx")
    for constant in whole.graph.initializer:
        constant.data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / "hollow.onnx").write_bytes(whole.SerializeToString())
    (tmp_path / "folder.onnx").mkdir()
    reasons = {
        "missing.onnx": "cannot be read: No such file",
        "folder.onnx": "cannot be read: Is a directory",
        "text.onnx": "must be an ONNX file that export_onnx wrote",
        "hollow.onnx": "its weights are in another file",
        "of_two.onnx": "must be an exported step of this model for 1 targets",
    }
    before = sorted(tmp_path.iterdir())
    for name, reason in reasons.items():
        for export in (export_float16, export_int8):
            with pytest.raises(ExportError, match=reason) as refusal:
                export(model, tmp_path / name, tmp_path / "other.onnx")
            assert str(tmp_path / name) in str(refusal.value)
    with pytest.raises(ExportError, match="is a pipe or a device"):
        export_float16(model, "/dev/zero", tmp_path / "other.onnx")
    assert sorted(tmp_path.iterdir()) == before

import tempfile
from pathlib import Path
from typing import Any

import pytest

from model_material import tiny
from rgbt_fusion.export.agreement import ExportError
from rgbt_fusion.export.int8 import export_int8
from rgbt_fusion.export.onnx_file import export_onnx, need_onnx

try:
    need_onnx()
except (ModuleNotFoundError, ExportError) as error:
    pytest.skip(f"no ONNX here: {error}", allow_module_level=True)

import onnx


def test_int8_makes_the_file_smaller_and_says_what_it_costs(tmp_path: Path) -> None:
    model = tiny("two_stream_tiny_128", depth=1, dim=256)
    export_onnx(model, tmp_path / "step.onnx", batch=2)
    report = export_int8(model, tmp_path / "step.onnx", tmp_path / "int8.onnx", batch=2)
    weights = sum(
        p.numel() for block in model.backbone.blocks for p in block.parameters() if p.dim() == 2
    )
    saved = (tmp_path / "step.onnx").stat().st_size - report.size_bytes
    # three of four bytes, less the scales and the nodes that round
    assert saved == pytest.approx(3 * weights, rel=0.02)
    integers = [
        node for node in onnx.load(report.path).graph.node if node.op_type == "MatMulInteger"
    ]
    assert len(integers) == 4  # qkv, proj, fc1, fc2
    assert 1e-5 < report.errors["score_map"] < 0.1
    assert report.box.centre_px <= report.box.largest_centre_px
    assert report.steps == 8 and "int8 linear layers" in str(report)


def test_what_a_killed_conversion_leaves_lies_where_the_next_writer_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quantiser has folders of its own, which are made beside the file."""
    model = tiny("two_stream_tiny_128", depth=1)
    export_onnx(model, tmp_path / "step.onnx")
    made: list[Path] = []
    make = tempfile.mkdtemp

    def watched(*options: Any, **names: Any) -> str:
        made.append(Path(make(*options, **names)))
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", watched)
    before = tempfile.tempdir
    export_int8(model, tmp_path / "step.onnx", tmp_path / "int8.onnx")
    assert made
    for folder in made:
        assert folder.parent.name.endswith(".part")
        assert folder.parent.parent == tmp_path
        assert not folder.exists()
    assert tempfile.tempdir == before

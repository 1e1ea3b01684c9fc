import resource
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


def test_a_full_disk_is_not_called_a_fault_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quantiser writes without looking, and fails when it reads half a file."""
    from onnxruntime import quantization

    model = tiny("two_stream_tiny_128", depth=1)
    source = tmp_path / "step.onnx"
    export_onnx(model, source)
    (tmp_path / "int8.onnx").write_text("old")
    before = sorted(path.name for path in tmp_path.iterdir())

    def read_half(*_: Any, **__: Any) -> None:
        raise ValueError("Failed to find proper ai.onnx domain")

    monkeypatch.setattr(quantization, "quantize_dynamic", read_half)
    with pytest.raises(ExportError, match=r"source must be an ONNX file .* proper ai.onnx domain"):
        export_int8(model, source, tmp_path / "int8.onnx")

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (source.stat().st_size, limits[1]))
    try:
        with pytest.raises(ExportError, match=r"int8.onnx cannot be written: .*too large"):
            export_int8(model, source, tmp_path / "int8.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "int8.onnx").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == before

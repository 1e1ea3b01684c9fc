"""Any module with layers of the package leaves Python."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgbt_fusion import DFM, OFM, CandidateElimination, export_onnx, export_program
from rgbt_fusion.export.agreement import ExportError


class Neck(nn.Module):
    """A part of an own network with a layer of the package in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.fusion = DFM(16)

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        return self.fusion(self.embed(rgb), self.embed(tir)).fused


def case(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    torch.manual_seed(0)
    tokens = torch.randn(1, 12, 16)
    if name == "DFM":
        return DFM(16), (tokens, tokens.flip(1))
    if name == "OFM":
        return OFM(16, num_layers=2), ([tokens, tokens.flip(1)],)
    if name == "CandidateElimination":
        # scores with ties: the sort must be stable
        scores = torch.randint(0, 3, (1, 9)).float()
        return CandidateElimination(), (torch.randn(1, 12, 16), scores)
    return Neck(), (torch.randn(1, 12, 8), torch.randn(1, 12, 8))


NAMES = ("DFM", "OFM", "CandidateElimination", "Neck")


@pytest.mark.parametrize("name", NAMES)
def test_a_module_becomes_a_program(tmp_path: Path, name: str) -> None:
    module, inputs = case(name)
    report = export_program(module, inputs, tmp_path / "module.pt2")
    assert report.path.stat().st_size == report.size_bytes
    assert module.training
    assert max(report.errors.values()) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_module_becomes_onnx(tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module, inputs = case(name)
    report = export_onnx(module, inputs, tmp_path / "module.onnx")
    assert max(report.errors.values()) < 1e-4
    assert str(report).startswith(f"{report.path}: ")
    assert len(report.input_names) == 2


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"got Neck without template_size.*; give inputs to export"):
        export_program(Neck(), tmp_path / "x.pt2")
    with pytest.raises(TypeError, match="path must be the file to write, got none"):
        export_program(Neck(), (torch.zeros(1, 2, 8),))
    with pytest.raises(ExportError, match="inputs must hold tensors only, got int"):
        export_program(Neck(), (torch.zeros(1, 2, 8), 3), tmp_path / "x.pt2")

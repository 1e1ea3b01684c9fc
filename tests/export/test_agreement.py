from pathlib import Path

import pytest
import torch
from torch import Tensor

from rgbt_fusion.export.agreement import ExportError, agreement, published_when_complete
from rgbt_fusion.export.step import RecordedStep

BOX = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
STEP = RecordedStep(
    (), {"score_map": torch.zeros(1, 1, 2, 2), "box_cxcywh_unit": BOX, "next_a": torch.ones(1)}
)


def compared(path: Path, *found: dict[str, Tensor]):
    path.write_bytes(b"12345")
    answers = iter(found)
    steps = [STEP] * len(found)
    return agreement(path, lambda inputs: STEP.outputs | next(answers), steps, search_size=100)


def test_the_largest_difference_of_all_steps_counts(tmp_path: Path) -> None:
    off = torch.zeros(1, 1, 2, 2)
    off[0, 0, 1, 0] = -0.25
    report = compared(tmp_path / "file", {"score_map": off}, {}, {"next_a": torch.tensor([1.5])})
    assert report.errors == {"score_map": 0.25, "box_cxcywh_unit": 0.0, "next_a": 0.5}
    assert (report.steps, report.size_bytes) == (3, 5)


def test_a_box_is_compared_in_pixels_and_by_overlap(tmp_path: Path) -> None:
    moved = BOX + torch.tensor([[0.1, 0.0, 0.0, 0.0]])
    report = compared(tmp_path / "file", {"box_cxcywh_unit": moved}, {}, {})
    assert report.box.centre_px == 0
    assert report.box.largest_centre_px == pytest.approx(10)
    assert report.box.mean_iou == pytest.approx((1 / 3 + 2) / 3, abs=1e-5)


@pytest.mark.parametrize("wrong", [2e-4, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["score_map", "next_a"])
def test_what_rounding_does_not_explain_is_refused(tmp_path: Path, name: str, wrong: float) -> None:
    report = compared(tmp_path / "file", {}, {name: STEP.outputs[name] + wrong})
    with pytest.raises(ExportError, match=f"{name} of the exported step differs from PyTorch by"):
        report.refuse_beyond_tolerance()


def test_another_cell_with_the_same_score_is_not_refused(tmp_path: Path) -> None:
    report = compared(tmp_path / "file", {"box_cxcywh_unit": BOX + 0.3})
    report.refuse_beyond_tolerance()
    assert "box: median 42.43 px" in str(report)


def test_the_report_can_be_read(tmp_path: Path) -> None:
    lines = str(compared(tmp_path / "step.onnx", {})).splitlines()
    assert lines[0].endswith(
        "step.onnx: 0.0 MB, float32; largest differences from PyTorch on 1 synthetic steps"
    )
    assert lines[1].split() == ["score_map", "0.0e+00", "(at", "most", "1e-04)"]


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), published_when_complete(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with published_when_complete(path) as beside:
        assert beside.suffix == ".onnx"
        beside.write_text("new")
    assert path.read_text() == "new"
    with (
        pytest.raises(ExportError, match="cannot be written"),
        published_when_complete(tmp_path / "no" / "x.pt2") as beside,
    ):
        beside.write_text("x")

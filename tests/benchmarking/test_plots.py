import sys

import pytest

from benchmark_material import SCAN_ROWS, row
from rgbt_fusion.benchmarking.plots import draw_ratios


def test_a_picture_is_drawn(tmp_path):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("matplotlib")
    draw_ratios(SCAN_ROWS, tmp_path / "folder" / "plot.png")
    image = cv2.imread(str(tmp_path / "folder" / "plot.png"))
    assert image.shape[1] > 1000
    assert image.std() > 10


def test_nothing_to_draw_is_said(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="a plot needs rows with a baseline"):
        draw_ratios([row("alone", 1.0)], tmp_path / "plot.png")


def test_the_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rgbt-fusion\[tracking\]'"):
        draw_ratios(SCAN_ROWS, tmp_path / "plot.png")

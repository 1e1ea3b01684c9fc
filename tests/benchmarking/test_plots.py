import sys

import pytest

from benchmark_material import SCAN_ROWS, row
from rgbt_fusion.benchmarking.plots import draw

GROWTH = [
    row(label, 1.0 * tokens * layers, table="complexity", comparison=f"{tokens} {layers}", task="fusion",
        sizes={"B": 1, "L": tokens, "C": 768, "K": layers}, extra_bytes=1000 * tokens)
    for label in ("Mamba", "fused attention")
    for tokens, layers in ((80, 12), (320, 12), (320, 1))
]  # fmt: skip


@pytest.mark.parametrize(
    "rows", [SCAN_ROWS, GROWTH, [*SCAN_ROWS, *GROWTH]], ids=["bars", "growth", "both"]
)
def test_a_picture_is_drawn(rows, tmp_path):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("matplotlib")
    draw(rows, tmp_path / "folder" / "plot.png")
    image = cv2.imread(str(tmp_path / "folder" / "plot.png"))
    assert image.shape[1] > 1000
    assert image.std() > 10


def test_nothing_to_draw_is_said(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="a plot needs rows with a baseline"):
        draw([row("alone", 1.0)], tmp_path / "plot.png")


def test_the_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rgbt-fusion\[tracking\]'"):
        draw(SCAN_ROWS, tmp_path / "plot.png")

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared_material import shared

ROOT = Path(__file__).resolve().parents[2]


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_short_and_tested():
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    tests = Path(__file__).read_text()
    assert names
    assert all(name in tests for name in names)
    assert all(len((ROOT / "examples" / name).read_text().splitlines()) <= 70 for name in names)


@pytest.fixture(params=["made", "real"])
def pair(request, tmp_path):
    """A pair of image files: one made here, one real."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    if request.param == "real":
        rgb = sorted(shared("data/llvip/rgb").iterdir())[0]
        tir = sorted(shared("data/llvip/tir").iterdir())[0]
        return str(rgb), str(tir)
    rng = np.random.default_rng(0)
    paths = []
    for name in ("rgb.png", "tir.png"):
        image = rng.integers(0, 80, (200, 300, 3), dtype=np.uint8)
        cv2.circle(image, (150, 100), 40, (255, 255, 255), -1)
        paths.append(str(tmp_path / name))
        cv2.imwrite(paths[-1], image)
    return tuple(paths)


def test_01_writes_a_picture(pair, tmp_path):
    import cv2

    out = tmp_path / "fused.png"
    printed = run("01_fuse_two_streams.py", *pair, "--out", str(out), "--steps", "12")
    errors = [float(line.split()[-1]) for line in printed.splitlines() if line.startswith("step")]
    assert errors[-1] < errors[0]
    picture = cv2.imread(str(out))
    assert picture.shape == (256, 5 * 256, 3)
    assert all(panel.std() > 5 for panel in np.split(picture.astype(float), 5, axis=1))


def test_02_fuses_inside_a_backbone():
    assert "fused tokens (2, 256, 192)" in run("02_dfm_in_your_backbone.py")


def test_03_swaps_the_import():
    printed = run("03_swap_the_mamba_import.py")
    assert "(2, 320, 192) gradient" in printed
    assert "last state (2, 384, 16)" in printed


def test_04_tracks_two_folders(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    ground = np.random.default_rng(0).integers(0, 90, (90, 120, 3), dtype=np.uint8)
    for folder in ("rgb", "tir"):
        (tmp_path / folder).mkdir()
        for number in range(4):
            image = cv2.circle(ground.copy(), (40 + 2 * number, 50), 9, (250, 250, 250), -1)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    places = [str(tmp_path / name) for name in ("rgb", "tir", "out.mp4")]
    printed = run("04_track_your_video.py", *places[:2], "28", "38", "24", "24", "--out", places[2])
    assert printed.splitlines()[-1].startswith("3 34.0 38.0 24.0 24.0")
    assert (tmp_path / "out.mp4").stat().st_size > 1000


def test_05_is_a_network_that_tracks_untrained():
    printed = run("05_your_own_network.py")
    assert [line.split()[0] for line in printed.splitlines()] == ["0", "1", "2"]


def test_06_trains_in_a_loop_of_its_own(tmp_path):
    out = tmp_path / "own.safetensors"
    printed = run(
        "06_your_own_training_loop.py", "--steps", "21", "--batch", "2", "--out", str(out)
    )
    assert printed.splitlines()[-1].startswith("step   20  loss")
    assert out.is_file()


def test_10_trains_the_detector_on_eight_pairs():
    # 08_detector_network.py and 09_detector_score.py are its parts
    printed = run("10_train_the_detector.py", "--steps", "40")
    first, last, ap50 = (float(x.strip(",")) for x in printed.split() if x[0].isdigit())
    assert last < first / 5
    assert ap50 > 0.9


# 07_track_without_torch.py is run by test_own_network.py, which exports the file that it reads

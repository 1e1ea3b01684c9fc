"""Trackers side by side on folders of sequences."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")

import cv2

from benchmarks.real_sequences import (
    OneModalityTracker,
    Row,
    mean_success,
    open_groups,
    rows,
    table,
)
from rgbt_fusion import create_model
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.weights.checkpoints import save_checkpoint


class Drifting:
    """In the place of a tracker of OpenCV: one pixel to the right a frame, lost in the third."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def init(self, image, box):
        self.seen.append(image)
        self.box = box

    def update(self, image):
        self.seen.append(image)
        x, *rest = self.box
        self.box = [x + 1, *rest]
        return len(self.seen) != 3, tuple(self.box)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two sequences in the layout of RGBT234, a square that moves one pixel a frame."""
    for name in ("first", "second"):
        random = np.random.default_rng(len(name))
        ground = random.integers(0, 90, (90, 120, 3), dtype=np.uint8)
        square = random.integers(90, 255, (20, 20, 3), dtype=np.uint8)
        for place in ("visible", "infrared"):
            (tmp_path / name / place).mkdir(parents=True)
            for number in range(4):
                image = ground.copy()
                image[30:50, 40 + number : 60 + number] = square
                cv2.imwrite(str(tmp_path / name / place / f"{number:04}.png"), image)
            boxes = [f"{40 + number},30,20,20" for number in range(4)]
            (tmp_path / name / f"{place}.txt").write_text("\n".join(boxes))
        (tmp_path / name / "init.txt").write_text("40,30,20,20")
    return tmp_path


def test_a_tracker_of_opencv_gets_colours_in_its_order_or_the_thermal_image():
    tracker = OneModalityTracker(Drifting)
    rgb = np.zeros((9, 9, 3), np.uint8)
    rgb[..., 0] = 7
    tracker.init(rgb, None, (1.4, 2.6, 3, 4))
    assert tracker.tracker.box == [1, 3, 3, 4]
    assert tracker.tracker.seen[0][0, 0].tolist() == [0, 0, 7]
    first = tracker.update(None, rgb[..., 0])
    assert tracker.tracker.seen[1].shape == (9, 9, 3)
    assert tracker.tracker.seen[1][0, 0].tolist() == [7, 7, 7]
    assert first.box_xywh_px.tolist() == [2, 3, 3, 4]
    second = tracker.update(rgb, None)
    assert second.lost
    assert second.box_xywh_px.tolist() == [2, 3, 3, 4]
    assert second.frame == 2


def test_opencv_is_not_given_16_bits():
    with pytest.raises(ValueError, match="tir must be 8-bit for a tracker of OpenCV, got uint16"):
        OneModalityTracker(Drifting).init(None, np.zeros((9, 9), np.uint16), (1, 2, 3, 4))


def test_groups_of_one_name_are_joined(folder):
    groups = open_groups([f"rgbt234={folder}", f"tir:rgbt234={folder}", f"rgbt234={folder}"])
    assert {name: len(group.sequences) for name, group in groups.items()} == {
        "rgbt234": 4,
        "tir:rgbt234": 2,
    }
    assert [group.shown for group in groups.values()] == ["both", "tir"]


def test_a_modality_that_is_none_is_refused(folder):
    with pytest.raises(ValueError, match="--data must be"):
        open_groups([f"depth:rgbt234={folder}"])


def test_success_of_each_tracker_where_it_has_what_it_is_shown(folder):
    groups = open_groups([f"rgbt234={folder}", f"tir:rgbt234={folder}"])
    matching = [Row("matching", NCCTracker, shown) for shown in ("both", "tir", "rgb")]
    found = [[mean_success(row, group) for group in groups.values()] for row in matching]
    best = pytest.approx(20 / 21)  # no overlap exceeds 1
    assert found == [[best, best], [best, best], [best, None]]


def test_the_table_has_csrt_where_this_opencv_has_it(tmp_path, folder, monkeypatch):
    weights = tmp_path / "network.safetensors"
    save_checkpoint(create_model("ainet_tiny_128"), weights)
    monkeypatch.delattr(cv2, "TrackerCSRT", raising=False)
    assert len(rows(weights)) == 4

    class CSRT:
        create = Drifting

    monkeypatch.setattr(cv2, "TrackerCSRT", CSRT, raising=False)
    made = table(weights, open_groups([f"rgbt234={folder / '.'}"]))
    assert made.header == ("success", "rgbt234 (2)")
    assert [line[0] for line in made.rows][3:] == [
        "template matching",
        "CSRT, thermal",
        "CSRT, colour",
    ]

"""What the tests of running trackers share: a small dataset on disk, and a tracker that any process
can make."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.tracking.tracker import TrackResult


def write_dataset(root: Path, lengths: dict[str, int], layout: str = "rgbt234") -> Path:
    """Write noise in a layout, with boxes that move a pixel a frame."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    generator = np.random.default_rng(0)
    for name, length in lengths.items():
        row = LAYOUTS[layout].of(name)
        place = root / name / (row.views[0] if row.views else "")
        for folder in (*row.rgb[:1], *row.tir[:1]):
            (place / folder).mkdir(parents=True, exist_ok=True)
            for k in range(length):
                image = generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)
                cv2.imwrite(
                    str(place / folder / f"{k:03d}.png"),
                    image if folder in row.rgb else image[:, :, 0],
                )
        boxes = np.array([20.0, 15, 12, 10]) + np.arange(length)[:, None] * [1, 0, 0, 0]
        if row.box_format == "xyxy":
            boxes[:, 2:] += boxes[:, :2]
        for file in (*row.truth[:1], *row.truth_tir[:1]):
            if file.endswith(".json"):
                (place / file).write_text(json.dumps({"gt_rect": boxes.tolist()}))
                continue
            np.savetxt(place / file, boxes[:: row.annotated_every], delimiter=",", fmt="%g")
        if row.truth_folder:
            truths = root.parent / row.truth_folder
            truths.mkdir(exist_ok=True)
            np.savetxt(truths / f"{name}.txt", boxes, delimiter=",", fmt="%g")
    return root


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Drift:
    """A tracker whose box moves with the brightness of the images: any two frames that differ give
    other boxes.

    ``fails``, ``dies`` and ``stops`` are the frame's first pixel at which it raises, takes its
    process along, or has it stopped as a debugger would.
    """

    def __init__(self, fails: int = -1, dies: int = -1, stops: int = -1) -> None:
        self.fails, self.dies, self.stops = fails, dies, stops
        self.box = np.zeros(4)
        self.frame = 0

    def init(self, rgb, tir, box_xywh_px):
        self.box, self.frame = np.array(box_xywh_px, dtype=np.float64), 0
        return TrackResult(self.box, 1.0, False, 0)

    def update(self, rgb, tir):
        if rgb[0, 0, 0] == self.fails:
            raise RuntimeError("the tracker\nfell over")
        if rgb[0, 0, 0] == self.dies:
            os._exit(9)
        if rgb[0, 0, 0] == self.stops:
            os.kill(os.getpid(), signal.SIGSTOP)
        self.frame += 1
        self.box = self.box + np.array((rgb.mean() - 127, tir.mean() - 127, 0.1, -0.1))
        return TrackResult(self.box, float(rgb[0, 0, 1]) / 255, False, self.frame)


def broken_tracker():
    """Stand for a tracker whose weights are missing."""
    raise ValueError("checkpoint must be a file, got nothing")


def deadly_tracker():
    """Stand for a tracker that takes its process along."""
    os._exit(3)

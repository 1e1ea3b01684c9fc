"""The tracker in the box on thermal frames of 16 bits, disturbed as thermal cameras disturb them.

``RGBT_FUSION_DISTURBED=10`` takes ten sequences of 40 frames in place of two of 16.
"""

import os

import numpy as np
import pytest

from rgbt_fusion import Tracker, create_model
from rgbt_fusion.evaluation.metrics import overlap
from rgbt_fusion.synthetic.world import SyntheticSequence

pytest.importorskip("cv2", reason="OpenCV is not installed")

MANY = int(os.environ.get("RGBT_FUSION_DISTURBED", "0"))
SEQUENCES = MANY or 2
FRAMES = 40 if MANY else 16


def counts(tir: np.ndarray) -> np.ndarray:
    """A frame in hundredths of a kelvin, as a radiometric camera counts."""
    return 29_000 + tir.astype(np.float32) / 255 * 1200


def calibrated(tir: np.ndarray, frame: int) -> np.ndarray:
    """The level jumps, as after the calibration of a shutter."""
    return counts(tir) + (1500 if frame >= 8 else 0)


def warming(tir: np.ndarray, frame: int) -> np.ndarray:
    """The camera warms up."""
    return counts(tir) + 40 * frame


def barred(tir: np.ndarray, frame: int) -> np.ndarray:
    """Saturated rows, or a status bar."""
    values = counts(tir)
    values[:12] = 65_535
    return values


def shut(tir: np.ndarray, frame: int) -> np.ndarray:
    """The shutter is closed at the first frame."""
    return counts(tir) if frame else np.full_like(counts(tir), 29_500)


def mean_overlap(tracker: Tracker, disturbed) -> float:
    found = []
    for seed in range(200, 200 + SEQUENCES):
        sequence = SyntheticSequence(seed, frames=FRAMES, challenge="night", held_out=True)
        for number, (rgb, tir) in enumerate(sequence):
            assert rgb is not None
            assert tir is not None
            seen = disturbed(tir, number).astype(np.uint16)
            if number == 0:
                tracker.init(rgb, seen, sequence.truth.rgb[0])
                continue
            box = tracker.update(rgb, seen).box_xywh_px
            found.append(overlap(box[None], sequence.truth.rgb[number][None], inclusive=False)[0])
    return float(np.mean(found))


def test_no_disturbance_costs_more_than_three_hundredths_of_overlap():
    tracker = Tracker(create_model("ainet_tiny_128", pretrained=True))
    undisturbed = mean_overlap(tracker, lambda tir, frame: counts(tir))
    for disturbed in (calibrated, warming, barred, shut):
        reached = mean_overlap(tracker, disturbed)
        assert reached > undisturbed - 0.03, disturbed.__name__

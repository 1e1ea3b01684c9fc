"""The network in the box on thermal frames of 16 bits, disturbed as thermal cameras disturb them.

The limits are for boxes as in the paper: the subject is what becomes of the values. With the
settings that the weights come with, every disturbance must be tracked better than with those.

``RGBT_FUSION_DISTURBED=10`` takes ten sequences of 40 frames in place of four of 16.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest

from rgbt_fusion import Tracker, create_model
from rgbt_fusion.evaluation.metrics import overlap
from rgbt_fusion.synthetic.world import SyntheticSequence

pytest.importorskip("cv2", reason="OpenCV is not installed")

MANY = int(os.environ.get("RGBT_FUSION_DISTURBED", "0"))
SEQUENCES = MANY or 4
FRAMES = 40 if MANY else 16

FIRST_SEED = 202
"""The targets of 200 and 201 are at the brink without any disturbance: luck keeps or loses them."""

Disturbance: TypeAlias = Callable[[np.ndarray, int], np.ndarray]


def counts(tir: np.ndarray) -> np.ndarray:
    """A frame in hundredths of a kelvin, as a radiometric camera counts."""
    return 29_000 + tir.astype(np.float32) / 255 * 1200


def undisturbed(tir: np.ndarray, frame: int) -> np.ndarray:
    return counts(tir)


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


def shut_later(tir: np.ndarray, frame: int) -> np.ndarray:
    """The shutter closes for three frames in the middle."""
    return np.full_like(counts(tir), 29_500) if 9 <= frame < 12 else counts(tir)


def hot(tir: np.ndarray, frame: int) -> np.ndarray:
    """Something much hotter comes in from a corner: a flame, the sun."""
    values = counts(tir)
    if frame >= 6:
        values[:20, :30] = 60_000
    return values


def dead(tir: np.ndarray, frame: int) -> np.ndarray:
    """Pixels that always count nothing, and others that always count all they can."""
    values = counts(tir)
    values[::17, ::23] = 0
    values[5::19, 7::29] = 65_535
    return values


def widened(tir: np.ndarray, frame: int) -> np.ndarray:
    """The camera changes to a range in which a kelvin is a tenth of the counts."""
    return counts(tir) if frame < 8 else 20_000 + (counts(tir) - 29_000) / 10


DISTURBANCES = (undisturbed, calibrated, warming, barred, shut, hot, dead, widened)


def overlaps(tracker: Tracker, disturbances: Sequence[Disturbance]) -> dict[str, np.ndarray]:
    """Return the mean overlaps of each disturbance, one per sequence.

    Each picture is drawn once for all of them.
    """
    found: dict[str, list[float]] = {one.__name__: [] for one in disturbances}
    for seed in range(FIRST_SEED, FIRST_SEED + SEQUENCES):
        sequence = SyntheticSequence(seed, frames=FRAMES, challenge="night", held_out=True)
        pictures = list(sequence)
        for disturbed in disturbances:
            reached = []
            for number, (rgb, tir) in enumerate(pictures):
                assert rgb is not None
                assert tir is not None
                truth = sequence.truth.rgb[number]
                seen = disturbed(tir, number).astype(np.uint16)
                if number == 0:
                    tracker.init(rgb, seen, truth)
                    continue
                box = tracker.update(rgb, seen).box_xywh_px
                reached.append(float(overlap(box[None], truth[None], inclusive=False)[0]))
            found[disturbed.__name__].append(float(np.mean(reached)))
        print(seed, {name: round(means[-1], 3) for name, means in found.items()})
    return {name: np.array(means) for name, means in found.items()}


def largest_loss(found: dict[str, np.ndarray]) -> float:
    """Return what the worst disturbance costs a typical sequence, the median one."""
    return max(float(np.median(found["undisturbed"] - means)) for means in found.values())


def paper_tracker(**options: Any) -> Tracker:
    """A tracker whose boxes are what the network says."""
    model = create_model("ainet_tiny_128", pretrained=True)
    model.tracking_settings = None
    return Tracker(model, **options)


def test_no_disturbance_costs_more_than_three_hundredths_of_overlap():
    tracker = paper_tracker()
    found = overlaps(tracker, DISTURBANCES if MANY else DISTURBANCES[:5])
    assert largest_loss(found) < 0.03, found


def test_boxes_that_hold_are_better_in_every_disturbance():
    chosen = DISTURBANCES if MANY else DISTURBANCES[:5]
    held = overlaps(Tracker(create_model("ainet_tiny_128", pretrained=True)), chosen)
    plain = overlaps(paper_tracker(), chosen)
    assert all(held[name].mean() > plain[name].mean() for name in plain), (held, plain)


def test_the_last_image_stands_in_where_a_shutter_closes_at_night():
    tracker = paper_tracker(missing="last")
    found = overlaps(tracker, (undisturbed, shut_later))
    assert largest_loss(found) < 0.03, found

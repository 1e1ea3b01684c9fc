"""Result files that hold corners or fractions are told, and sound ones are not."""

import numpy as np
import pytest

from rgbt_fusion.evaluation.hints import result_hint
from rgbt_fusion.evaluation.results import StoredTrack
from rgbt_fusion.frames.types import GroundTruth

BOXES = np.array([[100.0, 80, 40, 60], [104, 82, 40, 60], [108, 84, 40, 60]])
TRUTH = {"car": GroundTruth(BOXES, BOXES, np.arange(3))}


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        (np.concatenate((BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]), axis=1), "two corners"),
        (BOXES / 640, "fractions of the image"),
        (BOXES + 0.5, None),
        (BOXES + 300, None),
        (np.full((3, 4), np.nan), None),
    ],
    ids=["corners", "fractions", "good", "far away", "nothing found"],
)
def test_other_numbers_than_boxes_in_pixels_are_told(written, hint):
    told = result_hint({"car": StoredTrack(written)}, TRUTH)
    assert told is hint is None or (told is not None and hint is not None and hint in told)


def test_decimal_commas_that_make_eight_numbers_are_told():
    eight = np.stack((np.floor(BOXES), np.full_like(BOXES, 50)), axis=2).reshape(3, 8)
    track = StoredTrack(np.zeros((3, 4)), corners=True, written_corners=eight)
    assert "decimal commas" in str(result_hint({"car": track}, TRUTH))

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


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_four_corners_that_are_meant_are_no_decimal_commas(shift):
    """Near the target or far from it: read as numbers with commas they would fit no better."""
    left, top = BOXES[:, 0] + shift, BOXES[:, 1] + shift
    right, bottom = left + BOXES[:, 2], top + BOXES[:, 3]
    eight = np.stack((left, top, right, top, right, bottom, left, bottom), axis=1)
    track = StoredTrack(np.add(BOXES, [shift, shift, 0, 0]), corners=True, written_corners=eight)
    assert result_hint({"car": track}, TRUTH) is None

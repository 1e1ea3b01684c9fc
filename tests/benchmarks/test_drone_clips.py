"""Tight boxes of small objects before a smooth sky."""

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")

from benchmarks.drone_clips import KEPT_APART, NO_BOX, steadied, tightened


def sky(*, noise: float = 1.0) -> np.ndarray:
    """A sky that grows brighter downwards."""
    level = 90 + np.arange(120)[:, None] / 4 + np.zeros((1, 160))
    return level + np.random.default_rng(0).normal(0, noise, level.shape)


def test_a_loose_box_is_tightened():
    image = sky()
    image[50:58, 70:90] += 80
    tight = tightened(image.astype(np.uint8), np.array([60.0, 42, 40, 26]))
    assert tight is not None
    assert tight.tolist() == [70, 50, 20, 8]


def test_a_dark_object_is_tightened_as_well():
    image = sky()
    image[50:60, 70:84] -= 60
    tight = tightened(image.astype(np.uint8), np.array([62.0, 44, 34, 24]))
    assert tight is not None
    assert tight.tolist() == [70, 50, 14, 10]


@pytest.mark.parametrize(
    ("contrast", "box"),
    [
        (0, (60, 42, 40, 26)),  # nothing to see
        (80, (0, 42, 40, 26)),  # at the edge of the image
        (80, (60, 42, 4, 3)),  # too small
        (80, (76, 52, 7, 5)),  # within the object
    ],
)
def test_what_is_not_clear_has_no_box(contrast, box):
    image = sky()
    image[50:58, 70:90] += contrast
    assert tightened(image.astype(np.uint8), np.array(box, dtype=float)) is None


def test_sizes_are_steadied_and_outliers_dropped():
    track = np.tile([50.0, 40.0, 20.0, 10.0], (9, 1))
    track[2] = [49, 40, 22, 10]
    track[5] = [30, 30, 60, 30]
    track[7] = NO_BOX
    steady = steadied(track)
    assert steady[2].tolist() == [50, 40, 20, 10]
    assert np.isnan(steady[5]).all()
    assert np.isnan(steady[7]).all()
    assert steady[0].tolist() == [50, 40, 20, 10]


def test_tiny_boxes_are_dropped():
    assert np.isnan(steadied(np.tile([50.0, 40.0, 6.0, 5.0], (9, 1)))).all()


def test_the_clips_that_judge_are_kept_apart():
    assert len(set(KEPT_APART)) == 8
    assert "IR_AIRPLANE_066" in KEPT_APART

"""From a rough placement to a fraction of a pixel."""

import numpy as np
import pytest

from alignment_material import SIZE, known_matrix, plane_pair, window
from rgbt_fusion.alignment.geometry import distance
from rgbt_fusion.alignment.refinement import MODELS, Fit, Level

ROUGH = np.array([[1, 0, 5.0], [0, 1, -4.0], [0, 0, 1]])
"""About six pixels off."""


@pytest.mark.parametrize("model", MODELS)
def test_a_rough_placement_becomes_exact(model):
    true = known_matrix()
    level = Level([plane_pair(1, true)], 200)
    fit = level.refine(ROUGH @ true, model, steps=20)
    assert distance(true, fit.tir_from_rgb, SIZE) * SIZE[0] < 0.5
    assert fit.correlation > 0.8


def test_no_step_makes_a_placement_worse():
    true = known_matrix()
    level = Level([plane_pair(1, true)], 112)
    before = level.refine(true, "similarity", steps=0)
    after = level.refine(true, "similarity", steps=5)
    assert after.correlation >= before.correlation


def test_only_a_part_of_the_image_may_be_used():
    true = known_matrix()
    pair = plane_pair(1, true)
    pair.rgb[:, :160] = 0
    level = Level([pair], 200)
    right = level.x > 0.1
    fit = level.refine(ROUGH @ true, "similarity", steps=20, part=right)
    assert distance(true, fit.tir_from_rgb, SIZE) * SIZE[0] < 0.7
    assert fit.overlap < 0.5


def test_agreement_in_one_corner_has_little_support():
    whole = plane_pair(1, np.eye(3))
    corner = plane_pair(1, np.eye(3))
    for plane in corner:
        plane[80:] = 0
        plane[:, 100:] = 0
    everywhere = Level([whole], 200).support(np.eye(3))
    # a ninth of the image
    assert 20 * 15 / 3 < everywhere < 20 * 15
    assert Level([corner], 200).support(np.eye(3)) < everywhere / 4
    assert Level([corner], 200).support(window(-200, -200)) < 1


def test_placements_without_overlap_come_back_as_they_were():
    far = np.array([[1, 0, 5000.0], [0, 1, 0], [0, 0, 1]])
    fit = Level([plane_pair(1, np.eye(3))], 112).refine(far, "affine", steps=5)
    np.testing.assert_allclose(fit.tir_from_rgb, far)
    assert fit.overlap == 0


def test_a_small_overlap_must_fit_better():
    assert Fit(np.eye(3), 0.5, 1.0).strength > Fit(np.eye(3), 0.5, 0.3).strength
    assert Fit(np.eye(3), -0.5, 1.0).strength == 0

"""Every placement at once."""

import numpy as np

from alignment_material import SIZE, known_matrix, plane_pair
from rgbt_fusion.alignment.geometry import distance
from rgbt_fusion.alignment.search import search


def test_the_best_placement_is_near_the_true_one():
    true = known_matrix()
    first, *others = search([plane_pair(1, true)], count=4)
    assert distance(true, first.tir_from_rgb, SIZE) < 0.03
    assert all(first.score >= other.score for other in others)
    assert len(others) == 3


def test_placements_are_distinct():
    found = search([plane_pair(2, np.eye(3))], count=6)
    for number, one in enumerate(found):
        for other in found[:number]:
            assert distance(other.tir_from_rgb, one.tir_from_rgb, SIZE) > 0.03

"""Every placement at once."""

import numpy as np

from alignment_material import SIZE, known_matrix, plane_pair
from rgbt_fusion.alignment.geometry import distance, similarity
from rgbt_fusion.alignment.search import search
from rgbt_fusion.frames.drawing import map_points


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


def test_every_placement_of_a_wide_thermal_image_overlaps():
    wide = similarity(0.5, 0.0, (160.0, 120.0), (175.0, 118.0))
    pair = plane_pair(1, wide)
    found = search([pair], count=8)
    assert distance(wide, found[0].tir_from_rgb, SIZE) < 0.03
    for placement in found:
        middle = map_points(np.array([[160.0, 120.0]]), placement.tir_from_rgb)[0]
        assert -80 < middle[0] < 400
        assert -60 < middle[1] < 300

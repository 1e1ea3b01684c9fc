"""The placement that fits best, and by how much it is ahead."""

import numpy as np
import pytest

from alignment_material import SIZE, known_matrix, plane_pair
from rgbt_fusion.alignment.geometry import distance
from rgbt_fusion.alignment.registration import register
from rgbt_fusion.alignment.search import PlanePair


@pytest.mark.parametrize("model", ["similarity", "homography"])
def test_the_right_placement_is_far_ahead(model):
    found = register([plane_pair(1, known_matrix())], model)
    assert found is not None
    assert distance(known_matrix(), found.fit.tir_from_rgb, SIZE) * SIZE[0] < 0.5
    assert found.margin > 0.2
    assert found.disagreement < 0.005


def test_a_pattern_that_repeats_is_not_ahead():
    columns, rows = np.meshgrid(np.arange(320) // 20 % 2, np.arange(240) // 20 % 2)
    board = np.where(columns ^ rows, 200, 50).astype(np.float32)
    found = register([PlanePair(board, board)], "similarity")
    assert found is not None
    assert found.margin < 0.05

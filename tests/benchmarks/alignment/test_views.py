"""Drawn views and the matrix between them."""

import cv2
import numpy as np
import pytest

from benchmarks.alignment.views import Clip, corner_error, draw_case, late_case
from rgbt_fusion.alignment.geometry import local_scale


@pytest.fixture
def clip():
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    frame = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
    return Clip("noise", [frame] * 4, [frame[:, :, 1]] * 4)


def test_the_matrix_takes_one_view_to_the_other(clip):
    case = draw_case(clip, [0], 160, np.random.default_rng(1))
    warped = cv2.warpPerspective(
        case.tir[0], case.tir_from_rgb, (160, 120), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    seen = cv2.warpPerspective(
        np.ones((120, 160), dtype=np.uint8),
        case.tir_from_rgb,
        (160, 120),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
    )
    inside = cv2.erode(seen, np.ones((5, 5), dtype=np.uint8)) > 0
    difference = np.abs(warped.astype(float) - case.rgb[0][:, :, 1])[inside]
    assert inside.mean() > 0.1
    assert difference.mean() < 5


def test_views_differ_by_the_scale_that_is_told(clip):
    generator = np.random.default_rng(2)
    for _ in range(5):
        case = draw_case(clip, [0], 160, generator)
        assert local_scale(case.tir_from_rgb, 80, 60) == pytest.approx(case.scale, rel=0.1)
        assert 0.5 <= case.scale <= 2


def test_the_error_of_the_truth_is_nothing(clip):
    case = draw_case(clip, [0], 160, np.random.default_rng(3))
    assert corner_error(case.tir_from_rgb, case) < 1e-6
    moved = np.array([[1, 0, 3.0], [0, 1, 4.0], [0, 0, 1]]) @ case.tir_from_rgb
    assert corner_error(moved, case) > 1


@pytest.mark.parametrize("offset", [-2, 0, 1])
def test_a_late_case_pairs_other_moments(clip, offset):
    case = draw_case(clip, range(4), 64, np.random.default_rng(4))
    numbers = [np.full(1, number) for number in range(4)]
    late = late_case(case._replace(rgb=numbers, tir=numbers), offset)
    assert len(late.rgb) == len(late.tir) == 4 - abs(offset)
    for time, frame in enumerate(late.rgb):
        if 0 <= time + offset < len(late.tir):
            assert late.tir[time + offset] == frame

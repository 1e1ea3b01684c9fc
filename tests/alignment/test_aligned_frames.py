"""Pairs of frames as if one camera had taken both."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from alignment_material import SIZE, draw_scene, see, window
from rgbt_fusion.alignment.aligned_frames import (
    AlignedFrames,
    AlignmentWarning,
    DriftFollower,
    lay_on_colour,
    same_moments,
)
from rgbt_fusion.alignment.estimate import Alignment
from rgbt_fusion.alignment.geometry import distance
from rgbt_fusion.frames.types import FramePair, GroundTruth

SHIFT = np.array([[1.0, 0, 2], [0, 1, 0], [0, 0, 1]])
KNOWN = Alignment(SHIFT, 0.0, 1.0, True, 1.0, 1.0, "")


class Recorded(list):
    """A sequence with a name and annotations."""

    name = "walk"
    truth = GroundTruth(np.zeros((1, 4)), np.ones((1, 4)), np.arange(1))


def numbered(count):
    """Pairs whose values say their number."""
    rgb = np.zeros((2, 4, 3), dtype=np.uint8)
    return Recorded(
        FramePair(rgb + number, np.full((2, 4), number, dtype=np.uint8)) for number in range(count)
    )


@pytest.mark.parametrize(
    ("offset", "partners"),
    [(0, [0, 1, 2, 3]), (1, [1, 2, 3, None]), (-2, [None, None, 0, 1])],
)
def test_a_thermal_frame_is_paired_with_the_colour_frame_of_its_moment(offset, partners):
    source = numbered(4)
    found = [(rgb[0, 0, 0], tir if tir is None else tir[0, 0])
             for rgb, tir in same_moments(source, offset)]  # fmt: skip
    assert found == list(enumerate(partners))
    aligned = AlignedFrames(source, replace(KNOWN, offset_frames=offset + 0.2))
    for number, partner in enumerate(partners):
        in_order = list(aligned)[number].tir
        picked = aligned[number].tir
        for tir in (in_order, picked):
            assert (None if tir is None else tir[0, 0]) == partner


def test_the_thermal_frame_is_laid_on_the_colour_frame():
    tir = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert lay_on_colour(tir, SHIFT, (2, 5)).tolist() == [[2, 3, 0, 0, 0], [6, 7, 0, 0, 0]]
    assert lay_on_colour(tir.astype(np.uint16), SHIFT, (2, 4)).dtype == np.uint16


def test_a_missing_modality_stays_missing():
    tir = np.ones((2, 4), dtype=np.uint8)
    rgb = np.ones((2, 4, 3), dtype=np.uint8)
    first, second, third = AlignedFrames([(rgb, None), (None, tir), (None, None)], KNOWN)
    assert first.tir is None
    assert second.rgb is None
    assert second.tir is not None
    assert third == (None, None)


def test_the_rest_of_a_source_shows_through():
    aligned = AlignedFrames(numbered(3), KNOWN)
    assert aligned.name == "walk"
    assert len(aligned) == 3
    assert aligned.truth is not None
    np.testing.assert_array_equal(aligned.truth.tir, aligned.truth.rgb)
    with pytest.raises(AttributeError, match="colour"):
        aligned.colour  # noqa: B018


def test_another_process_gets_a_copy():
    copy = pickle.loads(pickle.dumps(AlignedFrames(numbered(2), KNOWN)))
    assert len(list(copy)) == 2


def test_what_is_not_sure_stays_as_it_is_with_a_warning():
    source = Recorded(
        [FramePair(np.zeros((48, 64, 3), dtype=np.uint8), np.zeros((48, 64), dtype=np.uint8))]
    )
    aligned = AlignedFrames(source)
    with pytest.warns(AlignmentWarning, match="walk stays unaligned: too little in common"):
        (pair,) = aligned
    assert pair.tir is source[0].tir
    # said once
    assert aligned[0].tir is source[0].tir
    np.testing.assert_array_equal(aligned.truth.tir, Recorded.truth.tir)


def test_a_slow_drift_is_followed_and_a_jump_is_not():
    scene = draw_scene(1)
    rgb = see(scene.rgb, window(160, 120))
    matrix = np.eye(3)
    follower = DriftFollower(replace(KNOWN, tir_from_rgb=matrix))
    for frame in range(40):
        drift = 0.2 * frame
        matrix = follower.update(rgb, see(scene.tir, window(160 - drift, 120)))
    drifted = np.array([[1, 0, 0.2 * 38], [0, 1, 0], [0, 0, 1]])
    assert distance(drifted, matrix, SIZE) * SIZE[0] < 1
    after = matrix
    for _ in range(10):
        after = follower.update(rgb, see(scene.tir, window(60, 60)))
    assert distance(matrix, after, SIZE) < 0.03

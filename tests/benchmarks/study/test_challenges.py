"""The cameras are as far apart as a challenge says, and an empty modality is black."""

import pickle

import numpy as np
import pytest

from benchmarks.study.challenges import (
    IMPERFECT_CAMERAS,
    SHIFTS,
    challenge_of,
    study_sequences,
)
from rgbt_fusion.alignment.aligned_frames import AlignedFrames
from rgbt_fusion.evaluation.held_out import HARD, held_out_sequences
from rgbt_fusion.frames.drawing import map_points
from rgbt_fusion.synthetic.world import SyntheticSequence


def centres(boxes):
    return boxes[:, :2] + boxes[:, 2:] / 2


@pytest.mark.parametrize(("challenge", "factor"), SHIFTS.items())
def test_cameras_are_so_many_times_as_far_apart_as_in_the_world(challenge, factor):
    (sequence,) = study_sequences([challenge], sequences=1, frames=9)[challenge]
    world = SyntheticSequence(4000, frames=9, challenge="misalignment", held_out=True)
    assert sequence.name == f"synthetic_{challenge}_4000"
    for index in range(9):
        shift, zoom = world.plan.tir_view(index)
        assert np.hypot(*shift) > 5
        own_shift, own_zoom = sequence.plan.tir_view(index)
        assert own_shift == pytest.approx(factor * shift)
        assert own_zoom == zoom
    # the colour camera stays, and the thermal boxes follow the shift of the thermal camera
    assert np.array_equal(sequence.truth.rgb, world.truth.rgb)
    shifts = np.array([world.plan.tir_view(index)[0] for index in range(9)])
    moved = centres(world.truth.tir) - centres(sequence.truth.tir)
    assert moved == pytest.approx((factor - 1) * shifts / world.plan.tir_zoom)


def test_alignment_lays_the_largest_shift_back():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    (sequence,) = study_sequences(["misalignment_x5"], sequences=1, frames=4)["misalignment_x5"]
    apart = np.linalg.norm(centres(sequence.truth.rgb) - centres(sequence.truth.tir), axis=1)
    assert apart.min() > 25
    aligned = AlignedFrames(sequence)
    found = aligned.alignment()
    assert found.sure
    there = map_points(centres(sequence.truth.rgb), found.tir_from_rgb)
    assert np.linalg.norm(there - centres(sequence.truth.tir), axis=1).max() < 3
    # the frames themselves: the thermal target now lies in its colour box
    plain = SyntheticSequence(4000, frames=4, challenge="none", held_out=True)
    left, top, width, height = plain.truth.rgb[0].astype(int)

    def target(frames):
        _, tir = frames[0]
        return tir[top : top + height, left : left + width].astype(float).ravel()

    expected = target(plain)
    assert np.corrcoef(expected, target(aligned))[0, 1] > 0.8
    assert np.corrcoef(expected, target(sequence))[0, 1] < 0.5


@pytest.mark.parametrize("modality", ["rgb", "tir"])
def test_an_empty_modality_is_black(modality):
    name = f"empty_{modality}"
    (sequence,) = study_sequences([name], sequences=1, frames=4)[name]
    (whole,) = held_out_sequences(["none"], sequences=1, frames=4)["none"]
    other = "tir" if modality == "rgb" else "rgb"
    assert (len(sequence), sequence.size, sequence.kind) == (4, whole.size, "thermal")
    assert np.array_equal(sequence.truth.rgb, whole.truth.rgb)
    shown = list(sequence)
    # a tracker starts on a whole frame
    assert np.array_equal(getattr(shown[0], modality), getattr(whole[0], modality))
    for index in (1, 2, 3):
        assert np.array_equal(getattr(shown[index], other), getattr(whole[index], other))
        image = getattr(shown[index], modality)
        seen = getattr(whole[index], modality)
        assert (image.shape, image.dtype) == (seen.shape, seen.dtype)
        assert not image.any()
        assert seen.any()
    assert not getattr(sequence[-1], modality).any()
    assert getattr(sequence[-4], modality).any()
    assert np.array_equal(
        getattr(pickle.loads(pickle.dumps(sequence))[1], modality), getattr(shown[1], modality)
    )


def test_every_challenge_has_sequences_of_its_own():
    groups = study_sequences(IMPERFECT_CAMERAS, sequences=2, frames=3)
    assert tuple(groups) == IMPERFECT_CAMERAS
    assert set(HARD) < set(IMPERFECT_CAMERAS)
    names = [one.name for members in groups.values() for one in members]
    assert len(set(names)) == len(names) == 2 * len(IMPERFECT_CAMERAS)
    for challenge, members in groups.items():
        assert {challenge_of(one.name) for one in members} == {challenge}
    # those of the world are the ones that 0.1.0 was scored on
    known = held_out_sequences(sequences=2, frames=3)
    for challenge in HARD:
        assert [one.name for one in groups[challenge]] == [one.name for one in known[challenge]]
    with pytest.raises(ValueError, match=r"challenges must be one of .*, got 'fog'"):
        study_sequences(["fog"], sequences=1, frames=2)

"""Warm objects that walk before a still, cold background."""

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")

from benchmarks.street_clips import (
    FEWEST_BOXES,
    LONGEST_GAP,
    Track,
    is_alone,
    match,
    objects,
    overlap,
    steady_parts,
    tracks,
    write_track,
)


def street(*walkers: tuple[int, int], number: int = 0) -> np.ndarray:
    """A wall with a warm lamp; a walker is 12 x 30 pixels, and given by its left and its speed."""
    image = np.random.default_rng(0).normal(40, 12, (120, 200))
    image += np.random.default_rng(number).normal(0, 1, image.shape)
    image[:40] += 30
    image[20:30, 150:160] = 220
    for left, speed in walkers:
        x = left + speed * number
        image[60:90, x : x + 12] = 180
    return image.clip(0, 255).astype(np.uint8)


def film(*walkers: tuple[int, int], length: int = 30) -> list[np.ndarray]:
    return [street(*walkers, number=number) for number in range(length)]


def test_a_walker_is_followed_and_a_lamp_is_not():
    (track,) = tracks(film((20, 4)), 0, 30)
    assert track.first == 0
    assert track.boxes == [(20 + 4 * number, 60, 12, 30) for number in range(30)]


def test_who_stands_still_is_not_followed():
    assert tracks(film((20, 0)), 0, 30) == []


def test_where_two_meet_a_frame_has_no_box():
    found = tracks(film((20, 4), (100, 1), length=40), 0, 40)
    assert found
    for track in found:
        for number, box in enumerate(track.boxes, track.first):
            if box is not None:
                # one of the two, and never both in one box
                assert box[0] in (20 + 4 * number, 100 + number)
                assert 12 <= box[2] < 20


def test_half_of_what_is_warm_is_not_an_object():
    frame = street((20, 0))
    assert is_alone(frame, (20, 60, 12, 30))
    assert not is_alone(frame, (20, 60, 12, 15))


def test_what_is_cut_off_by_the_border_is_not_an_object():
    frame = street((1, 0))
    assert objects(frame, street()) == []
    assert objects(street((20, 0)), street()) == [(20, 60, 12, 30)]


def test_a_match_is_the_only_one_near_and_about_as_large():
    track = Track(0, [(20, 60, 12, 30)])
    near = (24, 60, 12, 30)
    assert match(track, [near, (90, 60, 12, 30)]) == near
    assert match(track, [near, (18, 58, 12, 30)]) is None
    assert match(track, [(20, 50, 24, 40)]) is None
    assert match(track, []) is None


def test_the_overlap_of_two_boxes():
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0


def test_a_film_is_parted_where_the_camera_moves():
    still = film((20, 4), length=2 * FEWEST_BOXES)
    moved = [np.roll(frame, (9, 14), axis=(0, 1)) for frame in still]
    assert list(steady_parts(still + moved)) == [(0, len(still)), (len(still), 2 * len(still))]


def test_a_short_gap_is_bridged_and_a_long_one_ends_the_track():
    def with_gap(gap: int) -> list[np.ndarray]:
        frames = film((20, 1), length=2 * FEWEST_BOXES + gap)
        frames[FEWEST_BOXES : FEWEST_BOXES + gap] = [street()] * gap
        return frames

    short = tracks(with_gap(LONGEST_GAP), 0, 2 * FEWEST_BOXES + LONGEST_GAP)
    assert [track.clear for track in short] == [2 * FEWEST_BOXES]
    long = tracks(with_gap(LONGEST_GAP + 1), 0, 2 * FEWEST_BOXES + LONGEST_GAP + 1)
    assert [track.clear for track in long] == [FEWEST_BOXES, FEWEST_BOXES]


def test_a_track_is_written_as_a_sequence_that_training_reads(tmp_path):
    from rgbt_fusion.data.sequences import open_dataset

    frames = film((20, 4))
    (track,) = tracks(frames, 0, 30)
    track.boxes[3] = None
    track.boxes[-1] = None
    write_track(frames, track, tmp_path / "walker")
    (sequence,) = open_dataset(tmp_path, "ptb_tir").sequences
    assert len(sequence) == 29
    assert sequence.truth.tir[1].tolist() == [24, 60, 12, 30]
    assert np.isnan(sequence.truth.tir[3]).all()

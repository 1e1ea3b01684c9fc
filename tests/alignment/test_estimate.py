"""How two recordings lie on each other, and whether the answer can be relied on."""

import json
import os
import re

import numpy as np
import pytest

from alignment_material import SIZE, draw_scene, known_matrix, see, shaken_views, two_views, window
from rgbt_fusion.alignment.estimate import (
    Alignment,
    align_source,
    estimate_alignment,
    read_alignment,
    read_homography,
    write_alignment,
)
from rgbt_fusion.alignment.geometry import distance, resizing
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.files.text_tables import DataError

SURE = Alignment(known_matrix(), -1.25, 0.9, True, 0.4, 0.8, "ahead")


def pixels_off(found, true=None):
    return distance(known_matrix() if true is None else true, found.tir_from_rgb, SIZE) * SIZE[0]


def test_one_pair_is_enough():
    rgb, tir = two_views(1, known_matrix())
    found = estimate_alignment([rgb], [tir])
    assert found.sure, found.reason
    assert pixels_off(found) < 0.5
    assert found.confidence > 0.95
    assert 0.5 < found.overlap <= 1
    assert found.offset_frames == 0


def test_thermal_frames_may_have_another_size_and_16_bits():
    rgb, tir = two_views(2, np.eye(3))
    small = tir[::2, ::2].astype(np.uint16) * 100 + 20_000
    found = estimate_alignment([rgb], [small], model="similarity")
    assert found.sure, found.reason
    assert pixels_off(found, resizing(SIZE, (160, 120))) < 1.5


def test_recordings_of_two_places_are_not_sure():
    rgb, _ = two_views(3, np.eye(3))
    _, tir = two_views(4, np.eye(3))
    found = estimate_alignment([rgb], [tir])
    assert not found.sure
    assert found.reason.startswith(("too little in common", "two placements fit equally well"))


def test_blank_frames_have_too_little_in_common():
    blank = np.zeros((240, 320, 3), dtype=np.uint8)
    found = estimate_alignment([blank], [blank[:, :, 0]])
    assert not found.sure
    assert found.reason.startswith("too little in common")
    assert found.confidence < 0.2


def test_what_agrees_in_one_place_alone_is_too_little():
    rgb, tir = two_views(1, np.eye(3))
    for frame in (rgb, tir):
        frame[60:] = 100
        frame[:, 80:] = 100
    found = estimate_alignment([rgb], [tir], model="similarity")
    assert not found.sure
    assert re.match("too little in common: what agrees lies in as little as", found.reason)


def test_a_pattern_that_repeats_has_two_placements():
    columns, rows = np.meshgrid(np.arange(320) // 20 % 2, np.arange(240) // 20 % 2)
    board = np.where(columns ^ rows, 200, 50).astype(np.uint8)
    found = estimate_alignment([np.dstack([board] * 3)], [board])
    assert not found.sure
    assert found.reason.startswith("two placements fit equally well")


def test_the_time_offset_is_found_with_the_matrix():
    rgb, tir = shaken_views(5, 3, 28, known_matrix())
    found = estimate_alignment(rgb, tir, model="similarity", frames=3, max_offset=5)
    assert found.sure, found.reason
    assert found.offset_frames == pytest.approx(3, abs=0.5)
    assert pixels_off(found) < 1


def test_where_nothing_moves_the_offset_makes_it_unsure():
    rgb, tir = two_views(6, known_matrix())
    found = estimate_alignment([rgb] * 20, [tir] * 20, frames=1, max_offset=2)
    assert not found.sure
    assert found.reason.startswith("nothing moves")
    assert found.offset_frames == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "shift"}, "model must be one of"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"max_offset": -1}, "max_offset must be at least 1"),
        ({"tir_frames": []}, "tir_frames must hold at least one frame"),
        ({"tir_frames": [np.zeros((4, 4))] * 2}, "tir_frames must be as many as rgb_frames 1"),
        ({"rgb_frames": [np.zeros((4, 4)), np.zeros((4, 5))]}, "rgb_frames must be of one size"),
    ],
)
def test_what_cannot_be_registered_is_refused(change, message):
    given = {"rgb_frames": [np.zeros((4, 4))], "tir_frames": [np.zeros((4, 4))]} | change
    with pytest.raises(ValueError, match=message):
        estimate_alignment(given.pop("rgb_frames"), given.pop("tir_frames"), **given)


def test_recordings_of_different_length_raise_a_shape_error():
    with pytest.raises(ShapeError):
        estimate_alignment([np.zeros((4, 4))], [])


def test_large_frames_are_reduced_and_the_matrix_is_theirs():
    scene = draw_scene(7)
    rgb = np.repeat(np.repeat(see(scene.rgb, window(160, 120)), 4, axis=0), 4, axis=1)
    tir = see(scene.tir, window(150, 125))
    found = align_source([(None, tir), (rgb, None), (rgb, tir)], model="similarity", max_offset=5)
    assert found.sure, found.reason
    true = np.array([[1, 0, 10], [0, 1, -5], [0, 0, 1]]) @ resizing((1280, 960), SIZE)
    assert distance(true, found.tir_from_rgb, (1280, 960)) * 1280 < 4


def test_a_source_without_a_whole_pair_is_refused():
    with pytest.raises(ValueError, match="source must have a pair of frames of both modalities"):
        align_source([(None, np.zeros((4, 4), dtype=np.uint8))])


def test_a_file_brings_back_what_was_written(tmp_path):
    write_alignment(tmp_path / "align.json", SURE)
    read = read_alignment(tmp_path / "align.json")
    np.testing.assert_array_equal(read.tir_from_rgb, SURE.tir_from_rgb)
    for name in ("offset_frames", "confidence", "sure", "margin", "overlap", "reason"):
        assert getattr(read, name) == getattr(SURE, name)


def test_what_is_not_sure_is_not_written(tmp_path):
    unsure = Alignment(np.eye(3), 0.0, 0.1, False, 0.0, 0.5, "too little in common")
    with pytest.raises(ValueError, match="alignment must be sure to be written, but too little"):
        write_alignment(tmp_path / "align.json", unsure)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must hold an alignment as JSON"),
        ("[]", "must hold an alignment with a matrix tir_from_rgb"),
        (json.dumps({"tir_from_rgb": [[1, 0], [0, 1]]}), "must be an invertible 3x3 matrix"),
        (json.dumps({"tir_from_rgb": [[1, 0, 0]] * 3}), "must be an invertible 3x3 matrix"),
        (json.dumps({"tir_from_rgb": "none"}), "must be an invertible 3x3 matrix"),
        ('{"tir_from_rgb": [[1, 0, 0], [0, 1, 0], [1e308, 0, 1]]}', "must be an invertible 3x3"),
        (
            json.dumps({"tir_from_rgb": np.eye(3).tolist(), "offset_frames": "two"}),
            "offset_frames must be a number",
        ),
        ('{"tir_from_rgb": ' + "[" * 100_000, "must hold an alignment as JSON"),
        ("1 0 0\n0 1 0\n", "must hold three rows of three numbers, got 2"),
        ("1 0 0\n0 1 0\n0 0 nan\n", "must be an invertible 3x3 matrix"),
        ("not numbers\n", "line 1: must have 3 numbers, got 2"),
    ],
)
def test_a_file_of_anything_else_is_refused(tmp_path, content, message):
    path = tmp_path / "align.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_alignment(path)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json cannot be read"):
        read_alignment(tmp_path / "gone.json")


def test_a_text_file_of_the_matrix_is_an_alignment(tmp_path):
    path = tmp_path / "matrix.txt"
    path.write_text("0.5 0 12\n0 0.5 4\n0 0 1\n")
    for found in (read_alignment(path), read_homography(path)):
        assert found.tir_from_rgb.tolist() == [[0.5, 0, 12], [0, 0.5, 4], [0, 0, 1]]
        assert (found.sure, found.offset_frames) == (True, 0.0)


def test_a_pipe_is_no_file_of_an_alignment(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(DataError, match="it is a pipe or a device"):
        read_alignment(path)

"""By how many frames one recording is behind the other."""

import numpy as np
import pytest

from alignment_material import (
    draw_scene,
    known_matrix,
    see,
    shaken_views,
    views_on_a_path,
    window,
)
from rgbt_fusion.alignment.gradients import grey
from rgbt_fusion.alignment.time_offset import FEWEST_TIMES, find_time_offset, reach

COUNT = 30


def planes(frames):
    return [grey(frame) for frame in frames]


@pytest.mark.parametrize("offset", [-3, 0, 4])
def test_a_camera_that_moves_shows_the_offset(offset):
    rgb, tir = shaken_views(3, offset, COUNT, known_matrix())
    found = find_time_offset(planes(rgb), planes(tir), known_matrix(), largest=6)
    assert found.known
    assert found.frames == pytest.approx(offset, abs=0.5)


@pytest.mark.parametrize("offset", [-6, 6])
@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_a_matrix_that_is_a_pixel_off_draws_the_offset_little(offset, shift):
    time = np.arange(40 + 12)
    path = np.column_stack([100 + 2 * time + 4 * np.sin(time / 2), 120 + 3 * np.cos(time / 3)])
    rgb, tir = views_on_a_path(draw_scene(8), path, offset, 40, np.eye(3))
    off = np.eye(3)
    off[0, 2] = shift
    found = find_time_offset(planes(rgb), planes(tir), off, largest=10)
    assert found.known
    assert found.frames == pytest.approx(offset, abs=0.15)


def test_things_that_move_show_the_offset_to_a_camera_that_does_not():
    scene = draw_scene(4)
    rgb = []
    tir = []
    for time in range(COUNT):
        colour, heat = scene.rgb.copy(), scene.tir.copy()
        # a runner who changes speed; heat is two frames late
        for image, moment in ((colour, time), (heat, time - 2)):
            left = round(200 + 40 * np.sin(moment / 2.0) + 3 * moment)
            image[250:290, left : left + 14] = 255
        rgb.append(see(colour, window(160, 120)))
        tir.append(see(heat, window(160, 120)))
    found = find_time_offset(planes(rgb), planes(tir), np.eye(3), largest=5)
    assert found.known
    assert found.frames == pytest.approx(2, abs=0.5)


def test_where_nothing_moves_the_offset_is_not_known():
    generator = np.random.default_rng(0)
    scene = draw_scene(5)
    still_rgb, still_tir = see(scene.rgb, window(160, 120)), see(scene.tir, window(160, 120))
    rgb = [grey(still_rgb) + generator.normal(0, 2, (240, 320)) for _ in range(COUNT)]
    tir = [grey(still_tir) + generator.normal(0, 2, (240, 320)) for _ in range(COUNT)]
    rgb = [plane.astype(np.float32) for plane in rgb]
    tir = [plane.astype(np.float32) for plane in tir]
    assert not find_time_offset(rgb, tir, np.eye(3), largest=4).known


def test_of_frames_that_are_all_one_the_offset_is_not_known():
    scene = draw_scene(5)
    rgb = planes([see(scene.rgb, window(160, 120))] * COUNT)
    tir = planes([see(scene.tir, window(160, 120))] * COUNT)
    assert find_time_offset(rgb, tir, np.eye(3), largest=4).correlation < 0.1


def test_an_offset_at_the_end_of_what_was_tried_is_not_known():
    rgb, tir = shaken_views(6, 5, COUNT, known_matrix())
    found = find_time_offset(planes(rgb), planes(tir), known_matrix(), largest=3)
    assert not found.known


def test_short_recordings_reach_less_far():
    assert reach(FEWEST_TIMES + 1, 10) == 0
    assert reach(FEWEST_TIMES + 6, 10) == 3
    assert reach(1000, 10) == 10

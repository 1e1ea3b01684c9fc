"""Scaling of 16-bit frames."""

import numpy as np
import pytest

from rgbt_fusion.frames.thermal import follow_range, is_flat, scale_thermal, thermal_range


def test_the_range_is_that_of_percentiles_one_and_ninety_nine():
    frame = np.random.default_rng(0).permutation(10_001).reshape(73, 137).astype(np.uint16)
    assert thermal_range(frame) == (100.0, 9900.0)


def test_values_beyond_the_limits_are_clipped():
    scaled = scale_thermal(np.array([0, 100, 150, 200, 65_535], dtype=np.uint16), (100.0, 200.0))
    assert scaled.tolist() == [0, 0, 127.5, 255, 255]
    assert scaled.dtype == np.float32


@pytest.mark.parametrize("limits", [(2.0, 1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_limits_that_are_none_are_refused(limits):
    with pytest.raises(ValueError, match="limits must be two finite numbers in order"):
        scale_thermal(np.zeros((2, 2), dtype=np.uint16), limits)


SCENE = (29_000 + np.random.default_rng(1).normal(300, 100, (60, 80))).astype(np.uint16)


def test_blocks_that_stand_apart_do_not_count():
    limits = thermal_range(SCENE)
    barred = SCENE.copy()
    barred[:6] = 65_535
    barred[-3:] = 0
    np.testing.assert_allclose(thermal_range(barred), limits, atol=20)
    # a warm target is no status bar: it is part of the range, or saturates at most
    warm = SCENE.copy()
    warm[20:40, 20:30] += np.linspace(500, 900, 10).astype(np.uint16)
    assert thermal_range(warm)[1] > limits[1] + 400


def test_what_is_not_finite_does_not_count():
    kelvin = SCENE.astype(np.float32) / 100
    damaged = kelvin.copy()
    damaged[0, 0] = np.nan
    damaged[1, 1] = np.inf
    np.testing.assert_allclose(thermal_range(damaged), thermal_range(kelvin), atol=0.02)
    scaled = scale_thermal(damaged, thermal_range(damaged))
    assert np.isfinite(scaled).all()
    assert thermal_range(np.full((4, 4), np.nan, np.float32)) == (0.0, 0.0)


def test_large_frames_are_measured_on_a_grid():
    frame = np.tile(SCENE, (20, 20))
    np.testing.assert_allclose(thermal_range(frame), thermal_range(SCENE), atol=10)


def test_the_range_follows_level_and_span_without_flicker():
    known = follow_range(None, SCENE)
    assert known is not None
    noise = np.random.default_rng(2)
    steps = []
    for _ in range(20):
        after = follow_range(known, SCENE + noise.integers(0, 40, SCENE.shape).astype(np.uint16))
        assert after is not None
        steps.append(abs(after[1] - known[1]))
        known = after
    assert max(steps[5:]) < 0.02 * (known[1] - known[0])
    jumped = follow_range(known, SCENE + np.uint16(1500))
    np.testing.assert_allclose(jumped, thermal_range(SCENE + np.uint16(1500)))


def test_a_flat_frame_teaches_nothing():
    shutter = np.full_like(SCENE, 29_500)
    shutter[0, 0] += 1
    noisy = shutter + np.random.default_rng(3).integers(0, 4, SCENE.shape).astype(np.uint16)
    for flat in (shutter, noisy):
        assert is_flat(flat, thermal_range(flat))
        assert follow_range(None, flat) is None
        assert follow_range((29_000.0, 30_000.0), flat) == (29_000.0, 30_000.0)
    assert is_flat(shutter.astype(np.float32) / 100, (295.0, 295.01))
    assert not is_flat(SCENE, thermal_range(SCENE))

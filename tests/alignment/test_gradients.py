"""What two modalities share."""

import numpy as np
import pytest

from rgbt_fusion.alignment.gradients import doubled_angle_field, grey, oriented_channels


@pytest.fixture
def noise():
    return np.random.default_rng(0).uniform(0, 255, (40, 50)).astype(np.float32)


@pytest.mark.parametrize("describe", [doubled_angle_field, oriented_channels])
def test_inverted_contrast_looks_the_same(describe, noise):
    np.testing.assert_allclose(describe(noise), describe(255 - noise), atol=1e-4)


@pytest.mark.parametrize("describe", [doubled_angle_field, oriented_channels])
def test_no_vector_is_longer_than_one(describe, noise):
    lengths = np.linalg.norm(describe(noise), axis=2)
    assert lengths.max() <= 1.0 + 1e-5
    assert not np.isnan(describe(np.zeros_like(noise))).any()


def test_noise_counts_less_than_half_of_what_stands_out_of_it():
    plane = np.random.default_rng(1).normal(100, 5, (60, 60)).astype(np.float32)
    plane[:, 30:] += 60
    lengths = np.linalg.norm(oriented_channels(plane), axis=2)
    assert np.median(lengths[:, 5:20]) < 0.5 * np.median(lengths[:, 30])


def test_upright_and_level_edges_are_opposite():
    plane = np.zeros((40, 40), dtype=np.float32)
    plane[:, 20:] = 100
    upright = doubled_angle_field(plane)[20, 20]
    level = doubled_angle_field(plane.T.copy())[20, 20]
    np.testing.assert_allclose(upright, -level, atol=1e-5)


def test_every_kind_of_frame_becomes_one_plane():
    colour = np.zeros((4, 6, 3), dtype=np.uint8)
    colour[..., 0] = 255
    assert grey(colour)[0, 0] == pytest.approx(76.2, abs=0.5)
    assert grey(colour[..., :1]).shape == (4, 6)
    deep = np.linspace(20_000, 30_000, 24).astype(np.uint16).reshape(4, 6)
    plane = grey(deep)
    assert plane.dtype == np.float32
    assert plane.min() == 0
    assert plane.max() == 255

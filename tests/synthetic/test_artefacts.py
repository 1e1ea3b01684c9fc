"""Artefacts of cameras: each does what its name says, at places of the frame."""

import numpy as np
import pytest
import torch

from rgbt_fusion.synthetic.artefacts import (
    Artefacts,
    compressed,
    draw_artefacts,
    smeared,
    through_thermal_sensor,
)

X = np.arange(32) + 0.5
Y = np.arange(24) + 0.5


def noise(channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 128 + 20 * torch.randn(channels, len(Y), len(X), generator=generator)


def test_the_defaults_change_nothing():
    image = noise()
    none = Artefacts()
    assert torch.equal(through_thermal_sensor(image, none, 3, X, Y), image)
    assert torch.equal(compressed(image, none.loss_tir, X, Y), image)
    assert torch.equal(smeared(image, none.smear(3), X), image)


def test_compression_drops_small_differences_and_keeps_the_mean_of_a_block():
    image = torch.full((3, len(Y), len(X)), 100.0)
    image[:, 0, 0] += 64
    image[:, 10, 10] += 4
    result = compressed(image, 8.0, X, Y)
    # 64 above its neighbours is 63 above the mean of 64 pixels, and 8 are dropped
    assert result[0, 0, 0] == pytest.approx(101 + 63 - 8)
    assert result[0, 10, 10] == pytest.approx(100 + 4 / 64)
    assert result[0, 20, 30] == pytest.approx(100)


def test_a_window_has_the_blocks_of_the_frame():
    image = noise(3)
    whole = compressed(image, 10.0, X, Y)
    part = compressed(image[:, 8:24, 16:32], 10.0, X[16:32], Y[8:24])
    assert torch.allclose(part, whole[:, 8:24, 16:32], atol=1e-4)


def test_smear_keeps_what_is_level_along_a_row():
    rows = torch.arange(len(Y)).float().view(1, -1, 1).expand(1, len(Y), len(X))
    assert torch.allclose(smeared(rows.contiguous(), 7.0, X), rows)
    assert smeared(noise(), 7.0, X).std() < 0.5 * noise().std()


def test_a_crop_at_half_the_size_is_smeared_over_half_as_many_pixels():
    point = torch.zeros(1, len(Y), len(X))
    point[0, 12, 16] = 1
    full = smeared(point, 9.0, X)
    half = smeared(point, 9.0, 2 * X)
    assert (full > 0).sum() == 9
    assert (half > 0).sum() in (3, 5)


def test_gain_dead_columns_and_pattern():
    image = noise()
    stepped = Artefacts(gain_steps=((5, 0.5, 10.0), (9, 2.0, 0.0)))
    assert stepped.exposure(4) == (1.0, 0.0)
    assert stepped.exposure(5) == (0.5, 10.0)
    assert stepped.exposure(30) == (2.0, 0.0)
    assert through_thermal_sensor(image, stepped, 5, X, Y).std() < 0.6 * image.std()
    dead = through_thermal_sensor(image, Artefacts(dead_columns=(7,)), 0, X, Y)
    assert (dead[0, :, 7] == 255).all()
    assert torch.equal(dead[0, :, 8:], image[0, :, 8:])
    pattern = Artefacts(pattern=3.0)
    first = through_thermal_sensor(image, pattern, 0, X, Y) - image
    later = through_thermal_sensor(image, pattern, 9, X, Y) - image
    assert torch.equal(first, later)
    assert first.std() == pytest.approx(3, rel=0.2)


def test_each_artefact_is_drawn_in_about_a_third_of_the_sequences():
    drawn = [draw_artefacts(np.random.default_rng(seed), 60, 320) for seed in range(300)]
    shares = [
        np.mean([one.loss_rgb > 0 for one in drawn]),
        np.mean([one.loss_tir > 0 for one in drawn]),
        np.mean([bool(one.jerks) for one in drawn]),
        np.mean([one.pattern > 0 for one in drawn]),
        np.mean([bool(one.dead_columns) for one in drawn]),
        np.mean([bool(one.gain_steps) for one in drawn]),
    ]
    assert min(shares) > 0.25
    assert max(shares) < 0.45

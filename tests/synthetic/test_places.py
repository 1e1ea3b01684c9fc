"""Backgrounds differ from one another and between the modalities."""

import numpy as np
import pytest
import torch

from rgbt_fusion.synthetic.places import (
    HEIGHT,
    WIDTH,
    background,
    mean_heat,
    noise_tile,
    smooth_noise,
)


def test_places_have_structure_in_both_modalities():
    for number in range(8):
        place = background(number).float()
        assert place.shape == (4, HEIGHT, WIDTH)
        assert place[:3].mean(dim=0).std() > 5
        assert place[3].std() > 5
        correlation = torch.corrcoef(
            torch.stack((place[:3].mean(dim=0).flatten(), place[3].flatten()))
        )[0, 1]
        assert abs(correlation) < 0.97


def test_places_differ():
    assert not torch.equal(background(0), background(8))


def test_noise():
    tile = noise_tile()
    assert abs(tile.mean()) < 0.01
    assert tile.std() == pytest.approx(1, abs=0.01)
    field = smooth_noise(np.random.default_rng(0), 40, 60, cells=10)
    assert (field.shape, field.min(), field.max()) == ((40, 60), 0, 1)


def test_a_negative_number():
    with pytest.raises(ValueError, match="number must be at least 0, got -1"):
        background(-1)


def test_the_mean_heat_is_the_pictures():
    assert mean_heat(5) == pytest.approx(background(5)[3].double().mean().item(), rel=1e-6)

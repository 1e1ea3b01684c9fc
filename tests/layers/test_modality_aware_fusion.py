"""MAF: the equations by hand, pooled and at every position."""

import math

import pytest
import torch

from map_material import CHANNELS, built, count, pair
from rgbt_fusion.layers.modality_aware_fusion import MAF


def test_maf_by_hand():
    maf = MAF(1).double()
    with torch.no_grad():
        maf.fc1.weight.copy_(torch.tensor([[1.0, 2.0]]))
        maf.fc1.bias.fill_(-3.0)
        maf.fc2.weight.copy_(torch.tensor([[0.0], [1.0]]))
        maf.fc2.bias.zero_()
    rgb = torch.tensor([0.0, 2.0], dtype=torch.float64).view(1, 1, 1, 2)
    enhanced = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2)
    # Means 1 and 2 give a hidden value of 2 and logits (0, 2).
    beta = math.exp(2) / (1 + math.exp(2))
    expected = [(1 - beta) * 0 + beta * 1, (1 - beta) * 2 + beta * 3]
    torch.testing.assert_close(maf(rgb, enhanced).flatten().tolist(), expected)


def test_maf_follows_equations_7_to_9():
    maf = built(MAF, CHANNELS)
    rgb, enhanced = pair(3, CHANNELS, 4, 5)
    pooled = torch.cat([rgb.mean((2, 3)), enhanced.mean((2, 3))], 1)
    weights = torch.softmax(maf.fc2(torch.relu(maf.fc1(pooled))), 1)[..., None, None, None]
    torch.testing.assert_close(maf(rgb, enhanced), weights[:, 0] * rgb + weights[:, 1] * enhanced)


def test_spatial_maf_is_the_global_one_at_every_position():
    spatial, pooled = built(MAF, CHANNELS, pooling="spatial"), MAF(CHANNELS).double()
    pooled.load_state_dict(spatial.state_dict())
    rgb, enhanced = pair(2, CHANNELS, 3, 4)
    out = spatial(rgb, enhanced)
    for i in range(3):
        for j in range(4):
            here = (..., slice(i, i + 1), slice(j, j + 1))
            torch.testing.assert_close(out[here], pooled(rgb[here], enhanced[here]))
    assert not torch.allclose(out, pooled(rgb, enhanced))


def test_parameter_counts():
    assert count(MAF(8)) == count(MAF(8, pooling="spatial")) == 40


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MAF(8, pooling="max"), "pooling must be one of 'global', 'spatial', got 'max'"),
        (lambda: MAF(8, reduction=0), "reduction must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()

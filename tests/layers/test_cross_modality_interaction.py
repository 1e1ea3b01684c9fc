"""CMI: the equations by hand and position by position."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from map_material import CHANNELS, built, count, pair
from rgbt_fusion.layers.cross_modality_interaction import CMI


def attention_by_loops(attention: Any, queries: Tensor, values: Tensor, scale: float) -> Tensor:
    """Equations 4 and 5 for one sample, one query position at a time."""
    x, y = queries.flatten(1), values.flatten(1)
    q, k, v = (
        conv.weight[:, :, 0, 0] @ stream + conv.bias[:, None]
        for conv, stream in ((attention.q, x), (attention.k, y), (attention.v, y))
    )
    columns = []
    for i in range(x.shape[1]):
        scores = torch.stack([scale * (q[:, i] * k[:, j]).sum() for j in range(y.shape[1])])
        shares = scores.exp() / scores.exp().sum()
        columns.append(sum(shares[j] * v[:, j] for j in range(y.shape[1])))
    return torch.stack(columns, 1).view_as(queries)


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("direction", ["tir_to_rgb", "bidirectional"])
def test_cmi_follows_equations_4_to_6(direction, scale):
    cmi = built(CMI, 6, direction=direction, scale=scale)
    rgb, tir = pair(2, 6, 2, 3)
    for b, out in enumerate(cmi(rgb, tir)):
        expected = rgb[b] + attention_by_loops(cmi.tir_to_rgb, rgb[b], tir[b], scale)
        if direction == "bidirectional":
            expected = (
                expected + tir[b] + attention_by_loops(cmi.rgb_to_tir, tir[b], rgb[b], scale)
            ) / 2
        torch.testing.assert_close(out, expected)


def test_cmi_by_hand():
    cmi = CMI(2).double()
    with torch.no_grad():
        for parameter in cmi.parameters():
            parameter.zero_()
        cmi.tir_to_rgb.q.weight[0, :, 0, 0] = torch.tensor([1.0, 0.0])
        cmi.tir_to_rgb.k.weight[0, :, 0, 0] = torch.tensor([0.0, 1.0])
        cmi.tir_to_rgb.v.weight[:, :, 0, 0] = torch.eye(2)
    rgb = torch.tensor([[math.log(3.0), 0.0], [7.0, 8.0]], dtype=torch.float64).view(1, 2, 1, 2)
    tir = torch.tensor([[10.0, 20.0], [1.0, 0.0]], dtype=torch.float64).view(1, 2, 1, 2)
    # Position 0 asks log 3 of keys (1, 0): shares 3/4 and 1/4. Position 1 asks 0: shares 1/2 and
    # 1/2.
    expected = [[math.log(3.0) + 12.5, 15.0], [7.0 + 0.75, 8.0 + 0.5]]
    torch.testing.assert_close(cmi(rgb, tir)[0, :, 0].tolist(), expected)


def test_cmi_attends_within_a_sample_and_reads_only_tir():
    cmi = built(CMI, CHANNELS)
    rgb, tir = pair(2, CHANNELS, 3, 3)
    changed = tir.clone()
    changed[1] += 1
    assert torch.equal(cmi(rgb, tir)[0], cmi(rgb, changed)[0])
    # Another query position must not matter to a position's own result.
    rgb_changed = rgb.clone()
    rgb_changed[0, :, 0, 0] += 1
    torch.testing.assert_close(cmi(rgb, tir)[0, :, 1:], cmi(rgb_changed, tir)[0, :, 1:])


@pytest.mark.parametrize(("channels", "half"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_queries_and_keys_have_half_of_the_channels_and_at_least_one(channels, half):
    attention: Any = CMI(channels).tir_to_rgb
    assert attention.q.weight.shape == attention.k.weight.shape == (half, channels, 1, 1)
    assert attention.v.weight.shape == (channels, channels, 1, 1)


def test_parameter_counts():
    assert count(CMI(8)) == 144
    assert count(CMI(8, direction="bidirectional")) == 288


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: CMI(8, direction="rgb_to_tir"),
            "direction must be one of 'tir_to_rgb', 'bidirectional', got",
        ),
        (lambda: CMI(8, scale=math.nan), "scale must be finite, got nan"),
        (lambda: CMI(0), "dim must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()

"""Any two-stream layer on tokens, maps and pyramids: the same numbers, laid out anew."""

import pytest
import torch
from torch import Tensor, nn

import contracts
from rgbt_fusion import (
    CMC,
    CMI,
    DFM,
    MAF,
    TMR,
    TPI,
    AnyPlace,
    CrossAttentionFusion,
    MutualPrompter,
    MutualPrompts,
    TwoWayCompensation,
)
from rgbt_fusion.benchmarking.cases import CASES, Case

GRID = (4, 3)
ON_TOKENS = ("DFM", "CrossAttentionFusion", "MutualPrompter", "CrossModal", "Gated", "TwoWay")
ON_MAPS = ("TMR", "CMI", "MAF", "TPI")


def cases_of(names: tuple[str, ...]) -> list[Case]:
    return [case for case in CASES if case.name.startswith(names)]


def to_map(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lay tokens out position by position: the slow way."""
    height, width = grid
    out = x.new_empty(x.shape[0], x.shape[2], height, width)
    for row in range(height):
        for column in range(width):
            out[:, :, row, column] = x[:, row * width + column]
    return out


def test_every_two_stream_layer_is_asked():
    found = {type(case.small.build()) for case in cases_of((*ON_TOKENS, *ON_MAPS))}
    wanted = {DFM, CrossAttentionFusion, MutualPrompter, CMC, TwoWayCompensation}
    assert found >= wanted | {TMR, CMI, MAF, TPI}


@pytest.mark.parametrize("case", cases_of(ON_TOKENS), ids=lambda case: case.name)
def test_a_layer_on_tokens_takes_maps(case):
    layer, (rgb, tir, *more) = contracts.build(case)
    grid = (2, 3)
    maps = [to_map(x, grid) for x in (rgb, tir)]
    history = [tuple(to_map(x, grid) for x in pair) for pair in more]
    found = AnyPlace(layer)(*maps, *history)
    expected = layer(rgb, tir, *more)
    assert type(found) is type(expected)
    for x, y in zip(contracts.tensors(found), contracts.tensors(expected), strict=True):
        torch.testing.assert_close(x, to_map(y, grid), rtol=1e-5, atol=1e-6)
    # tokens go through as they are
    contracts.assert_same(AnyPlace(layer)(rgb, tir, *more), expected, rtol=0, atol=0)


@pytest.mark.parametrize("case", cases_of(ON_MAPS), ids=lambda case: case.name)
def test_a_layer_on_maps_takes_tokens(case):
    layer, maps = contracts.build(case)
    tokens = [x.flatten(2).mT for x in maps]
    found = contracts.tensors(AnyPlace(layer, grid=GRID)(*tokens))
    expected = contracts.tensors(layer(*maps))
    for x, y in zip(found, expected, strict=True):
        laid_out = to_map(x, GRID) if x.dim() == 3 else x
        torch.testing.assert_close(laid_out, y, rtol=1e-5, atol=1e-6)
    contracts.assert_same(AnyPlace(layer)(*maps), expected, rtol=0, atol=0)


@pytest.mark.parametrize("case", cases_of((*ON_TOKENS, *ON_MAPS)), ids=lambda case: case.name)
def test_a_pyramid_is_one_call_per_level(case):
    layer, (rgb, tir, *more) = contracts.build(case)
    again = tuple([x, x] for x in more)
    found = AnyPlace(layer)([rgb, tir], [tir, rgb], *again)
    contracts.assert_same(found[0], layer(rgb, tir, *more), rtol=0, atol=0)
    contracts.assert_same(found[1], layer(tir, rgb, *more), rtol=0, atol=0)


def test_each_level_has_its_own_layer_or_all_share_one():
    torch.manual_seed(0)
    layers = [DFM(8, d_state=4), DFM(16, d_state=4)]
    rgb = [torch.randn(2, 8, 4, 3), torch.randn(2, 16, 2, 2)]
    tir = [torch.randn_like(x) for x in rgb]
    fuse = AnyPlace(layers)
    for layer, out, x, y in zip(layers, fuse(rgb, tir), rgb, tir, strict=True):
        contracts.assert_same(out, AnyPlace(layer)(x, y), rtol=0, atol=0)
    assert sum(1 for _ in AnyPlace(DFM(8)).parameters()) == sum(1 for _ in DFM(8).parameters())


def test_the_history_of_a_pyramid_is_what_came_out_before():
    torch.manual_seed(0)
    prompt = AnyPlace(MutualPrompter(spatial_attention="length_free"))
    rgb = [torch.randn(2, 8, 4, 3), torch.randn(2, 8, 2, 2)]
    tir = [torch.randn_like(x) for x in rgb]
    first = prompt(rgb, tir, None)
    second = prompt(rgb, tir, first)
    assert all(isinstance(one, MutualPrompts) for one in second)
    assert all(one.rgb.shape == x.shape for one, x in zip(second, rgb, strict=True))
    assert not torch.equal(second[0].rgb, first[0].rgb)


def test_a_layer_on_maps_keeps_its_state_between_frames():
    torch.manual_seed(0)
    tpi = TPI(8)
    rgb, tir = torch.randn(2, 2, 8, 4, 3)
    on_tokens = AnyPlace(tpi, grid=GRID)
    state = None
    wanted = None
    for _ in range(2):
        fused, state = on_tokens(rgb.flatten(2).mT, tir.flatten(2).mT, state)
        map_fused, wanted = tpi(rgb, tir, wanted)
        torch.testing.assert_close(to_map(fused, GRID), map_fused)
        torch.testing.assert_close(state.rgb_weight, wanted.rgb_weight)


def test_a_layer_of_ones_own_says_what_it_is_made_for():
    class Difference(nn.Module):
        takes_maps = True

        def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
            assert rgb.dim() == 4
            return rgb - tir

    x, y = torch.randn(2, 1, 12, 8)
    assert torch.equal(AnyPlace(Difference(), grid=GRID)(x, y), x - y)


def test_says_what_is_wrong():
    layer = DFM(8, d_state=4)
    x = torch.zeros(1, 8, 4, 3)
    with pytest.raises(ValueError, match="at least one layer, got none"):
        AnyPlace([])
    with pytest.raises(TypeError, match="must be modules, got int"):
        AnyPlace([3])  # pyright: ignore
    with pytest.raises(ValueError, match="height of grid must be"):
        AnyPlace(layer, grid=(0, 3))
    with pytest.raises(ValueError, match="tir must have the shape of rgb"):
        AnyPlace(layer)(x, x[:, :, :2])
    with pytest.raises(ValueError, match=r"tir\[1\] must have the shape of rgb\[1\]"):
        AnyPlace(layer)([x, x], [x, x[:, :, :2]])
    with pytest.raises(ValueError, match="a list of 2 levels, one per layer, got a tensor"):
        AnyPlace([layer, layer])(x, x)
    with pytest.raises(ValueError, match="rgb must have 2 levels, one per layer, got 1"):
        AnyPlace([layer, layer])([x], [x])
    with pytest.raises(ValueError, match="tir must have 2 levels, as rgb has, got 1"):
        AnyPlace(layer)([x, x], [x])
    with pytest.raises(TypeError, match="tir must be tokens, a map, or a list"):
        AnyPlace(layer)([x], x)  # pyright: ignore
    with pytest.raises(ValueError, match="grid must be the height and width"):
        AnyPlace(CMI(8))(x.flatten(2).mT, x.flatten(2).mT)
    with pytest.raises(ValueError, match="rgb must have the 2 x 3 tokens of grid"):
        AnyPlace(CMI(8), grid=(2, 3))(x.flatten(2).mT, x.flatten(2).mT)

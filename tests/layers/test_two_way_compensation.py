import pytest
import torch

from compensation_material import (
    DIM,
    HEADS,
    randomised,
    streams,
)
from rgbt_fusion.layers.cross_modal_compensation import CrossModalCompensation
from rgbt_fusion.layers.gated_cross_modal_compensation import GatedCrossModalCompensation
from rgbt_fusion.layers.two_way_compensation import TwoWayCompensation


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_both_ways_read_the_streams_as_they_came_in(gated: bool, shared: bool) -> None:
    layer = TwoWayCompensation(DIM, HEADS, gated=gated, shared=shared).double().eval()
    rgb, tir = streams()
    out = layer(rgb, tir)
    back = layer.to_rgb if layer.to_tir is None else layer.to_tir
    torch.testing.assert_close(out.rgb, layer.to_rgb(rgb, tir))
    torch.testing.assert_close(out.tir, back(tir, rgb))
    one_way = layer.to_rgb.state_dict()
    assert len(layer.state_dict()) == len(one_way) * (1 if shared else 2)


@pytest.mark.parametrize("shared", [False, True])
def test_each_way_is_the_compensation_that_was_asked_for(shared: bool) -> None:
    plain = TwoWayCompensation(DIM, HEADS, shared=shared)
    gated = TwoWayCompensation(DIM, HEADS, gated=True, shared=shared)
    expected = (CrossModalCompensation(DIM, HEADS), GatedCrossModalCompensation(DIM, HEADS))
    for layer, one_way in zip((plain, gated), expected, strict=True):
        for way in (layer.to_rgb, layer.to_tir):
            if way is None:
                assert shared
                continue
            assert type(way) is type(one_way)
            # of the same options where none are given
            assert way.extra_repr() == one_way.extra_repr()
            shapes = {name: x.shape for name, x in way.state_dict().items()}
            assert shapes == {name: x.shape for name, x in one_way.state_dict().items()}


@pytest.mark.parametrize("gated", [False, True])
def test_autocast_stays_close(gated: bool) -> None:
    layer = TwoWayCompensation(DIM, HEADS, gated=gated).eval()
    rgb, tir = (x.float() for x in streams())
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(rgb, tir)
    torch.testing.assert_close(out, layer(rgb, tir), rtol=0.02, atol=0.03)


@pytest.mark.parametrize("gated", [False, True])
def test_gradients(gated: bool) -> None:
    layer = randomised(
        TwoWayCompensation(DIM, HEADS, gated=gated, mlp_ratio=1.0, dropout=0.0, max_len=4)
    )
    inputs = tuple(x.requires_grad_() for x in streams(length=3))
    assert torch.autograd.gradcheck(lambda rgb, tir: tuple(layer(rgb, tir)), inputs)


@pytest.mark.parametrize("gated", [False, True])
def test_compiled_and_exported_equal_eager(gated: bool) -> None:
    layer = TwoWayCompensation(DIM, HEADS, gated=gated).eval()
    inputs = tuple(x.float() for x in streams())
    expected = layer(*inputs)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    torch.testing.assert_close(torch.export.export(layer, inputs).module()(*inputs), expected)

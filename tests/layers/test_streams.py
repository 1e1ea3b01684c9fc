"""What every layer of two streams checks, and what is true of all layers on maps."""

import pytest
import torch
from torch import Tensor

from map_material import CHANNELS, pair
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.cross_attention_fusion import CrossAttentionFusion
from rgbt_fusion.layers.cross_modal_compensation import CMC
from rgbt_fusion.layers.cross_modality_interaction import CMI
from rgbt_fusion.layers.difference_fusion_mamba import DFM
from rgbt_fusion.layers.gated_cross_modal_compensation import CMC1
from rgbt_fusion.layers.modality_aware_fusion import MAF
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMR
from rgbt_fusion.layers.two_way_compensation import TwoWayCompensation

LAYERS = {
    "TMR": TMR(CHANNELS),
    "CMI": CMI(CHANNELS),
    "MAF": MAF(CHANNELS),
    "TPI": TPI(CHANNELS),
    "sum": TPI(CHANNELS, tmr=False, cmi=None, maf=None),
}
MAP = torch.zeros(2, CHANNELS, 4, 4)
TOKENS = torch.zeros(2, 5, 8)


@pytest.mark.parametrize(
    "layer",
    [DFM(8), CrossAttentionFusion(8, 2), CMC(8, 2), CMC1(8, 2), TwoWayCompensation(8, 2)],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize(
    ("rgb", "tir", "error", "message"),
    [
        (
            TOKENS[0],
            TOKENS[0],
            ShapeError,
            r"rgb must have shape \(B, L, C\) with C = 8, got \(5, 8\)",
        ),
        (TOKENS[..., :4], TOKENS, ShapeError, r"rgb must have shape .* got \(2, 5, 4\)"),
        (
            TOKENS,
            TOKENS[:, :4],
            ShapeError,
            r"tir must have the shape of rgb \(2, 5, 8\), got \(2, 4, 8\)",
        ),
        (None, TOKENS, TypeError, "rgb must be a tensor .* got NoneType"),
        (TOKENS, None, TypeError, "tir must be a tensor, got NoneType"),
    ],
)
def test_bad_tokens_are_named(layer, rgb, tir, error, message):
    with pytest.raises(error, match=message):
        layer(rgb, tir)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize(
    ("rgb", "tir", "error", "message"),
    [
        (
            MAP[0],
            MAP[0],
            ShapeError,
            r"rgb must have shape \(B, C, H, W\) with C = 8, got \(8, 4, 4\)",
        ),
        (MAP[:, :4], MAP[:, :4], ShapeError, r"rgb must have shape .* got \(2, 4, 4, 4\)"),
        (
            MAP[None, :, :4],
            MAP[None],
            ShapeError,
            r"rgb must have shape \(B, T, C, H, W\) .* got \(1, 2, 4, 4, 4\)",
        ),
        (
            MAP,
            MAP[..., :3],
            ShapeError,
            r"must have the shape of rgb \(2, 8, 4, 4\), got \(2, 8, 4, 3\)",
        ),
        (
            MAP[:, :, :0],
            MAP[:, :, :0],
            ShapeError,
            r"at least one frame and one position, got \(2, 8, 0, 4\)",
        ),
        (
            MAP,
            MAP.double(),
            TypeError,
            r"must have the dtype of rgb torch\.float32, got torch\.float64",
        ),
        (MAP, MAP.to("meta"), ValueError, "must be on the device of rgb cpu, got meta"),
        (
            MAP.int(),
            MAP.int(),
            TypeError,
            r"rgb must hold real floating-point numbers, got torch\.int32",
        ),
        (None, MAP, TypeError, "rgb must be a tensor .* got NoneType"),
        (MAP, None, TypeError, "must be a tensor, got NoneType"),
    ],
)
def test_bad_maps_are_named(layer, rgb, tir, error, message):
    with pytest.raises(error, match=message):
        layer(rgb, tir)


@pytest.mark.parametrize("name", ["TMR", "CMI", "MAF", "TPI"])
def test_inputs_of_another_precision_than_the_parameters_are_named(name):
    with pytest.raises(
        TypeError, match=r"rgb must have the dtype of the layer's parameters torch\.float32"
    ):
        LAYERS[name](MAP.double(), MAP.double())


@pytest.mark.parametrize(
    "layer", [CMI(CHANNELS), MAF(CHANNELS), MAF(CHANNELS, pooling="spatial")], ids=str
)
def test_a_clip_of_the_stages_without_memory_is_a_batch_of_frames(layer):
    rgb, tir = pair(2, 3, CHANNELS, 4, 5, dtype=torch.float32)
    frames = layer(rgb.flatten(0, 1), tir.flatten(0, 1))
    torch.testing.assert_close(layer(rgb, tir), frames.view_as(rgb))


@pytest.mark.parametrize("layer_type", [TMR, CMI, MAF, TPI])
def test_runs_under_autocast_and_on_the_meta_device(layer_type):
    layer = layer_type(CHANNELS)
    rgb, tir = pair(2, CHANNELS, 4, 4, dtype=torch.float32)
    first = layer(rgb, tir)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(rgb, tir)
    torch.testing.assert_close(mixed, first, rtol=0, atol=0.02)
    shapes = layer.to("meta")(rgb.to("meta"), tir.to("meta"))
    assert (shapes if isinstance(shapes, Tensor) else shapes[0]).shape == rgb.shape

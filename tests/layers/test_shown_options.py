"""What ``print(model)`` shows of a layer: its options, as they were given."""

import inspect

import pytest
from torch import nn

from rgbt_fusion.layers.attention import Attention
from rgbt_fusion.layers.candidate_elimination import CandidateElimination
from rgbt_fusion.layers.cross_attention_fusion import CrossAttentionFusion
from rgbt_fusion.layers.cross_modal_compensation import CrossModalCompensation
from rgbt_fusion.layers.cross_modality_interaction import CMI
from rgbt_fusion.layers.difference_fusion_mamba import DFM
from rgbt_fusion.layers.efficient_multiscale_attention import EfficientMultiscaleAttention
from rgbt_fusion.layers.gated_cross_modal_compensation import GatedCrossModalCompensation
from rgbt_fusion.layers.joint_candidate_elimination import JointCandidateElimination
from rgbt_fusion.layers.layer_order import PooledOrderPredictor, ReleasedOrderPredictor
from rgbt_fusion.layers.mamba import MambaBlock
from rgbt_fusion.layers.modality_aware_fusion import MAF
from rgbt_fusion.layers.multi_stream_fusion import MultiStreamFusion
from rgbt_fusion.layers.mutual_prompter import MutualPrompter
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OFM
from rgbt_fusion.layers.ordered_mamba import OrderedMamba
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMR
from rgbt_fusion.layers.two_way_compensation import TwoWayCompensation
from rgbt_fusion.layers.vit import DropPath, PatchEmbed

START = "dt_min=0.001, dt_max=0.1, dt_init='random', dt_scale=1.0, dt_init_floor=0.0001"

SHOWN: list[tuple[nn.Module, str]] = [
    (Attention(8, 2), "dim=8, num_heads=2, qkv_bias=True, attention='fused'"),
    (
        Attention(8, 2, qkv_bias=False, attention="explicit"),
        "dim=8, num_heads=2, qkv_bias=False, attention='explicit'",
    ),
    (CandidateElimination(keep_ratio=0.5), "keep_ratio=0.5"),
    (CrossAttentionFusion(8, 2), "dim=8, num_heads=2, attention='fused'"),
    (CrossModalCompensation(8, 2, mlp_ratio=3.0), "dim=8, num_heads=2, mlp_ratio=3.0"),
    (CMI(8), "dim=8, direction='tir_to_rgb', scale=1.0"),
    (DFM(8), "dim=8, variant='released'"),
    (EfficientMultiscaleAttention(8, factor=4), "dim=8, factor=4"),
    (
        GatedCrossModalCompensation(8, 2, max_len=30),
        "dim=8, num_heads=2, max_len=30, mlp_ratio=4.0, dropout=0.1, position_std=0.02",
    ),
    (JointCandidateElimination(keep_ratio=0.5), "keep_ratio=0.5, joint='max'"),
    (PooledOrderPredictor(8, 3), "dim=8, num_layers=3"),
    (ReleasedOrderPredictor(8, 3, length=16), "dim=8, num_layers=3"),
    (
        MambaBlock(8),
        "d_model=8, d_state=16, d_conv=4, expand=2, dt_rank=1, "
        f"{START}, conv_bias=True, bias=False, backend='auto'",
    ),
    (
        MambaBlock(32, d_state=4, d_conv=3, expand=1, conv_bias=False, bias=True),
        "d_model=32, d_state=4, d_conv=3, expand=1, dt_rank=2, "
        f"{START}, conv_bias=False, bias=True, backend='auto'",
    ),
    (MAF(8, pooling="spatial", reduction=2), "dim=8, pooling='spatial', reduction=2"),
    (MultiStreamFusion(8, 3), "dim=8, num_streams=3, pooling='global', reduction=4"),
    (
        MutualPrompter(16),
        "num_tokens=16, spatial_attention='literal', token_attention=True, history=True, "
        "gate='sigmoid', form='convolution', reduction=16, fovea_scale=10.0",
    ),
    (
        OFM(8, num_layers=2, order_predictor=None),
        "dim=8, num_layers=2, order_predictor=None, order_gradient='straight_through'",
    ),
    (
        OrderedMamba(8, directions=2),
        "directions=2, d_state=16, d_conv=4, expand=2, dt_rank=1, backend='auto'",
    ),
    (
        TPI(8),
        "dim=8, tmr=True, history=True, cmi='tir_to_rgb', maf='global', scale=1.0, "
        "detach_history=True",
    ),
    (
        TPI(8, tmr=False, history=False, cmi=None, maf=None),
        "dim=8, tmr=False, history=False, cmi=None, maf=None, scale=1.0, detach_history=True",
    ),
    (
        TMR(8, factor=4, hidden=16, history=False),
        "dim=8, factor=4, hidden=16, history=False, detach_history=True",
    ),
    (TwoWayCompensation(8, 2), "gated=False, shared=False"),
    (TwoWayCompensation(8, 2, gated=True, shared=True), "gated=True, shared=True"),
    (DropPath(0.25), "probability=0.25"),
    (PatchEmbed(patch_size=4, dim=8), "patch_size=4, in_channels=3, dim=8"),
]


@pytest.mark.parametrize(("layer", "options"), SHOWN, ids=lambda one: type(one).__name__)
def test_a_layer_shows_its_options(layer: nn.Module, options: str) -> None:
    assert layer.extra_repr() == options


NARROW = {CMI: 8, MAF: 8, MultiStreamFusion: 8}
"""Layers for few channels, as the prompts of TPMRI have."""


@pytest.mark.parametrize("layer", sorted({type(one) for one, _ in SHOWN}, key=str))
def test_a_layer_is_as_wide_as_vit_b_unless_it_is_told(layer: type[nn.Module]) -> None:
    dim = inspect.signature(layer.__init__).parameters.get("dim")
    if dim is not None:
        assert dim.default in (inspect.Parameter.empty, NARROW.get(layer, 768))

"""Trackers as they are usually written.

Attention is written out, streams run in turn, and scans are loops over copies.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from rgbt_fusion.benchmarking.baselines import MambaInPyTorch
from rgbt_fusion.benchmarking.permuted_copies import PermutedCopiesMamba
from rgbt_fusion.layers.attention import Attention
from rgbt_fusion.layers.difference_fusion_mamba import DifferenceFusionMamba
from rgbt_fusion.layers.mamba import MambaBlock
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OrderDynamicFusionMamba
from rgbt_fusion.layers.vit import EncoderBlock
from rgbt_fusion.models.ainet import AINet
from rgbt_fusion.models.interface import Encoding
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.two_stream import TwoStream
from rgbt_fusion.models.walk import Call, Walk

__all__ = [
    "AttentionAsReleased",
    "TwoStreamsInTurn",
    "with_attention_as_released",
    "written_naively",
]


class AttentionAsReleased(Attention):
    """Self-attention as in OSTrack's released code: the whole matrix, scaled afterwards."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Let every token read from all tokens of its sample."""
        B, L, C = tokens.shape
        qkv = (
            self.qkv(tokens)
            .reshape(B, L, 3, self.num_heads, C // self.num_heads)
            .permute(2, 0, 3, 1, 4)
        )
        query, key, value = qkv.unbind(0)
        weights = ((query @ key.transpose(-2, -1)) * (C // self.num_heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(B, L, C))


class TwoStreamsInTurn(TwoStream):
    """The two-stream baseline with one pass of the encoder after the other, not in one batch."""

    def walk(self, call: Call, layers: Sequence[int] = (), *, drawing: bool = False) -> Encoding:
        """Walk with RGB, then with TIR; no candidate is dropped and no layer kept."""
        indices = self.backbone.all_indices(call.search.rgb)
        found = []
        for tokens in self.embed_two_streams(call.template, call.search).chunk(2):
            stream = Walk(self.backbone, tokens)
            for number in range(self.settings.depth):
                stream.run_block(number, keep_ratio=1.0)
            found.append(stream.features())
        return Encoding(found[0] + found[1], (), indices, None, None, call.state)


def with_attention_as_released(model: TrackingNetwork) -> TrackingNetwork:
    """Give every block of a model the released code's attention, with the weights it has.

    The model must eliminate nothing.
    """
    dim = model.settings.dim
    heads = model.settings.num_heads
    for number, block in enumerate(model.backbone.blocks):
        plain = EncoderBlock(dim, heads)
        plain.attn = AttentionAsReleased(dim, heads)
        plain.load_state_dict(block.state_dict())
        model.backbone.blocks[number] = plain
    return model


def written_naively(model: TrackingNetwork) -> TrackingNetwork:
    """Write out a model's attention, run its streams in turn and its scans as loops.

    It computes what it did before.
    """
    if isinstance(model, TwoStream):
        in_turn = TwoStreamsInTurn(model.settings)
        in_turn.load_state_dict(model.state_dict())
        model = in_turn
    if isinstance(model, AINet):
        for dfm in cast(list[DifferenceFusionMamba], model.dfm):
            dfm.mamba = _loop(dfm.mamba)
        _copy_and_loop(cast(OrderDynamicFusionMamba, model.ofm))
    return with_attention_as_released(model)


def _loop(mamba: MambaBlock) -> MambaInPyTorch:
    expand = mamba.d_inner / mamba.d_model
    loop = MambaInPyTorch(mamba.d_model, mamba.d_state, mamba.d_conv, expand, mamba.dt_rank)
    loop.load_state_dict(mamba.state_dict())
    return loop


def _copy_and_loop(ofm: OrderDynamicFusionMamba) -> None:
    scans = ofm.scans
    directions, inner, d_conv = scans.conv_weight.shape
    dim = scans.in_proj.in_features
    copies = PermutedCopiesMamba(
        dim, directions, scans.d_state, d_conv, inner / dim, scans.dt_rank, "reference"
    )
    copies.load_state_dict(scans.state_dict())
    ofm.scans = copies

"""What AINet compares its Mamba layers with: cross-attention for the DFM, all-layer self-attention
for the OFM."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_divisible, check_positive_int
from rgbt_fusion.layers.attention import Attention, AttentionKind, attend, merge_heads, split_heads
from rgbt_fusion.layers.difference_fusion_mamba import FusedStreams
from rgbt_fusion.shapes import check_same_shape, check_shape

__all__ = ["AllLayerSelfAttention", "CrossAttentionFusion"]


class CrossAttentionFusion(nn.Module):
    r"""Enhance each modality by attention to the other, and fuse the two: the transformer in the
    place of the DFM.

    Every token asks all tokens of the other modality; both updates use the streams as they came in.
    A linear layer joins the enhanced streams as in the DFM, so that the two layers differ in their
    interaction alone.

    .. math::
        \hat x^{rgb} &= x^{rgb} + \mathrm{Attention}(\mathrm{LN}(x^{rgb}), \mathrm{LN}(x^{tir})) \\
        \hat x^{tir} &= x^{tir} + \mathrm{Attention}(\mathrm{LN}(x^{tir}), \mathrm{LN}(x^{rgb})) \\
        x^{fused} &= \mathrm{GELU}(\mathrm{LN}([\hat x^{rgb}, \hat x^{tir}] W + b))

    Where the paper is silent: it says "cross-attention instead of DFM" and no more. Both directions
    share their weights, as the DFM's share its mask. ``attention="explicit"`` writes the (L, L)
    matrices out, which is what grows quadratically in its Fig. 5; ``"fused"`` gives the same result
    in memory linear in L.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        ``rgb``, ``tir`` ``(B, L, C)`` to ``FusedStreams`` of three ``(B, L, C)``.

    Raises:
        ShapeError: ``rgb`` of another number of axes or channels; ``tir`` not of its shape.
        ValueError, TypeError: ``num_heads`` does not divide ``dim``; an unknown ``attention``; not
            a whole number.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CrossAttentionFusion
        >>> CrossAttentionFusion(32, 4)(torch.randn(2, 20, 32), torch.randn(2, 20, 32)).fused.shape
        torch.Size([2, 20, 32])

    Source:
        Lu et al., "RGBT Tracking via All-layer Multimodal Interactions with Progressive Fusion
        Mamba" (AINet), AAAI 2025, Fig. 5 (AINet-Transformer).
    """

    def __init__(
        self, dim: int = 768, num_heads: int = 12, *, attention: AttentionKind = "fused"
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.num_heads = check_positive_int(num_heads, name="num_heads")
        check_divisible(dim, num_heads, name="dim", divisor_name="num_heads")
        check_choice(attention, ("fused", "explicit"), name="attention")
        self.attention: AttentionKind = attention
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.fuse = nn.Sequential(nn.Linear(2 * dim, dim), nn.LayerNorm(dim))

    def forward(self, rgb: Tensor, tir: Tensor) -> FusedStreams:
        check_shape(rgb, "B L C", C=self.dim, name="rgb")
        check_same_shape(tir, rgb, name="tir", like_name="rgb")
        rgb_normed, tir_normed = self.norm(rgb), self.norm(tir)
        rgb, tir = (
            rgb + self._read(rgb_normed, tir_normed),
            tir + self._read(tir_normed, rgb_normed),
        )
        return FusedStreams(rgb, tir, F.gelu(self.fuse(torch.cat((rgb, tir), dim=-1))))

    def _read(self, reader: Tensor, other: Tensor) -> Tensor:
        query, key, value = (
            split_heads(x, self.num_heads)
            for x in (self.query(reader), *self.key_value(other).chunk(2, dim=-1))
        )
        return self.proj(merge_heads(attend(query, key, value, attention=self.attention)))

    def extra_repr(self) -> str:
        return f"attention={self.attention!r}"


class AllLayerSelfAttention(nn.Module):
    r"""Let the features of all layers attend to each other and sum them up: the transformer in the
    place of the OFM.

    The layers are laid end to end; self-attention takes the place of the OFM's scans, the rest is
    the OFM's.

    .. math::
        F = [x_1; \dots; x_K], \qquad F' = \mathrm{LN}(F + \mathrm{Attention}(\mathrm{LN}(F))), \qquad
        y = \mathrm{LN}\Big(\sum_{k=1}^{K} F'_k\Big)

    Where the paper is silent: it says "self-attention instead of OFM" and no more. There is no
    embedding of the layer index, so that the order of the layers does not matter.
    ``attention="explicit"`` writes the (K L, K L) matrix out: 177 million numbers at 12 heads and
    12 layers of 320 tokens.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        ``features``: K tensors ``(B, L, C)`` or one ``(B, K, L, C)``, any K; returns ``(B, L, C)``.

    Raises:
        ShapeError: features of another number of axes or channels, or that differ in shape.
        ValueError, TypeError: no feature at all; ``num_heads`` does not divide ``dim``; an unknown
            ``attention``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import AllLayerSelfAttention
        >>> AllLayerSelfAttention(32, 4)([torch.randn(2, 20, 32) for _ in range(3)]).shape
        torch.Size([2, 20, 32])

    Source:
        Lu et al., "RGBT Tracking via All-layer Multimodal Interactions with Progressive Fusion
        Mamba" (AINet), AAAI 2025, Fig. 5 (AINet-Transformer).
    """

    def __init__(
        self, dim: int = 768, num_heads: int = 12, *, attention: AttentionKind = "fused"
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, attention=attention)
        self.norm2 = nn.LayerNorm(dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        layers = self._as_layers(features)
        sequence = layers.flatten(1, 2)
        sequence = self.norm2(sequence + self.attn(self.norm1(sequence)))
        return self.norm(sequence.view_as(layers).sum(dim=1))

    def _as_layers(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        if isinstance(features, Tensor):
            check_shape(features, "B K L C", C=self.dim, name="features")
            return features
        if not features:
            raise ValueError("features must hold at least one layer, got none")
        check_shape(features[0], "B L C", C=self.dim, name="features[0]")
        for index, feature in enumerate(features):
            check_same_shape(
                feature, features[0], name=f"features[{index}]", like_name="features[0]"
            )
        return torch.stack(tuple(features), dim=1)

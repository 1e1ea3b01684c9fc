"""Cross-attention between the modalities: what AINet compares its DFM with."""

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_divisible, check_positive_int
from rgbt_fusion.layers.attention import AttentionKind, attend, merge_heads, split_heads
from rgbt_fusion.layers.difference_fusion_mamba import FusedStreams
from rgbt_fusion.layers.streams import check_token_streams
from rgbt_fusion.typed_module import TypedModule

__all__ = ["CrossAttentionFusion"]


class CrossAttentionFusion(TypedModule):
    r"""Enhance each modality by attention to the other and fuse both, in the place of the DFM.

    Every token asks all tokens of the other modality. Both updates use the streams as they came in.
    A linear layer joins the enhanced streams as in the DFM, so that the two layers differ in their
    interaction alone.

    .. math::
        \hat x^{rgb} &= x^{rgb} + \mathrm{Attention}(\mathrm{LN}(x^{rgb}), \mathrm{LN}(x^{tir})) \\
        \hat x^{tir} &= x^{tir} + \mathrm{Attention}(\mathrm{LN}(x^{tir}), \mathrm{LN}(x^{rgb})) \\
        x^{fused} &= \mathrm{GELU}(\mathrm{LN}([\hat x^{rgb}, \hat x^{tir}] W + b))

    Paper and code: the paper says "cross-attention instead of DFM" and no more, and the variant was
    not released. Both directions share their weights, as the DFM's share its mask.
    ``attention="explicit"`` writes the (L, L) matrices out, which is what grows quadratically in
    the paper's Fig. 5; ``"fused"`` gives the same result in memory linear in L.

    Args:
        dim: channels of the tokens.
        num_heads: heads; must divide ``dim``.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        - rgb, tir: ``(B, L, C)`` with C = ``dim``
        - returns :class:`FusedStreams` of three ``(B, L, C)``

    Raises:
        ShapeError: ``rgb`` does not have the shape above, or ``tir`` differs from it.
        TypeError: ``rgb`` or ``tir`` is not a tensor, or ``dim`` or ``num_heads`` is not a whole
            number.
        ValueError: ``num_heads`` does not divide ``dim``, or ``attention`` is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CrossAttentionFusion
        >>> fusion = CrossAttentionFusion(32, num_heads=4)
        >>> rgb, tir = torch.randn(2, 20, 32), torch.randn(2, 20, 32)
        >>> fusion(rgb, tir).fused.shape
        torch.Size([2, 20, 32])
        >>> torch.equal(fusion(rgb, tir).rgb, fusion(tir, rgb).tir)  # one set of weights
        True

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
        check_choice(attention, get_args(AttentionKind), name="attention")
        self.attention: AttentionKind = attention
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.fuse = nn.Sequential(nn.Linear(2 * dim, dim), nn.LayerNorm(dim))

    def forward(self, rgb: Tensor, tir: Tensor) -> FusedStreams:
        """Enhance and fuse two streams ``(B, L, C)``; return three tensors of that shape."""
        check_token_streams(rgb, tir, dim=self.dim)
        normed_rgb = self.norm(rgb)
        normed_tir = self.norm(tir)
        rgb = rgb + self._read(normed_rgb, normed_tir)
        tir = tir + self._read(normed_tir, normed_rgb)
        return FusedStreams(rgb, tir, self.join_pairs(torch.cat((rgb, tir), dim=-1)))

    def join_pairs(self, pairs: Tensor) -> Tensor:
        """Return the fused feature of enhanced streams that lie side by side, ``(B, L, 2 C)``."""
        return F.gelu(self.fuse(pairs))

    def _read(self, reader: Tensor, other: Tensor) -> Tensor:
        """Return what the tokens of ``reader`` read from those of ``other``."""
        key, value = self.key_value(other).chunk(2, dim=-1)
        attended = attend(
            split_heads(self.query(reader), self.num_heads),
            split_heads(key, self.num_heads),
            split_heads(value, self.num_heads),
            attention=self.attention,
        )
        return self.proj(merge_heads(attended))

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, num_heads={self.num_heads}, attention={self.attention!r}"

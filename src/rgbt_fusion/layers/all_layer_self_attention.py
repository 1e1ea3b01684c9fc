"""Self-attention over the features of all layers: what AINet compares its OFM with."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.layers.attention import Attention, AttentionKind
from rgbt_fusion.shapes import check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["AllLayerSelfAttention"]


class AllLayerSelfAttention(TypedModule):
    r"""Let the features of all layers attend to each other and sum them, in the place of the OFM.

    The layers are laid end to end. Self-attention takes the place of the OFM's scans; the residual,
    the norms and the sum are the OFM's.

    .. math::
        F = [x_1; \dots; x_K], \qquad F' = \mathrm{LN}(F + \mathrm{Attention}(\mathrm{LN}(F))),
        \qquad y = \mathrm{LN}\Big(\sum_{k=1}^{K} F'_k\Big)

    Paper and code: the paper says "self-attention instead of OFM" and no more, and the variant was
    not released. There is no embedding of the layer index, so the order of the layers does not
    matter. ``attention="explicit"`` writes the (K L, K L) matrix out: 177 million numbers at 12
    heads and 12 layers of 320 tokens.

    Args:
        dim: channels of the tokens.
        num_heads: heads; must divide ``dim``.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        - features: K tensors ``(B, L, C)``, or one ``(B, K, L, C)``, any K, with C = ``dim``
        - returns ``(B, L, C)``

    Raises:
        ShapeError: ``features`` have another shape than above, or differ in shape.
        TypeError: ``features`` are not tensors, or ``dim`` or ``num_heads`` is not a whole number.
        ValueError: ``features`` is empty, ``num_heads`` does not divide ``dim``, or ``attention``
            is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion import AllLayerSelfAttention
        >>> gather = AllLayerSelfAttention(32, num_heads=4)
        >>> features = torch.randn(2, 3, 20, 32)  # three layers
        >>> gather(features).shape
        torch.Size([2, 20, 32])
        >>> torch.allclose(gather(features), gather(features.flip(1)), atol=1e-5)  # in any order
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
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, attention=attention)
        self.norm2 = nn.LayerNorm(dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Fuse K features ``(B, L, C)``, or one ``(B, K, L, C)``; return ``(B, L, C)``."""
        layers = self._as_layers(features)
        sequence = layers.flatten(1, 2)
        sequence = self.norm2(sequence + self.attn(self.norm1(sequence)))
        return self.norm(sequence.view_as(layers).sum(dim=1))

    def _as_layers(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Return the features as one tensor ``(B, K, L, C)``."""
        if isinstance(features, Tensor):
            check_shape(features, "B K L C", C=self.dim, name="features")
            return features
        if not features:
            raise ValueError("features must hold at least one layer, got none")
        first = features[0]
        check_shape(first, "B L C", C=self.dim, name="features[0]")
        for index, feature in enumerate(features):
            check_same_shape(feature, first, name=f"features[{index}]", like_name="features[0]")
        return torch.stack(tuple(features), dim=1)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, num_heads={self.attn.num_heads}, attention={self.attn.attention!r}"

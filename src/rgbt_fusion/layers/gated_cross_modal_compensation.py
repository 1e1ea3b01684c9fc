"""CMC1: compensation with positions and a gate."""

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_divisible, check_finite_number, check_positive_int
from rgbt_fusion.layers.attention import attend, merge_heads, split_heads
from rgbt_fusion.layers.cross_modal_compensation import feed_forward
from rgbt_fusion.layers.streams import check_token_streams
from rgbt_fusion.typed_module import TypedModule

__all__ = ["CMC1", "GatedCrossModalCompensation"]


class GatedCrossModalCompensation(TypedModule):
    r"""Compensate RGB tokens by gated attention that knows where the keys lie (the notes' CMC1).

    Each modality has its own linear layer and norm. A learned table gives every key its place. A
    gate decides channel by channel how much of RGB gives way to the answer, and a norm and a
    feed-forward layer follow.

    .. math::
        Q &= \mathrm{LN}(x^{tir} W_q), \quad K = \mathrm{LN}(x^{rgb} W_k), \quad
        V = \mathrm{LN}(x^{rgb} W_v) \\
        A &= \mathrm{softmax}(Q K^T / \sqrt{D} + Q P^T) V W_o \\
        g &= \sigma([x^{rgb}, A] W_g), \qquad G = \mathrm{LN}(g \odot x^{rgb} + (1 - g) \odot A) \\
        y &= \mathrm{LN}(x^{rgb} + \mathrm{FFN}(G))

    The scores are one product, ``Q (K / sqrt(D) + P)^T``, so the fused kernel computes them too.

    Paper and code: the notes call the table relative; it is absolute, one row for each of
    ``max_len`` places. They start it from a standard normal, at which the softmax of the unscaled
    ``Q P^T`` is saturated. Here it starts at 0.02 as a ViT's; ``position_std=1.0`` gives the notes'
    start.

    Args:
        dim: channels of the tokens.
        num_heads: heads; must divide ``dim``.
        max_len: rows of the position table, the longest sequence the layer takes (576 search tokens
            at 384 pixels need more than the notes' 500).
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.
        dropout: probability of dropping an entry of the attention matrix while training.
        position_std: standard deviation from which the table is drawn.

    Shape:
        - rgb, tir: ``(B, L, C)`` with C = ``dim`` and L at most ``max_len``
        - returns the compensated RGB tokens ``(B, L, C)``

    Raises:
        ShapeError: ``rgb`` does not have the shape above or is longer than ``max_len``, or ``tir``
            differs from it.
        TypeError: ``rgb`` or ``tir`` is not a tensor, or an argument is not a number.
        ValueError: ``num_heads`` does not divide ``dim``, or an argument is out of range.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CMC1
        >>> cmc1 = CMC1(32, num_heads=4, max_len=20)
        >>> cmc1(torch.randn(2, 20, 32), torch.randn(2, 20, 32)).shape
        torch.Size([2, 20, 32])
        >>> cmc1(torch.randn(2, 21, 32), torch.randn(2, 21, 32))
        Traceback (most recent call last):
        rgbt_fusion.checks.ShapeError: rgb must have at most max_len = 20 tokens, got (2, 21, 32)

    Source:
        The notes on cross-modal compensation, CMCBlock1 and CustomCrossModalAttention.
    """

    def __init__(
        self,
        dim: int = 768,
        num_heads: int = 12,
        *,
        max_len: int = 500,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        position_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.num_heads = check_positive_int(num_heads, name="num_heads")
        check_divisible(dim, num_heads, name="dim", divisor_name="num_heads")
        self.max_len = check_positive_int(max_len, name="max_len")
        self.mlp_ratio = mlp_ratio
        self.dropout = check_finite_number(dropout, name="dropout", low=0.0, high=1.0)
        self.position_std = check_finite_number(position_std, name="position_std", low=0.0)
        self.query_proj = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.key_proj = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.value_proj = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.position = nn.Parameter(position_std * torch.randn(max_len, dim))
        self.proj = nn.Linear(dim, dim)
        self.gate = nn.Linear(2 * dim, dim)
        self.gated_norm = nn.LayerNorm(dim)
        self.feed_forward = feed_forward(dim, mlp_ratio)
        self.norm = nn.LayerNorm(dim)

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        """Return ``rgb (B, L, C)`` compensated by what ``tir (B, L, C)`` points at."""
        check_token_streams(rgb, tir, dim=self.dim)
        if rgb.shape[1] > self.max_len:
            raise ShapeError(
                f"rgb must have at most max_len = {self.max_len} tokens, got {tuple(rgb.shape)}"
            )
        attended = self._attend(rgb, tir)
        gate = torch.sigmoid(self.gate(torch.cat((rgb, attended), dim=-1)))
        gated = self.gated_norm(attended + gate * (rgb - attended))
        return self.norm(rgb + self.feed_forward(gated))

    def _attend(self, rgb: Tensor, tir: Tensor) -> Tensor:
        # the kernel scales by 1 / sqrt(D); the table, which is not to be scaled, is raised by
        # sqrt(D) beforehand
        position = self.position[: rgb.shape[1]] * (self.dim // self.num_heads) ** 0.5
        query = split_heads(self.query_proj(tir), self.num_heads)
        key = split_heads(self.key_proj(rgb) + position, self.num_heads)
        value = split_heads(self.value_proj(rgb), self.num_heads)
        dropout = self.dropout if self.training else 0.0
        return self.proj(merge_heads(attend(query, key, value, dropout=dropout)))

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"dim={self.dim}, num_heads={self.num_heads}, max_len={self.max_len}, "
            f"mlp_ratio={self.mlp_ratio}, dropout={self.dropout}, position_std={self.position_std}"
        )


CMC1 = GatedCrossModalCompensation

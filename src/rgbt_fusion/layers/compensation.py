"""Cross-modal compensation: RGB tokens gain what the TIR tokens point at (the notes' CMC and
CMC1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_divisible, check_finite_number, check_positive_int
from rgbt_fusion.layers.attention import attend, merge_heads, split_heads
from rgbt_fusion.shapes import check_same_shape, check_shape

__all__ = [
    "CMC",
    "CMC1",
    "CompensatedStreams",
    "CrossModalCompensation",
    "GatedCrossModalCompensation",
    "TwoWayCompensation",
]


class CompensatedStreams(NamedTuple):
    """Both streams after :class:`TwoWayCompensation`, each ``(B, L, C)``."""

    rgb: Tensor
    tir: Tensor


class CrossModalCompensation(nn.Module):
    r"""Compensate RGB tokens by attention that TIR tokens direct (CMC, the notes' best).

    TIR asks, RGB answers: queries come from TIR, keys and values from RGB of the same sample. A
    feed-forward layer works on the answer alone, and its result is added to RGB.

    .. math::
        A = \mathrm{MHA}(x^{tir} W_q,\ x^{rgb} W_{kv},\ x^{rgb} W_{kv}), \qquad
        y = \mathrm{LN}(x^{rgb} + \mathrm{FFN}(A))

    Where the paper is silent: the notes' code gives batch-first tokens to an attention that expects
    the sequence first, so that samples of a batch attend to each other and, at batch 1, each token
    only to itself, whatever TIR holds. Here attention stays within a sample. ``W_q`` and ``W_kv``
    come before the attention's own input layers, as there. Parameter names are the notes', so that
    a state_dict of theirs loads.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.

    Shape:
        ``rgb``, ``tir`` ``(B, L, C)`` to ``(B, L, C)``.

    Raises:
        ShapeError: ``rgb`` of another number of axes or channels; ``tir`` not of its shape.
        ValueError, TypeError: ``num_heads`` does not divide ``dim``; not a whole number.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CrossModalCompensation
        >>> CrossModalCompensation(32, 4)(torch.randn(2, 20, 32), torch.randn(2, 20, 32)).shape
        torch.Size([2, 20, 32])

    Source:
        The notes on cross-modal compensation, CMCBlock.
    """

    def __init__(self, dim: int = 768, num_heads: int = 12, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.dim = _check_width(dim, num_heads)
        self.query_proj = nn.Linear(dim, dim)
        self.key_value_proj = nn.Linear(dim, dim)
        self.cmc_attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.feed_forward = _feed_forward(dim, mlp_ratio)
        self.norm = nn.LayerNorm(dim)

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        _check_streams(rgb, tir, self.dim)
        key_value = self.key_value_proj(rgb)
        attended, _ = self.cmc_attn(self.query_proj(tir), key_value, key_value, need_weights=False)
        return self.norm(rgb + self.feed_forward(attended))


class GatedCrossModalCompensation(nn.Module):
    r"""Compensate RGB tokens by gated attention that knows where the keys lie (CMC1 of the notes).

    Each modality has its own linear layer and norm. A learned table gives every key its place, a
    gate decides channel by channel how much of RGB gives way to the answer, and a norm and a
    feed-forward layer follow.

    .. math::
        Q &= \mathrm{LN}(x^{tir} W_q), \quad K = \mathrm{LN}(x^{rgb} W_k), \quad V = \mathrm{LN}(x^{rgb} W_v) \\
        A &= \mathrm{softmax}(Q K^T / \sqrt{D} + Q P^T) V W_o \\
        g &= \sigma([x^{rgb}, A] W_g), \qquad G = \mathrm{LN}(g \odot x^{rgb} + (1 - g) \odot A) \\
        y &= \mathrm{LN}(x^{rgb} + \mathrm{FFN}(G))

    The scores are one product, ``Q (K / sqrt(D) + P)^T``, so that the fused kernel computes them
    too.

    Where the paper is silent: the notes call the table relative; it is absolute, a row for each of
    ``max_len`` places. They start it from a standard normal, at which the softmax of unscaled ``Q
    P^T`` is saturated; here it starts at 0.02 as a ViT's, and ``position_std=1.0`` gives the notes'
    start.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        max_len: rows of the position table, the longest sequence the layer takes (576 search tokens
            at 384 need more than the notes' 500).
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.
        dropout: probability of dropping an entry of the attention matrix while training.
        position_std: standard deviation from which the table is drawn.

    Shape:
        ``rgb``, ``tir`` ``(B, L, C)`` with ``L <= max_len``, to ``(B, L, C)``.

    Raises:
        ShapeError: ``L`` above ``max_len``; ``rgb`` of another number of axes or channels; ``tir``
            not of its shape.
        ValueError, TypeError: an argument out of range, or not a number.

    Example:
        >>> import torch
        >>> from rgbt_fusion import GatedCrossModalCompensation
        >>> layer = GatedCrossModalCompensation(32, 4, max_len=20)
        >>> layer(torch.randn(2, 20, 32), torch.randn(2, 20, 32)).shape
        torch.Size([2, 20, 32])

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
        self.dim = _check_width(dim, num_heads)
        self.num_heads = num_heads
        self.max_len = check_positive_int(max_len, name="max_len")
        self.dropout = check_finite_number(dropout, name="dropout", low=0.0, high=1.0)
        check_finite_number(position_std, name="position_std", low=0.0)
        self.query_proj = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.key_proj = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.value_proj = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.position = nn.Parameter(position_std * torch.randn(max_len, dim))
        self.proj = nn.Linear(dim, dim)
        self.gate = nn.Linear(2 * dim, dim)
        self.gated_norm = nn.LayerNorm(dim)
        self.feed_forward = _feed_forward(dim, mlp_ratio)
        self.norm = nn.LayerNorm(dim)

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        _check_streams(rgb, tir, self.dim)
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
        query, key, value = (
            split_heads(x, self.num_heads)
            for x in (self.query_proj(tir), self.key_proj(rgb) + position, self.value_proj(rgb))
        )
        attended = attend(query, key, value, dropout=self.dropout if self.training else 0.0)
        return self.proj(merge_heads(attended))

    def extra_repr(self) -> str:
        return f"max_len={self.max_len}, dropout={self.dropout}"


class TwoWayCompensation(nn.Module):
    r"""Compensate both streams by each other, at once.

    Two compensation layers, one for each direction; both read the streams as they came in.

    .. math::
        y^{rgb} = \mathrm{CMC}_1(x^{rgb}, x^{tir}), \qquad y^{tir} = \mathrm{CMC}_2(x^{tir}, x^{rgb})

    Where the paper is silent: the notes compensate RGB only. ``shared=True`` uses one set of
    weights both ways.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        gated: :class:`GatedCrossModalCompensation` in place of :class:`CrossModalCompensation`.
        shared: whether both directions share their weights.
        mlp_ratio: hidden channels of the feed-forward layers over ``dim``.
        max_len, dropout, position_std: of the gated form; the other has no use for them.

    Shape:
        ``rgb``, ``tir`` ``(B, L, C)`` to ``CompensatedStreams`` of two ``(B, L, C)``.

    Raises:
        ShapeError, ValueError, TypeError: see the two layers.

    Example:
        >>> import torch
        >>> from rgbt_fusion import TwoWayCompensation
        >>> out = TwoWayCompensation(32, 4)(torch.randn(2, 20, 32), torch.randn(2, 20, 32))
        >>> out.rgb.shape, out.tir.shape
        (torch.Size([2, 20, 32]), torch.Size([2, 20, 32]))

    Source:
        The notes on cross-modal compensation, made symmetric.
    """

    def __init__(
        self,
        dim: int = 768,
        num_heads: int = 12,
        *,
        gated: bool = False,
        shared: bool = False,
        mlp_ratio: float = 4.0,
        max_len: int = 500,
        dropout: float = 0.1,
        position_std: float = 0.02,
    ) -> None:
        super().__init__()

        def build() -> nn.Module:
            if not gated:
                return CrossModalCompensation(dim, num_heads, mlp_ratio=mlp_ratio)
            return GatedCrossModalCompensation(
                dim,
                num_heads,
                max_len=max_len,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
                position_std=position_std,
            )

        self.to_rgb = build()
        # held once when shared: a state_dict with one tensor under two names cannot be saved as
        # safetensors
        self.to_tir = None if shared else build()

    def forward(self, rgb: Tensor, tir: Tensor) -> CompensatedStreams:
        to_tir = self.to_rgb if self.to_tir is None else self.to_tir
        return CompensatedStreams(self.to_rgb(rgb, tir), to_tir(tir, rgb))


def _feed_forward(dim: int, mlp_ratio: float) -> nn.Sequential:
    hidden = int(dim * mlp_ratio)
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


def _check_width(dim: int, num_heads: int) -> int:
    check_positive_int(dim, name="dim")
    check_positive_int(num_heads, name="num_heads")
    check_divisible(dim, num_heads, name="dim", divisor_name="num_heads")
    return dim


def _check_streams(rgb: Tensor, tir: Tensor, dim: int) -> None:
    check_shape(rgb, "B L C", C=dim, name="rgb")
    check_same_shape(tir, rgb, name="tir", like_name="rgb")


CMC, CMC1 = CrossModalCompensation, GatedCrossModalCompensation

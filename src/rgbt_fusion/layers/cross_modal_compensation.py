"""CMC: RGB tokens gain what the TIR tokens point at."""

from torch import Tensor, nn

from rgbt_fusion.checks import check_divisible, check_positive_int
from rgbt_fusion.layers.streams import check_token_streams
from rgbt_fusion.typed_module import TypedModule

__all__ = ["CMC", "CrossModalCompensation", "feed_forward"]


class CrossModalCompensation(TypedModule):
    r"""Compensate RGB tokens by attention that TIR tokens direct (CMC, the notes' best).

    TIR asks, RGB answers: queries come from TIR, keys and values from RGB of the same sample. A
    feed-forward layer works on the answer alone, and its result is added to RGB.

    .. math::
        A = \mathrm{MHA}(x^{tir} W_q,\ x^{rgb} W_{kv},\ x^{rgb} W_{kv}), \qquad
        y = \mathrm{LN}(x^{rgb} + \mathrm{FFN}(A))

    Paper and code: the notes' code gives batch-first tokens to an attention that expects the
    sequence first. Samples of a batch then attend to each other and, at batch 1, each token only to
    itself, whatever TIR holds. Here attention stays within a sample. ``W_q`` and ``W_kv`` come
    before the attention's own input layers, as there. Parameter names are the notes', so that their
    state_dict loads.

    Args:
        dim: channels of the tokens.
        num_heads: heads; must divide ``dim``.
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.

    Shape:
        - rgb, tir: ``(B, L, C)`` with C = ``dim``
        - returns the compensated RGB tokens ``(B, L, C)``

    Raises:
        ShapeError: ``rgb`` does not have the shape above, or ``tir`` differs from it.
        TypeError: ``rgb`` or ``tir`` is not a tensor, or ``dim`` or ``num_heads`` is not a whole
            number.
        ValueError: ``num_heads`` does not divide ``dim``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CMC
        >>> cmc = CMC(32, num_heads=4)
        >>> rgb, tir = torch.randn(2, 20, 32), torch.randn(2, 20, 32)
        >>> cmc(rgb, tir).shape
        torch.Size([2, 20, 32])
        >>> torch.allclose(cmc(rgb[:1], tir[:1]), cmc(rgb, tir)[:1], atol=1e-5)  # sample by sample
        True

    Source:
        The notes on cross-modal compensation, CMCBlock.
    """

    def __init__(self, dim: int = 768, num_heads: int = 12, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.num_heads = check_positive_int(num_heads, name="num_heads")
        check_divisible(dim, num_heads, name="dim", divisor_name="num_heads")
        self.mlp_ratio = mlp_ratio
        self.query_proj = nn.Linear(dim, dim)
        self.key_value_proj = nn.Linear(dim, dim)
        self.cmc_attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.feed_forward = feed_forward(dim, mlp_ratio)
        self.norm = nn.LayerNorm(dim)

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        """Return ``rgb (B, L, C)`` compensated by what ``tir (B, L, C)`` points at."""
        check_token_streams(rgb, tir, dim=self.dim)
        key_value = self.key_value_proj(rgb)
        attended, _ = self.cmc_attn(self.query_proj(tir), key_value, key_value, need_weights=False)
        return self.norm(rgb + self.feed_forward(attended))

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, num_heads={self.num_heads}, mlp_ratio={self.mlp_ratio}"


def feed_forward(dim: int, mlp_ratio: float) -> nn.Sequential:
    """Return the feed-forward layer of a compensation: two linear layers with a GELU between."""
    hidden = int(dim * mlp_ratio)
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


CMC = CrossModalCompensation

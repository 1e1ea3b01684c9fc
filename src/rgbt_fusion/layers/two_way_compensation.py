"""Compensation in both directions at once."""

from typing import NamedTuple

from torch import Tensor

from rgbt_fusion.layers.cross_modal_compensation import CrossModalCompensation
from rgbt_fusion.layers.gated_cross_modal_compensation import GatedCrossModalCompensation
from rgbt_fusion.typed_module import TypedModule

__all__ = ["CompensatedStreams", "TwoWayCompensation"]


class CompensatedStreams(NamedTuple):
    """Both streams after :class:`TwoWayCompensation`, each ``(B, L, C)``."""

    rgb: Tensor
    tir: Tensor


class TwoWayCompensation(TypedModule):
    r"""Compensate both streams by each other, at once.

    Two compensation layers, one per direction; both read the streams as they came in.

    .. math::
        y^{rgb} = \mathrm{CMC}_1(x^{rgb}, x^{tir}), \qquad
        y^{tir} = \mathrm{CMC}_2(x^{tir}, x^{rgb})

    Paper and code: the notes compensate RGB only. ``shared=True`` uses one set of weights both
    ways.

    Args:
        dim: channels of the tokens.
        num_heads: heads; must divide ``dim``.
        gated: :class:`GatedCrossModalCompensation` in place of :class:`CrossModalCompensation`.
        shared: let both directions share their weights.
        mlp_ratio: hidden channels of the feed-forward layers over ``dim``.
        max_len, dropout, position_std: of the gated form; the other does not read them.

    Shape:
        - rgb, tir: ``(B, L, C)`` with C = ``dim``
        - returns :class:`CompensatedStreams` of two ``(B, L, C)``

    Raises:
        ShapeError, TypeError, ValueError: as the layer that ``gated`` selects.

    Example:
        >>> import torch
        >>> from rgbt_fusion import TwoWayCompensation
        >>> both_ways = TwoWayCompensation(32, num_heads=4, shared=True)
        >>> rgb, tir = torch.randn(2, 20, 32), torch.randn(2, 20, 32)
        >>> torch.equal(both_ways(rgb, tir).rgb, both_ways(tir, rgb).tir)
        True

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

        def build() -> CrossModalCompensation | GatedCrossModalCompensation:
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

        self.gated = gated
        self.to_rgb = build()
        # held once when shared: a state_dict with one tensor under two names cannot be saved as
        # safetensors
        self.to_tir = None if shared else build()

    def forward(self, rgb: Tensor, tir: Tensor) -> CompensatedStreams:
        """Return both streams ``(B, L, C)``, each compensated by the other."""
        to_tir = self.to_rgb if self.to_tir is None else self.to_tir
        return CompensatedStreams(self.to_rgb(rgb, tir), to_tir(tir, rgb))

    def extra_repr(self) -> str:
        """Show the options; those of the two layers stand beside them."""
        return f"gated={self.gated}, shared={self.to_tir is None}"

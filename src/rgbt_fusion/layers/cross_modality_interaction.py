"""CMI: let the RGB map read from the TIR map."""

from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int
from rgbt_fusion.layers.streams import check_map_streams
from rgbt_fusion.typed_module import TypedModule

__all__ = ["CMI", "CMIDirection", "CrossModalityInteraction"]

CMIDirection = Literal["tir_to_rgb", "bidirectional"]
"""Which map reads from which."""


class CrossModalityInteraction(TypedModule):
    r"""Let every RGB position gather what it lacks from the TIR map, by one cross-attention.

    Queries come from RGB, keys and values from TIR, each by a 1x1 convolution, the queries and keys
    at half the channels. The result is added to RGB.

    .. math::
        Q = W_q * \hat F_{rgb}, \quad K = W_k * \hat F_{tir}, \quad V = W_v * \hat F_{tir}, \quad
        A = \mathrm{softmax}(Q^\top K), \quad F_{cmi} = V A^\top + \hat F_{rgb}

    Paper and code: convolutions have a bias and nothing follows the attention, which gives the
    published 144 parameters at C = 8. The paper does not scale the scores; the article's code does,
    by ``(C / 8) ** -0.5``, and adds an output projection. The bidirectional ablation has a second
    attention, TIR reading RGB with weights of its own, and returns the mean of the two enhanced
    maps. The matrix A is written out: fused attention is slower here on a CPU, because its kernel
    wants queries with as many channels as the values.

    Args:
        dim: channels of both streams.
        direction: ``"tir_to_rgb"`` (the paper) or ``"bidirectional"`` (its ablation).
        scale: factor on the scores before the softmax.

    Shape:
        - rgb, tir: ``(B, C, H, W)`` or ``(B, T, C, H, W)`` with C = ``dim``, floating point, in the
          dtype of the parameters
        - returns the enhanced map, in the shape and dtype of ``rgb``

    Raises:
        ShapeError: ``rgb`` does not have a shape above, or ``tir`` differs from it.
        TypeError: ``rgb`` or ``tir`` is not a tensor of the parameters' dtype.
        ValueError: ``direction`` is unknown, ``scale`` is not finite, or ``tir`` lies on another
            device than ``rgb``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CMI
        >>> cmi = CMI(8)
        >>> cmi(torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16)).shape
        torch.Size([2, 8, 16, 16])
        >>> sum(p.numel() for p in cmi.parameters())
        144

    Source:
        Li et al., "Three-stage progressive modality reweighting and interaction framework for
        robust RGB-T tracking", Knowledge-Based Systems 339, 2026, eq. 4-6.
    """

    takes_maps: ClassVar[bool] = True
    """Say to :class:`~rgbt_fusion.AnyPlace` what the layer is made for."""

    def __init__(
        self, dim: int = 8, *, direction: CMIDirection = "tir_to_rgb", scale: float = 1.0
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        check_choice(direction, get_args(CMIDirection), name="direction")
        self.direction: CMIDirection = direction
        self.scale = check_finite_number(scale, name="scale")
        self.tir_to_rgb = _MapAttention(dim, self.scale)
        self.rgb_to_tir = _MapAttention(dim, self.scale) if direction == "bidirectional" else None

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        """Return ``rgb`` with what it gathers from ``tir``; maps ``(B, C, H, W)`` or clips."""
        check_map_streams(rgb, tir, dim=self.dim, parameter=self.tir_to_rgb.q.weight)
        shape = rgb.shape
        rgb = rgb.flatten(0, -4)
        tir = tir.flatten(0, -4)
        enhanced = rgb + self.tir_to_rgb(rgb, tir)
        if self.rgb_to_tir is not None:
            enhanced = (enhanced + tir + self.rgb_to_tir(tir, rgb)) / 2
        return enhanced.view(shape)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, direction={self.direction!r}, scale={self.scale}"


class _MapAttention(TypedModule):
    """Equations 4 and 5: the positions of ``queries`` read those of ``values``, maps both."""

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        half = max(1, dim // 2)
        self.q = nn.Conv2d(dim, half, 1)
        self.k = nn.Conv2d(dim, half, 1)
        self.v = nn.Conv2d(dim, dim, 1)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """Return what ``queries (B, C, H, W)`` read from ``values``, in their shape."""
        q = self.q(queries).flatten(2)
        if self.scale != 1.0:
            q = q * self.scale
        attention = (q.mT @ self.k(values).flatten(2)).softmax(-1)
        return (self.v(values).flatten(2) @ attention.mT).view_as(queries)


CMI = CrossModalityInteraction

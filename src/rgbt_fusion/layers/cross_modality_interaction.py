"""CMI: let the RGB map read from the TIR map."""

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_choice, check_finite_number, check_positive_int
from rgbt_fusion.shapes import (
    check_floating,
    check_same_device,
    check_same_dtype,
    check_same_shape,
    check_shape,
)

__all__ = ["CMI", "CrossModalityInteraction"]


class CrossModalityInteraction(nn.Module):
    r"""Let every RGB position gather what it lacks from the TIR map, by one cross-attention.

    Queries come from RGB, keys and values from TIR, each by a 1x1 convolution, the queries and keys
    at half the width; the result is added to RGB.

    .. math::
        Q = W_q * \hat F_{rgb}, \quad K = W_k * \hat F_{tir}, \quad V = W_v * \hat F_{tir}, \quad
        A = \mathrm{softmax}(Q^\top K), \quad F_{cmi} = V A^\top + \hat F_{rgb}

    Where the paper is silent: convolutions have a bias and nothing follows the attention, which
    gives the published 144 parameters at C = 8. The paper does not scale the scores; the article's
    code does, by ``(C / 8) ** -0.5``, and adds an output projection. The bidirectional ablation has
    a second attention, TIR reading RGB with weights of its own, and returns the mean of the two
    enhanced maps. The matrix A is written out: on a CPU this is faster than fused attention here,
    whose kernel wants queries as wide as the values.

    Args:
        channels: channels C of both streams.
        direction: ``"tir_to_rgb"`` (the paper) or ``"bidirectional"`` (its ablation).
        scale: factor on the scores before the softmax.

    Shape:
        rgb, tir: ``(B, C, H, W)`` or ``(B, T, C, H, W)``, floating point, with the dtype of the
        parameters. returns: the enhanced map, shape and dtype of ``rgb``.

    Raises:
        TypeError: an input is not a tensor of the parameters' dtype.
        ShapeError: the streams' shapes are wrong or differ.
        ValueError: ``direction`` is unknown, ``scale`` is not finite, or devices differ.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CMI
        >>> cmi = CMI(8)
        >>> cmi(torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16)).shape
        torch.Size([2, 8, 16, 16])
        >>> sum(p.numel() for p in cmi.parameters())
        144

    Source: Li et al., Knowledge-Based Systems 339, 2026, equations 4-6.
    """

    def __init__(
        self, channels: int = 8, *, direction: str = "tir_to_rgb", scale: float = 1.0
    ) -> None:
        super().__init__()
        self.channels = check_positive_int(channels, name="channels")
        check_choice(direction, ("tir_to_rgb", "bidirectional"), name="direction")
        self.tir_to_rgb = _MapAttention(channels, check_finite_number(scale, name="scale"))
        self.rgb_to_tir = _MapAttention(channels, scale) if direction == "bidirectional" else None

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        _check_maps(rgb, tir, "tir", self.channels, self.tir_to_rgb.q.weight)
        shape, rgb, tir = rgb.shape, rgb.flatten(0, -4), tir.flatten(0, -4)
        enhanced = rgb + self.tir_to_rgb(rgb, tir)
        if self.rgb_to_tir is not None:
            enhanced = (enhanced + tir + self.rgb_to_tir(tir, rgb)) / 2
        return enhanced.view(shape)


class _MapAttention(nn.Module):
    """Equations 4 and 5: the positions of ``queries`` read those of ``values``, both ``(B, C, H,
    W)``."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        half = max(1, channels // 2)
        self.q = nn.Conv2d(channels, half, 1)
        self.k = nn.Conv2d(channels, half, 1)
        self.v = nn.Conv2d(channels, channels, 1)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        q = self.q(queries).flatten(2)
        if self.scale != 1.0:
            q = q * self.scale
        attention = (q.mT @ self.k(values).flatten(2)).softmax(-1)
        return (self.v(values).flatten(2) @ attention.mT).view_as(queries)


def _check_maps(rgb: Tensor, other: Tensor, name: str, channels: int, weight: Tensor) -> None:
    """Check a pair of maps, or of clips of maps, and that the layer's weights fit them."""
    axes = "B T C H W" if isinstance(rgb, Tensor) and rgb.dim() == 5 else "B C H W"
    check_shape(rgb, axes, C=channels, name="rgb")
    if 0 in rgb.shape[1:]:
        raise ShapeError(
            f"rgb must have at least one frame and one position, got {tuple(rgb.shape)}"
        )
    check_same_shape(other, rgb, name=name, like_name="rgb")
    check_same_device(other, rgb, name=name, like_name="rgb")
    check_floating(rgb, name="rgb")
    check_same_dtype(other, rgb, name=name, like_name="rgb")
    if rgb.dtype != weight.dtype and not torch.is_autocast_enabled(rgb.device.type):
        check_same_dtype(rgb, weight, name="rgb", like_name="the layer's parameters")


CMI = CrossModalityInteraction

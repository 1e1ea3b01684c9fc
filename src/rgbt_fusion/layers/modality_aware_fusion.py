"""MAF: fuse two maps with weights that the pair itself decides."""

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.layers.streams import check_map_streams
from rgbt_fusion.typed_module import TypedModule

__all__ = ["MAF", "MAFPooling", "ModalityAwareFusion"]

MAFPooling = Literal["global", "spatial"]
"""One pair of weights per sample, or one per position."""


class ModalityAwareFusion(TypedModule):
    r"""Blend the reweighted RGB map with the enhanced one by two weights that sum to one.

    Both maps are averaged over their positions. A two-layer perceptron turns the pooled pair into
    the two weights of the sample, so that an enhancement that the frame as a whole does not support
    is held back.

    .. math::
        [\alpha, \beta] = \mathrm{softmax}(W_2\, \mathrm{ReLU}(W_1 [\mathrm{GAP}(\hat F_{rgb}),
        \mathrm{GAP}(F_{cmi})])), \quad F_{fused} = \alpha \hat F_{rgb} + \beta F_{cmi}

    Paper and code: both layers have a bias and C / 4 hidden channels, which gives the published 40
    parameters at C = 8. The spatial ablation applies the same perceptron at every position instead
    of to the mean, so both forms share their parameters.

    Args:
        dim: channels of both maps.
        pooling: ``"global"`` (the paper) or ``"spatial"`` (its ablation: one pair of weights per
            position).
        reduction: the perceptron has ``dim // reduction`` hidden channels, at least one.

    Shape:
        - rgb, enhanced: ``(B, C, H, W)`` or ``(B, T, C, H, W)`` with C = ``dim``, floating point,
          in the dtype of the parameters
        - returns the fused map, in the shape and dtype of ``rgb``

    Raises:
        ShapeError: ``rgb`` does not have a shape above, or ``enhanced`` differs from it.
        TypeError: ``rgb`` or ``enhanced`` is not a tensor of the parameters' dtype.
        ValueError: ``pooling`` is unknown, or ``enhanced`` lies on another device than ``rgb``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import MAF
        >>> maf = MAF(8)
        >>> same = torch.randn(2, 8, 16, 16)
        >>> torch.equal(maf(same, same), same)  # the weights sum to one
        True
        >>> sum(p.numel() for p in maf.parameters())
        40

    Source:
        Li et al., "Three-stage progressive modality reweighting and interaction framework for
        robust RGB-T tracking", Knowledge-Based Systems 339, 2026, eq. 7-9.
    """

    takes_maps: ClassVar[bool] = True
    """Say to :class:`~rgbt_fusion.AnyPlace` what the layer is made for."""

    def __init__(self, dim: int = 8, *, pooling: MAFPooling = "global", reduction: int = 4) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        check_choice(pooling, get_args(MAFPooling), name="pooling")
        self.pooling: MAFPooling = pooling
        self.reduction = check_positive_int(reduction, name="reduction")
        hidden = max(1, dim // reduction)
        self.fc1 = nn.Linear(2 * dim, hidden)
        self.fc2 = nn.Linear(hidden, 2)

    def forward(self, rgb: Tensor, enhanced: Tensor) -> Tensor:
        """Blend two maps ``(B, C, H, W)``, or clips of maps, into one of that shape."""
        check_map_streams(rgb, enhanced, dim=self.dim, parameter=self.fc1.weight, name="enhanced")
        if self.pooling == "global":
            pair = torch.cat([rgb.mean((-2, -1)), enhanced.mean((-2, -1))], -1)[..., None, None, :]
        else:
            pair = torch.cat([rgb, enhanced], -3).movedim(-3, -1)
        beta = self.fc2(self.fc1(pair).relu()).softmax(-1)[..., 1].unsqueeze(-3)
        # alpha = 1 - beta, so equation 9 is an interpolation: one pass over the maps.
        return torch.lerp(rgb, enhanced, beta.to(rgb.dtype))

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, pooling={self.pooling!r}, reduction={self.reduction}"


MAF = ModalityAwareFusion

"""MAF: fuse two maps with weights that the pair itself decides."""

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.layers.cross_modality_interaction import _check_maps

__all__ = ["MAF", "ModalityAwareFusion"]


class ModalityAwareFusion(nn.Module):
    r"""Blend the reweighted RGB map with the enhanced one by two weights that sum to one.

    Both maps are averaged over their positions; a two-layer perceptron turns the pooled pair into
    the two weights of the sample, so that an enhancement the frame as a whole does not support is
    held back.

    .. math::
        [\alpha, \beta] = \mathrm{softmax}(W_2\, \mathrm{ReLU}(W_1 [\mathrm{GAP}(\hat F_{rgb}),
        \mathrm{GAP}(F_{cmi})])), \quad F_{fused} = \alpha \hat F_{rgb} + \beta F_{cmi}

    Where the paper is silent: both layers have a bias and the hidden width is C / 4, which gives
    the published 40 parameters at C = 8. The spatial ablation applies the same perceptron at every
    position instead of to the mean, so both forms share their parameters.

    Args:
        channels: channels C of both maps.
        pooling: ``"global"`` (the paper) or ``"spatial"`` (its ablation: one pair of weights a
            position).
        reduction: hidden width is ``channels // reduction``, at least one.

    Shape:
        rgb, enhanced: ``(B, C, H, W)`` or ``(B, T, C, H, W)``, floating point, with the dtype of
        the parameters. returns: the fused map, shape and dtype of ``rgb``.

    Raises:
        TypeError: an input is not a tensor of the parameters' dtype.
        ShapeError: the maps' shapes are wrong or differ.
        ValueError: ``pooling`` is unknown, or devices differ.

    Example:
        >>> import torch
        >>> from rgbt_fusion import MAF
        >>> maf = MAF(8)
        >>> maf(torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16)).shape
        torch.Size([2, 8, 16, 16])
        >>> sum(p.numel() for p in maf.parameters())
        40

    Source: Li et al., Knowledge-Based Systems 339, 2026, equations 7-9.
    """

    def __init__(self, channels: int = 8, *, pooling: str = "global", reduction: int = 4) -> None:
        super().__init__()
        self.channels = check_positive_int(channels, name="channels")
        check_choice(pooling, ("global", "spatial"), name="pooling")
        self.pooling = pooling
        hidden = max(1, channels // check_positive_int(reduction, name="reduction"))
        self.fc1 = nn.Linear(2 * channels, hidden)
        self.fc2 = nn.Linear(hidden, 2)

    def forward(self, rgb: Tensor, enhanced: Tensor) -> Tensor:
        _check_maps(rgb, enhanced, "enhanced", self.channels, self.fc1.weight)
        if self.pooling == "global":
            pair = torch.cat([rgb.mean((-2, -1)), enhanced.mean((-2, -1))], -1)[..., None, None, :]
        else:
            pair = torch.cat([rgb, enhanced], -3).movedim(-3, -1)
        beta = self.fc2(self.fc1(pair).relu()).softmax(-1)[..., 1].unsqueeze(-3)
        # alpha = 1 - beta, so equation 9 is an interpolation: one pass over the maps.
        return torch.lerp(rgb, enhanced, beta.to(rgb.dtype))


MAF = ModalityAwareFusion

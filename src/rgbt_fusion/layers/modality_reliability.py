"""ModalityReliability: estimate how far each modality is to be trusted at each token, and weigh."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.shapes import check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["ModalityReliability", "ReliabilityEstimate", "WeighedStreams"]

STRENGTH_PER_UNIT = 10.0
"""The exponent per unit of the parameter. A step of AdamW moves a parameter by about its learning
rate, and 500 steps of 1e-3 must be able to reach an exponent of 5."""


class ReliabilityEstimate(NamedTuple):
    """How far each modality is to be trusted, and the weights that follow."""

    reliability: Tensor
    """``(B, L, 2)`` in (0, 1), RGB first."""
    weights: Tensor
    """``(B, L, 2)`` in (0, 2): the two of a token sum to 2."""


class WeighedStreams(NamedTuple):
    """Both streams, each token multiplied by the weight of its modality."""

    rgb: Tensor
    """``(B, L, C)``, or ``(B, K, L, C)``."""
    tir: Tensor
    """As ``rgb``."""
    reliability: Tensor
    """``(B, L, 2)`` in (0, 1), RGB first."""


class ModalityReliability(TypedModule):
    r"""Weigh both modalities by how far each of them is to be trusted, token by token.

    Every token is judged from itself, from the other modality's token at its place and from a mean
    over its own modality, so that a camera that shows nothing is seen as a whole. The weight
    follows from the ratio of the two reliabilities. A learned strength says how much the ratio
    counts; it starts at 0, where every weight is exactly 1.

    .. math::
        [a_m, b_m, c_m] &= \mathrm{LN}(x_m) W \\
        r_m &= \sigma\Big(v^T \mathrm{GELU}\big(a_m + b_{m'}
        + \tfrac{1}{L} \textstyle\sum_l \mathrm{GELU}(c_{m,l})\big) + \beta\Big) \\
        w_m &= \frac{2\, r_m^s}{r_m^s + r_{m'}^s}, \qquad \hat x_m = w_m x_m

    Choices: both modalities share all parameters, so that exchanging the streams exchanges the
    results. The weights of a token sum to 2: where both are as good, or as bad, nothing changes.
    Tokens of several depths of a network are judged together and weighed alike. The strength
    :math:`s` is ten times its parameter, so that it is learned as fast as the rest.

    Args:
        dim: channels of the tokens.
        hidden: channels in which a token is judged.
        depths: how many depths of a network are judged together.

    Shape:
        - rgb, tir: ``(B, L, C)`` with C = ``dim``; with several ``depths`` ``(B, K, L, C)``, K of
          them
        - returns :class:`WeighedStreams` of two tensors of that shape and ``(B, L, 2)``

    Raises:
        ShapeError: ``rgb`` does not have the shape above, or ``tir`` differs from it.
        TypeError: ``rgb`` or ``tir`` is not a tensor, or an argument is not a whole number.
        ValueError: an argument is below 1.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ModalityReliability
        >>> weigh = ModalityReliability(32)
        >>> rgb, tir = torch.randn(2, 20, 32), torch.zeros(2, 20, 32)
        >>> torch.equal(weigh(rgb, tir).rgb, rgb)  # a new layer changes nothing
        True
        >>> _ = torch.nn.init.constant_(weigh.strength, 0.5)
        >>> weights = weigh.estimate(rgb, tir).weights
        >>> torch.allclose(weights.sum(-1), torch.full((2, 20), 2.0))
        True

    Source:
        None: the ratio of two confidences is common in multi-modal fusion.
    """

    def __init__(self, dim: int, *, hidden: int = 16, depths: int = 1) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.hidden = check_positive_int(hidden, name="hidden")
        self.depths = check_positive_int(depths, name="depths")
        self.norm = nn.LayerNorm(dim)
        self.judge = nn.Linear(depths * dim, 3 * hidden)
        self.verdict = nn.Linear(hidden, 1)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, rgb: Tensor, tir: Tensor) -> WeighedStreams:
        """Weigh two streams ``(B, L, C)``; return them and the reliabilities ``(B, L, 2)``."""
        reliability, weights = self.estimate(rgb, tir)
        if self.depths > 1:
            weights = weights.unsqueeze(1)
        return WeighedStreams(rgb * weights[..., :1], tir * weights[..., 1:], reliability)

    def estimate(self, rgb: Tensor, tir: Tensor) -> ReliabilityEstimate:
        """Return reliabilities and weights of two streams, ``(B, L, 2)`` each."""
        pattern = "B L C" if self.depths == 1 else "B K L C"
        sizes = {"C": self.dim} if self.depths == 1 else {"C": self.dim, "K": self.depths}
        check_shape(rgb, pattern, name="rgb", **sizes)
        check_same_shape(tir, rgb, name="tir", like_name="rgb")
        own_rgb, told_rgb = self._judged(rgb)
        own_tir, told_tir = self._judged(tir)
        logit_rgb = self.verdict(F.gelu(own_rgb + told_tir))
        logit_tir = self.verdict(F.gelu(own_tir + told_rgb))
        # the logarithm of the ratio of the two, to the power of the strength
        ratio = F.logsigmoid(logit_rgb) - F.logsigmoid(logit_tir)
        share_rgb = torch.sigmoid(STRENGTH_PER_UNIT * self.strength * ratio)
        weight_rgb = 2 * share_rgb
        return ReliabilityEstimate(
            torch.cat((logit_rgb, logit_tir), dim=-1).sigmoid(),
            torch.cat((weight_rgb, 2 - weight_rgb), dim=-1),
        )

    def _judged(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a modality says of itself and of the other one, ``(B, L, hidden)`` each."""
        normed = self.norm(tokens)
        if self.depths > 1:
            normed = normed.transpose(1, 2).flatten(2)
        own, told, whole = self.judge(normed).chunk(3, dim=-1)
        # GELU before the mean: so the mean differs between a picture and a flat image
        return own + F.gelu(whole).mean(1, keepdim=True), told

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, hidden={self.hidden}, depths={self.depths}"

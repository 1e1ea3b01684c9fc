"""What teaches a network which of its modalities shows the target."""

import torch
from torch import Tensor

from rgbt_fusion.shapes import check_floating, check_shape

__all__ = ["reliability_loss"]

_SMALLEST = 1e-6
"""Reliabilities are held this far from 0 and 1, so that their logarithms stay finite."""


def reliability_loss(reliability: Tensor, seen: Tensor, kept: Tensor | None = None) -> Tensor:
    r"""Return the cross-entropy of the reliabilities of a search crop's tokens.

    .. math::
        \mathcal{L} = \frac{-1}{N} \sum_{b, m} \frac{1}{L} \sum_l
        \big(y_{b,m} \log r_{b,l,m} + (1 - y_{b,m}) \log(1 - r_{b,l,m})\big)

    The training knows which camera it made fail. N counts the modalities whose state is known;
    where none is, the loss is 0.

    Choices: all tokens of a crop share the state of their camera.

    Args:
        reliability: the reliability ``r`` of RGB and of TIR, in (0, 1).
        seen: 1 where the modality shows the target, 0 where it does not, NaN where nobody knows.
        kept: places of the tokens that were not eliminated; None for all.

    Shape:
        - reliability: ``(B, L, 2)``
        - seen: ``(B, 2)``
        - kept: ``(B, K)``, int64
        - returns a scalar, float32 at least

    Raises:
        ShapeError: a tensor does not have the shape above.
        TypeError: ``reliability`` or ``seen`` is not a floating-point tensor.

    Example:
        >>> import torch
        >>> from rgbt_fusion import reliability_loss
        >>> trusted = torch.tensor([[[0.9, 0.1]]])  # RGB is trusted, TIR is not
        >>> blind_tir, blind_rgb = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> reliability_loss(trusted, blind_tir).round(decimals=2)
        tensor(0.1100)
        >>> reliability_loss(trusted, blind_rgb).round(decimals=2)
        tensor(2.3000)
    """
    sizes = check_shape(reliability, "B L M", M=2, name="reliability")
    check_floating(reliability, name="reliability")
    check_shape(seen, "B M", B=sizes["B"], M=2, name="seen")
    check_floating(seen, name="seen")
    if kept is not None:
        check_shape(kept, "B K", B=sizes["B"], name="kept")
        reliability = reliability.gather(1, kept.unsqueeze(-1).expand(-1, -1, 2))
    precise = reliability.to(torch.promote_types(reliability.dtype, torch.float32))
    inside = precise.clamp(_SMALLEST, 1 - _SMALLEST)
    known = ~seen.isnan()
    truth = seen.where(known, 0.0).to(inside.dtype).unsqueeze(1)
    entropy = -(truth * inside.log() + (1 - truth) * (1 - inside).log()).mean(1)
    return entropy.where(known, 0.0).sum() / known.sum().clamp(min=1)

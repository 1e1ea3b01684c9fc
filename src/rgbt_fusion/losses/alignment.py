"""What teaches a network how far its thermal image lies beside the colour image."""

import torch
from torch import Tensor

from rgbt_fusion.checks import check_finite_number
from rgbt_fusion.shapes import check_floating, check_shape

__all__ = ["alignment_loss"]

_SMALLEST = 1e-6
"""Confidences are held this far from 0 and 1, so that their logarithms stay finite."""


def alignment_loss(
    offset: Tensor,
    confidence: Tensor,
    true_offset: Tensor,
    seen: Tensor | None = None,
    *,
    tolerance: float = 0.25,
) -> Tensor:
    r"""Return how far offsets lie beside the true ones, and how wrong their confidences are.

    .. math::
        \mathcal{L} = \frac{1}{|K|} \sum_{b \in K} \|o_b - t_b\|_1
        - \frac{1}{|K \cup N|} \sum_{b \in K \cup N}
        \big(y_b \log c_b + (1 - y_b) \log(1 - c_b)\big)

    K are the samples of which both cameras show the target and the true offset is known; N are
    those of which a camera does not show it, so that there is nothing to align. The confidence is
    to be 1 where an offset of K is right, within the tolerance in x and in y, and 0 elsewhere. A
    sum over nothing is 0.

    Choices: whether an offset is right carries no gradient: the confidence follows the offset.

    Args:
        offset: x and y in cells, as :class:`~rgbt_fusion.layers.alignment_layer.AlignmentLayer`
            returns them.
        confidence: how sure the offset is, in (0, 1).
        true_offset: the known shift of the thermal map, NaN where nobody knows it.
        seen: 1 where RGB and TIR show the target, 0 where one does not, NaN where nobody knows.
            None: both do.
        tolerance: error in cells up to which an offset is right.

    Shape:
        - offset, true_offset: ``(B, 2)``
        - confidence: ``(B,)``
        - seen: ``(B, 2)``
        - returns a scalar, float32 at least

    Raises:
        ShapeError: a tensor does not have the shape above.
        TypeError: ``offset``, ``confidence``, ``true_offset`` or ``seen`` is not a floating-point
            tensor, or ``tolerance`` is not a number.
        ValueError: ``tolerance`` is negative or not finite.

    Example:
        >>> import torch
        >>> from rgbt_fusion import alignment_loss
        >>> right = torch.tensor([[0.5, -1.0]])
        >>> sure, unsure = torch.tensor([0.9]), torch.tensor([0.1])
        >>> alignment_loss(right, sure, right).round(decimals=2)
        tensor(0.1100)
        >>> blind_tir = torch.tensor([[1.0, 0.0]])
        >>> alignment_loss(right, unsure, right, blind_tir).round(decimals=2)
        tensor(0.1100)
    """
    sizes = check_shape(offset, "B 2", name="offset")
    check_floating(offset, name="offset")
    check_shape(confidence, "B", B=sizes["B"], name="confidence")
    check_floating(confidence, name="confidence")
    check_shape(true_offset, "B 2", B=sizes["B"], name="true_offset")
    check_floating(true_offset, name="true_offset")
    check_finite_number(tolerance, name="tolerance", low=0.0)
    if seen is None:
        seen = torch.ones_like(true_offset)
    check_shape(seen, "B M", B=sizes["B"], M=2, name="seen")
    check_floating(seen, name="seen")
    is_known = ~true_offset.isnan().any(-1) & (seen == 1).all(-1)
    is_empty = (seen == 0).any(-1)
    dtype = torch.promote_types(offset.dtype, torch.float32)
    truth = true_offset.where(is_known.unsqueeze(-1), 0.0).to(dtype)
    error = (offset.to(dtype) - truth).abs()
    is_right = (error.detach() <= tolerance).all(-1) & is_known
    wanted = is_right.to(dtype)
    inside = confidence.to(dtype).clamp(_SMALLEST, 1 - _SMALLEST)
    entropy = -(wanted * inside.log() + (1 - wanted) * (1 - inside).log())
    counts = is_known | is_empty
    distance = error.sum(-1).where(is_known, 0.0).sum() / is_known.sum().clamp(min=1)
    return distance + entropy.where(counts, 0.0).sum() / counts.sum().clamp(min=1)

"""Candidate elimination in two streams that must keep the same places."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.checks import check_choice
from rgbt_fusion.layers.candidate_elimination import check_keep_ratio, eliminate_candidates
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.shapes import check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["EliminatedStreams", "JointCandidateElimination"]


class EliminatedStreams(NamedTuple):
    """What is left of two streams that keep the same places; see :class:`EliminatedTokens`."""

    rgb: Tensor
    """``(B, T + K, C)``, the template in front."""
    tir: Tensor
    """``(B, T + K, C)``, the template in front."""
    indices: Tensor
    """``(B, K)``, int64: places in the search grid of the tokens that stay."""
    removed: Tensor
    """``(B, R)``, int64: places in the search grid of the tokens that leave."""
    positions: Tensor
    """``(B, K)``, int64: places in the sequence before, for :func:`select_tokens`."""


class JointCandidateElimination(TypedModule):
    r"""Drop the same search tokens from an RGB and a TIR stream, by one joint score.

    Two streams that are fused token by token must keep the same places; two eliminations, one per
    stream, would not.

    .. math::
        \mathrm{score} = \max(\mathrm{score}_{rgb}, \mathrm{score}_{tir}) \quad \text{or} \quad
        \tfrac{1}{2} (\mathrm{score}_{rgb} + \mathrm{score}_{tir})

    Paper and code: the maximum is the default, so that a target stays that only one modality sees.

    Args:
        keep_ratio: share of the search tokens that stay, in (0, 1].
        joint: ``"max"`` or ``"mean"`` of the two scores.

    Shape:
        - rgb, tir: ``(B, T + S, C)``, template in front (``T`` may be 0)
        - rgb_scores, tir_scores: ``(B, S)``
        - indices: int64 ``(B, S)``, places of the search tokens in the grid; 0 to S - 1 by default
        - returns :class:`EliminatedStreams`

    Raises:
        ShapeError: ``rgb``, its scores or ``indices`` does not have the shape above; ``tir`` or its
            scores differ in shape from those of ``rgb``.
        ValueError: ``keep_ratio`` is not in (0, 1]; ``joint`` is unknown.
        TypeError: ``keep_ratio`` is not a number; ``indices`` is not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion import JointCandidateElimination
        >>> rgb, tir = torch.zeros(1, 3, 8), torch.ones(1, 3, 8)
        >>> only_rgb, only_tir = torch.tensor([[0.9, 0.0, 0.1]]), torch.tensor([[0.0, 0.1, 0.9]])
        >>> JointCandidateElimination(keep_ratio=0.5)(rgb, tir, only_rgb, only_tir).indices.tolist()
        [[0, 2]]

    Source:
        Luo et al., "From Two-Stream to One-Stream", supplement A.1 (named there as future work).
    """

    def __init__(self, keep_ratio: float = 0.7, *, joint: Literal["max", "mean"] = "max") -> None:
        super().__init__()
        self.keep_ratio = check_keep_ratio(keep_ratio)
        check_choice(joint, ("max", "mean"), name="joint")
        self.joint = joint

    def forward(
        self,
        rgb: Tensor,
        tir: Tensor,
        rgb_scores: Tensor,
        tir_scores: Tensor,
        indices: Tensor | None = None,
        *,
        keep_ratio: float | None = None,
    ) -> EliminatedStreams:
        """Return what is left of both streams ``(B, T + S, C)`` by their scores ``(B, S)``.

        ``keep_ratio`` replaces that of the layer for this call, for a training schedule.
        """
        check_shape(rgb, "B L C", name="rgb")
        check_same_shape(tir, rgb, name="tir", like_name="rgb")
        check_same_shape(tir_scores, rgb_scores, name="tir_scores", like_name="rgb_scores")
        if self.joint == "max":
            scores = torch.maximum(rgb_scores, tir_scores)
        else:
            scores = (rgb_scores + tir_scores) / 2
        ratio = self.keep_ratio if keep_ratio is None else keep_ratio
        left = eliminate_candidates(rgb, scores, indices, ratio)
        template_length = tir.shape[1] - scores.shape[1]
        tir_search = select_tokens(tir[:, template_length:], left.positions)
        tir = torch.cat((tir[:, :template_length], tir_search), dim=1)
        return EliminatedStreams(left.tokens, tir, left.indices, left.removed, left.positions)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"keep_ratio={self.keep_ratio}, joint={self.joint!r}"

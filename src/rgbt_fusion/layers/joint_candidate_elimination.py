"""Candidate elimination in two streams that must keep the same places."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.checks import check_choice
from rgbt_fusion.layers.candidate_elimination import CandidateElimination
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.shapes import check_same_shape, check_shape

__all__ = ["EliminatedStreams", "JointCandidateElimination"]


class EliminatedStreams(NamedTuple):
    """What is left of two streams that keep the same set; the fields are those of
    :class:`EliminatedTokens`."""

    rgb: Tensor
    tir: Tensor
    indices: Tensor
    removed: Tensor
    positions: Tensor


class JointCandidateElimination(CandidateElimination):
    r"""Drop the same search tokens from an RGB and a TIR stream, by one joint score.

    Two streams that are fused token by token must keep the same places; each on its own would not.

    .. math::
        \mathrm{score} = \max(\mathrm{score}_{rgb}, \mathrm{score}_{tir}) \quad \text{or} \quad
        \tfrac{1}{2} (\mathrm{score}_{rgb} + \mathrm{score}_{tir})

    Where the paper is silent: the maximum is the default, so that a target that one modality alone
    can see stays.

    Args:
        keep_ratio: share of the search tokens that stay, in (0, 1].
        joint: ``"max"`` or ``"mean"`` of the two scores.

    Shape:
        ``rgb``, ``tir`` ``(B, T + S, C)``; ``rgb_scores``, ``tir_scores`` ``(B, S)``; the rest as
        in :class:`CandidateElimination`. Returns ``EliminatedStreams``.

    Raises:
        ShapeError: the streams or their scores differ in shape; see :class:`CandidateElimination`.
        ValueError, TypeError: an unknown ``joint``; see :class:`CandidateElimination`.

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
        super().__init__(keep_ratio)
        check_choice(joint, ("max", "mean"), name="joint")
        self.joint = joint

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        rgb: Tensor,
        tir: Tensor,
        rgb_scores: Tensor,
        tir_scores: Tensor,
        indices: Tensor | None = None,
        *,
        keep_ratio: float | None = None,
    ) -> EliminatedStreams:
        check_shape(rgb, "B L C", name="rgb")
        check_same_shape(tir, rgb, name="tir", like_name="rgb")
        check_same_shape(tir_scores, rgb_scores, name="tir_scores", like_name="rgb_scores")
        if self.joint == "max":
            scores = torch.maximum(rgb_scores, tir_scores)
        else:
            scores = (rgb_scores + tir_scores) / 2
        left = super().forward(rgb, scores, indices, keep_ratio=keep_ratio)
        template_length = tir.shape[1] - scores.shape[1]
        tir_search = select_tokens(tir[:, template_length:], left.positions)
        tir = torch.cat((tir[:, :template_length], tir_search), dim=1)
        return EliminatedStreams(left.tokens, tir, left.indices, left.removed, left.positions)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, joint={self.joint!r}"

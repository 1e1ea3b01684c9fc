"""Candidate elimination: search tokens that the template does not look at leave the encoder
early."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_finite_number
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.shapes import check_indices, check_same_shape, check_shape

__all__ = ["CandidateElimination", "EliminatedTokens", "kept_length", "scheduled_keep_ratio"]


class EliminatedTokens(NamedTuple):
    """What is left of one stream after an elimination; K tokens stay, R leave, both in ascending
    order.

    ``tokens`` (B, T + K, C), the template in front; ``indices`` (B, K) and ``removed`` (B, R):
    places in the search grid, int64; ``positions`` (B, K): places in the sequence before this
    elimination, for :func:`select_tokens`.
    """

    tokens: Tensor
    indices: Tensor
    removed: Tensor
    positions: Tensor


def kept_length(keep_ratio: float, length: int) -> int:
    """Return how many of ``length`` search tokens stay, ``ceil(keep_ratio * length)``.

    Raises:
        ValueError, TypeError: ``keep_ratio`` is no number in (0, 1].

    Example:
        >>> from rgbt_fusion.layers.candidate_elimination import kept_length
        >>> kept_length(0.7, 256), kept_length(0.7, 180), kept_length(0.7, 126)
        (180, 126, 89)
    """
    return math.ceil(_check_keep_ratio(keep_ratio) * length)


def scheduled_keep_ratio(
    epoch: float, *, start: float = 20, stop: float = 100, keep_ratio: float = 0.7
) -> float:
    """Return the keep ratio of a training epoch: 1 until ``start``, along a cosine down to
    ``keep_ratio`` at ``stop``.

    ``epoch`` may be fractional; the defaults are OSTrack's, of 300 epochs.

    Example:
        >>> from rgbt_fusion import scheduled_keep_ratio
        >>> [round(scheduled_keep_ratio(epoch), 3) for epoch in (0, 20, 40, 60, 100, 300)]
        [1.0, 1.0, 0.956, 0.85, 0.7, 0.7]
    """
    check_finite_number(keep_ratio, name="keep_ratio", low=0.0, high=1.0)
    if stop < start:
        raise ValueError(f"stop must not be below start = {start}, got {stop}")
    if epoch >= stop:
        return keep_ratio
    progress = max(0.0, (epoch - start) / (stop - start)) if stop > start else 0.0
    return keep_ratio + (1 - keep_ratio) * (math.cos(math.pi * progress) + 1) / 2


class CandidateElimination(nn.Module):
    r"""Keep the search tokens that the template looks at most, in their order, and drop the rest.

    The ``ceil(keep_ratio * S)`` tokens of highest score stay. Their indices are sorted again before
    the tokens are gathered, so that raster order survives: layers that follow and depend on it
    (Mamba, fusion by index) stay aligned.

    .. math::
        T'' = [T_t;\ T_s[\mathrm{sort}(\mathrm{topk}(\mathrm{score},\ \lceil \rho L_s \rceil))]]

    Where the paper is silent: of equal scores the earlier token stays; the indices carry no
    gradient, the tokens do. The released OSTrack code leaves the kept tokens in order of score; a
    ViT block does not mind, so that both agree in every result.

    Args:
        keep_ratio: share ``rho`` of the search tokens that stay, in (0, 1].

    Shape:
        ``tokens`` ``(B, T + S, C)``, template in front (``T`` may be 0); ``scores`` ``(B, S)``;
        ``indices`` int64 ``(B, S)``, the places of the search tokens in the grid, 0 to S - 1 by
        default. ``keep_ratio`` of the call overrides the layer's (training schedule). Returns
        ``EliminatedTokens``; with nothing to remove ``removed`` is ``(B, 0)`` and the tokens are
        those given.

    Raises:
        ShapeError: another number of axes or another batch, more scores than tokens, indices unlike
            the scores.
        ValueError, TypeError: ``keep_ratio`` not a number in (0, 1]; indices not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CandidateElimination
        >>> tokens = torch.tensor([[[9.0], [0.0], [1.0], [2.0], [3.0]]])  # one template token, four search tokens
        >>> out = CandidateElimination(keep_ratio=0.5)(tokens, torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
        >>> out.tokens.flatten().tolist(), out.indices.tolist(), out.removed.tolist()
        ([9.0, 1.0, 3.0], [[1, 3]], [[0, 2]])

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022,
        section 3.3; the notes on token spatial filtering.
    """

    def __init__(self, keep_ratio: float = 0.7) -> None:
        super().__init__()
        self.keep_ratio = _check_keep_ratio(keep_ratio)

    def forward(
        self,
        tokens: Tensor,
        scores: Tensor,
        indices: Tensor | None = None,
        *,
        keep_ratio: float | None = None,
    ) -> EliminatedTokens:
        sizes = check_shape(tokens, "B L C", name="tokens")
        kept, removed, indices = _split_by_score(tokens, scores, indices, self._ratio(keep_ratio))
        template = tokens[:, : sizes["L"] - scores.shape[1]]
        if removed.shape[1]:
            search = select_tokens(tokens[:, sizes["L"] - scores.shape[1] :], kept)
            tokens = torch.cat((template, search), dim=1)
        return EliminatedTokens(tokens, indices.gather(1, kept), indices.gather(1, removed), kept)

    def _ratio(self, keep_ratio: float | None) -> float:
        return self.keep_ratio if keep_ratio is None else _check_keep_ratio(keep_ratio)

    def extra_repr(self) -> str:
        return f"keep_ratio={self.keep_ratio}"


def _check_keep_ratio(keep_ratio: float) -> float:
    if check_finite_number(keep_ratio, name="keep_ratio", low=0.0, high=1.0) == 0:
        raise ValueError("keep_ratio must be above 0, got 0")
    return keep_ratio


def _split_by_score(
    tokens: Tensor, scores: Tensor, indices: Tensor | None, keep_ratio: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions kept and removed, each ascending, and the checked indices."""
    length = check_shape(scores, "B S", B=tokens.shape[0], name="scores")["S"]
    if length > tokens.shape[1]:
        raise ShapeError(
            f"scores must be at most as many as tokens, L = {tokens.shape[1]}, got {tuple(scores.shape)}"
        )
    if indices is None:
        indices = torch.arange(length, device=scores.device).expand(scores.shape[0], length)
    check_same_shape(indices, scores, name="indices", like_name="scores")
    check_indices(indices, name="indices")
    kept = kept_length(keep_ratio, length)
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    return by_score[:, :kept].sort(dim=1).values, by_score[:, kept:].sort(dim=1).values, indices

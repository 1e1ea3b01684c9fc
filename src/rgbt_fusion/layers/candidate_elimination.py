"""Candidate elimination: search tokens that the template ignores leave the encoder early."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_finite_number
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.shapes import check_indices, check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "CandidateElimination",
    "EliminatedTokens",
    "check_keep_ratio",
    "eliminate_candidates",
    "kept_length",
    "scheduled_keep_ratio",
]


class EliminatedTokens(NamedTuple):
    """What is left of one stream after an elimination: K tokens stay, R leave, both ascending."""

    tokens: Tensor
    """``(B, T + K, C)``, the template in front."""
    indices: Tensor
    """``(B, K)``, int64: places in the search grid of the tokens that stay."""
    removed: Tensor
    """``(B, R)``, int64: places in the search grid of the tokens that leave."""
    positions: Tensor
    """``(B, K)``, int64: places in the sequence before, for :func:`select_tokens`."""


def kept_length(keep_ratio: float, length: int) -> int:
    """Return how many of ``length`` search tokens stay, ``ceil(keep_ratio * length)``.

    Raises:
        ValueError: ``keep_ratio`` is not in (0, 1].
        TypeError: ``keep_ratio`` is not a number.

    Example:
        >>> from rgbt_fusion.layers.candidate_elimination import kept_length
        >>> kept_length(0.7, 256), kept_length(0.7, 180), kept_length(0.7, 126)
        (180, 126, 89)
    """
    return math.ceil(check_keep_ratio(keep_ratio) * length)


def check_keep_ratio(keep_ratio: float) -> float:
    """Check that ``keep_ratio`` is a number in (0, 1] and return it."""
    check_finite_number(keep_ratio, name="keep_ratio", low=0.0, high=1.0)
    if keep_ratio == 0:
        raise ValueError("keep_ratio must be above 0, got 0")
    return keep_ratio


def scheduled_keep_ratio(
    epoch: float, *, start: float = 20, stop: float = 100, keep_ratio: float = 0.7
) -> float:
    """Return the keep ratio of a training epoch, which falls along a cosine.

    It is 1 until ``start`` and ``keep_ratio`` from ``stop`` on. The defaults are those of OSTrack,
    which trains 300 epochs.

    Args:
        epoch: epochs that have passed; may be fractional.
        start: epoch at which the ratio begins to fall.
        stop: epoch at which it arrives.
        keep_ratio: where it arrives.

    Raises:
        ValueError: ``stop`` is below ``start``; ``keep_ratio`` is not in [0, 1].

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
    if epoch <= start:
        return 1.0
    progress = (epoch - start) / (stop - start)
    return keep_ratio + (1 - keep_ratio) * (math.cos(math.pi * progress) + 1) / 2


def eliminate_candidates(
    tokens: Tensor, scores: Tensor, indices: Tensor | None, keep_ratio: float
) -> EliminatedTokens:
    """Keep the search tokens of highest score; see :class:`CandidateElimination`."""
    kept = _keep(tokens, scores, indices, keep_ratio)
    left_out = kept.by_score[:, kept.positions.shape[1] :].sort(dim=1).values
    return EliminatedTokens(
        kept.tokens,
        kept.indices.gather(1, kept.positions),
        kept.indices.gather(1, left_out),
        kept.positions,
    )


def keep_candidates(
    tokens: Tensor, scores: Tensor, indices: Tensor, keep_ratio: float
) -> tuple[Tensor, Tensor]:
    """Return the tokens that :func:`eliminate_candidates` keeps, and their places."""
    kept = _keep(tokens, scores, indices, keep_ratio)
    return kept.tokens, kept.indices.gather(1, kept.positions)


class _Kept(NamedTuple):
    """The tokens that stay, and all candidates."""

    tokens: Tensor
    positions: Tensor
    """``(B, K)``: which candidates stay."""
    by_score: Tensor
    """``(B, S)``: all candidates, the highest score first."""
    indices: Tensor
    """``(B, S)``: the places of all candidates."""


def _keep(tokens: Tensor, scores: Tensor, indices: Tensor | None, keep_ratio: float) -> _Kept:
    sizes = check_shape(tokens, "B L C", name="tokens")
    batch, candidates = _check_scores(tokens, scores)
    if indices is None:
        indices = torch.arange(candidates, device=scores.device).expand(batch, candidates)
    check_same_shape(indices, scores, name="indices", like_name="scores")
    check_indices(indices, name="indices")

    # stable: of equal scores the earlier token stays
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    count = kept_length(keep_ratio, candidates)
    positions = by_score[:, :count].sort(dim=1).values
    if count < candidates:
        template_length = sizes["L"] - candidates
        template = tokens[:, :template_length]
        search = select_tokens(tokens[:, template_length:], positions)
        tokens = torch.cat((template, search), dim=1)
    return _Kept(tokens, positions, by_score, indices)


def _check_scores(tokens: Tensor, scores: Tensor) -> tuple[int, int]:
    """Return batch and number of the candidates."""
    batch, length = tokens.shape[:2]
    candidates = check_shape(scores, "B S", B=batch, name="scores")["S"]
    if candidates > length:
        raise ShapeError(
            f"scores must be at most as many as tokens, L = {length}, got {tuple(scores.shape)}"
        )
    return batch, candidates


class CandidateElimination(TypedModule):
    r"""Keep the search tokens that the template looks at most, in their order, and drop the rest.

    The ``ceil(keep_ratio * S)`` tokens of highest score stay. Their indices are sorted again before
    the tokens are gathered, so that raster order survives. Layers that depend on it (Mamba, fusion
    by index) stay aligned.

    .. math::
        T'' = [T_t;\ T_s[\mathrm{sort}(\mathrm{topk}(\mathrm{score},\ \lceil \rho L_s \rceil))]]

    Paper and code: of equal scores the earlier token stays; the indices carry no gradient, the
    tokens do. The released OSTrack code leaves the kept tokens in order of score; a ViT block does
    not depend on the order, so both agree in every result.

    Args:
        keep_ratio: share ``rho`` of the search tokens that stay, in (0, 1].

    Shape:
        - tokens: ``(B, T + S, C)``, template in front (``T`` may be 0)
        - scores: ``(B, S)``
        - indices: int64 ``(B, S)``, places of the search tokens in the grid; 0 to S - 1 by default
        - returns :class:`EliminatedTokens`; with nothing to remove, ``removed`` is ``(B, 0)`` and
          the tokens are those given

    Raises:
        ShapeError: ``tokens``, ``scores`` or ``indices`` does not have the shape above; there are
            more scores than tokens.
        ValueError: ``keep_ratio`` is not in (0, 1].
        TypeError: ``keep_ratio`` is not a number; ``indices`` is not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion import CandidateElimination
        >>> one_template_four_search = torch.tensor([[[9.0], [0.0], [1.0], [2.0], [3.0]]])
        >>> scores = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
        >>> out = CandidateElimination(keep_ratio=0.5)(one_template_four_search, scores)
        >>> out.tokens.flatten().tolist(), out.indices.tolist(), out.removed.tolist()
        ([9.0, 1.0, 3.0], [[1, 3]], [[0, 2]])

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022,
        section 3.3; the notes on token spatial filtering.
    """

    def __init__(self, keep_ratio: float = 0.7) -> None:
        super().__init__()
        self.keep_ratio = check_keep_ratio(keep_ratio)

    def forward(
        self,
        tokens: Tensor,
        scores: Tensor,
        indices: Tensor | None = None,
        *,
        keep_ratio: float | None = None,
    ) -> EliminatedTokens:
        """Return what is left of the tokens ``(B, T + S, C)`` by their scores ``(B, S)``.

        ``keep_ratio`` replaces that of the layer for this call, for a training schedule.
        """
        ratio = self.keep_ratio if keep_ratio is None else keep_ratio
        return eliminate_candidates(tokens, scores, indices, ratio)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"keep_ratio={self.keep_ratio}"

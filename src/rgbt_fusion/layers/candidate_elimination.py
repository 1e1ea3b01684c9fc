"""Candidate elimination: search tokens that the template does not look at leave the encoder early."""

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import (
    ShapeError,
    check_choice,
    check_finite_number,
    check_indices,
    check_positive_int,
    check_same_shape,
    check_shape,
)
from rgbt_fusion.layers.transformer import Attention, AttentionKind, AttentionWithScores, EncoderBlock, ScoredTokens

__all__ = [
    "CandidateElimination",
    "EliminatedStreams",
    "EliminatedTokens",
    "EliminationBlock",
    "JointCandidateElimination",
    "kept_length",
    "restore_tokens",
    "scheduled_keep_ratio",
    "select_tokens",
    "template_mask",
]


class EliminatedTokens(NamedTuple):
    """What is left of one stream after an elimination; K tokens stay, R leave, both in ascending order.

    ``tokens`` (B, T + K, C), the template in front; ``indices`` (B, K) and ``removed`` (B, R): places in the search
    grid, int64; ``positions`` (B, K): places in the sequence before this elimination, for :func:`select_tokens`.
    """

    tokens: Tensor
    indices: Tensor
    removed: Tensor
    positions: Tensor


class EliminatedStreams(NamedTuple):
    """What is left of two streams that keep the same set; the fields are those of :class:`EliminatedTokens`."""

    rgb: Tensor
    tir: Tensor
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


def scheduled_keep_ratio(epoch: float, *, start: float = 20, stop: float = 100, keep_ratio: float = 0.7) -> float:
    """Return the keep ratio of a training epoch: 1 until ``start``, along a cosine down to ``keep_ratio`` at ``stop``.

    ``epoch`` may be fractional; the defaults are OSTrack's, of 300 epochs.

    Example:
        >>> from rgbt_fusion.layers.candidate_elimination import scheduled_keep_ratio
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


def template_mask(
    kind: Literal["centre_point", "centre_rectangle", "box", "all"],
    grid: int,
    *,
    box_xywh_unit: Tensor | None = None,
    patch_size: int = 16,
) -> Tensor:
    """Mark the template tokens whose attention counts when search tokens are scored.

    ``"centre_point"`` is the one token at row and column ``(grid - 1) // 2``: 27 of 8 x 8, 65 of 12 x 12.
    ``"centre_rectangle"`` is the middle 2 x 2 tokens (1 x 1 of an odd grid). ``"box"`` is every token whose centre
    lies in the target's box, or the one that holds the box's centre where there is none. ``"all"`` is every token.

    Args:
        kind: which tokens, see above.
        grid: tokens along a side of the template.
        box_xywh_unit: the target in the template, ``(B, 4)`` as fractions of its side; for ``"box"`` only.
        patch_size: pixels along a side of a token; ``"box"`` rounds the box to pixels as OSTrack does.

    Shape:
        bool ``(grid * grid,)``, or ``(B, grid * grid)`` for ``"box"``.

    Raises:
        ValueError, TypeError: an unknown kind; a box that is missing, or not ``(B, 4)``, or given to another kind.

    Example:
        >>> from rgbt_fusion.layers.candidate_elimination import template_mask
        >>> template_mask("centre_point", 8).nonzero().item()
        27
    """
    check_choice(kind, ("centre_point", "centre_rectangle", "box", "all"), name="kind")
    check_positive_int(grid, name="grid")
    if kind == "box":
        return _box_mask(box_xywh_unit, grid, check_positive_int(patch_size, name="patch_size"))
    if box_xywh_unit is not None:
        raise ValueError(f"box_xywh_unit must be None for kind {kind!r}, got a tensor")
    if kind == "all":
        return torch.ones(grid * grid, dtype=torch.bool)
    cell = torch.arange(grid)
    first = (grid - 1) // 2
    along = (cell >= first) & (cell <= (first if kind == "centre_point" else grid // 2))
    return (along[:, None] & along).flatten()


def _box_mask(box_xywh_unit: Tensor | None, grid: int, patch_size: int) -> Tensor:
    if box_xywh_unit is None:
        raise ValueError("box_xywh_unit must be a tensor of shape (B, 4) for kind 'box', got None")
    check_shape(box_xywh_unit, "B 4", name="box_xywh_unit")
    corner, size = (box_xywh_unit * (grid * patch_size)).split(2, dim=1)
    # the box in whole pixels, the last one left out, as OSTrack fills it
    start, stop = corner.trunc()[..., None], (corner + size - 1).trunc()[..., None]
    cell = torch.arange(grid, device=box_xywh_unit.device)
    # halving by bilinear interpolation reads the two pixels around the middle of a token
    left, right = cell * patch_size + (patch_size - 1) // 2, cell * patch_size + patch_size // 2
    column, row = (((left >= start) & (left < stop)) | ((right >= start) & (right < stop))).unbind(1)
    mask = row[:, :, None] & column[:, None]
    centre = ((corner + size / 2) / patch_size).floor().clamp(0, grid - 1)
    nearest = (cell == centre[:, 1:])[:, :, None] & (cell == centre[:, :1])[:, None]
    return torch.where(mask.any(dim=(1, 2), keepdim=True), mask, nearest).flatten(1)


def select_tokens(tokens: Tensor, positions: Tensor) -> Tensor:
    """Pick the tokens ``(B, L, C)`` at ``positions`` ``(B, K)``: ``(B, K, C)``, with gradient.

    A stream that was not scored follows one that was: ``select_tokens(tir_search, eliminated.positions)``.
    """
    sizes = check_shape(tokens, "B L C", name="tokens")
    check_shape(positions, "B K", B=sizes["B"], name="positions")
    check_indices(positions, name="positions")
    return tokens.gather(1, positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def restore_tokens(tokens: Tensor, indices: Tensor, length: int) -> Tensor:
    """Put the kept search tokens back to their places in the search grid, zeros elsewhere.

    Args:
        tokens: what is left, ``(B, T + K, C)``; template tokens in front stay in front.
        indices: places of the K search tokens in the grid, int64 ``(B, K)``, without repetition.
        length: tokens of the whole search grid.

    Shape:
        ``(B, T + K, C)`` and ``(B, K)`` to ``(B, T + length, C)``.

    Raises:
        ShapeError: another number of axes, another batch, fewer tokens than indices, more indices than ``length``.
        TypeError: no tensors, or indices that are not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.candidate_elimination import restore_tokens
        >>> restore_tokens(torch.tensor([[[5.0], [6.0]]]), torch.tensor([[1, 3]]), 4).flatten().tolist()
        [0.0, 5.0, 0.0, 6.0]
    """
    sizes = check_shape(tokens, "B L C", name="tokens")
    kept = check_shape(indices, "B K", B=sizes["B"], name="indices")["K"]
    check_indices(indices, name="indices")
    if kept > sizes["L"]:
        raise ShapeError(f"indices must be at most as many as tokens, L = {sizes['L']}, got {tuple(indices.shape)}")
    if kept > length:
        raise ShapeError(f"length must be at least the number of indices {kept}, got {length}")
    template, search = tokens[:, : sizes["L"] - kept], tokens[:, sizes["L"] - kept :]
    places = indices.unsqueeze(-1).expand(-1, -1, sizes["C"])
    grid = search.new_zeros(sizes["B"], length, sizes["C"]).scatter(1, places, search)
    return torch.cat((template, grid), dim=1)


class CandidateElimination(nn.Module):
    r"""Keep the search tokens that the template looks at most, in their order, and drop the rest.

    The ``ceil(keep_ratio * S)`` tokens of highest score stay. Their indices are sorted again before the tokens are
    gathered, so that raster order survives: layers that follow and depend on it (Mamba, fusion by index) stay aligned.

    .. math::
        T'' = [T_t;\ T_s[\mathrm{sort}(\mathrm{topk}(\mathrm{score},\ \lceil \rho L_s \rceil))]]

    Where the paper is silent: of equal scores the earlier token stays; the indices carry no gradient, the tokens do.
    The released OSTrack code leaves the kept tokens in order of score; a ViT block does not mind, so that both agree in
    every result.

    Args:
        keep_ratio: share ``rho`` of the search tokens that stay, in (0, 1].

    Shape:
        ``tokens`` ``(B, T + S, C)``, template in front (``T`` may be 0); ``scores`` ``(B, S)``; ``indices`` int64
        ``(B, S)``, the places of the search tokens in the grid, 0 to S - 1 by default. ``keep_ratio`` of the call
        overrides the layer's (training schedule). Returns ``EliminatedTokens``; with nothing to remove ``removed`` is
        ``(B, 0)`` and the tokens are those given.

    Raises:
        ShapeError: another number of axes or another batch, more scores than tokens, indices unlike the scores.
        ValueError, TypeError: ``keep_ratio`` not a number in (0, 1]; indices not int64.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.candidate_elimination import CandidateElimination
        >>> tokens = torch.tensor([[[9.0], [0.0], [1.0], [2.0], [3.0]]])  # one template token, four search tokens
        >>> out = CandidateElimination(keep_ratio=0.5)(tokens, torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
        >>> out.tokens.flatten().tolist(), out.indices.tolist(), out.removed.tolist()
        ([9.0, 1.0, 3.0], [[1, 3]], [[0, 2]])

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022, section 3.3; the
        notes on token spatial filtering.
    """

    def __init__(self, keep_ratio: float = 0.7) -> None:
        super().__init__()
        self.keep_ratio = _check_keep_ratio(keep_ratio)

    def forward(
        self, tokens: Tensor, scores: Tensor, indices: Tensor | None = None, *, keep_ratio: float | None = None
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


class JointCandidateElimination(CandidateElimination):
    r"""Drop the same search tokens from an RGB and a TIR stream, by one joint score.

    Two streams that are fused token by token must keep the same places; each on its own would not.

    .. math::
        \mathrm{score} = \max(\mathrm{score}_{rgb}, \mathrm{score}_{tir}) \quad \text{or} \quad
        \tfrac{1}{2} (\mathrm{score}_{rgb} + \mathrm{score}_{tir})

    Where the paper is silent: the maximum is the default, so that a target that one modality alone can see stays.

    Args:
        keep_ratio: share of the search tokens that stay, in (0, 1].
        joint: ``"max"`` or ``"mean"`` of the two scores.

    Shape:
        ``rgb``, ``tir`` ``(B, T + S, C)``; ``rgb_scores``, ``tir_scores`` ``(B, S)``; the rest as in
        :class:`CandidateElimination`. Returns ``EliminatedStreams``.

    Raises:
        ShapeError: the streams or their scores differ in shape; see :class:`CandidateElimination`.
        ValueError, TypeError: an unknown ``joint``; see :class:`CandidateElimination`.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.candidate_elimination import JointCandidateElimination
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


class EliminationBlock(EncoderBlock):
    r"""An encoder block that drops search tokens between its attention and its feed-forward layer.

    The attention yields the template's rows beside its tokens; elimination cuts; the feed-forward layer sees what is
    left. Two streams that must keep the same set call ``score``, :class:`JointCandidateElimination` and ``transform``.

    .. math::
        y, \mathrm{score} = x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad y' = \mathrm{CE}(y, \mathrm{score}),
        \qquad x' = y' + \mathrm{MLP}(\mathrm{LN}(y'))

    Where the paper is silent: parameters and names are those of :class:`EncoderBlock`, so that either loads the other's
    weights.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        keep_ratio: share of the search tokens that stay, in (0, 1].
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path: probability of dropping a residual branch of a sample while training.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        ``tokens`` ``(B, T + S, C)``; ``template_length`` ``T``; ``indices`` int64 ``(B, S)``, 0 to S - 1 by default;
        ``mask`` bool ``(T,)`` or ``(B, T)``, see :func:`template_mask`. Returns ``EliminatedTokens``.

    Raises:
        ShapeError, ValueError, TypeError: see :class:`AttentionWithScores` and :class:`CandidateElimination`.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.candidate_elimination import EliminationBlock
        >>> EliminationBlock(32, 4)(torch.randn(1, 20, 32), template_length=4).tokens.shape
        torch.Size([1, 16, 32])

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022, section 3.3;
        CEBlock of the notes.
    """

    attention_type: ClassVar[type[Attention]] = AttentionWithScores

    def __init__(
        self,
        dim: int = 768,
        num_heads: int = 12,
        *,
        keep_ratio: float = 0.7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        attention: AttentionKind = "fused",
    ) -> None:
        super().__init__(
            dim, num_heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, drop_path=drop_path, attention=attention
        )
        self.eliminate = CandidateElimination(keep_ratio)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        tokens: Tensor,
        template_length: int,
        indices: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        keep_ratio: float | None = None,
    ) -> EliminatedTokens:
        scored = self.score(tokens, template_length, mask)
        left = self.eliminate(scored.tokens, scored.scores, indices, keep_ratio=keep_ratio)
        return left._replace(tokens=self.transform(left.tokens))

    def attend(self, tokens: Tensor) -> Tensor:
        """Return the tokens after the attention branch, ``(B, L, C)``, nothing scored."""
        check_shape(tokens, "B L C", C=self.dim, name="tokens")
        return tokens + self.drop_path(Attention.forward(self.attn, self.norm1(tokens)))

    def score(
        self, tokens: Tensor, template_length: int, mask: Tensor | None = None, *, streams: int = 1
    ) -> ScoredTokens:
        """Return the tokens after the attention branch and the scores of the search tokens."""
        check_shape(tokens, "B L C", C=self.dim, name="tokens")
        attended, scores = self.attn(self.norm1(tokens), template_length, mask, streams=streams)
        return ScoredTokens(tokens + self.drop_path(attended), scores)


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
        raise ShapeError(f"scores must be at most as many as tokens, L = {tokens.shape[1]}, got {tuple(scores.shape)}")
    if indices is None:
        indices = torch.arange(length, device=scores.device).expand(scores.shape[0], length)
    check_same_shape(indices, scores, name="indices", like_name="scores")
    check_indices(indices, name="indices")
    kept = kept_length(keep_ratio, length)
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    return by_score[:, :kept].sort(dim=1).values, by_score[:, kept:].sort(dim=1).values, indices

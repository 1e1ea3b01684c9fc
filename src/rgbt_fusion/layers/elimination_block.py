"""An encoder block that eliminates candidates."""

from typing import ClassVar

from torch import Tensor

from rgbt_fusion.layers.attention import Attention, AttentionKind, AttentionWithScores, ScoredTokens
from rgbt_fusion.layers.candidate_elimination import CandidateElimination, EliminatedTokens
from rgbt_fusion.layers.vit import EncoderBlock
from rgbt_fusion.shapes import check_shape

__all__ = ["EliminationBlock"]


class EliminationBlock(EncoderBlock):
    r"""An encoder block that drops search tokens between its attention and its feed-forward layer.

    The attention yields the template's rows beside its tokens; elimination cuts; the feed-forward
    layer sees what is left. Two streams that must keep the same set call ``score``,
    :class:`JointCandidateElimination` and ``transform``.

    .. math::
        y, \mathrm{score} = x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad y' = \mathrm{CE}(y, \mathrm{score}),
        \qquad x' = y' + \mathrm{MLP}(\mathrm{LN}(y'))

    Where the paper is silent: parameters and names are those of :class:`EncoderBlock`, so that
    either loads the other's weights.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        keep_ratio: share of the search tokens that stay, in (0, 1].
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path: probability of dropping a residual branch of a sample while training.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        ``tokens`` ``(B, T + S, C)``; ``template_length`` ``T``; ``indices`` int64 ``(B, S)``, 0 to
        S - 1 by default; ``mask`` bool ``(T,)`` or ``(B, T)``, see :func:`template_mask`. Returns
        ``EliminatedTokens``.

    Raises:
        ShapeError, ValueError, TypeError: see :class:`AttentionWithScores` and
            :class:`CandidateElimination`.

    Example:
        >>> import torch
        >>> from rgbt_fusion import EliminationBlock
        >>> EliminationBlock(32, 4)(torch.randn(1, 20, 32), template_length=4).tokens.shape
        torch.Size([1, 16, 32])

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022,
        section 3.3; CEBlock of the notes.
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
            dim,
            num_heads,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            drop_path=drop_path,
            attention=attention,
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

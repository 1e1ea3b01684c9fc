"""An encoder block that eliminates candidates."""

from torch import Tensor

from rgbt_fusion.layers.attention import AttentionKind
from rgbt_fusion.layers.candidate_elimination import CandidateElimination, EliminatedTokens
from rgbt_fusion.layers.vit import TransformerBlock

__all__ = ["EliminationBlock"]


class EliminationBlock(TransformerBlock):
    r"""An encoder block that drops search tokens between its attention and its feed-forward layer.

    The attention yields the scores of the search tokens beside the tokens; elimination cuts; the
    feed-forward layer sees what is left. Two streams that must keep the same set call ``score``,
    :class:`JointCandidateElimination` and ``transform``.

    .. math::
        y, \mathrm{score} = x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad
        y' = \mathrm{CE}(y, \mathrm{score}), \qquad x' = y' + \mathrm{MLP}(\mathrm{LN}(y'))

    Paper and code: parameters and names are those of :class:`EncoderBlock`, so that either loads
    the weights of the other.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        keep_ratio: share of the search tokens that stay, in (0, 1].
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path: probability of dropping a residual branch of a sample while training.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        - tokens: ``(B, T + S, C)`` with C = ``dim`` and T = ``template_length``
        - indices: int64 ``(B, S)``, places of the search tokens in the grid; 0 to S - 1 by default
        - mask: bool ``(T,)`` or ``(B, T)``, see :func:`template_mask`
        - returns :class:`EliminatedTokens`

    Raises:
        ShapeError: ``tokens``, ``indices`` or ``mask`` does not have the shape above;
            ``template_length`` is not below the number of tokens.
        ValueError: ``keep_ratio`` is not in (0, 1]; as :class:`EncoderBlock`.
        TypeError: ``indices`` is not int64; ``mask`` is not boolean; as :class:`EncoderBlock`.

    Example:
        >>> import torch
        >>> from rgbt_fusion import EliminationBlock
        >>> EliminationBlock(32, 4)(torch.randn(1, 20, 32), template_length=4).tokens.shape
        torch.Size([1, 16, 32])

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022,
        section 3.3; CEBlock of the notes.
    """

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

    def forward(
        self,
        tokens: Tensor,
        template_length: int,
        indices: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        keep_ratio: float | None = None,
    ) -> EliminatedTokens:
        """Return what is left of the tokens ``(B, T + S, C)``, and the places it has.

        ``keep_ratio`` replaces that of the block for this call, for a training schedule.
        """
        scored = self.score(tokens, template_length, mask)
        left = self.eliminate(scored.tokens, scored.scores, indices, keep_ratio=keep_ratio)
        return left._replace(tokens=self.transform(left.tokens))

"""Multi-head self-attention, and the scores with which the template judges search tokens."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_choice, check_divisible, check_positive_int
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "Attention",
    "AttentionKind",
    "AttentionWithScores",
    "ScoredTokens",
    "SelfAttention",
    "attend",
    "initialise_linear",
    "merge_heads",
    "split_heads",
]

AttentionKind = Literal["fused", "explicit"]


class ScoredTokens(NamedTuple):
    """Attended tokens ``(B, L, C)``, and the scores ``(B, S)`` of the search tokens among them.

    The scores are float32 or float64, whatever the dtype of the tokens.
    """

    tokens: Tensor
    scores: Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """View ``(B, L, C)`` as ``(B, num_heads, L, C / num_heads)``."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Undo :func:`split_heads`: ``(B, H, L, D)`` to ``(B, L, H * D)``."""
    return x.transpose(1, 2).flatten(2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attention: AttentionKind = "fused",
    dropout: float = 0.0,
) -> Tensor:
    """Return ``softmax(query key^T / sqrt(D)) value`` for heads ``(B, H, L, D)``.

    ``"fused"`` never holds the attention matrix, so its memory is linear in L. ``"explicit"``
    writes the matrix out, as the released code of the trackers does, for comparisons. ``dropout``
    is the probability with which an entry of the matrix is dropped.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.attention import attend
        >>> q, k, v = torch.randn(3, 1, 2, 5, 4)
        >>> torch.allclose(attend(q, k, v), attend(q, k, v, attention="explicit"), atol=1e-6)
        True
    """
    if attention == "fused":
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(-1)
    return F.dropout(weights, dropout) @ value


def initialise_linear(linear: nn.Linear) -> nn.Linear:
    """Start the weights as MAE does and the bias at 0, and return the layer."""
    # scaled by the fans: timm's fixed 0.02 is far too small at the widths of the tiny trackers
    nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


class SelfAttention(TypedModule):
    """The layers of self-attention, and both ways to run them.

    :class:`Attention` calls one, :class:`AttentionWithScores` the other; the arguments are theirs.
    """

    def __init__(
        self,
        dim: int = 768,
        num_heads: int = 12,
        *,
        qkv_bias: bool = True,
        attention: AttentionKind = "fused",
    ) -> None:
        super().__init__()
        check_positive_int(dim, name="dim")
        check_positive_int(num_heads, name="num_heads")
        check_divisible(dim, num_heads, name="dim", divisor_name="num_heads")
        check_choice(attention, ("fused", "explicit"), name="attention")
        self.dim = dim
        self.num_heads = num_heads
        self.attention: AttentionKind = attention
        self.qkv = initialise_linear(nn.Linear(dim, 3 * dim, bias=qkv_bias))
        self.proj = initialise_linear(nn.Linear(dim, dim))

    def attend(self, tokens: Tensor) -> Tensor:
        """Return what every token reads from all tokens of its sample, ``(B, L, C)``."""
        check_shape(tokens, "B L C", C=self.dim, name="tokens")
        query, key, value = self._heads(tokens)
        attended = attend(query, key, value, attention=self.attention)
        return self.proj(merge_heads(attended))

    def attend_and_score(
        self, tokens: Tensor, template_length: int, mask: Tensor | None = None, *, streams: int = 1
    ) -> ScoredTokens:
        """Return what :meth:`attend` does, and how much the template looks at each search token.

        The arguments are those of :class:`AttentionWithScores`.
        """
        check_shape(tokens, "B L C", C=self.dim, name="tokens")
        _check_template(tokens, template_length, mask, streams)
        query, key, value = self._heads(tokens)
        # the template leads every stream
        template_query, search_query = _split_template(_by_stream(query, streams), template_length)
        logits = (template_query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        rows = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        search = attend(search_query, key, value, attention=self.attention)
        template = rows.to(value.dtype) @ value
        attended = torch.cat((_by_stream(template, streams), _by_stream(search, streams)), dim=3)
        scores = _mean_row(rows.mean(dim=1), mask, streams).unflatten(1, (streams, -1))
        return ScoredTokens(
            self.proj(rearrange(attended, "b h s l d -> b (s l) (h d)")),
            scores[:, :, template_length:].flatten(1),
        )

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"dim={self.dim}, num_heads={self.num_heads}, "
            f"qkv_bias={self.qkv.bias is not None}, attention={self.attention!r}"
        )

    def _heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        return (
            split_heads(query, self.num_heads),
            split_heads(key, self.num_heads),
            split_heads(value, self.num_heads),
        )


class Attention(SelfAttention):
    r"""Let every token read from all tokens of its sample: multi-head self-attention.

    One linear layer makes queries, keys and values, torch's fused kernel attends, one linear layer
    projects back. :meth:`attend_and_score` also returns the scores of
    :class:`AttentionWithScores`, from the same weights.

    .. math::
        \mathrm{Attention}(x) = \mathrm{softmax}\!\left(\frac{Q K^T}{\sqrt{D}}\right) V\, W_o,
        \qquad [Q, K, V] = x W_{qkv} + b

    Paper and code: ``attention="explicit"`` writes the (L, L) matrix out, as OSTrack's released
    code does; the result is the same to rounding.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        - tokens: ``(B, L, C)`` with C = ``dim``
        - returns ``(B, L, C)``

    Raises:
        ShapeError: ``tokens`` does not have the shape above.
        ValueError: ``num_heads`` does not divide ``dim``; ``dim`` or ``num_heads`` is below 1;
            ``attention`` is unknown.
        TypeError: ``dim`` or ``num_heads`` is not a whole number.

    Example:
        >>> import torch
        >>> from rgbt_fusion import Attention
        >>> layer = Attention(32, 4)
        >>> layer(torch.zeros(1, 20, 32)).shape
        torch.Size([1, 20, 32])
        >>> layer.attend_and_score(torch.zeros(1, 20, 32), template_length=4).scores.shape
        torch.Size([1, 16])

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017, eq. 1; parameter names of timm.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what every token ``(B, L, C)`` reads from all tokens of its sample."""
        return self.attend(tokens)


class AttentionWithScores(SelfAttention):
    r"""Self-attention that also says how much the template looks at each search token.

    Candidate elimination needs the rows of the attention matrix that belong to template queries and
    nothing else. Only those rows are written out (and give their own tokens); all other queries go
    through torch's fused kernel. The weights are those of :class:`Attention`.

    .. math::
        \mathrm{score}_s = \frac{1}{H |M|} \sum_{h} \sum_{t \in M}
        \mathrm{softmax}_{\text{all keys}}\!\left(\frac{q_{h,t} K_h^T}{\sqrt{D}}\right)_s

    Paper and code: the scores are float32 at least, whatever the dtype of the tokens, so that
    rounding makes no ties; a sample whose mask is empty scores 0 everywhere. With
    ``attention="explicit"`` the whole matrix is written out, as OSTrack does.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        attention: ``"fused"`` or ``"explicit"``, for the queries of the search tokens.

    Shape:
        - tokens: ``(B, L, C)`` with C = ``dim``, made of ``streams`` equal parts
          ``[template; search]`` of ``template_length`` and ``S`` tokens: one part by default, two
          for ``[template_rgb, search_rgb, template_tir, search_tir]``
        - mask: bool ``(template_length,)`` or ``(B, template_length)``, true where a template
          token counts, in every part; all count by default
        - returns :class:`ScoredTokens`: ``(B, L, C)``, and scores ``(B, streams * S)``, the search
          tokens of the parts one after another

    Raises:
        ShapeError: ``tokens`` or ``mask`` does not have the shape above; ``streams`` does not
            divide ``L``; ``template_length`` is not below ``L / streams``.
        TypeError: ``mask`` is not boolean; a count is not a whole number.
        ValueError: ``num_heads`` does not divide ``dim``; ``attention`` is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion import AttentionWithScores
        >>> out = AttentionWithScores(32, 4)(torch.randn(1, 20, 32), template_length=4)
        >>> out.tokens.shape, out.scores.shape
        (torch.Size([1, 20, 32]), torch.Size([1, 16]))

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022,
        section 3.3; the notes on token spatial filtering, equation of A_{t,s}.
    """

    def forward(
        self, tokens: Tensor, template_length: int, mask: Tensor | None = None, *, streams: int = 1
    ) -> ScoredTokens:
        """Return the attended tokens ``(B, L, C)`` and the scores ``(B, streams * S)``."""
        return self.attend_and_score(tokens, template_length, mask, streams=streams)


def _by_stream(x: Tensor, streams: int) -> Tensor:
    return rearrange(x, "b h (s l) d -> b h s l d", s=streams)


def _split_template(parts: Tensor, template_length: int) -> tuple[Tensor, Tensor]:
    """Split ``(B, H, streams, T + S, D)`` into template and search, each in one sequence."""
    template = parts[:, :, :, :template_length].flatten(2, 3)
    search = parts[:, :, :, template_length:].flatten(2, 3)
    return template, search


def _mean_row(rows: Tensor, mask: Tensor | None, streams: int) -> Tensor:
    """Average the rows ``(B, streams * T, L)`` that the mask ``(T,)`` or ``(B, T)`` counts."""
    if mask is None:
        return rows.mean(dim=1)
    counted = mask.to(rows.dtype).expand(len(rows), -1)
    if streams > 1:
        counted = counted.repeat(1, streams)
    total = (counted.unsqueeze(1) @ rows).squeeze(1)
    return total / counted.sum(dim=1, keepdim=True).clamp(min=1)


def _check_template(
    tokens: Tensor, template_length: int, mask: Tensor | None, streams: int
) -> None:
    batch, length = tokens.shape[:2]
    check_positive_int(streams, name="streams")
    if length % streams:
        raise ShapeError(
            f"tokens must have L divisible by streams = {streams}, got {tuple(tokens.shape)}"
        )
    if not 1 <= template_length < length // streams:
        raise ShapeError(
            f"template_length must be at least 1 and below L / streams = {length // streams}, "
            f"got {template_length}"
        )
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, got {mask.dtype}")
    if mask.shape not in ((template_length,), (batch, template_length)):
        raise ShapeError(
            f"mask must have shape ({template_length},) or ({batch}, {template_length}), "
            f"got {tuple(mask.shape)}"
        )

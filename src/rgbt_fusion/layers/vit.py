"""Pieces of the ViT: patches, the feed-forward layer, stochastic depth, the encoder block."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_finite_number, check_positive_int
from rgbt_fusion.layers.attention import (
    Attention,
    AttentionKind,
    ScoredTokens,
    initialise_linear,
)
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["MLP", "DropPath", "EncoderBlock", "PatchEmbed", "TransformerBlock"]


class PatchEmbed(TypedModule):
    r"""Cut an image into patches and project each to one token.

    A convolution whose kernel and stride are the patch; the tokens follow in raster order.

    .. math::
        x_{l} = W\, \mathrm{vec}(\mathrm{patch}_{l}) + b, \qquad l = i \cdot W / P + j

    Paper and code: no norm follows, and the encoder keeps the position table, as in OSTrack.

    Args:
        patch_size: side ``P`` of a patch, pixels.
        in_channels: channels of the image.
        dim: channels ``C`` of a token.

    Shape:
        - image: ``(B, in_channels, H, W)``, ``H`` and ``W`` multiples of ``P``
        - returns ``(B, H / P * W / P, C)`` with C = ``dim``

    Raises:
        ShapeError: ``image`` does not have the shape above.
        ValueError: an argument is below 1.
        TypeError: an argument is not a whole number.

    Example:
        >>> import torch
        >>> from rgbt_fusion import PatchEmbed
        >>> PatchEmbed(dim=32)(torch.zeros(1, 3, 128, 128)).shape
        torch.Size([1, 64, 32])

    Source:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, eq. 1; parameter names of
        timm.
    """

    def __init__(self, *, patch_size: int = 16, in_channels: int = 3, dim: int = 768) -> None:
        super().__init__()
        self.patch_size = check_positive_int(patch_size, name="patch_size")
        self.in_channels = check_positive_int(in_channels, name="in_channels")
        self.dim = check_positive_int(dim, name="dim")
        self.proj = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        nn.init.xavier_uniform_(self.proj.weight.view(dim, -1))
        nn.init.zeros_(self.get_parameter("proj.bias"))

    def forward(self, image: Tensor) -> Tensor:
        """Return the tokens ``(B, L, C)`` of images ``(B, in_channels, H, W)``, in raster order."""
        sizes = check_shape(image, "B C H W", C=self.in_channels, name="image")
        if sizes["H"] % self.patch_size or sizes["W"] % self.patch_size:
            raise ShapeError(
                f"image must have sides divisible by patch_size = {self.patch_size}, "
                f"got {tuple(image.shape)}"
            )
        return rearrange(self.proj(image), "b c h w -> b (h w) c")

    def extra_repr(self) -> str:
        """Show the options."""
        return f"patch_size={self.patch_size}, in_channels={self.in_channels}, dim={self.dim}"


class MLP(TypedModule):
    """The feed-forward half of a ViT block: ``fc2(gelu(fc1(x)))`` with the exact GELU.

    Args:
        dim: channels that come in and go out.
        hidden: channels in between.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.vit import MLP
        >>> MLP(32, 128)(torch.zeros(1, 20, 32)).shape
        torch.Size([1, 20, 32])
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = initialise_linear(nn.Linear(dim, hidden))
        self.fc2 = initialise_linear(nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., dim)`` for ``(..., dim)``."""
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(TypedModule):
    """Drop the residual branch of whole samples at random while training, and scale the others up.

    Args:
        probability: of dropping the branch of a sample.

    Raises:
        ValueError: ``probability`` is not in [0, 1].
        TypeError: ``probability`` is not a number.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.vit import DropPath
        >>> sorted(set(DropPath(0.5)(torch.ones(100, 1)).flatten().tolist()))
        [0.0, 2.0]
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        self.probability = check_finite_number(probability, name="drop_path", low=0.0, high=1.0)

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch ``(B, ...)`` with some rows 0; the same tensor in evaluation."""
        if self.probability == 0.0 or not self.training:
            return branch
        # dropout on a tensor of ones also scales, and is right at probability 1
        other_axes = (1,) * (branch.dim() - 1)
        one_per_sample = branch.new_ones((len(branch), *other_axes))
        return branch * F.dropout(one_per_sample, self.probability)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"probability={self.probability}"


class TransformerBlock(TypedModule):
    """The halves of one pre-norm ViT block, for those who do something in between.

    :class:`EncoderBlock` runs them one after the other; :class:`EliminationBlock` drops tokens
    after the first, so that the feed-forward layer never sees the tokens that leave. The arguments
    are those of :class:`EncoderBlock`.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.vit import TransformerBlock
        >>> block = TransformerBlock(32, 4)
        >>> attended = block.attend(torch.zeros(1, 20, 32))
        >>> block.transform(attended[:, :5]).shape
        torch.Size([1, 5, 32])
    """

    def __init__(
        self,
        dim: int = 768,
        num_heads: int = 12,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        attention: AttentionKind = "fused",
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.mlp_ratio = mlp_ratio
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, qkv_bias=qkv_bias, attention=attention)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def attend(self, tokens: Tensor) -> Tensor:
        """Return the tokens after the attention branch, ``(B, L, C)``."""
        check_shape(tokens, "B L C", C=self.dim, name="tokens")
        return tokens + self.drop_path(self.attn(self.norm1(tokens)))

    def score(
        self, tokens: Tensor, template_length: int, mask: Tensor | None = None, *, streams: int = 1
    ) -> ScoredTokens:
        """Return the tokens after the attention branch and the scores of the search tokens.

        The arguments are those of :class:`AttentionWithScores`.
        """
        check_shape(tokens, "B L C", C=self.dim, name="tokens")
        attended, scores = self.attn.attend_and_score(
            self.norm1(tokens), template_length, mask, streams=streams
        )
        return ScoredTokens(tokens + self.drop_path(attended), scores)

    def transform(self, tokens: Tensor) -> Tensor:
        """Return the tokens after the feed-forward branch, ``(B, L, C)``."""
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))

    def extra_repr(self) -> str:
        """Show the options; those of the attention stand beside it."""
        return f"dim={self.dim}, mlp_ratio={self.mlp_ratio}"


class EncoderBlock(TransformerBlock):
    r"""One pre-norm ViT block: attention and a feed-forward layer, each on a residual branch.

    ``forward`` is ``transform(attend(tokens))``. A tracker that eliminates tokens calls the halves
    itself and cuts in between; ``score`` attends and scores the search tokens.

    .. math::
        y = x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad x' = y + \mathrm{MLP}(\mathrm{LN}(y))

    Paper and code: LayerNorm eps 1e-6 and the exact GELU, as in timm and OSTrack.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path: probability of dropping a residual branch of a sample while training.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        - tokens: ``(B, L, C)`` with C = ``dim``
        - returns ``(B, L, C)``

    Raises:
        ShapeError: ``tokens`` does not have the shape above.
        ValueError: ``num_heads`` does not divide ``dim``; ``drop_path`` is not in [0, 1];
            ``attention`` is unknown.
        TypeError: ``dim`` or ``num_heads`` is not a whole number.

    Example:
        >>> import torch
        >>> from rgbt_fusion import EncoderBlock
        >>> EncoderBlock(32, 4)(torch.zeros(1, 20, 32)).shape
        torch.Size([1, 20, 32])

    Source:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, eq. 2-3; parameter names of
        timm.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens ``(B, L, C)`` after both branches."""
        return self.transform(self.attend(tokens))

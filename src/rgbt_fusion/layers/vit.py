"""Pieces of the ViT: patches, the feed-forward layer, stochastic depth, the encoder block."""

from typing import ClassVar

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.checks import (
    ShapeError,
    check_finite_number,
    check_positive_int,
)
from rgbt_fusion.layers.attention import Attention, AttentionKind, _initialise
from rgbt_fusion.shapes import check_shape

__all__ = ["MLP", "DropPath", "EncoderBlock", "PatchEmbed"]


class PatchEmbed(nn.Module):
    r"""Cut an image into patches and project each to one token.

    A convolution whose kernel and stride are the patch; the tokens follow in raster order.

    .. math::
        x_{l} = W\, \mathrm{vec}(\mathrm{patch}_{l}) + b, \qquad l = i \cdot W / P + j

    Where the paper is silent: no norm follows and the position table is the encoder's, as in
    OSTrack.

    Args:
        patch_size: side ``P`` of a patch, pixels.
        in_channels: channels of the image.
        dim: channels ``C`` of a token.

    Shape:
        image ``(B, in_channels, H, W)``, ``H`` and ``W`` multiples of ``P``; tokens ``(B, H / P * W
        / P, C)``.

    Raises:
        ShapeError: the image has another number of axes or channels, or sides that ``P`` does not
            divide.
        ValueError, TypeError: an argument is not a positive whole number.

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
        nn.init.zeros_(self.proj.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, image: Tensor) -> Tensor:
        check_shape(image, "B C H W", C=self.in_channels, name="image")
        if image.shape[-2] % self.patch_size or image.shape[-1] % self.patch_size:
            raise ShapeError(
                f"image must have sides divisible by patch_size = {self.patch_size}, got {tuple(image.shape)}"
            )
        return rearrange(self.proj(image), "b c h w -> b (h w) c")


class MLP(nn.Module):
    """The ViT's feed-forward half, ``fc2(gelu(fc1(x)))`` with the exact GELU, on ``(..., dim)``.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.vit import MLP
        >>> MLP(32, 128)(torch.zeros(1, 20, 32)).shape
        torch.Size([1, 20, 32])
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = _initialise(nn.Linear(dim, hidden))
        self.fc2 = _initialise(nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Drop a whole residual branch of a sample with ``probability`` while training; scale the kept
    ones up.

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
        if self.probability == 0.0 or not self.training:
            return branch
        # dropout on a tensor of ones also scales, and is right at probability 1
        keep = F.dropout(
            branch.new_ones((len(branch),) + (1,) * (branch.dim() - 1)), self.probability
        )
        return branch * keep

    def extra_repr(self) -> str:
        return f"probability={self.probability}"


class EncoderBlock(nn.Module):
    r"""One pre-norm ViT block: attention and a feed-forward layer, each on a residual branch.

    ``forward`` is ``transform(attend(tokens))``; a tracker that eliminates tokens calls the halves
    itself and cuts in between, so that the feed-forward layer never sees the tokens that leave.

    .. math::
        y = x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad x' = y + \mathrm{MLP}(\mathrm{LN}(y))

    Where the paper is silent: LayerNorm eps 1e-6 and the exact GELU, as in timm and OSTrack.

    Args:
        dim: channels ``C``.
        num_heads: heads; must divide ``dim``.
        mlp_ratio: hidden channels of the feed-forward layer over ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path: probability of dropping a residual branch of a sample while training.
        attention: ``"fused"`` or ``"explicit"``.

    Shape:
        tokens ``(B, L, C)`` in and out.

    Raises:
        ShapeError: the tokens have another number of axes or channels.
        ValueError, TypeError: see :class:`Attention`; ``drop_path`` outside [0, 1].

    Example:
        >>> import torch
        >>> from rgbt_fusion import EncoderBlock
        >>> EncoderBlock(32, 4)(torch.zeros(1, 20, 32)).shape
        torch.Size([1, 20, 32])

    Source:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, eq. 2-3; parameter names of
        timm.
    """

    attention_type: ClassVar[type[Attention]] = Attention

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
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = self.attention_type(dim, num_heads, qkv_bias=qkv_bias, attention=attention)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.transform(self.attend(tokens))

    def attend(self, tokens: Tensor) -> Tensor:
        """Return the tokens after the attention branch, ``(B, L, C)``."""
        check_shape(tokens, "B L C", C=self.dim, name="tokens")
        return tokens + self.drop_path(self.attn(self.norm1(tokens)))

    def transform(self, tokens: Tensor) -> Tensor:
        """Return the tokens after the feed-forward branch, ``(B, L, C)``."""
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))

"""The ViT of every tracker here: template and search tokens in one sequence."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import (
    check_choice,
    check_divisible,
    check_finite_number,
    check_positive_int,
)
from rgbt_fusion.layers.attention import AttentionKind
from rgbt_fusion.layers.candidate_elimination import (
    eliminate_candidates,
    keep_candidates,
    kept_length,
)
from rgbt_fusion.layers.template_mask import template_mask
from rgbt_fusion.layers.token_selection import restore_tokens, select_tokens
from rgbt_fusion.layers.vit import EncoderBlock, PatchEmbed
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["ConvolutionalStem", "Encoder", "EncoderSettings", "rescale_layers", "sine_positions"]


LARGEST = {
    "dim": 16384,
    "depth": 256,
    "template_size": 4096,
    "search_size": 4096,
    "head_channels": 16384,
}
"""The largest settings that are built."""


@dataclass(frozen=True)
class EncoderSettings:
    """Sizes and habits of encoder and head of a tracker; the defaults are ViT-B/16 at 256 / 128.

    Candidates are eliminated in blocks 3, 6 and 9 of 12, and at the same depths of other encoders.

    Args:
        dim: channels of a token.
        depth: blocks.
        num_heads: heads of the attention; must divide ``dim``.
        template_size: side of the template crop in pixels; a multiple of 16.
        search_size: side of the search crop in pixels; a multiple of 16.
        stem: ``"patch"``, as in the ViT, or ``"convolution"``, for small networks that are trained
            from scratch.
        head_channels: channels of the head after its first convolution.
        drop_path: probability of dropping a residual branch of the last block while training; it
            grows linearly with the depth.
        keep_ratio: share of the search tokens that stays at each elimination; 1 for none.
        attention: ``"fused"``, or ``"explicit"`` to write the attention matrix out.
        search_factor: side of the search crop over the square root of the area of the target, for
            the tracker to cut.

    Raises:
        ValueError: a value is out of range, beyond ten times the largest networks known, or a size
            is not a multiple of 16.
        TypeError: a count is not a whole number.
    """

    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    template_size: int = 128
    search_size: int = 256
    stem: Literal["patch", "convolution"] = "patch"
    head_channels: int = 256
    drop_path: float = 0.1
    keep_ratio: float = 1.0
    attention: AttentionKind = "fused"
    search_factor: float = 4.0

    patch_size = 16

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "num_heads", "template_size", "search_size", "head_channels"):
            check_positive_int(getattr(self, name), name=name)
        # a slip, or a file made to eat memory, ends here and not in the building of a network
        for name, most in LARGEST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most}, got {getattr(self, name):.6g}")
        check_divisible(self.dim, self.num_heads, name="dim", divisor_name="num_heads")
        for name in ("template_size", "search_size"):
            check_divisible(
                getattr(self, name), self.patch_size, name=name, divisor_name="patch_size"
            )
        check_choice(self.stem, ("patch", "convolution"), name="stem")
        check_choice(self.attention, ("fused", "explicit"), name="attention")
        check_finite_number(self.drop_path, name="drop_path", low=0.0, high=1.0)
        check_finite_number(self.keep_ratio, name="keep_ratio", low=1e-3, high=1.0)
        check_finite_number(self.search_factor, name="search_factor", low=1.0)

    @property
    def template_grid(self) -> int:
        """Tokens along a side of the template."""
        return self.template_size // self.patch_size

    @property
    def search_grid(self) -> int:
        """Tokens along a side of the search crop, and cells along a side of the head's maps."""
        return self.search_size // self.patch_size


class Encoder(nn.Module):
    r"""Let template and search tokens attend to each other in one ViT, and drop candidates.

    A model walks the blocks, so that its fusion can stand between them: embed, then ``block`` for
    each number, then ``restore``. Two streams are one batch of ``2 B`` rows, RGB first: one matrix
    product does both. They keep the same candidates, by the larger of their two scores.

    .. math::
        H^0 = [Z W + p_z;\ X W + p_x], \qquad H^l = \mathrm{Block}_l(H^{l-1})

    Paper and code: the position tables start as the 2-D sines and cosines of MAE and are learned.
    The class token and the position table of a ViT are kept beside the patch stem, unread and
    without gradient, so that an OSTrack file fills the encoder key for key. The template token
    whose attention counts is the middle one, as in the released configuration of OSTrack.

    Args:
        settings: sizes, see :class:`EncoderSettings`.

    Shape:
        - ``embed_template``, ``embed_search``: images ``(B, 3, H, W)`` to tokens ``(B, T, C)`` and
          ``(B, S, C)``
        - ``block``: tokens ``(B, T + K, C)`` with ``indices`` ``(B, K)`` to the same with fewer K
        - ``restore``: tokens ``(B, K, C)`` with ``indices`` ``(B, K)`` to ``(B, S, C)``

    Raises:
        ShapeError: images or tokens do not have the shape above.

    Example:
        >>> import torch
        >>> from rgbt_fusion import EncoderSettings
        >>> encoder = Encoder(EncoderSettings(dim=32, depth=4, num_heads=2, keep_ratio=0.5))
        >>> tokens = torch.cat((encoder.embed_template(torch.rand(1, 3, 128, 128)),
        ...                     encoder.embed_search(torch.rand(1, 3, 256, 256))), dim=1)
        >>> indices = encoder.all_indices(tokens)
        >>> for number in range(4):
        ...     tokens, indices = encoder.block(number, tokens, indices)
        >>> tokens.shape, indices.shape
        (torch.Size([1, 96, 32]), torch.Size([1, 32]))

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022,
        section 3.
    """

    template_mask: Tensor

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        dim = settings.dim
        self.template_length = settings.template_grid**2
        self.search_length = settings.search_grid**2
        if settings.stem == "patch":
            self.patch_embed = PatchEmbed(patch_size=settings.patch_size, dim=dim)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim), requires_grad=False)
            self.pos_embed = nn.Parameter(torch.zeros(1, 197, dim), requires_grad=False)
        else:
            self.patch_embed = ConvolutionalStem(dim)
        self.pos_embed_z = nn.Parameter(sine_positions(dim, settings.template_grid))
        self.pos_embed_x = nn.Parameter(sine_positions(dim, settings.search_grid))
        self.elimination_layers = rescale_layers((3, 6, 9), settings.depth, of=12)
        self.blocks = nn.ModuleList(self._make_block(number) for number in range(settings.depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.register_buffer(
            "template_mask", template_mask("centre_point", settings.template_grid), persistent=False
        )

    def _make_block(self, number: int) -> EncoderBlock:
        settings = self.settings
        drop_path = settings.drop_path * number / max(1, settings.depth - 1)
        return EncoderBlock(
            settings.dim, settings.num_heads, drop_path=drop_path, attention=settings.attention
        )

    def embed_template(self, images: Tensor) -> Tensor:
        """Return the template's tokens with their positions, ``(B, T, C)``."""
        return self.patch_embed(images) + self.pos_embed_z

    def embed_search(self, images: Tensor) -> Tensor:
        """Return the search crop's tokens with their positions, ``(B, S, C)``."""
        return self.patch_embed(images) + self.pos_embed_x

    def all_indices(self, tokens: Tensor) -> Tensor:
        """Return the places of the search tokens while none is eliminated, ``(B, S)``."""
        return torch.arange(self.search_length, device=tokens.device).expand(tokens.shape[0], -1)

    def eliminates(self, number: int, keep_ratio: float | None = None) -> bool:
        """Say whether block ``number`` drops candidates.

        ``keep_ratio`` replaces that of the settings.
        """
        return number in self.elimination_layers and self._ratio(keep_ratio) < 1

    def eliminates_any(self, keep_ratio: float | None = None) -> bool:
        """Say whether any block drops candidates."""
        return bool(self.elimination_layers) and self._ratio(keep_ratio) < 1

    def block(
        self,
        number: int,
        tokens: Tensor,
        indices: Tensor,
        *,
        streams: int = 1,
        keep_ratio: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run one block on ``(streams * B, T + K, C)``, stream by stream.

        The streams share the places ``indices`` ``(B, K)`` and drop the same candidates.
        """
        block = self._block(number)
        if not self.eliminates(number, keep_ratio):
            return block(tokens), indices
        tokens, scores = block.score(tokens, self.template_length, self.template_mask)
        if streams == 1:
            tokens, indices = keep_candidates(tokens, scores, indices, self._ratio(keep_ratio))
            return block.transform(tokens), indices
        joint = scores.unflatten(0, (streams, -1)).amax(0)
        left = eliminate_candidates(
            tokens,
            joint.repeat(streams, 1),
            indices.repeat(streams, 1),
            self._ratio(keep_ratio),
        )
        return block.transform(left.tokens), left.indices[: len(indices)]

    def block_side_by_side(
        self, number: int, tokens: Tensor, indices: Tensor, *, keep_ratio: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run one block on ``(B, 2 (T + K), C)``: both streams in one sequence.

        The same candidates of both are dropped.
        """
        block = self._block(number)
        if not self.eliminates(number, keep_ratio):
            return block(tokens), indices
        tokens, scores = block.score(tokens, self.template_length, self.template_mask, streams=2)
        joint = scores.unflatten(1, (2, -1)).amax(1)
        left = eliminate_candidates(
            tokens.unflatten(1, (2, -1)).flatten(0, 1),
            joint.repeat_interleave(2, dim=0),
            indices.repeat_interleave(2, dim=0),
            self._ratio(keep_ratio),
        )
        side_by_side = left.tokens.unflatten(0, (-1, 2)).flatten(1, 2)
        return block.transform(side_by_side), left.indices[::2]

    def _block(self, number: int) -> EncoderBlock:
        return cast(EncoderBlock, self.blocks[number])

    def survivors(self, tokens: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Return the search tokens that are left, and whatever stands in front of them.

        ``before`` and ``after`` are the places that tokens and result hold, both ascending.
        """
        if before.shape[1] == after.shape[1]:
            return tokens
        in_front = tokens.shape[1] - before.shape[1]
        # the position of a place is the number of places before it
        positions = (before[:, None, :] < after[:, :, None]).sum(-1)
        left = select_tokens(tokens[:, in_front:], positions)
        return torch.cat((tokens[:, :in_front], left), dim=1)

    def restore(self, search: Tensor, indices: Tensor) -> Tensor:
        """Return the search tokens at their places in the grid, ``(B, S, C)``, zeros elsewhere."""
        if search.shape[1] == self.search_length:
            return search
        return restore_tokens(search, indices, self.search_length)

    def kept_lengths(self, keep_ratio: float | None = None) -> list[int]:
        """Return how many search tokens leave each block."""
        lengths = []
        left = self.search_length
        for number in range(self.settings.depth):
            if self.eliminates(number, keep_ratio):
                left = kept_length(self._ratio(keep_ratio), left)
            lengths.append(left)
        return lengths

    def _ratio(self, keep_ratio: float | None) -> float:
        return self.settings.keep_ratio if keep_ratio is None else keep_ratio


class ConvolutionalStem(TypedModule):
    """Turn an image into tokens by four 3x3 convolutions of stride 2, for small networks.

    The widths are C/8, C/4, C/2 and C, with a LayerNorm over channels and GELU between. Nothing
    depends on the size of the image or on the rest of the batch, so template and search pass alike.

    Args:
        dim: channels ``C`` of a token; a multiple of 8.

    Shape:
        - images: ``(B, 3, H, W)``, sides divisible by 16
        - returns ``(B, H / 16 * W / 16, C)``

    Raises:
        ShapeError: ``images`` does not have the shape above.
        ValueError: ``dim`` is not divisible by 8.

    Example:
        >>> import torch
        >>> from rgbt_fusion.models.encoder import ConvolutionalStem
        >>> ConvolutionalStem(64)(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 16, 64])

    Source:
        Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021, section 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        check_divisible(dim, 8, name="dim", divisor_name="the stem's narrowing")
        widths = (3, dim // 8, dim // 4, dim // 2, dim)
        convolutions = [nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(widths)]
        for convolution in convolutions:
            # the biases stay random: a missing modality is 0 everywhere, and the gradient of a norm
            # of zeros is huge
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:-1])

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens ``(B, L, C)`` of images ``(B, 3, H, W)``, in raster order."""
        check_shape(images, "B C H W", C=3, name="images")
        # channels last, so that the norms need no permuted copy
        x = images.contiguous(memory_format=torch.channels_last)
        for convolution, norm in zip(self.convolutions, self.norms, strict=False):
            x = F.gelu(norm(convolution(x).movedim(1, -1))).movedim(-1, 1)
        return self.convolutions[-1](x).flatten(2).transpose(1, 2)


def rescale_layers(layers: tuple[int, ...], depth: int, *, of: int) -> tuple[int, ...]:
    """Return the blocks that lie as deep in ``depth`` blocks as ``layers`` in ``of`` blocks.

    Example:
        >>> from rgbt_fusion.models.encoder import rescale_layers
        >>> rescale_layers((3, 6, 9), 4, of=12), rescale_layers((3, 6, 9), 24, of=12)
        ((1, 2, 3), (6, 12, 18))
    """
    return tuple(sorted({layer * depth // of for layer in layers}))


def sine_positions(dim: int, grid: int) -> Tensor:
    """Return the 2-D table of positions of MAE, ``(1, grid * grid, dim)``.

    Half of the channels tell the column, half the row.
    """
    quarter = math.ceil(dim / 4)
    frequency = 10000 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    phase = torch.arange(grid, dtype=torch.float64)[:, None] * frequency
    along_axis = torch.cat((phase.sin(), phase.cos()), dim=1)
    columns = along_axis.repeat(grid, 1)
    rows = along_axis.repeat_interleave(grid, dim=0)
    return torch.cat((columns, rows), dim=1)[None, :, :dim].float()

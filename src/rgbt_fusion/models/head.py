"""The centre head: where the target is, and how large, from a grid of search tokens."""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.shapes import check_shape

__all__ = ["CenterHead", "HeadMaps", "decode_box"]


class HeadMaps(NamedTuple):
    """What :class:`CenterHead` returns: ``score_logits`` ``(B, 1, S, S)``, ``size`` and ``offset``
    ``(B, 2, S, S)``."""

    score_logits: Tensor
    size: Tensor
    offset: Tensor


class CenterHead(nn.Module):
    r"""Read a score, a size and an offset for every cell of the search grid.

    Three branches of four 3x3 convolutions with BatchNorm and ReLU, each halving the channels, and
    a 1x1.

    .. math::
        s = \mathrm{clamp}(\sigma(f_s(X))), \qquad (w, h) = \mathrm{clamp}(\sigma(f_w(X))), \qquad o = f_o(X)

    Where the paper is silent: score and size are clamped to [1e-4, 1 - 1e-4], the offset is raw, as
    in OSTrack. The last bias of the score starts at log(0.1 / 0.9), as CenterNet's, so that a first
    step is not spent on silencing the background.

    Args:
        dim: channels ``C`` of the tokens.
        channels: channels after the first convolution.
        grid: cells ``S`` along a side.

    Shape:
        tokens ``(B, S * S, C)`` in raster order, to :class:`HeadMaps`, float32 at least.

    Raises:
        ShapeError: tokens of another number or width.
        ValueError, TypeError: an argument is not a positive whole number, or ``channels`` is below
            8.

    Example:
        >>> import torch
        >>> from rgbt_fusion.models.head import CenterHead
        >>> CenterHead(32, channels=16, grid=8).eval()(torch.randn(1, 64, 32)).size.shape
        torch.Size([1, 2, 8, 8])

    Source:
        Ye et al., "Joint Feature Learning and Relation Modeling for Tracking" (OSTrack), ECCV 2022,
        section 3.4; parameter names of its code.
    """

    def __init__(self, dim: int = 768, *, channels: int = 256, grid: int = 16) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.grid = check_positive_int(grid, name="grid")
        if check_positive_int(channels, name="channels") < 8:
            raise ValueError(f"channels must be at least 8, got {channels}")
        widths = (dim, channels, channels // 2, channels // 4, channels // 8)
        for branch, outputs in (("ctr", 1), ("offset", 2), ("size", 2)):
            for i in range(4):
                self.add_module(f"conv{i + 1}_{branch}", _convolution(widths[i], widths[i + 1]))
            self.add_module(f"conv5_{branch}", nn.Conv2d(widths[4], outputs, 1))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.constant_(self.get_submodule("conv5_ctr").bias, math.log(0.1 / 0.9))  # pyright: ignore

    def forward(self, tokens: Tensor) -> HeadMaps:
        """Return the maps; see the class."""
        check_shape(tokens, "B L C", L=self.grid**2, C=self.dim, name="tokens")
        # Token-major memory is a channels-last map as it stands: nothing is copied on the way into
        # the convolutions.
        features = rearrange(tokens, "b (h w) c -> b c h w", h=self.grid)
        score, offset, size = (
            self._branch(branch, features) for branch in ("ctr", "offset", "size")
        )
        return HeadMaps(score, clamped_sigmoid(size), offset)

    def _branch(self, branch: str, x: Tensor) -> Tensor:
        for i in range(5):
            x = self.get_submodule(f"conv{i + 1}_{branch}")(x)
        # float32 at least: bfloat16 would place a box no better than to a pixel, and hold no 1 -
        # 1e-4
        return x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()


def clamped_sigmoid(x: Tensor) -> Tensor:
    """Return the sigmoid within [1e-4, 1 - 1e-4], so that its logarithms stay finite."""
    return x.sigmoid().clamp(1e-4, 1 - 1e-4)


def decode_box(score: Tensor, size: Tensor, offset: Tensor) -> Tensor:
    """Return the box at the maximum of ``score``, as fractions of the search crop.

    .. math:: c = (i + o_i) / S, \\qquad i = \\arg\\max s

    Shape:
        ``score`` ``(B, 1, S, S)``, ``size`` and ``offset`` ``(B, 2, S, S)`` to ``box_cxcywh_unit``
        ``(B, 4)``.

    Example:
        >>> import torch
        >>> from rgbt_fusion.models.head import decode_box
        >>> score = torch.zeros(1, 1, 4, 4)
        >>> score[0, 0, 1, 2] = 1.0
        >>> decode_box(score, torch.full((1, 2, 4, 4), 0.25), torch.full((1, 2, 4, 4), 0.5))
        tensor([[0.6250, 0.3750, 0.2500, 0.2500]])
    """
    grid = score.shape[-1]
    best = score.flatten(1).argmax(1, keepdim=True)
    where = best.unsqueeze(1).expand(-1, 2, -1)
    size, offset = (x.flatten(2).gather(2, where).squeeze(2) for x in (size, offset))
    cell = torch.cat((best % grid, best // grid), dim=1)
    return torch.cat(((cell + offset) / grid, size), dim=1)


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )

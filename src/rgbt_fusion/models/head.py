"""The centre head: where the target is, and how large, from a grid of search tokens."""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["BRANCHES", "CenterHead", "HeadMaps", "clamped_sigmoid", "decode_box"]

BRANCHES = {"ctr": 1, "offset": 2, "size": 2}
"""The branches of the centre head by name, and how many maps each of them makes."""


class HeadMaps(NamedTuple):
    """What :class:`CenterHead` returns."""

    score_logits: Tensor
    """``(B, 1, S, S)``: the score before its sigmoid."""
    size: Tensor
    """``(B, 2, S, S)``: width and height as fractions of the side of the crop."""
    offset: Tensor
    """``(B, 2, S, S)``: from the corner of the cell to the centre of the box, in cells."""


class CenterHead(TypedModule):
    r"""Read a score, a size and an offset for every cell of the search grid.

    Three branches of four 3x3 convolutions with BatchNorm and ReLU, each halving the channels, and
    a 1x1.

    .. math::
        s = \mathrm{clamp}(\sigma(f_s(X))), \qquad
        (w, h) = \mathrm{clamp}(\sigma(f_w(X))), \qquad o = f_o(X)

    Paper and code: score and size are clamped to [1e-4, 1 - 1e-4], the offset is raw, as in
    OSTrack. The last bias of the score starts at log(0.1 / 0.9), as in CenterNet, so that a first
    step is not spent on silencing the background.

    Args:
        dim: channels ``C`` of the tokens.
        channels: channels after the first convolution.
        grid: cells ``S`` along a side.

    Shape:
        - tokens: ``(B, S * S, C)`` in raster order
        - returns :class:`HeadMaps`, float32 at least

    Raises:
        ShapeError: ``tokens`` does not have the shape above.
        ValueError: ``dim`` or ``grid`` is below 1, ``channels`` below 8.
        TypeError: an argument is not a whole number.

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
        for branch, outputs in BRANCHES.items():
            for i in range(4):
                self.add_module(f"conv{i + 1}_{branch}", _convolution(widths[i], widths[i + 1]))
            self.add_module(f"conv5_{branch}", nn.Conv2d(widths[4], outputs, 1))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.constant_(self.get_parameter("conv5_ctr.bias"), math.log(0.1 / 0.9))

    def forward(self, tokens: Tensor) -> HeadMaps:
        """Return the maps ``(B, ..., S, S)`` of the search tokens ``(B, S * S, C)``."""
        check_shape(tokens, "B L C", L=self.grid**2, C=self.dim, name="tokens")
        # Token-major memory is a channels-last map as it stands: nothing is copied on the way into
        # the convolutions.
        features = rearrange(tokens, "b (h w) c -> b c h w", h=self.grid)
        score_logits = self._branch("ctr", features)
        offset = self._branch("offset", features)
        size = self._branch("size", features)
        return HeadMaps(score_logits, clamped_sigmoid(size), offset)

    def _branch(self, branch: str, x: Tensor) -> Tensor:
        for i in range(5):
            x = self.get_submodule(f"conv{i + 1}_{branch}")(x)
        # float32 at least: in bfloat16 a box is no more exact than a pixel, and 1 - 1e-4 is 1
        return x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()


def clamped_sigmoid(x: Tensor) -> Tensor:
    """Return the sigmoid within [1e-4, 1 - 1e-4], so that its logarithms stay finite."""
    return x.sigmoid().clamp(1e-4, 1 - 1e-4)


def decode_box(score: Tensor, size: Tensor, offset: Tensor) -> Tensor:
    """Return the box at the maximum of ``score``, as fractions of the search crop.

    .. math:: c = (i + o_i) / S, \\qquad i = \\arg\\max s

    Shape:
        - score: ``(B, 1, S, S)``
        - size, offset: ``(B, 2, S, S)``
        - returns ``box_cxcywh_unit`` ``(B, 4)``

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
    column_and_row = torch.cat((best % grid, best // grid), dim=1)
    at_best = best.unsqueeze(1).expand(-1, 2, -1)
    best_offset = offset.flatten(2).gather(2, at_best).squeeze(2)
    best_size = size.flatten(2).gather(2, at_best).squeeze(2)
    centre = (column_and_row + best_offset) / grid
    return torch.cat((centre, best_size), dim=1)


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )

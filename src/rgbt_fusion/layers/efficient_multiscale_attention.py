"""EMA, efficient multi-scale attention: the enhancement inside TMR.

Its 3x3 branch is never written out.
"""

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_divisible, check_positive_int
from rgbt_fusion.shapes import check_dtype_unless_autocast, check_floating, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["EfficientMultiscaleAttention", "OneChannelKernel"]


class OneChannelKernel(NamedTuple):
    """The 3x3 branch read by the softmax of the other's mean: a convolution to one channel."""

    taps: Tensor
    """``(9, C / factor)``, as ``fold`` scatters them."""
    bias: Tensor


class EfficientMultiscaleAttention(TypedModule):
    r"""Weigh the positions of a feature map, with one gate map per group of channels.

    The channels are split into ``factor`` groups that share all weights. One branch pools the map
    along its rows and columns into two gates and normalises the gated map. The other is a 3x3
    convolution. Each branch, pooled and passed through a softmax over channels, then reads the
    *other* branch: this is the cross-spatial learning.

    .. math::
        X_1 &= \mathrm{GN}(X \cdot \sigma(w_1 * \mathrm{pool}_W X)
            \cdot \sigma(w_1 * \mathrm{pool}_H X)), \quad X_2 = w_3 * X \\
        G &= \sigma(\mathrm{softmax}(\overline{X_1})^\top X_2
            + \mathrm{softmax}(\overline{X_2})^\top X_1), \quad \mathrm{EMA}(X) = X \cdot G

    The layer computes exactly this without writing out :math:`X_2`, with a thirtieth of the
    products at 96 channels per group. Group normalisation with one channel per group leaves each
    mean at its bias. So :math:`\overline{X_1}` is the bias, and its product with :math:`X_2` a
    convolution to one channel; :math:`\overline{X_2}` follows from sums.

    Paper and code: ``factor=None`` takes 8, the authors' value, or the largest divisor that the
    channels share with 8, so that any number of channels works. Parameter names are those of the
    authors' code.

    Args:
        dim: channels of the map.
        factor: number of groups; each has ``dim / factor`` channels g, and the layer 10 g^2 + 4 g
            parameters.

    Shape:
        - x: ``(B, C, H, W)`` with C = ``dim``, floating point, in the dtype of the parameters
        - returns ``(B, C, H, W)`` in the dtype of ``x``
        - ``gate(x)`` returns G alone, ``(B, factor, H, W)``

    Raises:
        ShapeError: ``x`` does not have the shape above, or has no positions.
        TypeError: ``x`` is not a tensor of the parameters' dtype, or ``dim`` or ``factor`` is not a
            whole number.
        ValueError: ``factor`` does not divide ``dim``.

    Example:
        >>> import torch
        >>> from rgbt_fusion import EfficientMultiscaleAttention
        >>> ema = EfficientMultiscaleAttention(64, factor=8)
        >>> x = torch.randn(2, 64, 16, 16)
        >>> ema.gate(x).shape  # one gate per position and group of 8 channels
        torch.Size([2, 8, 16, 16])
        >>> sum(p.numel() for p in ema.parameters()) == 10 * 8**2 + 4 * 8
        True

    Source:
        Ouyang et al., "Efficient Multi-Scale Attention Module with Cross-Spatial Learning", ICASSP
        2023, fig. 3.
    """

    def __init__(self, dim: int = 768, *, factor: int | None = None) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        if factor is None:
            factor = math.gcd(dim, 8)
        self.factor = check_positive_int(factor, name="factor")
        check_divisible(dim, self.factor, name="dim", divisor_name="factor")
        group = dim // self.factor
        self.conv1x1 = nn.Conv2d(group, group, 1)
        self.conv3x3 = nn.Conv2d(group, group, 3, padding=1)
        self.gn = nn.GroupNorm(group, group)

    def gate(self, x: Tensor, kernel: OneChannelKernel | None = None) -> Tensor:
        """Return the gate map of each group, ``(B, factor, H, W)``, without applying it.

        ``kernel`` is what :meth:`prepare` returned, where it was kept.
        """
        sizes = check_shape(x, "B C H W", C=self.dim, name="x")
        if 0 in x.shape[2:]:
            raise ShapeError(f"x must have at least one position, got {tuple(x.shape)}")
        check_floating(x, name="x")
        check_dtype_unless_autocast(x, self.gn.weight, name="x", like_name="the layer's parameters")
        height, width = sizes["H"], sizes["W"]
        groups = rearrange(x, "b (g c) h w -> (b g) c h w", g=self.factor)
        gated = self._gated_by_rows_and_columns(groups)
        # A product and a fold: a convolution with one output channel takes six times as long on a
        # CPU.
        kernel = self.prepare() if kernel is None else kernel
        taps = F.fold(kernel.taps @ groups.flatten(2), (height, width), 3, padding=1)
        from_3x3 = taps.flatten(2) + kernel.bias
        from_1x1 = self._mean_of_3x3(groups).softmax(1)[:, None] @ gated.flatten(2)
        return torch.sigmoid(from_3x3 + from_1x1).view(-1, self.factor, height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map ``(B, C, H, W)``, each position multiplied by its group's gate."""
        gate = self.gate(x)
        return (x.unflatten(1, (self.factor, -1)) * gate[:, :, None]).flatten(1, 2)

    def _gated_by_rows_and_columns(self, x: Tensor) -> Tensor:
        """X_1: the map times a gate for each row and one for each column, normalised."""
        height, width = x.shape[2:]
        pooled = torch.cat([x.mean(3), x.mean(2)], 2)[..., None]
        rows, columns = self.conv1x1(pooled).sigmoid().split([height, width], 2)
        # nn.GroupNorm's own forward refuses one value per channel (a 1x1 map); its result there,
        # the bias, is right.
        return torch.group_norm(
            x * rows * columns.mT, self.gn.num_groups, self.gn.weight, self.gn.bias, self.gn.eps
        )

    def prepared_from(self) -> tuple[Tensor | None, ...]:
        """Return the parameters that :meth:`prepare` reads."""
        return (self.gn.bias, self.conv3x3.weight, self.conv3x3.bias)

    def prepare(self) -> OneChannelKernel:
        """Return softmax(mean X_1) applied to the 3x3 branch; it may be kept as they stay."""
        weights = self.gn.bias.softmax(0)
        kernel = (weights @ self.conv3x3.weight.flatten(1)).view(-1, 9)
        return OneChannelKernel(kernel.flip(1).mT, weights @ cast(Tensor, self.conv3x3.bias))

    def _mean_of_3x3(self, x: Tensor) -> Tensor:
        """mean X_2: the 3x3 branch applied to the mean of what each of its nine taps sees."""
        height, width = x.shape[2:]
        columns = x.mean(2)
        # The map is padded with zeros: the first tap never sees the last row, the last tap never
        # the first; then the same along the width.
        above = torch.sub(columns, x[:, :, -1], alpha=1 / height)
        below = torch.sub(columns, x[:, :, 0], alpha=1 / height)
        rows = torch.stack([above, columns, below], 2)
        total = rows.mean(3)
        left = torch.sub(total, rows[..., -1], alpha=1 / width)
        right = torch.sub(total, rows[..., 0], alpha=1 / width)
        seen = torch.stack([left, total, right], 3)
        return F.linear(seen.flatten(1), self.conv3x3.weight.flatten(1), self.conv3x3.bias)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, factor={self.factor}"

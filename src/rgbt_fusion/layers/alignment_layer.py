"""AlignmentLayer: move thermal features onto colour features, where it is sure how far."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_positive_int
from rgbt_fusion.shapes import check_same_shape, check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["AlignedThermal", "AlignmentEstimate", "AlignmentLayer"]

PER_UNIT = 10.0
"""What the score and the trust are multiplied by: a step of AdamW moves a parameter by its learning
rate, and both must be within reach of 500 steps of 1e-3."""

UNSURE = -0.1
"""The trust of a new layer: a confidence of 0.27, whatever it is shown."""

SMALLEST_VARIANCE = 1e-5
"""Added to variances, as in a norm."""

KERNEL_REACH = 2
"""The cubic kernel is 0 from this distance on, in cells."""


class AlignmentEstimate(NamedTuple):
    """How far the thermal map is off, and how sure that is."""

    offset: Tensor
    """``(B, 2)``: x and y in cells from where the colour map shows something to where the thermal
    map shows it."""
    confidence: Tensor
    """``(B,)`` in (0, 1)."""


class AlignedThermal(NamedTuple):
    """A thermal map that lies on the colour map, and how far it was moved for that."""

    tir: Tensor
    """``(B, C, H, W)``."""
    offset: Tensor
    """``(B, 2)``: x and y in cells, as in :class:`AlignmentEstimate`."""
    confidence: Tensor
    """``(B,)`` in (0, 1); up to 0.5 the map is not moved."""


class AlignmentLayer(TypedModule):
    r"""Move a thermal map onto a colour map by one shift, and leave it alone where that is unsure.

    Both maps are projected and compared at every whole shift within reach. The mean of the shifts,
    weighed by how well they fit, is the offset; the height and the width of the peak say how sure
    it is. Above a confidence of one half the map is moved by a growing share of the offset, with a
    cubic kernel. A new layer is unsure of everything: its result is its input, bit for bit.

    .. math::
        a &= P_{rgb}\, \mathrm{norm}(x_{rgb}), \qquad b = P_{tir}\, \mathrm{norm}(x_{tir}) \\
        s(d) &= \frac{\tau}{n_d} \sum_p \frac{a(p)^T b(p + d)}{\|a\| \|b\|}, \qquad
        \pi = \mathrm{softmax}_{|d_x|, |d_y| \le R}\ s \\
        o &= \sum_d \pi(d)\, d, \qquad
        c = \sigma\Big(w_1 \log \operatorname{mean}_d e^{s(d)}
        + w_2 \sum_d \pi(d) \|d - o\|^2 + \beta\Big) \\
        x'_{tir}(p) &= \sum_q k(q - g\, o)\, x_{tir}(p + q), \qquad g = \max(0, 2 c - 1)

    The norm takes off the mean of each channel over the map and divides by the deviation;
    :math:`n_d` is the share of the cells that a shift leaves inside; k is the cubic kernel of Keys
    in x times the one in y, and cells beyond the border are those of the border.

    Choices: one shift for the whole map, as two cameras in one housing see a search crop. A map of
    one value becomes exactly 0 by the norm, all shifts fit alike, and the offset is exactly 0. The
    projections of both modalities start alike. :math:`\tau`, the :math:`w_i` and :math:`\beta` are
    ten times their parameters, so that they are learned as fast as the rest. Below a confidence of
    one half the losses of a tracker teach the layer nothing: it learns from
    :func:`~rgbt_fusion.losses.alignment.alignment_loss`, which knows the shift. Shifts close to the
    reach are underestimated.

    Args:
        dim: channels of the maps.
        reach: largest shift in cells, in x and in y.
        hidden: channels in which both maps are compared.

    Shape:
        - rgb, tir: ``(B, C, H, W)`` with C = ``dim`` and sides above ``reach``
        - returns :class:`AlignedThermal` of ``(B, C, H, W)``, ``(B, 2)`` in cells and ``(B,)``;
          the last two are float32 at least

    Raises:
        ShapeError: ``rgb`` does not have the shape above, or ``tir`` differs from it.
        TypeError: ``rgb`` or ``tir`` is not a tensor, or an argument is not a whole number.
        ValueError: an argument is below 1.

    Example:
        >>> import torch
        >>> from rgbt_fusion import AlignmentLayer
        >>> _ = torch.manual_seed(0)
        >>> align = AlignmentLayer(8, reach=2)
        >>> rgb = torch.randn(1, 8, 12, 12)
        >>> tir = rgb.roll(1, dims=3)  # what colour shows, thermal shows one cell to the right
        >>> torch.equal(align(rgb, tir).tir, tir)  # a new layer moves nothing
        True
        >>> _ = torch.nn.init.constant_(align.trust.bias, 1.0)  # now it is sure
        >>> found = align(rgb, tir)
        >>> found.offset.detach().round(decimals=1).abs()
        tensor([[1., 0.]])

    Source:
        None for the layer. The kernel: Keys, "Cubic Convolution Interpolation for Digital Image
        Processing", IEEE TASSP 1981, equation 15.
    """

    takes_maps = True

    def __init__(self, dim: int, *, reach: int = 2, hidden: int = 16) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.reach = check_positive_int(reach, name="reach")
        self.hidden = check_positive_int(hidden, name="hidden")
        self.of_rgb = nn.Linear(dim, hidden, bias=False)
        self.of_tir = nn.Linear(dim, hidden, bias=False)
        self.sharpness = nn.Parameter(torch.ones(()))
        self.trust = nn.Linear(2, 1)
        with torch.no_grad():
            self.of_tir.weight.copy_(self.of_rgb.weight)
        nn.init.zeros_(self.trust.weight)
        nn.init.constant_(self.trust.bias, UNSURE)

    def forward(self, rgb: Tensor, tir: Tensor) -> AlignedThermal:
        """Return the thermal map ``(B, C, H, W)`` on the colour map, and the estimate for it."""
        offset, confidence = self.estimate(rgb, tir)
        share = (2 * confidence - 1).relu()
        shift = share.unsqueeze(-1) * offset
        moved = _moved(tir, shift, self.reach).to(tir.dtype)
        # not one bit changes where nothing is to be moved, whatever the precision of the products
        stays = (shift == 0).all(-1).view(-1, 1, 1, 1)
        return AlignedThermal(torch.where(stays, tir, moved), offset, confidence)

    def estimate(self, rgb: Tensor, tir: Tensor) -> AlignmentEstimate:
        """Return how far the thermal map is off, and how sure that is, and move nothing."""
        sizes = check_shape(rgb, "B C H W", C=self.dim, name="rgb")
        check_same_shape(tir, rgb, name="tir", like_name="rgb")
        if min(sizes["H"], sizes["W"]) <= self.reach:
            raise ShapeError(
                f"rgb must have sides above reach = {self.reach}, got {tuple(rgb.shape)}"
            )
        scores = self._scores(rgb, tir)
        fits = scores.flatten(1).softmax(-1).view_as(scores)
        cells = torch.arange(-self.reach, self.reach + 1, device=rgb.device)
        # shifts there and back are taken off each other first: where all fit alike, the mean is
        # exactly 0
        one_sided = (fits - fits.flip((1, 2))) / 2
        x = (one_sided.sum(1) * cells).sum(-1)
        y = (one_sided.sum(2) * cells).sum(-1)
        offset = torch.stack((x, y), dim=-1)
        distances = cells.square()[:, None] + cells.square()
        spread = (fits * distances).sum((1, 2)) - offset.square().sum(-1)
        height = scores.flatten(1).logsumexp(-1) - math.log(distances.numel())
        evidence = torch.stack((height, spread), dim=-1)
        weight = self.trust.weight.to(evidence.dtype)
        bias = self.trust.bias.to(evidence.dtype)
        trust = (evidence * weight).sum(-1) + bias
        return AlignmentEstimate(offset, (PER_UNIT * trust).sigmoid())

    def _scores(self, rgb: Tensor, tir: Tensor) -> Tensor:
        """Return how well each shift fits, ``(B, 2 R + 1, 2 R + 1)``, y first."""
        reach = self.reach
        height, width = rgb.shape[2:]
        ours = _of_unit_length(self.of_rgb(_normed(rgb)).to(_precise(rgb)))
        theirs = _of_unit_length(self.of_tir(_normed(tir)).to(_precise(rgb)))
        ours = ours.mT.unflatten(2, (height, width))
        theirs = F.pad(theirs.mT.unflatten(2, (height, width)), (reach,) * 4)
        shifted = theirs.unfold(2, height, 1).unfold(3, width, 1)
        # no matrix product: it would lose digits under autocast
        products = (ours[:, :, None, None] * shifted).sum((1, 4, 5))
        distance = torch.arange(-reach, reach + 1, device=rgb.device).abs().to(products.dtype)
        inside_y = (height - distance) / height
        inside_x = (width - distance) / width
        sharpness = PER_UNIT * self.sharpness.to(products.dtype)
        return sharpness * products / (inside_y[:, None] * inside_x)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, reach={self.reach}, hidden={self.hidden}"


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _normed(x: Tensor) -> Tensor:
    """Return a map as tokens ``(B, L, C)`` whose channels have mean 0 and deviation 1."""
    tokens = x.flatten(2).mT.to(_precise(x))
    # a mean is rounded: without this a map of one value would not become exactly 0
    tokens = tokens - tokens[:, :1]
    tokens = tokens - tokens.mean(1, keepdim=True)
    variance = tokens.square().mean(1, keepdim=True)
    return (tokens * (variance + SMALLEST_VARIANCE).rsqrt()).to(x.dtype)


def _of_unit_length(tokens: Tensor) -> Tensor:
    """Return tokens ``(B, L, C)`` whose squares sum to 1, or to 0."""
    energy = tokens.square().sum((1, 2), keepdim=True)
    return tokens * (energy + SMALLEST_VARIANCE).rsqrt()


def _moved(x: Tensor, shift: Tensor, reach: int) -> Tensor:
    """Return what a map ``(B, C, H, W)`` shows ``shift`` ``(B, 2)`` cells on, x and y."""
    height, width = x.shape[2:]
    in_x, in_y = shift.unbind(-1)
    rows = _weights(in_y, height, reach).unsqueeze(1)
    columns = _weights(in_x, width, reach).unsqueeze(1)
    return rows @ x.to(rows.dtype) @ columns.mT


def _weights(shift: Tensor, size: int, reach: int) -> Tensor:
    """Return what each cell of an axis is read from, ``(B, size, size)``."""
    margin = reach + KERNEL_REACH
    cells = torch.arange(size, device=shift.device)
    places = torch.arange(-margin, size + margin, device=shift.device)
    distance = places - cells[:, None] - shift[:, None, None]
    weights = _cubic(distance.abs())
    # the cells of the border stand for all beyond it
    before = weights[..., :margin].sum(-1, keepdim=True)
    behind = weights[..., margin + size :].sum(-1, keepdim=True)
    inside = weights[..., margin : margin + size]
    return inside + F.pad(before, (0, size - 1)) + F.pad(behind, (size - 1, 0))


def _cubic(distance: Tensor) -> Tensor:
    """Return the cubic kernel of Keys at distances in cells: 1 at 0, and 0 at 1, 2, ..."""
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    beyond = torch.zeros_like(distance)
    outer = torch.where(distance < KERNEL_REACH, far, beyond)
    return torch.where(distance < 1, near, outer)

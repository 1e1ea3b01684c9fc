"""What the ordered scan in one call is compared with: one scan per direction, on permuted copies.

The copies are made in three ways. The released code of AINet stacks the layers and then flips or
gathers them, which copies twice or three times; the other two copy once, by the fastest operation
PyTorch has for it. Inside, all run the kernels of this library, so that only the copies and the
separate calls differ from one call that reads an index.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.layers.ordered_mamba import OrderedMamba
from rgbt_fusion.ops.backends import BackendName
from rgbt_fusion.ops.causal_conv1d import causal_conv1d, ordered_causal_conv1d
from rgbt_fusion.ops.selective_scan import ordered_selective_scan, selective_scan

__all__ = ["COPIES", "CopiedScans", "Copies", "PermutedCopiesMamba", "scan_copies"]

Permute = Callable[[Tensor, Tensor, int, bool], Tensor]
"""Copies a tensor into the segment order ``(B, K)`` along an axis.

The last argument says whether the order is the plain reverse.
"""


def copied_as_released(x: Tensor, order: Tensor, axis: int, reverse: bool) -> Tensor:
    """Copy as AINet does: stack the layers, then flip or gather them by an index of full size."""
    layers = x.chunk(order.shape[1], dim=axis)
    if reverse:
        return torch.stack(layers, dim=axis).flip([axis]).flatten(axis, axis + 1)
    stacked = torch.stack(layers, dim=1)
    gathered = stacked.gather(1, order[:, :, None, None].expand_as(stacked))
    return gathered.transpose(1, axis).flatten(axis, axis + 1)


def copied_once(x: Tensor, order: Tensor, axis: int, reverse: bool) -> Tensor:
    """Copy each sample once, segment by segment."""
    blocks = x.unflatten(axis, (order.shape[1], -1))
    copies = [
        sample.index_select(axis - 1, indices)
        for sample, indices in zip(blocks, order, strict=True)
    ]
    # a batch of one needs no second copy
    batch = copies[0][None] if len(copies) == 1 else torch.stack(copies)
    return batch.flatten(axis, axis + 1)


class Copies(NamedTuple):
    """A way to make the copies, and the memory that everything lies in."""

    permute: Permute
    layout: str
    """``"token"`` for ``(B, L, D)``, ``"channel"`` for ``(B, D, L)``."""


COPIES = {
    "copies as released": Copies(copied_as_released, "channel"),
    "single copies, (B, D, L)": Copies(copied_once, "channel"),
    "single copies, (B, L, D)": Copies(copied_once, "token"),
}
"""The ways, by the name they have in the tables."""


class CopiedScans(NamedTuple):
    """Parameters of several scans over one sequence, stacked along an axis of directions R."""

    conv_weight: Tensor
    """``(R, D, W)``"""
    conv_bias: Tensor
    A: Tensor
    """``(R, D, N)``"""
    D: Tensor
    """``(R, D)``, as ``delta_bias``."""
    delta_bias: Tensor


Projection = Callable[[int, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Gives the step sizes, B and C of a direction from its convolved sequence.

All are in the order of the scan and in the layout of the sequence.
"""


def scan_copies(
    xz: Tensor,
    orders: Tensor,
    scans: CopiedScans,
    project: Projection,
    copies: Copies,
    backend: BackendName = "auto",
) -> Tensor:
    """Run convolution and scan once per direction on a permuted copy, and sum the results.

    The first direction is the natural order and copies nothing, the second is its reverse. Each
    copies sequence and gate into its order, convolves, projects, scans, and copies the result back.

    Args:
        xz: the projected sequence and its gate, ``(B, L, 2 D)`` or ``(B, 2 D, L)``.
        orders: segments by step, ``(R, B, K)``.
        scans: the parameters.
        project: makes what the scan depends on.
        copies: how to copy, and the layout of ``xz``.
        backend: what convolves and scans.
    """
    channels_first = copies.layout == "channel"
    tokens, channels = (2, 1) if channels_first else (1, 2)
    convolve = causal_conv1d if channels_first else ordered_causal_conv1d
    merged: Tensor | None = None
    for r, order in enumerate(orders):
        is_natural = r == 0
        is_reverse = r == 1
        permuted = xz if is_natural else copies.permute(xz, order, tokens, is_reverse)
        x, z = permuted.chunk(2, dim=channels)
        x = convolve(
            x, scans.conv_weight[r], scans.conv_bias[r], activation="silu", backend=backend
        )
        delta, B, C = project(r, x)
        arguments = (x, delta, scans.A[r], B, C, scans.D[r], z, scans.delta_bias[r], True)
        if channels_first:
            y = cast(Tensor, selective_scan(*arguments, backend=backend))
        else:
            y = ordered_selective_scan(*arguments, backend=backend).out
        if not is_natural:
            y = copies.permute(y, order.argsort(-1), tokens, is_reverse)
        merged = y if merged is None else merged + y
    return cast(Tensor, merged)


class PermutedCopiesMamba(OrderedMamba):
    """The OFM's scans, with its parameters, run one after the other on permuted copies."""

    copies = COPIES["copies as released"]

    def forward(self, tokens: Tensor, orders: Tensor, order_logits: Tensor | None = None) -> Tensor:
        """Scan ``tokens (B, L, C)`` in the segment orders ``orders (R, B, K)``.

        The order itself gets no gradient.
        """
        scans = CopiedScans(
            self.conv_weight, self.conv_bias, -torch.exp(self.A_log), self.D, self.dt_bias
        )
        if self.copies.layout == "channel":
            xz = self.in_proj.weight @ tokens.mT
            y = scan_copies(xz, orders, scans, self._project_channels, self.copies, self.backend).mT
        else:
            xz = self.in_proj(tokens)
            y = scan_copies(xz, orders, scans, self._project_tokens, self.copies, self.backend)
        return self.out_proj(y) / len(orders)

    def _project_tokens(self, r: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        delta, B, C = F.linear(x, self.x_proj[r]).split(
            [self.dt_rank, self.d_state, self.d_state], dim=-1
        )
        return F.linear(delta, self.dt_weight[r]), B, C

    def _project_channels(self, r: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        delta, B, C = (self.x_proj[r] @ x).split([self.dt_rank, self.d_state, self.d_state], dim=1)
        return self.dt_weight[r] @ delta, B, C

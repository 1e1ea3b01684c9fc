"""The ops of this library in torch's own operations, for runtimes that do not know them.

Much slower than the ops themselves: the recurrence is a loop that the other runtime walks step by
step, over the body of one ONNX Scan node. The loop is ``torch._higher_order_ops.scan``, which torch
keeps to itself so far; it is used in this file alone.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.ops.arguments import callers_layout
from rgbt_fusion.ops.conv_op import ConvArguments
from rgbt_fusion.ops.scan_op import ScanArguments

__all__ = ["PLAIN_OPS"]


def _in_order(x: Tensor, order: Tensor | None) -> Tensor:
    """Return ``x (R, B, L, ...)`` with its segments as ``order (R?, B?, K)`` visits them."""
    if order is None:
        return x
    directions, batch = x.shape[:2]
    segments = order.shape[2]
    first = segments * torch.arange(directions * batch, device=x.device).view(directions, batch, 1)
    rows = (order + first).flatten()
    return x.reshape(directions * batch * segments, -1).index_select(0, rows).view(x.shape)


def _in_place(x: Tensor, order: Tensor | None) -> Tensor:
    """Undo :func:`_in_order`."""
    return x if order is None else _in_order(x, order.argsort(dim=-1, stable=True))


def _selective_scan(*values: Any) -> tuple[Tensor, Tensor, Tensor]:
    from torch._higher_order_ops.scan import scan

    *given, _, _, _ = values
    arguments = ScanArguments(*given)
    inputs = arguments.as_inputs()
    directions, (batch, _, channels), dtype = inputs.directions, inputs.u.shape[1:], inputs.A.dtype
    rates = inputs.A[:, None]

    def steps(x: Tensor) -> Tensor:
        """Lay a sequence out in the order of the scan, steps first."""
        return _in_order(x.expand(directions, *x.shape[1:]), inputs.order).movedim(2, 0).to(dtype)

    def step(state: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """h = exp(dt A) h + dt u B and y = <C, h>, over (R, B, D, N)."""
        dt, driven, B, C = now
        state = torch.exp(dt[..., None] * rates) * state + driven[..., None] * B
        return state, (state * C).sum(-1)

    dt = (
        inputs.delta
        if inputs.delta_bias is None
        else inputs.delta + inputs.delta_bias[:, None, None]
    )
    dt = F.softplus(dt) if inputs.delta_softplus else dt
    B, C = (_by_channel(x, channels) for x in (inputs.B, inputs.C))
    C = C if inputs.readout is None else C * inputs.readout[:, None, None]
    start = inputs.u.new_zeros(directions, batch, channels, rates.shape[-1], dtype=dtype)
    start = start if inputs.initial_state is None else start + inputs.initial_state
    last_state, y = scan(step, start, (steps(dt), steps(dt * inputs.u), steps(B), steps(C)))
    y = _in_place(y.movedim(0, 2), inputs.order)
    y = y if inputs.D is None else y + inputs.D[:, None, None] * inputs.u
    y = y if inputs.z is None else y * F.silu(inputs.z)
    y = (y.sum(0, keepdim=True) if inputs.merge else y).to(inputs.u.dtype)
    no_checkpoints = start.new_empty(directions, batch, 0, rates.shape[-1], channels)
    return callers_layout(y, arguments.channels_first), last_state, no_checkpoints


def _by_channel(coefficients: Tensor, channels: int) -> Tensor:
    """Give the coefficients of a group to each of its channels; those of one group are
    broadcast."""
    groups = coefficients.shape[-2]
    return coefficients if groups == 1 else coefficients.repeat_interleave(channels // groups, -2)


def _causal_conv1d(*values: Any) -> Tensor:
    *given, _, _ = values
    arguments = ConvArguments(*given)
    inputs = arguments.as_inputs()
    x, weight, directions = inputs.x, inputs.weight, inputs.directions
    length, taps = x.shape[2], weight.shape[2]
    x = _in_order(x.expand(directions, *x.shape[1:]), inputs.order).to(weight.dtype)
    padded = F.pad(x, (0, 0, taps - 1, 0))
    y = padded[:, :, :length] * weight[:, None, None, :, 0]
    for tap in range(1, taps):
        y = y + padded[:, :, tap : tap + length] * weight[:, None, None, :, tap]
    y = y if inputs.bias is None else y + inputs.bias[:, None, None]
    y = _in_place(F.silu(y) if inputs.silu else y, inputs.order).to(inputs.x.dtype)
    return callers_layout(y, arguments.channels_first)


def _sort(x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """The sort that ONNX has: its TopK gives the lower index first among equals, as a stable sort
    does."""
    return torch.topk(x, x.shape[dim], dim, largest=descending, sorted=True)


def _argsort(
    x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Tensor:
    return _sort(x, dim=dim, descending=descending)[1]


PLAIN_OPS: dict[Any, Callable[..., Any]] = {
    torch.ops.rgbt_fusion.selective_scan.default: _selective_scan,
    torch.ops.rgbt_fusion.causal_conv1d.default: _causal_conv1d,
    torch.ops.aten.sort.stable: _sort,
    torch.ops.aten.argsort.stable: _argsort,
}
"""What takes the place of each op when an exported program is decomposed; forward only.

Nothing else is taken apart: of a linear layer's own op an exporter makes one product with a
constant, which can be quantised, of its parts a batched one with a broadcast weight.
"""

"""The ops of this library in torch's own operations, for runtimes that do not know them.

The recurrence becomes one ONNX Scan node. Its states have the channels innermost, so that each
operation of the body runs over long rows. Several steps in one body are not faster: the time goes
into the passes over the state, of which the body needs six and the kernels here one. The loop is
``torch._higher_order_ops.scan``, which is not public in torch yet; only this file uses it.
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
    """Return ``x (R, B, L, ...)`` with its segments in the order ``(R?, B?, K)`` of the visits."""
    if order is None:
        return x
    directions, batch = x.shape[:2]
    segments = order.shape[2]
    first = segments * torch.arange(directions * batch, device=x.device).view(directions, batch, 1)
    rows = (order + first).flatten()
    return x.reshape(directions * batch * segments, -1).index_select(0, rows).view(x.shape)


def _in_place(x: Tensor, order: Tensor | None) -> Tensor:
    """Undo :func:`_in_order`."""
    if order is None:
        return x
    return _in_order(x, order.argsort(dim=-1, stable=True))


def _selective_scan(*values: Any) -> tuple[Tensor, Tensor, Tensor]:
    from torch._higher_order_ops.scan import scan

    *given, _, _, _ = values
    arguments = ScanArguments(*given)
    inputs = arguments.as_inputs()
    directions = inputs.directions
    batch, _, channels = inputs.u.shape[1:]
    groups, states = inputs.B.shape[3:]
    dtype = inputs.A.dtype

    def by_group(x: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., G, P)``."""
        return x.unflatten(-1, (groups, -1))

    def state_like(x: Tensor) -> Tensor:
        """``(R, ..., D, N)`` to ``(R, ..., G, N, P)``."""
        return by_group(x.transpose(-1, -2)).transpose(-3, -2).contiguous()

    def steps(x: Tensor) -> Tensor:
        """``(R?, B, L, ...)`` in the order of the scan, steps first: ``(L, R, B, ...)``."""
        in_order = _in_order(x.expand(directions, *x.shape[1:]), inputs.order)
        return in_order.movedim(2, 0).to(dtype)

    rates = state_like(inputs.A[:, None])
    readout = None if inputs.readout is None else state_like(inputs.readout[:, None])

    def step(state: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Compute h = exp(dt A) h + B (dt u) and y = C h, over (R, B, G, N, P)."""
        dt, driven, B, C = now
        decay = torch.exp(dt * rates)
        state = decay * state + torch.matmul(B, driven)
        read = state if readout is None else state * readout
        return state, torch.matmul(C, read)

    dt = inputs.delta
    if inputs.delta_bias is not None:
        dt = dt + inputs.delta_bias[:, None, None]
    if inputs.delta_softplus:
        dt = F.softplus(dt)
    sequences = (
        steps(by_group(dt)[..., None, :]),
        steps(by_group(dt * inputs.u)[..., None, :]),
        steps(inputs.B[..., None]),
        steps(inputs.C[..., None, :]),
    )
    start = inputs.A.new_zeros(directions, batch, groups, states, channels // groups)
    if inputs.initial_state is not None:
        start = start + state_like(inputs.initial_state)

    last_state, y = scan(step, start, sequences)
    y = y.flatten(-3).movedim(0, 2)
    last_state = last_state.transpose(2, 3).flatten(3).transpose(2, 3)
    y = _in_place(y, inputs.order)
    if inputs.D is not None:
        y = y + inputs.D[:, None, None] * inputs.u
    if inputs.z is not None:
        y = y * F.silu(inputs.z)
    if inputs.merge:
        y = y.sum(0, keepdim=True)
    y = callers_layout(y.to(inputs.u.dtype), arguments.channels_first)
    no_checkpoints = start.new_empty(directions, batch, 0, states, channels)
    return y, last_state, no_checkpoints


def _causal_conv1d(*values: Any) -> Tensor:
    *given, _, _ = values
    arguments = ConvArguments(*given)
    inputs = arguments.as_inputs()
    weight = inputs.weight
    length = inputs.x.shape[2]
    taps = weight.shape[2]
    x = inputs.x.expand(inputs.directions, *inputs.x.shape[1:])
    x = _in_order(x, inputs.order).to(weight.dtype)
    padded = F.pad(x, (0, 0, taps - 1, 0))
    y = padded[:, :, :length] * weight[:, None, None, :, 0]
    for tap in range(1, taps):
        y = y + padded[:, :, tap : tap + length] * weight[:, None, None, :, tap]
    if inputs.bias is not None:
        y = y + inputs.bias[:, None, None]
    if inputs.silu:
        y = F.silu(y)
    y = _in_place(y, inputs.order).to(inputs.x.dtype)
    return callers_layout(y, arguments.channels_first)


def _sort(x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Sort with the operator that ONNX has.

    Its TopK puts the lower index first among equals, as a stable sort does.
    """
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
"""What replaces each op when an exported program is decomposed; forward only.

Nothing else is decomposed. A linear layer must stay whole: the exporter turns it into one product
with a constant, which can be quantised; its parts would become a batched product.
"""

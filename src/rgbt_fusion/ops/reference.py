"""The recurrence as a plain loop, forward and backward: the oracle of every other backend."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.ops.inputs import (
    ConvGradients,
    ConvInputs,
    ScanGradients,
    ScanInputs,
    ScanResults,
    checkpoint_steps,
)

__all__ = [
    "conv_backward",
    "conv_forward",
    "conv_why_not",
    "rows_in_scan_order",
    "scan_backward",
    "scan_forward",
    "scan_why_not",
]


def scan_why_not(inputs: ScanInputs) -> list[str]:
    """The loop runs on anything."""
    return []


def conv_why_not(inputs: ConvInputs) -> list[str]:
    """The loop runs on anything."""
    return []


def rows_in_scan_order(
    order: Tensor | None, r: int, b: int, length: int, device: torch.device
) -> Tensor:
    """Return the rows that direction ``r`` of sample ``b`` visits, ``(L,)``."""
    rows = torch.arange(length, device=device)
    if order is None:
        return rows
    segments = order[r % order.shape[0], b % order.shape[1]]
    return rows.view(len(segments), -1)[segments].reshape(-1)


def _pick(x: Tensor | None, r: int) -> Tensor | None:
    return None if x is None else x[r % x.shape[0]]


class _Sequence:
    """One direction of one sample, in scan order and in the state's dtype."""

    def __init__(self, inputs: ScanInputs, r: int, b: int) -> None:
        state = inputs.A.dtype
        self.rows = rows_in_scan_order(inputs.order, r, b, inputs.u.shape[2], inputs.u.device)
        per_group = inputs.u.shape[3] // inputs.B.shape[3]

        def token(x: Tensor) -> Tensor:
            return x[r % x.shape[0], b][self.rows].to(state)

        self.u = token(inputs.u)
        delta = token(inputs.delta)
        self.B = token(inputs.B).repeat_interleave(per_group, 1)  # (L, D, N)
        self.C = token(inputs.C).repeat_interleave(per_group, 1)
        self.A = inputs.A[r % inputs.A.shape[0]]
        self.D = _pick(inputs.D, r)
        self.readout = _pick(inputs.readout, r)
        if inputs.delta_bias is not None:
            delta = delta + inputs.delta_bias[r % inputs.delta_bias.shape[0]]
        self.dt = F.softplus(delta) if inputs.delta_softplus else delta
        self.ddelta = torch.sigmoid(delta) if inputs.delta_softplus else torch.ones_like(delta)
        self.z = None if inputs.z is None else token(inputs.z)
        start = _pick(inputs.initial_state, r)
        self.start = torch.zeros_like(self.A) if start is None else start[b]

    def states(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield ``t, h_{t-1}, h_t``: h_t = exp(dt A) h_{t-1} + dt B u."""
        h = self.start
        for t in range(len(self.rows)):
            before = h
            decay = torch.exp(self.dt[t, :, None] * self.A)
            driven = (self.dt[t] * self.u[t])[:, None] * self.B[t]
            h = decay * h + driven
            yield t, before, h

    def weights(self, t: int) -> Tensor:
        """What the state is read with at step ``t``, ``(D, N)``."""
        return self.C[t] if self.readout is None else self.C[t] * self.readout


def scan_forward(inputs: ScanInputs, results: ScanResults) -> None:
    """Run the recurrence step by step."""
    out = results.out.new_zeros(results.out.shape, dtype=inputs.A.dtype)
    steps = checkpoint_steps(inputs.u.device)
    for r in range(inputs.directions):
        for b in range(inputs.u.shape[1]):
            s = _Sequence(inputs, r, b)
            y = torch.empty_like(s.u)
            h = s.start
            for t, before, h in s.states():
                if results.checkpoints.shape[2] and t % steps == 0:
                    results.checkpoints[r, b, t // steps] = before.T
                y[t] = (s.weights(t) * h).sum(-1)
            if s.D is not None:
                y = y + s.D * s.u
            if s.z is not None:
                y = y * F.silu(s.z)
            out[r % len(out), b].index_add_(0, s.rows, y)
            results.last_state[r, b] = h
    results.out.copy_(out)


def scan_backward(
    inputs: ScanInputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_last_state: Tensor | None,
    grads: ScanGradients,
) -> None:
    """Run the adjoint from the last step: g_{t-1} = exp(dt_t A) (g_t + readout C_t dy_t)."""
    total: list[Any] = [
        None if g is None else torch.zeros_like(g, dtype=inputs.A.dtype) for g in grads
    ]
    for r in range(inputs.directions):
        for b in range(inputs.u.shape[1]):
            grad = grad_out[r % len(grad_out), b]
            last = None if grad_last_state is None else grad_last_state[r, b]
            _sequence_backward(inputs, r, b, grad, last, ScanGradients(*total))
    for grad, value in zip(grads, total, strict=True):
        if grad is not None and value is not None:
            grad.copy_(value)


def _sequence_backward(
    inputs: ScanInputs,
    r: int,
    b: int,
    grad_out: Tensor,
    grad_last: Tensor | None,
    total: ScanGradients,
) -> None:
    s = _Sequence(inputs, r, b)
    history = [(before, h) for _, before, h in s.states()]
    dy = grad_out[s.rows].to(s.u)
    if total.z is not None and s.z is not None:
        reads = []
        for t, (_, h) in enumerate(history):
            reads.append((s.weights(t) * h).sum(-1))
        y = torch.stack(reads)
        if s.D is not None:
            y = y + s.D * s.u
        gate = torch.sigmoid(s.z)
        dz = dy * y * gate * (1 + s.z * (1 - gate))
        total.z[r % len(total.z), b].index_add_(0, s.rows, dz)
        dy = dy * s.z * gate
    groups = inputs.B.shape[3]
    per_group = inputs.u.shape[3] // groups
    g = torch.zeros_like(s.A) if grad_last is None else grad_last
    for t in range(len(history) - 1, -1, -1):
        before, h = history[t]
        row = s.rows[t]
        decay = torch.exp(s.dt[t, :, None] * s.A)
        read = h * dy[t, :, None]
        g = g + s.weights(t) * dy[t, :, None]
        d_decay = g * before * decay
        d_input = (g * s.B[t]).sum(-1)
        d_dt = ((d_decay * s.A).sum(-1) + d_input * s.u[t]) * s.ddelta[t]
        skip = 0 if s.D is None else s.D * dy[t]
        total.u[r % len(total.u), b, row] += d_input * s.dt[t] + skip
        total.delta[r % len(total.delta), b, row] += d_dt
        total.A[r % len(total.A)] += d_decay * s.dt[t, :, None]
        d_B = g * (s.dt[t] * s.u[t])[:, None]
        d_C = read if s.readout is None else read * s.readout
        total.B[r % len(total.B), b, row] += d_B.view(groups, per_group, -1).sum(1)
        total.C[r % len(total.C), b, row] += d_C.view(groups, per_group, -1).sum(1)
        if total.readout is not None:
            total.readout[r % len(total.readout)] += read * s.C[t]
        if total.D is not None:
            total.D[r % len(total.D)] += dy[t] * s.u[t]
        if total.delta_bias is not None:
            total.delta_bias[r % len(total.delta_bias)] += d_dt
        g = decay * g
    if total.initial_state is not None:
        total.initial_state[r % len(total.initial_state), b] += g


def _taps(inputs: ConvInputs, r: int, b: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows in scan order, the padded sequence, and the pre-activation.

    ``(L,)``, ``(W - 1 + L, D)`` and ``(L, D)``.
    """
    weight = inputs.weight[r % len(inputs.weight)]
    bias = _pick(inputs.bias, r)
    taps = weight.shape[1]
    rows = rows_in_scan_order(inputs.order, r, b, inputs.x.shape[2], inputs.x.device)
    in_order = inputs.x[r % len(inputs.x), b][rows].to(weight.dtype)
    x = F.pad(in_order, (0, 0, taps - 1, 0))
    products = [x[w : w + len(rows)] * weight[:, w] for w in range(taps)]
    y = torch.stack(products).sum(0)
    return rows, x, y if bias is None else y + bias


def conv_forward(inputs: ConvInputs, out: Tensor) -> None:
    """Sum the taps one by one."""
    for r in range(inputs.directions):
        for b in range(inputs.x.shape[1]):
            rows, _, y = _taps(inputs, r, b)
            out[r, b, rows] = (F.silu(y) if inputs.silu else y).to(out.dtype)


def conv_backward(inputs: ConvInputs, grad_out: Tensor, grads: ConvGradients) -> None:
    """Correlate the gradient with the taps."""
    total = [None if g is None else torch.zeros_like(g, dtype=inputs.weight.dtype) for g in grads]
    d_x, d_weight, d_bias = total
    for r in range(inputs.directions):
        for b in range(inputs.x.shape[1]):
            rows, x, y = _taps(inputs, r, b)
            dy = grad_out[r % len(grad_out), b][rows].to(y)
            if inputs.silu:
                gate = torch.sigmoid(y)
                dy = dy * gate * (1 + y * (1 - gate))
            weight = inputs.weight[r % len(inputs.weight)]
            taps = weight.shape[1]
            d_padded = torch.zeros_like(x)
            for w in range(taps):
                met = slice(w, w + len(rows))
                d_padded[met] += dy * weight[:, w]
                if d_weight is not None:
                    d_weight[r % len(d_weight), :, w] += (dy * x[met]).sum(0)
            if d_x is not None:
                d_x[r % len(d_x), b].index_add_(0, rows, d_padded[taps - 1 :])
            if d_bias is not None:
                d_bias[r % len(d_bias)] += dy.sum(0)
    for grad, value in zip(grads, total, strict=True):
        if grad is not None and value is not None:
            grad.copy_(value)

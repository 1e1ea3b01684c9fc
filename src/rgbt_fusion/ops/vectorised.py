"""The ops in plain PyTorch, on any device: everything but time is one tensor operation.

Time goes in blocks of :data:`CHECKPOINT_STEPS` tokens, read (and, under an order, gathered) once,
and inside a block in chunks whose states stay in cache. A chunk computes all its decays and inputs
in bulk, then takes one fused multiply-add per step. States are ``(R, B, G, N, P)`` with
``P = D / G`` channels per group innermost, so that every sum over states or channels is a batched
matrix product. Nothing is ever divided by a decay, so any step size is safe.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.ops.inputs import (
    CHECKPOINT_STEPS,
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
    "scan_backward",
    "scan_forward",
    "scan_why_not",
]

_CACHED_ELEMENTS = 2**19
"""Elements of one chunk on a CPU: a few such buffers stay in the last-level cache."""

_LAUNCHED_ELEMENTS = 2**24
"""Elements of one chunk elsewhere, where launches cost more than memory traffic."""


def scan_why_not(inputs: ScanInputs) -> list[str]:
    """PyTorch alone runs everywhere."""
    return []


def conv_why_not(inputs: ConvInputs) -> list[str]:
    """PyTorch alone runs everywhere."""
    return []


def _chunk_steps(elements: int, device: torch.device) -> int:
    """Return how many steps of ``elements`` each make a chunk."""
    return max(1, (_CACHED_ELEMENTS if device.type == "cpu" else _LAUNCHED_ELEMENTS) // elements)


def _ranges(length: int, steps: int) -> list[slice]:
    return [slice(start, min(start + steps, length)) for start in range(0, length, steps)]


class _Tokens:
    """Reads and writes tokens in scan order, time first.

    ``(R?, B, L, ...)`` in memory, ``(T, R?, B, ...)`` here.
    """

    def __init__(
        self, order: Tensor | None, directions: int, like: Tensor, dtype: torch.dtype
    ) -> None:
        self.directions = directions
        self.dtype = dtype
        self.rows = None
        self.samples = torch.arange(like.shape[1], device=like.device)
        if order is not None:
            inside = torch.arange(like.shape[2] // order.shape[2], device=like.device)
            self.rows = (
                (order[..., None] * len(inside) + inside).flatten(2).permute(2, 0, 1)
            )  # (L, R?, B?)

    def read(self, x: Tensor, steps: slice) -> Tensor:
        """Return a contiguous chunk in the state's dtype."""
        if self.rows is None:
            chunk = x[:, :, steps]
            # Channel-major memory is copied along its lines first and turned while in cache: 4x
            # faster at 3,840 tokens.
            chunk = (chunk if chunk.stride(-1) == 1 else chunk.clone()).movedim(2, 0)
        else:
            chunk = x[
                torch.arange(len(x), device=x.device)[:, None], self.samples, self.rows[steps]
            ]
        return chunk.to(self.dtype).contiguous()

    def write(self, x: Tensor, steps: slice, chunk: Tensor) -> None:
        """Write a chunk to the rows it belongs to."""
        if self.rows is None:
            x[:, :, steps] = chunk.movedim(0, 2)
        else:
            at = (torch.arange(len(x), device=x.device)[:, None], self.samples, self.rows[steps])
            x[at] = chunk.to(x.dtype)


class _Result:
    """Writes the chunks of one result, which is a sum over the directions if they share it."""

    def __init__(self, tokens: _Tokens, target: Tensor) -> None:
        self.tokens = tokens
        self.target = target
        self.shared = len(target) < tokens.directions
        self.meet_later = self.shared and tokens.rows is not None and tokens.rows.shape[1] > 1
        self.total = target
        if self.meet_later:  # the directions reach a row in different chunks
            self.total = (
                target
                if target.dtype == tokens.dtype
                else torch.empty_like(target, dtype=tokens.dtype)
            )
            self.total.zero_()

    def write(self, steps: slice, chunk: Tensor) -> None:
        if self.meet_later and self.tokens.rows is not None:
            for r, rows in enumerate(self.tokens.rows[steps].unbind(1)):
                self.total[0][self.tokens.samples, rows] += chunk[:, r]
        else:
            self.tokens.write(
                self.target, steps, chunk.sum(1, keepdim=True) if self.shared else chunk
            )

    def finish(self) -> None:
        if self.total is not self.target:
            self.target.copy_(self.total)


def _write_parameter(target: Tensor | None, total: Tensor) -> None:
    """Write a parameter's gradient ``(R, ...)``, summed over the directions that share it."""
    if target is not None:
        target.copy_(total.sum(0, keepdim=True) if len(target) < len(total) else total)


class _Scan:
    """The parameters of one call in the layout of the states, and the buffers of its chunks."""

    def __init__(self, inputs: ScanInputs) -> None:
        _, batch, self.length, channels = inputs.u.shape
        groups, states = inputs.B.shape[3:]
        self.inputs = inputs
        self.directions = inputs.directions
        self.state_shape = (self.directions, batch, groups, states, channels // groups)
        self.tokens = _Tokens(inputs.order, self.directions, inputs.u, inputs.A.dtype)
        self.A = self.from_rows(inputs.A.unsqueeze(1))
        self.readout = (
            None if inputs.readout is None else self.from_rows(inputs.readout.unsqueeze(1))
        )
        elements = math.prod(self.state_shape)
        self.steps = min(CHECKPOINT_STEPS, self.length, _chunk_steps(elements, inputs.A.device))
        self.decay = self.buffer(self.steps)
        self.states = self.buffer(self.steps + 1)

    def buffer(self, steps: int) -> Tensor:
        return self.inputs.A.new_empty(steps, *self.state_shape)

    def from_rows(self, x: Tensor) -> Tensor:
        """Turn ``(R?, B?, D, N)``, as parameters and states come, to ``(R?, B?, G, N, P)``."""
        return x.unflatten(2, (self.state_shape[2], -1)).transpose(-1, -2).contiguous()

    def to_rows(self, x: Tensor) -> Tensor:
        """``(R, ..., G, N, P)`` to ``(R, ..., D, N)``."""
        return x.transpose(-1, -2).flatten(-3, -2)

    def channels(self, x: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., G, P)``."""
        return x.unflatten(-1, (self.state_shape[2], -1))

    def blocks(self) -> list[slice]:
        return _ranges(self.length, CHECKPOINT_STEPS)

    def chunks(self, block: slice) -> list[slice]:
        """Return the chunks of a block, counted from its first step."""
        return _ranges(block.stop - block.start, self.steps)

    def block(self, steps: slice) -> "_Block":
        x = self.inputs
        read = self.tokens.read
        u = self.channels(read(x.u, steps))
        delta = self.channels(read(x.delta, steps))
        if x.delta_bias is not None:
            delta = delta + self.channels(x.delta_bias).unsqueeze(1)
        dt = F.softplus(delta) if x.delta_softplus else delta
        drive = (dt * u).expand(-1, self.directions, -1, -1, -1)
        return _Block(u, delta, dt, drive, read(x.B, steps), read(x.C, steps))

    def run(self, block: "_Block", steps: slice, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decays of a chunk and its states, the first of which is ``start``."""
        count = steps.stop - steps.start
        decay = self.decay[:count]
        states = self.states[: count + 1]
        states[0] = (
            start  # first, because it may be the last state of the chunk before, in the same buffer
        )
        dt = block.dt[steps].expand(-1, self.directions, -1, -1, -1)
        torch.mul(dt.unsqueeze(-2), self.A, out=decay).exp_()
        torch.mul(block.drive[steps].unsqueeze(-2), block.B[steps].unsqueeze(-1), out=states[1:])
        for h, kept, before in zip(
            states[1:].unbind(), decay.unbind(), states[:-1].unbind(), strict=True
        ):
            h.addcmul_(kept, before)  # h_t = dt_t B_t u_t + exp(dt_t A) h_{t-1}
        return decay, states

    def weighted(self, states: Tensor) -> Tensor:
        return states if self.readout is None else states * self.readout

    def skip(self, x: Tensor) -> Tensor | float:
        """Return ``D x``."""
        return 0.0 if self.inputs.D is None else self.channels(self.inputs.D).unsqueeze(1) * x


class _Block(NamedTuple):
    """The tokens of one checkpoint interval in scan order."""

    u: Tensor
    """``(T, R?, B, G, P)``"""
    delta: Tensor
    """With its bias, before the softplus."""
    dt: Tensor
    drive: Tensor
    """``dt u``, ``(T, R, B, G, P)``"""
    B: Tensor
    """``(T, R?, B, G, N)``"""
    C: Tensor


def _over_states(weights: Tensor, states: Tensor) -> Tensor:
    """Sum ``(T, R?, B, G, N)`` times ``(T, R, B, G, N, P)`` over N."""
    return torch.matmul(weights.unsqueeze(-2), states).squeeze(-2)


def _over_channels(weights: Tensor, states: Tensor) -> Tensor:
    """Sum ``(T, R?, B, G, P)`` times ``(T, R, B, G, N, P)`` over P."""
    return torch.matmul(weights.unsqueeze(-2), states.transpose(-1, -2)).squeeze(-2)


def _keep(states: Tensor, first_step: int, checkpoints: Tensor) -> None:
    """Keep the states before some of the steps; ``states[i]`` stands before ``first_step + i``."""
    every = checkpoint_steps(checkpoints.device)
    kept = states[-first_step % every :: every]
    at = -(-first_step // every)
    checkpoints[:, :, at : at + len(kept)] = kept.movedim(0, 2).transpose(3, 4).flatten(4)


def scan_forward(inputs: ScanInputs, results: ScanResults) -> None:
    """Run the recurrence, block by block and chunk by chunk."""
    scan = _Scan(inputs)
    out = _Result(scan.tokens, results.out)
    start = inputs.initial_state
    h = inputs.A.new_zeros(scan.state_shape) if start is None else scan.from_rows(start)
    for rows in scan.blocks():
        block = scan.block(rows)
        y = block.drive.new_empty(block.drive.shape)
        for steps in scan.chunks(rows):
            _, states = scan.run(block, steps, h)
            if results.checkpoints.shape[2]:
                _keep(states[:-1], rows.start + steps.start, results.checkpoints)
            y[steps] = _over_states(block.C[steps], scan.weighted(states[1:]))
            h = states[-1]
        y += scan.skip(block.u)
        y = y.flatten(3)
        if inputs.z is not None:
            y = y * F.silu(scan.tokens.read(inputs.z, rows))
        out.write(rows, y)
    out.finish()
    results.last_state.copy_(scan.to_rows(h))


def scan_backward(
    inputs: ScanInputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_last_state: Tensor | None,
    grads: ScanGradients,
) -> None:
    """Run the adjoint from the last block to the first, the states of each from its checkpoint."""
    adjoint = _Adjoint(inputs, grads)
    g = None if grad_last_state is None else adjoint.from_rows(grad_last_state)
    g = inputs.A.new_zeros(adjoint.state_shape) if g is None else g
    every = checkpoint_steps(checkpoints.device)
    for rows in reversed(adjoint.blocks()):
        kept = checkpoints[:, :, rows.start // every]
        start = kept.unflatten(-1, (adjoint.state_shape[2], -1)).transpose(2, 3)
        g = adjoint.run_block(rows, start, grad_out, g)
    adjoint.finish(g)


class _BlockGradients(NamedTuple):
    """Gradients of one block, filled chunk by chunk."""

    drive: Tensor
    dt: Tensor
    """Through the decays only."""
    B: Tensor
    C: Tensor
    y: Tensor
    """The output before the skip and the gate: the gate's gradient needs it."""

    @classmethod
    def like(cls, block: "_Block") -> "_BlockGradients":
        """Return what the gradients of a block are written to."""
        places = block.drive.shape[:4]

        def new(x: Tensor) -> Tensor:
            return block.drive.new_empty((*places, x.shape[-1]))

        return cls(
            drive=new(block.u), dt=new(block.u), B=new(block.B), C=new(block.C), y=new(block.u)
        )


class _Adjoint(_Scan):
    """The scan run backwards, and the gradients it gathers on the way."""

    def __init__(self, inputs: ScanInputs, grads: ScanGradients) -> None:
        super().__init__(inputs)
        self.grads = grads
        self.adjoints = self.buffer(self.steps)
        directions, _, groups, states, per_group = self.state_shape
        self.d_A = self.A.new_zeros(directions, groups, states, per_group)
        self.d_readout = torch.zeros_like(self.d_A)
        self.d_D, self.d_bias = self.d_A.new_zeros(2, directions, groups, per_group)
        self.d_u = _Result(self.tokens, grads.u)
        self.d_delta = _Result(self.tokens, grads.delta)
        self.d_B = _Result(self.tokens, grads.B)
        self.d_C = _Result(self.tokens, grads.C)
        self.d_z = None if grads.z is None else _Result(self.tokens, grads.z)

    def run_block(self, rows: slice, start: Tensor, grad_out: Tensor, g: Tensor) -> Tensor:
        """Add what a block gives to every gradient; return the gradient of the state before it."""
        block = self.block(rows)
        d_out = self.channels(self.tokens.read(grad_out, rows)).expand(block.drive.shape)
        z = None
        dy = d_out
        if self.inputs.z is not None:
            z = self.channels(self.tokens.read(self.inputs.z, rows))
            dy = d_out * F.silu(z)
        chunks = self.chunks(rows)
        starts = [start]
        for steps in chunks[:-1]:
            _, states = self.run(block, steps, starts[-1])
            starts.append(states[-1].clone())
        found = _BlockGradients.like(block)
        for steps, h in zip(reversed(chunks), reversed(starts), strict=True):
            g = self.run_chunk(block, steps, h, dy, g, found)
        if self.d_z is not None and z is not None:
            gate = torch.sigmoid(z)
            y = found.y + self.skip(block.u)
            dz = d_out * y * gate * (1 + z * (1 - gate))
            self.d_z.write(rows, dz.flatten(3))
        self.write_block(rows, block, dy, found)
        return g

    def run_chunk(
        self,
        block: _Block,
        steps: slice,
        start: Tensor,
        dy: Tensor,
        g_after: Tensor,
        found: _BlockGradients,
    ) -> Tensor:
        """Fill a chunk of ``found``.

        ``g_after`` and the result are gradients of the states after and before it.
        """
        decay, states = self.run(block, steps, start)
        dy = dy[steps]
        C = block.C[steps]
        g = self.adjoints[: len(decay)]
        torch.mul(dy.unsqueeze(-2), C.unsqueeze(-1), out=g)
        if self.readout is not None:
            self.d_readout += (g * states[1:]).sum((0, 2))
            g *= self.readout
        g[-1] += g_after
        after = g[-1]
        for before, kept in zip(
            reversed(g[:-1].unbind()), reversed(decay[1:].unbind()), strict=True
        ):
            before.addcmul_(kept, after)  # g_t = C_t dy_t + exp(dt_{t+1} A) g_{t+1}
            after = before
        g_before = decay[0] * g[0]
        found.drive[steps] = _over_states(block.B[steps], g)
        found.B[steps] = _over_channels(block.drive[steps], g)
        read = self.weighted(states[1:])
        found.C[steps] = _over_channels(dy, read)
        if self.d_z is not None:
            found.y[steps] = _over_states(C, read)
        exponent = decay.mul_(states[:-1]).mul_(g)  # the gradient of dt_t A
        self.d_A += torch.mul(exponent, block.dt[steps].unsqueeze(-2), out=g).sum((0, 2))
        found.dt[steps] = exponent.mul_(self.A).sum(-2)
        return g_before

    def write_block(self, rows: slice, block: _Block, dy: Tensor, found: _BlockGradients) -> None:
        """Write the gradients of a block's tokens and add to those of the parameters beside A."""
        d_delta = found.dt + found.drive * block.u
        if self.inputs.delta_softplus:
            d_delta *= torch.sigmoid(block.delta)
        self.d_u.write(rows, (found.drive * block.dt + self.skip(dy)).flatten(3))
        self.d_delta.write(rows, d_delta.flatten(3))
        self.d_B.write(rows, found.B)
        self.d_C.write(rows, found.C)
        self.d_D += (dy * block.u).sum((0, 2))
        self.d_bias += d_delta.sum((0, 2))

    def finish(self, g: Tensor) -> None:
        """Write what is complete only now; ``g`` is the gradient of the initial state."""
        for result in (self.d_u, self.d_delta, self.d_B, self.d_C, self.d_z):
            if result is not None:
                result.finish()
        grads = self.grads
        _write_parameter(grads.A, self.to_rows(self.d_A))
        _write_parameter(grads.readout, self.to_rows(self.d_readout))
        _write_parameter(grads.D, self.d_D.flatten(1))
        _write_parameter(grads.delta_bias, self.d_bias.flatten(1))
        _write_parameter(grads.initial_state, self.to_rows(g))


class _Convolution:
    """The taps of one call, and windows of tokens that reach back far enough for them."""

    def __init__(self, inputs: ConvInputs) -> None:
        _, self.batch, self.length, self.channels = inputs.x.shape
        self.inputs = inputs
        self.directions = inputs.directions
        self.width = inputs.weight.shape[2]
        self.tokens = _Tokens(inputs.order, self.directions, inputs.x, inputs.weight.dtype)
        self.taps = inputs.weight.movedim(2, 0).unsqueeze(2).contiguous()  # (W, R?, 1, D)
        self.bias = None if inputs.bias is None else inputs.bias.unsqueeze(1)

    def chunks(self) -> list[slice]:
        # A chunk re-reads the W - 1 tokens before it, so it must not be much shorter than that.
        elements = self.directions * self.batch * self.channels
        return _ranges(
            self.length, max(8 * self.width, _chunk_steps(elements, self.inputs.x.device))
        )

    def window(self, steps: slice) -> Tensor:
        """Return the tokens of ``steps`` and the W - 1 before them, zeros before the first."""
        first = steps.start - (self.width - 1)
        x = self.tokens.read(self.inputs.x, slice(max(0, first), steps.stop))
        return x if first >= 0 else F.pad(x, (0, 0, 0, 0, 0, 0, -first, 0))

    def before_activation(self, window: Tensor) -> Tensor:
        count = len(window) - (self.width - 1)
        y = window[:count] * self.taps[0]
        for w in range(1, self.width):
            y.addcmul_(window[w : w + count], self.taps[w])
        return y if self.bias is None else y.add_(self.bias)


def conv_forward(inputs: ConvInputs, out: Tensor) -> None:
    """Add up the taps of a chunk of tokens at a time."""
    conv = _Convolution(inputs)
    result = _Result(conv.tokens, out)
    for steps in conv.chunks():
        y = conv.before_activation(conv.window(steps))
        result.write(steps, F.silu(y) if inputs.silu else y)


def conv_backward(inputs: ConvInputs, grad_out: Tensor, grads: ConvGradients) -> None:
    """Correlate the gradient with the taps, from the last chunk to the first."""
    conv = _Convolution(inputs)
    width = conv.width
    d_x = _Result(conv.tokens, grads.x)
    d_taps = conv.taps.new_zeros(width, conv.directions, conv.channels)
    d_bias = torch.zeros_like(d_taps[0])
    later = d_taps.new_zeros(width - 1, conv.directions, conv.batch, conv.channels)
    for steps in reversed(conv.chunks()):
        window = conv.window(steps)
        dy = conv.tokens.read(grad_out, steps).expand(-1, conv.directions, -1, -1)
        if inputs.silu:
            y = conv.before_activation(window)
            gate = torch.sigmoid(y)
            dy = dy * gate * (1 + y * (1 - gate))
        count = len(dy)
        for w in range(width):
            d_taps[w] += (dy * window[w : w + count]).sum((0, 2))
        d_bias += dy.sum((0, 2))
        # Token t meets tap w in the output of step t + W - 1 - w.
        dy = torch.cat([dy, later])
        d_chunk = dy[:count] * conv.taps[-1]
        for w in range(width - 1):
            first = width - 1 - w
            d_chunk.addcmul_(dy[first : first + count], conv.taps[w])
        d_x.write(steps, d_chunk)
        later = dy[: width - 1]
    d_x.finish()
    _write_parameter(grads.weight, d_taps.movedim(0, -1))
    _write_parameter(grads.bias, d_bias)

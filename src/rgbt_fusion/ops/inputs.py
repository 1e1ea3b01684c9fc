"""What every backend is given: its arguments in one form, and where to write its results.

The public functions check and reshape; a backend only computes. Notation: ``R`` directions, ``B``
batch, ``L`` tokens, ``D`` channels, ``G`` groups, ``N`` state, ``K`` segments, ``W`` taps. A
leading size written ``R?`` (or ``B?``) is either that number or 1, which means shared by all
directions (or samples); the gradient has the same leading size, summed. Tensors are views with
arbitrary strides: a ``(B, D, L)`` caller's memory is reached through its strides, never copied.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "CHECKPOINT_STEPS",
    "CPU_CHECKPOINT_STEPS",
    "ConvGradients",
    "ConvInputs",
    "ScanGradients",
    "ScanInputs",
    "ScanResults",
    "checkpoint_steps",
]

CHECKPOINT_STEPS = 64
"""The scan keeps its state every so many steps; the backward pass starts again from there."""

CPU_CHECKPOINT_STEPS = 16
"""The same on a CPU, whose nearest cache holds few steps."""


def checkpoint_steps(device: torch.device) -> int:
    """Return how many steps of the scan lie between two checkpoints.

    It depends on the device alone, so that a traced program and every backend agree.
    """
    return CPU_CHECKPOINT_STEPS if device.type == "cpu" else CHECKPOINT_STEPS


class ScanInputs(NamedTuple):
    """Arguments of one (possibly many-directional) selective scan."""

    u: Tensor
    """``(R?, B, L, D)`` fp32, bf16, fp16 or fp64, as ``delta``, ``B``, ``C`` and ``z``"""
    delta: Tensor
    """``(R?, B, L, D)``"""
    A: Tensor
    """``(R?, D, N)`` contiguous; fp32, or fp64 with fp64 inputs, as all parameters and states"""
    B: Tensor
    """``(R?, B, L, G, N)``"""
    C: Tensor
    """``(R?, B, L, G, N)``"""
    readout: Tensor | None
    """``(R?, D, N)`` contiguous: ``y_t = sum_n readout[d, n] C_t[n] h_t[d, n]``.

    Constant B and C end up here.
    """
    D: Tensor | None
    """``(R?, D)`` contiguous"""
    z: Tensor | None
    """``(R?, B, L, D)``"""
    delta_bias: Tensor | None
    """``(R?, D)`` contiguous"""
    order: Tensor | None
    """``(R?, B?, K)`` int64 contiguous, each row a permutation of ``0..K-1``; ``K`` divides ``L``.

    Step ``s * (L / K) + i`` of the scan reads and writes row ``order[r, b, s] * (L / K) + i``.
    """
    initial_state: Tensor | None
    """``(R?, B, D, N)`` contiguous"""
    delta_softplus: bool
    merge: bool
    """Sum the directions: ``out`` is ``(1, B, L, D)`` instead of ``(R, B, L, D)``."""

    @property
    def directions(self) -> int:
        """R: the largest leading size."""
        return max(t.shape[0] for t in self[:11] if isinstance(t, Tensor))


class ScanResults(NamedTuple):
    """Where the forward pass writes; every element is written."""

    out: Tensor
    """``(R or 1, B, L, D)`` in the dtype of ``u``; may be a transposed view."""
    last_state: Tensor
    """``(R, B, D, N)`` contiguous, after the last step in scan order."""
    checkpoints: Tensor
    """``(R, B, S, N, D)`` contiguous with ``S = ceil(L / steps)`` and ``steps`` of
    :func:`checkpoint_steps`: the state *before* step ``s * steps`` in scan order. The native
    kernels have an arrangement of their own. ``S = 0`` when no gradient is wanted: then nothing is
    written."""


class ScanGradients(NamedTuple):
    """Where the backward pass writes; ``None`` where the input is ``None``.

    Each has the shape of its input (leading 1 = summed over directions), and memory laid out as
    that of its input.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    readout: Tensor | None
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None


class ConvInputs(NamedTuple):
    """Arguments of one (possibly many-directional) causal depthwise convolution."""

    x: Tensor
    """``(R?, B, L, D)``"""
    weight: Tensor
    """``(R?, D, W)`` contiguous: W taps, the last one on the current token; dtype as the scan's."""
    bias: Tensor | None
    """``(R?, D)`` contiguous"""
    order: Tensor | None
    """As in :class:`ScanInputs`; the taps follow the scan order across segment borders."""
    silu: bool

    @property
    def directions(self) -> int:
        """R: the largest leading size."""
        return max(t.shape[0] for t in self[:4] if isinstance(t, Tensor))


class ConvGradients(NamedTuple):
    """Where the backward pass of the convolution writes, as in :class:`ScanGradients`."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None

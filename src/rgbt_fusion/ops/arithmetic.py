"""Honest counts of parameters and arithmetic, scans and fused attention included; nothing is run.

Counters that hook ``nn.Linear`` and ``nn.Conv2d`` miss weights that are used by functional calls.
torch's own counter misses the attention kernel that it takes on a CPU and every op that it does
not know. Here attention is written out for the count, and the ops of this library have formulas.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import rgbt_fusion.ops.causal_conv1d
import rgbt_fusion.ops.selective_scan  # noqa: F401

__all__ = ["FLOP_FORMULAS", "count_macs", "count_parameters"]

OPERATIONS_PER_STATE_ELEMENT = 9
"""Of a scan: exponent, decay, input, update and read-out."""


def _scan_flops(
    u: Any, delta: Any, A: Any, B: Any, C: Any, readout: Any, D: Any, z: Any, *rest: Any, **_: Any
) -> int:
    """Count 9 per state-element, and one per channel for the skip and for the gate."""
    shapes = (u, delta, A, B, C, readout, D, z, *rest[:3])
    directions = max(shape[0] for shape in shapes if shape is not None)
    per_channel = OPERATIONS_PER_STATE_ELEMENT * A[-1]
    if D is not None:
        per_channel += 1
    if z is not None:
        per_channel += 1
    return directions * math.prod(u[1:]) * per_channel


def _conv_flops(x: Any, weight: Any, bias: Any, order: Any, *_: Any, **__: Any) -> int:
    directions = max(shape[0] for shape in (x, weight, bias, order) if shape is not None)
    return 2 * directions * math.prod(x[1:]) * weight[-1]


FLOP_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.rgbt_fusion.selective_scan: _scan_flops,
    torch.ops.rgbt_fusion.causal_conv1d: _conv_flops,
}
"""Floating-point operations of a forward call, from the shapes of its arguments."""


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, *inputs: Any) -> int:
    """Count the multiply-accumulates of one forward pass.

    Counts matrix products, convolutions, attention and scans. A state-element of a scan counts 4.5
    (nine operations), as is usual for Mamba. Element-wise work is not counted, also as usual.
    Nothing is computed: only the shapes are followed. A module that branches on values is computed.

    Args:
        module: what is called.
        inputs: the arguments of its forward pass.

    Example:
        >>> import torch
        >>> from rgbt_fusion.ops.arithmetic import count_macs
        >>> count_macs(torch.nn.Linear(8, 4), torch.zeros(2, 8))
        64
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        try:
            with FakeTensorMode(allow_non_fake_inputs=True):
                return _count_macs(module, inputs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            with torch.no_grad():
                return _count_macs(module, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _count_macs(module: nn.Module, inputs: tuple[Any, ...]) -> int:
    counter = FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS)
    with sdpa_kernel(SDPBackend.MATH), counter:
        module(*inputs)
    return counter.get_total_flops() // 2

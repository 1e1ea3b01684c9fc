"""Calls of the registered ops whose arguments lie, each of which must raise and touch nothing.

Run by a test in a process of its own: what a kernel does to memory of others ends a process, or
shows as a NaN that the canaries around the arguments carry into a result::

    python -m ops.lying_calls
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from rgbt_fusion.ops.conv_op import ConvArguments
from rgbt_fusion.ops.native.backend import why_missing
from rgbt_fusion.ops.scan_op import ScanArguments

# the kernels could touch foreign memory; without them the checks in front are still asked
BACKEND = "vectorised" if why_missing() else "native"

BATCH, LENGTH, CHANNELS, STATES, SEGMENTS = 2, 130, 20, 4, 5


def guarded(*shape: int) -> Tensor:
    """Return random numbers with NaN before and after them in memory."""
    size = torch.Size(shape).numel()
    memory = torch.full((3 * size + 64,), float("nan"))
    part = memory[size + 32 : 2 * size + 32].view(shape)
    return part.copy_(torch.randn(shape) / 8)


def scan_arguments() -> ScanArguments:
    torch.manual_seed(0)
    return ScanArguments(
        u=guarded(1, BATCH, LENGTH, CHANNELS),
        delta=guarded(1, BATCH, LENGTH, CHANNELS),
        A=-guarded(1, CHANNELS, STATES).exp(),
        B=guarded(1, BATCH, LENGTH, 1, STATES),
        C=guarded(1, BATCH, LENGTH, 1, STATES),
        readout=guarded(1, CHANNELS, STATES),
        D=guarded(1, CHANNELS),
        z=guarded(1, BATCH, LENGTH, CHANNELS),
        delta_bias=guarded(1, CHANNELS),
        order=torch.arange(SEGMENTS)[None, None],
        initial_state=guarded(1, BATCH, CHANNELS, STATES),
        delta_softplus=True,
        merge=False,
        channels_first=False,
    )


def conv_arguments() -> ConvArguments:
    torch.manual_seed(0)
    return ConvArguments(
        x=guarded(1, BATCH, LENGTH, CHANNELS),
        weight=guarded(1, CHANNELS, 4),
        bias=guarded(1, CHANNELS),
        order=torch.arange(SEGMENTS)[None, None],
        silu=True,
        channels_first=False,
    )


def changes(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield ``x`` with an axis shorter, longer, missing or too many, and with another dtype."""
    for axis, size in enumerate(x.shape):
        yield f"axis {axis} longer", torch.cat([x, x], axis)
        if size > 1:
            yield f"axis {axis} of size 1", x.narrow(axis, 0, 1)
            yield f"axis {axis} shorter", x.narrow(axis, 0, size - 1)
        yield f"axis {axis} empty", x.narrow(axis, 0, 0)
    yield "an axis less", x[0]
    yield "an axis more", x[None]
    for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.int32):
        if x.dtype != dtype:
            yield str(dtype), x.to(dtype)


HONEST = {
    *(f"{name}, axis 0 longer" for name in ScanArguments._fields),
    *("x, axis 0 longer", "weight, axis 0 longer", "bias, axis 0 longer"),
    *("order, axis 1 longer", "order, axis 2 longer", "order, axis 2 of size 1"),
    *("x, axis 1 longer", "x, axis 1 of size 1", "x, axis 1 shorter", "x, axis 1 empty"),
    *("x, axis 2 longer", "x, axis 2 empty", "x, torch.bfloat16"),
    *("weight, axis 2 longer", "weight, axis 2 of size 1", "weight, axis 2 shorter"),
}
"""Changes that no other argument contradicts: one direction more, other segments, other tokens."""

Call = Callable[[], Any]


def scan_calls() -> Iterator[tuple[str, Call]]:
    arguments = scan_arguments()
    forward = torch.ops.rgbt_fusion.selective_scan
    backward = torch.ops.rgbt_fusion.selective_scan_backward
    out, last_state, checkpoints = forward(*arguments, True, True, BACKEND)
    results = {"grad_out": out, "grad_last_state": last_state, "checkpoints": checkpoints}

    def forward_call(given: ScanArguments) -> Call:
        return lambda: forward(*given, False, True, BACKEND)

    def backward_call(given: ScanArguments, results: dict[str, Tensor]) -> Call:
        return lambda: backward(*results.values(), *given, BACKEND)

    for name, x in arguments._asdict().items():
        if not isinstance(x, Tensor):
            continue
        for change, lie in changes(x):
            if f"{name}, {change}" not in HONEST:
                given = arguments._replace(**{name: lie})
                yield f"scan, {name}, {change}", forward_call(given)
                yield f"scan backward, {name}, {change}", backward_call(given, results)
    for name, x in results.items():
        for change, lie in changes(x):
            yield (
                f"scan backward, {name}, {change}",
                backward_call(arguments, results | {name: lie}),
            )


def conv_calls() -> Iterator[tuple[str, Call]]:
    arguments = conv_arguments()
    forward = torch.ops.rgbt_fusion.causal_conv1d
    backward = torch.ops.rgbt_fusion.causal_conv1d_backward
    out = forward(*arguments, True, BACKEND)

    def forward_call(given: ConvArguments) -> Call:
        return lambda: forward(*given, False, BACKEND)

    def backward_call(grad_out: Tensor, given: ConvArguments) -> Call:
        return lambda: backward(grad_out, *given, BACKEND)

    for name, x in arguments._asdict().items():
        if not isinstance(x, Tensor):
            continue
        for change, lie in changes(x):
            if f"{name}, {change}" not in HONEST:
                given = arguments._replace(**{name: lie})
                yield f"convolution, {name}, {change}", forward_call(given)
                yield f"convolution backward, {name}, {change}", backward_call(out, given)
    for change, lie in changes(out):
        yield f"convolution backward, grad_out, {change}", backward_call(lie, arguments)


def main() -> None:
    """Print a line of JSON per call: its name and the error, None if there was none."""
    for name, call in (*scan_calls(), *conv_calls()):
        try:
            call()
        except (ValueError, TypeError) as error:
            print(json.dumps([name, f"{type(error).__name__}: {error}"]), flush=True)
        else:
            print(json.dumps([name, None]), flush=True)


if __name__ == "__main__":
    main()

"""What the registered ops check themselves, whoever calls them.

The public functions check what a user gives, in the user's words. A stored program that was edited,
a graph that was rewritten and a call of ``torch.ops`` by hand come past them. A kernel that
believed wrong sizes would read and write memory of others.
"""

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_divisible
from rgbt_fusion.ops.arguments import check_like
from rgbt_fusion.ops.inputs import ConvInputs, ScanInputs
from rgbt_fusion.shapes import check_floating

__all__ = ["check_conv", "check_result", "check_scan"]

LARGEST = 2**31 - 1
"""The largest number of tokens, and of rows: kernels count them in 32 bits."""

SCAN_TOKENS = {"u": "R? B L D", "delta": "R? B L D", "z": "R? B L D"}
SCAN_TOKENS |= {"B": "R? B L G N", "C": "R? B L G N"}
SCAN_PARAMETERS = {"A": "R? D N", "readout": "R? D N", "D": "R? D", "delta_bias": "R? D"}
SCAN_PARAMETERS |= {"initial_state": "R? B D N"}
CONV_TOKENS = {"x": "R? B L D"}
CONV_PARAMETERS = {"weight": "R? D W", "bias": "R? D"}
ORDER = {"order": "R? B? K"}


def check_scan(inputs: ScanInputs) -> None:
    """Check sizes, dtypes and devices of a scan; raise an error that names the argument."""
    sizes = _check(inputs, SCAN_TOKENS, SCAN_PARAMETERS)
    check_divisible(sizes["D"], max(1, sizes["G"]), name="D", divisor_name="the groups of B")
    for axis in "GN":
        if sizes[axis] < 1:
            raise ShapeError(f"B must have {axis} >= 1, got {tuple(inputs.B.shape)}")


def check_conv(inputs: ConvInputs) -> None:
    """Check sizes, dtypes and devices of a convolution; raise an error that names the argument."""
    sizes = _check(inputs, CONV_TOKENS, CONV_PARAMETERS)
    if sizes["W"] < 1:
        raise ShapeError(f"weight must have W >= 1 taps, got {tuple(inputs.weight.shape)}")


def check_result(x: Tensor, like: Tensor, shape: tuple[int, ...], *, name: str) -> None:
    """Check what the backward pass is given beside the inputs."""
    if tuple(x.shape) != shape:
        raise ShapeError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
    check_like(x, like, name=name, like_name="the result")


def _check(
    inputs: ScanInputs | ConvInputs, tokens: dict[str, str], parameters: dict[str, str]
) -> dict[str, int]:
    """Check every tensor and return the sizes of the axes."""
    first_name = next(iter(tokens))
    first = inputs[0]
    check_floating(first, name=first_name)
    arithmetic = torch.float64 if first.dtype == torch.float64 else torch.float32
    sizes = {"R": inputs.directions}
    for name, pattern in (tokens | parameters | ORDER).items():
        x = getattr(inputs, name)
        if x is None:
            continue
        _check_shape(x, pattern, sizes, name=name)
        if x.device != first.device:
            raise ValueError(
                f"{name} must be on the device of {first_name} {first.device}, got {x.device}"
            )
        dtype = torch.int64
        if name in tokens:
            dtype = first.dtype
        elif name in parameters:
            dtype = arithmetic
        if x.dtype != dtype:
            raise TypeError(f"{name} must have the dtype {dtype}, got {x.dtype}")
    rows = inputs.directions * sizes["B"] * sizes["L"]
    if rows > LARGEST:
        raise ShapeError(
            f"{first_name} must have at most {LARGEST} rows (R B L), got {rows} "
            f"of shape {tuple(first.shape)}"
        )
    if inputs.order is not None:
        segments = sizes["K"]
        check_divisible(
            sizes["L"], max(1, segments), name="L", divisor_name="the number of segments K"
        )
        if segments < 1:
            raise ShapeError(f"order must have K >= 1, got {tuple(inputs.order.shape)}")
    return sizes


def _check_shape(x: Tensor, pattern: str, sizes: dict[str, int], *, name: str) -> None:
    """Check the axes of ``x`` and note their sizes; an axis with ``?`` may also be 1."""
    axes = pattern.split()
    wrong = x.dim() != len(axes)
    if not wrong:
        for axis, size in zip(axes, x.shape, strict=True):
            letter = axis.rstrip("?")
            if size == 1 and axis != letter:
                continue
            wrong = wrong or sizes.setdefault(letter, size) != size
    if wrong:
        known = ", ".join(f"{letter} = {size}" for letter, size in sizes.items())
        rule = f"({', '.join(axes)})" + (f" with {known}" if known else "")
        raise ShapeError(f"{name} must have shape {rule}, got {tuple(x.shape)}")

"""Adapters to mamba-ssm and causal-conv1d, the only place that imports them.

Both are called as their authors meant, on ``(B, D, L)`` tensors and with their own autograd.
Whatever their kernels cannot say (token-major memory, a segment order, an initial state, several
directions) is an objection.
"""

import functools
import sys
from types import ModuleType

import torch
from torch import Tensor

from rgbt_fusion.ops.inputs import ConvInputs, ScanInputs

__all__ = ["causal_conv1d", "conv_why_not", "scan_why_not", "selective_scan"]


@functools.cache
def _scan_import_error() -> str:
    try:
        # Since mamba-ssm made the Mamba-1 extension optional, `import mamba_ssm` alone says nothing
        # about it.
        import selective_scan_cuda
        from mamba_ssm.ops import selective_scan_interface

        _refuse_ours(selective_scan_cuda, selective_scan_interface)
    except Exception as error:  # a broken extension raises anything from ImportError to OSError
        return (
            f"mamba-ssm's selective_scan_cuda does not import ({error}); "
            "pip install rgbt-fusion[cuda]"
        )
    return ""


@functools.cache
def _conv_import_error() -> str:
    try:
        import causal_conv1d  # pyright: ignore

        # its Python may be the real one, on the extension that the compat room serves
        _refuse_ours(causal_conv1d, sys.modules.get("causal_conv1d_cuda"))
    except Exception as error:  # as above
        return f"causal-conv1d does not import ({error}); pip install rgbt-fusion[cuda]"
    return ""


def _refuse_ours(*modules: ModuleType | None) -> None:
    """Raise ``ImportError`` for a module that the compat room serves: it would call us back."""
    for module in modules:
        spec = None if module is None else module.__spec__
        if spec is not None and spec.origin == "rgbt_fusion.compat":
            raise ImportError(f"{spec.name} is served by rgbt_fusion.compat")


def _tracing() -> list[str]:
    if torch.compiler.is_compiling():
        return ["cannot be traced by torch.compile or torch.export"]
    return []


def _dtype(x: Tensor) -> list[str]:
    if x.dtype in (torch.float32, torch.float16, torch.bfloat16):
        return []
    return [f"takes float32, float16 and bfloat16, got {x.dtype}"]


def scan_why_not(inputs: ScanInputs) -> list[str]:
    """Say what keeps mamba-ssm's kernel from running these inputs as they are."""
    reasons = [error] if (error := _scan_import_error()) else []
    if inputs.u.stride(2) != 1:
        reasons.append("takes (B, D, L) memory only; token-major inputs would be copied")
    if inputs.order is not None or inputs.initial_state is not None or inputs.directions > 1:
        reasons.append("has no segment order, initial state or several directions")
    if inputs.A.shape[-1] > 256:
        reasons.append(f"takes at most 256 states, got {inputs.A.shape[-1]}")
    return reasons + _dtype(inputs.u) + _tracing()


def conv_why_not(inputs: ConvInputs) -> list[str]:
    """Say what keeps causal-conv1d's kernel from running these inputs as they are."""
    reasons = [error] if (error := _conv_import_error()) else []
    if inputs.order is not None or inputs.directions > 1:
        reasons.append("has no segment order or several directions")
    if not 2 <= inputs.weight.shape[-1] <= 4:
        reasons.append(f"takes 2 to 4 taps, got {inputs.weight.shape[-1]}")
    channel_last = inputs.x.stride(3) == 1 and inputs.x.stride(2) != 1
    eights = (inputs.x.shape[3], inputs.x.stride(1), inputs.x.stride(2))
    if channel_last and any(number % 8 for number in eights):
        reasons.append("takes token-major inputs only with channels and strides divisible by 8")
    return reasons + _dtype(inputs.x) + _tracing()


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Call mamba-ssm and return its output and last state."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=True
    )


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """Call causal-conv1d on ``x (B, D, L)``, which may be a view of token-major memory."""
    from causal_conv1d import causal_conv1d_fn  # pyright: ignore

    return causal_conv1d_fn(
        x=x,
        weight=weight.to(x.dtype),
        bias=None if bias is None else bias.to(x.dtype),
        activation=activation,
    )

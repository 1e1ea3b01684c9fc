"""Scans in C as other libraries have them, and what bounds any scan on this processor.

The loops and the arithmetic of the bound are compiled into the library of the native kernels.
"""

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rgbt_fusion.ops.native import backend as native

if TYPE_CHECKING:
    from rgbt_fusion.benchmarking.baselines import ScanTensors

__all__ = ["arithmetic_bound", "loop_over_channels", "loop_over_tokens", "memory_bound"]


class _Plain(ctypes.Structure):
    """The struct of ``contenders.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "channels", "states")),
        *(
            (name, ctypes.c_void_p)
            for name in ("u", "delta", "A", "B", "C", "skip", "z", "bias", "state", "out")
        ),
    )


def loop_over_tokens(scan: "ScanTensors") -> Tensor:
    """Scan token by token with a scalar loop in C, as ggml does."""
    token_major = scan._make(x.mT if x.dim() == 3 else x for x in scan)
    return _run("rgbt_fusion_loop_over_tokens", token_major, channels_first=False).mT


def loop_over_channels(scan: "ScanTensors") -> Tensor:
    """Scan channel by channel with a scalar loop in C, as the Intel extension for PyTorch does."""
    return _run("rgbt_fusion_loop_over_channels", scan, channels_first=True)


def _run(function: str, scan: "ScanTensors", *, channels_first: bool) -> Tensor:
    plain = scan._make(x.detach().float().contiguous() for x in scan)
    channels, states = plain.A.shape
    out = torch.empty_like(plain.u)
    state = torch.empty(channels, states)
    struct = _Plain(
        batch=plain.u.shape[0],
        length=plain.u.shape[2 if channels_first else 1],
        channels=channels,
        states=states,
        u=plain.u.data_ptr(),
        delta=plain.delta.data_ptr(),
        A=plain.A.data_ptr(),
        B=plain.B.data_ptr(),
        C=plain.C.data_ptr(),
        skip=plain.D.data_ptr(),
        z=plain.z.data_ptr(),
        bias=plain.delta_bias.data_ptr(),
        state=state.data_ptr(),
        out=out.data_ptr(),
    )
    getattr(native.loaded_library().functions, function)(ctypes.byref(struct))
    return out.to(scan.u.dtype)


def arithmetic_bound(scan: "ScanTensors") -> Tensor:
    """Compute as many exponentials and steps of the recurrence as the scan, in registers alone."""
    library = native.loaded_library()
    elements = scan.u.numel() * scan.A.shape[1]
    bound = library.functions.rgbt_fusion_bound
    bound.argtypes = [ctypes.c_int64, ctypes.c_int64]
    bound.restype = ctypes.c_float
    bound(library.level, elements)
    return scan.u


_COPIES: dict[torch.Size, tuple[Tensor, Tensor]] = {}


def memory_bound(scan: "ScanTensors") -> Tensor:
    """Copy as many bytes as the scan reads and writes: ``u``, ``delta``, ``z`` and the result."""
    if scan.u.shape not in _COPIES:
        _COPIES.clear()
        _COPIES[scan.u.shape] = (torch.empty_like(scan.u), torch.empty_like(scan.u))
    first, second = _COPIES[scan.u.shape]
    first.copy_(scan.u.detach())
    second.copy_(scan.z.detach())
    return scan.u

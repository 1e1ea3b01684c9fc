"""Where kernels without a gradient may take the place of a layer that is written in PyTorch."""

import os
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["may_fuse"]


def may_fuse(x: Tensor, others: Iterable[Tensor]) -> bool:
    """Say whether kernels for inference may run on ``x`` and what else the layer reads.

    They have no gradient, round nothing in between, and are left to compilers and exporters, which
    fuse the layer themselves. On a CPU only Triton's interpreter runs them.
    """
    # first, because it is what every call on a CPU is asked
    if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return False
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if x.device.type not in ("cpu", "cuda") or x.numel() == 0:
        return False
    if torch.is_autocast_enabled(x.device.type):
        return False
    return not torch.is_grad_enabled() or not any(t.requires_grad for t in (x, *others))

"""What the kernels are compared with: loops in PyTorch, other packages, and blocks of them."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.benchmarking.compiled_loops import (
    arithmetic_bound,
    loop_over_channels,
    loop_over_tokens,
    memory_bound,
)
from rgbt_fusion.benchmarking.pure_pytorch_loop import (
    chunked_loop,
    mamba_ssm_loop,
    whole_sequence_loop,
)
from rgbt_fusion.layers.mamba import InferenceParams, MambaBlock
from rgbt_fusion.ops import mamba_ssm as _mamba_ssm
from rgbt_fusion.ops.native import backend as native

__all__ = [
    "BOUNDS",
    "COMPILED",
    "CONVOLUTIONS",
    "SCANS",
    "MambaInPyTorch",
    "ScanTensors",
    "mamba_ssm_block",
    "mambapy_block",
    "why_missing",
]


class ScanTensors(NamedTuple):
    """Arguments of a selective scan as mamba-ssm takes them; the step sizes pass a softplus."""

    u: Tensor
    """``(B, D, L)``, as ``delta`` and ``z``; may be a view of token-major memory."""
    delta: Tensor
    A: Tensor
    """``(D, N)``"""
    B: Tensor
    """``(B, N, L)``, as ``C``."""
    C: Tensor
    D: Tensor
    """``(D,)``, as ``delta_bias``."""
    z: Tensor
    delta_bias: Tensor


def reference_loop(scan: ScanTensors) -> Tensor:
    """Scan as mamba-ssm's reference does; its backward pass is quadratic in the length."""
    return mamba_ssm_loop(*_raised(scan), delta_softplus=True).to(scan.u.dtype)


def pytorch_loop(scan: ScanTensors) -> Tensor:
    """Scan by the careful loop over whole sequences."""
    y = whole_sequence_loop(*_token_major(_raised(scan)), delta_softplus=True)
    return y.to(scan.u.dtype).mT


def chunked_pytorch_loop(scan: ScanTensors) -> Tensor:
    """Scan by the fastest loop."""
    y = chunked_loop(*_token_major(_raised(scan)), delta_softplus=True)
    return y.to(scan.u.dtype).mT


def _raised(scan: ScanTensors) -> ScanTensors:
    """Raise low-precision tensors to the precision of the parameters, as mamba-ssm's reference."""
    return ScanTensors(*(x.to(scan.A.dtype) for x in scan))


def _token_major(scan: ScanTensors) -> ScanTensors:
    return ScanTensors(*(x.mT if x.dim() == 3 else x for x in scan))


def mambapy_scan(scan: ScanTensors) -> Tensor:
    """Scan by mambapy's parallel scan, called as its MambaBlock calls it."""
    pscan = import_module("mambapy.pscan").pscan
    dtype = scan.u.dtype
    scan = _token_major(_raised(scan))
    delta = F.softplus(scan.delta + scan.delta_bias)
    decay = torch.exp(delta.unsqueeze(-1) * scan.A)
    drive = delta.unsqueeze(-1) * scan.B.unsqueeze(2) * scan.u.unsqueeze(-1)
    states = pscan(decay, drive)
    y = (states @ scan.C.unsqueeze(-1)).squeeze(3) + scan.D * scan.u
    return (y * F.silu(scan.z)).to(dtype).mT


def mamba_ssm_scan(scan: ScanTensors) -> Tensor:
    """Scan by mamba-ssm's own kernel and autograd."""
    return _mamba_ssm.selective_scan(*scan, delta_softplus=True)[0]


def usual_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve ``(B, D, L)`` as mamba-ssm does without causal-conv1d.

    It pads both ends and cuts the last taps off.
    """
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    y = F.conv1d(x, weight[:, None], bias, padding=weight.shape[1] - 1, groups=weight.shape[0])
    return F.silu(y[..., : x.shape[2]])


def causal_conv1d_package(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve ``(B, D, L)`` by the causal-conv1d package."""
    return _mamba_ssm.causal_conv1d(x, weight, bias, "silu")


SCANS: dict[str, Callable[[ScanTensors], Tensor]] = {
    "reference loop": reference_loop,
    "PyTorch loop": pytorch_loop,
    "chunked PyTorch loop": chunked_pytorch_loop,
    "mambapy": mambapy_scan,
    "mamba-ssm": mamba_ssm_scan,
    "C loop over tokens": loop_over_tokens,
    "C loop over channels": loop_over_channels,
    "bound: arithmetic": arithmetic_bound,
    "bound: memory": memory_bound,
}
"""Scans that are not ours, by the name they have in the tables."""

BOUNDS = ("bound: arithmetic", "bound: memory")
"""The entries of :data:`SCANS` that scan nothing: what no scan on this processor can be below."""

COMPILED = ("C loop over tokens", "C loop over channels", *BOUNDS)
"""The entries of :data:`SCANS` that are compiled with the native kernels: forward only."""

CONVOLUTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "torch conv1d": usual_convolution,
    "causal-conv1d": causal_conv1d_package,
}
"""Causal convolutions with SiLU that are not ours."""

_PACKAGES = {
    "mambapy": ("mambapy.pscan", "mambapy"),
    "mamba-ssm": ("selective_scan_cuda", "'rgbt-fusion[cuda]'"),
    "causal-conv1d": ("causal_conv1d", "'rgbt-fusion[cuda]'"),
}


def why_missing(name: str, device: str) -> str:
    """Say why the baseline ``name`` cannot run on ``device``; empty if it can."""
    if name in COMPILED:
        return "runs on cpu only" if device != "cpu" else native.why_missing()
    if name not in _PACKAGES:
        return ""
    if name != "mambapy" and device != "cuda":
        return "runs on cuda only"
    module, package = _PACKAGES[name]
    try:
        import_module(module)
    except Exception as error:  # a broken extension raises anything from ImportError to OSError
        return f"not installed ({error}); pip install {package}"
    return ""


class MambaInPyTorch(MambaBlock):
    """A Mamba block as mamba-ssm has it without kernels.

    It has ``(B, D, L)`` copies, a padded convolution and a loop.
    """

    def forward(
        self, hidden_states: Tensor, inference_params: InferenceParams | None = None
    ) -> Tensor:
        """Mix the tokens; states are not kept."""
        if inference_params is not None:
            raise ValueError("inference_params must be None: the baseline keeps no states")
        x, z = self.in_proj(hidden_states).mT.contiguous().chunk(2, dim=1)
        x = usual_convolution(x, self.conv1d.weight[:, 0], self.conv1d.bias)
        delta, B, C = self.x_proj(x.mT).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta = F.linear(delta, self.dt_proj.weight).mT
        A = -torch.exp(self.A_log)
        y = mamba_ssm_loop(
            x, delta, A, B.mT, C.mT, self.D, z, self.dt_proj.bias, delta_softplus=True
        )
        return self.out_proj(y.mT)


def mambapy_block(dim: int, d_state: int) -> nn.Module:
    """Return mambapy's Mamba block."""
    mamba = import_module("mambapy.mamba")
    return mamba.MambaBlock(mamba.MambaConfig(d_model=dim, n_layers=1, d_state=d_state))


def mamba_ssm_block(dim: int, d_state: int) -> nn.Module:
    """Return mamba-ssm's Mamba block."""
    return import_module("mamba_ssm").Mamba(dim, d_state=d_state)

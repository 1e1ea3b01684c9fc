"""What one runs without a kernel: three differentiable selective scans in plain PyTorch.

The benchmarks compare with them and no layer uses them; they stay as they are, so that figures of
several versions compare. All take what
:func:`rgbt_fusion.selective_scan` takes, for one group: ``mamba_ssm_loop`` on ``(B, D, L)``
tensors, the other two token-major, ``(B, L, D)`` and ``(B, L, N)``; pass transposed views to run
them on ``(B, D, L)`` memory. Gradients come from autograd.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["chunked_loop", "mamba_ssm_loop", "whole_sequence_loop"]

CHUNK_ELEMENTS = 2**18
"""State elements whose decays ``chunked_loop`` computes at once.

They take 1 MiB, which was the fastest of 2^15 to 2^19 on five shapes.
"""

LONGEST_CHUNK = 64
"""Tokens in a chunk at most."""


def mamba_ssm_loop(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan ``(B, D, L)`` as mamba-ssm's reference does.

    It computes decays and inputs of all tokens first, and then goes token by token.
    """
    dt = _step_sizes(delta, None if delta_bias is None else delta_bias[:, None], delta_softplus)
    decay = torch.exp(torch.einsum("bdl,dn->bdln", dt, A))
    drive = torch.einsum("bdl,bnl,bdl->bdln", dt, B, u)
    h = A.new_zeros(u.shape[0], *A.shape)
    outputs = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + drive[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", h, C[:, :, t]))
    return _skip_and_gate(torch.stack(outputs, dim=2), u, None if D is None else D[:, None], z)


def whole_sequence_loop(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan ``(B, L, D)`` with all decays at once, one operation per token, all outputs at once.

    This is the careful loop. Tokens are taken apart by ``unbind``: indexing them one by one makes
    autograd's backward quadratic in L.
    """
    dt = _step_sizes(delta, delta_bias, delta_softplus).transpose(0, 1)
    decay = torch.exp(dt.unsqueeze(-1) * A)
    drive = (dt * u.transpose(0, 1)).unsqueeze(-1) * B.transpose(0, 1).unsqueeze(-2)
    h = torch.zeros_like(drive[0])
    states = []
    for kept, entered in zip(decay.unbind(), drive.unbind(), strict=True):
        h = torch.addcmul(entered, kept, h)
        states.append(h)
    y = torch.matmul(torch.stack(states), C.transpose(0, 1).unsqueeze(-1)).squeeze(-1)
    return _skip_and_gate(y.transpose(0, 1), u, D, z)


def chunked_loop(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan ``(B, L, D)`` in chunks that stay in cache, channels innermost.

    This is the fastest loop that we could write.
    """
    dt = _step_sizes(delta, delta_bias, delta_softplus).transpose(0, 1)
    drive = dt * u.transpose(0, 1)
    steps = max(1, min(LONGEST_CHUNK, CHUNK_ELEMENTS // (u.shape[0] * A.numel())))
    rows = (
        dt.unsqueeze(2),
        drive.unsqueeze(2),
        B.transpose(0, 1).unsqueeze(3),
        C.transpose(0, 1).unsqueeze(2),
    )
    rates = A.T.contiguous()
    outputs = []
    h = rates.new_zeros(u.shape[0], *rates.shape)
    for dt_chunk, drive_chunk, B_chunk, C_chunk in zip(
        *(x.split(steps) for x in rows), strict=True
    ):
        decay = torch.exp(dt_chunk * rates)
        entering = B_chunk * drive_chunk
        states = []
        for kept, entered in zip(decay.unbind(), entering.unbind(), strict=True):
            h = torch.addcmul(entered, kept, h)
            states.append(h)
        outputs.append(torch.matmul(C_chunk, torch.stack(states)))
    return _skip_and_gate(torch.cat(outputs).squeeze(2).transpose(0, 1), u, D, z)


def _step_sizes(delta: Tensor, delta_bias: Tensor | None, delta_softplus: bool) -> Tensor:
    delta = delta if delta_bias is None else delta + delta_bias
    return F.softplus(delta) if delta_softplus else delta


def _skip_and_gate(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    y = y if D is None else y + D * u
    return y if z is None else y * F.silu(z)

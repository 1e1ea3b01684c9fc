"""The functions of mamba-ssm and causal-conv1d that clients import, on the ops of this library."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.compat import extensions
from rgbt_fusion.compat.record import refuse
from rgbt_fusion.ops.causal_conv1d import Activation, causal_conv1d
from rgbt_fusion.ops.conv_update import causal_conv1d_update
from rgbt_fusion.ops.selective_scan import ordered_selective_scan, selective_scan
from rgbt_fusion.ops.state_update import selective_state_update

__all__ = [
    "causal_conv1d_bwd_function",
    "causal_conv1d_fn",
    "causal_conv1d_fwd_function",
    "causal_conv1d_ref",
    "causal_conv1d_update",
    "causal_conv1d_update_function",
    "causal_conv1d_varlen_states",
    "mamba_chunk_scan_combined",
    "mamba_inner_fn",
    "selective_scan_fn",
    "selective_scan_ref",
    "selective_state_update",
]


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return :func:`~rgbt_fusion.selective_scan`."""
    return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)


def selective_scan_ref(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return :func:`~rgbt_fusion.selective_scan` on the reference backend, a loop in PyTorch."""
    return selective_scan(
        u,
        delta,
        A,
        B,
        C,
        D,
        z,
        delta_bias,
        delta_softplus,
        return_last_state,
        backend="reference",
    )


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: Activation | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return :func:`~rgbt_fusion.causal_conv1d`."""
    return causal_conv1d(
        x,
        weight,
        bias,
        seq_idx,
        initial_states,
        return_final_states,
        final_states_out,
        activation,
    )


def causal_conv1d_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: Activation | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return :func:`~rgbt_fusion.causal_conv1d` on the reference backend."""
    return causal_conv1d(
        x,
        weight,
        bias,
        None,
        initial_states,
        return_final_states,
        final_states_out,
        activation,
        backend="reference",
    )


def causal_conv1d_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """Return the last tokens of each of several sequences that stand one behind the other.

    Args:
        x: all tokens, ``(T, D)``.
        cu_seqlens: where each sequence starts, and last where the last one ends, ``(B + 1,)``.
        state_len: how many tokens to return per sequence; a shorter one is padded with zeros in
            front.

    Returns:
        ``(B, D, state_len)``, in token-major memory.
    """
    ends = cu_seqlens[1:, None].long()
    rows = ends + torch.arange(-state_len, 0, device=x.device)
    missing = rows < cu_seqlens[:-1, None]
    states = x[rows.clamp(min=0)].masked_fill(missing[:, :, None], 0)
    return states.transpose(1, 2)


def causal_conv1d_fwd_function(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    final_states_out: Tensor | None,
    silu_activation: bool,
) -> Tensor | None:
    """Stand in for the function of this name of causal-conv1d's ``cpp_functions``."""
    return extensions.conv_fwd(
        x, weight, bias, seq_idx, initial_states, final_states_out, silu_activation
    )


def causal_conv1d_bwd_function(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dout: Tensor,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    dfinal_states: Tensor | None,
    dx: Tensor | None,
    return_dinitial_states: bool,
    silu_activation: bool,
) -> Any:
    """Stand in for the function of this name of causal-conv1d's ``cpp_functions``."""
    return extensions.conv_bwd(
        x,
        weight,
        bias,
        dout,
        seq_idx,
        initial_states,
        dfinal_states,
        dx,
        return_dinitial_states,
        silu_activation,
    )


def causal_conv1d_update_function(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu_activation: bool,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
) -> Tensor | None:
    """Stand in for the function of this name of causal-conv1d's ``cpp_functions``."""
    return extensions.conv_update(
        x, conv_state, weight, bias, silu_activation, cache_seqlens, conv_state_indices
    )


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """Run a Mamba block between its two projections, and the second projection.

    ``B`` and ``C`` are constants where given. Where absent they come out of ``x_proj_weight``.
    ``checkpoint_lvl`` trades memory for time in mamba-ssm and changes nothing here.

    Returns:
        ``(B, L, E)`` for ``xz (B, 2 D, L)`` and ``out_proj_weight (E, D)``.
    """
    x, z = xz.chunk(2, dim=1)
    rank = delta_proj_weight.shape[1]
    states = A.shape[-1]
    convolved = causal_conv1d(x, conv1d_weight[:, 0], conv1d_bias, activation="silu")
    projected = F.linear(convolved.transpose(1, 2), x_proj_weight)
    delta = F.linear(projected[..., :rank], delta_proj_weight)
    if dt_rms_weight is not None:
        delta = _rms_norm(delta, dt_rms_weight, b_c_dt_rms_eps)
    if B is None:
        B = _coefficient(
            projected[..., rank : rank + states], B_proj_bias, b_rms_weight, b_c_dt_rms_eps
        )
    if C is None:
        C = _coefficient(projected[..., -states:], C_proj_bias, c_rms_weight, b_c_dt_rms_eps)
    y, _ = selective_scan(
        convolved, delta.transpose(1, 2), A, B, C, D, z, delta_bias, delta_softplus, True
    )
    return F.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


def _coefficient(
    projected: Tensor, bias: Tensor | None, rms_weight: Tensor | None, eps: float
) -> Tensor:
    """Return B or C as ``(B, N, L)`` from its part of the projection ``(B, L, N)``."""
    if bias is not None:
        projected = projected + bias.to(projected.dtype)
    if rms_weight is not None:
        projected = _rms_norm(projected, rms_weight, eps)
    return projected.transpose(1, 2)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    precise = F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps)
    return precise.to(x.dtype)


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    return_varlen_states: bool = False,
    state_dtype: torch.dtype | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run Mamba-2's scan as a wide selective scan: one decay rate per head, repeated per channel.

    Exact, but without the speed of Mamba-2's own matrix form: the cost is that of a Mamba-1 scan of
    H P channels. ``chunk_size`` and ``state_dtype`` change nothing here.

    Args:
        x: the input, ``(B, L, H, P)``.
        dt: the step sizes, ``(B, L, H)``.
        A: the decay rates, ``(H,)``.
        B: how the input enters the state, ``(B, L, G, N)``.
        C: how the state is read, ``(B, L, G, N)``.
        chunk_size: accepted for compatibility.
        D: the skip connection, ``(H,)`` or ``(H, P)``.
        z: the gate, ``(B, L, H, P)``.
        dt_bias: added to ``dt``, ``(H,)``.
        initial_states: ``(B, H, P, N)``.
        seq_idx: refused, as are ``cu_seqlens`` and ``return_varlen_states``.
        cu_seqlens: refused.
        dt_softplus: pass ``dt + dt_bias`` through a softplus.
        dt_limit: the smallest and the largest step.
        return_final_states: also return the states after the last token.
        return_varlen_states: refused.
        state_dtype: accepted for compatibility.

    Returns:
        ``(B, L, H, P)``, with ``return_final_states`` also ``(B, H, P, N)``.
    """
    if seq_idx is not None or return_varlen_states:
        raise refuse("mamba_chunk_scan_combined", "several sequences per row are not served")
    batch, length, heads, width = x.shape
    states = B.shape[-1]

    def widened(per_head: Tensor) -> Tensor:
        """Repeat the last axis, one number per head, for the channels of the head."""
        return per_head.repeat_interleave(width, dim=-1)

    step = dt.float()
    if dt_bias is not None:
        step = step + dt_bias.float()
    if dt_softplus:
        step = F.softplus(step)
    if tuple(dt_limit) != (0.0, float("inf")):
        step = step.clamp(*dt_limit)
    skip = None
    if D is not None:
        per_channel = D.flatten() if D.dim() == 2 else widened(D)
        skip = per_channel[None]
    start = None
    if initial_states is not None:
        start = initial_states.reshape(batch, heads * width, states)
    gate = None
    if z is not None:
        gate = z.reshape(batch, length, heads * width).float()
    # float32 keeps the step sizes exact, as mamba-ssm does
    found = ordered_selective_scan(
        x.reshape(batch, length, heads * width).float(),
        widened(step),
        widened(A.float())[:, None].expand(-1, states),
        B[None].float(),
        C[None].float(),
        skip,
        gate,
        initial_state=start,
    )
    out = found.out[0].view(batch, length, heads, width).to(x.dtype)
    if not return_final_states:
        return out
    return out, found.last_state[0].view(batch, heads, width, states)

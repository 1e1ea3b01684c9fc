"""The functions of the compiled extensions that public Mamba code calls, on the ops here.

Forks of mamba-ssm change its Python. They all call the same few compiled functions, by position.
Versions differ in the number of arguments, which tells them apart.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.compat.record import refuse
from rgbt_fusion.ops.causal_conv1d import causal_conv1d
from rgbt_fusion.ops.conv_gradients import causal_conv1d_gradients
from rgbt_fusion.ops.conv_update import causal_conv1d_update
from rgbt_fusion.ops.inputs import ScanGradients
from rgbt_fusion.ops.scan_op import ScanArguments, scan_backward_op, scan_op

__all__ = [
    "conv_bwd",
    "conv_fwd",
    "conv_update",
    "core_scan_bwd",
    "core_scan_fwd",
    "oflex_scan_bwd",
    "oflex_scan_fwd",
    "scan_bwd",
    "scan_fwd",
]

CHECKPOINTS = "_rgbt_fusion_checkpoints"
"""The attribute of the intermediate states under which those of our op are found again."""


def scan_fwd(*arguments: Any) -> list[Tensor]:
    """Stand in for ``selective_scan_cuda.fwd(u, delta, A, B, C, D, z, delta_bias, softplus)``.

    A number of rows may follow, as in VMamba's variant. Returns the output before the gate, the
    intermediate states and, with ``z``, the gated output.
    """
    u, delta, A, B, C, D, z, delta_bias, softplus = _expect("fwd", arguments, (9, 10))[:9]
    _check_real(A)
    if z is None:
        return [*_scan(u, delta, A, B, C, D, delta_bias, softplus)]
    # the gate meets the output before it is rounded, as in mamba-ssm's kernel
    precise_B = B.float() if B.dim() > 2 else B
    precise_C = C.float() if C.dim() > 2 else C
    out, states = _scan(u.float(), delta.float(), A, precise_B, precise_C, D, delta_bias, softplus)
    return [out.to(u.dtype), states, (out * F.silu(z.float())).to(u.dtype)]


def scan_bwd(*arguments: Any) -> list[Tensor | None]:
    """Stand in for ``selective_scan_cuda.bwd``: the gradients of :func:`scan_fwd`.

    Takes ``(u, delta, A, B, C, D, z, delta_bias, dout, states, out, dz, softplus, recompute)``, and
    a number of rows. Returns the gradients of ``u, delta, A, B, C, D, delta_bias``, with ``z`` also
    its own, and with ``recompute`` the gated output.
    """
    values = _expect("bwd", arguments, (14, 15))
    u, delta, A, B, C, D, z, delta_bias, dout, states, out, dz, softplus, recompute = values[:14]
    _check_real(A)
    *found, grad_z = _scan_gradients(u, delta, A, B, C, D, z, delta_bias, softplus, dout, states)
    if z is None or grad_z is None:
        return found
    found.append(grad_z if dz is None else dz.copy_(grad_z))
    if recompute:
        if out is None:
            out, _ = _scan(u, delta, A, B, C, D, delta_bias, softplus)
        gated = out.float() * F.silu(z.float())
        found.append(gated.to(out.dtype))
    return found


def core_scan_fwd(*arguments: Any) -> list[Tensor]:
    """Stand in for ``selective_scan_cuda_core.fwd``, which has no gate.

    Takes ``(u, delta, A, B, C, D, delta_bias, softplus, rows)``.
    """
    u, delta, A, B, C, D, delta_bias, softplus = _expect("fwd", arguments, (8, 9))[:8]
    _check_real(A)
    return list(_scan(u, delta, A, B, C, D, delta_bias, softplus))


def core_scan_bwd(*arguments: Any) -> list[Tensor | None]:
    """Stand in for ``selective_scan_cuda_core.bwd``, and for that of ``_oflex``.

    Takes ``(u, delta, A, B, C, D, delta_bias, dout, states, softplus, rows)``.
    """
    values = _expect("bwd", arguments, (10, 11))
    u, delta, A, B, C, D, delta_bias, dout, states, softplus = values[:10]
    _check_real(A)
    found = _scan_gradients(u, delta, A, B, C, D, None, delta_bias, softplus, dout, states)
    return found[:7]


def oflex_scan_fwd(*arguments: Any) -> list[Tensor]:
    """Stand in for ``selective_scan_cuda_oflex.fwd``: the core's, with a float32 output on request.

    Takes ``(u, delta, A, B, C, D, delta_bias, softplus, rows, as_float32)``.
    """
    *given, as_float32 = _expect("fwd", arguments, (10,))
    out, states = core_scan_fwd(*given)
    return [out.float() if as_float32 else out, states]


oflex_scan_bwd = core_scan_bwd


def conv_fwd(*arguments: Any) -> Tensor | None:
    """Stand in for ``causal_conv1d_cuda.causal_conv1d_fwd`` in its four forms.

    - ``(x, weight, bias, silu)``
    - ``(x, weight, bias, seq_idx, silu)``
    - ``(x, weight, bias, seq_idx, initial_states, final_states_out, silu)``
    - ``(x, weight, bias, seq_idx, initial_states, out, final_states_out, silu)``, which writes
      ``out`` and returns nothing
    """
    values = _expect("causal_conv1d_fwd", arguments, (4, 5, 7, 8))
    x, weight, bias, *middle, silu = values
    seq_idx = middle[0] if middle else None
    initial_states = middle[1] if len(middle) > 1 else None
    final_states_out = middle[-1] if len(middle) > 1 else None
    found = causal_conv1d(
        x,
        weight,
        bias,
        seq_idx,
        initial_states,
        final_states_out is not None,
        final_states_out,
        "silu" if silu else None,
    )
    result = found[0] if isinstance(found, tuple) else found
    if len(values) < 8:
        return result
    middle[2].copy_(result)
    return None


def conv_bwd(*arguments: Any) -> list[Tensor | None] | None:
    """Stand in for ``causal_conv1d_cuda.causal_conv1d_bwd`` in its four forms.

    - ``(x, weight, bias, dout, dx, silu)``
    - ``(x, weight, bias, dout, seq_idx, dx, silu)``
    - ``(x, weight, bias, dout, seq_idx, initial_states, dfinal_states, dx, return_dinitial, silu)``
    - ``(x, weight, bias, dout, seq_idx, initial_states, dfinal_states, dx, dweight, dbias,
      dinitial_states, silu)``, which writes the gradients and returns nothing
    """
    values = _expect("causal_conv1d_bwd", arguments, (6, 7, 10, 12))
    form = len(values)
    x, weight, bias, dout, *middle, silu = values
    seq_idx = initial_states = final_gradient = None
    if form > 6:
        seq_idx, *middle = middle
    if form > 7:
        initial_states, final_gradient, *middle = middle
    into_x = middle[0]
    activation = "silu" if silu else None
    found: list[Tensor | None] = [
        *causal_conv1d_gradients(
            dout, x, weight, bias, seq_idx, initial_states, final_gradient, activation
        )
    ]
    if form < 12:
        if into_x is not None:
            found[0] = into_x.copy_(found[0])
        return found if form == 10 else found[:3]
    for place, gradient in zip(middle, found, strict=True):
        if place is not None:
            if gradient is None:
                place.zero_()
            else:
                place.copy_(gradient)
    return None


def conv_update(*arguments: Any) -> Tensor | None:
    """Stand in for ``causal_conv1d_cuda.causal_conv1d_update`` in its forms.

    - ``(x, conv_state, weight, bias, silu)``, then ``cache_seqlens``, then ``conv_state_indices``
    - ``(x, conv_state, weight, bias, out, silu, cache_seqlens, conv_state_indices)``, which writes
      ``out`` and returns nothing
    """
    values = _expect("causal_conv1d_update", arguments, (5, 6, 7, 8))
    x, conv_state, weight, bias, *rest = values
    out = None
    if len(values) == 8:
        out, *rest = rest
    silu, *places = rest
    found = causal_conv1d_update(x, conv_state, weight, bias, "silu" if silu else None, *places)
    if out is None:
        return found
    out.copy_(found)
    return None


def _expect(name: str, arguments: Sequence[Any], counts: tuple[int, ...]) -> Sequence[Any]:
    if len(arguments) in counts:
        return arguments
    known = " or ".join(map(str, counts))
    raise TypeError(f"{name} must be given {known} arguments, got {len(arguments)}")


def _check_real(A: Tensor) -> None:
    if A.is_complex():
        raise refuse("selective_scan_cuda", f"A must be real, got {A.dtype}")


def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Return the output and the intermediate states, whose last one is the last state."""
    arguments = _scan_arguments(u, delta, A, B, C, D, None, delta_bias, softplus)
    out, last_state, checkpoints = scan_op(*arguments, False, True, "auto")
    last_state = last_state[0]
    if B.dim() < 3:
        # the op's state was driven by ones
        last_state = last_state * B.float()
    batch, channels, count = last_state.shape
    # clients read the last state as states[:, :, -1, 1::2]
    states = last_state.new_zeros(batch, channels, 1, 2 * count)
    states[:, :, 0, 1::2] = last_state
    # a client hands the states back to the backward pass, as the same tensor unless it copies them
    setattr(states, CHECKPOINTS, checkpoints)
    return out[0], states


def _scan_arguments(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> ScanArguments:
    """Return the arguments of the op.

    A constant B or C moves behind the state: ``y = sum_n (B C)[d, n] h'[d, n]``, where ones drive
    ``h'``.
    """
    ones = u.new_ones(()).expand(1, u.shape[0], 1, A.shape[1], u.shape[2])
    readout = None
    varying = []
    for x in (B, C):
        if x.dim() == 2:
            readout = x.float() if readout is None else readout * x.float()
            varying.append(ones)
        else:
            varying.append(x[None, :, None] if x.dim() == 3 else x[None])
    groups = max(x.shape[2] for x in varying)
    in_B, in_C = (x.expand(-1, -1, groups, -1, -1) for x in varying)
    return ScanArguments(
        u=u[None],
        delta=delta[None],
        A=A.float()[None],
        B=in_B,
        C=in_C,
        readout=None if readout is None else readout[None],
        D=None if D is None else D.float()[None],
        z=None if z is None else z[None],
        delta_bias=None if delta_bias is None else delta_bias.float()[None],
        order=None,
        initial_state=None,
        delta_softplus=bool(softplus),
        merge=False,
        channels_first=True,
    )


def _scan_gradients(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    grad_out: Tensor,
    states: Tensor | None,
) -> list[Tensor | None]:
    """Return the gradients of ``u, delta, A, B, C, D, delta_bias, z``."""
    arguments = _scan_arguments(u, delta, A, B, C, D, z, delta_bias, softplus)
    checkpoints = getattr(states, CHECKPOINTS, None)
    if checkpoints is None:
        _, _, checkpoints = scan_op(*arguments, False, True, "auto")
    grad_out = grad_out.to(u.dtype)[None]
    found = scan_backward_op(grad_out, None, checkpoints, *arguments, "auto")
    gradients = ScanGradients(*found)
    return [
        gradients.u[0],
        gradients.delta[0],
        gradients.A[0].to(A.dtype),
        _coefficient_gradient(B, gradients.B, gradients.readout, other=C),
        _coefficient_gradient(C, gradients.C, gradients.readout, other=B),
        None if D is None or gradients.D is None else gradients.D[0].to(D.dtype),
        None
        if delta_bias is None or gradients.delta_bias is None
        else gradients.delta_bias[0].to(delta_bias.dtype),
        None if z is None or gradients.z is None else gradients.z[0],
    ]


def _coefficient_gradient(
    x: Tensor, varying: Tensor, readout: Tensor | None, *, other: Tensor
) -> Tensor:
    """Return the gradient of B or C, in the shape in which it was given."""
    if x.dim() == 3:
        return varying[0].sum(1)
    if x.dim() == 4:
        return varying[0].sum_to_size(x.shape)
    if readout is None:
        raise RuntimeError("a constant coefficient has a readout")
    gradient = readout[0]
    if other.dim() == 2:
        gradient = gradient * other.float()
    return gradient.to(x.dtype)

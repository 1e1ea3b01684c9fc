"""The selective scan: mamba-ssm's op on ``(B, D, L)`` and the ordered, token-major form beside
it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_divisible
from rgbt_fusion.ops.arguments import (
    check_like,
    check_order_fits,
    check_permutation,
    lower_to_autocast,
    order_with_sample_axis,
    token_major,
    wants_gradient,
    with_direction_axis,
)
from rgbt_fusion.ops.backends import BACKENDS, choose, load_mamba_ssm
from rgbt_fusion.ops.inputs import CHECKPOINT_STEPS, ScanGradients, ScanInputs, ScanResults
from rgbt_fusion.ops.registration import once_differentiable, register, without_autocast
from rgbt_fusion.shapes import check_floating, check_same_device, check_same_shape, check_shape

__all__ = ["OrderedScan", "ordered_selective_scan", "selective_scan"]


class OrderedScan(NamedTuple):
    """What :func:`ordered_selective_scan` returns."""

    out: Tensor
    """``(B, L, D)``, or ``(R, B, L, D)`` when an argument has a direction axis and the directions
are not merged."""
    last_state: Tensor
    """``(B, D, N)``, or ``(R, B, D, N)`` when an argument has a direction axis; the state after the
last step."""


def selective_scan(
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
    *,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Run Mamba's selective scan on ``(B, D, L)`` tensors: a drop-in for ``mamba_ssm``'s
    ``selective_scan_fn``.

    The state is kept in float32 (float64 for float64 inputs) whatever the dtype of the inputs. The
    call runs on the first backend without an objection, is differentiable once, and traces under
    ``torch.compile`` and ``torch.export``.

    .. math::
        h_t = e^{\Delta_t A} h_{t-1} + \Delta_t B_t u_t, \qquad y_t = \langle C_t, h_t \rangle + D u_t,
        \qquad \text{out}_t = y_t \, \mathrm{silu}(z_t)

    with ``delta_t = softplus(delta + delta_bias)`` when ``delta_softplus``, and the gate only with
    ``z``.

    Where the paper is silent: its eq. 4 prints the zero-order hold for B; the released code of
    Mamba and of every tracker built on it uses ``delta_t B``, and so does this op.

    Args:
        u: the input sequence.
        delta: the step sizes, before bias and softplus.
        A: the decay rates, real; usually negative.
        B: how the input enters the state: varying over tokens, or constant.
        C: how the state is read: varying over tokens, or constant.
        D: the skip connection.
        z: the gate.
        delta_bias: added to ``delta``.
        delta_softplus: pass ``delta + delta_bias`` through a softplus.
        return_last_state: return the state after the last token as well.
        backend: ``"auto"``, or the name of the one that must run.

    Shape:
        - u, delta, z: ``(B, D, L)``, one of float32, bfloat16, float16, float64
        - A: ``(D, N)``; D, delta_bias: ``(D,)``
        - B, C: ``(B, N, L)``, ``(B, G, N, L)`` with G dividing D, or constant ``(D, N)``; varying
          ones have the dtype of ``u``
        - returns ``(B, D, L)`` in the dtype of ``u``; with ``return_last_state`` also ``(B, D,
          N)``, in the state's dtype

    Raises:
        ShapeError: a rank or size differs from the above.
        TypeError: a tensor is complex or whole-numbered, or ``delta``, ``z``, B or C has not the
            dtype of ``u``.
        ValueError: D is not divisible by G, tensors lie on several devices, or ``backend`` is
            unknown.
        BackendUnavailableError: the named backend cannot run; the message lists every backend's
            reasons.

    Example:
        >>> import torch
        >>> from rgbt_fusion import selective_scan
        >>> u, delta = torch.randn(2, 8, 5), torch.rand(2, 8, 5)
        >>> A, B, C = -torch.rand(8, 4), torch.randn(2, 4, 5), torch.randn(2, 4, 5)
        >>> selective_scan(u, delta, A, B, C, delta_softplus=True).shape
        torch.Size([2, 8, 5])

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, eq. 2
        and algorithm 2.
    """
    u, delta, B, C, z = lower_to_autocast(u, delta, B, C, z)
    sizes = check_shape(u, "B D L", name="u")
    for x, name in ((delta, "delta"), (z, "z")):
        if x is not None:
            check_same_shape(x, u, name=name, like_name="u")
            check_like(x, u, name=name, like_name="u")
    A, D, delta_bias, states = _check_parameters(u, A, D, delta_bias, "D", "D N")
    sizes["N"] = states
    coefficients = [_check_coefficients(x, u, name, sizes) for x, name in ((B, "B"), (C, "C"))]
    # A constant B or C moves behind the state: y = sum_n (B C)[d, n] h'[d, n], with h' driven by
    # ones.
    constants = [
        x.to(A.dtype) for x, varying in zip((B, C), coefficients, strict=True) if varying is None
    ]
    readout = (
        constants[0] * constants[-1] if len(constants) == 2 else constants[0] if constants else None
    )
    ones = u.new_ones(()).expand(1, u.shape[0], 1, states, u.shape[2])
    varying_B, varying_C = _same_groups(
        *(ones if x is None else x for x in coefficients), group_axis=2
    )
    arguments = [u, delta, A, varying_B, varying_C, readout, D, z, delta_bias]
    arguments = [x if x is None or x.dim() == 5 else x[None] for x in arguments]
    if u.is_cuda and not torch.compiler.is_compiling():
        inputs = _canonical(*arguments, None, None, delta_softplus, False, channels_first=True)
        if choose("scan", backend, inputs).name == "mamba-ssm":
            out, last_state = load_mamba_ssm().selective_scan(
                u, delta, A, B, C, D, z, delta_bias, delta_softplus
            )
            return (out, last_state) if return_last_state else out
    keep = wants_gradient(arguments)
    out, last_state, _ = torch.ops.rgbt_fusion.selective_scan(
        *arguments, None, None, delta_softplus, False, True, False, keep, backend
    )
    if not return_last_state:
        return out[0]
    return out[0], last_state[0] if coefficients[0] is not None else last_state[0] * B.to(A.dtype)


def ordered_selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    order: Tensor | None = None,
    initial_state: Tensor | None = None,
    merge: bool = False,
    trusted_order: bool = False,
    backend: str = "auto",
) -> OrderedScan:
    r"""Scan token-major sequences in one or several directions, each visiting the segments in its
    own order.

    The sequence is cut into K segments of equal length. Direction ``r`` of sample ``b`` visits
    segment ``order[r, b, 0]`` first, then ``order[r, b, 1]``, ...; results are written to the rows
    they belong to. The order is an index read inside the loop, so nothing is permuted, copied or
    transposed. An argument without the direction axis is shared by all.

    .. math::
        h_s = e^{\Delta_{\pi(s)} A} h_{s-1} + \Delta_{\pi(s)} B_{\pi(s)} u_{\pi(s)}, \qquad
        y_{\pi(s)} = \langle C_{\pi(s)}, h_s \rangle + D u_{\pi(s)}, \qquad
        \text{out} = y \, \mathrm{silu}(z)

    Where the paper is silent: tokens inside a segment keep their order in every direction, as in
    AINet's released code; ``K = L`` gives an order of single tokens.

    Args:
        u: the input sequence.
        delta: the step sizes, before bias and softplus.
        A: the decay rates, real.
        B: how the input enters the state.
        C: how the state is read.
        D: the skip connection.
        z: the gate; one for all directions, or one each.
        delta_bias: added to ``delta``.
        delta_softplus: pass ``delta + delta_bias`` through a softplus.
        order: the segment visited at each step, a permutation of ``0..K-1``; natural order when
            absent.
        initial_state: the state before the first step; zeros when absent.
        merge: return the sum over the directions instead of each direction.
        trusted_order: ``order`` is known to hold permutations, as an ``argsort`` does; skips the
            check, which on a GPU waits for the device.
        backend: ``"auto"``, or the name of the one that must run.

    Shape:
        - u, delta, z: ``(B, L, D)`` or ``(R, B, L, D)``, one of float32, bfloat16, float16, float64
        - A: ``(D, N)`` or ``(R, D, N)``; D, delta_bias: ``(D,)`` or ``(R, D)``
        - B, C: ``(B, L, N)``, ``(R, B, L, N)`` or, with G groups of channels, ``(R, B, L, G, N)``;
          the dtype of ``u``
        - order: ``(K,)``, ``(R, K)`` or ``(R, B, K)`` int64, with K dividing L
        - initial_state: ``(B, D, N)`` or ``(R, B, D, N)``
        - ``out``: ``(B, L, D)``, or ``(R, B, L, D)`` when an argument has a direction axis and
          ``merge`` is off
        - ``last_state``: ``(B, D, N)``, or ``(R, B, D, N)`` when an argument has a direction axis,
          in the state's dtype

    Raises:
        ShapeError: a rank or size differs from the above.
        TypeError: a tensor has the wrong kind of dtype.
        ValueError: L is not divisible by K, D not by G, ``order`` is not a permutation, tensors lie
            on several devices, or ``backend`` is unknown.
        BackendUnavailableError: the named backend cannot run; the message lists every backend's
            reasons.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ordered_selective_scan
        >>> u, delta, z = (torch.randn(2, 12, 8) for _ in range(3))
        >>> A, B, C = -torch.rand(3, 8, 4), torch.randn(2, 12, 4), torch.randn(2, 12, 4)
        >>> order = torch.tensor([[0, 1, 2], [2, 1, 0], [1, 0, 2]])
        >>> scan = ordered_selective_scan(u, delta, A, B, C, z=z, delta_softplus=True, order=order, merge=True)
        >>> scan.out.shape, scan.last_state.shape
        (torch.Size([2, 12, 8]), torch.Size([3, 2, 8, 4]))

    Source:
        AINet (Lu et al., AAAI 2025), eq. 9-11: three scans over all layers, here in one call.
    """
    u, delta, B, C, z = lower_to_autocast(u, delta, B, C, z)
    order = order_with_sample_axis(order)
    tensors = {
        "u": u,
        "delta": delta,
        "B": B,
        "C": C,
        "z": z,
        "A": A,
        "D": D,
        "delta_bias": delta_bias,
    }
    ranks = {
        "u": 3,
        "delta": 3,
        "B": 3,
        "C": 3,
        "z": 3,
        "A": 2,
        "D": 1,
        "delta_bias": 1,
        "initial_state": 3,
        "order": 2,
    }
    tensors |= {"initial_state": initial_state, "order": order}
    given, has_directions = with_direction_axis(
        tensors, ranks, required=("u", "delta", "A", "B", "C")
    )
    arguments = _check_ordered(given)
    out, last_state, _ = torch.ops.rgbt_fusion.selective_scan(
        *arguments,
        delta_softplus,
        merge,
        False,
        order is not None and not trusted_order,
        wants_gradient(arguments),
        backend,
    )
    return OrderedScan(
        out if has_directions and not merge else out[0],
        last_state if has_directions else last_state[0],
    )


def _check_ordered(given: dict[str, Tensor]) -> list[Tensor | None]:
    """Check the arguments of the ordered scan, each with its direction axis; return them in the
    op's order."""
    u = given["u"]
    sizes = check_shape(u, "R B L D", name="u")
    del sizes["R"]
    for name in ("delta", "z"):
        if name in given:
            check_shape(given[name], "R B L D", name=name, **sizes)
            check_like(given[name], u, name=name, like_name="u")
    parameters = (given["A"], given.get("D"), given.get("delta_bias"))
    A, D, delta_bias, states = _check_parameters(u, *parameters, "R D", "R D N")
    coefficients = []
    for name in ("B", "C"):
        x = given[name][:, :, :, None] if given[name].dim() == 4 else given[name]
        check_shape(x, "R B L G N", name=name, B=sizes["B"], L=sizes["L"], N=states)
        check_divisible(
            sizes["D"], max(1, x.shape[3]), name="D", divisor_name=f"the groups of {name}"
        )
        check_like(x, u, name=name, like_name="u")
        coefficients.append(x)
    B, C = _same_groups(*coefficients, group_axis=3)
    state = given.get("initial_state")
    if state is not None:
        check_shape(state, "R B D N", name="initial_state", B=sizes["B"], D=sizes["D"], N=states)
        check_floating(state, name="initial_state")
        check_same_device(state, u, name="initial_state", like_name="u")
        state = state.to(A.dtype)
    order = given.get("order")
    check_order_fits(order, u, like_name="u", batch=sizes["B"], length=sizes["L"])
    return [u, given["delta"], A, B, C, None, D, given.get("z"), delta_bias, order, state]


def _check_parameters(
    u: Tensor, A: Tensor, D: Tensor | None, delta_bias: Tensor | None, vector: str, matrix: str
) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
    """Check the dtype of u and the kind, place and shape of the parameters; return them in the
    state's dtype, and N."""
    check_floating(u, name="u")
    if not isinstance(A, Tensor):
        raise TypeError(f"A must be a tensor, got {type(A).__name__}")
    state = torch.float64 if u.dtype == torch.float64 else torch.float32
    channels = u.shape[-1] if matrix.startswith("R") else u.shape[-2]
    checked: list[Tensor | None] = []
    for x, pattern, name in (
        (A, matrix, "A"),
        (D, vector, "D"),
        (delta_bias, vector, "delta_bias"),
    ):
        if x is not None:
            check_shape(x, pattern, name=name, D=channels)
            _check_real(x, name)
            check_same_device(x, u, name=name, like_name="u")
            x = x.to(state)
        checked.append(x)
    if A.shape[-1] < 1:
        raise ShapeError(f"A must have N >= 1 states as its last axis, got {tuple(A.shape)}")
    return A.to(state), checked[1], checked[2], A.shape[-1]


def _check_real(x: Tensor, name: str) -> None:
    if x.is_complex():
        raise TypeError(
            f"{name} must be real, got {x.dtype}: complex state spaces are not supported"
        )
    check_floating(x, name=name)


def _check_coefficients(x: Tensor, u: Tensor, name: str, sizes: dict[str, int]) -> Tensor | None:
    """Return B or C as ``(1, B, G, N, L)``, or None where it is constant."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    _check_real(x, name)
    if x.dim() == 2:
        check_shape(x, "D N", name=name, D=sizes["D"], N=sizes["N"])
        check_same_device(x, u, name=name, like_name="u")
        return None
    check_like(x, u, name=name, like_name="u")
    known = {axis: sizes[axis] for axis in "BNL"}
    if x.dim() == 3:
        check_shape(x, "B N L", name=name, **known)
        return x[None, :, None]
    check_shape(x, "B G N L", name=name, **known)
    check_divisible(sizes["D"], max(1, x.shape[1]), name="D", divisor_name=f"the groups of {name}")
    return x[None]


def _same_groups(B: Tensor, C: Tensor, group_axis: int) -> tuple[Tensor, Tensor]:
    """Give B and C the same number of groups: one group is shared by all."""
    groups = max(B.shape[group_axis], C.shape[group_axis])
    for x, name in ((B, "B"), (C, "C")):
        if x.shape[group_axis] not in (1, groups) or groups == 0:
            raise ShapeError(
                f"{name} must have the groups of the other coefficient, {groups}, or 1, got {tuple(x.shape)}"
            )
    sizes = [-1] * B.dim()
    sizes[group_axis] = groups
    return B.expand(sizes), C.expand(sizes)


# The op itself. Its tensors carry the direction axis and stand in the caller's layout: (R?, B, L,
# D) and (R?, B, L, G, N), or with channels_first (R?, B, D, L) and (R?, B, G, N, L).

_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? readout, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "Tensor? order, Tensor? initial_state, bool delta_softplus, bool merge, bool channels_first"
)
_LIBRARY = torch.library.Library("rgbt_fusion", "FRAGMENT")
_LIBRARY.define(
    f"selective_scan({_INPUTS}, bool check_order, bool keep_states, str backend) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "selective_scan_backward(Tensor? grad_out, Tensor? grad_last_state, Tensor checkpoints, "
    f"{_INPUTS}, str backend) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_DIFFERENTIABLE = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10)
"""Where u, delta, A, B, C, readout, D, z, delta_bias and initial_state stand among the inputs."""


def _canonical(*arguments: Any, channels_first: bool) -> ScanInputs:
    """View the op's arguments as every backend takes them; parameters, which are small, are made
    contiguous."""
    tensors: list[Any] = [x if x is None else x.contiguous() for x in arguments[:11]]
    for i in (0, 1, 3, 4, 7):
        tensors[i] = (
            arguments[i] if arguments[i] is None else token_major(arguments[i], channels_first)
        )
    return ScanInputs(*tensors, delta_softplus=arguments[11], merge=arguments[12])


def _allocate_results(
    inputs: ScanInputs, channels_first: bool, keep_states: bool
) -> tuple[Tensor, Tensor, Tensor]:
    _, batch, length, channels = inputs.u.shape
    states = inputs.A.shape[2]
    rows = (channels, length) if channels_first else (length, channels)
    kept = -(-length // CHECKPOINT_STEPS) if keep_states else 0
    out = inputs.u.new_empty(1 if inputs.merge else inputs.directions, batch, *rows)
    last_state = inputs.A.new_empty(inputs.directions, batch, channels, states)
    return out, last_state, inputs.A.new_empty(inputs.directions, batch, kept, states, channels)


def _allocate_gradients(arguments: Sequence[Any]) -> list[Tensor]:
    absent = arguments[0].new_empty
    return [
        absent(0) if arguments[i] is None else arguments[i].new_empty(arguments[i].shape)
        for i in _DIFFERENTIABLE
    ]


def _forward(*values: Any) -> tuple[Tensor, Tensor, Tensor]:
    *arguments, channels_first, check_order, keep_states, backend = values
    inputs = _canonical(*arguments, channels_first=channels_first)
    if check_order and inputs.order is not None:
        check_permutation(inputs.order)
    out, last_state, checkpoints = _allocate_results(inputs, channels_first, keep_states)
    results = ScanResults(token_major(out, channels_first), last_state, checkpoints)
    if out.numel() == 0:
        last_state.zero_()
        if inputs.initial_state is not None:
            last_state.copy_(inputs.initial_state)
        return out, last_state, checkpoints
    with without_autocast(inputs.u):
        choose("scan", backend, inputs, BACKENDS[1:]).load().scan_forward(inputs, results)
    return out, last_state, checkpoints


def _forward_fake(*values: Any) -> tuple[Tensor, Tensor, Tensor]:
    *arguments, channels_first, _, keep_states, _ = values
    return _allocate_results(
        _canonical(*arguments, channels_first=channels_first), channels_first, keep_states
    )


def _backward(
    grad_out: Tensor | None, grad_last_state: Tensor | None, checkpoints: Tensor, *values: Any
) -> tuple[Tensor, ...]:
    *arguments, channels_first, backend = values
    inputs = _canonical(*arguments, channels_first=channels_first)
    results = _allocate_gradients(arguments)
    if inputs.u.numel() == 0:
        for x in results:
            x.zero_()
        if inputs.initial_state is not None and grad_last_state is not None:
            results[9].copy_(grad_last_state.sum_to_size(results[9].shape))
        return tuple(results)
    if grad_out is None:
        grad_out = inputs.u.new_zeros(()).expand(
            1 if inputs.merge else inputs.directions, *inputs.u.shape[1:]
        )
    else:
        grad_out = token_major(grad_out, channels_first)
    views: list[Any] = [
        None
        if arguments[i] is None
        else token_major(x, channels_first)
        if i in (0, 1, 3, 4, 7)
        else x
        for x, i in zip(results, _DIFFERENTIABLE, strict=True)
    ]
    if grad_last_state is not None:
        grad_last_state = grad_last_state.contiguous()
    with without_autocast(inputs.u):
        module = choose("scan", backend, inputs, BACKENDS[1:]).load()
        module.scan_backward(inputs, checkpoints, grad_out, grad_last_state, ScanGradients(*views))
    return tuple(results)


def _backward_fake(
    grad_out: Tensor | None, grad_last_state: Tensor | None, checkpoints: Tensor, *arguments: Any
) -> tuple[Tensor, ...]:
    return tuple(_allocate_gradients(arguments))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[2], *inputs[:11])
    ctx.options, ctx.keep_states, ctx.backend = inputs[11:14], inputs[15], inputs[16]


def _autograd(
    ctx: Any, grad_out: Tensor | None, grad_last_state: Tensor | None, _: Any
) -> tuple[Any, ...]:
    if not ctx.keep_states:
        raise RuntimeError(
            "keep_states must be on where a gradient is wanted, got keep_states=False"
        )
    checkpoints, *tensors = ctx.saved_tensors
    found = torch.ops.rgbt_fusion.selective_scan_backward(
        grad_out, grad_last_state, checkpoints, *tensors, *ctx.options, ctx.backend
    )
    gradients: list[Any] = [None] * 17
    for i, gradient in zip(_DIFFERENTIABLE, found, strict=True):
        gradients[i] = gradient if tensors[i] is not None else None
    return tuple(gradients)


register(_LIBRARY, "selective_scan", _forward, _forward_fake, _autograd, _setup_context)
register(
    _LIBRARY,
    "selective_scan_backward",
    _backward,
    _backward_fake,
    once_differentiable("selective_scan"),
)

"""The selective scan: mamba-ssm's op on ``(B, D, L)``, and the ordered, token-major form."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_divisible
from rgbt_fusion.ops.arguments import (
    check_like,
    check_order_fits,
    order_with_sample_axis,
    wants_gradient,
    with_direction_axis,
)
from rgbt_fusion.ops.backends import BackendName, choose, load_mamba_ssm
from rgbt_fusion.ops.prepared import Remembered
from rgbt_fusion.ops.prepared_scan import ScanCallTensors, ScanForm, ScanPlan
from rgbt_fusion.ops.scan_op import ScanArguments, scan_op
from rgbt_fusion.shapes import check_floating, check_same_device, check_same_shape, check_shape

__all__ = ["OrderedScan", "mamba_ssm_form", "ordered_selective_scan", "selective_scan"]


class OrderedScan(NamedTuple):
    """What :func:`ordered_selective_scan` returns.

    Where an argument has a direction axis, both have it; ``out`` loses it when merged.
    """

    out: Tensor
    """``(B, L, D)``, or ``(R, B, L, D)``."""
    last_state: Tensor
    """The state after the last step, ``(B, D, N)``, or ``(R, B, D, N)``."""


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
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Run Mamba's selective scan on ``(B, D, L)``, with the arguments of mamba-ssm's function.

    A drop-in for ``mamba_ssm``'s ``selective_scan_fn``. The state is kept in float32, or in float64
    for float64 inputs. Runs on the first backend that raises no objection. First derivatives only.
    ``torch.compile`` and ``torch.export`` trace it.

    .. math::
        h_t &= e^{\Delta_t A} h_{t-1} + \Delta_t B_t u_t \\
        y_t &= \langle C_t, h_t \rangle + D u_t \\
        \text{out}_t &= y_t \, \mathrm{silu}(z_t)

    The step size is ``delta + delta_bias``, passed through a softplus if ``delta_softplus``.
    Without ``z`` there is no gate.

    Paper and code: the paper prints the zero-order hold for B (eq. 4). The released code of Mamba,
    and of every tracker built on it, uses :math:`\Delta_t B_t`. So does this op.

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
        return_last_state: also return the state after the last token.
        backend: ``"auto"``, or the name of the backend that must run.

    Shape:
        - u, delta, z: ``(B, D, L)``, one of float32, bfloat16, float16, float64
        - A: ``(D, N)``
        - D, delta_bias: ``(D,)``
        - B, C: ``(B, N, L)`` or ``(B, G, N, L)`` with G dividing D, in the dtype of ``u``; or
          constant, ``(D, N)``
        - returns ``(B, D, L)`` in the dtype and the memory layout of ``u``; with
          ``return_last_state`` also ``(B, D, N)`` in the dtype of the state

    Raises:
        ShapeError: an argument has another rank or size than above.
        TypeError: an argument is complex or holds whole numbers; ``delta``, ``z``, ``B`` or ``C``
            has another dtype than ``u``.
        ValueError: D is not divisible by the G of ``B`` or ``C``; an argument is on another device
            than ``u``; ``backend`` is unknown.
        BackendUnavailableError: ``backend`` cannot run here; the message lists the reasons of every
            backend.

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
    tensors = ScanCallTensors(
        u=u,
        delta=delta,
        A=A,
        B=B,
        C=C,
        readout=None,
        D=D,
        z=z,
        delta_bias=delta_bias,
        order=None,
        initial_state=None,
    )
    plan = _MAMBA_SSM_PLANS.plan(tensors, delta_softplus, backend)
    if plan is not None:
        out, last_state = plan(tensors, check_order=False)
        return (out, last_state) if return_last_state else out
    form = mamba_ssm_form(tensors, delta_softplus)
    if _mamba_ssm_runs(form.arguments, backend):
        out, last_state = load_mamba_ssm().selective_scan(
            u, delta, A, B, C, D, z, delta_bias, delta_softplus
        )
    else:
        out, last_state = _run(form, check_order=False, backend=backend)
        if B.dim() == 2:
            # a constant B was taken out of the scan, and ones drove the state
            last_state = last_state * B.to(last_state.dtype)
    return (out, last_state) if return_last_state else out


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
    backend: BackendName = "auto",
) -> OrderedScan:
    r"""Scan token-major sequences in one or several directions, each with its order of segments.

    The sequence is cut into K segments of equal length. Direction ``r`` of sample ``b`` visits
    segment ``order[r, b, 0]`` first, then ``order[r, b, 1]``, and so on. Each result is written to
    the row of its token. The loop reads the order as an index, so nothing is permuted, copied or
    transposed. All directions share an argument that has no direction axis.

    .. math::
        h_s &= e^{\Delta_{\pi(s)} A} h_{s-1} + \Delta_{\pi(s)} B_{\pi(s)} u_{\pi(s)} \\
        y_{\pi(s)} &= \langle C_{\pi(s)}, h_s \rangle + D u_{\pi(s)} \\
        \text{out} &= y \, \mathrm{silu}(z)

    Paper and code: tokens inside a segment keep their order in every direction, as in AINet's
    released code. ``K = L`` gives an order of single tokens.

    Args:
        u: the input sequence.
        delta: the step sizes, before bias and softplus.
        A: the decay rates, real.
        B: how the input enters the state.
        C: how the state is read.
        D: the skip connection.
        z: the gate; one for all directions, or one per direction.
        delta_bias: added to ``delta``.
        delta_softplus: pass ``delta + delta_bias`` through a softplus.
        order: the segments in the order of their visits, a permutation of ``0..K-1``; natural order
            if absent.
        initial_state: the state before the first step; zeros if absent.
        merge: return the sum over the directions instead of each direction.
        trusted_order: do not check that ``order`` holds permutations. On a GPU the check waits for
            the device, and the result of an ``argsort`` does not need it.
        backend: ``"auto"``, or the name of the backend that must run.

    Shape:
        - u, delta, z: ``(B, L, D)`` or ``(R, B, L, D)``, one of float32, bfloat16, float16, float64
        - A: ``(D, N)`` or ``(R, D, N)``
        - D, delta_bias: ``(D,)`` or ``(R, D)``
        - B, C: ``(B, L, N)`` or ``(R, B, L, N)``; with G groups of channels ``(B, L, G, N)`` or
          ``(R, B, L, G, N)``; in the dtype of ``u``
        - order: ``(K,)``, ``(R, K)`` or ``(R, B, K)`` int64, with K dividing L
        - initial_state: ``(B, D, N)`` or ``(R, B, D, N)``
        - returns ``out (B, L, D)`` in the dtype and the memory layout of ``u``, or ``(R, B, L, D)``
          if an argument has a direction axis and ``merge`` is off
        - returns ``last_state (B, D, N)`` in the dtype of the state, or ``(R, B, D, N)`` if an
          argument has a direction axis

    Raises:
        ShapeError: an argument has another rank or size than above; ``B`` or ``C`` has four axes
            that can be read both ways, because R, B, L and G are one number above 1.
        TypeError: an argument has another dtype than above.
        ValueError: L is not divisible by the K of ``order``, or D by the G of ``B`` or ``C``;
            ``order`` is not a permutation; an argument is on another device than ``u``; ``backend``
            is unknown.
        BackendUnavailableError: ``backend`` cannot run here; the message lists the reasons of every
            backend.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ordered_selective_scan
        >>> u, delta, z = (torch.randn(2, 12, 8) for _ in range(3))
        >>> A, B, C = -torch.rand(3, 8, 4), torch.randn(2, 12, 4), torch.randn(2, 12, 4)
        >>> order = torch.tensor([[0, 1, 2], [2, 1, 0], [1, 0, 2]])
        >>> scan = ordered_selective_scan(
        ...     u, delta, A, B, C, z=z, delta_softplus=True, order=order, merge=True
        ... )
        >>> scan.out.shape, scan.last_state.shape
        (torch.Size([2, 12, 8]), torch.Size([3, 2, 8, 4]))

    Source:
        AINet (Lu et al., AAAI 2025), eq. 9-11: three scans over all layers, here in one call.
    """
    tensors = ScanCallTensors(
        u=u,
        delta=delta,
        A=A,
        B=B,
        C=C,
        readout=None,
        D=D,
        z=z,
        delta_bias=delta_bias,
        order=order,
        initial_state=initial_state,
    )
    check_order = order is not None and not trusted_order
    plan = _ORDERED_PLANS.plan(tensors, delta_softplus, merge, backend)
    if plan is not None:
        return OrderedScan(*plan(tensors, check_order=check_order))
    form = _ordered_form(tensors, delta_softplus, merge)
    return OrderedScan(*_run(form, check_order=check_order, backend=backend))


def _run(form: ScanForm, *, check_order: bool, backend: str) -> tuple[Tensor, Tensor]:
    """Call the op; return ``out`` and ``last_state`` as the public functions do."""
    keep_states = wants_gradient(form.arguments)
    out, last_state, _ = scan_op(*form.arguments, check_order, keep_states, backend)
    return form.public(out, last_state)


def _mamba_ssm_runs(arguments: ScanArguments, backend: str) -> bool:
    """Say whether mamba-ssm's own op takes the place of ours."""
    if not arguments.u.is_cuda or torch.compiler.is_compiling():
        return False
    return choose("scan", backend, arguments.as_inputs()).name == "mamba-ssm"


def mamba_ssm_form(tensors: ScanCallTensors, delta_softplus: bool) -> ScanForm:
    """Check the arguments of :func:`selective_scan`."""
    u, z = tensors.u, tensors.z
    sizes = check_shape(u, "B D L", name="u")
    _check_same_tokens(tensors.delta, u, name="delta")
    if z is not None:
        _check_same_tokens(z, u, name="z")
    parameters = _check_parameters(
        u, tensors.A, tensors.D, tensors.delta_bias, axes="", channels=sizes["D"]
    )
    sizes["N"] = tensors.A.shape[-1]
    coefficients = _check_mamba_ssm_coefficients(tensors, parameters.A.dtype, sizes)
    arguments = ScanArguments(
        u=u[None],
        delta=tensors.delta[None],
        A=parameters.A[None],
        B=coefficients.B,
        C=coefficients.C,
        readout=_with_leading_axis(coefficients.readout),
        D=_with_leading_axis(parameters.D),
        z=_with_leading_axis(z),
        delta_bias=_with_leading_axis(parameters.delta_bias),
        order=None,
        initial_state=None,
        delta_softplus=delta_softplus,
        merge=False,
        channels_first=True,
    )
    return ScanForm(arguments, has_directions=False)


_RANKS = {
    "u": 3,
    "delta": 3,
    "B": 4,
    "C": 4,
    "z": 3,
    "A": 2,
    "D": 1,
    "delta_bias": 1,
    "initial_state": 3,
    "order": 2,
}
"""How many axes each argument of the ordered scan has without its direction axis."""


def _ordered_form(tensors: ScanCallTensors, delta_softplus: bool, merge: bool) -> ScanForm:
    """Check the arguments of :func:`ordered_selective_scan`."""
    # torch.compile of torch 2.6 cannot follow _replace and _asdict
    named = {
        "u": tensors.u,
        "delta": tensors.delta,
        "B": _with_group_axis(tensors.B, tensors.u, "B"),
        "C": _with_group_axis(tensors.C, tensors.u, "C"),
        "z": tensors.z,
        "A": tensors.A,
        "D": tensors.D,
        "delta_bias": tensors.delta_bias,
        "initial_state": tensors.initial_state,
        "order": order_with_sample_axis(tensors.order),
    }
    given, has_directions = with_direction_axis(
        named,
        _RANKS,
        required=("u", "delta", "A", "B", "C"),
    )
    u = given["u"]
    sizes = check_shape(u, "R B L D", name="u")
    del sizes["R"]
    for name in ("delta", "z"):
        if name in given:
            check_shape(given[name], "R B L D", name=name, **sizes)
            check_like(given[name], u, name=name, like_name="u")
    parameters = _check_parameters(
        u, given["A"], given.get("D"), given.get("delta_bias"), axes="R ", channels=sizes["D"]
    )
    states = parameters.A.shape[-1]
    B = _check_ordered_coefficient(given["B"], u, "B", states, sizes)
    C = _check_ordered_coefficient(given["C"], u, "C", states, sizes)
    groups = _shared_groups(B, C, group_axis=3)
    initial_state = given.get("initial_state")
    if initial_state is not None:
        known = {"B": sizes["B"], "D": sizes["D"], "N": states}
        check_shape(initial_state, "R B D N", name="initial_state", **known)
        check_floating(initial_state, name="initial_state")
        check_same_device(initial_state, u, name="initial_state", like_name="u")
        initial_state = initial_state.to(parameters.A.dtype)
    order = given.get("order")
    check_order_fits(order, u, like_name="u", batch=sizes["B"], length=sizes["L"])
    arguments = ScanArguments(
        u=u,
        delta=given["delta"],
        A=parameters.A,
        B=B.expand(-1, -1, -1, groups, -1),
        C=C.expand(-1, -1, -1, groups, -1),
        readout=None,
        D=parameters.D,
        z=given.get("z"),
        delta_bias=parameters.delta_bias,
        order=order,
        initial_state=initial_state,
        delta_softplus=delta_softplus,
        merge=merge,
        channels_first=False,
    )
    return ScanForm(arguments, has_directions)


def _mamba_ssm_plan(
    tensors: ScanCallTensors, delta_softplus: bool, backend: str
) -> ScanPlan | None:
    return ScanPlan.of(tensors, mamba_ssm_form(tensors, delta_softplus), backend)


def _ordered_plan(
    tensors: ScanCallTensors, delta_softplus: bool, merge: bool, backend: str
) -> ScanPlan | None:
    return ScanPlan.of(tensors, _ordered_form(tensors, delta_softplus, merge), backend)


_MAMBA_SSM_PLANS = Remembered(_mamba_ssm_plan)
_ORDERED_PLANS = Remembered(_ordered_plan)


def _check_same_tokens(x: Tensor, u: Tensor, *, name: str) -> None:
    """Check that ``x`` has the shape, the dtype and the device of ``u``."""
    check_same_shape(x, u, name=name, like_name="u")
    check_like(x, u, name=name, like_name="u")


class _Parameters(NamedTuple):
    """The parameters in the dtype of the state."""

    A: Tensor
    D: Tensor | None
    delta_bias: Tensor | None


def _check_parameters(
    u: Tensor,
    A: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    *,
    axes: str,
    channels: int,
) -> _Parameters:
    """Check the dtype of ``u``, and the parameters, whose leading axes are ``axes``."""
    check_floating(u, name="u")
    if not isinstance(A, Tensor):
        raise TypeError(f"A must be a tensor, got {type(A).__name__}")
    state = torch.float64 if u.dtype == torch.float64 else torch.float32

    def checked(x: Tensor, pattern: str, name: str) -> Tensor:
        check_shape(x, axes + pattern, name=name, D=channels)
        _check_real(x, name)
        check_same_device(x, u, name=name, like_name="u")
        return x.to(state)

    parameters = _Parameters(
        A=checked(A, "D N", "A"),
        D=None if D is None else checked(D, "D", "D"),
        delta_bias=None if delta_bias is None else checked(delta_bias, "D", "delta_bias"),
    )
    if A.shape[-1] < 1:
        raise ShapeError(f"A must have N >= 1 states as its last axis, got {tuple(A.shape)}")
    return parameters


def _check_real(x: Tensor, name: str) -> None:
    if x.is_complex():
        raise TypeError(
            f"{name} must be real, got {x.dtype}: complex state spaces are not supported"
        )
    check_floating(x, name=name)


class _Coefficients(NamedTuple):
    """B and C as the op takes them: varying, ``(1, B, G, N, L)``."""

    B: Tensor
    C: Tensor
    readout: Tensor | None
    """``(D, N)``: what was constant, taken out of B and C."""


def _check_mamba_ssm_coefficients(
    tensors: ScanCallTensors, state: torch.dtype, sizes: dict[str, int]
) -> _Coefficients:
    """Check B and C in one of mamba-ssm's forms.

    A constant one moves behind the state: ``y = sum_n (B C)[d, n] h'[d, n]``, where ones drive
    ``h'``.
    """
    u, B, C = tensors.u, tensors.B, tensors.C
    varying_B = _check_mamba_ssm_coefficient(B, u, "B", sizes)
    varying_C = _check_mamba_ssm_coefficient(C, u, "C", sizes)
    readout = None
    if varying_B is None:
        readout = B.to(state)
    if varying_C is None:
        readout = C.to(state) if readout is None else readout * C.to(state)
    ones = u.new_ones(()).expand(1, sizes["B"], 1, sizes["N"], sizes["L"])
    in_B = ones if varying_B is None else varying_B
    in_C = ones if varying_C is None else varying_C
    groups = _shared_groups(in_B, in_C, group_axis=2)
    return _Coefficients(
        B=in_B.expand(-1, -1, groups, -1, -1),
        C=in_C.expand(-1, -1, groups, -1, -1),
        readout=readout,
    )


def _check_mamba_ssm_coefficient(
    x: Tensor, u: Tensor, name: str, sizes: dict[str, int]
) -> Tensor | None:
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
        # a colon would have autograd of torch 2.6 copy the gradient
        return x.unsqueeze(0).unsqueeze(2)
    check_shape(x, "B G N L", name=name, **known)
    check_divisible(sizes["D"], max(1, x.shape[1]), name="D", divisor_name=f"the groups of {name}")
    return x[None]


def _with_group_axis(x: Any, u: Any, name: str) -> Any:
    """Return B or C as ``(B, L, G, N)`` or ``(R, B, L, G, N)``.

    Four axes are ``(R, B, L, N)`` where B and L stand in the middle, and ``(B, L, G, N)`` where
    they stand first.
    """
    if not isinstance(x, Tensor) or not isinstance(u, Tensor) or u.dim() not in (3, 4):
        return x  # refused by the checks that follow
    if not 3 <= x.dim() <= 5:
        raise ShapeError(
            f"{name} must have shape (B, L, N), (R, B, L, N), (B, L, G, N) or (R, B, L, G, N), "
            f"got {tuple(x.shape)}"
        )
    if x.dim() == 5:
        return x
    if x.dim() == 3:
        return x.unsqueeze(2)
    tokens = u.shape[-3:-1]
    in_the_middle = x.shape[1:3] == tokens
    first = x.shape[:2] == tokens
    if first and in_the_middle and x.shape[0] > 1:
        raise ShapeError(
            f"{name} must have five axes (R, B, L, G, N) where four can be read as (R, B, L, N) "
            f"and as (B, L, G, N), got {tuple(x.shape)}"
        )
    if first and not in_the_middle:
        return x
    return x.unsqueeze(3)


def _check_ordered_coefficient(
    x: Tensor, u: Tensor, name: str, states: int, sizes: dict[str, int]
) -> Tensor:
    """Check B or C ``(R?, B, L, G, N)``."""
    check_shape(x, "R B L G N", name=name, B=sizes["B"], L=sizes["L"], N=states)
    check_divisible(sizes["D"], max(1, x.shape[3]), name="D", divisor_name=f"the groups of {name}")
    check_like(x, u, name=name, like_name="u")
    return x


def _shared_groups(B: Tensor, C: Tensor, group_axis: int) -> int:
    """Return the number of groups of B and C; one group is shared by all."""
    groups = max(B.shape[group_axis], C.shape[group_axis])
    for x, name in ((B, "B"), (C, "C")):
        if x.shape[group_axis] not in (1, groups) or groups == 0:
            raise ShapeError(
                f"{name} must have the groups of the other coefficient, {groups}, or 1, "
                f"got {tuple(x.shape)}"
            )
    return groups


def _with_leading_axis(x: Tensor | None) -> Tensor | None:
    return None if x is None else x[None]

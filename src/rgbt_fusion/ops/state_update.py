"""One step of the selective scan for generation, with the state kept by the caller."""

from typing import NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_divisible
from rgbt_fusion.ops.backends import BackendName
from rgbt_fusion.ops.scan_op import ScanArguments, scan_op
from rgbt_fusion.shapes import check_floating, check_same_device, check_shape

__all__ = ["check_slots", "selective_state_update"]


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor:
    r"""Run one step of the selective scan and write the new state into ``state``.

    Has the arguments of mamba-ssm's function of this name. The arithmetic is float32, or float64
    for a float64 ``x``, whatever the dtypes of the arguments. The result carries no gradient.

    .. math::
        h &\leftarrow e^{\Delta A} h + \Delta B x \\
        y &= (\langle C, h \rangle + D x) \, \mathrm{silu}(z)

    Paper and code: with heads, ``B`` and ``C`` may come in groups; head ``h`` of H belongs to group
    ``h // (H / G)``, as in mamba-ssm.

    Args:
        state: the state of every sequence; overwritten.
        x: the input of this step.
        dt: the step sizes, before bias and softplus.
        A: the decay rates, real.
        B: how the input enters the state.
        C: how the state is read.
        D: the skip connection.
        z: the gate.
        dt_bias: added to ``dt``.
        dt_softplus: pass ``dt + dt_bias`` through a softplus.
        state_batch_indices: the row of ``state`` that each sequence uses. A negative number marks
            padding: the result there is zero and no state is touched.
        backend: ``"auto"``, or the name of the backend that must run.

    Shape:
        - state: ``(B, D, N)`` or, with heads, ``(B, H, D, N)``; any first size with
          ``state_batch_indices``
        - x, dt, z: ``(B, D)`` or ``(B, H, D)``
        - A: ``(D, N)`` or ``(H, D, N)``
        - B, C: ``(B, N)`` or ``(B, G, N)`` with G dividing H
        - D, dt_bias: ``(D,)`` or ``(H, D)``
        - state_batch_indices: ``(B,)`` int32 or int64
        - returns ``(B, D)`` or ``(B, H, D)`` in the dtype of ``x``

    Raises:
        ShapeError: an argument has another rank or size than above.
        TypeError: an argument is complex or holds whole numbers.
        ValueError: H is not divisible by G; an argument is on another device than ``x``; a number
            in ``state_batch_indices`` is beyond the rows of ``state``; ``backend`` is unknown.
        BackendUnavailableError: ``backend`` cannot run here.

    Example:
        The state decays to a half of itself and takes in the input:

        >>> import torch
        >>> from rgbt_fusion import selective_state_update
        >>> state, one = torch.tensor([[[4.0]]]), torch.ones(1, 1)
        >>> selective_state_update(state, 3 * one, one, -one * torch.tensor(2.0).log(), one, one)
        tensor([[5.]])
        >>> state
        tensor([[[5.]]])

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, sec.
        3.5.
    """
    with torch.no_grad():
        step = _check(state, x, dt, A, B, C, D, z, dt_bias)
        if state_batch_indices is None:
            out, last_state = _run(step, step.state, dt_softplus, backend)
            state.copy_(last_state.view(state.shape))
            return out.view(x.shape).to(x.dtype)
        slots = check_slots(state_batch_indices, x, len(state), name="state_batch_indices")
        # a padded sequence computes on any state and keeps neither result
        padded = slots < 0
        rows = slots.clamp(min=0)
        out, last_state = _run(step, step.state[rows], dt_softplus, backend)
        out = out.masked_fill(padded[:, None], 0)
        written = torch.nonzero(~padded).squeeze(1)
        state[rows[written]] = last_state[written].view(-1, *state.shape[1:]).to(state.dtype)
        return out.view(x.shape).to(x.dtype)


def check_slots(slots: Tensor, like: Tensor, rows: int, *, name: str) -> Tensor:
    """Check which row of a cache each sequence uses, and return the numbers as int64.

    Raises:
        ShapeError: ``slots`` is not one number per sequence of ``like``.
        TypeError: ``slots`` does not hold int32 or int64.
        ValueError: a number is not below ``rows``, or ``slots`` is on another device.
    """
    check_shape(slots, "B", name=name, B=like.shape[0])
    if slots.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name} must be int32 or int64, got {slots.dtype}")
    check_same_device(slots, like, name=name, like_name="x")
    # on a GPU the check would wait for the device, which checks indices itself
    if slots.device.type == "cpu" and slots.numel() and not torch.compiler.is_compiling():
        largest = int(slots.max())
        if largest >= rows:
            raise ValueError(f"{name} must be below the {rows} rows of the state, got {largest}")
    return slots.long()


class _Step(NamedTuple):
    """The arguments with the heads folded into the channels, in the dtype of the arithmetic."""

    state: Tensor
    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    dt_bias: Tensor | None


def _check(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
) -> _Step:
    """Check the arguments, in the form with heads or without."""
    if not isinstance(state, Tensor):
        raise TypeError(f"state must be a tensor, got {type(state).__name__}")
    heads = ""
    if state.dim() == 4:
        heads = "H "
    sizes = check_shape(state, f"S {heads}D N", name="state")
    del sizes["S"]
    check_floating(state, name="state")
    sizes = check_shape(x, f"B {heads}D", name="x", **sizes)
    check_floating(x, name="x")
    arithmetic = torch.float64 if x.dtype == torch.float64 else torch.float32

    def checked(tensor: Tensor, pattern: str, name: str, folded: int) -> Tensor:
        """Check one argument and fold its heads, which are axis ``folded``, into the channels."""
        check_shape(tensor, pattern, name=name, **sizes)
        if tensor.is_complex():
            raise TypeError(
                f"{name} must be real, got {tensor.dtype}: complex state spaces are not supported"
            )
        check_floating(tensor, name=name)
        check_same_device(tensor, x, name=name, like_name="x")
        if heads:
            tensor = tensor.flatten(folded, folded + 1)
        return tensor.to(arithmetic)

    def coefficient(tensor: Tensor, name: str) -> Tensor:
        """Check ``B`` or ``C`` and return it as ``(B, G, N)``."""
        if isinstance(tensor, Tensor) and tensor.dim() == 2:
            tensor = tensor[:, None]
        known = {"B": sizes["B"], "N": sizes["N"]}
        check_shape(tensor, "B G N", name=name, **known)
        check_floating(tensor, name=name)
        check_same_device(tensor, x, name=name, like_name="x")
        count = sizes.get("H", 1)
        check_divisible(
            count, max(1, tensor.shape[1]), name="H", divisor_name=f"the groups of {name}"
        )
        return tensor.to(arithmetic)

    step = _Step(
        state=checked(state, f"S {heads}D N", "state", 1),
        x=checked(x, f"B {heads}D", "x", 1),
        dt=checked(dt, f"B {heads}D", "dt", 1),
        A=checked(A, f"{heads}D N", "A", 0),
        B=coefficient(B, "B"),
        C=coefficient(C, "C"),
        D=None if D is None else checked(D, f"{heads}D", "D", 0),
        z=None if z is None else checked(z, f"B {heads}D", "z", 1),
        dt_bias=None if dt_bias is None else checked(dt_bias, f"{heads}D", "dt_bias", 0),
    )
    if step.B.shape != step.C.shape:
        raise ShapeError(f"C must have the shape of B {tuple(B.shape)}, got {tuple(C.shape)}")
    return step


def _run(step: _Step, state: Tensor, dt_softplus: bool, backend: str) -> tuple[Tensor, Tensor]:
    """Scan the one token; return ``(B, D)`` and the new states ``(B, D, N)``."""
    if state.shape[0] != step.x.shape[0]:
        raise ShapeError(
            f"state must have the {step.x.shape[0]} sequences of x as its first axis, or come "
            f"with state_batch_indices, got {tuple(state.shape)}"
        )

    def with_axes(tensor: Tensor | None) -> Tensor | None:
        """Add the axis of directions and that of tokens."""
        return None if tensor is None else tensor[None, :, None]

    def with_direction(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[None]

    arguments = ScanArguments(
        u=step.x[None, :, None],
        delta=step.dt[None, :, None],
        A=step.A[None],
        B=step.B[None, :, None],
        C=step.C[None, :, None],
        readout=None,
        D=with_direction(step.D),
        z=with_axes(step.z),
        delta_bias=with_direction(step.dt_bias),
        order=None,
        initial_state=state[None],
        delta_softplus=dt_softplus,
        merge=False,
        channels_first=False,
    )
    out, last_state, _ = scan_op(*arguments, False, False, backend)
    return out[0, :, 0], last_state[0]

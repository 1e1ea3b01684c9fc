"""The causal depthwise convolution with SiLU, on ``(B, D, L)`` and in the ordered form."""

import warnings
from typing import Any, Literal, NamedTuple, get_args, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_choice
from rgbt_fusion.ops.arguments import (
    check_order_fits,
    order_with_sample_axis,
    with_direction_axis,
    within_bounds,
)
from rgbt_fusion.ops.backends import BackendName, choose, load_mamba_ssm
from rgbt_fusion.ops.conv_op import ConvArguments, conv_op
from rgbt_fusion.ops.prepared import Remembered
from rgbt_fusion.ops.prepared_conv import ConvForm, ConvPlan, ConvTensors
from rgbt_fusion.shapes import check_floating, check_same_device, check_same_dtype, check_shape

__all__ = ["Activation", "causal_conv1d", "check_activation", "ordered_causal_conv1d"]

Activation = Literal["silu", "swish"]
"""What the convolution may be followed by; both are names of one function."""

# torch.compile of torch 2.6 cannot follow get_args inside a call
_ACTIVATIONS = (None, *get_args(Activation))


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: Literal[False] = False,
    final_states_out: None = None,
    activation: Activation | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor: ...
@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    *,
    return_final_states: Literal[True],
    final_states_out: Tensor | None = None,
    activation: Activation | None = None,
    backend: BackendName = "auto",
) -> tuple[Tensor, Tensor]: ...
@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | Activation | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: Activation | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, Tensor]: ...
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | Activation | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: Activation | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Convolve each channel of ``(B, D, L)`` causally with its own taps.

    Has the arguments of causal-conv1d's ``causal_conv1d_fn``, in its order, on every machine and in
    every memory layout. Runs on the first backend that raises no objection. First derivatives only.

    .. math::
        y_t = f\Big(b + \sum_{w=0}^{W-1} k_w \, x_{t - (W - 1) + w}\Big), \qquad x_{t<0} = 0

    Paper and code: W is 4 in Mamba. Any number of taps works here. In 0.1.0 ``activation`` was the
    fourth argument; a string in that place still is, with a ``DeprecationWarning``.

    Args:
        x: the input sequence.
        weight: the taps of each channel; the last one meets the current token.
        bias: added to each channel.
        seq_idx: the number of the sequence that each token belongs to, where several sequences are
            packed into a row. Taps meet tokens of their own sequence only. A negative number marks
            padding, whose result is zero.
        initial_states: the tokens before the first one; zeros if absent.
        return_final_states: also return the last W - 1 tokens, which continue the sequence as
            ``initial_states``.
        final_states_out: where to write them.
        activation: ``"silu"`` (or its other name ``"swish"``), or None for the identity.
        backend: ``"auto"``, or the name of the backend that must run.

    Shape:
        - x: ``(B, D, L)``, one of float32, bfloat16, float16, float64
        - weight: ``(D, W)``
        - bias: ``(D,)``
        - seq_idx: ``(B, L)`` int32 or int64
        - initial_states, final_states_out: ``(B, D, W - 1)`` in the dtype of ``x``
        - returns ``(B, D, L)`` in the dtype and the memory layout of ``x``; with
          ``return_final_states`` also ``(B, D, W - 1)``

    Raises:
        ShapeError: an argument has another rank or size than above.
        TypeError: an argument does not hold real floating-point numbers, or ``seq_idx`` no whole
            ones; a state has another dtype than ``x``.
        ValueError: an argument is on another device than ``x``; ``activation`` or ``backend`` is
            unknown; ``seq_idx`` comes with states, or with a ``backend``; ``final_states_out``
            comes without ``return_final_states``.
        BackendUnavailableError: ``backend`` cannot run here; the message lists the reasons of every
            backend.

    Example:
        A tap of one on the current token, and a half on the token before it:

        >>> import torch
        >>> from rgbt_fusion import causal_conv1d
        >>> causal_conv1d(torch.tensor([[[2.0, 4.0, 8.0]]]), torch.tensor([[0.5, 1.0]]))
        tensor([[[ 2.,  5., 10.]]])

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, fig.
        3.
    """
    if isinstance(seq_idx, str):
        # the order of arguments of 0.1.0
        warnings.warn(
            "activation moved behind the arguments of causal-conv1d: pass it by keyword",
            DeprecationWarning,
            stacklevel=2,
        )
        activation = seq_idx
        seq_idx = None
    only_tokens = seq_idx is None and initial_states is None and final_states_out is None
    if only_tokens and not return_final_states:
        return _convolve(x, weight, bias, activation, backend)
    check_activation(activation)
    sizes = check_shape(x, "B D L", name="x")
    parameters = _check_parameters(x, weight, bias, axes="", channels=sizes["D"])
    kept = weight.shape[1] - 1
    _check_states(x, initial_states, return_final_states, final_states_out, kept=kept)
    if seq_idx is not None:
        if initial_states is not None or return_final_states:
            raise ValueError("seq_idx must come without initial_states and return_final_states")
        if backend != "auto":
            raise ValueError(f"backend must be 'auto' where seq_idx is given, got {backend!r}")
        _check_seq_idx(seq_idx, x)
        return _convolve_packed(x, parameters, seq_idx, activation)
    tokens = x
    if initial_states is not None and kept > 0:
        if x.stride(2) == 1:
            tokens = torch.cat([initial_states, x], dim=2)
        else:
            # token-major, as the memory of x
            tokens = torch.cat([initial_states.mT, x.mT], dim=1).mT
    out = _convolve(tokens, weight, bias, activation, backend)
    out = out[:, :, tokens.shape[2] - x.shape[2] :]
    if not return_final_states:
        return out
    missing = max(0, kept - tokens.shape[2])
    first = missing + tokens.shape[2] - kept
    final_states = F.pad(tokens, (missing, 0))[:, :, first:]
    if final_states_out is None:
        return out, final_states.clone()
    return out, final_states_out.copy_(final_states)


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation | None,
    backend: BackendName,
) -> Tensor:
    """Run the op, or that of causal-conv1d in its place."""
    tensors = ConvTensors(x, weight, bias, order=None)
    plan = _CAUSAL_PLANS.plan(tensors, activation, backend)
    if plan is not None:
        return plan(tensors, check_order=False)
    form = _causal_form(tensors, activation)
    if _mamba_ssm_runs(form.arguments, backend):
        return load_mamba_ssm().causal_conv1d(x, weight, bias, activation)
    return form.public(conv_op(*form.arguments, False, backend))


def _causal_form(tensors: ConvTensors, activation: Activation | None) -> ConvForm:
    """Check the arguments of a convolution of ``(B, D, L)``."""
    check_activation(activation)
    sizes = check_shape(tensors.x, "B D L", name="x")
    parameters = _check_parameters(
        tensors.x, tensors.weight, tensors.bias, axes="", channels=sizes["D"]
    )
    arguments = ConvArguments(
        x=tensors.x[None],
        weight=parameters.weight[None],
        bias=None if parameters.bias is None else parameters.bias[None],
        order=None,
        silu=activation is not None,
        channels_first=True,
    )
    return ConvForm(arguments, has_directions=False)


def _causal_plan(
    tensors: ConvTensors, activation: Activation | None, backend: str
) -> ConvPlan | None:
    return ConvPlan.of(tensors, _causal_form(tensors, activation), backend)


_CAUSAL_PLANS = Remembered(_causal_plan)


def _check_states(
    x: Tensor,
    initial_states: Tensor | None,
    return_final_states: bool,
    final_states_out: Tensor | None,
    *,
    kept: int,
) -> None:
    """Check the tokens before the first one, and where those behind the last one go."""
    if final_states_out is not None and not return_final_states:
        raise ValueError("final_states_out must come with return_final_states")
    states = {"initial_states": initial_states, "final_states_out": final_states_out}
    for name, state in states.items():
        if state is not None:
            check_shape(state, f"B D {kept}", name=name, B=x.shape[0], D=x.shape[1])
            check_same_dtype(state, x, name=name, like_name="x")
            check_same_device(state, x, name=name, like_name="x")


def _check_seq_idx(seq_idx: Tensor, x: Tensor) -> None:
    check_shape(seq_idx, "B L", name="seq_idx", B=x.shape[0], L=x.shape[2])
    if seq_idx.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"seq_idx must be int32 or int64, got {seq_idx.dtype}")
    check_same_device(seq_idx, x, name="seq_idx", like_name="x")


def _convolve_packed(
    x: Tensor, parameters: "_Parameters", seq_idx: Tensor, activation: Activation | None
) -> Tensor:
    """Convolve several sequences per row: a tap counts where both tokens are of one sequence."""
    taps = parameters.weight.shape[1]
    length = x.shape[2]
    # in the layout of x, as the result of the op is
    precise = x.to(parameters.weight.dtype)
    out = precise * parameters.weight[:, -1, None]
    if parameters.bias is not None:
        out = out + parameters.bias[:, None]
    for back in range(1, min(taps, length)):
        same = seq_idx[:, back:] == seq_idx[:, :-back]
        weighted = precise[:, :, :-back] * parameters.weight[:, taps - 1 - back, None]
        out = out + F.pad(weighted * same[:, None], (back, 0))
    if activation is not None:
        out = F.silu(out)
    return out.masked_fill((seq_idx < 0)[:, None], 0).to(x.dtype)


@overload
def ordered_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | None = None,
    *,
    order: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: Literal[False] = False,
    trusted_order: bool = False,
    backend: BackendName = "auto",
) -> Tensor: ...
@overload
def ordered_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | None = None,
    *,
    order: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: Literal[True],
    trusted_order: bool = False,
    backend: BackendName = "auto",
) -> tuple[Tensor, Tensor]: ...
@overload
def ordered_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | None = None,
    *,
    order: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    trusted_order: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, Tensor]: ...
def ordered_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | None = None,
    *,
    order: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    trusted_order: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Convolve token-major sequences causally along one or several segment orders.

    The taps reach back in scan order: across the border between two segments they meet the tokens
    visited before. Each result is written to the row of its token. The order is that of
    :func:`~rgbt_fusion.ops.selective_scan.ordered_selective_scan`.

    .. math::
        y_{\pi(s)} = f\Big(b + \sum_{w=0}^{W-1} k_w \, x_{\pi(s - (W - 1) + w)}\Big), \qquad
        x_{\pi(s<0)} = 0

    Paper and code: AINet's released code convolves the permuted sequence, so the taps cross the
    borders of segments. So do these. There is no ``seq_idx`` here: the ordered scan behind this
    convolution does not start its state again inside a row, so a packed row would mix its sequences
    there. Give each sequence a row of its own.

    Args:
        x: the input sequence; one for all directions, or one per direction.
        weight: the taps of each channel; the last one meets the current token.
        bias: added to each channel.
        activation: ``"silu"`` (or its other name ``"swish"``), or None for the identity.
        order: the segments in the order of their visits, a permutation of ``0..K-1``; natural order
            if absent.
        initial_states: the tokens that were visited before the first one, the last of them nearest;
            zeros if absent.
        return_final_states: also return the last W - 1 tokens in scan order, which continue the
            sequence as ``initial_states``, as the last state of the ordered scan does.
        trusted_order: do not check that ``order`` holds permutations. On a GPU the check waits for
            the device, and the result of an ``argsort`` does not need it.
        backend: ``"auto"``, or the name of the backend that must run.

    Shape:
        - x: ``(B, L, D)`` or ``(R, B, L, D)``, one of float32, bfloat16, float16, float64
        - weight: ``(D, W)`` or ``(R, D, W)``
        - bias: ``(D,)`` or ``(R, D)``
        - order: ``(K,)``, ``(R, K)`` or ``(R, B, K)`` int64, with K dividing L
        - initial_states: ``(B, W - 1, D)`` or ``(R, B, W - 1, D)`` in the dtype of ``x``
        - returns ``(B, L, D)``, or ``(R, B, L, D)`` if an argument has a direction axis, in the
          dtype and the memory layout of ``x``; with ``return_final_states`` also
          ``(B, W - 1, D)``, or ``(R, B, W - 1, D)``

    Raises:
        ShapeError: an argument has another rank or size than above.
        TypeError: an argument has another dtype than above.
        ValueError: L is not divisible by the K of ``order``; ``order`` is not a permutation; an
            argument is on another device than ``x``; ``activation`` or ``backend`` is unknown.
        BackendUnavailableError: ``backend`` cannot run here; the message lists the reasons of every
            backend.

    Example:
        The tap before the current token's meets the token that was visited before:

        >>> import torch
        >>> from rgbt_fusion import ordered_causal_conv1d
        >>> x, before = torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[1.0, 0.0]])
        >>> ordered_causal_conv1d(x, before).flatten()
        tensor([0., 1., 2.])
        >>> ordered_causal_conv1d(x, before, order=torch.tensor([2, 1, 0])).flatten()
        tensor([2., 3., 0.])

    Source:
        AINet (Lu et al., AAAI 2025), eq. 9-11: the convolution :math:`W_c` of each scan.
    """
    if initial_states is not None or return_final_states:
        given, has_directions = with_direction_axis(
            {
                "x": x,
                "weight": weight,
                "bias": bias,
                "order": order_with_sample_axis(order),
                "initial_states": initial_states,
            },
            {"x": 3, "weight": 2, "bias": 1, "order": 2, "initial_states": 3},
            required=("x", "weight"),
        )
        out, final_states = _convolve_from_states(given, activation, trusted_order, backend)
        if not has_directions:
            out, final_states = out[0], final_states[0]
        return (out, final_states) if return_final_states else out
    tensors = ConvTensors(x, weight, bias, order)
    check_order = order is not None and not trusted_order
    plan = _ORDERED_PLANS.plan(tensors, activation, backend)
    if plan is not None:
        return plan(tensors, check_order=check_order)
    form = _ordered_form(tensors, activation)
    return form.public(conv_op(*form.arguments, check_order, backend))


def _convolve_from_states(
    given: dict[str, Tensor],
    activation: Activation | None,
    trusted_order: bool,
    backend: BackendName,
) -> tuple[Tensor, Tensor]:
    """Convolve along an order that continues, with direction axes; return the final states, too.

    The op starts from zeros, so the first W - 1 steps are convolved once more behind the states.
    """
    x, weight, order = given["x"], given["weight"], given.get("order")
    parameters = {"weight": weight, "bias": given.get("bias"), "activation": activation}
    out = ordered_causal_conv1d(
        x, **parameters, order=order, trusted_order=trusted_order, backend=backend
    )
    directions, batch, length, channels = out.shape
    kept = weight.shape[-1] - 1
    states = given.get("initial_states")
    if states is None:
        before = x.new_zeros(()).expand(directions, batch, kept, channels)
    else:
        check_shape(states, f"R B {kept} D", name="initial_states", B=batch, D=channels)
        check_same_dtype(states, x, name="initial_states", like_name="x")
        check_same_device(states, x, name="initial_states", like_name="x")
        directions = max(directions, states.shape[0])
        out = out.expand(directions, -1, -1, -1)
        before = states.expand(directions, -1, -1, -1)
    reached = min(kept, length)
    tokens = x.expand(directions, -1, -1, -1)

    def rows_of(first_step: int) -> Tensor:
        """Return the rows of some steps of the scan, as an index into the tokens."""
        steps = torch.arange(first_step, first_step + reached, device=x.device)
        rows = steps[None, None]
        if order is not None:
            size = length // order.shape[2]
            rows = within_bounds(order)[:, :, steps // size] * size + steps % size
        return rows[..., None].expand(directions, batch, reached, channels)

    if states is not None and reached > 0:
        first = rows_of(0)
        continued = torch.cat([before, tokens.gather(2, first)], dim=2)
        from_states = ordered_causal_conv1d(continued, **parameters, backend=backend)
        out = out.scatter(2, first, from_states[:, :, kept:])
    last = tokens.gather(2, rows_of(length - reached))
    return out, torch.cat([before[:, :, reached:], last], dim=2)


def _ordered_form(tensors: ConvTensors, activation: Activation | None) -> ConvForm:
    """Check the arguments of :func:`ordered_causal_conv1d`."""
    check_activation(activation)
    # torch.compile of torch 2.6 cannot follow _replace and _asdict
    named = {
        "x": tensors.x,
        "weight": tensors.weight,
        "bias": tensors.bias,
        "order": order_with_sample_axis(tensors.order),
    }
    given, has_directions = with_direction_axis(
        named,
        {"x": 3, "weight": 2, "bias": 1, "order": 2},
        required=("x", "weight"),
    )
    x = given["x"]
    sizes = check_shape(x, "R B L D", name="x")
    parameters = _check_parameters(
        x, given["weight"], given.get("bias"), axes="R ", channels=sizes["D"]
    )
    order = given.get("order")
    check_order_fits(order, x, like_name="x", batch=sizes["B"], length=sizes["L"])
    arguments = ConvArguments(
        x=x,
        weight=parameters.weight,
        bias=parameters.bias,
        order=order,
        silu=activation is not None,
        channels_first=False,
    )
    return ConvForm(arguments, has_directions)


def _ordered_plan(
    tensors: ConvTensors, activation: Activation | None, backend: str
) -> ConvPlan | None:
    return ConvPlan.of(tensors, _ordered_form(tensors, activation), backend)


_ORDERED_PLANS = Remembered(_ordered_plan)


def check_activation(activation: Any) -> None:
    """Check the name of what follows the convolution; a tensor is not printed whole."""
    if isinstance(activation, Tensor):
        raise TypeError(
            f"activation must be None, 'silu' or 'swish', got a tensor of shape "
            f"{tuple(activation.shape)}"
        )
    check_choice(activation, _ACTIVATIONS, name="activation")


def _mamba_ssm_runs(arguments: ConvArguments, backend: str) -> bool:
    """Say whether causal-conv1d's own op takes the place of ours."""
    if not arguments.x.is_cuda or torch.compiler.is_compiling():
        return False
    return choose("conv", backend, arguments.as_inputs()).name == "mamba-ssm"


class _Parameters(NamedTuple):
    """The parameters in the dtype of the arithmetic."""

    weight: Tensor
    bias: Tensor | None


def _check_parameters(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, axes: str, channels: int
) -> _Parameters:
    """Check the dtype of ``x``, and the parameters, whose leading axes are ``axes``."""
    check_floating(x, name="x")
    arithmetic = torch.float64 if x.dtype == torch.float64 else torch.float32

    def checked(parameter: Tensor, pattern: str, name: str) -> Tensor:
        check_shape(parameter, axes + pattern, name=name, D=channels)
        check_floating(parameter, name=name)
        check_same_device(parameter, x, name=name, like_name="x")
        return parameter.to(arithmetic)

    parameters = _Parameters(
        weight=checked(weight, "D W", "weight"),
        bias=None if bias is None else checked(bias, "D", "bias"),
    )
    if weight.shape[-1] < 1:
        raise ShapeError(
            f"weight must have W >= 1 taps as its last axis, got {tuple(weight.shape)}"
        )
    return parameters

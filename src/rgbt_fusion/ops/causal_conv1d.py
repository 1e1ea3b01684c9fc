"""The causal depthwise convolution with SiLU: causal-conv1d's op on ``(B, D, L)`` and the ordered,
token-major form."""

from typing import Any

import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError, check_choice
from rgbt_fusion.ops.arguments import (
    check_order_fits,
    check_permutation,
    lower_to_autocast,
    order_with_sample_axis,
    token_major,
    with_direction_axis,
)
from rgbt_fusion.ops.backends import BACKENDS, choose, load_mamba_ssm
from rgbt_fusion.ops.inputs import ConvGradients, ConvInputs
from rgbt_fusion.ops.registration import once_differentiable, register, without_autocast
from rgbt_fusion.shapes import check_floating, check_same_device, check_shape

__all__ = ["causal_conv1d", "ordered_causal_conv1d"]

ACTIVATIONS = (None, "silu", "swish")


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    backend: str = "auto",
) -> Tensor:
    r"""Convolve each channel of ``(B, D, L)`` with its own taps, causally: causal-conv1d's op, on
    every machine.

    .. math::
        y_t = f\Big(b + \sum_{w=0}^{W-1} k_w \, x_{t - (W - 1) + w}\Big), \qquad x_{t<0} = 0

    Where the paper is silent: W is 4 in Mamba; any number of taps works here.

    Args:
        x: the input sequence.
        weight: the taps of each channel; the last one meets the current token.
        bias: added to each channel.
        activation: ``"silu"`` (or its other name ``"swish"``), or None for the identity.
        backend: ``"auto"``, or the name of the one that must run.

    Shape:
        - x: ``(B, D, L)``, one of float32, bfloat16, float16, float64
        - weight: ``(D, W)``; bias: ``(D,)``
        - returns ``(B, D, L)`` in the dtype of ``x``

    Raises:
        ShapeError: a rank or size differs from the above.
        TypeError: a tensor is not of real floating-point numbers.
        ValueError: tensors lie on several devices, or ``activation`` or ``backend`` is unknown.
        BackendUnavailableError: the named backend cannot run; the message lists every backend's
            reasons.

    Example:
        >>> import torch
        >>> from rgbt_fusion import causal_conv1d
        >>> causal_conv1d(torch.randn(2, 8, 5), torch.randn(8, 4), activation="silu").shape
        torch.Size([2, 8, 5])

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, fig.
        3.
    """
    (x,) = lower_to_autocast(x)
    check_choice(activation, ACTIVATIONS, name="activation")
    sizes = check_shape(x, "B D L", name="x")
    weight, bias = _check_parameters(x, weight, bias, "D W", "D", sizes["D"])
    arguments = (x[None], weight[None], None if bias is None else bias[None], None)
    if x.is_cuda and not torch.compiler.is_compiling():
        inputs = _canonical(*arguments, activation is not None, True)
        if choose("conv", backend, inputs).name == "mamba-ssm":
            return load_mamba_ssm().causal_conv1d(x, weight, bias, activation)
    return torch.ops.rgbt_fusion.causal_conv1d(
        *arguments, activation is not None, True, False, backend
    )[0]


def ordered_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    order: Tensor | None = None,
    trusted_order: bool = False,
    backend: str = "auto",
) -> Tensor:
    r"""Convolve token-major sequences causally along one or several segment orders.

    The taps reach back in scan order, so across the border between two segments they meet the
    tokens visited before; results are written to the rows they belong to. The order table is that
    of :func:`~rgbt_fusion.ops.selective_scan.ordered_selective_scan`.

    .. math::
        y_{\pi(s)} = f\Big(b + \sum_{w=0}^{W-1} k_w \, x_{\pi(s - (W - 1) + w)}\Big), \qquad x_{\pi(s<0)} = 0

    Where the paper is silent: AINet's released code convolves the permuted sequence, so the taps
    cross segment borders.

    Args:
        x: the input sequence, shared by all directions or one each.
        weight: the taps of each channel; the last one meets the current token.
        bias: added to each channel.
        activation: ``"silu"`` (or its other name ``"swish"``), or None for the identity.
        order: the segment visited at each step, a permutation of ``0..K-1``; natural order when
            absent.
        trusted_order: ``order`` is known to hold permutations; skips the check, which on a GPU
            waits for the device.
        backend: ``"auto"``, or the name of the one that must run.

    Shape:
        - x: ``(B, L, D)`` or ``(R, B, L, D)``, one of float32, bfloat16, float16, float64
        - weight: ``(D, W)`` or ``(R, D, W)``; bias: ``(D,)`` or ``(R, D)``
        - order: ``(K,)``, ``(R, K)`` or ``(R, B, K)`` int64, with K dividing L
        - returns ``(B, L, D)``, or ``(R, B, L, D)`` when an argument has a direction axis

    Raises:
        ShapeError: a rank or size differs from the above.
        TypeError: a tensor has the wrong kind of dtype.
        ValueError: L is not divisible by K, ``order`` is not a permutation, tensors lie on several
            devices, or ``activation`` or ``backend`` is unknown.
        BackendUnavailableError: the named backend cannot run; the message lists every backend's
            reasons.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ordered_causal_conv1d
        >>> order = torch.tensor([[0, 1, 2], [2, 1, 0]])
        >>> ordered_causal_conv1d(torch.randn(2, 12, 8), torch.randn(8, 4), activation="silu", order=order).shape
        torch.Size([2, 2, 12, 8])

    Source:
        AINet (Lu et al., AAAI 2025), eq. 9-11: the convolution :math:`W_c` of each scan.
    """
    (x,) = lower_to_autocast(x)
    check_choice(activation, ACTIVATIONS, name="activation")
    tensors = {"x": x, "weight": weight, "bias": bias, "order": order_with_sample_axis(order)}
    ranks = {"x": 3, "weight": 2, "bias": 1, "order": 2}
    given, has_directions = with_direction_axis(tensors, ranks, required=("x", "weight"))
    x = given["x"]
    sizes = check_shape(x, "R B L D", name="x")
    weight, bias = _check_parameters(
        x, given["weight"], given.get("bias"), "R D W", "R D", sizes["D"]
    )
    order = given.get("order")
    check_order_fits(order, x, like_name="x", batch=sizes["B"], length=sizes["L"])
    check_order = order is not None and not trusted_order
    out = torch.ops.rgbt_fusion.causal_conv1d(
        x, weight, bias, order, activation is not None, False, check_order, backend
    )
    return out if has_directions else out[0]


def _check_parameters(
    x: Tensor, weight: Tensor, bias: Tensor | None, matrix: str, vector: str, channels: int
) -> tuple[Tensor, Tensor | None]:
    """Check the dtype of x and the kind, place and shape of the parameters; return them in the
    arithmetic's dtype."""
    check_floating(x, name="x")
    arithmetic = torch.float64 if x.dtype == torch.float64 else torch.float32
    check_shape(weight, matrix, name="weight", D=channels)
    if weight.shape[-1] < 1:
        raise ShapeError(
            f"weight must have W >= 1 taps as its last axis, got {tuple(weight.shape)}"
        )
    for parameter, name in ((weight, "weight"), (bias, "bias")):
        if parameter is not None:
            check_shape(parameter, matrix if name == "weight" else vector, name=name, D=channels)
            check_floating(parameter, name=name)
            check_same_device(parameter, x, name=name, like_name="x")
    return weight.to(arithmetic), None if bias is None else bias.to(arithmetic)


# The op itself: x is (R?, B, L, D), or with channels_first (R?, B, D, L).

_INPUTS = "Tensor x, Tensor weight, Tensor? bias, Tensor? order, bool silu, bool channels_first"
_LIBRARY = torch.library.Library("rgbt_fusion", "FRAGMENT")
_LIBRARY.define(f"causal_conv1d({_INPUTS}, bool check_order, str backend) -> Tensor")
_LIBRARY.define(
    f"causal_conv1d_backward(Tensor grad_out, {_INPUTS}, str backend) -> (Tensor, Tensor, Tensor)"
)


def _canonical(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    order: Tensor | None,
    silu: bool,
    channels_first: bool,
) -> ConvInputs:
    """View the op's arguments as every backend takes them; parameters, which are small, are made
    contiguous."""
    bias = bias if bias is None else bias.contiguous()
    order = order if order is None else order.contiguous()
    return ConvInputs(token_major(x, channels_first), weight.contiguous(), bias, order, silu)


def _allocate_out(inputs: ConvInputs, channels_first: bool) -> Tensor:
    _, batch, length, channels = inputs.x.shape
    rows = (channels, length) if channels_first else (length, channels)
    return inputs.x.new_empty(inputs.directions, batch, *rows)


def _allocate_gradients(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.shape),
        weight.new_empty(weight.shape),
        weight.new_empty(0 if bias is None else bias.shape),
    )


def _forward(*values: Any) -> Tensor:
    *arguments, check_order, backend = values
    channels_first = arguments[5]
    inputs = _canonical(*arguments)
    if check_order and inputs.order is not None:
        check_permutation(inputs.order)
    out = _allocate_out(inputs, channels_first)
    if out.numel():
        with without_autocast(inputs.x):
            module = choose("conv", backend, inputs, BACKENDS[1:]).load()
            module.conv_forward(inputs, token_major(out, channels_first))
    return out


def _forward_fake(*arguments: Any) -> Tensor:
    return _allocate_out(_canonical(*arguments[:6]), arguments[5])


def _backward(grad_out: Tensor, *values: Any) -> tuple[Tensor, Tensor, Tensor]:
    *arguments, backend = values
    channels_first = arguments[5]
    inputs = _canonical(*arguments)
    d_x, d_weight, d_bias = _allocate_gradients(*arguments[:3])
    if inputs.x.numel() == 0:
        return d_x.zero_(), d_weight.zero_(), d_bias.zero_()
    grads = ConvGradients(
        token_major(d_x, channels_first), d_weight, None if inputs.bias is None else d_bias
    )
    with without_autocast(inputs.x):
        module = choose("conv", backend, inputs, BACKENDS[1:]).load()
        module.conv_backward(inputs, token_major(grad_out, channels_first), grads)
    return d_x, d_weight, d_bias


def _backward_fake(grad_out: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _allocate_gradients(*arguments[:3])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = (*inputs[4:6], inputs[7])


def _autograd(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
    bias = ctx.saved_tensors[2]
    found = torch.ops.rgbt_fusion.causal_conv1d_backward(grad_out, *ctx.saved_tensors, *ctx.options)
    return found[0], found[1], None if bias is None else found[2], None, None, None, None, None


register(_LIBRARY, "causal_conv1d", _forward, _forward_fake, _autograd, _setup_context)
register(
    _LIBRARY,
    "causal_conv1d_backward",
    _backward,
    _backward_fake,
    once_differentiable("causal_conv1d"),
)

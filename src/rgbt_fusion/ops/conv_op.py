"""The registered op of the causal convolution: its schema, its kernels and its gradient.

Users call :func:`~rgbt_fusion.ops.causal_conv1d.causal_conv1d` and
:func:`~rgbt_fusion.ops.causal_conv1d.ordered_causal_conv1d`, which check and reshape. The op stands
behind both, so that compilers and exporters see one operation.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.ops.arguments import (
    callers_layout,
    check_permutation,
    empty_tokens,
    token_major,
    within_bounds,
)
from rgbt_fusion.ops.backends import BACKENDS_INSIDE_OPS, choose
from rgbt_fusion.ops.batching import Samples
from rgbt_fusion.ops.inputs import ConvGradients, ConvInputs
from rgbt_fusion.ops.op_checks import check_conv, check_result
from rgbt_fusion.ops.registration import once_differentiable, register, without_autocast

__all__ = [
    "ConvArguments",
    "allocate_gradients",
    "allocate_out",
    "conv_backward_op",
    "conv_op",
]


class ConvArguments(NamedTuple):
    """What both passes of the op are given, in the order of its schema.

    ``x`` is ``(R?, B, L, D)``, or with ``channels_first`` ``(R?, B, D, L)``; the parameters are
    those of :class:`~rgbt_fusion.ops.inputs.ConvInputs`.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    order: Tensor | None
    silu: bool
    channels_first: bool

    def as_inputs(self) -> ConvInputs:
        """View the arguments as every backend takes them.

        Tokens are never copied; parameters, which are small, are made contiguous.
        """
        return ConvInputs(
            x=token_major(self.x, self.channels_first),
            weight=self.weight.contiguous(),
            bias=None if self.bias is None else self.bias.contiguous(),
            order=None if self.order is None else self.order.contiguous(),
            silu=self.silu,
        )


_INPUTS = "Tensor x, Tensor weight, Tensor? bias, Tensor? order, bool silu, bool channels_first"
_LIBRARY = torch.library.Library("rgbt_fusion", "FRAGMENT")
_LIBRARY.define(f"causal_conv1d({_INPUTS}, bool check_order, str backend) -> Tensor")
_LIBRARY.define(
    f"causal_conv1d_backward(Tensor grad_out, {_INPUTS}, str backend) -> (Tensor, Tensor, Tensor)"
)


def allocate_out(inputs: ConvInputs, channels_first: bool) -> Tensor:
    """Return a place for the result, laid out as ``x``."""
    shape = (inputs.directions, *inputs.x.shape[1:])
    return empty_tokens(inputs.x, shape, channels_first)


def _forward(*values: Any) -> Tensor:
    *given, check_order, backend = values
    arguments = ConvArguments(*given)
    inputs = arguments.as_inputs()
    check_conv(inputs)
    if inputs.order is not None:
        if check_order:
            check_permutation(inputs.order)
        else:
            inputs = inputs._replace(order=within_bounds(inputs.order))
    out = allocate_out(inputs, arguments.channels_first)
    if out.numel():
        with without_autocast(inputs.x):
            chosen = choose("conv", backend, inputs, BACKENDS_INSIDE_OPS)
            chosen.load().conv_forward(inputs, out)
    return callers_layout(out, arguments.channels_first)


def _forward_fake(*values: Any) -> Tensor:
    *given, _, _ = values
    arguments = ConvArguments(*given)
    out = allocate_out(arguments.as_inputs(), arguments.channels_first)
    return callers_layout(out, arguments.channels_first)


def allocate_gradients(inputs: ConvInputs, channels_first: bool) -> ConvGradients:
    """Return a place for every gradient, laid out as its input; nothing for an absent bias."""
    return ConvGradients(
        x=empty_tokens(inputs.x, inputs.x.shape, channels_first),
        weight=inputs.weight.new_empty(inputs.weight.shape),
        bias=None if inputs.bias is None else inputs.bias.new_empty(inputs.bias.shape),
    )


def _gradients_in_callers_layout(
    gradients: ConvGradients, channels_first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the op returns: an empty tensor stands for the gradient of an absent bias."""
    d_x = callers_layout(gradients.x, channels_first)
    d_bias = gradients.weight.new_empty(0) if gradients.bias is None else gradients.bias
    return d_x, gradients.weight, d_bias


def _backward(grad_out: Tensor, *values: Any) -> tuple[Tensor, Tensor, Tensor]:
    *given, backend = values
    arguments = ConvArguments(*given)
    inputs = arguments.as_inputs()
    check_conv(inputs)
    if inputs.order is not None:
        inputs = inputs._replace(order=within_bounds(inputs.order))
    grad_out = token_major(grad_out, arguments.channels_first)
    check_result(grad_out, inputs.x, (inputs.directions, *inputs.x.shape[1:]), name="grad_out")
    gradients = allocate_gradients(inputs, arguments.channels_first)
    if inputs.x.numel() == 0:
        for gradient in gradients:
            if gradient is not None:
                gradient.zero_()
    else:
        with without_autocast(inputs.x):
            module = choose("conv", backend, inputs, BACKENDS_INSIDE_OPS).load()
            module.conv_backward(inputs, grad_out, gradients)
    return _gradients_in_callers_layout(gradients, arguments.channels_first)


def _backward_fake(grad_out: Tensor, *values: Any) -> tuple[Tensor, Tensor, Tensor]:
    *given, _ = values
    arguments = ConvArguments(*given)
    gradients = allocate_gradients(arguments.as_inputs(), arguments.channels_first)
    return _gradients_in_callers_layout(gradients, arguments.channels_first)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *given, _, ctx.backend = inputs
    arguments = ConvArguments(*given)
    ctx.options = (arguments.silu, arguments.channels_first)
    ctx.save_for_backward(arguments.x, arguments.weight, arguments.bias, arguments.order)


def _autograd(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
    # hooks on saved tensors allow them to be unpacked once
    arguments = ConvArguments(*ctx.saved_tensors, *ctx.options)
    d_x, d_weight, d_bias = conv_backward_op(grad_out, *arguments, ctx.backend)
    gradients: dict[str, Any] = dict.fromkeys(_FORWARD_NAMES)
    gradients["x"] = d_x
    gradients["weight"] = d_weight
    if arguments.bias is not None:
        gradients["bias"] = d_bias
    return tuple(gradients.values())


_FORWARD_NAMES = (*ConvArguments._fields, "check_order", "backend")
_TENSORS = (*ConvGradients._fields, "order")
"""The arguments that are tensors: those with a gradient, and the order."""


def _samples(count: int, arguments: ConvArguments, axes: ConvArguments) -> Samples:
    return Samples(
        count,
        {name: getattr(arguments, name) for name in _TENSORS},
        {name: getattr(axes, name) for name in _TENSORS},
    )


def _batched_forward(info: Any, axes: tuple[Any, ...], *values: Any) -> tuple[Any, Any]:
    *given, check_order, backend = values
    arguments = ConvArguments(*given)
    samples = _samples(info.batch_size, arguments, ConvArguments(*axes[: len(given)]))
    folded = arguments._replace(**samples.folded(shared=_TENSORS))
    return samples.unfold(conv_op(*folded, check_order, backend)), 0


def _batched_backward(info: Any, axes: tuple[Any, ...], *values: Any) -> tuple[Any, Any]:
    grad_out, *given, backend = values
    out_axis, *given_axes, _ = axes
    arguments = ConvArguments(*given)
    samples = _samples(info.batch_size, arguments, ConvArguments(*given_axes))
    # a shared tensor would have one gradient for all samples
    folded = arguments._replace(**samples.folded(shared={"order"}))
    found = conv_backward_op(samples.fold(grad_out, out_axis), *folded, backend)
    return samples.unfold_gradients(dict(zip(ConvGradients._fields, found, strict=True)))


conv_backward_op = register(
    _LIBRARY,
    "causal_conv1d_backward",
    kernel=_backward,
    fake=_backward_fake,
    batched=_batched_backward,
    backward=once_differentiable("causal_conv1d"),
)
conv_op = register(
    _LIBRARY,
    "causal_conv1d",
    kernel=_forward,
    fake=_forward_fake,
    batched=_batched_forward,
    backward=_autograd,
    setup_context=_setup_context,
)

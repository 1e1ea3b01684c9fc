"""The short way to the native convolution: its plan, and its gradient."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.ops.arguments import callers_layout, token_major
from rgbt_fusion.ops.conv_op import (
    ConvArguments,
    allocate_gradients,
    allocate_out,
    conv_backward_op,
)
from rgbt_fusion.ops.inputs import ConvGradients, ConvInputs
from rgbt_fusion.ops.native import backend as native
from rgbt_fusion.ops.op_checks import check_conv
from rgbt_fusion.ops.prepared import (
    OpCalls,
    Place,
    PreparedCall,
    blank,
    empty_at,
    is_plain_view,
    is_traced,
    native_is_chosen,
    needs_gradient,
    recorded,
    signature,
)

__all__ = ["ConvForm", "ConvPlan", "ConvTensors"]


class ConvTensors(NamedTuple):
    """The tensors of a call as the user gave them, in the order of the op."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    order: Tensor | None


class ConvForm(NamedTuple):
    """A public call, checked: the arguments of the op, and what becomes of its result."""

    arguments: ConvArguments
    has_directions: bool

    def public(self, out: Tensor) -> Tensor:
        """Return the op's result as a public function does."""
        return out if self.has_directions else out[0]


# Where a kernel finds its tensors: the inputs, then ``out`` or its gradient, then the gradients of
# the inputs.
_SLOT = {name: slot for slot, name in enumerate(ConvTensors._fields)}
_OUT = len(_SLOT)
_FIRST_GRADIENT = _OUT + 1


class ConvPlan:
    """How calls of one kind run."""

    @classmethod
    def of(cls, tensors: ConvTensors, form: ConvForm, backend: str) -> "ConvPlan | None":
        """Return the plan of a call that was checked, or None if it is not plain."""
        inputs = form.arguments.as_inputs()
        check_conv(inputs)
        for name, x in tensors._asdict().items():
            # a cast or a copy
            if not is_plain_view(getattr(inputs, name), x):
                return None
        if inputs.x.numel() == 0 or not native_is_chosen("conv", backend, inputs):
            return None
        return cls(tensors, form, inputs, backend)

    def __init__(
        self, tensors: ConvTensors, form: ConvForm, inputs: ConvInputs, backend: str
    ) -> None:
        channels_first = form.arguments.channels_first
        self._backend = backend
        self._signature = signature(tensors)
        self._op = OpCalls(form.arguments, tuple(_SLOT))
        self._inputs = inputs._replace(
            **{name: blank(getattr(inputs, name), slot) for name, slot in _SLOT.items()}
        )
        rows = allocate_out(inputs, channels_first)
        op_out = callers_layout(rows, channels_first)
        self._op_out_shape = op_out.shape
        self._out = Place.of(form.public(op_out))
        fields = native.conv_forward_fields(self._inputs, blank(rows, _OUT))
        self._forward_call = PreparedCall("conv_forward", fields)
        gradients = allocate_gradients(inputs, channels_first)
        self._gradient_blanks = ConvGradients(
            x=blank(gradients.x, _FIRST_GRADIENT),
            weight=blank(gradients.weight, _FIRST_GRADIENT + 1),
            bias=blank(gradients.bias, _FIRST_GRADIENT + 2),
        )
        d_x = callers_layout(gradients.x, channels_first)
        self._d_x = Place.of(d_x.view(tensors.x.shape))
        self._backward_calls: dict[Hashable, PreparedCall] = {}

    def __call__(self, tensors: ConvTensors, *, check_order: bool) -> Tensor:
        """Convolve, with the shape that the public function returns."""
        if tensors.order is not None:
            order = self._op.safe_order(tensors.order, check=check_order)
            tensors = tensors._replace(order=order)
        with recorded("causal_conv1d"):
            if needs_gradient(tensors):
                return _PreparedConvolution.apply(self, *tensors)  # pyright: ignore
            return self.forward(tensors)

    def forward(self, tensors: Sequence[Any]) -> Tensor:
        """Convolve."""
        out = empty_at(tensors[0], self._out)
        self._forward_call((*tensors, out))
        return out

    def backward(self, tensors: ConvTensors, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the tensors."""
        call = self._backward_call(tensors, grad_out)
        if call is None:
            return self._backward_by_the_op(tensors, grad_out)
        d_x = empty_at(tensors.x, self._d_x)
        d_weight = torch.empty_like(tensors.weight)
        d_bias = None if tensors.bias is None else torch.empty_like(tensors.bias)
        call((*tensors, grad_out, d_x, d_weight, d_bias))
        return d_x, d_weight, d_bias, None

    def _backward_call(self, tensors: ConvTensors, grad_out: Tensor) -> PreparedCall | None:
        """Return the short way, if there is one."""
        if torch.is_grad_enabled() or is_traced():
            return None
        # hooks on saved tensors may have given them another layout
        if signature(tensors) != self._signature:
            return None
        of_gradient = signature((grad_out,))
        if of_gradient is None:
            return None
        key = (native.settings(), *of_gradient)
        if key not in self._backward_calls:
            self._backward_calls[key] = self._prepare_backward(grad_out)
        return self._backward_calls[key]

    def _prepare_backward(self, grad_out: Tensor) -> PreparedCall:
        rows = token_major(grad_out.view(self._op_out_shape), self._op.channels_first)
        fields = native.conv_backward_fields(self._inputs, blank(rows, _OUT), self._gradient_blanks)
        return PreparedCall("conv_backward", fields)

    def _backward_by_the_op(
        self, tensors: ConvTensors, grad_out: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients by the long way, which has every message."""
        arguments = self._op.arguments(tensors)
        d_x, d_weight, d_bias = conv_backward_op(
            grad_out.reshape(self._op_out_shape), *arguments, self._backend
        )
        return (
            d_x.reshape(tensors.x.shape),
            d_weight.reshape(tensors.weight.shape),
            None if tensors.bias is None else d_bias.reshape(tensors.bias.shape),
            None,
        )


class _PreparedConvolution(torch.autograd.Function):
    """The gradient of a prepared convolution."""

    @staticmethod
    def forward(ctx: Any, plan: ConvPlan, *tensors: Any) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(*tensors)
        return plan.forward(tensors)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return None, *ctx.plan.backward(ConvTensors(*ctx.saved_tensors), *grad_outputs)

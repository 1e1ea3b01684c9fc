"""The short way to the native scan: its plan, and its gradient."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.ops.arguments import callers_layout, token_major
from rgbt_fusion.ops.inputs import ScanGradients, ScanInputs, ScanResults
from rgbt_fusion.ops.native import backend as native
from rgbt_fusion.ops.op_checks import check_scan
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
    shaped,
    signature,
)
from rgbt_fusion.ops.scan_op import (
    ScanArguments,
    allocate_gradients,
    allocate_results,
    scan_backward_op,
)

__all__ = ["ScanCallTensors", "ScanForm", "ScanPlan"]


class ScanCallTensors(NamedTuple):
    """The tensors of a call as the user gave them, in the order of the op."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    readout: Tensor | None
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    order: Tensor | None
    initial_state: Tensor | None


class ScanForm(NamedTuple):
    """A public call, checked: the arguments of the op, and what becomes of its results."""

    arguments: ScanArguments
    has_directions: bool

    def public(self, out: Tensor, last_state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the op's results as a public function does."""
        if not self.has_directions:
            return out[0], last_state[0]
        return (out[0] if self.arguments.merge else out), last_state


# Where a kernel finds its tensors: the inputs, then ``out``, ``last_state`` and the checkpoints or
# their gradients, then the gradients of the inputs.
_SLOT = {name: slot for slot, name in enumerate(ScanCallTensors._fields)}
_OUT = len(_SLOT)
_LAST_STATE = _OUT + 1
_CHECKPOINTS = _OUT + 2
_FIRST_GRADIENT = _OUT + 3


class ScanPlan:
    """How calls of one kind run."""

    @classmethod
    def of(cls, tensors: ScanCallTensors, form: ScanForm, backend: str) -> "ScanPlan | None":
        """Return the plan of a call that was checked, or None if it is not plain."""
        inputs = form.arguments.as_inputs()
        check_scan(inputs)
        for name, x in tensors._asdict().items():
            # a cast, a copy or a number of groups of its own
            if not is_plain_view(getattr(inputs, name), x):
                return None
        if inputs.u.numel() == 0 or not native_is_chosen("scan", backend, inputs):
            return None
        return cls(tensors, form, inputs, backend)

    def __init__(
        self, tensors: ScanCallTensors, form: ScanForm, inputs: ScanInputs, backend: str
    ) -> None:
        channels_first = form.arguments.channels_first
        self._backend = backend
        self._signature = signature(tensors)
        self._op = OpCalls(form.arguments, tuple(_SLOT))
        self._inputs = inputs._replace(
            **{name: blank(getattr(inputs, name), slot) for name, slot in _SLOT.items()}
        )
        results = allocate_results(inputs, channels_first=channels_first, keep_states=True)
        op_out = callers_layout(results.out, channels_first)
        out, last_state = form.public(op_out, results.last_state)
        self._op_out_shape = op_out.shape
        self._op_last_state_shape = results.last_state.shape
        self._out = Place.of(out)
        self._last_state = Place.of(last_state)
        self._checkpoints = Place.of(results.checkpoints)
        blanks = ScanResults(
            out=blank(results.out, _OUT),
            last_state=blank(results.last_state, _LAST_STATE),
            checkpoints=blank(results.checkpoints, _CHECKPOINTS),
        )
        self._keeping_states = PreparedCall(
            "scan_forward", native.scan_forward_fields(self._inputs, blanks)
        )
        blanks = blanks._replace(checkpoints=results.checkpoints[:, :, :0])
        self._without_states = PreparedCall(
            "scan_forward", native.scan_forward_fields(self._inputs, blanks)
        )
        gradients = allocate_gradients(inputs, channels_first)
        self._gradient_blanks = ScanGradients(
            **{
                name: blank(gradient, _FIRST_GRADIENT + _SLOT[name])
                for name, gradient in gradients._asdict().items()
            }
        )
        self._gradient_places = _places_of_gradients(tensors, gradients, channels_first)
        self._backward_calls: dict[Hashable, PreparedCall | None] = {}

    def __call__(self, tensors: ScanCallTensors, *, check_order: bool) -> tuple[Tensor, Tensor]:
        """Return ``out`` and ``last_state`` as the public functions do."""
        if tensors.order is not None:
            order = self._op.safe_order(tensors.order, check=check_order)
            tensors = tensors._replace(order=order)
        with recorded("selective_scan"):
            if needs_gradient(tensors):
                return _PreparedScan.apply(self, *tensors)  # pyright: ignore
            out, last_state, _ = self.forward(tensors, keep_states=False)
        return out, last_state

    def forward(
        self, tensors: Sequence[Any], *, keep_states: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return ``out``, ``last_state`` and the checkpoints."""
        u, _, A, *_ = tensors
        out = empty_at(u, self._out)
        last_state = empty_at(A, self._last_state)
        if not keep_states:
            self._without_states((*tensors, out, last_state))
            return out, last_state, None
        checkpoints = empty_at(A, self._checkpoints)
        self._keeping_states((*tensors, out, last_state, checkpoints))
        return out, last_state, checkpoints

    def backward(
        self,
        tensors: Sequence[Any],
        checkpoints: Tensor,
        grad_out: Tensor | None,
        grad_last_state: Tensor | None,
    ) -> list[Tensor | None]:
        """Return the gradients of the tensors."""
        call = self._backward_call(tensors, checkpoints, grad_out, grad_last_state)
        if call is None:
            return self._backward_by_the_op(tensors, checkpoints, grad_out, grad_last_state)
        gradients = [
            None if place is None else empty_at(x, place)
            for x, place in zip(tensors, self._gradient_places, strict=True)
        ]
        call((*tensors, grad_out, grad_last_state, checkpoints, *gradients))
        return gradients

    def _backward_call(
        self,
        tensors: Sequence[Any],
        checkpoints: Tensor,
        grad_out: Tensor | None,
        grad_last_state: Tensor | None,
    ) -> PreparedCall | None:
        """Return the short way, if there is one."""
        if torch.is_grad_enabled() or is_traced():
            return None
        # hooks on saved tensors may have given them another layout
        if signature(tensors) != self._signature or not checkpoints.is_contiguous():
            return None
        of_gradients = signature((grad_out, grad_last_state))
        if grad_out is None or of_gradients is None:
            return None
        key = (native.settings(), *of_gradients)
        if key not in self._backward_calls:
            self._backward_calls[key] = self._prepare_backward(grad_out, grad_last_state)
        return self._backward_calls[key]

    def _prepare_backward(
        self, grad_out: Tensor, grad_last_state: Tensor | None
    ) -> PreparedCall | None:
        if grad_last_state is not None and not grad_last_state.is_contiguous():
            return None
        rows = token_major(grad_out.view(self._op_out_shape), self._op.channels_first)
        kept = torch.empty(self._checkpoints.shape, device="meta")
        fields = native.scan_backward_fields(
            self._inputs,
            blank(kept, _CHECKPOINTS),
            blank(rows, _OUT),
            blank(grad_last_state, _LAST_STATE),
            self._gradient_blanks,
        )
        return PreparedCall("scan_backward", fields)

    def _backward_by_the_op(
        self,
        tensors: Sequence[Any],
        checkpoints: Tensor,
        grad_out: Tensor | None,
        grad_last_state: Tensor | None,
    ) -> list[Tensor | None]:
        """Return the gradients by the long way, which has every message."""
        arguments = self._op.arguments(tensors)
        found = scan_backward_op(
            shaped(grad_out, self._op_out_shape),
            shaped(grad_last_state, self._op_last_state_shape),
            checkpoints,
            *arguments,
            self._backend,
        )
        by_name = dict(zip(ScanGradients._fields, found, strict=True))
        gradients: list[Tensor | None] = []
        for name, x in zip(_SLOT, tensors, strict=True):
            gradient = None if x is None else by_name.get(name)
            gradients.append(None if gradient is None else gradient.reshape(x.shape))
        return gradients


def _places_of_gradients(
    tensors: ScanCallTensors, gradients: ScanGradients, channels_first: bool
) -> list[Place | None]:
    """Return where the gradient of each tensor goes, shaped as the tensor."""
    places: list[Place | None] = []
    for name, x in tensors._asdict().items():
        gradient = getattr(gradients, name, None)
        if x is None or gradient is None:
            places.append(None)
            continue
        if name in ("u", "delta", "B", "C", "z"):
            gradient = callers_layout(gradient, channels_first)
        places.append(Place.of(gradient.view(x.shape)))
    return places


class _PreparedScan(torch.autograd.Function):
    """The gradient of a prepared scan."""

    @staticmethod
    def forward(ctx: Any, plan: ScanPlan, *tensors: Any) -> tuple[Tensor, Tensor]:
        out, last_state, checkpoints = plan.forward(tensors, keep_states=True)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(checkpoints, *tensors)
        return out, last_state

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        checkpoints, *tensors = ctx.saved_tensors
        return None, *ctx.plan.backward(tensors, checkpoints, *grad_outputs)

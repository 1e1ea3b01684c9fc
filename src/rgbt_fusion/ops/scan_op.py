"""The registered op of the selective scan: its schema, its kernels and its gradient.

Users call :func:`~rgbt_fusion.ops.selective_scan.selective_scan` and
:func:`~rgbt_fusion.ops.selective_scan.ordered_selective_scan`, which check and reshape. The op
stands behind both, so that compilers and exporters see one operation.
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
from rgbt_fusion.ops.inputs import ScanGradients, ScanInputs, ScanResults, checkpoint_steps
from rgbt_fusion.ops.op_checks import check_result, check_scan
from rgbt_fusion.ops.registration import once_differentiable, register, without_autocast

__all__ = [
    "ScanArguments",
    "allocate_gradients",
    "allocate_results",
    "scan_backward_op",
    "scan_op",
]


class ScanArguments(NamedTuple):
    """What both passes of the op are given, in the order of its schema.

    The tensors carry the direction axis and stand in the caller's layout: ``(R?, B, L, D)`` and
    ``(R?, B, L, G, N)``, or with ``channels_first`` ``(R?, B, D, L)`` and ``(R?, B, G, N, L)``.
    The parameters are those of :class:`~rgbt_fusion.ops.inputs.ScanInputs`.
    """

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
    delta_softplus: bool
    merge: bool
    channels_first: bool

    def as_inputs(self) -> ScanInputs:
        """View the arguments as every backend takes them.

        Tokens are never copied; parameters, which are small, are made contiguous.
        """
        return ScanInputs(
            u=token_major(self.u, self.channels_first),
            delta=token_major(self.delta, self.channels_first),
            A=self.A.contiguous(),
            B=token_major(self.B, self.channels_first),
            C=token_major(self.C, self.channels_first),
            readout=_contiguous(self.readout),
            D=_contiguous(self.D),
            z=None if self.z is None else token_major(self.z, self.channels_first),
            delta_bias=_contiguous(self.delta_bias),
            order=_contiguous(self.order),
            initial_state=_contiguous(self.initial_state),
            delta_softplus=self.delta_softplus,
            merge=self.merge,
        )


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


_TOKENS = frozenset({"u", "delta", "B", "C", "z"})
"""The arguments that vary over tokens, and so have a layout."""

_TENSORS = (*ScanGradients._fields, "order")
"""The arguments that are tensors: those with a gradient, and the order."""

_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? readout, Tensor? D, Tensor? z, "
    "Tensor? delta_bias, Tensor? order, Tensor? initial_state, bool delta_softplus, bool merge, "
    "bool channels_first"
)
_LIBRARY = torch.library.Library("rgbt_fusion", "FRAGMENT")
_LIBRARY.define(
    f"selective_scan({_INPUTS}, bool check_order, bool keep_states, str backend) -> "
    "(Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "selective_scan_backward(Tensor? grad_out, Tensor? grad_last_state, Tensor checkpoints, "
    f"{_INPUTS}, str backend) -> "
    f"({', '.join(['Tensor'] * len(ScanGradients._fields))})"
)


class _Shapes(NamedTuple):
    """The shapes of :class:`~rgbt_fusion.ops.inputs.ScanResults`."""

    out: tuple[int, ...]
    last_state: tuple[int, ...]
    checkpoints: tuple[int, ...]


def _result_shapes(inputs: ScanInputs, *, keep_states: bool) -> _Shapes:
    _, batch, length, channels = inputs.u.shape
    directions, states = inputs.directions, inputs.A.shape[2]
    kept = -(-length // checkpoint_steps(inputs.u.device)) if keep_states else 0
    outputs = 1 if inputs.merge else directions
    return _Shapes(
        out=(outputs, batch, length, channels),
        last_state=(directions, batch, channels, states),
        checkpoints=(directions, batch, kept, states, channels),
    )


def allocate_results(inputs: ScanInputs, *, channels_first: bool, keep_states: bool) -> ScanResults:
    """Return a place for every result, ``out`` laid out as ``u``."""
    shapes = _result_shapes(inputs, keep_states=keep_states)
    return ScanResults(
        out=empty_tokens(inputs.u, shapes.out, channels_first),
        last_state=inputs.A.new_empty(shapes.last_state),
        checkpoints=inputs.A.new_empty(shapes.checkpoints),
    )


def _in_callers_layout(results: ScanResults, channels_first: bool) -> tuple[Tensor, ...]:
    return (
        callers_layout(results.out, channels_first),
        results.last_state,
        results.checkpoints,
    )


def _forward(*values: Any) -> tuple[Tensor, ...]:
    *given, check_order, keep_states, backend = values
    arguments = ScanArguments(*given)
    inputs = arguments.as_inputs()
    check_scan(inputs)
    if inputs.order is not None:
        if check_order:
            check_permutation(inputs.order)
        else:
            inputs = inputs._replace(order=within_bounds(inputs.order))
    channels_first = arguments.channels_first
    results = allocate_results(inputs, channels_first=channels_first, keep_states=keep_states)
    if results.out.numel() == 0:
        results.last_state.zero_()
        if inputs.initial_state is not None:
            results.last_state.copy_(inputs.initial_state)
    else:
        with without_autocast(inputs.u):
            chosen = choose("scan", backend, inputs, BACKENDS_INSIDE_OPS)
            chosen.load().scan_forward(inputs, results)
    return _in_callers_layout(results, channels_first)


def _forward_fake(*values: Any) -> tuple[Tensor, ...]:
    *given, _, keep_states, _ = values
    arguments = ScanArguments(*given)
    channels_first = arguments.channels_first
    results = allocate_results(
        arguments.as_inputs(), channels_first=channels_first, keep_states=keep_states
    )
    return _in_callers_layout(results, channels_first)


def allocate_gradients(inputs: ScanInputs, channels_first: bool) -> ScanGradients:
    """Return a place for every gradient, laid out as its input; nothing for an absent input."""
    places = {}
    for name in ScanGradients._fields:
        x = getattr(inputs, name)
        if x is None:
            places[name] = None
        elif name in _TOKENS:
            places[name] = empty_tokens(x, x.shape, channels_first)
        else:
            places[name] = x.new_empty(x.shape)
    return ScanGradients(**places)


def _gradients_in_callers_layout(
    gradients: ScanGradients, inputs: ScanInputs, channels_first: bool
) -> tuple[Tensor, ...]:
    """Return what the op returns: an empty tensor stands for the gradient of an absent input."""
    found = []
    for name, gradient in gradients._asdict().items():
        if gradient is None:
            gradient = inputs.u.new_empty(0)
        elif name in _TOKENS:
            gradient = callers_layout(gradient, channels_first)
        found.append(gradient)
    return tuple(found)


def _backward(
    grad_out: Tensor | None, grad_last_state: Tensor | None, checkpoints: Tensor, *values: Any
) -> tuple[Tensor, ...]:
    *given, backend = values
    arguments = ScanArguments(*given)
    inputs = arguments.as_inputs()
    check_scan(inputs)
    if inputs.order is not None:
        inputs = inputs._replace(order=within_bounds(inputs.order))
    shapes = _result_shapes(inputs, keep_states=True)
    check_result(checkpoints, inputs.A, shapes.checkpoints, name="checkpoints")
    # under vmap all samples may share one
    checkpoints = checkpoints.contiguous()
    channels_first = arguments.channels_first
    if grad_last_state is not None:
        check_result(grad_last_state, inputs.A, shapes.last_state, name="grad_last_state")
        grad_last_state = grad_last_state.contiguous()
    if grad_out is None:
        grad_out = inputs.u.new_zeros(()).expand(shapes.out)
    else:
        grad_out = token_major(grad_out, channels_first)
        check_result(grad_out, inputs.u, shapes.out, name="grad_out")
    gradients = allocate_gradients(inputs, channels_first)
    if inputs.u.numel() == 0:
        _write_gradients_of_nothing(gradients, grad_last_state)
    else:
        with without_autocast(inputs.u):
            module = choose("scan", backend, inputs, BACKENDS_INSIDE_OPS).load()
            module.scan_backward(inputs, checkpoints, grad_out, grad_last_state, gradients)
    return _gradients_in_callers_layout(gradients, inputs, channels_first)


def _write_gradients_of_nothing(gradients: ScanGradients, grad_last_state: Tensor | None) -> None:
    """Without tokens or samples all is zero, but the last state is the initial one."""
    for gradient in gradients:
        if gradient is not None:
            gradient.zero_()
    initial = gradients.initial_state
    if initial is not None and grad_last_state is not None:
        initial.copy_(grad_last_state.sum_to_size(initial.shape))


def _backward_fake(
    grad_out: Tensor | None, grad_last_state: Tensor | None, checkpoints: Tensor, *values: Any
) -> tuple[Tensor, ...]:
    *given, _ = values
    arguments = ScanArguments(*given)
    inputs = arguments.as_inputs()
    gradients = allocate_gradients(inputs, arguments.channels_first)
    return _gradients_in_callers_layout(gradients, inputs, arguments.channels_first)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *given, _, ctx.keep_states, ctx.backend = inputs
    arguments = ScanArguments(*given)
    _, _, checkpoints = output
    ctx.set_materialize_grads(False)
    ctx.options = (arguments.delta_softplus, arguments.merge, arguments.channels_first)
    ctx.save_for_backward(checkpoints, *given[: -len(ctx.options)])


def _autograd(
    ctx: Any, grad_out: Tensor | None, grad_last_state: Tensor | None, _: Any
) -> tuple[Any, ...]:
    if not ctx.keep_states:
        raise RuntimeError(
            "keep_states must be on where a gradient is wanted, got keep_states=False"
        )
    checkpoints, *tensors = ctx.saved_tensors
    arguments = ScanArguments(*tensors, *ctx.options)
    found = scan_backward_op(grad_out, grad_last_state, checkpoints, *arguments, ctx.backend)
    gradients: dict[str, Any] = dict.fromkeys(_FORWARD_NAMES)
    for name, gradient in zip(ScanGradients._fields, found, strict=True):
        if getattr(arguments, name) is not None:
            gradients[name] = gradient
    return tuple(gradients.values())


_FORWARD_NAMES = (*ScanArguments._fields, "check_order", "keep_states", "backend")


def _samples(count: int, arguments: ScanArguments, axes: ScanArguments) -> Samples:
    return Samples(
        count,
        {name: getattr(arguments, name) for name in _TENSORS},
        {name: getattr(axes, name) for name in _TENSORS},
    )


def _batched_forward(info: Any, axes: tuple[Any, ...], *values: Any) -> tuple[Any, Any]:
    *given, check_order, keep_states, backend = values
    arguments = ScanArguments(*given)
    samples = _samples(info.batch_size, arguments, ScanArguments(*axes[: len(given)]))
    folded = arguments._replace(**samples.folded(shared=_TENSORS), merge=False)
    out, last_state, checkpoints = scan_op(*folded, check_order, keep_states, backend)
    results = (
        samples.unfold(out, add_directions=arguments.merge),
        samples.unfold(last_state),
        samples.unfold(checkpoints),
    )
    return results, (0, 0, 0)


def _batched_backward(info: Any, axes: tuple[Any, ...], *values: Any) -> tuple[Any, Any]:
    grad_out, grad_last_state, checkpoints, *given, backend = values
    out_axis, last_axis, checkpoints_axis, *given_axes, _ = axes
    arguments = ScanArguments(*given)
    samples = _samples(info.batch_size, arguments, ScanArguments(*given_axes))
    # a shared tensor would have one gradient for all samples
    folded = arguments._replace(**samples.folded(shared={"order"}), merge=False)
    found = scan_backward_op(
        samples.fold(grad_out, out_axis),
        samples.fold(grad_last_state, last_axis),
        samples.fold(checkpoints, checkpoints_axis),
        *folded,
        backend,
    )
    return samples.unfold_gradients(dict(zip(ScanGradients._fields, found, strict=True)))


scan_backward_op = register(
    _LIBRARY,
    "selective_scan_backward",
    kernel=_backward,
    fake=_backward_fake,
    batched=_batched_backward,
    backward=once_differentiable("selective_scan"),
)
scan_op = register(
    _LIBRARY,
    "selective_scan",
    kernel=_forward,
    fake=_forward_fake,
    batched=_batched_forward,
    backward=_autograd,
    setup_context=_setup_context,
)

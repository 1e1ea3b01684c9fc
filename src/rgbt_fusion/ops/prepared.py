"""The short way to the native kernels, for calls like one that was made before.

The checks of the ops look at types, shapes, strides and dtypes, never at values. A call that has
all of these in common with an earlier one needs no second look: the struct that the kernel reads is
kept, and only the addresses change. What is not plain takes the long way through the registered op:
other devices and backends, subclasses of Tensor, and whatever torch traces or transforms.
"""

import os
from array import array
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rgbt_fusion.ops.arguments import check_permutation, within_bounds
from rgbt_fusion.ops.backends import BACKEND_VARIABLE, BACKENDS_INSIDE_OPS, choose
from rgbt_fusion.ops.inputs import ConvInputs, ScanInputs
from rgbt_fusion.ops.native import backend as native
from rgbt_fusion.ops.native.memory import empty_strided

__all__ = [
    "OpCalls",
    "Place",
    "PreparedCall",
    "Remembered",
    "blank",
    "empty_at",
    "forget_every_plan",
    "is_plain_view",
    "is_traced",
    "native_is_chosen",
    "needs_gradient",
    "recorded",
    "shaped",
    "signature",
]


def is_traced() -> bool:
    """Say whether torch must see the op: it compiles, exports, transforms or watches."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
    )


_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def signature(tensors: Sequence[Any]) -> list[Hashable] | None:
    """Return all that a check looks at, or None where a tensor is not a plain one on the CPU."""
    result: list[Hashable] = []
    for x in tensors:
        if x is None:
            result.append(None)
        elif type(x) in _PLAIN_TYPES and x.is_cpu and x.layout is torch.strided:
            result += (x.shape, x.stride(), x.dtype)
        else:
            return None
    return result


Plan = TypeVar("Plan")


class Remembered(Generic[Plan]):
    """The plans of earlier calls, by all that decides how a call runs.

    Args:
        make: checks the tensors and the options of a call as the long way does, and returns its
            plan, or None if the call is not plain.
    """

    MOST = 2048
    """How many kinds of calls are remembered; then all are forgotten."""

    def __init__(self, make: Callable[..., Plan | None]) -> None:
        self._make = make
        self._plans: dict[Hashable, Plan | None] = {}
        _EVERY.append(self)

    def plan(self, tensors: Sequence[Any], *options: Any) -> Plan | None:
        """Return the plan of a call, or None if it must take the long way."""
        if is_traced():
            return None
        of_tensors = signature(tensors)
        if of_tensors is None:
            return None
        key = (*options, os.environ.get(BACKEND_VARIABLE), native.settings(), *of_tensors)
        try:
            return self._plans[key]
        except KeyError:
            pass
        except TypeError:  # an option that is no option
            return None
        plan = self._make(tensors, *options)
        if len(self._plans) >= self.MOST:
            self._plans.clear()
        self._plans[key] = plan
        return plan

    def forget(self) -> None:
        """Forget all plans."""
        self._plans.clear()


_EVERY: list[Remembered[Any]] = []


def forget_every_plan() -> None:
    """Let every next call be checked again: something else than a call decides now how it runs."""
    for remembered in _EVERY:
        remembered.forget()


def is_plain_view(prepared: Tensor | None, given: Tensor | None) -> bool:
    """Say whether what a kernel reads is the caller's memory, element for element."""
    if prepared is None or given is None:
        return prepared is given
    same_memory = prepared.data_ptr() == given.data_ptr() and prepared.dtype == given.dtype
    return same_memory and prepared.numel() == given.numel()


def native_is_chosen(op: str, backend: str, inputs: ScanInputs | ConvInputs) -> bool:
    """Say whether the native kernels run a call; raise if nothing can."""
    return choose(op, backend, inputs, BACKENDS_INSIDE_OPS).name == "native"


def shaped(x: Tensor | None, shape: Sequence[int] | None) -> Tensor | None:
    """Return ``x`` with a shape, None for None."""
    return None if x is None or shape is None else x.reshape(shape)


def recorded(name: str) -> AbstractContextManager[Any]:
    """Show a call to torch's profiler, which sees registered ops by itself."""
    if torch.autograd.profiler._is_profiler_enabled:
        return torch.profiler.record_function(f"rgbt_fusion::{name}")
    return _NOT_RECORDED


_NOT_RECORDED = nullcontext()


class Place(NamedTuple):
    """The shape and the strides of a tensor to come."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor) -> "Place":
        return cls(tuple(x.shape), x.stride())


def empty_at(like: Tensor, place: Place) -> Tensor:
    """Return an empty tensor of the dtype of ``like``."""
    return empty_strided(like, place.shape, place.stride)


class OpCalls:
    """The calls of a registered op that a plan stands for: all of their arguments but the tensors.

    Args:
        arguments: those of one call.
        tensors: the names of the tensors among them, in the order of a plan.
    """

    def __init__(self, arguments: Any, tensors: Sequence[str]) -> None:
        self.channels_first: bool = arguments.channels_first
        self._rest = arguments._replace(**dict.fromkeys(tensors))
        self._shapes: dict[str, tuple[int, ...] | None] = {}
        for name in tensors:
            x = getattr(arguments, name)
            self._shapes[name] = None if x is None else tuple(x.shape)

    def arguments(self, tensors: Sequence[Any]) -> Any:
        """Return the arguments of the op for a call with these tensors."""
        of_op = {}
        for (name, shape), x in zip(self._shapes.items(), tensors, strict=True):
            of_op[name] = shaped(x, shape)
        return self._rest._replace(**of_op)

    def safe_order(self, order: Tensor, *, check: bool) -> Tensor:
        """Return an order that names every segment once, or at least no row outside."""
        if not check:
            return within_bounds(order)
        check_permutation(order.view(cast(tuple[int, ...], self._shapes["order"])))
        return order


def needs_gradient(tensors: Sequence[Any]) -> bool:
    """Say whether autograd must know of a call."""
    if torch.is_grad_enabled():
        for x in tensors:
            if x is not None and x.requires_grad:
                return True
    return False


class _Blank:
    """Stands for a tensor of which all is known but the address."""

    def __init__(self, like: Tensor, slot: int) -> None:
        self.shape = like.shape
        self.dtype = like.dtype
        self._stride = like.stride()
        self._slot = slot

    def stride(self, axis: int | None = None) -> Any:
        return self._stride if axis is None else self._stride[axis]

    def data_ptr(self) -> int:
        return _FIRST_SLOT + self._slot


def blank(like: Tensor | None, slot: int) -> Any:
    """Return what stands for a tensor while a struct is packed, None for None.

    Args:
        like: has the shape, the strides and the dtype.
        slot: where the tensor will stand among those that a call is given.
    """
    return None if like is None else _Blank(like, slot)


_FIRST_SLOT = 2**62
"""No address, size or stride is as large: a field from here on is the slot of an address."""


class PreparedCall:
    """A kernel and its struct, in which only addresses are missing."""

    def __init__(self, kernel: str, fields: Sequence[int]) -> None:
        self._kernel = kernel
        self._slots: list[tuple[int, int]] = []
        self._fields = array("q", fields)
        for place, field in enumerate(fields):
            if field >= _FIRST_SLOT:
                self._slots.append((place, field - _FIRST_SLOT))

    def __call__(self, tensors: Sequence[Tensor | None]) -> None:
        """Call the kernel on the tensors, each at its slot."""
        fields = self._fields[:]
        for place, slot in self._slots:
            fields[place] = cast(Tensor, tensors[slot]).data_ptr()
        native.call(self._kernel, fields.tobytes())

"""How an op is registered with torch: kernels, gradient, batching, autocast and torch.func."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["Op", "once_differentiable", "register", "without_autocast"]


class Op:
    """A registered op, which torch.func's transforms may differentiate as well.

    Under a transform the op is called through an ``autograd.Function``, because torch.func does not
    look into the gradient that is registered with the op itself.
    """

    def __init__(self, overload: Callable[..., Any], function: type[torch.autograd.Function]):
        self._overload = overload
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        if not torch.compiler.is_compiling() and _is_transformed():
            return self._function.apply(*arguments)
        return self._overload(*arguments)


def _is_transformed() -> bool:
    """Say whether a transform of torch.func, or a level of dual numbers, is active."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def register(
    library: torch.library.Library,
    name: str,
    *,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    batched: Callable[..., Any],
    backward: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
) -> Op:
    """Register the implementation of an op that ``library`` defines.

    ``Library.impl`` costs a fifth of what ``torch.library.custom_op`` costs per call; at batch 1
    that is as much as a kernel.

    Args:
        library: where the op is defined.
        name: of the op, without its namespace.
        kernel: computes on tensors with values.
        fake: computes on tensors without values.
        batched: the rule of ``torch.func.vmap``, as an ``autograd.Function`` has it.
        backward: the gradient, from a context and the gradients of the results.
        setup_context: fills the context from the arguments and the results.

    Returns:
        The op, to be called by the functions of this library.
    """
    qualified = f"rgbt_fusion::{name}"
    library.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(qualified, fake, lib=library)
    autograd: Any = _RefusingForwardMode(library)
    torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=autograd)
    overload = getattr(torch.ops.rgbt_fusion, name).default

    def refuse(ctx: Any, *tangents: Any) -> None:
        raise _no_forward_mode(name)

    members = {
        "forward": staticmethod(overload),
        "setup_context": staticmethod(setup_context or _keep_nothing),
        "backward": staticmethod(backward),
        "jvp": staticmethod(refuse),
        "vmap": staticmethod(batched),
    }
    return Op(overload, type(f"_{name}", (torch.autograd.Function,), members))


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Leave the context of an op empty whose backward raises."""


def once_differentiable(op: str) -> Callable[..., Any]:
    """Return the backward of a backward, which raises."""

    def raise_on_double_backward(ctx: Any, *gradients: Any) -> None:
        raise RuntimeError(
            f"{op} is differentiable once: its backward pass has no gradient of its own"
        )

    return raise_on_double_backward


class _RefusingForwardMode:
    """A library whose kernels for autograd refuse dual numbers, which torch's own would drop."""

    def __init__(self, library: torch.library.Library) -> None:
        self._library = library

    def impl(self, name: str, kernel: Callable[..., Any], key: str, **options: Any) -> None:
        def refusing(keyset: Any, *arguments: Any) -> Any:
            if forward_ad._current_level >= 0 and any(map(_is_dual, arguments)):
                raise _no_forward_mode(name)
            return kernel(keyset, *arguments)

        self._library.impl(name, refusing, key, **options)


def _is_dual(x: Any) -> bool:
    return isinstance(x, Tensor) and forward_ad.unpack_dual(x).tangent is not None


def _no_forward_mode(op: str) -> RuntimeError:
    return RuntimeError(
        f"{op} has no derivative in forward mode (func.jvp, func.jacfwd, dual numbers); "
        "take it in reverse mode (backward, func.grad, func.vjp, func.jacrev)"
    )


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Keep autocast out of a kernel, which has chosen its precision itself."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()

"""How an op is registered with torch: real and fake kernels, autograd, and what happens under
autocast."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def register(
    library: torch.library.Library,
    name: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
) -> None:
    """Register the implementation of an op that ``library`` defines.

    ``Library.impl`` costs a fifth of what ``torch.library.custom_op`` costs a call; at batch 1 that
    is as much as a kernel.
    """
    library.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"rgbt_fusion::{name}", fake, lib=library)
    torch.library.register_autograd(
        f"rgbt_fusion::{name}", backward, setup_context=setup_context, lib=library
    )


def once_differentiable(op: str) -> Callable[..., Any]:
    """Return the backward of a backward, which raises."""

    def raise_on_double_backward(ctx: Any, *gradients: Any) -> None:
        raise RuntimeError(
            f"{op} is differentiable once: its backward pass has no gradient of its own"
        )

    return raise_on_double_backward


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Keep autocast out of a kernel, which has chosen its precision itself."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()

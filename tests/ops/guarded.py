"""The native backend on memory with forbidden pages around each tensor.

One access outside a tensor ends the process, at any instruction set and at full optimisation,
where a sanitizer would need a build of its own.
"""

import ctypes
import mmap
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rgbt_fusion.ops.native import backend as native

CAN_FORBID = hasattr(mmap, "MAP_ANONYMOUS") and hasattr(ctypes.CDLL(None), "mprotect")
"""Whether the system forbids pages by ``mprotect``."""

PAGE = mmap.PAGESIZE


def guarded_bytes(count: int, *, at_end: bool) -> ctypes.Array[ctypes.c_char]:
    """Return memory between two forbidden pages.

    Args:
        count: of bytes.
        at_end: whether the memory ends where the second forbidden page begins; else it begins
            where the first one ends.
    """
    inside = -(-count // PAGE) * PAGE
    pages = mmap.mmap(-1, inside + 2 * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for forbidden in (base, base + PAGE + inside):
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(forbidden), PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect refused")
    offset = PAGE + inside - count if at_end else PAGE
    return (ctypes.c_char * count).from_buffer(pages, offset)


def guarded_like(x: Tensor, *, at_end: bool) -> Tensor:
    """Return a copy with the strides of ``x`` in memory that ends or begins at a forbidden page.

    The memory holds what the strides reach and not one byte more.
    """
    if x.numel() == 0:
        return x
    reached = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        reached += (size - 1) * stride
    memory = guarded_bytes(reached * x.element_size(), at_end=at_end)
    everything = torch.frombuffer(memory, dtype=x.dtype)
    everything.copy_(x.as_strided((reached,), (1,)))
    return everything.as_strided(x.shape, x.stride())


def guarded(*, at_end: bool) -> Any:
    """Return the native backend, each call of which runs on guarded copies of its tensors.

    Args:
        at_end: whether the tensors end at a forbidden page; else they begin at one.
    """

    def guarded_copy(value: Any) -> Any:
        if isinstance(value, Tensor):
            return guarded_like(value, at_end=at_end)
        if isinstance(value, tuple):
            return type(value)(*map(guarded_copy, value))
        return value

    def on_guarded_memory(kernel: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            copies = [guarded_copy(argument) for argument in arguments]
            kernel(*copies)
            # every kernel writes into its last argument
            results, written = arguments[-1], copies[-1]
            if isinstance(results, Tensor):
                results, written = (results,), (written,)
            for result, copy in zip(results, written, strict=True):
                if result is not None:
                    result.copy_(copy)

        return run

    names = ("scan_forward", "scan_backward", "conv_forward", "conv_backward")
    kernels = {name: on_guarded_memory(getattr(native, name)) for name in names}
    return SimpleNamespace(__name__=native.__name__, **kernels)

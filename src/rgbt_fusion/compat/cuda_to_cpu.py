"""Send what a client asks of ``cuda`` to the CPU, for code that names the device itself."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from rgbt_fusion.compat.record import CALLS

__all__ = ["on_cpu"]


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Send ``"cuda"`` devices, ``.cuda()`` and ``torch.cuda.device`` to the CPU inside the block.

    Covers the devices that functions and methods of torch are given, ``.cuda()`` of tensors and
    modules, the context ``torch.cuda.device``, ``set_device``, ``synchronize`` and
    ``current_device``, and ``torch.load`` of files written on a GPU. ``torch.cuda.is_available()``
    still says the truth. Threads that start inside the block are not covered.

    Example:
        >>> import torch
        >>> from rgbt_fusion.compat import on_cpu
        >>> with on_cpu():
        ...     print(torch.zeros(2, device="cuda").cuda().device)
        cpu
    """
    with contextlib.ExitStack() as stack:
        for name, replacement in _REPLACED.items():
            original = getattr(torch.cuda, name)
            setattr(torch.cuda, name, replacement)
            stack.callback(setattr, torch.cuda, name, original)
        stack.callback(setattr, torch, "load", torch.load)
        torch.load = _loading_to_cpu(torch.load)
        stack.enter_context(_OnCpu())
        yield


class _OnCpu(TorchFunctionMode):
    """Replace the device among the arguments of every function of torch."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") == "cuda" and args:
            CALLS["on_cpu: cuda()"] += 1
            return args[0]
        kwargs = kwargs or {}
        if func is torch.device:
            # a device is made of its name and a number, not of another device
            return _to_cpu(func(*args, **kwargs))
        options = {name: _to_cpu(value) for name, value in kwargs.items()}
        return func(*map(_to_cpu, args), **options)


def _to_cpu(value: Any) -> Any:
    """Return the CPU for a CUDA device and everything else as it is."""
    if isinstance(value, str):
        is_cuda = value == "cuda" or value.startswith("cuda:")
    else:
        is_cuda = isinstance(value, torch.device) and value.type == "cuda"
    if not is_cuda:
        return value
    CALLS["on_cpu: cuda device"] += 1
    return torch.device("cpu")


def _loading_to_cpu(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``torch.load`` with the CPU as the default and in place of CUDA devices."""

    def loading(file: Any, map_location: Any = None, *arguments: Any, **options: Any) -> Any:
        map_location = "cpu" if map_location is None else _to_cpu(map_location)
        return load(file, map_location, *arguments, **options)

    return loading


class _Nowhere(contextlib.nullcontext[None]):
    """Stand in for ``torch.cuda.device``, whatever device it is given."""

    def __init__(self, device: Any = None) -> None:
        super().__init__()


class _NowhereOf(_Nowhere):
    """Stand in for ``torch.cuda.device_of``."""


def _set_device(device: Any) -> None:
    """Do nothing."""


def _synchronize(device: Any = None) -> None:
    """Do nothing."""


def _current_device() -> int:
    return 0


# one stand-in each: torch.compile refuses one function under two names of torch
_REPLACED: dict[str, Any] = {
    "device": _Nowhere,
    "device_of": _NowhereOf,
    "set_device": _set_device,
    "synchronize": _synchronize,
    "current_device": _current_device,
}
"""What asks for ``cuda`` inside the block gets the CPU."""

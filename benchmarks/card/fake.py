"""A stand-in for a card: it takes every launch and computes nothing.

The Triton kernels are compiled for sm_90 as they would be, and the Python in front of a launch runs
as it would; results stay as they were in memory. ``torch.cuda`` is replaced as far as the benchmark
uses it, with tensors on the CPU.
"""

import ctypes
import functools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

__all__ = ["MULTIPROCESSORS", "FakeDriver", "allow_cuda_fakes", "fake_card", "fake_launches"]

MULTIPROCESSORS = 132
"""Of the card that is imitated, an H200."""


class FakeDriver:
    """A driver of Triton whose launches do nothing.

    Args:
        launched: is called with the name of each kernel that is launched.
    """

    def __init__(self, launched: Any) -> None:
        from triton.backends.compiler import GPUTarget

        self._target = GPUTarget("cuda", 90, 32)
        self._launched = launched
        self.utils = self

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        """Return what is called in place of a launch."""
        name = metadata.name
        launched = self._launched

        def launch(*_: Any) -> None:
            launched(name)

        return launch

    def load_binary(self, *_: Any) -> tuple[int, int, int, int, int]:
        """Return a module, a function, its registers, what it spills and its largest block."""
        return 1, 1, 32, 0, 1024

    def unload_module(self, *_: Any) -> None:
        """Forget nothing."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        """Return what bounds a launch on an H200, and its clocks in kHz."""
        return {
            "max_shared_mem": 232_448,
            "multiprocessor_count": MULTIPROCESSORS,
            "sm_clock_rate": 1_980_000,
            "mem_clock_rate": 3_201_000,
            "mem_bus_width": 6144,
            "warpSize": 32,
            "max_num_regs": 65_536,
        }

    def get_current_target(self) -> Any:
        """Return the card that kernels are compiled for."""
        return self._target

    def get_current_device(self) -> int:
        """Return the first device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Return the default stream."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """Return where tensors lie."""
        return torch.device("cpu")

    def map_python_to_cpp_type(self, name: str) -> str:
        """Return any name: no C++ is made."""
        return name

    def is_active(self) -> bool:
        """Say that the card is there."""
        return True


@contextmanager
def fake_launches(multiprocessors: int = MULTIPROCESSORS) -> Iterator[list[str]]:
    """Let the Triton backend run on CPU tensors, and yield the names of what it launches."""
    from triton.runtime.driver import driver

    from rgbt_fusion.ops import backends
    from rgbt_fusion.ops.triton import backend as triton_backend

    launched: list[str] = []
    triton = next(backend for backend in backends.BACKENDS if backend.name == "triton")
    devices = triton.devices
    with mock.patch.multiple(
        triton_backend,
        scan_why_not=lambda inputs: [],
        conv_why_not=lambda inputs: [],
        _multiprocessors=lambda device: multiprocessors,
    ):
        real = driver._active
        driver.set_active(FakeDriver(launched.append))  # pyright: ignore[reportArgumentType]
        object.__setattr__(triton, "devices", ("cpu",))
        try:
            yield launched
        finally:
            # to be asked for the real one fails where there is none
            driver._active = real
            object.__setattr__(triton, "devices", devices)


class _Event:
    """A CUDA event on the clock of the host."""

    def __init__(self, **_: Any) -> None:
        self.at_ms = 0.0

    def record(self, *_: Any) -> None:
        self.at_ms = time.perf_counter() * 1e3

    def synchronize(self) -> None:
        """Wait for nothing."""

    def elapsed_time(self, later: "_Event") -> float:
        return later.at_ms - self.at_ms


class _Graph:
    """A CUDA graph that replays nothing."""

    def replay(self) -> None:
        """Leave the results as the capture left them."""


class _Stream:
    def wait_stream(self, *_: Any) -> None:
        """Wait for nothing."""

    def synchronize(self) -> None:
        """Wait for nothing."""


_PROPERTIES = SimpleNamespace(
    name="no card", multi_processor_count=MULTIPROCESSORS, total_memory=1 << 37, major=9, minor=0
)


@contextmanager
def fake_card() -> Iterator[list[str]]:
    """Replace Triton's driver and ``torch.cuda``; yield the names of what Triton launches."""
    with ExitStack() as stack:
        stack.enter_context(
            mock.patch.multiple(
                torch.cuda,
                is_available=lambda: True,
                synchronize=lambda *_: None,
                Event=_Event,
                CUDAGraph=_Graph,
                graph=lambda *_, **__: nullcontext(),
                Stream=_Stream,
                stream=lambda _: nullcontext(),
                current_stream=lambda *_: _Stream(),
                set_sync_debug_mode=lambda _: None,
                get_device_properties=lambda *_: _PROPERTIES,
                reset_peak_memory_stats=lambda *_: None,
                max_memory_allocated=lambda *_: 0,
                mem_get_info=lambda *_: (1 << 37, 1 << 37),
            )
        )
        yield stack.enter_context(fake_launches())


@functools.cache
def allow_cuda_fakes() -> None:
    """Let fake tensors of a PyTorch without CUDA say that they are on ``cuda``.

    Indexing asks for the guard of the tensor's device. Such a PyTorch has none for ``cuda``; that
    of ``meta`` does nothing, which is right for tensors without memory.
    """
    if torch.backends.cuda.is_built():
        return
    library = ctypes.CDLL(str(next((Path(torch.__path__[0]) / "lib").glob("*c10.*"))))
    guards = (ctypes.c_void_p * 22).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    kinds = torch._C._autograd.DeviceType  # pyright: ignore[reportAttributeAccessIssue]
    guards[int(kinds.CUDA)] = guards[int(kinds.Meta)]

"""A card that does not exist: Triton compiles for it as for any other, and the emulator executes
the PTX on CPU tensors::

    with emulated_card(90) as card:
        kernel[grid](x, y, BLOCK=64, num_warps=1)
    assert not card.findings()

Memory that ``torch.empty`` and the like hand out while the card is there counts as unwritten until
a kernel or an operation of torch writes it.
"""

import ctypes
import getpass
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.runtime.driver import driver

from ops.ptx.findings import Finding
from ops.ptx.machine import Machine, Program
from ops.ptx.memory import EXISTS, MAY_BE_WRITTEN, WRITTEN, Memory
from ops.ptx.parsing import parse

__all__ = ["Card", "emulated_card"]

CACHE = Path(tempfile.gettempdir()) / f"emulated_card_{getpass.getuser()}"
"""Where compiled kernels stay for the next run."""

_ENVIRONMENT = {"TRITON_CACHE_DIR": str(CACHE), "TRITON_STORE_BINARY_ONLY": "1"}

GAP = 4096
"""Bytes between two tensors in the card's memory, and a multiple of what tensors are aligned to."""


class Card:
    """What ran on the card, and what was wrong with it."""

    def __init__(self, capability: int, change: Callable[[str], str]) -> None:
        self.capability = capability
        self.change = change
        self.launches: list[Machine] = []
        self.fresh = FreshMemory()

    def findings(self) -> list[Finding]:
        """Return all that is wrong with the kernels that were launched."""
        return [finding for machine in self.launches for finding in machine.findings]

    @property
    def executed(self) -> int:
        """How many instructions were executed, each once for programs that walk together."""
        return sum(machine.executed for machine in self.launches)

    def launch(
        self,
        program: Program,
        arguments: list[Tensor | int | float],
        grid: tuple[int, int, int],
        lanes: int,
        shared_bytes: int,
    ) -> None:
        """Copy the tensors to the card, run, and copy them back."""
        tensors = [x for x in arguments if isinstance(x, Tensor)]
        memory = _CardMemory(tensors, program.granule, self.fresh)
        values = [memory.address(x) if isinstance(x, Tensor) else _bits(x) for x in arguments]
        names = list(program.kernel.parameters)
        parameters = dict(zip(names, values + [0] * (len(names) - len(values)), strict=True))
        machine = Machine(program, parameters, memory.memory, grid, lanes, shared_bytes)
        self.launches.append(machine)
        machine.run()
        memory.copy_back(self.fresh)


@contextmanager
def emulated_card(
    capability: int, *, change: Callable[[str], str] = lambda listing: listing
) -> Iterator[Card]:
    """Let Triton launch on a card of a compute capability (90 for sm_90).

    ``change`` may alter the PTX of a kernel before it runs, to see what is found then.
    """
    card = Card(capability, change)
    with ExitStack() as stack:
        before = driver._active
        stack.callback(setattr, driver, "_active", before)
        driver.set_active(_Driver(card))
        stack.enter_context(
            mock.patch.object(CUDABackend, "make_cubin", lambda self, ptx, *_: ptx.encode())
        )
        stack.enter_context(mock.patch.dict(os.environ, _ENVIRONMENT))
        stack.enter_context(card.fresh)
        yield card


def _bits(x: int | float) -> int:
    """Return a number as the bits of a parameter."""
    return int(x) if isinstance(x, int) else int(np.float32(x).view(np.uint32))


class _Driver:
    """What Triton asks a driver for."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.utils = SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": 232448},
            load_binary=self._load,
            unload_module=lambda module: None,
        )
        self.launcher_cls = lambda source, metadata: _Launcher(card, source, metadata)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.card.capability, 32)

    def get_current_device(self) -> "Card":
        # What Triton keeps per device then belongs to this card alone.
        return self.card

    def get_current_stream(self, device: object) -> int:
        return 0

    def _load(
        self, name: str, kernel: bytes, shared: int, device: object
    ) -> tuple[str, Program, int, int, int]:
        program = _program(self.card.change(kernel.decode()))
        registers, spills, most_threads = 255, 0, 1024
        return name, program, registers, spills, most_threads


@cache
def _program(listing: str) -> Program:
    return Program.of(parse(listing))


class _Launcher:
    """Calls a compiled kernel."""

    def __init__(self, card: Card, source: Any, metadata: Any) -> None:
        self.card = card
        self.kinds = list(source.signature.values())
        self.metadata = metadata

    def __call__(
        self,
        width: int,
        height: int,
        depth: int,
        stream: int,
        program: Program,
        packed: object,
        launch: object,
        enter: object,
        leave: object,
        *arguments: Any,
    ) -> None:
        passed = [
            argument
            for argument, kind in zip(arguments, self.kinds, strict=True)
            if kind != "constexpr"
        ]
        self.card.launch(
            program,
            passed,
            (width, height, depth),
            32 * self.metadata.num_warps,
            self.metadata.shared,
        )


class FreshMemory(TorchDispatchMode):
    """Notes which memory nothing has written since it was handed out."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Tensor] = []
        self.unwritten: dict[int, NDArray[np.bool_]] = {}
        """For each storage, by its address: which bytes nothing has written."""

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        arguments: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*arguments, **(named or {}))
        if function._schema.name in _HAND_OUT and isinstance(result, Tensor):
            self._poison(result)
        elif function._schema.is_mutable:
            for argument, described in zip(
                arguments, function._schema.arguments[: len(arguments)], strict=True
            ):
                info = described.alias_info
                if isinstance(argument, Tensor) and info is not None and info.is_write:
                    self.unwritten.pop(argument.untyped_storage().data_ptr(), None)
        return result

    def _poison(self, result: Tensor) -> None:
        """Fill new memory with ones, which are not a number: what reads it shows it."""
        storage = result.untyped_storage()
        if not storage.nbytes():
            return
        # As long as it is kept, no other memory has its address.
        self._kept.append(result)
        _bytes_of(result)[:] = 0xFF
        self.unwritten[storage.data_ptr()] = np.ones(storage.nbytes(), bool)


_HAND_OUT = {
    f"aten::{name}"
    for name in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
}


def _bytes_of(x: Tensor) -> NDArray[np.uint8]:
    """Return the whole storage that a tensor lies in."""
    storage = x.untyped_storage()
    memory = (ctypes.c_uint8 * storage.nbytes()).from_address(storage.data_ptr())
    return np.ctypeslib.as_array(memory)


def _reached(x: Tensor) -> NDArray[np.bool_]:
    """Which bytes of its storage a tensor consists of."""
    size = x.element_size()
    reached = torch.zeros(x.untyped_storage().nbytes() // size, dtype=torch.bool)
    reached.as_strided(x.shape, x.stride(), x.storage_offset()).fill_(True)
    return np.repeat(reached.numpy(), size)


class _CardMemory:
    """The storages of a launch, copied one after another into the memory of the card."""

    def __init__(self, tensors: list[Tensor], granule: int, fresh: FreshMemory) -> None:
        self.granule = granule
        self.storages = {x.untyped_storage().data_ptr(): x for x in tensors}
        self.starts: dict[int, int] = {}
        end = GAP
        for pointer, x in self.storages.items():
            self.starts[pointer] = end
            end += -(-x.untyped_storage().nbytes() // GAP) * GAP + GAP
        self.memory = Memory("global", end, granule)
        for pointer, x in self.storages.items():
            content = _bytes_of(x)
            self.memory.bytes[self._range(pointer)] = content
            written = ~fresh.unwritten.get(pointer, np.zeros(len(content), bool))
            self._mark(pointer, np.ones(len(content), bool), EXISTS)
            self._mark(pointer, written, WRITTEN)
        for x in tensors:
            self._mark(x.untyped_storage().data_ptr(), _reached(x), MAY_BE_WRITTEN)

    def address(self, x: Tensor) -> int:
        """Return where a tensor starts on the card."""
        pointer = x.untyped_storage().data_ptr()
        return self.starts[pointer] + x.data_ptr() - pointer

    def copy_back(self, fresh: FreshMemory) -> None:
        """Copy what the launch wrote to where it came from."""
        for pointer, x in self.storages.items():
            here = self._range(pointer)
            _bytes_of(x)[:] = self.memory.bytes[here]
            if pointer in fresh.unwritten:
                written = self.memory.state[here.start // self.granule :] & WRITTEN != 0
                by_byte = np.repeat(written, self.granule)[: here.stop - here.start]
                fresh.unwritten[pointer] = ~by_byte

    def _range(self, pointer: int) -> slice:
        start = self.starts[pointer]
        return slice(start, start + self.storages[pointer].untyped_storage().nbytes())

    def _mark(self, pointer: int, which: NDArray[np.bool_], flag: np.uint8) -> None:
        """Set a flag of the granules of which all bytes are chosen."""
        padding = -len(which) % self.granule
        by_granule = np.pad(which, (0, padding)).reshape(-1, self.granule).all(1)
        first = self.starts[pointer] // self.granule
        self.memory.state[first : first + len(by_granule)][by_granule] |= flag

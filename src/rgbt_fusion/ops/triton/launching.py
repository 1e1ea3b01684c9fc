"""Launches that were made before, without the Python in front of them.

Triton looks at every argument of a launch anew, seventy of them in a scan: more time than the
kernels take. What it finds depends on shapes, strides, types and alignment alone. So a call is
recorded once, and a later one with all of these in common fills in the addresses and launches.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Recording", "launch", "launch_on", "note_scratch", "note_sum", "replay_or_record"]

MOST = 512
"""Recordings that are kept; a program that needs more starts over."""

ALIGNMENT = 16
"""Bytes: Triton compiles apart what is aligned to them."""


class _Launch(NamedTuple):
    """A compiled kernel, its grid, and its arguments with holes for tensors."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: list[Any]
    holes: list[tuple[int, int]]
    """Places among the arguments, and which tensor of the call stands there."""


class _Sum(NamedTuple):
    """A sum over the first axis by PyTorch, between tensors of the call."""

    parts: int
    result: int


class _Scratch(NamedTuple):
    shape: tuple[int, ...]
    dtype: torch.dtype


class Recording(NamedTuple):
    """What a call launches: its scratch memory, and its steps in their order."""

    scratch: list[_Scratch]
    steps: list[_Launch | _Sum]


class _Notes(threading.local):
    """What the call in this thread has done so far; None where nobody records."""

    def __init__(self) -> None:
        self.scratch: list[Tensor] | None = None
        self.steps: list[Any] = []


_NOTES = _Notes()
_RECORDINGS: dict[Hashable, Recording | None] = {}


def launch_on(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of ``x`` the current one, if it is another card."""
    if x.is_cuda and torch.cuda.current_device() != x.device.index:
        return torch.cuda.device(x.device)
    return nullcontext()


def launch(kernel: Any, grid: tuple[int, ...], **arguments: Any) -> None:
    """Launch a kernel through Triton, and note how."""
    compiled = kernel[grid](**arguments)
    if _NOTES.scratch is not None:
        _NOTES.steps.append((compiled, grid, kernel, arguments))


def note_scratch(x: Tensor) -> Tensor:
    """Note memory that the call made for itself."""
    if _NOTES.scratch is not None:
        _NOTES.scratch.append(x)
    return x


def note_sum(result: Tensor, parts: Tensor) -> None:
    """Add up ``parts`` over the first axis into ``result``, and note it."""
    torch.sum(parts, 0, keepdim=True, out=result)
    if _NOTES.scratch is not None:
        _NOTES.steps.append((result, parts))


def replay_or_record(
    tensors: Sequence[Tensor | None],
    facts: Hashable,
    call: Callable[[Sequence[Tensor | None]], None],
) -> None:
    """Do what ``call`` does, the short way if such a call was recorded.

    Args:
        tensors: all that the call reads and writes, scratch memory aside.
        facts: what else decides how it launches.
        call: takes ``tensors``, launches by :func:`launch` and adds up by :func:`note_sum`, and
            does nothing else.
    """
    from triton.runtime.driver import driver

    key = (facts, id(driver._active), _signature(tensors))
    if key in _RECORDINGS:
        recording = _RECORDINGS[key]
        if recording is None or _is_watched():
            call(tensors)
        else:
            _replay(recording, tensors, driver.active)
        return
    # one object per role: the next call may give two tensors where this one gives the same twice
    tensors = [None if x is None else x.detach() for x in tensors]
    _NOTES.scratch = []
    _NOTES.steps = []
    try:
        call(tensors)
        recording = _recorded(tensors, _NOTES.scratch, _NOTES.steps)
    finally:
        _NOTES.scratch = None
        _NOTES.steps = []
    if len(_RECORDINGS) >= MOST:
        _RECORDINGS.clear()
    _RECORDINGS[key] = recording


def _signature(tensors: Sequence[Tensor | None]) -> tuple[Hashable, ...]:
    """Return all of the tensors that Triton looks at."""
    return tuple(
        None
        if x is None
        else (x.shape, x.stride(), x.dtype, x.data_ptr() % ALIGNMENT, x.get_device())
        for x in tensors
    )


def _is_watched() -> bool:
    """Say whether a profiler wants to see the launches as Triton makes them."""
    from triton import knobs

    hook = knobs.runtime.launch_enter_hook
    # newer releases always have a chain of hooks, which may be empty
    return hook is not None and bool(getattr(hook, "calls", True))


def _recorded(
    tensors: Sequence[Tensor | None], scratch: list[Tensor], steps: list[Any]
) -> Recording | None:
    """Return what was noted; None where it cannot be done without Triton."""
    places = {id(x): number for number, x in enumerate((*tensors, *scratch)) if x is not None}
    found: list[_Launch | _Sum] = []
    for step in steps:
        if len(step) == 2:
            result, parts = step
            if id(result) not in places or id(parts) not in places:
                return None
            found.append(_Sum(places[id(parts)], places[id(result)]))
            continue
        compiled, grid, kernel, given = step
        if not hasattr(compiled, "packed_metadata") or not hasattr(kernel, "params"):
            return None  # the interpreter, or a test that looks at launches
        arguments = [given[parameter.name] for parameter in kernel.params]
        holes = []
        for place, value in enumerate(arguments):
            if isinstance(value, Tensor):
                if id(value) not in places:
                    return None
                holes.append((place, places[id(value)]))
                arguments[place] = None
        found.append(_Launch(compiled, (*grid, 1, 1)[:3], arguments, holes))
    return Recording([_Scratch(tuple(x.shape), x.dtype) for x in scratch], found)


def _replay(recording: Recording, tensors: Sequence[Tensor | None], driver: Any) -> None:
    like = next(x for x in tensors if x is not None)
    known: list[Any] = list(tensors)
    for scratch in recording.scratch:
        known.append(like.new_empty(scratch.shape, dtype=scratch.dtype))
    with launch_on(like):
        stream = driver.get_current_stream(driver.get_current_device())
        for step in recording.steps:
            if isinstance(step, _Sum):
                torch.sum(known[step.parts], 0, keepdim=True, out=known[step.result])
                continue
            kernel, grid, arguments, holes = step
            filled = arguments.copy()
            for place, number in holes:
                filled[place] = known[number]
            kernel.run(
                *grid, stream, kernel.function, kernel.packed_metadata, None, None, None, *filled
            )

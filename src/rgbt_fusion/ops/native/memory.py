"""Memory for large results on the CPU that is used again once the result is gone.

The first touch of a fresh page costs zeros and, in a virtual machine, a good deal more: for a scan
of 16 states as much as the arithmetic. torch gives the memory of a large tensor back to the system
with the tensor, so every call would pay again.
"""

import contextlib
import ctypes
import math
import mmap
import sys
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["empty_strided"]

SMALLEST = 2**18
"""Results of fewer bytes are left to torch: the system's allocator keeps their pages itself."""

LARGE_PAGE = 2**21
"""Blocks of half this size and more are whole numbers of large pages, where the system has them."""

STAGGER = 17 * 64
"""Each block starts so many bytes further into its pages than the one before it.

Tensors that are walked side by side would else meet in the same sets of the caches.
"""

STAGGERED = 61
"""How many blocks in a row start at different places."""

MOST_KEPT = 2**27
"""Bytes of free blocks that are kept; what exceeds them goes back to the system."""

_CAN_MAP = sys.platform in ("linux", "darwin")


class _FreeBlocks:
    """Blocks that no tensor uses, by size, and the references that tell when a tensor is gone."""

    def __init__(self) -> None:
        self.by_size: dict[int, list[tuple[mmap.mmap, int]]] = {}
        self.bytes = 0
        self.mapped = 0
        self.in_use: dict[int, weakref.ref[ctypes.Array[ctypes.c_char]]] = {}

    def take(self, size: int) -> ctypes.Array[ctypes.c_char]:
        """Return the start of a block of ``size`` bytes; once it is gone the block is free."""
        try:
            block, offset = self.by_size[size].pop()
            self.bytes -= size
        except (KeyError, IndexError):
            block, offset = _map_block(size, self.mapped % STAGGERED * STAGGER)
            self.mapped += 1
        start = (ctypes.c_char * size).from_buffer(block, offset)
        key = id(start)

        def give_back(_: object) -> None:
            self.in_use.pop(key, None)
            if self.bytes + size <= MOST_KEPT:
                self.bytes += size
                self.by_size.setdefault(size, []).append((block, offset))

        self.in_use[key] = weakref.ref(start, give_back)
        return start


_FREE = _FreeBlocks()


def _map_block(size: int, stagger: int) -> tuple[mmap.mmap, int]:
    """Return pages for ``size`` bytes, and where in them the bytes begin."""
    large = size % LARGE_PAGE == 0
    room = size + STAGGERED * STAGGER + (LARGE_PAGE if large else 0)
    # private, so that a forked process has pages of its own
    block = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if not large:
        return block, stagger
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # a hint: a kernel built without large pages refuses it
        with contextlib.suppress(OSError):
            block.madvise(mmap.MADV_HUGEPAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    return block, -address % LARGE_PAGE + stagger


def _block_size(size: int) -> int:
    grain = LARGE_PAGE if size >= LARGE_PAGE // 2 else SMALLEST // 4
    return -(-size // grain) * grain


def empty_strided(like: Tensor, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Return an uninitialised dense tensor on the CPU with the dtype of ``like``.

    Its storage cannot be resized where it is one of the blocks.
    """
    count = math.prod(shape)
    size = count * like.element_size()
    if size < SMALLEST or not _CAN_MAP:
        return like.new_empty_strided(shape, stride)
    start = _FREE.take(_block_size(size))
    return torch.frombuffer(start, dtype=like.dtype, count=count).as_strided(shape, stride)

"""Memory that watches who reads and writes it.

It is kept in *granules*, as wide as the narrowest access of the kernel. For each granule it knows
whether it belongs to something, may be written and has been written, and who read and wrote it
last. From that it tells:

* reads and writes outside of everything, and writes outside of what the kernel was given;
* reads of memory that nothing has written;
* races between lanes: two lanes touch a granule, one of them writes a new value, and no barrier
  lies between;
* races between programs, which no barrier can order.
"""

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.ptx.findings import Findings, Threads
from ops.ptx.parsing import Instruction

__all__ = ["EXISTS", "MAY_BE_WRITTEN", "WRITTEN", "Clock", "Memory"]

EXISTS = np.uint8(1)
MAY_BE_WRITTEN = np.uint8(2)
WRITTEN = np.uint8(4)

NOBODY = -1
SEVERAL = -2

_LANE_BITS = 10
_LANE = (1 << _LANE_BITS) - 1
_SEVERAL_LANES = _LANE

Index = NDArray[np.int64]


class Clock:
    """Counts barriers. What happened since the last one may happen at the same time."""

    def __init__(self, warps: int) -> None:
        self._one_warp = warps == 1
        self.now = 1
        self._whole_program = 1

    def copy(self) -> "Clock":
        """Return the clock of programs that part from others."""
        return copy(self)

    def barrier(self, whole_program: bool) -> None:
        self.now += 1
        if whole_program or self._one_warp:
            self._whole_program = self.now

    @property
    def this_program(self) -> int:
        """Earliest stamp that no barrier separates from now, for lanes of different warps."""
        return self._whole_program << _LANE_BITS

    @property
    def this_warp(self) -> int:
        """The same for lanes of one warp."""
        return self.now << _LANE_BITS

    def stamps(self, lanes: NDArray[np.int32]) -> NDArray[np.int64]:
        """Say who accesses memory, and when."""
        return self.this_warp | lanes.astype(np.int64)


class Memory:
    """Bytes of one address space, from address 0 on."""

    def __init__(self, name: str, size: int, granule: int) -> None:
        self.name = name
        self.granule = granule
        granules = -(-size // granule)
        self.bytes = np.full(granules * granule, 0xFF, np.uint8)
        self.state = np.zeros(granules, np.uint8)
        self._written_at = np.zeros(granules, np.int64)
        self._read_at = np.zeros(granules, np.int64)
        self._writer = np.full(granules, NOBODY, np.int32)
        self._reader = np.full(granules, NOBODY, np.int32)

    def load(
        self,
        addresses: Index,
        dtype: np.dtype[Any],
        count: int,
        threads: Threads,
        clock: Clock,
        instruction: Instruction,
        findings: Findings,
    ) -> list[NDArray[Any]]:
        """Read ``count`` values side by side for each thread; all ones where that is wrong."""
        size = dtype.itemsize * count
        fine = self._accessible(addresses, size, threads, "read", instruction, findings)
        if not fine.all():
            addresses = addresses[fine]
            threads = threads.where(fine)
        granules = self._granules(addresses, size)
        unwritten = self.state[granules] & WRITTEN == 0
        findings.add("unwritten", instruction, threads, unwritten, f"reads {self.name} memory")
        self._note_reads(granules, threads, clock, instruction, findings)
        words = self.bytes.view(dtype)
        first = addresses // dtype.itemsize
        values = []
        for i in range(count):
            value = np.full(len(fine), -1, f"i{dtype.itemsize}").view(dtype)
            value[fine] = words[first + i]
            values.append(value)
        return values

    def store(
        self,
        addresses: Index,
        values: list[NDArray[Any]],
        threads: Threads,
        clock: Clock,
        instruction: Instruction,
        findings: Findings,
    ) -> None:
        """Write values side by side for each thread; nothing where that is wrong."""
        dtype = values[0].dtype
        size = dtype.itemsize * len(values)
        fine = self._accessible(addresses, size, threads, "write", instruction, findings)
        if not fine.all():
            addresses = addresses[fine]
            threads = threads.where(fine)
            values = [value[fine] for value in values]
        granules = self._granules(addresses, size)
        before = self._pieces(granules)
        words = self.bytes.view(dtype)
        first = addresses // dtype.itemsize
        for i, value in enumerate(values):
            words[first + i] = value
        written = np.stack(values, 1).view(f"u{self.granule}").reshape(granules.shape)
        overwritten = self._pieces(granules) != written
        findings.add(
            "race between lanes",
            instruction,
            threads,
            overwritten,
            f"two lanes write different values to the same place of {self.name} memory at once",
        )
        self._note_writes(granules, before != written, threads, clock, instruction, findings)
        self.state[granules] |= WRITTEN

    def _pieces(self, granules: Index) -> NDArray[Any]:
        return self.bytes.view(f"u{self.granule}")[granules]

    def _granules(self, addresses: Index, size: int) -> Index:
        return (addresses // self.granule)[:, None] + np.arange(size // self.granule)

    def _accessible(
        self,
        addresses: Index,
        size: int,
        threads: Threads,
        verb: str,
        instruction: Instruction,
        findings: Findings,
    ) -> NDArray[np.bool_]:
        """Find the accesses that are aligned and within bounds."""
        misaligned = addresses % size != 0
        findings.add(
            "misaligned", instruction, threads, misaligned, f"{verb}s {size} bytes at once"
        )
        within = (addresses >= 0) & (addresses + size <= len(self.bytes)) & ~misaligned
        granules = self._granules(np.where(within, addresses, 0), size)
        states = np.bitwise_and.reduce(self.state[granules], 1)
        exists = within & (states & EXISTS != 0)
        outside = ~exists & ~misaligned
        findings.add(f"{verb} outside", instruction, threads, outside, f"no {self.name} memory")
        if verb == "read":
            return exists
        foreign = exists & (states & MAY_BE_WRITTEN == 0)
        findings.add(
            "write beside",
            instruction,
            threads,
            foreign,
            "the memory belongs to a tensor but not to the part that was passed",
        )
        return exists

    def _note_reads(
        self,
        granules: Index,
        threads: Threads,
        clock: Clock,
        instruction: Instruction,
        findings: Findings,
    ) -> None:
        lanes = threads.lanes[:, None]
        programs = threads.programs[:, None]
        unordered = self._unordered(self._written_at[granules], lanes, clock)
        findings.add(
            "race between lanes",
            instruction,
            threads,
            unordered & (self._writer[granules] == programs),
            f"reads what another lane wrote to {self.name} memory since the last barrier",
        )
        findings.add(
            "race between programs",
            instruction,
            threads,
            self._is_another(self._writer[granules], programs),
            "reads what another program writes",
        )
        self._stamp_reads(granules, clock.stamps(lanes), clock)
        readers = self._reader[granules]
        several = (readers != NOBODY) & (readers != programs)
        self._reader[granules] = np.where(several, np.int32(SEVERAL), programs)
        disagree = granules[self._reader[granules] != np.where(several, SEVERAL, programs)]
        self._reader[disagree] = SEVERAL

    def _stamp_reads(self, granules: Index, stamps: NDArray[np.int64], clock: Clock) -> None:
        """Remember the last reader, or that since the last barrier there were several."""
        before = self._read_at[granules]
        self._read_at[granules] = stamps
        shared = self._read_at[granules] != stamps
        shared |= (before >= clock.this_program) & (before & _LANE != stamps & _LANE)
        self._read_at[granules[shared]] = clock.this_warp | _SEVERAL_LANES

    def _note_writes(
        self,
        granules: Index,
        changes: NDArray[np.bool_],
        threads: Threads,
        clock: Clock,
        instruction: Instruction,
        findings: Findings,
    ) -> None:
        """A write that changes nothing races with no other lane of its program."""
        lanes = threads.lanes[:, None]
        programs = threads.programs[:, None]
        for verb, at, who in (
            ("wrote", self._written_at, self._writer),
            ("read", self._read_at, self._reader),
        ):
            unordered = self._unordered(at[granules], lanes, clock)
            findings.add(
                "race between lanes",
                instruction,
                threads,
                changes & unordered & ~self._is_another(who[granules], programs),
                f"writes {self.name} memory that another lane {verb} since the last barrier",
            )
            findings.add(
                "race between programs",
                instruction,
                threads,
                self._is_another(who[granules], programs),
                f"writes what another program {verb}",
            )
        self._written_at[granules] = clock.stamps(lanes)
        self._writer[granules] = programs
        findings.add(
            "race between programs",
            instruction,
            threads,
            self._writer[granules] != programs,
            "writes what another program writes",
        )

    @staticmethod
    def _is_another(who: NDArray[np.int32], programs: NDArray[np.int32]) -> NDArray[np.bool_]:
        return (who != NOBODY) & (who != programs)

    @staticmethod
    def _unordered(
        stamps: NDArray[np.int64], lanes: NDArray[np.int32], clock: Clock
    ) -> NDArray[np.bool_]:
        """Which accesses were made by another lane with no barrier between then and now."""
        others = stamps & _LANE
        same_warp = (others >> 5 == lanes >> 5) & (others != _SEVERAL_LANES)
        since = np.where(same_warp, clock.this_warp, clock.this_program)
        return (stamps >= since) & (others != lanes)

"""What a run found wrong with a kernel, each kind once per instruction."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ops.ptx.parsing import Instruction

__all__ = ["Finding", "Findings", "Threads"]


class Threads(NamedTuple):
    """Who executes an instruction: the lanes that do, of all programs, one after another."""

    programs: NDArray[np.int32]
    lanes: NDArray[np.int32]

    def where(self, mask: NDArray[np.bool_]) -> "Threads":
        return Threads(self.programs[mask], self.lanes[mask])


class Finding(NamedTuple):
    """One thing that is wrong, and where it was seen first."""

    kind: str
    kernel: str
    instruction: str
    where: str
    program: int
    lane: int
    detail: str

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.detail}, by lane {self.lane} of program {self.program} "
            f"in {self.kernel}, {self.where}: {self.instruction}"
        )


class Findings:
    """Collects findings: the first of each kind per instruction, and how often it came again."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self._first: dict[tuple[str, str, str], Finding] = {}
        self._times: Counter[tuple[str, str, str]] = Counter()

    def __iter__(self):
        return iter(self._first.values())

    def add(
        self,
        kind: str,
        instruction: Instruction,
        threads: Threads,
        wrong: NDArray[np.bool_],
        detail: str,
    ) -> None:
        """Note that ``kind`` happened to the threads for which ``wrong`` holds, if to any.

        ``wrong`` may have a second axis, over what each thread accesses.
        """
        if not wrong.any():
            return
        by_thread = wrong.reshape(len(wrong), -1).any(1)
        key = (kind, instruction.text, instruction.where)
        self._times[key] += int(by_thread.sum())
        if key not in self._first:
            first = int(by_thread.argmax())
            self._first[key] = Finding(
                kind,
                self.kernel,
                instruction.text,
                instruction.where,
                int(threads.programs[first]),
                int(threads.lanes[first]),
                detail,
            )

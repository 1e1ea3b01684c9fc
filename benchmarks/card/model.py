"""How long a scan should take on a card, from the machine code of its kernels.

A warp alone issues about half an instruction per cycle, because most of them wait for the one
before. So a program of W instructions takes W / 0.47 cycles, as long as no scheduler has more than
two of them; with more, their instructions share its one slot. Launches and waits for memory are
left out: the figure compares plans, and is no prediction.
"""

import importlib
import sys
from typing import Any, NamedTuple

from benchmarks import ROOT
from benchmarks.card.fake import MULTIPROCESSORS

__all__ = ["Modelled", "modelled_scan"]

ISSUED_PER_CYCLE = 0.47
"""By one warp on its own."""

SCHEDULERS = 4 * MULTIPROCESSORS

CLOCK_GHZ = 1.755


class Modelled(NamedTuple):
    """What the model says of one scan, forward, in bfloat16 with 16 states."""

    channels: int
    length: int
    chunks: int
    programs: int
    us: float


def modelled_scan(channels: int, length: int) -> Modelled:
    """Compile the kernels of a scan of one sample for sm_90 and add up their loops."""
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    offline: Any = importlib.import_module("ops.triton_offline")
    case = offline.Case(length=length, channels=channels, multiprocessors=MULTIPROCESSORS)
    cycles = 0.0
    chunks = programs = 0
    for name, launch in offline.launches_of(case, "scan forward").items():
        loops = [loop.total() for loop in offline.compile_launch(launch, 90).loops]
        given = launch.arguments
        chunks = given["chunks"]
        together = given["tiles"] * given["batch"]
        if name == "chunk_scan":
            instructions = sum(loops) * chunks
        else:
            together *= chunks
            programs = together
            turns = min(length, given["chunk_blocks"] * given["BLOCK"]) // 4
            instructions = loops[-1] * turns
            if len(loops) > 1:  # the last chunk looks back over all others
                by_four, one_by_one = loops[0], loops[1]
                instructions += by_four * ((chunks - 1) // 4) + one_by_one * ((chunks - 1) % 4)
        crowd = max(1.0, ISSUED_PER_CYCLE * together / SCHEDULERS)
        cycles += instructions / ISSUED_PER_CYCLE * crowd
    return Modelled(channels, length, chunks, programs, cycles / CLOCK_GHZ / 1e3)

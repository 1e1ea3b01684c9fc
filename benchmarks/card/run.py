"""On what the stages run, and how they take times."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["CARD", "REHEARSAL", "Run", "replay_us", "wall_us"]

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Run:
    """A card for a quarter of an hour, or a rehearsal without one: the same steps."""

    device: str
    shapes: tuple[Shape, ...]
    """Batch, channels, length and states of what is timed."""
    presets: tuple[str, ...]
    training_preset: str
    dtypes: tuple[torch.dtype, ...]
    samples: int
    """Of each time."""
    frames: int
    """Of the video that the tracker follows."""
    parity_processes: int
    elements: int
    """Of the arrays whose copy measures the memory."""

    @property
    def rehearsed(self) -> bool:
        """Nothing that is measured means anything."""
        return self.device == "cpu"


CARD = Run(
    device="cuda",
    shapes=(
        (1, 768, 320, 16),
        (1, 384, 3840, 16),
        (1, 1536, 320, 16),
        (8, 768, 320, 16),
        (1, 1536, 3840, 16),
        (16, 1536, 3840, 16),
    ),
    presets=(
        "ainet_vitb_256",
        "mutual_prompt_teacher_vitb_256",
        "tpmri_vitb_256",
        "ostrack_vitb_256",
        "compensation_vitb_256",
    ),
    training_preset="ainet_vitb_256",
    dtypes=(torch.float32, torch.float16),
    samples=20,
    frames=100,
    parity_processes=12,
    elements=1 << 28,
)
"""The first shape is the scan of a DFM at batch 1, the second one direction of an OFM."""

REHEARSAL = Run(
    device="cpu",
    shapes=((1, 64, 132, 16),),
    presets=("ainet_tiny_128",),
    training_preset="mutual_prompt_teacher_tiny_128",
    dtypes=(torch.float32,),
    samples=2,
    frames=3,
    parity_processes=2,
    elements=1 << 12,
)


def replay_us(call: Callable[[], Any], run: Run, calls: int = 10) -> float:
    """Return the median microseconds of one call on the device, replayed from a CUDA graph.

    The graph holds several calls, so that what the host does in front of a replay does not show.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    graph.replay()
    torch.cuda.synchronize()
    times = []
    for _ in range(run.samples):
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / calls)
    return statistics.median(times)


def wall_us(call: Callable[[], Any], run: Run, calls: int = 10) -> float:
    """Return the median microseconds of one call by the clock on the wall, launches included."""
    call()
    torch.cuda.synchronize()
    times = []
    for _ in range(run.samples):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e6 / calls)
    return statistics.median(times)

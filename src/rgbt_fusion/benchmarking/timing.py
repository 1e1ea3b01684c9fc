"""Interleaved timing in one process: every contender runs in every round, so that they share the
machine's moods."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Clocks", "Effort", "Spread", "interleave"]

_SAMPLE_S = 0.005
"""A sample lasts about this long at least; what is shorter is called several times."""


class Spread(NamedTuple):
    """Median and quartiles of what one call took, in milliseconds, and how many samples they come
    from."""

    median: float
    q1: float
    q3: float
    samples: int


class Clocks(NamedTuple):
    """What one call took by the clock on the wall and by the process's own on all its threads."""

    wall_ms: Spread
    cpu_ms: Spread


@dataclass(frozen=True)
class Effort:
    """How much time a comparison is worth."""

    rounds: int = 9
    budget_s: float = 2.5
    """Of one contender: one that would need more than this for all rounds takes part in fewer, in
one at least."""
    least_samples: int = 3
    """The budget is overdrawn for so many samples."""
    patience_s: float = 4.0
    """A contender whose warm-up takes longer is not called again: that call is its one sample."""


class _Contender:
    def __init__(
        self, call: Callable[[], object], synchronise: Callable[[], object], effort: Effort
    ) -> None:
        self.call, self.synchronise = call, synchronise
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.calls = 1
        first_s, first_cpu_s = self._run()
        if first_s > effort.patience_s:
            self.samples = 0
            self._keep(first_s, first_cpu_s)
            return
        self.calls = max(1, round(_SAMPLE_S / max(first_s, 1e-7))) if first_s < _SAMPLE_S else 1
        affordable = int(effort.budget_s / max(first_s * self.calls, 1e-9))
        self.samples = max(min(effort.least_samples, effort.rounds), min(effort.rounds, affordable))

    def _run(self) -> tuple[float, float]:
        self.synchronise()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(self.calls):
            self.call()
        self.synchronise()
        return (time.perf_counter() - wall) / self.calls, (time.process_time() - cpu) / self.calls

    def sample(self) -> None:
        self._keep(*self._run())

    def _keep(self, wall_s: float, cpu_s: float) -> None:
        self.wall.append(wall_s * 1e3)
        self.cpu.append(cpu_s * 1e3)

    def clocks(self) -> Clocks:
        return Clocks(spread(self.wall), spread(self.cpu))


def interleave(
    calls: Mapping[str, Callable[[], object]],
    effort: Effort,
    *,
    synchronise: Callable[[], object] = lambda: None,
    on_sample: Callable[[float], object] = lambda share: None,
) -> dict[str, Clocks]:
    """Time several functions in turn: one warm-up each, then rounds in which each runs once.

    The order inside a round rotates. A slow function sits out some rounds, evenly spread, or all of
    them, as ``effort`` says. Garbage collection is off while a sample runs.

    Args:
        calls: what to run, by name.
        effort: how often.
        synchronise: waits for the device; called around every sample.
        on_sample: is told the share that is done after every sample.

    Example:
        >>> from rgbt_fusion.benchmarking.timing import Effort, interleave
        >>> clocks = interleave({"sum": lambda: sum(range(1000)), "max": lambda: max(range(1000))}, Effort(rounds=3))
        >>> clocks["sum"].wall_ms.samples
        3
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        contenders = {name: _Contender(call, synchronise, effort) for name, call in calls.items()}
        names = list(contenders)
        total = sum(contender.samples for contender in contenders.values())
        if not total:
            on_sample(1.0)
        for i in range(effort.rounds):
            start = i % max(1, len(names))
            for name in names[start:] + names[:start]:
                contender = contenders[name]
                if (
                    i * contender.samples // effort.rounds
                    < (i + 1) * contender.samples // effort.rounds
                ):
                    contender.sample()
                    on_sample(1 / total)
    finally:
        if was_enabled:
            gc.enable()
    return {name: contender.clocks() for name, contender in contenders.items()}


def spread(samples: Sequence[float]) -> Spread:
    """Return the median and the quartiles of ``samples``."""
    if len(samples) < 2:
        return Spread(samples[0], samples[0], samples[0], len(samples))
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, q1, q3, len(samples))

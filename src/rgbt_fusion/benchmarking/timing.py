"""Interleaved timing in one process: every contender runs in every round.

So they share the moods of the machine.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Clocks", "Effort", "Spread", "interleave", "spread"]

_SAMPLE_S = 0.005
"""A sample lasts about this long at least; what is shorter is called several times."""

_SHORT_WARM_UP_S = 0.5
"""After a warm-up this short a second one says how long a call takes: the first also prepares."""


class Spread(NamedTuple):
    """Median and quartiles of the milliseconds that one call took, and the number of samples."""

    median: float
    q1: float
    q3: float
    samples: int


class Clocks(NamedTuple):
    """What one call took on the wall's clock, and on that of the process, all threads together."""

    wall_ms: Spread
    cpu_ms: Spread


@dataclass(frozen=True)
class Effort:
    """How much time a contest is worth."""

    rounds: int = 9
    budget_s: float = 2.5
    """Per contender: one that would need more than this for all rounds takes part in fewer."""
    least_samples: int = 3
    """The budget may be overdrawn to take this many samples."""
    patience_s: float = 4.0
    """A contender whose warm-up takes longer is not called again: that call is its one sample."""


class _Contender:
    def __init__(
        self, call: Callable[[], object], synchronise: Callable[[], object], effort: Effort
    ) -> None:
        self.call = call
        self.synchronise = synchronise
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.calls = 1
        first_s, first_cpu_s = self._run()
        if first_s > effort.patience_s:
            self.samples = 0
            self._keep(first_s, first_cpu_s)
            return
        call_s = first_s
        if first_s < _SHORT_WARM_UP_S:
            call_s, _ = self._run()
        if call_s < _SAMPLE_S:
            self.calls = max(1, round(_SAMPLE_S / max(call_s, 1e-7)))
        affordable = int(effort.budget_s / max(call_s * self.calls, 1e-9))
        self.samples = max(min(effort.least_samples, effort.rounds), min(effort.rounds, affordable))

    def _run(self) -> tuple[float, float]:
        self.synchronise()
        wall_start = time.perf_counter()
        cpu_start = time.process_time()
        for _ in range(self.calls):
            self.call()
        self.synchronise()
        wall_s = (time.perf_counter() - wall_start) / self.calls
        cpu_s = (time.process_time() - cpu_start) / self.calls
        return wall_s, cpu_s

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
    """Time several functions in turn: a warm-up or two each, then rounds in which each runs once.

    The order inside a round rotates. A slow function sits out some rounds, evenly spread, or all of
    them, as ``effort`` says. Garbage collection is off while a sample runs.

    Args:
        calls: what to run, by name.
        effort: how often.
        synchronise: waits for the device; called around every sample.
        on_sample: called after every sample with the share of the work that it was.

    Example:
        >>> from rgbt_fusion.benchmarking.timing import Effort, interleave
        >>> calls = {"sum": lambda: sum(range(1000)), "max": lambda: max(range(1000))}
        >>> clocks = interleave(calls, Effort(rounds=3))
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
        for number in range(effort.rounds):
            start = number % max(1, len(names))
            for name in names[start:] + names[:start]:
                contender = contenders[name]
                due_before = number * contender.samples // effort.rounds
                due_now = (number + 1) * contender.samples // effort.rounds
                if due_now > due_before:
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

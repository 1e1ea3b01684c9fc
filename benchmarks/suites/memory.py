"""The fresh processes that measure the memory of what only a checkout can run."""

from benchmarks import ROOT
from benchmarks.suites.workloads import TASKS
from rgbt_fusion.benchmarking.memory import MemoryMeter, serve

__all__ = ["new_meter"]


def new_meter() -> MemoryMeter:
    """Return a meter whose processes know the trackers; to be used in a ``with`` statement."""
    return MemoryMeter("benchmarks.suites.memory", ROOT)


if __name__ == "__main__":
    serve(TASKS)

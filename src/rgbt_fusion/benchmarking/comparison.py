"""What a comparison is: workloads that are timed in turn; and what the user narrows a run of them
to."""

from dataclasses import dataclass, field

from rgbt_fusion.benchmarking.workloads import Workload

__all__ = ["Comparison", "Options", "base_workload", "clock_of"]


@dataclass(frozen=True)
class Options:
    """What the user narrows a run to; an empty tuple leaves the choice to the suite."""

    quick: bool = False
    shapes: tuple[tuple[int, ...], ...] = ()
    backends: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    """The first is used everywhere, the others are compared with it."""
    threads: tuple[int, ...] = (1, 2)
    """Likewise."""
    layouts: tuple[str, ...] = ("token", "channel")
    passes: tuple[bool, ...] = (False, True)
    """Whether with a backward pass."""
    device: str = "cpu"


@dataclass(frozen=True)
class Comparison:
    """Workloads that are timed in turn; the first is ours."""

    suite: str
    table: str
    title: str
    entries: dict[str, Workload]
    baseline: str | None = None
    """The label that the ratios refer to."""
    clock: str = "cpu"
    memory: bool = False
    errors: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    """Who is not part of it, and why."""

    def __len__(self) -> int:
        return len(self.entries) + len(self.skipped)

    @property
    def full_title(self) -> str:
        """The title with the table that the comparison belongs to."""
        return f"{self.table}: {self.title}"


def base_workload(
    options: Options, task: str, sizes: dict[str, int], *, backward: bool = False
) -> Workload:
    """Return a workload without a contender, of the first data type and the first number of
    threads."""
    return Workload(
        task, "", sizes, options.dtypes[0], "token", backward, options.threads[0], options.device
    )


def clock_of(options: Options) -> str:
    """Return the clock that counts: the process's own on one CPU thread, else the wall's."""
    return "cpu" if options.threads[0] == 1 and options.device == "cpu" else "wall"

"""What a contest is: workloads that are timed in turn; and what the user narrows a run to."""

from dataclasses import dataclass, field

from rgbt_fusion.benchmarking.workloads import Workload

__all__ = ["Contest", "Options", "base_workload", "clock_of"]


@dataclass(frozen=True)
class Options:
    """What the user narrows a run to; an empty tuple leaves the choice to the suite."""

    quick: bool = False
    shapes: tuple[tuple[int, ...], ...] = ()
    backends: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    """The first is used everywhere, the others are compared with it."""
    threads: tuple[int, ...] = (1, 2)
    """The first is used everywhere, the others are compared with it."""
    layouts: tuple[str, ...] = ("token", "channel")
    passes: tuple[bool, ...] = (False, True)
    """Whether with a backward pass."""
    device: str = "cpu"


@dataclass(frozen=True)
class Contest:
    """Workloads that are timed in turn; the first is ours."""

    suite: str
    table: str
    title: str
    entries: dict[str, Workload]
    """The contenders by label."""
    baseline: str | None = None
    """The label that the ratios refer to."""
    clock: str = "cpu"
    memory: bool = False
    """Whether to measure memory, too."""
    errors: bool = False
    """Whether to measure errors, too."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Who takes no part, and why."""

    def __len__(self) -> int:
        return len(self.entries) + len(self.skipped)

    @property
    def full_title(self) -> str:
        """The title behind the table that the contest belongs to."""
        return f"{self.table}: {self.title}"


def base_workload(
    options: Options, task: str, sizes: dict[str, int], *, backward: bool = False
) -> Workload:
    """Return a workload without a contender, of the first data type and first number of threads."""
    return Workload(
        task=task,
        contender="",
        sizes=sizes,
        dtype=options.dtypes[0],
        layout="token",
        backward=backward,
        threads=options.threads[0],
        device=options.device,
    )


def clock_of(options: Options) -> str:
    """Return the clock that counts: that of the process on one CPU thread, else that on the wall.

    Example:
        >>> from rgbt_fusion.benchmarking.contest import Options, clock_of
        >>> clock_of(Options(threads=(1,))), clock_of(Options(threads=(2,)))
        ('cpu', 'wall')
    """
    return "cpu" if options.threads[0] == 1 and options.device == "cpu" else "wall"

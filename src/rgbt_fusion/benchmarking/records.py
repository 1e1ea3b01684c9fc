"""What a benchmark leaves behind: one JSON file per version, suite, machine and device.

A file is one :class:`Record`; this project keeps its own in
``benchmarks/results/<version>/<suite>--<machine>--<device>.json``. The dataclasses below are the
schema: reading a file checks every field against their annotations.
"""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from rgbt_fusion import __version__
from rgbt_fusion.benchmarking.timing import Spread
from rgbt_fusion.files.plain import from_plain
from rgbt_fusion.files.text_tables import read_text
from rgbt_fusion.files.whole import write_json

__all__ = [
    "PASSES",
    "Machine",
    "Record",
    "Row",
    "memory_bytes",
    "new_record",
    "read_record",
    "write_record",
]

FORMAT = 1

PASSES = {False: "forward", True: "forward+backward"}
"""What the tables call a row, by whether it takes gradients."""


@dataclass(frozen=True)
class Machine:
    """Where the figures were taken."""

    name: str
    cpu: str
    cores: int
    memory_gb: float
    system: str
    instructions: str
    """What torch takes the CPU for: DEFAULT, AVX2, AVX512, ...

    Then what the native kernels are held to, where they are.
    """
    gpu: str | None = None


@dataclass(frozen=True)
class Row:
    """One contender of one contest."""

    suite: str
    table: str
    """The question that the contest is part of; ``tables.TABLES`` shows it."""
    comparison: str
    """Title of the contest: its rows were timed in turn."""
    label: str
    """Who this is in the contest."""
    task: str
    contender: str
    sizes: dict[str, int]
    dtype: str
    layout: str
    backward: bool
    threads: int
    device: str
    baseline: str | None = None
    """The label that ``ratio`` refers to."""
    clock: str = "cpu"
    """Which of the two times ``ratio`` is made of: ``"cpu"`` or ``"wall"``."""
    ratio: float | None = None
    """How many times faster than the baseline: its median over this one's."""
    wall_ms: Spread | None = None
    cpu_ms: Spread | None = None
    extra_bytes: int | None = None
    """Peak memory of one call beyond its inputs and parameters."""
    resident_bytes: int | None = None
    """Peak memory of a whole process that builds a model and runs it a few times.

    Python and PyTorch are included.
    """
    error: dict[str, float] | None = None
    """Largest absolute error over largest absolute value, against float64.

    ``"out"`` and ``"gradients"``; of a model in another form ``"score"``, the largest difference of
    the score map from that of the first contender.
    """
    parameters: int | None = None
    macs: int | None = None
    skipped: str | None = None
    """Why nothing was measured."""

    @property
    def time(self) -> Spread | None:
        """The time, in milliseconds, that ``ratio`` is made of."""
        return self.cpu_ms if self.clock == "cpu" else self.wall_ms


@dataclass(frozen=True)
class Record:
    """A run of ``rgbt-fusion bench``."""

    suite: str
    version: str
    commit: str
    """Of the source tree, with ``+`` behind it where files differed; empty where there is none."""
    created: str
    command: str
    device: str
    machine: Machine
    software: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    format: int = FORMAT

    @property
    def file_name(self) -> str:
        """Where the record belongs below the folder of results."""
        return f"{self.version}/{self.suite}--{self.machine.name}--{self.device}.json"


def new_record(suite: str, device: str, command: str, machine_name: str | None = None) -> Record:
    """Return a record without rows that describes this moment, this machine and this software."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Record(
        suite, __version__, _commit(), created, command, device, _machine(machine_name), _software()
    )


def write_record(record: Record, path: Path) -> None:
    """Write ``record`` as JSON, making the folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(record))


def read_record(path: Path) -> Record:
    """Read a record and check every field of it.

    Raises:
        ValueError: the file is no JSON, or a field is missing, unknown or of another type; the
            message names it.
    """
    try:
        data = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be a benchmark record, got no JSON: {error}") from error
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise ValueError(f"{path} must have format {FORMAT}, got {data.get('format')!r}")
    try:
        return from_plain(Record, data, every_field=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _commit() -> str:
    """Return the commit of the source tree that this file lies in."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # an installed package may lie inside somebody else's repository
        if not git("ls-files", Path(__file__).name):
            return ""
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return f"{commit}+" if changed else commit
    except (OSError, subprocess.CalledProcessError):
        return ""


def _machine(name: str | None) -> Machine:
    import torch

    from rgbt_fusion.ops.native.backend import LEVEL_VARIABLE

    cpu = _cpu_name()
    cores = _usable_cores()
    instructions = torch.backends.cpu.get_cpu_capability()
    level = os.environ.get(LEVEL_VARIABLE)
    if level:
        instructions += f", kernels held to {level}"
    name = name or f"{cpu}-{cores}-cores-{instructions}"
    return Machine(
        name=re.sub("[^a-z0-9]+", "-", name.lower()).strip("-"),
        cpu=cpu,
        cores=cores,
        memory_gb=round(memory_bytes() / 2**30, 1),
        system=platform.system(),
        instructions=instructions,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the size of this machine's memory; 0 where the system does not say."""
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def _software() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("torch", "numpy", "triton", "mambapy", "mamba-ssm", "causal-conv1d"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions

"""How long it takes until something can run.

Measured are the import beyond torch's own, and the help of the command line.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

from rgbt_fusion.benchmarking.cells import milliseconds
from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.benchmarking.timing import Spread, spread
from rgbt_fusion.files.table import Table

__all__ = ["measure_startup", "startup_table"]

_IMPORT = """
import time, torch
start = time.perf_counter()
from rgbt_fusion import DFM
print(time.perf_counter() - start)
"""
_HELP = "from rgbt_fusion.cli import main; main(['--help'])"


def measure_startup(rounds: int) -> list[Row]:
    """Time ``from rgbt_fusion import DFM`` after ``import torch``, and ``rgbt-fusion --help``.

    Args:
        rounds: how often each is timed, after one round that fills the file cache.
    """
    imports = []
    helps = []
    for _ in range(rounds + 1):
        imports.append(1e3 * float(_python(_IMPORT)))
        start = time.perf_counter()
        _python(_HELP)
        helps.append(1e3 * (time.perf_counter() - start))
    return [
        _row("from rgbt_fusion import DFM", spread(imports[1:])),
        _row("rgbt-fusion --help", spread(helps[1:])),
    ]


def startup_table(rows: Sequence[Row]) -> Table:
    """Show what has to be waited for before anything runs."""
    return Table(("", "wall ms"), tuple((row.label, milliseconds(row.wall_ms)) for row in rows))


def _python(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last_words = done.stderr.strip().splitlines()[-1]
        raise RuntimeError(f"starting a fresh process failed: {last_words}")
    return done.stdout


def _row(label: str, wall_ms: Spread) -> Row:
    return Row(
        suite="startup",
        table="startup",
        comparison="fresh process",
        label=label,
        task="startup",
        contender="rgbt_fusion",
        sizes={},
        dtype="",
        layout="",
        backward=False,
        threads=1,
        device="cpu",
        clock="wall",
        wall_ms=wall_ms,
    )

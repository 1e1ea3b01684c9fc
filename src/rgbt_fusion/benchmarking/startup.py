"""How long it takes until something can run: the import beyond torch's own, and the help of the
command line."""

import subprocess
import sys
import time

from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.benchmarking.timing import Spread, spread

__all__ = ["measure_startup"]

_IMPORT = """
import time, torch
start = time.perf_counter()
from rgbt_fusion import DFM
print(time.perf_counter() - start)
"""
_HELP = "from rgbt_fusion.cli import main; main(['--help'])"


def measure_startup(rounds: int) -> list[Row]:
    """Return the time of ``from rgbt_fusion import DFM`` after ``import torch``, and of
    ``rgbt-fusion --help``."""
    imports, helps = [], []
    for _ in range(rounds + 1):
        imports.append(1e3 * float(_python(_IMPORT)))
        start = time.perf_counter()
        _python(_HELP)
        helps.append(1e3 * (time.perf_counter() - start))
    # the first round fills the file cache
    return [
        _row("from rgbt_fusion import DFM", spread(imports[1:])),
        _row("rgbt-fusion --help", spread(helps[1:])),
    ]


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"starting a fresh process failed: {done.stderr.strip().splitlines()[-1]}"
        )
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

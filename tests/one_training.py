"""One small training in a process of its own, for tests that kill it, split it or take its disk
away.

python one_training.py FOLDER '{"steps": 9, ...}' [--limit STEP]
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from rgbt_fusion.training import Progress, TrainConfig, config_from_table, train

SMALL = {
    "dim": 16,
    "depth": 1,
    "num_heads": 1,
    "head_channels": 8,
    "template_size": 32,
    "search_size": 64,
}
PLAIN_DATA = {"sequences": 2, "frames": 10, "workers": 0, "challenges": ["none"]}


def small_training(**changes) -> TrainConfig:
    """A training of a few milliseconds a step."""
    table = {
        "model": "ostrack_tiny_128",
        "overrides": SMALL,
        "batch_size": 2,
        "log_every": 1,
        "checkpoint_every": 2,
        "data": PLAIN_DATA,
        "optimiser": {"average_decay": 0.9, "learning_rate": 1e-3},
    }
    return config_from_table(TrainConfig, table | changes)


ABORTED = "terminate called without an active exception"
"""What torch says where a thread of its own ends the process: rarely, and on busy machines only."""


def train_in_two_processes(folder: Path, changes: dict[str, Any]) -> None:
    """Run ``small_training`` in two processes that share each batch; go on if torch aborts."""
    done = _run_two(folder, changes)
    if ABORTED in done.stderr:
        print(done.stderr)
        done = _run_two(folder, changes)
    assert done.returncode == 0, done.stderr[-3000:]


def _run_two(folder: Path, changes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    return subprocess.run(
        [sys.executable, "-W", "ignore", *launcher, __file__, str(folder), json.dumps(changes)],
        capture_output=True,
        text=True,
        check=False,
        # says where the threads of Python were, if it happens again
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )


def main() -> None:
    folder, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
    limited = int(sys.argv[4]) if len(sys.argv) > 3 else None

    def watch(now: Progress) -> None:
        if now.step == limited:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))

    torch.set_num_threads(1)
    train(small_training(**changes), out=folder, device="cpu", on_progress=watch)


if __name__ == "__main__":
    main()

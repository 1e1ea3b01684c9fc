"""Processes that make samples: no room in shared memory, stopped, killed; one sentence each."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from one_training import PLAIN_DATA, small_training
from rgbt_fusion.training import TrainingError, train, worker_processes
from rgbt_fusion.training.samples import Batch
from rgbt_fusion.training.worker_processes import explaining_dead_workers, in_shared_memory

ONE_WORKER = PLAIN_DATA | {"workers": 1}


def test_batches_come_in_shared_memory():
    boxes = torch.rand(2, 4)
    batch = Batch(None, (), (boxes,))  # type: ignore[arg-type]
    assert in_shared_memory(batch) is batch
    assert boxes.is_shared()


def test_no_room_is_told(monkeypatch):
    def refuse(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </x>: No space left")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with pytest.raises(TrainingError, match=r"ran out of shared memory; .*set data.workers = 0"):
        in_shared_memory((torch.ones(1),))

    def fail(self):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    with pytest.raises(RuntimeError, match="something else"):
        in_shared_memory((torch.ones(1),))


@pytest.mark.parametrize(
    ("torch_says", "told"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ...",
            "ran out of shared memory; .*data.workers = 0",
        ),
        (
            "DataLoader worker (pid 7) is killed by signal: Killed. ",
            "^a process that makes samples is killed by signal: Killed, as the system does",
        ),
        (
            "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
            "^a process that makes samples exited unexpectedly$",
        ),
    ],
)
def test_an_end_is_told_in_one_sentence(torch_says, told):
    with pytest.raises(TrainingError, match=told), explaining_dead_workers():
        raise RuntimeError(torch_says)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="mat1 and mat2 differ"), explaining_dead_workers():
        raise RuntimeError("mat1 and mat2 differ")


def _one_child() -> int:
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    return child.pid


class Stop:
    """Stop the process that makes samples after the first step, once, and do something then.

    Not before the first step: the start of a process takes its time.
    """

    def __init__(self, then: Callable[[int], Any]) -> None:
        self.then = then
        self.pid: int | None = None

    def __call__(self, now: Any) -> None:
        if self.pid is None:
            self.pid = _one_child()
            os.kill(self.pid, signal.SIGSTOP)
            self.then(self.pid)


needs_sigstop = pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="the system stops no processes"
)


@needs_sigstop
def test_a_stopped_process_ends_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_processes, "LOOK_EVERY_S", 0.2)
    stop = Stop(lambda pid: monkeypatch.setattr(worker_processes, "LONGEST_SILENCE_S", 1.0))
    config = small_training(steps=1000, data=ONE_WORKER)
    with pytest.raises(TrainingError, match="samples said nothing for 1 s, as if they were stop"):
        train(config, out=tmp_path, device="cpu", on_progress=stop)
    assert stop.pid is not None
    assert not multiprocessing.active_children()


@needs_sigstop
def test_a_process_that_goes_on_in_time_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_processes, "LOOK_EVERY_S", 0.2)
    shells = []

    def go_on_later(pid):
        shells.append(subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {pid}"]))

    config = small_training(steps=12, data=ONE_WORKER)
    result = train(config, out=tmp_path, device="cpu", on_progress=Stop(go_on_later))
    assert [shell.wait() for shell in shells] == [0]
    assert result.steps == 12


def test_a_killed_process_is_told(tmp_path):
    def kill(now):
        os.kill(_one_child(), signal.SIGKILL)
        # torch notices it by a signal
        time.sleep(0.2)

    config = small_training(steps=1000, data=ONE_WORKER)
    with pytest.raises(TrainingError, match="samples is killed by signal: Killed, as the system"):
        train(config, out=tmp_path, device="cpu", on_progress=kill)
    assert not multiprocessing.active_children()


SCRIPT = """
import sys
from pathlib import Path
from one_training import PLAIN_DATA, small_training
from rgbt_fusion.training import train

config = small_training(steps=6, batch_size=8, data=PLAIN_DATA | {"workers": 1})
try:
    train(config, out=Path(sys.argv[1]), device="cpu")
except ValueError as error:
    print(error)
"""


def _can_mount() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"]
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_small_dev_shm_is_told(tmp_path: Path) -> None:
    if not _can_mount():
        pytest.skip("a small /dev/shm needs root on Linux")
    mount = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"'
    python = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", *python],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "the processes that make samples ran out of shared memory; /dev/shm holds 0.0625 MiB: "
        "make it larger (in Docker with --shm-size), or set data.workers = 0\n"
    )
    assert done.stderr == ""

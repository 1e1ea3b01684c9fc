"""One process per folder: who is refused, what a kill leaves, and parts of one job."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rgbt_fusion.files.folder_lock import LOCK, FolderInUseError, only_process

WORK = """
import sys
from rgbt_fusion.files.folder_lock import only_process
with only_process(sys.argv[1], part=(int(sys.argv[2]), int(sys.argv[3]))):
    print("working", flush=True)
    sys.stdin.readline()
"""


def worker(folder: Path, number: int = 0, count: int = 1) -> "subprocess.Popen[str]":
    """Start a process that works in a folder until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(folder), str(number), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate("\n")
    assert process.returncode == 0


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def refusal(folder: Path, number: int = 0, count: int = 1) -> str:
    with (
        pytest.raises(FolderInUseError) as caught,
        only_process(folder, part=(number, count)),
    ):
        pass
    return str(caught.value)


def test_the_second_process_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    process = worker(tmp_path)
    assert refusal(tmp_path).startswith(f"{tmp_path} is in use by process {process.pid} on ")
    assert refusal(tmp_path, 0, 2).startswith(f"{tmp_path} is in use by process {process.pid} on ")
    end(process)
    with only_process(tmp_path):
        assert names(tmp_path) == [LOCK]
    assert names(tmp_path) == []


def test_a_killed_process_keeps_nobody_out(tmp_path: Path) -> None:
    process = worker(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert names(tmp_path) == [LOCK]
    with only_process(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_child_that_outlives_its_killed_parent_keeps_nobody_out(tmp_path: Path) -> None:
    fork = "import os\n    if not os.fork(): sys.stdin.read()\n    "
    script = WORK.replace("print(", f"{fork}print(")
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), "0", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with only_process(tmp_path):
        pass
    process.communicate()


def test_the_parts_of_one_job_share_a_folder(tmp_path: Path) -> None:
    first = worker(tmp_path, 0, 2)
    second = worker(tmp_path, 1, 2)
    assert f"process {second.pid} on " in refusal(tmp_path, 1, 2)
    assert "in use by process" in refusal(tmp_path)
    end(first)
    assert f"process {second.pid} on " in refusal(tmp_path)
    end(second)
    assert names(tmp_path) == []


def test_one_process_may_not_start_twice(tmp_path: Path) -> None:
    with only_process(tmp_path):
        assert f"process {os.getpid()}, which is this one" in refusal(tmp_path)
        assert f"process {os.getpid()}, which is this one" in refusal(tmp_path, 0, 2)
        (tmp_path / "inner").mkdir()
        with only_process(tmp_path / "inner"):
            pass
    with only_process(tmp_path):
        pass


def test_without_locks_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def fail(descriptor: int, kind: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", fail)
    with only_process(tmp_path):
        pass
    with only_process(tmp_path / "gone"):
        pass

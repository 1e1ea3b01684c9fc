"""Files that are whole or not there: killed writers, full disks, permissions, links and devices."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rgbt_fusion.files.whole import scratch_folder, write_bytes, write_json, write_text, writing


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def parts(folder: Path) -> list[str]:
    return [name for name in names(folder) if ".part" in name]


def test_what_is_written_is_there_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "boxes.txt", "päck\n")
    write_bytes(tmp_path / "weights.bin", b"\x00\xff")
    assert (tmp_path / "boxes.txt").read_bytes() == "päck\n".encode()
    assert (tmp_path / "weights.bin").read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["boxes.txt", "weights.bin"]


def test_plain_values_come_back_from_a_json_file(tmp_path: Path) -> None:
    content = {"success": 0.5, "names": ["a", "\u00e4"], "best": None}
    write_json(tmp_path / "scores.json", content)
    text = (tmp_path / "scores.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert text.endswith("}\n")


def test_the_old_file_stays_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("old")
    with writing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == path.parent
        assert str(os.getpid()) in part.name
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("old")
    with pytest.raises(error), writing(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["boxes.txt"]


def test_two_writers_in_one_process_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    with writing(path) as first:
        first.write_text("first")
        with writing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert names(tmp_path) == ["boxes.txt"]


def test_the_ending_can_be_kept(tmp_path: Path) -> None:
    with writing(tmp_path / "film.mp4", keep_suffix=True) as part:
        assert part.suffix == ".mp4"
    with writing(tmp_path / "film.mp4") as part:
        assert part.suffix == ".part"


@pytest.mark.parametrize("name", ["b [1]*?.txt", "x" * 255, "ü" * 127, "no_ending", ".hidden"])
def test_any_name_of_a_file_can_be_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "whole")
    write_text(tmp_path / name, "again")
    assert names(tmp_path) == [name]


# ---- killed writers and living ones

HOLD = """
import sys, time
from rgbt_fusion.files.whole import writing
with writing(sys.argv[1], keep_suffix=len(sys.argv) > 2) as part:
    part.write_text("child")
    print("written", flush=True)
    sys.stdin.readline()
"""


def writer(path: Path, *more: str, script: str = HOLD) -> "subprocess.Popen[str]":
    """Start a process that writes a file and stays inside of it until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "written\n"
    return process


def end(process: "subprocess.Popen[str]") -> int:
    process.communicate("\n")
    return process.returncode


@pytest.mark.parametrize("more", [(), ("keep_suffix",)])
def test_what_a_killed_process_left_is_swept(tmp_path: Path, more: tuple[str, ...]) -> None:
    path = tmp_path / "b [1].txt"
    process = writer(path, *more)
    process.send_signal(signal.SIGKILL)
    end(process)
    assert len(parts(tmp_path)) == 1
    assert not path.exists()
    write_text(path, "whole")
    assert names(tmp_path) == ["b [1].txt"]


def test_the_part_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    process = writer(path)
    write_text(path, "parent")
    assert len(parts(tmp_path)) == 1
    assert end(process) == 0
    assert path.read_text() == "child"
    assert names(tmp_path) == ["boxes.txt"]


HOLD_FOLDER = """
import sys
from rgbt_fusion.files.whole import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    (folder / "inside").mkdir()
    (folder / "inside" / "half").write_text("child")
    print("written", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("next_one", ["writing", "scratch_folder"])
def test_the_scratch_folder_of_a_killed_process_is_swept(tmp_path: Path, next_one: str) -> None:
    path = tmp_path / "step.onnx"
    process = writer(path, script=HOLD_FOLDER)
    assert len(parts(tmp_path)) == 1
    write_text(tmp_path / "other.txt", "")
    assert len(parts(tmp_path)) == 1, "that of a living process is left alone"
    process.send_signal(signal.SIGKILL)
    end(process)
    assert len(parts(tmp_path)) == 1
    if next_one == "writing":
        write_text(tmp_path / "other.txt", "")
    else:
        with scratch_folder(tmp_path / "other") as folder:
            assert names(folder) == []
    assert names(tmp_path) == ["other.txt"]


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_parts_of_this_file_are_swept(tmp_path: Path, dead: int) -> None:
    write_text(tmp_path / f".other.txt.{dead}.00000000.part", "another file's")
    write_text(tmp_path / f".boxes.txt.{dead}.00000000.partial", "no part")
    write_text(tmp_path / f"boxes.txt.{dead}.00000000.part", "no part")
    write_text(tmp_path / f".boxes.txt.{dead}.00000000.part", "left")
    write_text(tmp_path / f".boxes.txt.{dead}.part", "left by an earlier version")
    write_text(tmp_path / f".boxes.txt.{os.getpid()}.00000000.part", "left in another container")
    (tmp_path / f".boxes.txt.{dead}.11111111.part").mkdir()
    write_text(tmp_path / "boxes.txt", "whole")
    assert names(tmp_path) == [
        f".boxes.txt.{dead}.00000000.partial",
        f".boxes.txt.{dead}.11111111.part",
        f".other.txt.{dead}.00000000.part",
        "boxes.txt",
        f"boxes.txt.{dead}.00000000.part",
    ]


def test_parts_of_any_file_are_swept_where_their_writer_is_dead(tmp_path: Path) -> None:
    process = writer(tmp_path / "large.bin")
    process.send_signal(signal.SIGKILL)
    end(process)
    living = writer(tmp_path / "other.bin")
    (part,) = [name for name in parts(tmp_path) if name.startswith(".other.bin")]
    write_text(tmp_path / "boxes.txt", "whole")
    assert names(tmp_path) == [part, "boxes.txt"]
    assert end(living) == 0
    assert names(tmp_path) == ["boxes.txt", "other.bin"]


def test_the_part_of_another_machine_stays_for_a_day(tmp_path: Path, dead: int) -> None:
    path = tmp_path / f".large.bin.{dead}.01234567-89abcdef.part"
    path.write_text("of a container whose processes nobody sees here")
    write_text(tmp_path / "boxes.txt", "")
    assert path.exists()
    os.utime(path, (0, 0))
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_text(tmp_path / "boxes.txt", "")
        assert path.exists()
    write_text(tmp_path / "boxes.txt", "")
    assert names(tmp_path) == ["boxes.txt"]


def test_two_names_of_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with writing(Path("boxes.txt")) as part:
        part.write_text("first")
        write_text(tmp_path / "other.txt", "second")
        assert part.exists()
    assert names(tmp_path) == ["boxes.txt", "other.txt"]


# ---- permissions, links and devices


@pytest.fixture(params=[0o022, 0o077, 0o002])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path, mask: int) -> None:
    write_text(tmp_path / "boxes.txt", "")
    assert permissions(tmp_path / "boxes.txt") == 0o666 & ~mask


def test_a_writer_that_puts_a_file_of_its_own_there(tmp_path: Path, mask: int) -> None:
    with writing(tmp_path / "weights") as part:
        (tmp_path / "own").write_text("content")
        (tmp_path / "own").chmod(0o600)
        (tmp_path / "own").replace(part)
    assert permissions(tmp_path / "weights") == 0o666 & ~mask
    assert (tmp_path / "weights").read_text() == "content"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "boxes.txt")
    for text in ("new", "again"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk" / "boxes.txt").read_text() == text
    assert names(tmp_path / "disk") == ["boxes.txt"]


def test_a_device_is_not_replaced() -> None:
    write_text("/dev/null", "nowhere")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


# ---- what cannot be written


def test_a_full_device_is_told() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_text("/dev/full", "much")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


FULL = """
import resource, sys
from rgbt_fusion.files.whole import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_bytes(sys.argv[1], bytes(2000))
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("old")
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert path.read_text() == "old"
    assert names(tmp_path) == ["boxes.txt"]


def test_a_disk_that_fails_at_last_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "boxes.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["boxes.txt"]


def test_errors_name_the_file_and_not_its_part(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path, error in (
        (tmp_path / "gone" / "boxes.txt", FileNotFoundError),
        (tmp_path / "file" / "boxes.txt", NotADirectoryError),
        (tmp_path / "folder", IsADirectoryError),
    ):
        with pytest.raises(error) as caught:
            write_text(path, "")
        assert str(caught.value).endswith(f": {str(path)!r}")
    assert names(tmp_path) == ["file", "folder"]


READ_ONLY = """
import os, sys
from rgbt_fusion.files.whole import write_text
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    write_text("boxes.txt", "new")
except PermissionError as error:
    print(error)
"""


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    command = [sys.executable, "-c", READ_ONLY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    tmp_path.chmod(0o755)
    assert done.stdout == "[Errno 13] Permission denied: 'boxes.txt'\n"
    assert names(tmp_path) == []


def test_a_folder_that_may_not_be_read_can_be_written(tmp_path: Path) -> None:
    """Such a folder can be neither swept nor synced; what is written there is written."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "mailbox"
    folder.mkdir()
    folder.chmod(0o333)
    script = READ_ONLY.replace('"boxes.txt"', '"mailbox/boxes.txt"') + "print('written')\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    folder.chmod(0o755)
    assert done.stdout == "written\n"
    assert names(folder) == ["boxes.txt"]

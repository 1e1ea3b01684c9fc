"""Writing a file whole: whoever looks finds the old file or the new one, never a part of one.

And folders for what is not kept: whoever comes next removes what a killed process left.
"""

import errno
import json
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from rgbt_fusion.files.folder_lock import is_locked, try_lock

__all__ = ["scratch_folder", "write_bytes", "write_json", "write_text", "writing"]

# a name may have 255 bytes; a process id, a token, a machine and the ending need less than 55
_LONGEST_LABEL = 200

# of whatever file, with the machine that writes it
_ANY_PART = re.compile(r"\..+\.(\d{1,9})\.[0-9a-f]{8}-([0-9a-f]{8})\.part(\.\w+)?")

# the parts that this process is writing: of all parts with its id, those that are not left over
_BEING_WRITTEN: set[str] = set()

# nobody here can ask whether a process of another machine still runs
_LEFT_BY_ANOTHER_MACHINE_S = 24 * 3600


@contextmanager
def writing(path: str | Path, *, keep_suffix: bool = False) -> Iterator[Path]:
    """Give a new, empty file beside ``path`` to write to, which becomes ``path`` at the end.

    The file beside it, the part, is flushed to the disk and takes the name of ``path`` when the
    block ends without an exception; otherwise it is removed and what was at ``path`` stays. A
    process that is killed leaves its part; the next one that writes any file into the same folder
    removes it. Parts of processes that still run are left alone: the last one to finish wins.
    A part from another machine or container is removed when it is a day old and not locked.

    Choices: the file gets the permissions of any new file (the umask's), whoever wrote the part. A
    symbolic link stays, and the file it points to is replaced. A device or a pipe cannot be
    replaced: it is given itself.

    Args:
        path: the file.
        keep_suffix: end the part's name like ``path``, for writers that choose a format by it.

    Raises:
        OSError: the file cannot be written; the error names ``path``.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from rgbt_fusion.files.whole import writing
        >>> path = Path(tempfile.mkdtemp()) / "boxes.txt"
        >>> with writing(path) as part:
        ...     _ = part.write_text("1,2,3,4")
        ...     path.exists()
        False
        >>> path.read_text()
        '1,2,3,4'
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    target = path.resolve() if path.is_symlink() else path
    part = _part_name(target, keep_suffix=keep_suffix)
    own = os.path.realpath(part)
    _BEING_WRITTEN.add(own)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        _sweep(target)
        with _locked(part) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            yield part
        # some writers put a file of their own in the place of ours, open to its owner alone
        part.chmod(mode)
        _sync(part)
        part.replace(target)
    except OSError as error:
        if error.filename == str(part):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            part.unlink()
        _BEING_WRITTEN.discard(own)
    # the new name is on the disk only when the folder is; not every file system can do that
    with suppress(OSError):
        _sync(target.parent)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole; see :func:`writing`."""
    with writing(path) as part:
        part.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole, as UTF-8; see :func:`writing`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, content: Any) -> None:
    """Write plain values as a JSON file, one per line; see :func:`writing`."""
    write_text(path, json.dumps(content, indent=1) + "\n")


@contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty folder beside ``path``, which is removed when the block ends.

    A process that is killed leaves it, as it leaves the part of a file; the next one that writes a
    file or has such a folder in the same place removes it.

    Args:
        path: what the folder is for, such as the file that is made with its help.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from rgbt_fusion.files.whole import scratch_folder
        >>> with scratch_folder(Path(tempfile.mkdtemp()) / "model.onnx") as folder:
        ...     _ = (folder / "half_done").write_text("...")
        >>> folder.exists()
        False
    """
    folder = _part_name(Path(path), keep_suffix=False)
    own = os.path.realpath(folder)
    _BEING_WRITTEN.add(own)
    try:
        _sweep(Path(path))
        folder.mkdir()
        with _locked_folder(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _BEING_WRITTEN.discard(own)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, where the system can open one."""
    if os.name != "posix":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """Make a part and hold a lock on it, which tells other machines that somebody writes it."""
    with part.open("xb") as file:
        try_lock(file.fileno())
        yield file


def _part_name(path: Path, *, keep_suffix: bool) -> Path:
    suffix = path.suffix if keep_suffix else ""
    token = f"{secrets.token_hex(4)}-{_machine()}"
    return path.with_name(f"{_label(path)}.{os.getpid()}.{token}.part{suffix}")


@lru_cache
def _machine() -> str:
    """Return what stands for this machine, or this container: where process ids mean something."""
    try:
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        processes = ""
    return sha256(f"{platform.node()} {processes}".encode()).hexdigest()[:8]


def _label(path: Path) -> str:
    """Return how the names of all parts of a file begin."""
    return "." + path.name.encode()[:_LONGEST_LABEL].decode(errors="ignore")


def _sweep(path: Path) -> None:
    """Remove the parts and scratch folders that killed processes left in the folder of a file."""
    # earlier versions did not name the machine, and had no folders
    earlier = re.compile(re.escape(_label(path)) + r"\.(\d{1,9})(\.[0-9a-f]{8})?\.part(\.\w+)?")
    # a folder may be open for writing and closed for reading, and a part may be somebody else's
    with suppress(OSError):
        for entry in list(path.parent.iterdir()):
            current = _ANY_PART.fullmatch(entry.name)
            machine = current[2] if current else _machine()
            found = current or earlier.fullmatch(entry.name)
            if found and _is_left_over(entry, int(found[1]), machine):
                with suppress(OSError):
                    if current and entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry)
                    else:
                        entry.unlink()


def _is_left_over(part: Path, process: int, machine: str) -> bool:
    if os.path.realpath(part) in _BEING_WRITTEN or is_locked(part):
        return False
    if machine != _machine():
        return time.time() - part.stat().st_mtime > _LEFT_BY_ANOTHER_MACHINE_S
    if process == os.getpid():
        # in a container, a process often has the number of the one that was killed
        return True
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

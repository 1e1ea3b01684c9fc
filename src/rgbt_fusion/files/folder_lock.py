"""One process per folder: a second one is refused with the number of the first."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

__all__ = ["FolderInUseError", "is_locked", "only_process", "try_lock"]

LOCK = ".rgbt-fusion.lock"
"""The file of the lock, which is there while a process works in the folder."""

# the locks of this process, and which of them are shared: the system would give it them once more
_HELD: dict[str, bool] = {}


class FolderInUseError(ValueError):
    """Another process works in the folder; the message says which one."""


@contextmanager
def only_process(folder: str | Path, *, part: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Be the only process that works in a folder, as long as the block lasts.

    The system ends the lock with the process, however that ends, and the next process takes the
    file of the lock away.

    Choices: a second process is refused and does not wait, because it would do the same work once
    more. Where the system or the disk has no locks, or the folder cannot be written, the block runs
    without one.

    Args:
        folder: the folder, which exists.
        part: number and count of the parts of one job that share the folder. Each part is done by
            one process.

    Raises:
        FolderInUseError: another process works in ``folder``, or on the same part in it.

    Example:
        >>> import tempfile
        >>> from rgbt_fusion.files.folder_lock import only_process
        >>> with tempfile.TemporaryDirectory() as folder, only_process(folder):
        ...     try:
        ...         with only_process(folder):
        ...             pass
        ...     except ValueError as error:
        ...         print(str(error).startswith(f"{folder} is in use by process"))
        True
    """
    number, count = part
    base = Path(folder)
    with ExitStack() as stack:
        if count > 1:
            stack.enter_context(_lock(base / f"{LOCK}.{number}-of-{count}", shared=False))
        stack.enter_context(_lock(base / LOCK, shared=count > 1))
        yield


@contextmanager
def _lock(path: Path, *, shared: bool) -> Iterator[None]:
    """Hold a lock on a file that is there only as long as somebody holds it."""
    own = f"{os.path.realpath(path)} {os.getpid()}"
    if own in _HELD:
        if shared and _HELD[own]:
            yield
            return
        raise FolderInUseError(_refusal(path, f"process {os.getpid()}, which is this one"))
    descriptor = _locked_descriptor(path, shared=shared)
    if descriptor is None:
        yield
        return
    _HELD[own] = shared
    try:
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        # the last one that shares a lock takes its file away
        with suppress(OSError):
            if not shared or _take(descriptor, shared=False):
                path.unlink()
        os.close(descriptor)
        del _HELD[own]


def _locked_descriptor(path: Path, *, shared: bool) -> int | None:
    """Open and lock a file; None where no lock can be had at all.

    Raises:
        FolderInUseError: another process holds the lock.
    """
    if fcntl is None:
        return None
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            taken = _take(descriptor, shared=shared)
        except OSError:
            os.close(descriptor)
            return None
        if not taken:
            os.close(descriptor)
            raise FolderInUseError(_refusal(path, _holder(path)))
        # the one who held it before may have taken the file away between the two
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _take(descriptor: int, *, shared: bool) -> bool:
    """Lock an open file for this process, and say whether nobody else had.

    Unlike flock, this lock is not inherited: a worker that outlives its killed parent has none.

    Raises:
        OSError: the disk has no locks.
    """
    if fcntl is None:
        return False
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _holder(path: Path) -> str:
    """Return which process holds a lock, as far as it has said so yet."""
    for _ in range(20):
        with suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")[:200]
            if text:
                return f"process {text}"
        time.sleep(0.01)
    return "another process"


def _refusal(path: Path, holder: str) -> str:
    return f"{path.parent} is in use by {holder}: wait until it is done, or take another folder"


def try_lock(descriptor: int) -> None:
    """Mark an open file as one that is being written, for :func:`is_locked` of any process."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: Path) -> bool:
    """Return whether somebody who is alive has marked a file by :func:`try_lock`."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False

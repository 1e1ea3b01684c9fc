"""Writing a file whole: whoever looks finds the old file or the new one, never a part of one."""

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["write_bytes", "write_text", "writing"]

# a name may have 255 bytes; a process id, a token and the ending need less than 55
_LONGEST_LABEL = 200

# the parts that this process is writing: of all parts with its id, those that are not left over
_BEING_WRITTEN: set[Path] = set()


@contextmanager
def writing(path: str | Path, *, keep_suffix: bool = False) -> Iterator[Path]:
    """Give a new, empty file beside ``path`` to write to, which becomes ``path`` at the end.

    The file beside it, the part, is flushed to the disk and takes the name of ``path`` when the
    block ends without an exception; otherwise it is removed and what was at ``path`` stays. A
    process that is killed leaves its part; the next one that writes the same file removes it.
    Parts of processes that still run are left alone: the last one to finish wins.

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
    _BEING_WRITTEN.add(part)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        _sweep(target)
        with part.open("xb") as file:
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
        _BEING_WRITTEN.discard(part)
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


def _part_name(path: Path, *, keep_suffix: bool) -> Path:
    suffix = path.suffix if keep_suffix else ""
    return path.with_name(f"{_label(path)}.{os.getpid()}.{secrets.token_hex(4)}.part{suffix}")


def _label(path: Path) -> str:
    """Return how the names of all parts of a file begin."""
    return "." + path.name.encode()[:_LONGEST_LABEL].decode(errors="ignore")


def _sweep(path: Path) -> None:
    """Remove the parts of a file that killed processes left."""
    pattern = re.compile(re.escape(_label(path)) + r"\.(\d{1,9})(\.[0-9a-f]{8})?\.part(\.\w+)?")
    # a folder may be open for writing and closed for reading, and a part may be somebody else's
    with suppress(OSError):
        for entry in list(path.parent.iterdir()):
            found = pattern.fullmatch(entry.name)
            if found and _is_left_over(entry, int(found[1])):
                with suppress(OSError):
                    entry.unlink()


def _is_left_over(part: Path, process: int) -> bool:
    if process == os.getpid():
        # in a container, a process often has the number of the one that was killed
        return part not in _BEING_WRITTEN
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

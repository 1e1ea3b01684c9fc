"""Text files of the field: boxes, flags and names, read without trusting them.

Every reader takes any separator that the field uses: comma, tab, space, semicolon. What cannot be
read is refused with one sentence that names file and line. Nothing is ever evaluated or unpickled.
"""

import re
import stat
from collections.abc import Iterable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.files.plain_decimals import plain_decimals

__all__ = [
    "DataError",
    "check_regular_file",
    "is_plain_name",
    "line_of_row",
    "natural_key",
    "read_flags",
    "read_lines",
    "read_names",
    "read_numbers",
    "read_text",
]

# The boxes of a million frames take about 40 MB.
_MOST_BYTES = 1 << 28

# the log of a long training takes 10 MB; what JSON makes of a text is about ten times as large
_MOST_SETTINGS = 1 << 24

_SEPARATORS = str.maketrans(",;\t", "   ")


class DataError(ValueError):
    """A file of a dataset or of results is missing, unreadable or wrong."""


def read_numbers(path: str | Path, *, columns: Iterable[int] | None = None) -> NDArray[np.float64]:
    """Read a text file of numbers, one row per line.

    Args:
        path: the file.
        columns: the allowed numbers of columns; None allows any, as long as all lines agree.

    Shape:
        - returns ``(T, columns)`` float64; ``NaN`` and ``inf`` are numbers

    Raises:
        DataError: the file is missing, too large, empty, not a file of text, holds a word that is
            not a number, has lines of wrong or unequal length, or an empty line between others.
            (Empty lines at both ends, or between all lines, are fine.)

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.files.text_tables import read_numbers
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "visible.txt"
        >>> _ = path.write_text("1,2\\t3 4\\n5 6 7 8\\n")
        >>> read_numbers(path, columns=(4, 8)).shape
        (2, 4)
    """
    data = _bytes(path)
    plain = plain_decimals(data)
    wanted = None if columns is None else tuple(columns)
    if plain is not None and (wanted is None or plain.shape[1] in wanted):
        return plain
    # anything else is read word by word, which also finds out what is wrong and where
    lines = enumerate(_decoded(path, data).translate(_SEPARATORS).splitlines(), 1)
    rows = [(number, words) for number, line in lines if (words := line.split())]
    if not rows:
        raise DataError(f"{path} must hold numbers, but it is empty")
    gap = _first_gap([number for number, _ in rows])
    if gap is not None:
        raise DataError(
            f"{path}, line {gap}: must not be empty, as all later lines would move up by one: "
            "write nan where there is no number"
        )
    first_number, first_words = rows[0]
    width = len(first_words)
    allowed = (width,) if wanted is None else wanted
    for number, words in rows:
        if len(words) not in allowed:
            rule = f"{' or '.join(map(str, allowed))} numbers"
        elif len(words) != width:
            rule = f"{width} numbers, as in line {first_number}"
        else:
            continue
        raise DataError(
            f"{path}, line {number}: must have {rule}, got {len(words)}: {_quote(words)}"
        )
    count = len(rows) * width
    words_of_all = chain.from_iterable(words for _, words in rows)
    try:
        numbers = np.fromiter(map(float, words_of_all), dtype=np.float64, count=count)
        return numbers.reshape(len(rows), width)
    except ValueError:
        for number, words in rows:
            if not all(_is_number(word) for word in words):
                raise DataError(
                    f"{path}, line {number}: must hold numbers only, got {_quote(words)}"
                ) from None
        raise


def read_flags(path: str | Path) -> NDArray[np.bool_]:
    """Read one number per frame, on one line or on many, and return where it is above 0.

    Shape:
        - returns ``(T,)`` bool

    Raises:
        DataError: as :func:`read_numbers`, or the numbers are neither one line nor one column.
    """
    table = read_numbers(path)
    if 1 not in table.shape:
        lines, columns = table.shape
        raise DataError(
            f"{path} must hold one number a frame, got {columns} on each of {lines} lines"
        )
    return table.ravel() > 0


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a text file of bounded size, without the empty ones at its end.

    Raises:
        DataError: the file is missing, too large, or not a file of text.
    """
    return _decoded(path, _bytes(path)).rstrip().splitlines()


def read_text(path: str | Path, *, most_bytes: int = _MOST_SETTINGS) -> str:
    """Read a text of bounded size, such as settings in JSON or TOML.

    Raises:
        DataError: the file is missing, too large, or not a file of text.
    """
    return _decoded(path, _bytes(path, most_bytes))


def read_names(path: str | Path) -> tuple[str, ...]:
    """Read a list of sequence names, one per line.

    Raises:
        DataError: the file is missing, empty, or a name is more than the name of a folder (a path,
            or ``..``).
    """
    names = tuple(name for line in read_lines(path) if (name := line.strip()))
    if not names:
        raise DataError(f"{path} must list sequences, but it is empty")
    for name in names:
        if not is_plain_name(name):
            raise DataError(f"{path}: a sequence must be the name of a folder, got {name[:80]!r}")
    return names


def line_of_row(path: str | Path, row: int) -> int | None:
    """Return the line of a text file that holds a row, from 1; empty lines are no rows.

    None is returned where there is no such line, and for a file whose lines are no rows.

    Args:
        path: the file.
        row: the number of the row, from 0.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.files.text_tables import line_of_row
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "visible.txt"
        >>> _ = path.write_text("\\n1,2,3,4\\n5,6,7,8\\n")
        >>> line_of_row(path, 1)
        3
    """
    if Path(path).suffix.lower() == ".json":
        return None
    try:
        lines = _decoded(path, _bytes(path)).translate(_SEPARATORS).splitlines()
    except DataError:
        return None
    numbers = [number for number, line in enumerate(lines, 1) if line.split()]
    return numbers[row] if row < len(numbers) else None


def is_plain_name(name: str) -> bool:
    """Return whether ``name`` stays in the folder it is looked up in."""
    return bool(name) and name not in (".", "..") and not re.search(r"[/\\\0]", name)


def natural_key(name: str) -> tuple[tuple[int | str, ...], str]:
    """Return a sort key that orders ``img2`` before ``img10``.

    Example:
        >>> from rgbt_fusion.files.text_tables import natural_key
        >>> sorted(["v10.jpg", "v9.jpg", "v010a.jpg"], key=natural_key)
        ['v9.jpg', 'v10.jpg', 'v010a.jpg']
    """
    key: list[int | str] = []
    for place, part in enumerate(re.split(r"([0-9]+)", name.lower())):
        # words and digits take turns
        is_number = place % 2 == 1
        key.append(int(part) if is_number else part)
    return tuple(key), name


def check_regular_file(path: str | Path) -> None:
    """Check that a path names no pipe, which would be waited for, and no device without an end.

    A path that names nothing passes: opening it says so.

    Raises:
        DataError: ``path`` is a pipe or a device, or no name of a file.
    """
    if "\0" in str(path):
        raise DataError(f"path must be the name of a file, got {str(path)!r}")
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path} must be a file, but it is a pipe or a device")


def _bytes(path: str | Path, most_bytes: int = _MOST_BYTES) -> bytes:
    """Read a file of bounded size, and nothing that is no file."""
    check_regular_file(path)
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > most_bytes:
            raise DataError(
                f"{path} must be a text file of at most {most_bytes >> 20} MB, got {size >> 20} MB"
            )
        with file.open("rb") as stream:
            return stream.read(most_bytes)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _decoded(path: str | Path, data: bytes) -> str:
    if b"\0" in data:
        raise DataError(f"{path} must be a text file, but it holds binary data")
    return data.decode("utf-8-sig", errors="replace")


def _first_gap(numbers: list[int]) -> int | None:
    """Return the first empty line between lines that are not regularly spaced."""
    steps = {after - before for before, after in pairwise(numbers)}
    # a file written with two ends per line has an empty one behind each
    if len(steps) <= 1:
        return None
    return next(before + 1 for before, after in pairwise(numbers) if after > before + 1)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _quote(words: list[str]) -> str:
    return repr(" ".join(words)[:60])

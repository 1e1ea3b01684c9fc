"""Read tables of plain decimal numbers, several times faster than any general reader of numpy.

Tables of boxes hold numbers such as ``-12``, ``103.5`` or ``7.2500``: up to eight digits before the
point, up to eight behind it. Eight digits fit into one integer of 64 bits, and three
multiplications turn them into their number, for all words of a file at once.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["plain_decimals"]

_SEPARATORS = bytes.maketrans(b",;\t", b"   ")
_ALLOWED = b"0123456789.- \n"
_ZERO, _POINT, _MINUS, _NEWLINE, _SPACE = (ord(letter) for letter in "0.-\n ")

_MOST_DIGITS = 8
"""How many digits stand before the point or behind it, at most."""
_MOST_TOGETHER = 15
"""Any whole number of as many digits is exact in float64."""

_UNUSED_BITS = np.minimum(8 * (_MOST_DIGITS - np.arange(_MOST_DIGITS + 1)), 60).astype(np.uint64)
"""By number of digits: how many of 64 bits hold none. The highest four are 0 in any case, and no
shift may be by all 64."""

_STEPS = (
    (np.uint64(10), np.uint64(8), np.uint64(0x00FF00FF00FF00FF)),
    (np.uint64(100), np.uint64(16), np.uint64(0x0000FFFF0000FFFF)),
    (np.uint64(10000), np.uint64(32), np.uint64(0x00000000FFFFFFFF)),
)
"""Factor of the left of two neighbours, distance of the right one in bits, and what is kept."""

_POWERS_OF_TEN = 10.0 ** np.arange(_MOST_DIGITS + 1)


def plain_decimals(data: bytes) -> NDArray[np.float64] | None:
    """Return the numbers of a text, one row per line; None where a general reader is needed.

    Each number is the nearest to its decimals, as ``float`` gives it: a whole number below 2^53
    divided by an exact power of ten is rounded once. Empty lines
    before and behind the others are skipped.

    Args:
        data: numbers separated by commas, tabs, spaces or semicolons.

    Shape:
        - returns ``(lines, columns)``

    Example:
        >>> from rgbt_fusion.files.plain_decimals import plain_decimals
        >>> plain_decimals(b"1.25,-3\\n100\\t.5\\n").tolist()
        [[1.25, -3.0], [100.0, 0.5]]
        >>> plain_decimals(b"1e3 nan") is None
        True
    """
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    plain = data.translate(_SEPARATORS)
    if plain.translate(None, _ALLOWED):
        return None
    # room for eight digits before the first word, and an end for the last one
    end = b"" if plain.endswith(b"\n") else b"\n"
    text = np.frombuffer(b"".join((b" " * _MOST_DIGITS, plain, end)), dtype=np.uint8)
    in_word = text > _SPACE
    edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
    starts = edges[::2]
    ends = edges[1::2]
    columns = _columns(text, starts, ends)
    if columns is None:
        return None

    negative = text[starts] == _MINUS
    first = starts + negative
    points = _points(text, starts, ends)
    if points is None or np.count_nonzero(text == _MINUS) != np.count_nonzero(negative):
        return None
    whole_digits = points - first
    decimals = np.maximum(ends - points - 1, 0)
    digits = whole_digits + decimals
    fits = (whole_digits.max() <= _MOST_DIGITS) and (decimals.max() <= _MOST_DIGITS)
    if not fits or digits.max() > _MOST_TOGETHER or digits.min() < 1:
        return None
    power = _POWERS_OF_TEN[decimals]
    numbers = _numbers(text, points, whole_digits)
    if decimals.any():
        numbers = (numbers * power + _numbers(text, ends, decimals)) / power
    np.negative(numbers, out=numbers, where=negative)
    return numbers.reshape(-1, columns)


def _columns(
    text: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> int | None:
    """Return how many words all lines have; None where they differ, or there is no word.

    Empty lines may stand before and behind the others only.
    """
    if not len(starts):
        return None
    ends_line = text[ends] == _NEWLINE
    if np.count_nonzero(text == _NEWLINE) == np.count_nonzero(ends_line):
        # every line ends directly behind a word
        last_words = np.flatnonzero(ends_line)
        width = int(last_words[0]) + 1
        even = len(starts) == width * len(last_words)
        return width if even and ends_line[width - 1 :: width].all() else None
    line_ends = np.flatnonzero(text == _NEWLINE)
    words = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    filled = np.flatnonzero(words)
    columns = int(words[filled[0]])
    between = words[filled[0] : filled[-1] + 1]
    return columns if (between == columns).all() else None


def _points(
    text: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> NDArray[np.intp] | None:
    """Return where each word has its point, its end where it has none; None where one has two."""
    is_point = text == _POINT
    count = np.count_nonzero(is_point)
    if not count:
        return ends
    if count == len(starts):
        # most files have as many decimals everywhere
        behind = ends[0] - starts[0] - np.argmax(is_point[starts[0] : ends[0]])
        if is_point[ends - behind].all():
            return ends - behind
    points = np.flatnonzero(is_point)
    word = np.searchsorted(starts, points, side="right") - 1
    if (np.diff(word) == 0).any():
        return None
    found = ends.copy()
    found[word] = points
    return found


def _numbers(
    text: NDArray[np.uint8], ends: NDArray[np.intp], digits: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the whole numbers of up to eight digits that stand before each end."""
    # the eight letters before each place of the text, the last one in the highest bits
    windows = np.ndarray((len(text) - 7,), dtype="<u8", buffer=text, strides=(1,))
    number = windows[ends - _MOST_DIGITS].astype(np.uint64)
    number &= np.uint64(0x0F0F0F0F0F0F0F0F)
    # what stands before the first digit is shifted out
    unused = _UNUSED_BITS[digits]
    number >>= unused
    number <<= unused
    # pairs of digits, then fours, then all eight
    for factor, bits, kept in _STEPS:
        right = number >> bits
        number *= factor
        number += right
        number &= kept
    return number.astype(np.float64)

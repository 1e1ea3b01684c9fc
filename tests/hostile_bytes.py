"""A mutator of files: what disks, downloads, editors and bad intentions make of sound ones."""

import random
import re
from collections.abc import Iterator, Sequence

# the ends of the ranges of whole numbers, and what lies just beyond them
EDGES = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
LARGE = (2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)

TEXTS = (
    b"nan", b"inf", b"-inf", b"1e308", b"1e999", b"-1", b"0", b"1_0", b"99999999999999999999",
    b"9" * 400, b"null", b"true", b"{}", b"[]", b'""', b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n",
    b"\n\n", b"\t", b",", b";", b"..", b"/", b"=1+1", b"-0.0", b"\xc2\xb2", b"\xd9\xa3",
    b"[" * 3000, b"{\"a\":" * 3000, b"(" * 3000, b"]" * 50, b"e" * 50, b"\x80\x02", b"PK\x03\x04",
    b"u" * 100,
)  # fmt: skip


def mutants(seeds: Sequence[bytes], count: int, *, seed: int) -> Iterator[bytes]:
    """Make files out of sound ones: one to five changes each, the same ones on every machine."""
    dice = random.Random(seed)
    for _ in range(count):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 5))):
            dice.choice(CHANGES)(data, seeds, dice)
        yield bytes(data)


def _place(data: bytearray, dice: random.Random) -> int:
    """Any place, those near the beginning more often: headers stand there."""
    if dice.random() < 0.3:
        return dice.randrange(min(len(data), 64) + 1)
    return dice.randrange(len(data) + 1)


def _flip(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    if data:
        data[_place(data, dice) % len(data)] ^= 1 << dice.randrange(8)


def _set_byte(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    if data:
        data[_place(data, dice) % len(data)] = dice.randrange(256)


def _set_number(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    """Write a number at the edge of what a length or a size can be."""
    width = dice.choice((1, 2, 4, 8))
    value = dice.choice(EDGES + LARGE) % (1 << 8 * width)
    at = _place(data, dice)
    data[at : at + width] = value.to_bytes(width, dice.choice(("little", "big")))


def _replace_number(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    """Put something else in the place of a written number."""
    found = list(re.finditer(rb"-?\d[\d.e+-]*", bytes(data)))
    if found:
        number = dice.choice(found)
        other = dice.choice((*TEXTS, *(b"%d" % edge for edge in EDGES + LARGE)))
        data[number.start() : number.end()] = other


def _insert(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    at = _place(data, dice)
    data[at:at] = dice.choice(TEXTS)


def _delete(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    at = _place(data, dice)
    del data[at : at + dice.choice((1, 1, 2, 4, 8, 64, 1024))]


def _repeat(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    at = _place(data, dice)
    part = data[at : at + dice.choice((1, 2, 4, 16, 64))]
    data[at:at] = part * dice.choice((1, 2, 10, 300))


def _cut(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    del data[_place(data, dice) :]


def _exchange(data: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    first, second = sorted((_place(data, dice), _place(data, dice)))
    length = dice.choice((1, 4, 16))
    one, other = data[first : first + length], data[second : second + length]
    if first + length <= second:
        data[second : second + length] = one
        data[first : first + length] = other


def _splice(data: bytearray, seeds: Sequence[bytes], dice: random.Random) -> None:
    """Continue as another sound file does."""
    other = dice.choice(seeds)
    data[_place(data, dice) :] = other[dice.randrange(len(other) + 1) :]


CHANGES = (
    _flip, _flip, _set_byte, _set_number, _set_number, _replace_number, _replace_number, _insert,
    _delete, _repeat, _cut, _exchange, _splice,
)  # fmt: skip

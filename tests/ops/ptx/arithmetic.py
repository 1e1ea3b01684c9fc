"""What the instructions of PTX compute, in numpy: on arrays that hold all lanes of all programs.

A register of 16, 32 or 64 bits is an array of any dtype of that size, so that a float stays a float
until an instruction asks for its bits. A predicate is an array of bool. ``bfloat16``, which numpy
does not have, is its bits.

Approximate functions (``ex2.approx``, ``div.full``, ...) are computed in float32 and are more
accurate here than on a card. A fused multiply-add is rounded to float64 and then to float32.
"""

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["TYPES", "Operation", "Unsupported", "as_type", "constant", "operation"]

Lanes = NDArray[Any]


class Unsupported(NotImplementedError):
    """The emulator does not know an instruction; its text names it."""


TYPES = {
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bf16": np.dtype(np.uint16),
    "bf16x2": np.dtype(np.uint32),
    "f16x2": np.dtype(np.uint32),
    "f32x2": np.dtype(np.uint64),
    "pred": np.dtype(bool),
}
"""The dtype of an operand, by the type that an instruction ends with."""

PREDICATE = TYPES["pred"]
COUNT = TYPES["u32"]


class Operation(NamedTuple):
    """What an instruction computes of its operands."""

    compute: Callable[..., Lanes]
    takes: tuple[np.dtype[Any], ...]
    gives: np.dtype[Any]

    def __call__(self, *operands: Lanes) -> Lanes:
        return self.compute(*map(as_type, operands, self.takes))

    def of_three(self) -> "Operation":
        """Return ``min`` or ``max`` of three operands, as newer cards have it."""
        if self.compute not in (_smaller, _larger, np.minimum, np.maximum):
            raise Unsupported("the emulator knows three operands of min and max alone")
        (kind, *_) = self.takes
        return Operation(lambda a, b, c: self(self(a, b), c), (kind,) * 3, self.gives)


def as_type(x: Lanes, dtype: np.dtype[Any]) -> Lanes:
    """Return the bits of a register as ``dtype``: its low bits where that is narrower."""
    if x.dtype == dtype:
        return x
    if x.dtype.itemsize != dtype.itemsize:
        x = x.view(f"u{x.dtype.itemsize}").astype(f"u{dtype.itemsize}")
    return x.view(dtype)


def constant(text: str, dtype: np.dtype[Any]) -> Lanes:
    """Read a literal: ``-5``, ``0x1F``, or a float by its bits, ``0f3F800000``."""
    if text[:2] in ("0f", "0F", "0d", "0D"):
        bits = int(text[2:], 16)
    else:
        bits = int(text.removesuffix("U"), 0)
    if dtype == PREDICATE:
        return np.array([[bits != 0]])
    width = 8 * dtype.itemsize
    return np.array([[bits % (1 << width)]], f"u{dtype.itemsize}").view(dtype)


@cache
def operation(opcode: str) -> Operation:
    """Look up what an instruction computes.

    Raises:
        Unsupported: it is none of those below.
    """
    name, *modifiers = opcode.split(".")
    build = _BUILDERS.get(name, _same_type)
    try:
        return build(name, modifiers)
    except KeyError:
        raise Unsupported(f"the emulator does not know the instruction {opcode}") from None


def _same_type(name: str, modifiers: Sequence[str]) -> Operation:
    """Take operands and give a result of one type, the last word of the opcode."""
    *_, kind = modifiers
    if kind == "f32x2":
        return _pairwise(name)
    if modifiers[-2:] in (["f32", "bf16"], ["f32", "f16"]):
        return _with_narrow_ones_first(name, kind)
    if kind == "bf16" and name in _SIGN_OF_BFLOAT16:
        return Operation(_SIGN_OF_BFLOAT16[name], (TYPES["bf16"],), TYPES["bf16"])
    if kind in ("bf16", "bf16x2", "f16x2"):
        raise KeyError(name)
    dtype = TYPES[kind]
    table = _OF_FLOATS if dtype.kind == "f" else _OF_INTEGERS
    compute, operands = table[name]
    return Operation(compute, (dtype,) * operands, dtype)


_SIGN_OF_BFLOAT16: dict[str, Callable[[Lanes], Lanes]] = {
    "abs": lambda bits: bits & np.uint16(0x7FFF),
    "neg": lambda bits: bits ^ np.uint16(0x8000),
}
"""What changes nothing but the sign."""


def _pairwise(name: str) -> Operation:
    """Compute on the two float32 that a register of 64 bits holds."""
    compute, operands = _OF_FLOATS[name]

    def of_pairs(*registers: Lanes) -> Lanes:
        pairs = [x.view(np.float32).reshape(*x.shape, 2) for x in registers]
        return np.ascontiguousarray(compute(*pairs)).view(np.uint64)[..., 0]

    return Operation(of_pairs, (TYPES["b64"],) * operands, TYPES["b64"])


def _with_narrow_ones_first(name: str, kind: str) -> Operation:
    """Add or subtract a float32, whose first operand has 16 bits, or multiply two such and add."""
    compute, operands = _OF_FLOATS[name]
    wide = TYPES["f32"]
    takes = (*(TYPES[kind],) * (operands - 1), wide)

    def of_mixed(*registers: Lanes) -> Lanes:
        *narrow, last = registers
        return compute(*(_widened(x, kind) for x in narrow), last)

    return Operation(of_mixed, takes, wide)


def _widened(x: Lanes, kind: str) -> Lanes:
    return _from_bfloat16(x) if kind == "bf16" else x.astype(np.float32)


def _same(x: Lanes) -> Lanes:
    return x


def _fused_multiply_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    return (a.astype(np.float64) * b + c).astype(a.dtype)


def _multiply_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    return a * b + c


def _larger(a: Lanes, b: Lanes) -> Lanes:
    """Return the larger float; of two zeros the positive one."""
    return np.where((a == 0) & (b == 0), a + b, np.fmax(a, b))


def _smaller(a: Lanes, b: Lanes) -> Lanes:
    """Return the smaller float; of two zeros the negative one."""
    return -_larger(-a, -b)


def _power_of_two(x: Lanes) -> Lanes:
    """2 to the x; results below the smallest normal number are flushed to zero."""
    return np.exp2(x) * (x >= -126) if x.dtype == np.float32 else np.exp2(x)


def _quotient(a: Lanes, b: Lanes) -> Lanes:
    """Divide integers as hardware does: towards zero."""
    whole = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -whole, whole).astype(a.dtype)


def _remainder(a: Lanes, b: Lanes) -> Lanes:
    return a - _quotient(a, b) * b


def _ones(x: Lanes) -> Lanes:
    """Count the bits that are set."""
    return np.bitwise_count(x).astype(np.uint32)


_OF_NUMBERS: dict[str, tuple[Callable[..., Lanes], int]] = {
    "mov": (_same, 1),
    "add": (np.add, 2),
    "sub": (np.subtract, 2),
    "mul": (np.multiply, 2),
    "neg": (np.negative, 1),
    "abs": (np.abs, 1),
}
"""Function and number of operands, by the first word of the opcode: of floats and of integers."""

_OF_FLOATS: dict[str, tuple[Callable[..., Lanes], int]] = {
    **_OF_NUMBERS,
    "div": (np.divide, 2),
    "fma": (_fused_multiply_add, 3),
    "min": (_smaller, 2),
    "max": (_larger, 2),
    "rcp": (np.reciprocal, 1),
    "sqrt": (np.sqrt, 1),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1),
    "ex2": (_power_of_two, 1),
    "lg2": (np.log2, 1),
    "sin": (np.sin, 1),
    "cos": (np.cos, 1),
    "tanh": (np.tanh, 1),
}
"""The same of floats."""

_OF_INTEGERS: dict[str, tuple[Callable[..., Lanes], int]] = {
    **_OF_NUMBERS,
    "mad": (_multiply_add, 3),
    "div": (_quotient, 2),
    "rem": (_remainder, 2),
    "min": (np.minimum, 2),
    "max": (np.maximum, 2),
    "and": (np.bitwise_and, 2),
    "or": (np.bitwise_or, 2),
    "xor": (np.bitwise_xor, 2),
    "not": (np.invert, 1),
    "popc": (_ones, 1),
}
"""The same of integers; ``mul`` and ``mad`` keep the low half (``.lo``) of their products."""


def _product(name: str, modifiers: Sequence[str]) -> Operation:
    """``mul`` and ``mad``: the low half, the high half or all of a product of integers."""
    *_, part, kind = ("lo", *modifiers)
    if part not in ("wide", "hi"):
        return _same_type(name, modifiers)
    narrow = TYPES[kind]
    wide = np.dtype(f"{narrow.kind}{2 * narrow.itemsize}")
    addends = (narrow if part == "hi" else wide,) if name == "mad" else ()

    def multiply(a: Lanes, b: Lanes, *addend: Lanes) -> Lanes:
        product = a.astype(wide) * b.astype(wide)
        if part == "hi":
            product = (product >> 8 * narrow.itemsize).astype(narrow)
        return product + addend[0] if addend else product

    return Operation(multiply, (narrow, narrow, *addends), narrow if part == "hi" else wide)


def _shift(name: str, modifiers: Sequence[str]) -> Operation:
    """Shift; a count of the width or more leaves nothing (of a signed number: its sign)."""
    dtype = TYPES[modifiers[-1]]
    width = 8 * dtype.itemsize

    def shift(x: Lanes, count: Lanes) -> Lanes:
        if name == "shl":
            return np.where(count < width, x << np.minimum(count, width - 1).astype(dtype), 0)
        if dtype.kind == "i":
            return x >> np.minimum(count, width - 1).astype(dtype)
        return np.where(count < width, x >> np.minimum(count, width - 1).astype(dtype), 0)

    return Operation(
        lambda x, count: shift(x, count).astype(dtype, copy=False), (dtype, COUNT), dtype
    )


def _extract(name: str, modifiers: Sequence[str]) -> Operation:
    """``bfe``: ``length`` bits from ``start``, with the sign of the last if the type has one."""
    dtype = TYPES[modifiers[-1]]
    width = 8 * dtype.itemsize

    def extract(x: Lanes, start: Lanes, length: Lanes) -> Lanes:
        if np.any(length == 0) or np.any(start + length > width):
            raise Unsupported(f"{name} of bits beyond a register")
        unsigned = x.view(f"u{dtype.itemsize}")
        at_the_top = (unsigned << (width - start - length).astype(unsigned.dtype)).view(dtype)
        return at_the_top >> (width - length).astype(dtype)

    return Operation(extract, (dtype, COUNT, COUNT), dtype)


def _permute(name: str, modifiers: Sequence[str]) -> Operation:
    """``prmt``: each nibble of ``choice`` picks one of the eight bytes of two registers."""
    dtype = {"b32": TYPES["b32"]}[modifiers[-1]]

    def permute(low: Lanes, high: Lanes, choice: Lanes) -> Lanes:
        both = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
        result = np.zeros((), np.uint32)
        for byte in range(4):
            picked = choice >> np.uint32(4 * byte) & np.uint32(15)
            value = both >> (picked & np.uint32(7)).astype(np.uint64) * np.uint64(8)
            value = value.astype(np.uint32) & np.uint32(255)
            sign = np.where(value & np.uint32(128), np.uint32(255), np.uint32(0))
            value = np.where(picked & np.uint32(8), sign, value)
            result = result | value << np.uint32(8 * byte)
        return result

    return Operation(permute, (dtype,) * 3, dtype)


_COMPARISONS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "lo": operator.lt,
    "ls": operator.le,
    "hi": operator.gt,
    "hs": operator.ge,
}


def _compare(name: str, modifiers: Sequence[str]) -> Operation:
    """``setp``; where a float is not a number, ``ltu`` and the like hold and ``ne`` does not."""
    word, kind = modifiers[0], modifiers[-1]
    if len(modifiers) > 2 and modifiers[1:-1] != ["ftz"]:
        raise KeyError(name)
    dtype = TYPES[kind]
    unordered = word not in _COMPARISONS
    compare = _COMPARISONS[word.removesuffix("u")]

    is_brain = kind == "bf16"

    def holds(a: Lanes, b: Lanes) -> Lanes:
        if is_brain:
            a, b = _from_bfloat16(a), _from_bfloat16(b)
        result = compare(a, b)
        if dtype.kind != "f" and not is_brain:
            return result
        missing = np.isnan(a) | np.isnan(b)
        return result | missing if unordered else result & ~missing

    return Operation(holds, (dtype, dtype), PREDICATE)


def _select(name: str, modifiers: Sequence[str]) -> Operation:
    dtype = TYPES[modifiers[-1]]
    return Operation(
        lambda first, second, choice: np.where(choice, first, second),
        (dtype, dtype, PREDICATE),
        dtype,
    )


def _from_bfloat16(x: Lanes) -> Lanes:
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _to_bfloat16(x: Lanes) -> Lanes:
    """Round to the nearest, ties to even."""
    bits = x.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return np.where(np.isnan(x), np.uint16(0x7FFF), (rounded >> np.uint32(16)).astype(np.uint16))


def _to_float16(x: Lanes) -> Lanes:
    return x.astype(np.float16).view(np.uint16)


_ROUNDINGS = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_PAIRS = {"bf16x2": _to_bfloat16, "f16x2": _to_float16}


def _convert(name: str, modifiers: Sequence[str]) -> Operation:
    *rounding, to, source = modifiers
    given, wanted = TYPES[source], TYPES[to]
    if to in _PAIRS and source == "f32":
        narrow = _PAIRS[to]

        def pack(high: Lanes, low: Lanes) -> Lanes:
            return narrow(high).astype(np.uint32) << np.uint32(16) | narrow(low)

        return Operation(pack, (given, given), wanted)
    if "sat" in rounding or "x2" in to + source:
        raise KeyError(name)
    if source == "bf16":
        if to != "f32":
            raise KeyError(name)
        return Operation(_from_bfloat16, (given,), wanted)
    if to == "bf16":
        if source != "f32":
            raise KeyError(name)
        return Operation(_to_bfloat16, (given,), wanted)
    if given.kind == "f" and wanted.kind != "f":
        in_range = np.iinfo(wanted)
        whole = _ROUNDINGS[rounding[0]]
        return Operation(
            lambda x: np.clip(whole(x.astype(np.float64)), in_range.min, in_range.max).astype(
                wanted
            ),
            (given,),
            wanted,
        )
    return Operation(lambda x: x.astype(wanted), (given,), wanted)


_BUILDERS: dict[str, Callable[[str, Sequence[str]], Operation]] = {
    "mul": _product,
    "mad": _product,
    "shl": _shift,
    "shr": _shift,
    "bfe": _extract,
    "prmt": _permute,
    "setp": _compare,
    "selp": _select,
    "cvt": _convert,
}
"""How an instruction is looked up whose operands are not all of one type."""

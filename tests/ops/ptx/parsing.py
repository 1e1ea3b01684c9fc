"""Read PTX, the assembly language of NVIDIA, as Triton writes it: one kernel in one listing."""

import re
from typing import NamedTuple

__all__ = ["Address", "Instruction", "Kernel", "parse"]


class Address(NamedTuple):
    """``[base + offset]``, where the base is a register or the name of a parameter."""

    base: str
    offset: int


Operand = str | Address | tuple[str, ...]
"""A register or a literal; memory; several registers that are read or written together."""


class Instruction(NamedTuple):
    """One line of a listing."""

    opcode: str
    operands: tuple[Operand, ...]
    guard: str | None
    """The predicate register without which a lane skips the instruction."""
    negated: bool
    """The lanes whose guard is false execute it."""
    text: str
    where: str
    """The line of the kernel's source it comes from, and the line that called it."""


class Kernel(NamedTuple):
    """A listing: what it executes, where its labels point to, and its parameters in order."""

    name: str
    instructions: list[Instruction]
    labels: dict[str, int]
    parameters: dict[str, int]
    """Bytes of each parameter, by name."""


_ENTRY = re.compile(r"\.entry\s+(\w+)\s*\(")
_PARAMETER = re.compile(r"\.param\s+\.[a-z](\d+)\s.*?(\w+)\s*,?$")
_LABEL = re.compile(r"(\$\w+):$")
_PLACE = re.compile(r"\.loc\s.*//\s*(\S+:\d+):\d+$")
_CALLER = re.compile(r"inlined_at \d+ (\d+)")
_STATEMENT = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*)")


def parse(listing: str) -> Kernel:
    """Read a listing.

    Raises:
        ValueError: it has no kernel, or a line of it is not understood.
    """
    entry = _ENTRY.search(listing)
    if entry is None:
        raise ValueError("the listing has no .entry")
    kernel = Kernel(entry[1], [], {}, {})
    where = "unknown line"
    for raw in listing[entry.start() :].splitlines():
        if place := _PLACE.search(raw.strip()):
            caller = _CALLER.search(raw)
            where = f"{place[1]} called from line {caller[1]}" if caller else place[1]
        line = raw.split("//")[0].strip()
        if line.startswith(".section"):
            break
        if parameter := _PARAMETER.match(line):
            kernel.parameters[parameter[2]] = int(parameter[1]) // 8
        elif label := _LABEL.match(line):
            kernel.labels[label[1]] = len(kernel.instructions)
        elif line and line[0] not in ".{})$":
            kernel.instructions.extend(
                _instruction(statement.strip(), where)
                for statement in line.split(";")
                if statement.strip()
            )
    return kernel


def _instruction(text: str, where: str) -> Instruction:
    found = _STATEMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"not an instruction of PTX: {text!r}")
    negated, guard, opcode, operands = found.groups()
    return Instruction(opcode, _operands(operands), guard, negated == "!", text, where)


def _operands(text: str) -> tuple[Operand, ...]:
    """Split at the commas outside of brackets and braces."""
    parts = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", text)
    return tuple(_operand(part) for part in parts)


def _operand(text: str) -> Operand:
    if text.startswith("{"):
        return tuple(name.strip() for name in text.strip("{} ").split(","))
    if text.startswith("["):
        base, _, offset = text.strip("[] ").partition("+")
        return Address(base.strip(), int(offset or 0))
    return text

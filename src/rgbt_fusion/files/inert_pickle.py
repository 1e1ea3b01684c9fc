"""Reading a pickle as data: nothing in it is imported or called, and no pickle takes long."""

import io
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

__all__ = ["InertObject", "Name", "PickleError", "Reference", "read_pickle"]

# 500 parameters, their optimiser and the losses of 300 epochs take 0.2 MB and 67,000 steps.
_MOST_BYTES = 1 << 26
_MOST_STEPS = 500_000
_DEEPEST = 200
# A value counts as often as it occurs: walking the content visits no more than this.
_MOST_VALUES = 10_000_000


class PickleError(ValueError):
    """The bytes are not a pickle, end too early, or hold more than any sound file."""


class Name(NamedTuple):
    """What a pickle names and would import; here it stays a name."""

    module: str
    name: str


class Reference(NamedTuple):
    """A persistent id: torch's way of naming a storage beside the pickle."""

    value: Any


@dataclass(eq=False, repr=False, slots=True)
class InertObject:
    """What a pickle would build by calling ``maker``; the call is written down and never made."""

    maker: Any
    arguments: tuple[Any, ...]
    items: dict[Any, Any] = field(default_factory=dict)
    """What the pickle would set by key."""
    state: Any = None
    """What the pickle would restore the object from."""


def read_pickle(stream: IO[bytes], *, only_plain_keys: bool = False) -> tuple[Any, list[Reference]]:
    """Read one pickle from where ``stream`` stands, up to its end, and every persistent id in it.

    Lists, tuples, dictionaries, texts, bytes and numbers become themselves, a set becomes a list,
    an ``OrderedDict`` a dict, and everything else an :class:`InertObject`. No class is looked up
    and no function runs, whatever the pickle says. A dictionary keeps only plain keys (texts,
    numbers of up to 64 bits, None): hashing others can take forever.

    The content is small enough to walk: a pickle of more than 64 MB or 500,000 opcodes is
    refused, and so is one that nests more than 200 deep, holds itself, or shares its parts so often
    that it would have more than ten million written out.

    Args:
        stream: the file; afterwards it stands behind the pickle.
        only_plain_keys: refuse a dictionary with other keys, instead of leaving these out.

    Raises:
        PickleError: the bytes are not a pickle, end too early, or exceed a bound.

    Example:
        >>> import io, os, pickle
        >>> from rgbt_fusion.files.inert_pickle import read_pickle
        >>> class Trick:
        ...     def __reduce__(self):
        ...         return os.system, ("echo this never runs",)
        >>> content, _ = read_pickle(io.BytesIO(pickle.dumps({"epoch": 3, "trick": Trick()})))
        >>> content["epoch"], content["trick"].maker.name
        (3, 'system')
    """
    start = stream.tell()
    data = io.BytesIO(stream.read(_MOST_BYTES))
    machine = _Machine(only_plain_keys=only_plain_keys)
    try:
        content = machine.run(data)
        _check_extent([content, *machine.references], machine.objects)
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
        RecursionError,
        # an odd escape in a text, where warnings are errors
        Warning,
    ) as error:
        raise PickleError(f"not a readable pickle: {error}") from error
    stream.seek(start + data.tell())
    return content, machine.references


class _Machine:
    """The machine that a pickle is a program for: a stack, marks in it, and a memo.

    Every method below is what one opcode does. None of them hashes, compares or prints what the
    pickle brings: all of these can take forever.
    """

    def __init__(self, *, only_plain_keys: bool) -> None:
        self.only_plain_keys = only_plain_keys
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.objects: list[InertObject] = []
        self.references: list[Reference] = []
        self.steps = 0

    def run(self, data: IO[bytes]) -> Any:
        """Follow the opcodes to the end and return what is on top of the stack."""
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.stack.pop()
            self.count(1)
            _ACTIONS[opcode.name](self, argument)
        raise ValueError("it has no end")

    def count(self, steps: int) -> None:
        """Refuse a pickle that takes too many steps."""
        self.steps += steps
        if self.steps > _MOST_STEPS:
            raise ValueError(f"it takes more than {_MOST_STEPS} steps")

    # ---- the stack, its marks, and the memo

    def ignore(self, _: Any) -> None:
        """Do nothing: the opcode says how the pickle is stored."""

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def pop(self, _: None) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def pop_mark(self, _: None) -> None:
        self.since_mark()

    def since_mark(self) -> list[Any]:
        """Take everything above the last mark from the stack."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def duplicate(self, _: None) -> None:
        self.push(self.stack[-1])

    def put(self, index: str | int) -> None:
        self.memo[int(index)] = self.stack[-1]

    def memoize(self, _: None) -> None:
        self.put(len(self.memo))

    def get(self, index: str | int) -> None:
        self.push(self.memo[int(index)])

    # ---- lists, tuples and dictionaries

    def make_list(self, _: None) -> None:
        self.push(self.since_mark())

    def make_tuple(self, _: None) -> None:
        self.push(tuple(self.since_mark()))

    def make_short_tuple(self, length: int) -> None:
        if len(self.stack) < length:
            raise IndexError("the stack is empty")
        self.stack[-length:] = [tuple(self.stack[-length:])]

    def make_dict(self, _: None) -> None:
        items = self.since_mark()
        self.push({})
        self.set_on_top(items)

    def append(self, _: None) -> None:
        item = self.stack.pop()
        self.extend_top([item])

    def appends(self, _: None) -> None:
        self.extend_top(self.since_mark())

    def extend_top(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)

    def set_item(self, _: None) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self.set_on_top([key, value])

    def set_items(self, _: None) -> None:
        self.set_on_top(self.since_mark())

    def set_on_top(self, items: list[Any]) -> None:
        """Set keys and values, in turn, on the dictionary or object on top of the stack."""
        target = self.stack[-1]
        if isinstance(target, InertObject):
            target = target.items
        if not isinstance(target, dict):
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            if _is_plain_key(key):
                target[key] = value
            elif self.only_plain_keys:
                raise TypeError("a key must be a text, a number or None")

    # ---- names, and calls that are not made

    def name(self, module_and_name: str) -> None:
        module, _, name = module_and_name.partition(" ")
        self.push(Name(module, name))

    def name_from_stack(self, _: None) -> None:
        name = self.stack.pop()
        module = self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name must be a text")
        self.push(Name(module, name))

    def name_by_code(self, code: int) -> None:
        self.push(Name("copyreg extension", str(code)))

    def call(self, _: None) -> None:
        arguments = self.stack.pop()
        maker = self.stack.pop()
        self.make(maker, arguments if isinstance(arguments, tuple) else ())

    def call_with_names(self, _: None) -> None:
        self.stack.pop()
        self.call(None)

    def call_since_mark(self, _: None) -> None:
        maker, *arguments = self.since_mark()
        self.make(maker, tuple(arguments))

    def call_named(self, module_and_name: str) -> None:
        arguments = tuple(self.since_mark())
        module, _, name = module_and_name.partition(" ")
        self.make(Name(module, name), arguments)

    def make(self, maker: Any, arguments: tuple[Any, ...]) -> None:
        """Push what stands for the result of a call."""
        if isinstance(maker, Name) and maker == ("collections", "OrderedDict"):
            self.push({})
            self.set_on_top(self.items_of_pairs(arguments))
            return
        made = InertObject(maker, arguments)
        self.objects.append(made)
        self.push(made)

    def items_of_pairs(self, arguments: tuple[Any, ...]) -> list[Any]:
        """Return keys and values, in turn, from the one list of pairs an OrderedDict is made of."""
        if not arguments:
            return []
        (pairs,) = arguments
        # the same list may be named once more with every opcode
        self.count(len(pairs))
        items = []
        for key, value in pairs:
            items += [key, value]
        return items

    def build(self, _: None) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, InertObject):
            target.state = state

    # ---- what lies outside the pickle

    def persistent_text(self, argument: str) -> None:
        self.push(argument)
        self.persistent(None)

    def persistent(self, _: None) -> None:
        reference = Reference(self.stack.pop())
        self.references.append(reference)
        self.push(reference)

    def refuse_buffer(self, _: None) -> None:
        raise ValueError("it refers to buffers outside the file")


def _is_plain_key(key: Any) -> bool:
    if isinstance(key, int):
        # a number of a million digits takes long to hash, each time
        return key.bit_length() <= 64
    return key is None or isinstance(key, str | float)


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.ignore,
    "FRAME": _Machine.ignore,
    "READONLY_BUFFER": _Machine.ignore,
    # values that stand in the pickle
    "INT": _Machine.push,
    "BININT": _Machine.push,
    "BININT1": _Machine.push,
    "BININT2": _Machine.push,
    "LONG": _Machine.push,
    "LONG1": _Machine.push,
    "LONG4": _Machine.push,
    "FLOAT": _Machine.push,
    "BINFLOAT": _Machine.push,
    "STRING": _Machine.push,
    "BINSTRING": _Machine.push,
    "SHORT_BINSTRING": _Machine.push,
    "UNICODE": _Machine.push,
    "SHORT_BINUNICODE": _Machine.push,
    "BINUNICODE": _Machine.push,
    "BINUNICODE8": _Machine.push,
    "SHORT_BINBYTES": _Machine.push,
    "BINBYTES": _Machine.push,
    "BINBYTES8": _Machine.push,
    "BYTEARRAY8": _Machine.push,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_SET": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    # the stack, its marks, and the memo
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    # lists, tuples and dictionaries
    "LIST": _Machine.make_list,
    "FROZENSET": _Machine.make_list,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.make_short_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_short_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_short_tuple(3),
    "DICT": _Machine.make_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    # names, and calls that are not made
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "EXT1": _Machine.name_by_code,
    "EXT2": _Machine.name_by_code,
    "EXT4": _Machine.name_by_code,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_names,
    "OBJ": _Machine.call_since_mark,
    "INST": _Machine.call_named,
    "BUILD": _Machine.build,
    # what lies outside the pickle
    "PERSID": _Machine.persistent_text,
    "BINPERSID": _Machine.persistent,
    "NEXT_BUFFER": _Machine.refuse_buffer,
}
"""What each opcode of protocols 0 to 5 does; STOP ends the run."""


class _Extent(NamedTuple):
    """How far a value reaches: the values in it, itself included, and its levels."""

    values: int
    depth: int


def _check_extent(contents: Iterable[Any], objects: Iterable[InertObject]) -> None:
    """Refuse contents that take too long, or nest too deep, to be walked.

    An object ends a walk, as it is only ever looked at by itself: objects may hold each other.
    """
    known: dict[int, _Extent] = {}
    for content in contents:
        _extent(content, 0, known)
    for one in objects:
        _extent([one.maker, one.arguments, one.items, one.state], 0, known)


def _extent(value: Any, depth: int, known: dict[int, _Extent]) -> _Extent:
    """Measure a value, ``depth`` levels below the top; ``known`` keeps what was measured before."""
    if not value or not isinstance(value, list | tuple | dict):
        return _Extent(1, 1)
    found = known.get(id(value))
    if found is not None:
        return found
    if depth > _DEEPEST:
        raise ValueError(f"it nests more than {_DEEPEST} deep")
    values = 1
    below = 0
    for part in value.values() if isinstance(value, dict) else value:
        extent = _extent(part, depth + 1, known)
        values += extent.values
        below = max(below, extent.depth)
    if values > _MOST_VALUES:
        raise ValueError(f"it has more than {_MOST_VALUES} values")
    if below >= _DEEPEST:
        raise ValueError(f"it nests more than {_DEEPEST} deep")
    known[id(value)] = _Extent(values, below + 1)
    return known[id(value)]

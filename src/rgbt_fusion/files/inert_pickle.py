"""Reading a pickle as data: a machine that follows its opcodes and can import nothing and call
nothing."""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

__all__ = ["InertObject", "Name", "PickleError", "Reference", "read_pickle"]


class PickleError(ValueError):
    """The bytes are not a pickle, or end too early."""


class Name(NamedTuple):
    """What a pickle names and would import; here it stays a name."""

    module: str
    name: str


class Reference(NamedTuple):
    """A persistent id: torch's way of naming a storage beside the pickle."""

    value: Any


@dataclass(eq=False, slots=True)
class InertObject:
    """What a pickle would build by calling ``maker``; here the call is written down and never
    made."""

    maker: Any
    arguments: tuple[Any, ...]
    items: dict[Any, Any] = field(default_factory=dict)


def read_pickle(stream: IO[bytes]) -> tuple[Any, list[Reference]]:
    """Read one pickle from where ``stream`` stands, up to its end, and every persistent id in it.

    Lists, tuples, dictionaries, texts, bytes and numbers become themselves (a set becomes a list),
    an ``OrderedDict`` becomes a dict, and everything else an :class:`InertObject`. No class is
    looked up, no function runs, whatever the pickle says.

    Raises:
        PickleError: the bytes are no pickle, or end too early.

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
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.stack.pop(), machine.references
            machine.step(opcode.name, argument)
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise PickleError(f"not a readable pickle: {error}") from error
    raise PickleError("not a readable pickle: it has no end")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME", "READONLY_BUFFER"}


class _Machine:
    """The pickle machine's stack, marks and memo; every opcode of protocols 0 to 5 has its row in a
    table here."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.references: list[Reference] = []

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one opcode."""
        if opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            self.stack.append(_EMPTY[opcode]())
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            self.stack[-count:] = [tuple(self._top(count))]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(argument)])
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif opcode not in _IGNORED:
            # what is left carries its value: numbers, texts, bytes
            self.stack.append(argument)

    def _top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        return self.stack[-count:]

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def _pop(self, _: None) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _pop_mark(self, _: None) -> None:
        self._since_mark()

    def _dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _list(self, _: None) -> None:
        self.stack.append(self._since_mark())

    def _tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _dict(self, _: None) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set_items(items)

    def _append(self, _: None) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _setitems(self, _: None) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        target = target.items if isinstance(target, InertObject) else target
        if isinstance(target, dict):
            # Other keys cannot name a parameter, and hashing nested tuples can take forever.
            pairs = zip(items[::2], items[1::2], strict=True)
            target.update(
                (key, value) for key, value in pairs if isinstance(key, str | int | float | None)
            )

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Name(module, name))

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(str(module), str(name)))

    def _ext(self, argument: int) -> None:
        self.stack.append(Name("copyreg extension", str(argument)))

    def _reduce(self, _: None) -> None:
        arguments, maker = self.stack.pop(), self.stack.pop()
        self._make(maker, arguments)

    def _newobj_ex(self, _: None) -> None:
        self.stack.pop()
        self._reduce(None)

    def _obj(self, _: None) -> None:
        maker, *arguments = self._since_mark()
        self._make(maker, tuple(arguments))

    def _inst(self, argument: str) -> None:
        arguments = tuple(self._since_mark())
        module, _, name = argument.partition(" ")
        self._make(Name(module, name), arguments)

    def _make(self, maker: Any, arguments: Any) -> None:
        if maker == Name("collections", "OrderedDict"):
            self.stack.append({})
            for pairs in arguments:
                self._set_items([value for pair in pairs for value in pair])
        else:
            self.stack.append(InertObject(maker, arguments if isinstance(arguments, tuple) else ()))

    def _build(self, _: None) -> None:
        # the state of an object that was never made
        self.stack.pop()
        self._top(1)

    def _persid(self, argument: str) -> None:
        self.stack.append(argument)
        self._binpersid(None)

    def _binpersid(self, _: None) -> None:
        reference = Reference(self.stack.pop())
        self.references.append(reference)
        self.stack.append(reference)

    def _next_buffer(self, _: None) -> None:
        raise ValueError("it refers to buffers outside the file")


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._pop_mark,
    "DUP": _Machine._dup,
    "MEMOIZE": _Machine._memoize,
    "LIST": _Machine._list,
    "FROZENSET": _Machine._list,
    "TUPLE": _Machine._tuple,
    "DICT": _Machine._dict,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "ADDITEMS": _Machine._appends,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "EXT1": _Machine._ext,
    "EXT2": _Machine._ext,
    "EXT4": _Machine._ext,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "NEWOBJ_EX": _Machine._newobj_ex,
    "OBJ": _Machine._obj,
    "INST": _Machine._inst,
    "BUILD": _Machine._build,
    "PERSID": _Machine._persid,
    "BINPERSID": _Machine._binpersid,
    "NEXT_BUFFER": _Machine._next_buffer,
}

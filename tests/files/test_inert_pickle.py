import builtins
import copyreg
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rgbt_fusion.files.inert_pickle import InertObject, Name, PickleError, read_pickle


class Call:
    """Pickles as the call of ``function`` on ``arguments``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def command(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


TRICKS: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda path: pickle.dumps(Call(os.system, f"touch {path}")),
    "eval": lambda path: pickle.dumps(Call(eval, command(path))),
    "exec": lambda path: pickle.dumps(Call(exec, command(path))),
    "open for writing": lambda path: pickle.dumps(Call(open, str(path), "w")),
    "getattr of builtins": lambda path: pickle.dumps(
        Call(getattr, Call(getattr, builtins.__import__, "__call__"), "__doc__")
    ),
    "a chain of calls": lambda path: (
        b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\n"
        + (text("os") + b"\x85R" + text("system") + b"\x86R" + text(f"touch {path}") + b"\x85R.")
    ),
    "map over a call": lambda path: pickle.dumps(Call(list, Call(map, eval, [command(path)]))),
    "a pickle in a pickle": lambda path: pickle.dumps(
        Call(pickle.loads, pickle.dumps(Call(exec, command(path))))
    ),
    "torch.load again": lambda path: pickle.dumps(
        Call(torch.load, str(path.with_suffix(".pth")), None)
    ),
    "numpy.load": lambda path: pickle.dumps(
        Call(np.load, str(path.with_suffix(".npy")), None, True)
    ),
    "a call as key and value": lambda path: pickle.dumps(
        {"x": [(Call(exec, command(path)),)], "y": {1: Call(eval, command(path))}}
    ),
    "protocol 0": lambda path: pickle.dumps(Call(exec, command(path)), protocol=0),
    "protocol 5": lambda path: pickle.dumps(Call(exec, command(path)), protocol=5),
    "INST": lambda path: b"(S" + repr(command(path)).encode() + b"\nibuiltins\nexec\n.",
    "OBJ": lambda path: b"(cbuiltins\nexec\n" + text(command(path)) + b"o.",
    "NEWOBJ": lambda path: b"\x80\x02cbuiltins\nexec\n" + text(command(path)) + b"\x85\x81.",
    "NEWOBJ_EX": lambda path: b"\x80\x04cbuiltins\nexec\n" + text(command(path)) + b"\x85}\x92.",
    "STACK_GLOBAL with dots": lambda path: (
        b"\x80\x04"
        + text("os")
        + text("path.os.system")
        + b"\x93"
        + text(f"touch {path}")
        + b"\x85R."
    ),
    "a memoised name": lambda path: (
        b"\x80\x02cbuiltins\nexec\nq\x01" + text(command(path)) + b"\x85q\x02\x30\x30h\x01h\x02R."
    ),
    "BUILD on a function": lambda path: (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}"
        + text("__code__")
        + text(command(path))
        + b"sb."
    ),
    "BUILD on a class": lambda path: (
        b"\x80\x02ccollections\nOrderedDict\n}" + text("__reduce__") + b"cbuiltins\nexec\nsb."
    ),
    "BUILD with a state of its own": lambda path: (
        b"\x80\x02cos\nsystem\n" + text(f"touch {path}") + b"b."
    ),
    "a persistent id that is a call": lambda path: (
        b"\x80\x02cbuiltins\nexec\n" + text(command(path)) + b"\x85RQ."
    ),
    "an extension code": lambda path: b"\x80\x02\x82\x01" + text(command(path)) + b"\x85R.",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_runs(trick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = TRICKS[trick](tmp_path / "it_ran")
    modules, extensions = set(sys.modules), dict(copyreg._inverted_registry)  # pyright: ignore[reportAttributeAccessIssue]
    read_pickle(io.BytesIO(data))
    assert list(tmp_path.iterdir()) == []
    assert not {name for name in set(sys.modules) - modules if not name.startswith("encodings")}
    assert copyreg._inverted_registry == extensions  # pyright: ignore[reportAttributeAccessIssue]
    assert OrderedDict.__reduce__ is not exec


def test_the_tricks_would_run_elsewhere(tmp_path: Path) -> None:
    for trick in ("eval", "OBJ", "a chain of calls", "a memoised name", "STACK_GLOBAL with dots"):
        path = tmp_path / trick.replace(" ", "_")
        pickle.loads(TRICKS[trick](path))
        assert path.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_content_comes_back(protocol: int) -> None:
    content = {
        "epoch": 3,
        "big": 1 << 70,
        "rate": 1e-4,
        "text": "päck",
        "bytes": b"\x00\xff",
        "none": [None, True, False, -1, 300, 70000],
        "nested": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "order": OrderedDict(b=1, a={"c": []}),
    }
    found, references = read_pickle(io.BytesIO(pickle.dumps(content, protocol=protocol)))
    if protocol < 3:
        # bytes are a call of codecs.encode there
        assert isinstance(found.pop("bytes"), InertObject)
        content.pop("bytes")
    assert found == content
    assert references == []


def test_foreign_objects_stay_names() -> None:
    found, _ = read_pickle(io.BytesIO(pickle.dumps({"device": torch.device("cpu"), "set": {1}})))
    assert found["device"].maker == Name("torch", "device")
    assert found["set"] == [1]


def test_keys_that_take_forever_to_hash_are_left_out() -> None:
    nested = b"K\x01" + b"2\x86" * 60  # a tuple of the same tuple twice, sixty deep
    found, _ = read_pickle(
        io.BytesIO(b"\x80\x02}" + nested + b"K\x02s" + text("kept") + b"K\x03s.")
    )
    assert found == {"kept": 3}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b"not a pickle",
        b".",
        b"\x80\x02h\x05.",  # a memo entry that was never made
        b"\x80\x02\x86.",  # a pair of nothing
        b"\x80\x02u.",  # no mark
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",  # bytes beyond the file
        b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b".",  # a number beyond the file
        b"\x80\x05\x97.",  # a buffer from outside
        pickle.dumps(list(range(1000)))[:-50],
    ],
)
def test_damaged_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(PickleError, match="not a readable pickle"):
        read_pickle(io.BytesIO(data))


def test_a_huge_memo_index_costs_nothing() -> None:
    data = b"\x80\x02K\x01r" + struct.pack("<I", 0xFFFFFFFF) + b"."
    assert read_pickle(io.BytesIO(data))[0] == 1


def test_every_opcode_is_known() -> None:
    from rgbt_fusion.files import inert_pickle

    known = {*inert_pickle._ACTIONS, "STOP"}
    assert known == {code.name for code in pickletools.opcodes}


def test_objects_keep_what_is_set_and_restored() -> None:
    found, _ = read_pickle(io.BytesIO(pickle.dumps(np.array({"bus": 3}, dtype=object))))
    assert isinstance(found, InertObject)
    assert found.state[4] == [{"bus": 3}]


def test_the_stream_stands_behind_the_pickle() -> None:
    stream = io.BytesIO(b"before" + pickle.dumps([1]) + pickle.dumps([2]) + b"after")
    stream.seek(6)
    assert [read_pickle(stream)[0], read_pickle(stream)[0]] == [[1], [2]]
    assert stream.read() == b"after"


# ---- pickles that would take forever, or all memory

PAIR = b"2\x86"  # the top of the stack becomes a tuple that holds it twice
ORDERED_DICT = b"ccollections\nOrderedDict\n"

BOMBS: dict[str, tuple[bytes, str]] = {
    "a tuple of two, sixty times over": (b"K\x01" + PAIR * 60, "10000000 values"),
    "a tuple of two as a persistent id": (b"K\x01" + PAIR * 60 + b"Q", "10000000 values"),
    "a tuple of two as a name": (b"K\x01" + PAIR * 60 + b"2\x93", "a name must be a text"),
    "a tuple of two in what an object is made of": (
        b"cx\ny\nK\x01" + PAIR * 60 + b"R",
        "10000000 values",
    ),
    "a tuple of two in what an object is restored from": (
        b"cx\ny\n)RK\x01" + PAIR * 60 + b"b",
        "10000000 values",
    ),
    "a list of a thousand, four times over": (
        b"]q\x00(" + b"h\x00" * 1000 + b"lq\x00" + (b"(" + b"h\x00" * 1000 + b"lq\x00") * 3,
        "10000000 values",
    ),
    "a deep tuple": (b")" + b"\x85" * 100_000, "200 deep"),
    "a deep list": (b"]" * 100_000 + b"a" * 99_999, "200 deep"),
    "a deep dict": (b"}" + b"K\x01}" * 100_000 + b"s" * 100_000, "200 deep"),
    "depth that is put together from shallow lists": (
        b"]q\x00(" + (b"h\x00" + b"\x85" * 150 + b"q\x00") * 100 + b"l",
        "200 deep",
    ),
    "a list that holds itself": (b"]2a", "200 deep"),
    "a dict that holds itself": (b"}q\x00K\x01h\x00s", "200 deep"),
    "many lists": (b"]" * 10_000_000, "more than 500000 steps"),
    "many numbers": (b"(" + b"N" * 10_000_000 + b"l", "more than 500000 steps"),
    "one list of pairs for many dicts": (
        b"(" + b"K\x01K\x01\x86" * 1000 + b"l\x85q\x00" + (ORDERED_DICT + b"h\x00R") * 10_000,
        "more than 500000 steps",
    ),
    "pairs that are longer than two": (
        ORDERED_DICT + b"](K\x01" + b"K\x01" * 1000 + b"ta\x85R",
        "too many values",
    ),
    "a key that takes long to hash": (
        b"\x8b"
        + struct.pack("<i", 1 << 24)
        + b"\x01" * (1 << 24)
        + b"q\x000}"
        + b"h\x00Ns" * 200_000,
        "more than 500000 steps",
    ),
    "a text beyond the file": (b"\x8d" + struct.pack("<Q", 1 << 40) + b"x", "expected"),
    "more than any file": (
        b"B" + struct.pack("<I", (1 << 26) + 1) + bytes((1 << 26) + 1),
        "expected 67108865 bytes",
    ),
}

MEASURED = """
import io, resource, sys, time
from rgbt_fusion.files.inert_pickle import PickleError, read_pickle
stream = io.BytesIO(sys.stdin.buffer.read())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
try:
    read_pickle(stream)
except PickleError as error:
    print(error)
print(time.process_time() - start)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_little_cost(name: str) -> None:
    data, reason = BOMBS[name]
    command = [sys.executable, "-c", MEASURED]
    done = subprocess.run(
        command, input=b"\x80\x04" + data + b".", capture_output=True, check=True, timeout=60
    )
    message, seconds, megabytes = done.stdout.decode().splitlines()
    assert message.startswith("not a readable pickle: ")
    assert reason in message
    assert float(seconds) < 2
    assert float(megabytes) < 300


def test_what_is_shared_and_deep_within_reason_is_read() -> None:
    content: Any = "core"
    for _ in range(190):
        content = [content]
    shared = [list(range(1000))] * 1000
    data = pickle.dumps({"deep": content, "shared": shared})
    assert read_pickle(io.BytesIO(data))[0] == {"deep": content, "shared": shared}


def test_objects_may_hold_each_other() -> None:
    """Settings and networks that trainers pickle do so; nobody walks into an object."""
    first, second = Holder(), Holder()
    first.other, second.other = second, first
    found, _ = read_pickle(io.BytesIO(pickle.dumps({"net": first})))
    assert found["net"].state["other"].state["other"] is found["net"]


class Holder:
    """An object with attributes."""

    other: Any


def test_an_odd_escape_in_a_text_is_no_warning_of_another_kind() -> None:
    """Warnings are errors in these tests; elsewhere the text is read."""
    with pytest.raises(PickleError, match="invalid escape"):
        read_pickle(io.BytesIO(b"S'a\\cb'\n."))

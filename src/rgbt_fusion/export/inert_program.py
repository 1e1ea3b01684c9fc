"""Check that the file of an exported program runs no code when torch loads it."""

import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from rgbt_fusion.weights.stored_tensors import check_torch_file

__all__ = ["NotInertError", "check_inert"]

_LARGEST_TEXT = 1 << 26

_OPS = re.compile(
    r"torch\.ops\.[a-zA-Z]\w*(\.\w+){1,2}|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
"""What a node of a graph may call: a registered op, or plain arithmetic."""

_CONTAINERS = (
    None,
    "builtins.tuple",
    "builtins.list",
    "builtins.dict",
    "collections.OrderedDict",
    "collections.namedtuple",
)
"""What inputs and outputs may be packed in; other containers name a module to import."""

_TENSOR_FILE = re.compile(r"(weight|tensor)_\d{1,9}")


class NotInertError(ValueError):
    """The file holds something that torch would run, or that would take all memory."""


class _Archive(NamedTuple):
    sizes: dict[str, int]
    """Bytes of each record, by name."""
    read: Callable[[str], bytes]


def check_inert(content: bytes) -> None:
    """Check that a file of ``torch.export.save`` holds a graph of ops and plain tensors alone.

    ``torch.export.load`` runs what is in a file in five ways: it unpickles objects, evaluates the
    expressions of symbolic shapes, compiles guards, imports the modules that containers name, and
    opens compiled libraries. It also allocates whatever size an empty tensor claims.

    Choices: torch reads an archive by its own reader and, where that fails, by ``zipfile``. What
    either of them finds is checked. Symbolic shapes are refused: their expressions are Python.

    Args:
        content: the whole file.

    Raises:
        NotInertError: the file holds something else.
        Exception: whatever the readers of archives raise at a damaged one.
    """
    for archive in _archives(content):
        _check_names(archive.sizes, len(content))
        for name, size in archive.sizes.items():
            if not name.endswith((".json", ".pt")):
                continue
            if size > _LARGEST_TEXT:
                raise NotInertError(f"its record {name} claims {size} bytes")
            record = archive.read(name)
            if name.endswith(".json"):
                folder = name.rpartition("/")[0]
                _check_values(json.loads(record), archive.sizes, folder)
            elif record:
                _check_tensors_alone(record, name)


def _archives(content: bytes) -> Iterator[_Archive]:
    """Give what the readers that torch may use find in a file."""
    stored = zipfile.ZipFile(io.BytesIO(content))
    entries = stored.infolist()
    if len({one.filename for one in entries}) < len(entries):
        raise NotInertError("two of its records have the same name")
    yield _Archive({one.filename: one.file_size for one in entries}, stored.read)
    try:
        reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    except RuntimeError:
        # torch falls back on zipfile, too
        return
    names = reader.get_all_records()
    yield _Archive({name: reader.get_record_size(name) for name in names}, reader.get_record)


def _check_names(sizes: Mapping[str, int], most: int) -> None:
    """Check the names and sizes of all records, without reading one."""
    # torch's reader does not tell capital letters from small ones
    if len({name.lower() for name in sizes}) < len(sizes):
        raise NotInertError("two of its records have the same name")
    if sum(sizes.values()) > most:
        raise NotInertError(f"its records claim more bytes than the {most} of the file")
    for name in sizes:
        if "aotinductor" in name:
            raise NotInertError(f"its record {name[:80]} is a compiled library")


def _check_tensors_alone(record: bytes, name: str) -> None:
    """Check a record that torch unpickles: without restrictions where those make it fail."""
    check_torch_file(name, record)
    try:
        torch.load(io.BytesIO(record), map_location="cpu", weights_only=True)
    except Exception as error:
        raise NotInertError(f"its record {name} holds more than tensors") from error


def _check_values(content: Any, sizes: Mapping[str, int], folder: str) -> None:
    """Check the graph, or the table of tensors, that a record of JSON describes."""
    for key, value in _pairs(content):
        match key:
            case "target" | "as_operator":
                if not (isinstance(value, str) and _OPS.fullmatch(value)):
                    raise NotInertError(f"its graph calls {value!r:.80}, which is no op")
            case "expr_str" | "guards_code" if value:
                raise NotInertError(
                    "it has symbolic shapes, which torch evaluates as Python; if you trust its "
                    "author, call torch.export.load"
                )
            case "use_pickle" | "as_custom_obj" | "custom_obj_values" if value:
                raise NotInertError("it holds a pickled object")
            case "path_name":
                if not (isinstance(value, str) and _TENSOR_FILE.fullmatch(value)):
                    raise NotInertError(f"its record {value!r:.80} is no plain tensor")
            case "in_spec" | "out_spec" if value:
                _check_containers(json.loads(value))
            case "config" if isinstance(value, dict):
                _check_empty_tensors(value.values(), sizes, folder)
            case _:
                pass


def _check_containers(spec: Any) -> None:
    for key, value in _pairs(spec):
        if key == "type" and value not in _CONTAINERS:
            raise NotInertError(f"its inputs or outputs are packed in a {value!r:.80}")
        if key == "context" and isinstance(value, str) and "__enum__" in value:
            raise NotInertError("its inputs or outputs have the names of an enumeration")


def _check_empty_tensors(tensors: Iterable[Any], sizes: Mapping[str, int], folder: str) -> None:
    """Check that a tensor without bytes has no elements: torch would make them."""
    for tensor in tensors:
        if sizes.get(f"{folder}/{tensor['path_name']}") == 0:
            axes = tensor["tensor_meta"]["sizes"]
            if math.prod(axis["as_int"] for axis in axes) != 0:
                raise NotInertError(f"its tensor {tensor['path_name']} has a shape and no bytes")


def _pairs(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of all tables in nested lists and tables."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)

"""Finding the tensors in a file of weights without running any of it.

Read are safetensors, and what ``torch.save`` writes today and wrote before torch 1.6.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rgbt_fusion.files.inert_pickle import InertObject, Name, Reference, read_pickle

__all__ = [
    "CheckpointError",
    "StoredTensor",
    "WeightFile",
    "check_torch_file",
    "open_weight_file",
]


class CheckpointError(ValueError):
    """A file of weights cannot be read, or does not fit the model."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a file: nothing is read before :meth:`read`.

    Args:
        path: the file.
        start: the byte where its first element lies.
        dtype: of its elements.
        shape: its sizes.
        stride: steps between its elements, counted in elements.
    """

    path: Path
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        """Read the tensor: one copy of its bytes, no more."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = bytearray(_span(self.shape, self.stride) * self.dtype.itemsize)
            if file.readinto(data) != len(data):
                raise CheckpointError(f"{self.path} ends inside a tensor")
        if not data:
            return torch.empty(self.shape, dtype=self.dtype)
        return torch.frombuffer(data, dtype=self.dtype).as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a file by name, and the texts stored beside them (safetensors only)."""

    path: Path
    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def open_weight_file(path: str | Path) -> WeightFile:
    """Find the tensors of a file; its name does not matter, its content says what it is.

    Reads safetensors, ``torch.save`` archives, the older ``torch.save`` format, and in them a bare
    state_dict or a dict that holds one under ``net``, ``model``, ``state_dict`` or
    ``model_state_dict``. Whatever else a pickle holds stays inert.

    Raises:
        FileNotFoundError: there is no file at ``path``.
        CheckpointError: the file is of another kind, is damaged, or holds no tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"path must be a file of weights, got {path}, which does not exist or is a folder"
        )
    with _refusals(path):
        with path.open("rb") as file:
            head = file.read(16)
        # first of all: the length of its header may begin with any byte, even 0x80 of a pickle
        if head[8:9] == b"{":
            return _read_safetensors(path)
        if head.startswith(_ZIP_START):
            return WeightFile(path, _named_tensors(_read_archive(path)), {})
        if head.startswith(b"\x80"):
            return WeightFile(path, _named_tensors(_read_legacy(path)), {})
    raise CheckpointError(
        f"{path} is neither a safetensors nor a torch.save file: it starts with {head[:8]!r}"
    )


def check_torch_file(path: str | Path, content: bytes | None = None) -> None:
    """Check that a ``torch.save`` archive is whole and small enough for ``torch.load``.

    ``torch.load`` runs nothing either, but may take all memory or forever.

    Args:
        path: the file.
        content: the archive itself, if it is not a file; ``path`` names it in errors.

    Raises:
        CheckpointError: the file is missing, of another kind, or damaged, or exceeds a bound.
    """
    path = Path(path)
    with _refusals(path):
        with _opened(path, content) as file:
            if file.read(4) != _ZIP_START:
                raise _UnusableFileError("it is no archive of torch.save")
        _read_archive(path, content)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn whatever a file does to its readers into a CheckpointError."""
    try:
        yield
    except _UnusableFileError as error:
        raise CheckpointError(f"{path} is not a usable file of weights: {error}") from error
    except _DAMAGES as error:
        raise CheckpointError(f"{path} is damaged or incomplete: {error}") from error


class _UnusableFileError(ValueError):
    """What the file holds contradicts itself or is not expected."""


_DAMAGES = (
    SafetensorError,
    zipfile.BadZipFile,
    EOFError,
    OSError,
    ValueError,
    # zipfile's answers to versions that it does not know, and to places beyond any file
    NotImplementedError,
    OverflowError,
    # a header that nests too deep
    RecursionError,
)
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_WRAPPERS = ("net", "model", "state_dict", "model_state_dict")
_LARGEST_PICKLE = 1 << 26
# the list of what a file holds: a model of 20,000 tensors has about 2 MB
_LARGEST_DIRECTORY = 1 << 23
_LARGEST_HEADER = 1 << 22
_ZIP_START = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_AXES = 64


@dataclass(frozen=True)
class _Storages:
    """The content of the pickle in a torch.save file, and where the storages lie that it names."""

    path: Path
    content: Any
    ranges: dict[str, tuple[int, int]]
    """First byte and number of bytes of each storage, by key."""


def _read_safetensors(path: Path) -> WeightFile:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if _LARGEST_HEADER < length <= path.stat().st_size:
        raise _UnusableFileError(f"its list of tensors has {length} bytes")
    with safe_open(path, framework="pt") as file:
        # the library has checked the header: offsets in range, without gaps, sizes that agree
        metadata = file.metadata() or {}
    with path.open("rb") as file:
        file.seek(8)
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise _UnusableFileError(
                f"tensor {name[:80]} has dtype {entry['dtype'][:20]}, which no model here holds"
            )
        shape = tuple(entry["shape"])
        if len(shape) > _MOST_AXES:
            raise _UnusableFileError(f"tensor {name[:80]} has {len(shape)} axes")
        start = 8 + length + entry["data_offsets"][0]
        tensors[name] = StoredTensor(
            path, start, _SAFETENSORS_DTYPES[entry["dtype"]], shape, _contiguous(shape)
        )
    return WeightFile(path, tensors, metadata)


def _opened(path: Path, content: bytes | None) -> "_Archive | io.BytesIO":
    return _Archive(path) if content is None else io.BytesIO(content)


def _read_archive(path: Path, content: bytes | None = None) -> _Storages:
    """Read the zip format of torch.save: one pickle, and every storage as an uncompressed entry."""
    with _opened(path, content) as file, zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise _UnusableFileError(
                f"a zip archive with {len(pickles)} entries data.pkl, torch.save writes one"
            )
        folder = pickles[0].removesuffix("data.pkl")
        order = entries.get(f"{folder}byteorder")
        if order is not None and _entry_content(archive, order, 64) != b"little":
            raise _UnusableFileError("its numbers are stored big-endian")
        pickled = _entry_content(archive, entries[pickles[0]], _LARGEST_PICKLE)
        found, references = read_pickle(io.BytesIO(pickled))
        ranges = {}
        for key in {key for dtype, key in map(_storage, references) if dtype is not None}:
            entry = entries.get(f"{folder}data/{key}")
            if entry is None:
                raise _UnusableFileError(f"storage {key[:80]} is missing")
            _check_plain(entry, f"storage {key}")
            ranges[key] = (_data_start(file, entry), entry.file_size)
    return _Storages(path, found, ranges)


class _Archive(io.FileIO):
    """A file for ``zipfile``, which reads the whole list of entries at once, however large."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, but no more than any sound list of entries has."""
        content = super().read(_LARGEST_DIRECTORY if size is None or size < 0 else size)
        if size is not None and size > _LARGEST_DIRECTORY:
            raise _UnusableFileError(f"its list of entries claims {size} bytes")
        return content


def _entry_content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """Return the content of an entry of at most ``most`` bytes."""
    _check_plain(entry, f"entry {entry.filename}")
    if entry.file_size > most:
        raise _UnusableFileError(f"its entry {entry.filename[:80]} claims {entry.file_size} bytes")
    with archive.open(entry) as stream:
        return b"".join(iter(lambda: stream.read(1 << 20), b""))


def _check_plain(entry: zipfile.ZipInfo, what: str) -> None:
    if entry.compress_type != zipfile.ZIP_STORED:
        raise _UnusableFileError(f"{what[:80]} is compressed, which torch.save never does")
    if entry.flag_bits & 1:
        raise _UnusableFileError(f"{what[:80]} is encrypted, which torch.save never does")


def _data_start(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """Return where the data of an entry starts: after its local header."""
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) != 30 or not header.startswith(_ZIP_START):
        raise _UnusableFileError(f"entry {entry.filename} has no header")
    # the header ends with a name and an extra field: the directory's copies may differ in length
    name_length = int.from_bytes(header[26:28], "little")
    extra_length = int.from_bytes(header[28:30], "little")
    return entry.header_offset + 30 + name_length + extra_length


def _read_legacy(path: Path) -> _Storages:
    """Read the format before torch 1.6: pickles in a row, then every storage behind its length."""
    file_size = path.stat().st_size
    with path.open("rb") as file:
        magic, _ = read_pickle(file)
        if not isinstance(magic, int) or magic != _LEGACY_MAGIC:
            raise _UnusableFileError("a pickle, but not one that torch.save wrote")
        read_pickle(file)  # the version of the format
        system, _ = read_pickle(file)
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise _UnusableFileError("its numbers are stored big-endian")
        content, references = read_pickle(file)
        keys, _ = read_pickle(file)
        dtypes = {key: dtype for dtype, key in map(_storage, references)}
        ranges = {}
        for key in keys if isinstance(keys, list) else ():
            count = int.from_bytes(file.read(8), "little", signed=True)
            dtype = dtypes.get(key) if isinstance(key, str) else None
            if dtype is None or count < 0:
                raise _UnusableFileError("it holds a storage that its pickle does not name")
            start = file.tell()
            size = count * dtype.itemsize
            if start + size > file_size:
                raise _UnusableFileError(f"storage {key[:80]} of {size} bytes ends beyond the file")
            ranges[key] = (start, size)
            file.seek(start + size)
    return _Storages(path, content, ranges)


def _storage(reference: Reference) -> tuple[torch.dtype | None, str]:
    """Return dtype and key of a storage that a pickle names.

    There is no dtype for kinds of storage that no model here holds.
    """
    match reference.value:
        case ("storage", Name(_, kind), str(key), *_):
            return _STORAGES.get(kind), key
    raise _UnusableFileError("it refers to a storage in a way that torch.save never does")


def _named_tensors(storages: _Storages) -> dict[str, StoredTensor]:
    """Return the state_dict in the content of a pickle."""
    content = storages.content
    if isinstance(content, dict):
        wrapped = [content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)]
        if wrapped:
            content = wrapped[0]
    found = {}
    if isinstance(content, dict):
        found = dict(_tensors(content, storages))
    if not found:
        raise _UnusableFileError(
            "it holds no state_dict, neither itself nor under " + ", ".join(map(repr, _WRAPPERS))
        )
    return found


def _tensors(content: dict[Any, Any], storages: _Storages) -> Iterator[tuple[str, StoredTensor]]:
    for name, value in content.items():
        tensor = _unwrap_parameter(value)
        if isinstance(name, str) and _is_made_by_torch(tensor, "_rebuild_tensor"):
            yield name, _stored_tensor(name, tensor.arguments, storages)


def _unwrap_parameter(value: Any) -> Any:
    if _is_made_by_torch(value, "_rebuild_parameter") and value.arguments:
        return value.arguments[0]
    return value


def _is_made_by_torch(value: Any, prefix: str) -> TypeGuard[InertObject]:
    if not isinstance(value, InertObject) or not isinstance(value.maker, Name):
        return False
    return value.maker.module == "torch._utils" and value.maker.name.startswith(prefix)


def _stored_tensor(name: str, arguments: tuple[Any, ...], storages: _Storages) -> StoredTensor:
    told = f"tensor {name[:80]}"
    match arguments:
        case (Reference() as reference, int(offset), tuple(shape), tuple(stride), *_):
            dtype, key = _storage(reference)
        case _:
            raise _UnusableFileError(f"{told} is described in a way that torch.save never does")
    if dtype is None:
        raise _UnusableFileError(f"{told} is of a kind that no model here holds")
    if key not in storages.ranges:
        raise _UnusableFileError(f"{told} lies in a storage that is missing")
    sizes = (offset, *shape, *stride)
    if len(shape) != len(stride) or len(shape) > _MOST_AXES or not all(map(_is_size, sizes)):
        raise _UnusableFileError(f"{told} has a shape or strides that no tensor has")
    start, size = storages.ranges[key]
    needed = (offset + _span(shape, stride)) * dtype.itemsize
    available = min(size, storages.path.stat().st_size - start)
    if needed > available:
        raise _UnusableFileError(
            f"{told} of shape {shape} needs {needed} bytes, its storage has {available}"
        )
    return StoredTensor(storages.path, start + offset * dtype.itemsize, dtype, shape, stride)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 48


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return how many elements of a storage a tensor spans, from its first to its last one."""
    if 0 in shape:
        return 0
    steps_to_last = [(size - 1) * step for size, step in zip(shape, stride, strict=True)]
    return 1 + sum(steps_to_last)

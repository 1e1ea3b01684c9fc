"""300 files of weights made to hang, to eat the machine or to be believed, and what loading costs.

python hostile_weights.py FOLDER EVERY loads every EVERY-th file in a fork of a process that has
imported torch and this library, and prints one line of JSON per file.
"""

import io
import itertools
import json
import os
import pickle
import resource
import struct
import sys
import time
import traceback
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from one_training import SMALL
from rgbt_fusion.weights.checkpoints import (
    CheckpointError,
    convert_checkpoint,
    load_checkpoint,
    load_model,
)
from rgbt_fusion.weights.formats import CONFIGURATION_KEY
from rgbt_fusion.weights.pretrained import create_model

HUGE = (2**31 - 1, 2**32, 2**48, 2**63 - 1, 2**64 - 1)


def files() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file."""
    yield from _configurations()
    yield from _headers()
    yield from _archives()
    yield from _pickles()
    yield from _shapes()
    yield from _old_files()


# ---- safetensors


@lru_cache
def _state() -> dict[str, torch.Tensor]:
    return create_model("ostrack_tiny_128", **SMALL).state_dict()


def _own(configuration: Any, *, text: str | None = None) -> bytes:
    """A sound file of a small model under another configuration."""
    return save(_state(), {CONFIGURATION_KEY: json.dumps(configuration) if text is None else text})


def _configurations() -> Iterator[tuple[str, bytes]]:
    sound = create_model("ostrack_tiny_128", **SMALL).configuration
    values: list[Any] = [10**5, 1e5, 10**9, 2**63, 10**400, -1, 0, None, "x", True, [], {}]
    values += [[0] * 10**5, float("nan"), float("inf"), "x" * 10**6]
    for key, value in itertools.product(("depth", "dim", "search_size", "template_size"), values):
        yield (
            f"{key}={str(value)[:12]}",
            _own(sound | {"settings": sound["settings"] | {key: value}}),
        )
    for key, value in itertools.product(("head_channels", "num_heads", "stem"), values[:9]):
        yield (
            f"{key}={str(value)[:12]}",
            _own(sound | {"settings": sound["settings"] | {key: value}}),
        )
    largest = {"dim": 16384, "depth": 256, "search_size": 4096, "head_channels": 16384}
    for count in range(1, 5):
        some = dict(list(largest.items())[:count])
        yield f"{count} largest settings", _own(sound | {"settings": sound["settings"] | some})
    networks = ("AINet", "TPMRI", "MutualPromptTeacher", "TwoStream", "CompensationTracker", "x")
    options = ("inner_width", "fusion_layers", "prompts", "settings", "self")
    for network, option in itertools.product(networks, options):
        for value in (10**9, list(range(10**5))):
            changed = sound | {"model": network, "options": {option: value}}
            yield f"{network} {option} {str(value)[:8]}", _own(changed)
    for part in ("model", "settings", "options"):
        for value in (None, 3, "y" * 10**6, [1]):
            yield f"{part} {str(value)[:5]}", _own(sound | {part: value})
    texts = ("[" * 10**6, '{"a":' * 10**6, "", "null", "1" * 10**5, '{"model": 1e999}', "\0")
    for number, text in enumerate(texts):
        yield f"configuration {number}", _own(None, text=text)


def _headers() -> Iterator[tuple[str, bytes]]:
    def file(header: str, data: bytes = b"") -> bytes:
        return struct.pack("<Q", len(header)) + header.encode() + data

    for length in (0, 1, 7, 2**20, *HUGE):
        yield f"header of {length}", struct.pack("<Q", length) + b"{" + bytes(40)
    empty = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    for count in (10**3, 10**5, 4 * 10**5):
        entries = ",".join(f'"{number}":{empty}' for number in range(count))
        yield f"{count} empty tensors", file(f"{{{entries}}}")
    for prefix in ("module.", "_orig_mod.", "model."):
        yield f"wrapped in {prefix}", file(f'{{"{prefix * 10**5}":{empty}}}')
    for axes in (65, 10**4, 10**6):
        shape = ",".join("0" * axes)
        yield (
            f"{axes} axes",
            file(f'{{"a":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,0]}}}}'),
        )
    for size in HUGE:
        yield (
            f"size {size}",
            file(f'{{"a":{{"dtype":"F32","shape":[0,{size}],"data_offsets":[0,0]}}}}'),
        )
    for kind in ("F8_E4M3", "C64", "x" * 10**5, ""):
        yield (
            f"dtype {kind[:8]}",
            file(f'{{"a":{{"dtype":"{kind}","shape":[0],"data_offsets":[0,0]}}}}'),
        )
    yield "nested header", file("{" + '"a":{' * 10**5)
    yield "large text", file(f'{{"__metadata__":{{"a":"{"b" * 10**7}"}}}}')
    pairs = ",".join(f'"{number}":"b"' for number in range(5 * 10**5))
    yield "many texts", file(f'{{"__metadata__":{{{pairs}}}}}')


# ---- archives of torch.save


def _saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def _zip(pickled: bytes, *, method: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(64))
        for name, content in more.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


SOUND_PICKLE = pickle.dumps({"weight": 1}, 2)


def _archives() -> Iterator[tuple[str, bytes]]:
    for method, size in ((zipfile.ZIP_DEFLATED, 50_000_000), (zipfile.ZIP_BZIP2, 5_000_000)):
        zeros = bytes(size)
        yield f"bomb {method}", _zip(SOUND_PICKLE, method=method, byteorder=zeros)
        yield f"pickle bomb {method}", _zip(zeros, method=method)
    claiming = _zip(SOUND_PICKLE, byteorder=b"little")
    directory = claiming.index(b"PK\x01\x02")
    for place, layout in ((20, "<I"), (24, "<I"), (42, "<I"), (10, "<H"), (8, "<H"), (28, "<H")):
        for value in (0xFFFFFFFE, 0xFFFFFFFF, 0xF0001000, 0x7FFF):
            data = bytearray(claiming)
            struct.pack_into(
                layout, data, directory + place, value % (1 << 8 * struct.calcsize(layout))
            )
            yield f"entry {place} {value}", bytes(data)
    end = claiming.rindex(b"PK\x05\x06")
    for place in (8, 10, 12, 16, 20):
        data = bytearray(claiming)
        struct.pack_into("<H", data, end + place, 0xFFFF)
        yield f"end {place}", bytes(data)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", SOUND_PICKLE)
        for number in range(60_000):
            archive.writestr(f"archive/{number}", b"")
    yield "60,000 entries", stream.getvalue()
    for name in ("data.pkl", "../../data.pkl", "x/data.pkl"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(f"archive/{name}", SOUND_PICKLE)
            archive.writestr(f"other/{name}", SOUND_PICKLE)
        yield f"two pickles {name}", stream.getvalue()


def _pickles() -> Iterator[tuple[str, bytes]]:
    """Programs for the machine that a pickle runs on."""
    number = b"K\x01"
    programs = {
        "doubled tuples": number + b"2\x86" * 190 + b".",
        "doubled lists": b"]" + b"(2e" * 60 + b".",
        "tripled tuples": number + b"22\x87" * 100 + b".",
        "tuples as keys": b"}" + b"(" + number + b"2\x86" * 40 + number + b"u.",
        "shared tuples as keys": number
        + b"2\x86" * 30
        + b"}"
        + b"("
        + b"q\x00h\x00"
        + number
        + b"u.",
        "many lists": b"(" + b"]" * 60_000_0 + b"l.",
        "a million memos": b"]" + b"\x94" * 10**6 + b".",
        "deep lists": b"(" * 10**5 + b"l" * 10**5 + b".",
        "deep tuples": number + b"\x85" * 10**5 + b".",
        "deep calls": b"cposix\nsystem\n" + (b"(" + b"tR") * 10**4 + b".",
        "itself": b"]q\x00h\x00a.",
        "itself in a dictionary": b"}q\x00X\x01\x00\x00\x00ah\x00s.",
        "a large number": b"\x8b" + struct.pack("<i", 10**6) + b"\xff" * 10**6 + b".",
        "a large number as key": b"}\x8b"
        + struct.pack("<i", 10**6)
        + b"\x7f" * 10**6
        + number
        + b"s.",
        "many digits": b"L" + b"9" * 10**6 + b"L\n.",
        "a text that claims 4 GB": b"X" + struct.pack("<I", 2**32 - 1) + b"a.",
        "a text that claims more": b"\x8d" + struct.pack("<Q", 2**63) + b"a.",
        "bytes that claim much": b"\x8e" + struct.pack("<Q", 2**40) + b"a.",
        "a frame that claims much": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"K\x01.",
        "a large text": b"X" + struct.pack("<I", 3 * 10**7) + b"a" * 3 * 10**7 + b".",
        "a far memo": number + b"r" + struct.pack("<I", 2**32 - 1) + b".",
        "an ordered dictionary of itself": b"ccollections\nOrderedDict\n]q\x00(h\x00h\x00e\x85R.",
        "an ordered dictionary of numbers": b"ccollections\nOrderedDict\nK\x01\x85R.",
        "a name of numbers": number + number + b"\x93.",
        "a code": b"\x84" + struct.pack("<i", -1) + b".",
        "a storage of lists": b"](]]]eQ.",
        "a buffer": b"\x97.",
        "nothing": b"",
        "only an end": b".",
        "only marks": b"(" * 10**6 + b".",
        "an instance": b"(ios\nsystem\n.",
        "built of itself": b"(ios\nsystem\nq\x00h\x00b.",
    }
    for name, program in programs.items():
        yield f"pickle: {name}", _zip(b"\x80\x02" + program)
        yield f"old file: {name}", b"\x80\x02" + program


def _shapes() -> Iterator[tuple[str, bytes]]:
    """Tensors whose shape is not that of what lies in the file."""
    one = torch.ones(1)
    tables = {
        "endless": one.expand(1, 10**10, 16),
        "no square": one.expand(1, 10, 16),
        "square": one.expand(1, 10**6, 16),
        "empty": torch.ones(1, 0, 16),
        "of two axes": one.expand(16, 16),
        "half": one.half().expand(1, 16, 16),
        "not finite": (one / 0).expand(1, 16, 16),
        "double": (one.double() * 1e300).expand(1, 16, 16),
        "of whole numbers": torch.ones(1, dtype=torch.int64).expand(1, 16, 16),
    }
    state = dict(_state())
    for name, table in tables.items():
        for place in ("x", "z"):
            changed = state | {f"backbone.pos_embed_{place}": table}
            yield f"positions {place} {name}", _saved({"net": changed})
        yield f"ViT {name}", _saved({"pos_embed": table, "blocks.0.attn.qkv.weight": torch.ones(3)})
        temporal = {f"backbone.temporal_pos_embed_{place}": table for place in "xz"}
        yield f"DropTrack {name}", _saved(state | temporal)
        scans = {
            f"mamba_fusion.fusion.0.mamba.conv1d{end}.weight": table for end in ("", "_b", "_s")
        }
        yield f"AINet {name}", _saved(state | scans | {"backbone.cross_mamba.0.x": one})


def _old_files() -> Iterator[tuple[str, bytes]]:
    sound = _saved({"weight": torch.ones(4)}, _use_new_zipfile_serialization=False)
    for count in (-1, 0, *HUGE[:4]):
        yield f"storage of {count}", sound[:-24] + struct.pack("<q", count) + sound[-16:]
    for share in range(1, 10):
        yield f"cut at {share}", sound[: len(sound) * share // 10]


# ---- what they cost


def attempt(path: Path) -> dict[str, Any]:
    """Give a file to all that load weights, and return what each of them said and took."""
    said: dict[str, Any] = {"errors": [], "seconds": 0.0}
    readers = {
        "load_model": lambda: load_model(path),
        "load_checkpoint": lambda: load_checkpoint(create_model("ostrack_tiny_128", **SMALL), path),
        "convert": lambda: convert_checkpoint(path, path.with_name("converted"), name=None),
    }
    for name, read in readers.items():
        begin = time.process_time()
        try:
            read()
            said[name] = "loaded"
        except CheckpointError as error:
            said[name] = str(error)[:300]
        except BaseException:
            said["errors"].append(f"{name}: {traceback.format_exc()[-600:]}")
        said["seconds"] = max(said["seconds"], time.process_time() - begin)
    return said


def measure(path: Path, log: Path) -> dict[str, Any]:
    """Attempt a file in a process of its own."""
    process = os.fork()
    if not process:
        begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        said = attempt(path)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said["megabytes"] = (peak - begin) / 1024
        log.write_text(json.dumps(said))
        os._exit(0)
    log.unlink(missing_ok=True)
    _, status = os.waitpid(process, 0)
    if status or not log.exists():
        return {"errors": [f"died: {os.waitstatus_to_exitcode(status)}"], "seconds": 0.0}
    return json.loads(log.read_text())


def main() -> None:
    folder = Path(sys.argv[1])
    every = int(sys.argv[2])
    torch.set_num_threads(1)
    # what is imported or built at the first use of a reader is none of a file's costs
    sound = folder / "sound"
    sound.write_bytes(_own(create_model("ostrack_tiny_128", **SMALL).configuration))
    attempt(sound)
    for number, (name, content) in enumerate(files()):
        if number % every:
            continue
        path = folder / "file"
        path.write_bytes(content)
        found = {"name": name} | measure(path, folder / "log")
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

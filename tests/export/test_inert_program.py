"""A program that was made to run code is refused, and none of it runs."""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rgbt_fusion.export.agreement import ExportError
from rgbt_fusion.export.loading import load_program

MODEL = "archive/models/model.json"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
INPUTS = "archive/data/sample_inputs/model.pt"

Records = dict[str, bytes]


@pytest.fixture(scope="module")
def sound() -> Records:
    """The records of a small program, by name."""
    stream = io.BytesIO()
    program = torch.export.export(nn.Linear(2, 3).eval(), (torch.ones(1, 2),))
    torch.export.save(program, stream)
    with zipfile.ZipFile(stream) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(records: Records, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def changed(records: Records, name: str, change: Callable[[Any], object]) -> Records:
    """Change a record of JSON."""
    content = json.loads(records[name])
    change(content)
    return records | {name: json.dumps(content).encode()}


class Evil:
    """An object whose pickle makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def saved(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def pickled_weight(sound: Records, mark: Path) -> Records:
    records = changed(
        sound, WEIGHTS, lambda table: table["config"]["weight"].update(use_pickle=True)
    )
    return records | {"archive/data/weights/weight_0": saved(Evil(mark))}


def pickled_inputs(sound: Records, mark: Path) -> Records:
    return sound | {INPUTS: saved(((Evil(mark),), {}))}


def pickled_constant(sound: Records, mark: Path) -> Records:
    meta = json.loads(sound[WEIGHTS])["config"]["weight"]
    one = meta | {"path_name": "opaque_obj_0", "use_pickle": True, "tensor_meta": None}
    records = changed(sound, CONSTANTS, lambda table: table["config"].update(x=one))
    return records | {"archive/data/constants/opaque_obj_0": pickle.dumps(Evil(mark))}


def old_weights(sound: Records, mark: Path) -> Records:
    return sound | {"archive/data/weights/model.pt": saved({"weight": Evil(mark)})}


def expression(sound: Records, mark: Path) -> Records:
    text = f"open({str(mark)!r}, 'w')"
    size = {"as_expr": {"expr_str": text, "hint": {"as_int": 1}}}

    def change(table: Any) -> None:
        table["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0] = size

    return changed(sound, MODEL, change)


def guard(sound: Records, mark: Path) -> Records:
    text = f"open({str(mark)!r}, 'w') is not None"
    return changed(sound, MODEL, lambda table: table.update(guards_code=[text]))


def imported_container(sound: Records, mark: Path) -> Records:
    (mark.parent / "evil_module.py").write_text(f"open({str(mark)!r}, 'w')\nmake = list\n")
    context = {"default_factory_module": "evil_module", "default_factory_name": "make"}
    # the form of a defaultdict: its factory and its keys
    inner = {"type": "collections.defaultdict", "context": json.dumps([context, []])}
    spec = json.dumps([1, inner | {"children_spec": []}])

    def change(table: Any) -> None:
        table["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = spec

    return changed(sound, MODEL, change)


def any_function(sound: Records, mark: Path) -> Records:
    def change(table: Any) -> None:
        node = table["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.os.mkdir"
        node["inputs"] = [{"name": "path", "arg": {"as_string": str(mark)}, "kind": 1}]

    return changed(sound, MODEL, change)


def compiled_library(sound: Records, _: Path) -> Records:
    return sound | {"archive/data/aotinductor/model/code.so": b"\x7fELF"}


def endless_tensor(sound: Records, _: Path) -> Records:
    def change(table: Any) -> None:
        table["config"]["weight"]["tensor_meta"]["sizes"] = [{"as_int": 1 << 20}] * 2

    return changed(sound, WEIGHTS, change) | {"archive/data/weights/weight_0": b""}


def same_name(sound: Records, _: Path) -> Records:
    return sound | {MODEL.upper().replace("ARCHIVE", "archive"): sound[MODEL]}


RUN_BY_TORCH = (pickled_weight, pickled_inputs, pickled_constant, old_weights, expression, guard)
REFUSALS = {
    pickled_weight: "it holds a pickled object",
    pickled_inputs: "model.pt holds more than tensors",
    pickled_constant: "pickled object|no plain tensor",
    old_weights: "model.pt holds more than tensors",
    expression: "symbolic shapes, which torch evaluates as Python",
    guard: "symbolic shapes, which torch evaluates as Python",
    imported_container: "packed in a 'collections.defaultdict'",
    any_function: "calls 'torch.os.mkdir', which is no op",
    compiled_library: "is a compiled library",
    endless_tensor: "weight_0 has a shape and no bytes",
    same_name: "two of its records have the same name",
}


@pytest.mark.parametrize("attack", RUN_BY_TORCH)
def test_torch_runs_what_is_refused_here(
    attack: Callable[[Records, Path], Records], sound: Records, tmp_path: Path
) -> None:
    """The files below are real attacks: torch itself does what they want."""
    mark = tmp_path / "it_ran"
    path = write(attack(sound, mark), tmp_path / "evil.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.export.load(path).module()(torch.ones(1, 2))
        except Exception:
            assert mark.exists()
    assert mark.exists()


@pytest.mark.parametrize("attack", REFUSALS)
def test_nothing_of_it_runs(
    attack: Callable[[Records, Path], Records],
    sound: Records,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    mark = tmp_path / "it_ran"
    path = write(attack(sound, mark), tmp_path / "evil.pt2")
    with pytest.raises(ExportError, match=rf"evil\.pt2 is not a program .*({REFUSALS[attack]})"):
        load_program(path)
    assert not mark.exists()


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    sound: Records, tmp_path: Path
) -> None:
    path = tmp_path / "evil.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (sound | {MODEL: b"[" + b"[]," * 20_000_000 + b"[]]"}).items():
            archive.writestr(name, content)
    with pytest.raises(ExportError, match="claim more bytes than"):
        load_program(path)


def test_records_that_are_written_anew_still_load(sound: Records, tmp_path: Path) -> None:
    path = write(sound, tmp_path / "sound.pt2")
    torch.manual_seed(0)
    tokens = torch.randn(1, 2)
    module = load_program(path).module()
    assert module(tokens).shape == (1, 3)

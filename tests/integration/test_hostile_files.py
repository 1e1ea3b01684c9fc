"""Every reader of files meets what a mutator made of sound ones: it reads them, or raises the error
that it documents, soon.

``RGBT_FUSION_FUZZ`` is the number of files per reader; `make soak` sets it to 100,000.
"""

import io
import json
import os
import pickle
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from benchmarks.study.records import read_trials
from hostile_bytes import mutants
from model_material import tiny
from one_training import SMALL
from rgbt_fusion.alignment.estimate import read_alignment
from rgbt_fusion.benchmarking.records import Record, read_record, write_record
from rgbt_fusion.data.annotations import find_sequences, read_boxes, read_ground_truth
from rgbt_fusion.data.first_frames import first_frames
from rgbt_fusion.data.missing import read_missing_list, read_missing_lists
from rgbt_fusion.data.regions import read_json_boxes, read_region_shapes, read_regions
from rgbt_fusion.data.sequences import Dataset
from rgbt_fusion.evaluation.results import read_results
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.export.agreement import ExportError
from rgbt_fusion.export.float16 import write_rounded
from rgbt_fusion.export.int8 import write_quantised
from rgbt_fusion.export.loading import load_program
from rgbt_fusion.export.onnx_file import INITIAL_STATE_KEY, OPSET, TRACKING_KEY
from rgbt_fusion.export.onnx_model import OnnxModel
from rgbt_fusion.files.inert_pickle import PickleError, read_pickle
from rgbt_fusion.files.text_tables import DataError, read_flags, read_names, read_numbers
from rgbt_fusion.frames.reading import image_size, load_cv2, read_depth, read_rgb, read_thermal
from rgbt_fusion.training.checkpoints import TrainingError, read_checkpoint
from rgbt_fusion.training.config import read_config
from rgbt_fusion.training.logs import Log
from rgbt_fusion.video.sources import open_source
from rgbt_fusion.weights.checkpoints import (
    CheckpointError,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from study_material import trial

COUNT = int(os.environ.get("RGBT_FUSION_FUZZ", "150"))
# of so many damaged files some can still be read
ENOUGH = 100
LONGEST_CPU_S = 5.0
"""No file takes longer: most take less than a millisecond."""

IN_MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory: on a disk each file costs ten times what its reader takes."""

SMALLEST = SMALL | {"dim": 8}
"""A network whose file is small, so that a change seldom hits one weight among thousands."""


class Reader(NamedTuple):
    """A reader of files, and what it is shown."""

    name: str
    """What its file is called."""
    seeds: Callable[[Path], list[bytes]]
    """Makes sound files; the folder may be used."""
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    """What it documents to raise at a file that is not sound."""
    needs: tuple[str, str] | None = None
    """The module that reads for it, and what people call it."""


def some_tensors() -> dict[str, torch.Tensor]:
    return {
        "weight": torch.arange(6.0).view(2, 3),
        "bias": torch.ones(2, dtype=torch.float64),
        "module.steps": torch.tensor(3),
    }


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def safetensors(_: Path) -> list[bytes]:
    small = tiny("ostrack_tiny_128", **SMALLEST)
    texts = {"rgbt_fusion.configuration": json.dumps(small.configuration)}
    return [save(some_tensors()), save(some_tensors(), metadata=texts)]


def archives(_: Path) -> list[bytes]:
    return [saved(some_tensors()), saved({"net": some_tensors(), "epoch": 3})]


def old_archives(_: Path) -> list[bytes]:
    return [saved(some_tensors(), _use_new_zipfile_serialization=False)]


def fill(path: Path) -> None:
    load_checkpoint(nn.Linear(3, 2), path, minimum_share=0.0)


def own_models(folder: Path) -> list[bytes]:
    save_checkpoint(tiny("ostrack_tiny_128", **SMALLEST), folder / "sound")
    return [(folder / "sound").read_bytes()]


def build(path: Path) -> None:
    load_model(path)


def programs(_: Path) -> list[bytes]:
    stream = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 3).eval(), (torch.ones(1, 2),)), stream)
    return [stream.getvalue()]


GRAPH = "archive/models/model.json"


def graphs(folder: Path) -> list[bytes]:
    """The record of a program that holds its graph; the others stay sound beside it."""
    (program,) = programs(folder)
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        return [archive.read(GRAPH)]


def read_graph(path: Path) -> None:
    """Read a graph as a part of a program, whose checksums are right."""
    whole = path.with_suffix(".pt2")
    with zipfile.ZipFile(path.with_suffix(".others")) as sound, zipfile.ZipFile(whole, "w") as made:
        for name in sound.namelist():
            made.writestr(name, path.read_bytes() if name == GRAPH else sound.read(name))
    load_program(whole)


def networks(_: Path) -> list[bytes]:
    """A graph of one node, with all that a tracking network has beside its own."""
    from onnx import TensorProto, helper

    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("in", "out")
    ]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    node = helper.make_node("Mul", ["in", "weight"], ["out"])
    graph = helper.make_graph([node], "step", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    sizes = {"template_size": 32, "search_size": 64, "batch": 1, "grid": 4, "search_factor": 4.0}
    known = {TRACKING_KEY: json.dumps(sizes), INITIAL_STATE_KEY: json.dumps({"mean": [[0.5]]})}
    helper.set_model_props(model, known)
    return [model.SerializeToString()]


def open_network(path: Path) -> None:
    OnnxModel(path, threads=1)


def sources(_: Path) -> list[bytes]:
    """A graph with what the converters look at: a linear layer, a sum and what they are recorded
    to return.
    """
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])

    weight = helper.make_tensor("weight", TensorProto.FLOAT, [4, 4], [0.5] * 16)
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [4], [1.0] * 4)
    nodes = [
        helper.make_node("MatMul", ["in", "weight"], ["product"], name="linear"),
        helper.make_node("Add", ["product", "bias"], ["out"]),
    ]
    ends = ([value("in")], [value("out")])
    graph = helper.make_graph(nodes, "step", *ends, [weight, bias], value_info=[value("product")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return [model.SerializeToString()]


def halve(path: Path) -> None:
    write_rounded(path, path.with_suffix(".float16"))


def quantise(path: Path) -> None:
    write_quantised(path, path.with_suffix(".int8"))


def videos(folder: Path) -> list[bytes]:
    cv2 = load_cv2()
    made = []
    for name, codec in (
        ("a.avi", "MJPG"),
        ("a.mp4", "mp4v"),
        ("a.webm", "VP80"),
        ("b.avi", "FFV1"),
    ):
        path = folder / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 5.0, (32, 32))
        for shade in (0, 100, 200):
            writer.write(np.full((32, 32, 3), shade, dtype=np.uint8))
        writer.release()
        made.append(path.read_bytes())
    return made


def watch(path: Path) -> None:
    for _ in open_source(path, path, frames=4):
        pass


def pickles(_: Path) -> list[bytes]:
    content = {"a": [1, 2.5, None, True], "b": ({"c": "text"}, b"bytes"), 3: {1, 2}}
    return [pickle.dumps(content, protocol) for protocol in range(6)]


def read_one_pickle(path: Path) -> None:
    with path.open("rb") as file:
        read_pickle(file)


def first_frame_tables(_: Path) -> list[bytes]:
    seeds = []
    for table in ({"car": 4, "dog": 12}, {"car": np.int64(4)}):
        stream = io.BytesIO()
        np.save(stream, np.array(table, dtype=object), allow_pickle=True)
        seeds.append(stream.getvalue())
    return seeds


def arrays(_: Path) -> list[bytes]:
    seeds = []
    for dtype in (np.uint8, np.float64, bool):
        stream = io.BytesIO()
        np.save(stream, np.ones((4, 2), dtype=dtype))
        seeds.append(stream.getvalue())
    return seeds


def texts(*contents: str) -> Callable[[Path], list[bytes]]:
    return lambda _: [content.encode() for content in contents]


def images(_: Path) -> list[bytes]:
    cv2 = load_cv2()
    generator = np.random.default_rng(0)
    colour = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    deep = generator.integers(0, 60000, (6, 8), dtype=np.uint16)
    made = [(".png", colour), (".png", deep), (".jpg", colour), (".bmp", colour), (".ppm", colour)]
    made += [(".pgm", deep), (".tif", deep), (".webp", colour)]
    return [cv2.imencode(ending, image)[1].tobytes() for ending, image in made]


def read_image(path: Path) -> None:
    """Show an image to all of its readers; one may refuse what another one takes."""
    refusals = []
    for read in (image_size, read_rgb, read_thermal, read_depth):
        try:
            read(path)
        except DataError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def results(path: Path) -> None:
    found = read_results(path.parent, ["boxes"])
    for reason in found.unreadable.values():
        raise DataError(reason)


def log_of_a_training(path: Path) -> None:
    Log(path.parent, ("loss", "iou"), 30)


def continue_run(path: Path) -> None:
    class Never:
        pass

    run_tracker(Never, Dataset((), {}), path.parent, settings={"model": "x"})  # pyright: ignore


def checkpoints(_: Path) -> list[bytes]:
    content = {"format": 1, "step": 2, "config": {"seed": 1}, "objective": some_tensors()}
    return [saved(content | {"optimiser": {}, "scaler": {}, "average": None})]


def trials(_: Path) -> list[bytes]:
    lines = [json.dumps(asdict(trial("sum", seed, 0.5))) + "\n" for seed in (1, 2)]
    return ["".join(lines).encode()]


def records(folder: Path) -> list[bytes]:
    from rgbt_fusion.benchmarking.records import new_record

    record: Record = new_record("ops", "cpu", "a command", "a-machine")
    write_record(record, folder / "sound")
    return [(folder / "sound").read_bytes()]


def alignments(_: Path) -> list[bytes]:
    matrix = [[1.0, 0, 3], [0, 1, -2], [0, 0, 1]]
    content = {"tir_from_rgb": matrix, "offset_frames": 1.5, "confidence": 0.9, "reason": "x"}
    return [json.dumps(content).encode(), json.dumps({"tir_from_rgb": matrix}).encode()]


CONFIG = """
model = "ostrack_tiny_128"
steps = 10
batch_size = 4
[overrides]
depth = 2
[optimiser]
learning_rate = 1e-3
warmup_steps = 2
[data]
challenges = ["none"]
[augmentation]
missing = 0.1
"""


def shapes(_: Path) -> list[bytes]:
    """Regions as text, and as the VOT toolkit packs them: none, a box, a polygon and a mask."""
    text = b"1,2,3,4\n0,0,4,2,3,6\nm7,8,3,2,0,6\n0\n"
    packed = [
        struct.pack("<hI", 1, 4),
        struct.pack("<BI", 0, 0),
        struct.pack("<B4f", 1, 1, 2, 3, 4),
        struct.pack("<BH6f", 2, 3, 0, 0, 4, 2, 3, 6),
        struct.pack("<BhhHHHHH", 3, 7, 8, 3, 2, 2, 1, 5),
    ]
    return [text, b"".join(packed)]


def sequence(path: Path) -> None:
    """Read the boxes of a sequence of a dataset, whichever file they are in."""
    find_sequences(path.parent, "rgbt234")
    read_ground_truth(path.parent, "rgbt234")


LOG = "step,loss,iou\n10,1,0.5\n20,1e-3,nan\n"
NUMBERS = ("1,2,3,4\n5,6,7.25,8\n", "1\t2\t3\t4\n", "1 2 3 4 5 6 7 8\n" * 3, "0\n1\n1\n")

READERS = {
    "safetensors": Reader("file.safetensors", safetensors, fill, (CheckpointError,)),
    "torch archive": Reader("file.pt", archives, fill, (CheckpointError,)),
    "old torch archive": Reader("file.pth", old_archives, fill, (CheckpointError,)),
    "model of ours": Reader("model.safetensors", own_models, build, (CheckpointError,)),
    "program": Reader("step.pt2", programs, load_program, (ExportError,)),
    "graph": Reader("step.json", graphs, read_graph, (ExportError,)),
    "network": Reader(
        "step.onnx", networks, open_network, (ValueError, FileNotFoundError),
        needs=("onnxruntime", "ONNX Runtime"),
    ),
    "source of float16": Reader(
        "step.onnx", sources, halve, (ExportError,), needs=("onnxruntime", "ONNX Runtime")
    ),
    "source of int8": Reader(
        "step.onnx", sources, quantise, (ExportError,),
        needs=("onnxruntime", "ONNX Runtime"),
    ),
    "video": Reader("film.mp4", videos, watch, (DataError,), needs=("cv2", "OpenCV")),
    "pickle": Reader("file.pkl", pickles, read_one_pickle, (PickleError,)),
    "checkpoint": Reader("checkpoint.pt", checkpoints, read_checkpoint, (TrainingError,)),
    "log": Reader("log.csv", texts(LOG), log_of_a_training, ()),
    "config": Reader("config.toml", texts(CONFIG), read_config, (ValueError,)),
    "first frames": Reader(
        "init_frame.npy", first_frame_tables, lambda path: first_frames(path.parent), (DataError,)
    ),
    "missing array": Reader("missing.npy", arrays, read_missing_list, (DataError,)),
    "missing list": Reader("missing.txt", texts("1 1\n0 1\n"), read_missing_list, (DataError,)),
    "numbers": Reader("numbers.txt", texts(*NUMBERS), read_numbers, (DataError,)),
    "flags": Reader("flags.txt", texts("0,1,1\n", "0\n1\n"), read_flags, (DataError,)),
    "names": Reader("names.txt", texts("car\ndog\n"), read_names, (DataError,)),
    "boxes": Reader("boxes.txt", texts(*NUMBERS), read_boxes, (DataError,)),
    "regions": Reader(
        "groundtruth.txt", texts("1,2,3,4\n0,0,4,2,3,6\nm7,8,3,2,0,6\n0\n"), read_regions,
        (DataError,),
    ),
    "region shapes": Reader("groundtruth.bin", shapes, read_region_shapes, (DataError,)),
    "missing lists": Reader(
        "missing.json", texts('{"car": {"frames": 2, "data": [[1.0, 1.0], [0.0, 1.0]]}}'),
        lambda path: read_missing_lists(path, ["car"]), (DataError,),
    ),
    "json boxes": Reader(
        "IR_label.json", texts('{"gt_rect": [[1,2,3,4],[]], "exist": [1, 0]}'), read_json_boxes,
        (DataError,),
    ),
    "sequence": Reader("car.txt", texts(*NUMBERS), sequence, (DataError,)),
    "image": Reader("image.png", images, read_image, (DataError,), needs=("cv2", "OpenCV")),
    "alignment": Reader("alignment.json", alignments, read_alignment, (DataError,)),
    "results": Reader("boxes.txt", texts(*NUMBERS), results, (DataError,)),
    "confidences": Reader("boxes_confidence.txt", texts("1\n0.5\n", "1\n"), results, (DataError,)),
    "settings of a run": Reader("run.json", texts('{"model": "x"}'), continue_run, (DataError,)),
    "study": Reader("results.jsonl", trials, lambda path: read_trials([path]), (DataError,)),
    "benchmark": Reader("record.json", records, read_record, (ValueError,)),
}  # fmt: skip


class TakesTooLongError(BaseException):
    """A reader is still at a file that it should have read or refused."""


@pytest.fixture
def bounded_cpu() -> Iterator[None]:
    """Have the next file, and each one after :func:`start_clock`, end soon."""

    def stop(*_: object) -> None:
        raise TakesTooLongError

    before = signal.signal(signal.SIGPROF, stop)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for the files, in memory where that is possible."""
    parent = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else tmp_path
    with TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def outcome(reader: Reader, path: Path) -> str:
    """Return "read", "refused", or what went wrong."""
    signal.setitimer(signal.ITIMER_PROF, LONGEST_CPU_S)
    try:
        reader.read(path)
    except reader.errors as error:
        return "refused" if str(error) else "refused without a reason"
    except TakesTooLongError:
        return f"more than {LONGEST_CPU_S} s"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "read"


@pytest.mark.timeout(36000)
@pytest.mark.usefixtures("bounded_cpu", "one_thread")
@pytest.mark.parametrize("kind", READERS)
def test_a_reader_takes_or_refuses_what_it_is_shown(kind: str, tmp_path: Path, shown: Path) -> None:
    reader = READERS[kind]
    if reader.needs is not None:
        module, called = reader.needs
        pytest.importorskip(module, reason=f"{called} is not installed")
    seeds: Sequence[bytes] = reader.seeds(tmp_path)
    if kind == "confidences":
        (shown / "boxes.txt").write_text("1,2,3,4\n5,6,7,8\n")
    if kind == "graph":
        (shown / "step.others").write_bytes(programs(tmp_path)[0])
    path = shown / reader.name
    sound = []
    for data in seeds:
        path.write_bytes(data)
        sound.append(outcome(reader, path))
    assert "read" in sound and set(sound) <= {"read", "refused"}, sound
    counts = {"read": 0, "refused": 0}
    for number, data in enumerate(mutants(seeds, COUNT, seed=len(kind))):
        path.write_bytes(data)
        found = outcome(reader, path)
        if found not in counts:
            (tmp_path / "found").write_bytes(data)
        assert found in counts, f"file {number}, kept as {tmp_path / 'found'}: {found}"
        counts[found] += 1
    # a mutator whose files are all alike tests nothing
    print(f"{kind}: {COUNT} files of seed {len(kind)}, {counts}")
    assert counts["refused"] or not reader.errors, counts
    assert counts["read"] or COUNT < ENOUGH, counts

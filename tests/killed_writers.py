"""Everything that writes files, killed at random moments and started twice at once.

python killed_writers.py FOLDER KILLS SEED JOB... prints what was found, as JSON by job. One process
imports all there is and every run is a fork of it, so that a kill costs no start of Python and
falls into the work of the job, not into its imports.

The jobs stand for all that the command line writes, one for each way of writing:

- ``train``: a checkpoint, a log that grows, weights; so does ``distill``
- ``validate``: a training that keeps its best weights, and a folder of boxes for each validation;
  ``compare`` scores in such a folder, too
- ``eval``: two files for each sequence, continued where a run ended
- ``study``: a line for each training, in the benchmarks
- ``convert``: one file of bytes; so do ``align``, ``compare``, ``bench --json`` and the pages of
  ``eval`` and ``demo``
- ``track``: a film and two texts
- ``film``: a film alone, as ``demo`` writes it
- ``plot``: a picture by Matplotlib; so do the plots of ``eval``, ``bench`` and ``demo``
- ``export``: a program of torch
- ``int8``: a file of ONNX by its quantiser, which needs a folder for its own files
- ``download``: weights from an address and their sum, side by side in a cache

``info``, ``models``, ``recipes``, ``trax``, ``verify`` and ``data check`` write no files.
"""

import importlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.study.records import StudySettings, Trial, read_trials
from benchmarks.study.trials import run_study
from benchmarks.study.variants import BACKBONE
from evaluation_material import Drift, write_dataset
from one_training import SMALL, small_training
from rgbt_fusion import export_onnx, export_program
from rgbt_fusion.cli import main as main_of_commands
from rgbt_fusion.data.sequences import open_dataset
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.export.int8 import export_int8
from rgbt_fusion.export.loading import load_program
from rgbt_fusion.export.onnx_runtime import onnx_runtime
from rgbt_fusion.files.folder_lock import FolderInUseError
from rgbt_fusion.training import train
from rgbt_fusion.training.checkpoints import read_checkpoint
from rgbt_fusion.video.film import writing_video
from rgbt_fusion.weights.checkpoints import convert_checkpoint, save_checkpoint
from rgbt_fusion.weights.download import CACHE_VARIABLE, fetch_weights
from rgbt_fusion.weights.pretrained import create_model
from rgbt_fusion.weights.stored_tensors import open_weight_file

IN_USE = 3
"""Status of a process that was refused because another one works in the folder."""

LONGEST_S = 300.0


class Job(NamedTuple):
    """Something that writes into a folder."""

    run: Callable[[Path], None]
    result: Callable[[Path], Any]
    """Reads all that is there of the results, and fails at a file that is not whole."""
    resumes: bool
    """Whether what a killed run left is continued, and the folder is for one process alone."""
    keeps: bool = False
    """Whether a run that finds its result there leaves it: a kill needs a folder without it."""


class SlowDrift(Drift):
    """A tracker that leaves time for a kill."""

    def update(self, rgb: Any, tir: Any) -> Any:
        time.sleep(0.01)
        return super().update(rgb, tir)


def make_job(name: str, material: Path) -> Job:
    """Make what a job reads, in a folder that is not written to later, and return the job."""
    material.mkdir(parents=True)
    return MAKERS[name](material)


# ---- a training, alone and with validation


def _train_job(material: Path) -> Job:
    return Job(_train, _trained, True)


def _train(folder: Path) -> None:
    train(small_training(steps=16, checkpoint_every=2), out=folder, device="cpu")


def _trained(folder: Path) -> dict[str, Any]:
    content = read_checkpoint(folder / "checkpoint.pt")
    found: dict[str, Any] = {}
    if content is not None:
        found["step"] = content["step"]
        found["weights"] = _numbers(content["objective"])
    model = folder / "model.safetensors"
    if model.exists():
        tensors = open_weight_file(model).tensors
        found["model"] = _numbers({name: one.read() for name, one in tensors.items()})
    log = folder / "log.csv"
    if log.exists():
        # all but the throughput
        found["log"] = [line.rsplit(",", 1)[0] for line in log.read_text().splitlines()]
    return found


def _validate_job(material: Path) -> Job:
    return Job(_validate, _validated, True)


def _validate(folder: Path) -> None:
    validation = {"every": 2, "sequences": 1, "frames": 3}
    config = small_training(steps=8, checkpoint_every=4, validation=validation)
    train(config, out=folder, device="cpu")


def _validated(folder: Path) -> dict[str, Any]:
    found = _trained(folder)
    best = folder / "best.safetensors"
    if best.exists():
        tensors = open_weight_file(best).tensors
        found["best"] = _numbers({name: one.read() for name, one in tensors.items()})
    successes = folder / "validation.csv"
    if successes.exists():
        found["successes"] = successes.read_text().splitlines()
    return found


def _numbers(state: dict[str, Any]) -> dict[str, list[float]]:
    return {name: value.double().flatten().tolist() for name, value in state.items()}


# ---- an evaluation


def _eval_job(material: Path) -> Job:
    dataset = write_dataset(material, {"a": 8, "b": 10, "c": 6})
    return Job(partial(_evaluate, dataset), _evaluated, True)


def _evaluate(root: Path, folder: Path) -> None:
    dataset = open_dataset(root, "rgbt234")
    report = run_tracker(SlowDrift, dataset, folder, settings={"model": "drift"})
    if report.failed:
        raise ValueError(f"sequences failed: {report.failed}")


def _evaluated(folder: Path) -> dict[str, str]:
    found = {path.name: path.read_text() for path in folder.glob("*.txt")}
    lengths = {"a": 8, "b": 10, "c": 6}
    for name, text in found.items():
        if text.count("\n") != lengths[name[0]] or not text.endswith("\n"):
            raise ValueError(f"{name} is not whole: {text!r}")
    settings = folder / "run.json"
    if settings.exists():
        json.loads(settings.read_text())
    return found


# ---- the study


def _study_job(material: Path) -> Job:
    backbone = material / "backbone.safetensors"
    save_checkpoint(create_model(BACKBONE.model, **BACKBONE.overrides), backbone)
    return Job(partial(_study, backbone), _studied, True)


def _study(backbone: Path, folder: Path) -> None:
    settings = StudySettings(steps=2, batch_size=2, backbone_steps=2, sequences=1, frames=2)
    run_study(folder, ["tir"], [1, 2], settings, backbone=backbone, device="cpu", workers=0)


def _studied(folder: Path) -> list[Any]:
    path = folder / "results.jsonl"
    trials: list[Trial] = read_trials([path]) if path.exists() else []
    if path.exists() and path.read_text().count("\n") != len(trials):
        raise ValueError(f"{path} has a line that is none")
    return [[one.variant, one.seed, one.success, one.sequences] for one in trials]


# ---- files of weights


def _convert_job(material: Path) -> Job:
    source = material / "source.safetensors"
    save_checkpoint(create_model("two_stream_tiny_128"), source)
    return Job(partial(_convert, source), _converted, False)


def _convert(source: Path, folder: Path) -> None:
    convert_checkpoint(source, folder / "model.safetensors", name="two_stream_tiny_128")


def _converted(folder: Path) -> dict[str, Any]:
    path = folder / "model.safetensors"
    if not path.exists():
        return {}
    return _numbers({name: one.read() for name, one in open_weight_file(path).tensors.items()})


CONTENT = random.Random(0).randbytes(300_000)
SHOWN_IN = 30


class _Weights(BaseHTTPRequestHandler):
    """Answers every request with the same file, slowly."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        size = len(CONTENT) // SHOWN_IN
        try:
            for start in range(0, len(CONTENT), size):
                self.wfile.write(CONTENT[start : start + size])
                time.sleep(0.005)
        except (BrokenPipeError, ConnectionResetError):
            # whoever asked was killed
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _download_job(material: Path) -> Job:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Weights)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/weights.safetensors"
    return Job(partial(_download, address), _downloaded, resumes=False, keeps=True)


def _download(address: str, folder: Path) -> None:
    os.environ[CACHE_VARIABLE] = str(folder)
    fetch_weights(address)


def _downloaded(folder: Path) -> dict[str, str]:
    total = sha256(CONTENT).hexdigest()
    found: dict[str, str] = {}
    for path in folder.glob("*-weights.safetensors"):
        found["weights"] = sha256(path.read_bytes()).hexdigest()
    for path in folder.glob("*.sha256"):
        found["record"] = path.read_text().strip()
    if set(found.values()) - {total}:
        raise ValueError(f"the weights or their sum are not whole: {found}")
    return found


# ---- exports


def _export_job(material: Path) -> Job:
    # the first export imports what every later one finds in this process
    _export(material)
    return Job(_export, _exported, False)


def _export(folder: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)).eval()
    export_program(module, (torch.ones(2, 8),), folder / "module.pt2")


def _exported(folder: Path) -> list[Any]:
    path = folder / "module.pt2"
    if not path.exists():
        return []
    return [value.tolist() for value in load_program(path).module()(torch.ones(2, 8)).values()]


def _int8_job(material: Path) -> Job:
    # what the quantiser imports at each call, every run finds in this process
    onnx_runtime()
    importlib.import_module("onnxruntime.quantization")
    importlib.import_module("onnxscript")
    run_whole(Job(_export_onnx, _exported_onnx, False), material, material / "log")
    return Job(partial(_quantise, material / "step.onnx"), _quantised, False)


def _small_tracker() -> nn.Module:
    torch.manual_seed(0)
    return create_model("ostrack_tiny_128", **SMALL).eval()


def _export_onnx(folder: Path) -> None:
    export_onnx(_small_tracker(), folder / "step.onnx")


def _exported_onnx(folder: Path) -> bool:
    return (folder / "step.onnx").exists()


def _quantise(source: Path, folder: Path) -> None:
    export_int8(_small_tracker(), source, folder / "int8.onnx")


def _quantised(folder: Path) -> str:
    path = folder / "int8.onnx"
    if not path.exists():
        return ""
    content = path.read_bytes()
    onnx.checker.check_model(onnx.load_from_string(content))
    return sha256(content).hexdigest()


# ---- films, boxes and pictures


def _film_job(material: Path) -> Job:
    return Job(_film, _filmed, False)


def _film(folder: Path) -> None:
    generator = np.random.default_rng(0)
    with writing_video(folder / "film.avi") as video:
        for _ in range(30):
            video.write(generator.integers(0, 255, (96, 128, 3), dtype=np.uint8))
            time.sleep(0.005)


def _filmed(folder: Path) -> list[int]:
    path = folder / "film.avi"
    if not path.exists():
        return []
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    if count != 30:
        raise ValueError(f"{path} has {count} pictures")
    return [count]


def _track_job(material: Path) -> Job:
    dataset = write_dataset(material, {"a": 30})
    return Job(partial(_track, dataset / "a"), _tracked, False)


def _track(sequence: Path, folder: Path) -> None:
    files = ["--out", str(folder / "film.avi"), "--txt", str(folder / "boxes.txt"), "--force"]
    try:
        main_of_commands(["track", str(sequence), "--model", "ncc", *files])
    except SystemExit as left:
        if left.code:
            raise ValueError(f"the command ended with {left.code}") from left


def _tracked(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"pictures": _filmed(folder)}
    for path in folder.glob("*.txt"):
        lines = path.read_text().splitlines()
        if len(lines) != 30:
            raise ValueError(f"{path} has {len(lines)} lines")
        found[path.name] = lines
    return found


def _plot_job(material: Path) -> Job:
    rows = [f"{step},{9 - 0.1 * step},{0.02 * step}\n" for step in range(1, 40)]
    (material / "log.csv").write_text("step,loss,iou\n" + "".join(rows))
    # the first picture imports what every later one finds in this process
    _plot(material, material)
    return Job(partial(_plot, material), _plotted, False)


def _plot(training: Path, folder: Path) -> None:
    picture = folder / "training.png"
    try:
        main_of_commands(["plot", str(training), "--out", str(picture), "--force"])
    except SystemExit as left:
        if left.code:
            raise ValueError(f"the command ended with {left.code}") from left


def _plotted(folder: Path) -> str:
    path = folder / "training.png"
    if not path.exists():
        return ""
    content = path.read_bytes()
    if not content.endswith(b"IEND\xaeB`\x82"):
        raise ValueError(f"{path} has no end")
    return sha256(content).hexdigest()


MAKERS: dict[str, Callable[[Path], Job]] = {
    "train": _train_job,
    "validate": _validate_job,
    "eval": _eval_job,
    "study": _study_job,
    "convert": _convert_job,
    "download": _download_job,
    "export": _export_job,
    "int8": _int8_job,
    "film": _film_job,
    "track": _track_job,
    "plot": _plot_job,
}


# ---- processes


def start(job: Job, folder: Path, log: Path) -> int:
    """Start a process of a job; return its number. Its error is the last line of ``log``."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        with log.open("w") as errors:
            os.dup2(errors.fileno(), 1)
            os.dup2(errors.fileno(), 2)
        try:
            job.run(folder)
            status = 0
        except FolderInUseError as error:
            sys.stderr.write(f"{error}\n")
            status = IN_USE
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def wait(process: int) -> int:
    """Return the status of a process, negative for the signal that killed it."""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise TimeoutError(f"a process is not done after {LONGEST_S} s")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check(condition: bool, told: str) -> None:
    if not condition:
        raise ValueError(told)


def run_whole(job: Job, folder: Path, log: Path) -> None:
    status = wait(start(job, folder, log))
    check(status == 0, f"ended with {status}: {log.read_text()}")


def kill_and_repeat(job: Job, base: Path, kills: int, dice: random.Random) -> dict[str, Any]:
    """Kill a job at random moments, and see that nothing is lost, half-written or left behind."""
    whole = base / "whole"
    whole.mkdir(parents=True)
    log = base / "log"
    run_whole(job, whole, log)
    expected = job.result(whole)
    expected_names = names(whole)
    # only now: reading a result imports what the runs to come need not import again
    timed = base / "timed"
    timed.mkdir()
    begin = time.monotonic()
    run_whole(job, timed, log)
    seconds = time.monotonic() - begin
    found = {"killed": 0, "left": 0, "seconds": round(seconds, 2)}
    folder = base / "killed"
    folder.mkdir()
    repeats = 0
    while found["killed"] < kills:
        process = start(job, folder, log)
        time.sleep(dice.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)
        found["killed"] += wait(process) == -signal.SIGKILL
        # whatever is there under its own name is whole
        job.result(folder)
        found["left"] += any(".part" in name for name in names(folder))
        finished = names(folder) == expected_names
        if finished or (not job.resumes and dice.random() < 0.5):
            run_whole(job, folder, log)
            _check_same(job, folder, expected, expected_names)
            if job.resumes or job.keeps:
                repeats += 1
                folder = base / f"killed_{repeats}"
                folder.mkdir()
    run_whole(job, folder, log)
    _check_same(job, folder, expected, expected_names)
    return found


def run_twice(job: Job, base: Path) -> dict[str, Any]:
    """Run a job in two processes at once."""
    folder = base / "twice"
    folder.mkdir(parents=True)
    logs = [base / "log_0", base / "log_1"]
    processes = [start(job, folder, log) for log in logs]
    statuses = [wait(process) for process in processes]
    told = " / ".join(log.read_text() for log in logs)
    refused = [number for number, status in enumerate(statuses) if status == IN_USE]
    check(set(statuses) <= {0, IN_USE}, f"ended with {statuses}: {told}")
    check(0 in statuses, f"both were refused: {told}")
    for number in refused:
        other = f"in use by process {processes[1 - number]} on "
        check(other in logs[number].read_text(), f"the other one is not named: {told}")
    check(job.resumes or not refused, f"refused without a reason: {told}")
    result = job.result(folder)
    return {"refused": len(refused), "names": names(folder), "result": result}


def _check_same(job: Job, folder: Path, expected: Any, expected_names: list[str]) -> None:
    check(names(folder) == expected_names, f"left behind or lost: {names(folder)}")
    # torch keeps a cache of its compiler there, killed or not
    places = Path(tempfile.gettempdir()).iterdir()
    temporary = [place.name for place in places if not place.name.startswith("torchinductor")]
    check(not temporary, f"left behind among the temporary files: {temporary}")
    found = job.result(folder)
    check(found == expected, f"the result is another one: {_differences(found, expected)}")


def _differences(found: Any, expected: Any) -> str:
    """Return where two results differ, in few words."""
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return f"{found} in place of {expected}"[:500]
    names = sorted(
        str(name)
        for name in found.keys() | expected.keys()
        if found.get(name) != expected.get(name)
    )
    told = [f"{name}: {_differences(found.get(name), expected.get(name))}" for name in names]
    return "; ".join(told)[:2000]


def main() -> None:
    base = Path(sys.argv[1])
    temporary = base / "temporary"
    temporary.mkdir()
    # of this process and, by the variable, of those that it starts
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    kills = int(sys.argv[2])
    dice = random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found: dict[str, Any] = {}
    for name in sys.argv[4:]:
        job = make_job(name, base / "material" / name)
        try:
            found[name] = kill_and_repeat(job, base / name, kills, dice)
            twice = run_twice(job, base / name)
            check(twice["names"] == names(base / name / "whole"), f"left: {twice['names']}")
            check(twice["result"] == job.result(base / name / "whole"), "two gave another result")
            found[name]["refused"] = twice["refused"]
        except Exception:
            found[name] = {"error": traceback.format_exc()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

"""The training loop: samples in, a model and a log out, and a checkpoint to go on from at any
moment."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rgbt_fusion.files.whole import write_text
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.training.checkpoints import TrainingError
from rgbt_fusion.training.config import TrainConfig, config_to_table
from rgbt_fusion.training.distributed import Processes, join_processes
from rgbt_fusion.training.logs import Log, Progress, Stopwatch
from rgbt_fusion.training.objective import LocalizationObjective
from rgbt_fusion.training.optimisation import freeze
from rgbt_fusion.training.run import Run, mixed_seed
from rgbt_fusion.training.samples import Batch, Sampler, batches, open_clips
from rgbt_fusion.weights.checkpoints import load_checkpoint
from rgbt_fusion.weights.pretrained import create_model

__all__ = ["TrainResult", "build_model", "pick_device", "run_training", "train", "undisturbed"]

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class TrainResult:
    """What a training left: files of the weights and of the log, the steps it has made, and its
    last line."""

    model: Path
    log: Path
    steps: int
    values: dict[str, float]


def train(
    config: TrainConfig,
    *,
    out: str | Path,
    data: str | Path = "synthetic",
    names: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    tensorboard: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train a tracker, or go on with a training that was interrupted.

    Every sample is a function of seed, step and place in the batch, and every random number of a
    step one of seed and step; so a training that was killed at any moment and is started again with
    the same arguments ends, on one CPU thread, with the very weights of one that was not. Started
    by ``torchrun``, the processes share each batch, and BatchNorm and the losses see all of it.

    The folder ``out`` gets ``checkpoint.pt``, ``model.safetensors`` (the average of the weights
    where one is taken), ``log.csv`` and ``config.json``. Nothing is written before all settings
    have been checked.

    Args:
        config: what is trained and how.
        out: the training's folder; where it holds a checkpoint of the same config, the training
            goes on from it.
        data: the folder of a dataset, or ``"synthetic"``.
        names: only these sequences of the dataset: a file that lists them.
        start_from: a file of weights to start from; see
            :func:`~rgbt_fusion.weights.checkpoints.load_checkpoint`.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; a graphics card where there is one by default.
        tensorboard: write events for TensorBoard, too.
        on_progress: called after every line of the log.

    Raises:
        ValueError: settings that contradict the model, the data or the checkpoint in ``out``.
        TrainingError: the loss is not finite, or a file cannot be written; the last checkpoint is
            whole.
        CheckpointError: ``start_from`` does not fit the model.
        DataError: an image cannot be read.
        OSError: a file or folder is not there.

    Example:
        >>> import tempfile
        >>> from rgbt_fusion.training import DataConfig, TrainConfig, train
        >>> data = DataConfig(workers=0)
        >>> config = TrainConfig(model="ostrack_tiny_128", steps=2, batch_size=2, log_every=1, data=data)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train(config, out=folder, device="cpu")
        ...     result.model.name, len(result.log.read_text().splitlines())
        ('model.safetensors', 3)

    Source:
        Ye et al., "OSTrack", ECCV 2022, section 4.1 and its code.
    """
    where = pick_device(device)
    with join_processes(where) as processes, undisturbed(where):
        clips = open_clips(config, data, names=names)
        model = build_model(config, start_from)
        objective = LocalizationObjective(model, config.loss, processes)
        sampler = Sampler.of(config, clips, model)
        return run_training(
            config,
            objective,
            sampler,
            out=Path(out),
            device=where,
            processes=processes,
            tensorboard=tensorboard,
            on_progress=on_progress,
        )


def build_model(config: TrainConfig, start_from: str | Path | None = None) -> TrackingNetwork:
    """Return the model of a config with the weights it starts from.

    Raises:
        ValueError: the model has no such options or parameters.
        CheckpointError: ``start_from`` does not fit.
    """
    torch.manual_seed(mixed_seed(config.seed, 0))
    try:
        model = create_model(config.model, **config.overrides)
    except TypeError as error:
        raise ValueError(f"overrides must fit the model: {error}") from None
    freeze(model, config.frozen)
    if start_from is not None:
        load_checkpoint(model, start_from, minimum_share=config.start_share)
    return model.to(torch.float64) if config.precision == "float64" else model


def pick_device(device: str | None) -> torch.device:
    """Return a device by name, or the one to take where none is named.

    Raises:
        ValueError: there is no such device here.
    """
    available = torch.cuda.is_available()
    if device is None:
        device = "cuda" if available else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {device!r}") from None
    if found.type not in ("cpu", "cuda") or (found.type == "cuda" and not available):
        raise ValueError(f"device must be one of this machine's, got {device!r}")
    if found.type == "cuda":
        index = found.index if found.index is not None else int(os.environ.get("LOCAL_RANK", "0"))
        found = torch.device("cuda", index)
        torch.cuda.set_device(found)
    return found


def run_training(
    config: TrainConfig,
    objective: Any,
    sampler: Sampler,
    *,
    out: Path,
    device: torch.device,
    processes: Processes,
    tensorboard: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Minimise an objective, a module with ``model`` and ``names``, to the end; go on from a
    checkpoint in ``out``."""
    share = processes.share(config.batch_size)
    if config.precision == "float16" and device.type == "cpu":
        raise ValueError(
            "precision must be 'float32', 'float64' or 'bfloat16' on the cpu, got 'float16'"
        )
    run = Run(config, objective, device, processes, out)
    done = run.resume()
    if processes.rank == 0:
        _prepare_folder(out, config)
    processes.wait()
    log = Log(out, run.columns, done, tensorboard=tensorboard) if processes.rank == 0 else None
    watch = Stopwatch(done)
    values: dict[str, float] = {}
    pin = device.type == "cuda"
    for step, batch in enumerate(_stream(sampler, done, config.steps, share, pin), done):
        run.step(step, batch)
        finished = step + 1
        saves = finished % config.checkpoint_every == 0 or finished == config.steps
        if saves or finished % config.log_every == 0:
            values = run.read_values(step)
            speed, left = watch.look(finished, config.steps, config.batch_size)
            values["samples_per_second"] = speed
            if log is not None:
                log.add(finished, values)
                if on_progress is not None:
                    on_progress(Progress(finished, config.steps, values, speed, left))
        if saves and processes.rank == 0:
            run.save(finished)
    if log is not None:
        log.close()
    processes.wait()
    return TrainResult(out / "model.safetensors", out / "log.csv", config.steps, values)


def _stream(
    sampler: Sampler, first: int, last: int, share: tuple[int, int], pin: bool
) -> Iterator[Batch]:
    if first >= last:
        return iter(())
    return batches(sampler, first, last, start=share[0], stop=share[1], pin=pin)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers as they were, and out of the log what is none of its
    readers' business."""
    with (
        torch.random.fork_rng([device.index] if device.type == "cuda" else []),
        warnings.catch_warnings(),
    ):
        # a 1x1 convolution's gradient in channels-last memory; it is copied, and no larger than a
        # few hundred numbers
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield


def _prepare_folder(out: Path, config: TrainConfig) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "config.json", json.dumps(config_to_table(config), indent=1) + "\n")
    except OSError as error:
        raise TrainingError(
            f"out must be a folder that can be written, got {out}: {error.strerror}"
        ) from error

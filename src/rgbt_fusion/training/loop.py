"""The training loop: samples in, a model and a log out, and a checkpoint to resume from."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from rgbt_fusion.files.whole import write_text
from rgbt_fusion.models.interface import check_model
from rgbt_fusion.models.named import build_named, names_code
from rgbt_fusion.training.checkpoints import TrainingError
from rgbt_fusion.training.config import GIVEN, TrainConfig, config_to_table
from rgbt_fusion.training.distributed import Processes, join_processes
from rgbt_fusion.training.logs import Log, Progress, Stopwatch
from rgbt_fusion.training.objective import (
    LocalizationObjective,
    OwnLoss,
    OwnLossObjective,
    TrainingObjective,
)
from rgbt_fusion.training.optimisation import freeze
from rgbt_fusion.training.run import Run, mixed_seed
from rgbt_fusion.training.samples import Batch, Sampler, batches, open_clips
from rgbt_fusion.weights.checkpoints import load_checkpoint
from rgbt_fusion.weights.pretrained import create_model

__all__ = [
    "OnProgress",
    "TrainResult",
    "pick_device",
    "run_training",
    "starting_model",
    "train",
    "undisturbed",
]

OnProgress: TypeAlias = Callable[[Progress], None]
"""Called after every line of the log."""


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind."""

    model: Path
    """The file of the weights."""
    log: Path
    """The table of the log."""
    steps: int
    """How many steps were made."""
    values: dict[str, float]
    """The last line of the log."""


def train(
    config: TrainConfig,
    *,
    out: str | Path,
    model: nn.Module | None = None,
    loss: OwnLoss | None = None,
    data: str | Path = "synthetic",
    names: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    tensorboard: bool = False,
    on_progress: OnProgress | None = None,
    align: str | Path | None = None,
) -> TrainResult:
    """Train a tracker, or resume an interrupted training.

    Samples and random numbers depend on the seed, the step and the place in the batch only. So a
    training that was killed and is run again ends, on one CPU thread, with exactly the weights of
    an uninterrupted one. Under ``torchrun`` the processes share each batch, and BatchNorm and the
    losses see the whole batch.

    The folder ``out`` gets ``checkpoint.pt``, ``model.safetensors`` (the average of the weights
    where there is one), ``log.csv`` and ``config.json``. Nothing is written before all settings
    have been checked.

    Args:
        config: what is trained and how.
        out: the folder of the training. If it holds a checkpoint of the same config, the training
            resumes from it.
        model: a network of your own, for a config with ``model="given"``; see
            :class:`~rgbt_fusion.models.interface.TrackerModel`. It is trained in place.
        loss: a loss of your own, called with the ``ModelOutput`` and the true boxes ``(B, 4)``
            (cxcywh, fractions of the crop). None takes
            :class:`~rgbt_fusion.losses.localization.LocalizationLoss` with the config's weights.
        data: the folder of a dataset, or ``"synthetic"``.
        names: a file that lists the sequences of the dataset to use. None uses all.
        start_from: a file of initial weights; see
            :func:`~rgbt_fusion.weights.checkpoints.load_checkpoint`.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. None takes a graphics card if there is one.
        tensorboard: also write events for TensorBoard.
        on_progress: called after every line of the log.
        align: ``"auto"`` lays the thermal on the colour frames of each sequence of the dataset, as
            :func:`~rgbt_fusion.alignment.estimate.estimate_alignment` finds them; or a file that
            ``rgbt-fusion align`` wrote, for all of them. None takes them as they are.

    Raises:
        ValueError: ``config`` contradicts the model, the data or the checkpoint in ``out``, or
            ``device`` does not exist.
        TypeError: ``model`` lacks what a tracking network must offer, or ``loss`` does not return
            one number.
        TrainingError: the loss is not finite, or a file in ``out`` cannot be written. The last
            checkpoint is complete.
        CheckpointError: ``start_from`` does not fit the model.
        DataError: an image of ``data`` cannot be read.
        OSError: a file or folder does not exist.

    Example:
        >>> import tempfile
        >>> from rgbt_fusion.training import DataConfig, TrainConfig, train
        >>> config = TrainConfig(
        ...     model="ostrack_tiny_128",
        ...     steps=2,
        ...     batch_size=2,
        ...     log_every=1,
        ...     data=DataConfig(workers=0),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train(config, out=folder, device="cpu")
        ...     result.model.name, len(result.log.read_text().splitlines())
        ('model.safetensors', 3)

    Source:
        Ye et al., "OSTrack", ECCV 2022, section 4.1 and its code.
    """
    where = pick_device(device)
    with join_processes(where) as processes, undisturbed(where):
        clips = open_clips(config, data, names=names, align=align)
        network = starting_model(config, start_from, model=model)
        if loss is None:
            objective = LocalizationObjective(network, config.loss, processes)
        else:
            objective = OwnLossObjective(network, loss, processes)
        return run_training(
            config,
            objective,
            Sampler.of(config, clips, network),
            out=Path(out),
            device=where,
            processes=processes,
            tensorboard=tensorboard,
            on_progress=on_progress,
        )


def starting_model(
    config: TrainConfig, start_from: str | Path | None = None, *, model: nn.Module | None = None
) -> Any:
    """Return the model of a config with its initial weights.

    Args:
        config: names the model.
        start_from: a file of weights to start from.
        model: the network itself, for a config with ``model="given"``.

    Raises:
        ValueError: ``config`` names options or parameters that the model does not have, or
            ``model`` is there without ``config.model = "given"``, or the other way round.
        TypeError: ``model`` lacks what a tracking network must offer.
        CheckpointError: ``start_from`` does not fit the model.
        OSError: ``start_from`` does not exist.
    """
    if (model is None) == (config.model == GIVEN):
        got = "no model" if model is None else type(model).__name__
        raise ValueError(
            f"model must be given where config.model is {GIVEN!r}, and only there: "
            f"got {got} with config.model = {config.model!r}"
        )
    torch.manual_seed(mixed_seed(config.seed, 0))
    if model is None:
        model = _built(config)
    else:
        check_model(model)
    freeze(model, config.frozen)
    if start_from is not None:
        load_checkpoint(model, start_from, minimum_share=config.start_share)
    if config.precision == "float64":
        model.to(torch.float64)
    return model


def _built(config: TrainConfig) -> nn.Module:
    """Build the model that a config names."""
    build = build_named if names_code(config.model) else create_model
    try:
        return build(config.model, **config.overrides)
    except TypeError as error:
        raise ValueError(f"overrides must fit the model: {error}") from None


def pick_device(device: str | None) -> torch.device:
    """Return a device by name; None takes a graphics card if there is one.

    Raises:
        ValueError: this machine does not have ``device``.
    """
    available = torch.cuda.is_available()
    if device is None:
        device = "cuda" if available else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {device!r}") from None
    if found.type == "cpu":
        return found
    if found.type != "cuda" or not available:
        raise ValueError(f"device must be one of this machine's, got {device!r}")
    index = found.index
    if index is None:
        index = int(os.environ.get("LOCAL_RANK", "0"))
    card = torch.device("cuda", index)
    torch.cuda.set_device(card)
    return card


def run_training(
    config: TrainConfig,
    objective: TrainingObjective,
    sampler: Sampler,
    *,
    out: Path,
    device: torch.device,
    processes: Processes,
    tensorboard: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Minimise an objective to the end, starting from the checkpoint in ``out`` if there is one.

    Raises:
        ValueError: ``config`` contradicts the device, the processes or the checkpoint.
        TrainingError: the loss is not finite, or a file cannot be written.
        DataError: an image cannot be read.
    """
    start, stop = processes.share(config.batch_size)
    if config.precision == "float16" and device.type == "cpu":
        raise ValueError(
            "precision must be 'float32', 'float64' or 'bfloat16' on the cpu, got 'float16'"
        )
    run = Run(config, objective, device, processes, out)
    done = run.resume()
    if processes.rank == 0:
        _prepare_folder(out, config)
    processes.wait()
    log = None
    if processes.rank == 0:
        log = Log(out, run.columns, done, tensorboard=tensorboard)
    watch = Stopwatch(done)
    values: dict[str, float] = {}
    stream: Iterator[Batch] = iter(())
    if done < config.steps:
        pin = device.type == "cuda"
        stream = batches(sampler, done, config.steps, start=start, stop=stop, pin=pin)
    for step, batch in enumerate(stream, done):
        run.step(step, batch)
        finished = step + 1
        saves = finished % config.checkpoint_every == 0 or finished == config.steps
        logs = saves or finished % config.log_every == 0
        if logs:
            values = run.read_values()
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


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers as they were, and hide one warning."""
    cards = [device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(cards), warnings.catch_warnings():
        # the gradient of a 1x1 convolution in channels-last memory is copied: a few hundred numbers
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield


def _prepare_folder(out: Path, config: TrainConfig) -> None:
    """Make the folder of a training and note its settings there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "config.json", json.dumps(config_to_table(config), indent=1) + "\n")
    except OSError as error:
        raise TrainingError(
            f"out must be a folder that can be written, got {out}: {error.strerror}"
        ) from error

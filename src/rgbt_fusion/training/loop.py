"""The training loop: samples in, a model and a log out, and a checkpoint to go on from at any moment."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rgbt_fusion.layers.candidate_elimination import scheduled_keep_ratio
from rgbt_fusion.models import TrackingNetwork, create_model
from rgbt_fusion.models.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from rgbt_fusion.training.checkpoints import TrainingError, check_same_training, read_checkpoint, write_checkpoint
from rgbt_fusion.training.config import TrainConfig, config_to_table
from rgbt_fusion.training.distributed import Processes, join_processes, synchronise_batch_norms
from rgbt_fusion.training.logs import Log, Progress, Stopwatch
from rgbt_fusion.training.objective import LocalizationObjective
from rgbt_fusion.training.optimisation import (
    WeightAverage,
    freeze,
    learning_rate_factor,
    make_optimiser,
    set_learning_rate,
)
from rgbt_fusion.training.samples import Batch, Sampler, batches, open_clips

__all__ = ["TrainResult", "build_model", "keep_ratio_at", "pick_device", "run_training", "train", "undisturbed"]

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class TrainResult:
    """What a training left: files of the weights and of the log, the steps it has made, and its last line."""

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

    Every sample is a function of seed, step and place in the batch, and every random number of a step one of seed and
    step; so a training that was killed at any moment and is started again with the same arguments ends, on one CPU
    thread, with the very weights of one that was not. Started by ``torchrun``, the processes share each batch, and
    BatchNorm and the losses see all of it.

    The folder ``out`` gets ``checkpoint.pt``, ``model.safetensors`` (the average of the weights where one is taken),
    ``log.csv`` and ``config.json``. Nothing is written before all settings have been checked.

    Args:
        config: what is trained and how.
        out: the training's folder; where it holds a checkpoint of the same config, the training goes on from it.
        data: the folder of a dataset, or ``"synthetic"``.
        names: only these sequences of the dataset: a file that lists them.
        start_from: a file of weights to start from; see :func:`~rgbt_fusion.models.checkpoints.load_checkpoint`.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; a graphics card where there is one by default.
        tensorboard: write events for TensorBoard, too.
        on_progress: called after every line of the log.

    Raises:
        ValueError: settings that contradict the model, the data or the checkpoint in ``out``.
        TrainingError: the loss is not finite, or a file cannot be written; the last checkpoint is whole.
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
    torch.manual_seed(_seed(config.seed, 0))
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
    import os

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


def keep_ratio_at(step: int, config: TrainConfig, model: TrackingNetwork) -> float | None:
    """Return the keep ratio of a step, which falls from 1 to the model's; None for a model that eliminates nothing."""
    ratio = model.settings.keep_ratio
    if ratio == 1:
        return None
    start, stop = config.elimination_schedule
    return scheduled_keep_ratio(step, start=start * config.steps, stop=stop * config.steps, keep_ratio=ratio)


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
    """Minimise an objective, a module with ``model`` and ``names``, to the end; go on from a checkpoint in ``out``."""
    share = processes.share(config.batch_size)
    if config.precision == "float16" and device.type == "cpu":
        raise ValueError("precision must be 'float32', 'float64' or 'bfloat16' on the cpu, got 'float16'")
    run = _Run(config, objective, device, processes, out)
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


def _stream(sampler: Sampler, first: int, last: int, share: tuple[int, int], pin: bool) -> Iterator[Batch]:
    if first >= last:
        return iter(())
    return batches(sampler, first, last, start=share[0], stop=share[1], pin=pin)


class _Run:
    """A training under way: everything a step changes."""

    def __init__(
        self, config: TrainConfig, objective: Any, device: torch.device, processes: Processes, out: Path
    ) -> None:
        self.config, self.device, self.processes = config, device, processes
        self.path = out / "checkpoint.pt"
        self.model_path = out / "model.safetensors"
        if processes.count > 1:
            synchronise_batch_norms(objective)
        self.objective = objective.to(device).train()
        self.model: TrackingNetwork = objective.model
        self.optimiser = make_optimiser(objective, config.optimiser)
        self.average: WeightAverage | None = None
        self.wrapped: nn.Module = self.objective
        self.dtype = torch.float64 if config.precision == "float64" else torch.float32
        self.autocast = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(config.precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")  # pyright: ignore[reportPrivateImportUsage]
        self.columns = (*objective.names, "gradient_norm", "learning_rate", "keep_ratio", "samples_per_second")
        self.history: list[tuple[int, Tensor]] = []
        self.learning_rate, self.keep_ratio = 0.0, 1.0

    def resume(self) -> int:
        """Take up the checkpoint, if there is one; return the steps done."""
        content = read_checkpoint(self.path)
        done = 0
        if content is not None:
            check_same_training(self.config, content["config"], self.path)
            self.objective.load_state_dict(content["objective"])
            self.optimiser.load_state_dict(content["optimiser"])
            self.scaler.load_state_dict(content["scaler"])
            done = content["step"]
        if self.config.optimiser.average_decay:
            self.average = WeightAverage(self.model, self.config.optimiser.average_decay)
            if content is not None:
                self.average.load(content["average"])
        if self.processes.count > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.objective, device_ids=devices)
        return done

    def step(self, step: int, batch: Batch) -> None:
        """Make one step."""
        config = self.config.optimiser
        torch.manual_seed(_seed(self.config.seed, 1 + step * self.processes.count + self.processes.rank))
        self.learning_rate = set_learning_rate(self.optimiser, learning_rate_factor(step, self.config.steps, config))
        ratio = keep_ratio_at(step, self.config, self.model)
        self.keep_ratio = 1.0 if ratio is None else ratio
        batch = batch.to(self.device, self.dtype)
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            terms = self.wrapped(batch, ratio)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(terms["loss"]).backward()
        self.scaler.unscale_(self.optimiser)
        parameters = [value for group in self.optimiser.param_groups for value in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm or float("inf"))
        self.history.append((step, torch.stack([*(terms[name].detach() for name in self.objective.names), norm])))
        if self.device.type == "cpu":
            self._check_finite()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model, step)

    def read_values(self, step: int) -> dict[str, float]:
        """Return the means of the steps since the last line of the log.

        Raises:
            TrainingError: a loss was not finite.
        """
        self._check_finite()
        rows = self.processes.mean(torch.stack([row for _, row in self.history])).mean(0).tolist()
        self.history.clear()
        values = dict(zip((*self.objective.names, "gradient_norm"), rows, strict=True))
        return values | {"learning_rate": self.learning_rate, "keep_ratio": self.keep_ratio}

    def _check_finite(self) -> None:
        """Refuse to go on after a loss or a gradient that is not finite: before its weights are saved."""
        for step, row in self.history[-1:] if self.device.type == "cpu" else self.history:
            loss, norm = float(row[0]), float(row[-1])
            # a scaler skips such gradients and tries a smaller scale
            if isfinite(loss) and (isfinite(norm) or self.scaler.is_enabled()):
                continue
            what, value = ("gradient", norm) if isfinite(loss) else ("loss", loss)
            left = f"{self.path} holds the last checkpoint" if self.path.exists() else "there is no checkpoint yet"
            raise TrainingError(
                f"the {what} of step {step + 1} is {value}: lower optimiser.learning_rate or optimiser.clip_norm, or "
                f"look at the data; {left}"
            )

    def save(self, step: int) -> None:
        """Write the checkpoint, then the model."""
        average = None if self.average is None else self.average.values
        content = {
            "step": step,
            "config": config_to_table(self.config),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": average,
        }
        write_checkpoint(self.path, content)
        training = json.dumps({"steps_done": step} | config_to_table(self.config))
        try:
            with _swapped(self.model, average):
                save_checkpoint(self.model, self.model_path, metadata={"training": training})
        except CheckpointError as error:
            raise TrainingError(f"{error}; {self.path} holds the checkpoint of step {step}") from error


@contextmanager
def _swapped(model: nn.Module, values: dict[str, Tensor] | None) -> Iterator[None]:
    """Give a model other weights for a while."""
    if values is None:
        yield
        return
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(values)
    try:
        yield
    finally:
        model.load_state_dict(own)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers as they were, and out of the log what is none of its readers' business."""
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []), warnings.catch_warnings():
        # a 1x1 convolution's gradient in channels-last memory; it is copied, and no larger than a few hundred numbers
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield


def _prepare_folder(out: Path, config: TrainConfig) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(config_to_table(config), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"out must be a folder that can be written, got {out}: {error.strerror}") from error


def _seed(seed: int, number: int) -> int:
    """Return one of many seeds that a seed stands for."""
    # an odd multiplier near the golden ratio: neighbours come out far apart
    return (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % (1 << 63)

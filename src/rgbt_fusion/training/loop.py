"""The training loop: samples in, a model and a log out, and a checkpoint to resume from."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from rgbt_fusion.alignment.aligned_frames import AlignmentChoice, AlignmentLike, choose_alignment
from rgbt_fusion.data.clips import ClipSource
from rgbt_fusion.files.folder_lock import only_process
from rgbt_fusion.files.whole import write_json
from rgbt_fusion.models.interface import check_model
from rgbt_fusion.models.named import build_named, names_code
from rgbt_fusion.training.activation_checkpoints import check_blocks, checkpointed_blocks
from rgbt_fusion.training.checkpoints import TrainingError
from rgbt_fusion.training.config import GIVEN, TrainConfig, config_to_table
from rgbt_fusion.training.distributed import Processes, join_processes
from rgbt_fusion.training.interruption import Interruption, TrainingStopped
from rgbt_fusion.training.logs import Log, Progress, Stopwatch
from rgbt_fusion.training.objective import (
    LocalizationObjective,
    OwnLoss,
    OwnLossObjective,
    TrainingObjective,
)
from rgbt_fusion.training.optimisation import freeze
from rgbt_fusion.training.run import Run, mixed_seed
from rgbt_fusion.training.samples import (
    Batch,
    Paths,
    Sampler,
    batches,
    data_parts,
    open_clips,
    with_layouts,
)
from rgbt_fusion.training.validation import Validation, hold_out
from rgbt_fusion.training.worker_processes import explaining_dead_workers
from rgbt_fusion.weights.checkpoints import load_checkpoint
from rgbt_fusion.weights.pretrained import create_model

__all__ = [
    "NewObjective",
    "OnProgress",
    "TrainResult",
    "open_and_train",
    "pick_device",
    "run_training",
    "starting_model",
    "train",
]

OnProgress: TypeAlias = Callable[[Progress], None]
"""Called after every line of the log."""

NewObjective: TypeAlias = Callable[[nn.Module, Processes, torch.device], TrainingObjective]
"""Returns what a training of a network minimises."""


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind."""

    model: Path
    """The file of the weights."""
    log: Path
    """The table of the log."""
    steps: int
    """How many steps were made; fewer than asked for where the validation ended the training."""
    values: dict[str, float]
    """The last line of the log."""
    best: Path | None = None
    """The file of the weights with the best success; None without validation."""
    success: float | None = None
    """The best success of the validations; None without any."""
    damaged: int = 0
    """How many samples could not be read, and were replaced by others."""


def train(
    config: TrainConfig,
    *,
    out: str | Path,
    model: nn.Module | None = None,
    loss: OwnLoss | None = None,
    data: Paths | None = None,
    names: Paths | None = None,
    validation_names: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    tensorboard: bool = False,
    on_progress: OnProgress | None = None,
    align: AlignmentLike | None = None,
) -> TrainResult:
    """Train a tracker, or resume an interrupted training.

    Samples and random numbers depend on the seed, the step and the place in the batch only. So a
    training that was killed and is run again ends, on one CPU thread, with exactly the weights of
    an uninterrupted one. Under ``torchrun`` the processes share each batch, and BatchNorm and the
    losses see the whole batch.

    The folder ``out`` gets ``checkpoint.pt``, ``model.safetensors`` (the average of the weights
    where there is one), ``log.csv`` and ``config.json``. With validation ``best.safetensors`` holds
    the weights with the best success, and ``validation.csv`` all successes. Nothing is written
    before all settings have been checked.

    Ctrl-C and SIGTERM end the step that is being made and save it; the same call resumes.

    Args:
        config: what is trained and how.
        out: the folder of the training. If it holds a checkpoint of the same config, the training
            resumes from it. ``steps`` may have been raised.
        model: a network of your own, for a config with ``model="given"``; see
            :class:`~rgbt_fusion.models.interface.TrackerModel`. It is trained in place.
        loss: a loss of your own, called with the ``ModelOutput`` and the true boxes ``(B, 4)``
            (cxcywh, fractions of the crop). None takes
            :class:`~rgbt_fusion.losses.localization.LocalizationLoss` with the config's weights.
        data: the folder of a dataset, or ``"synthetic"``, whatever layout the config names; with
            ``data.more`` a list of them, in order. None is ``"synthetic"`` where the config says
            so.
        names: a file that lists the sequences of the dataset to use; with ``data.more`` a list,
            ``"all"`` for all of a dataset. None uses all.
        validation_names: a file that lists the sequences of the first dataset to validate on, which
            are not trained on. None draws them.
        start_from: a file of initial weights; see
            :func:`~rgbt_fusion.weights.checkpoints.load_checkpoint`.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. None takes a graphics card if there is one.
        tensorboard: also write events for TensorBoard.
        on_progress: called after every line of the log.
        align: how the thermal frames of each sequence of the dataset are laid on its colour
            frames: ``"auto"`` estimates it, ``"fit"`` takes them for the same view in another
            resolution, an alignment or a file of one stands for all of them; see
            :func:`~rgbt_fusion.alignment.aligned_frames.choose_alignment`. None takes them as they
            are. A training is resumed with the alignment that it was started with.

    Raises:
        ValueError: ``config`` contradicts the model, the data or the checkpoint in ``out``, or
            ``device`` does not exist.
        TypeError: ``model`` lacks what a tracking network must offer, or ``loss`` does not return
            one number.
        TrainingError: the loss is not finite, a file in ``out`` cannot be written, or the processes
            that make samples fail. The last checkpoint is complete.
        CheckpointError: ``start_from`` does not fit the model.
        DataError: more samples of ``data`` cannot be read than ``data.most_damaged``.
        TrainingStopped: Ctrl-C or SIGTERM ended the training; its checkpoint is saved.
        FolderInUseError: another process trains in ``out``; the message says which one.
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

    def new_objective(
        network: nn.Module, processes: Processes, _: torch.device
    ) -> TrainingObjective:
        if loss is None:
            return LocalizationObjective(network, config.loss, processes)
        return OwnLossObjective(network, loss, processes)

    return open_and_train(
        config,
        new_objective,
        out=out,
        model=model,
        data=data,
        names=names,
        validation_names=validation_names,
        start_from=start_from,
        device=device,
        tensorboard=tensorboard,
        on_progress=on_progress,
        align=align,
    )


def open_and_train(
    config: TrainConfig,
    new_objective: NewObjective,
    *,
    out: str | Path,
    model: nn.Module | None,
    data: Paths | None,
    names: Paths | None,
    validation_names: str | Path | None,
    start_from: str | Path | None,
    device: str | None,
    tensorboard: bool,
    on_progress: OnProgress | None,
    align: AlignmentLike | None,
) -> TrainResult:
    """Open what a training needs, and run it; see :func:`train` for arguments and errors.

    Args:
        new_objective: returns what is minimised.
    """
    where = pick_device(device)
    choice = None if align is None else choose_alignment(align)
    config = with_layouts(config, data)
    with join_processes(where) as processes, _undisturbed(where):
        clips = open_clips(config, data, names=names, align=choice)
        validation = _open_validation(config, clips, data, validation_names, processes, choice)
        network = starting_model(config, start_from, model=model)
        return run_training(
            config,
            new_objective(network, processes, where),
            Sampler.of(config, clips, network),
            out=Path(out),
            device=where,
            processes=processes,
            tensorboard=tensorboard,
            on_progress=on_progress,
            validation=validation,
            align=None if choice is None else choice.name,
        )


def _open_validation(
    config: TrainConfig,
    clips: ClipSource,
    data: Paths | None,
    names: str | Path | None,
    processes: Processes,
    align: AlignmentChoice | None = None,
) -> Validation | None:
    """Hold out what a training is validated on; None for a training without validation.

    Raises:
        ValueError: ``names`` come without ``validation.every``.
        DataError: see :func:`~rgbt_fusion.training.validation.hold_out`.
    """
    if not config.validation.every:
        if names is not None:
            raise ValueError(
                f"validation_names must come with validation.every above 0, got {str(names)!r}"
            )
        return None
    first = data_parts(config, data)[0]
    sequences = hold_out(config, clips, first.root, first.layout, names, align)
    return Validation(config, sequences, processes, first.layout)


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
        if hasattr(model, "tracking_settings"):
            # they were measured for the weights of the file, not for those that training makes
            setattr(model, "tracking_settings", None)  # noqa: B010
    if config.precision == "float64":
        model.to(torch.float64)
    return model


def _built(config: TrainConfig) -> nn.Module:
    """Build the model that a config names."""
    if names_code(config.model):
        return build_named(config.model, **config.overrides)
    try:
        return create_model(config.model, **config.overrides)
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
    validation: Validation | None = None,
    align: str | None = None,
) -> TrainResult:
    """Minimise an objective to the end, starting from the checkpoint in ``out`` if there is one.

    Raises:
        ValueError: ``config`` contradicts the device, the processes or the checkpoint.
        TrainingError: the loss is not finite, or a file cannot be written.
        DataError: too many samples cannot be read.
        TrainingStopped: Ctrl-C or SIGTERM ended the training; its checkpoint is saved.
        FolderInUseError: another process trains in ``out``.
    """
    start, stop = processes.share(config.batch_size)
    if config.precision == "float16" and device.type == "cpu":
        raise ValueError(
            "precision must be 'float32', 'float64' or 'bfloat16' on the cpu, got 'float16'"
        )
    if config.activation_checkpointing:
        check_blocks(objective.model)
    with _only_trainer(out, processes):
        run = Run(config, objective, device, processes, out, validation, align=align)
        done = run.resume()
        if processes.rank == 0:
            _note_settings(out, config)
            run.renew(done)
        processes.wait()
        log = None
        if processes.rank == 0:
            log = Log(out, run.columns, done, tensorboard=tensorboard)
        blocks = nullcontext()
        if config.activation_checkpointing:
            blocks = checkpointed_blocks(run.model)
        with Interruption(processes) as interruption, blocks, explaining_dead_workers():
            steps = _Steps(run, sampler, (start, stop), log, on_progress, interruption)
            steps.make(done)
        if log is not None:
            log.close()
        processes.wait()
        best = None if validation is None else validation.best
        return TrainResult(
            model=out / "model.safetensors",
            log=out / "log.csv",
            steps=steps.done,
            values=steps.values,
            best=None if best is None else run.best_path,
            success=None if best is None else best.success,
            damaged=run.damaged,
        )


class _Steps:
    """The steps that are left of a training.

    Args:
        run: the training.
        sampler: where samples come from.
        places: the places of the global batch that belong to this process: the first one, and the
            one before which they end.
        log: the log of the first process, None in others.
        on_progress: called after every line of the log.
        interruption: says when to stop.
    """

    def __init__(
        self,
        run: Run,
        sampler: Sampler,
        places: tuple[int, int],
        log: Log | None,
        on_progress: OnProgress | None,
        interruption: Interruption,
    ) -> None:
        self.run = run
        self.sampler = sampler
        self.places = places
        self.log = log
        self.on_progress = on_progress
        self.interruption = interruption
        self.done = 0
        self.watch = Stopwatch(0)
        self.values: dict[str, float] = {}

    def make(self, done: int) -> None:
        """Make all steps after the first ``done``."""
        run = self.run
        config = run.config
        self.done = done
        self.watch = Stopwatch(done)
        if self._validate(saved=True):
            return
        stream: Iterator[Batch] = iter(())
        if done < config.steps:
            start, stop = self.places
            pin = run.device.type == "cuda"
            stream = batches(self.sampler, done, config.steps, start=start, stop=stop, pin=pin)
        for step, batch in enumerate(stream, done):
            run.step(step, batch)
            self.done = step + 1
            is_due = run.validation is not None and run.validation.is_due(self.done)
            is_last = self.done == config.steps
            saves = is_last or is_due or self.done % config.checkpoint_every == 0
            logs = saves or self.done % config.log_every == 0
            # what all processes must agree on is asked where they meet anyway
            run.note_damaged(batch.damaged, meets=logs)
            stops = self.interruption.asked(meets=logs)
            if logs:
                self._report()
            if is_due and not stops:
                if self._validate(saved=False):
                    return
            elif (saves or stops) and run.processes.rank == 0:
                run.save(self.done)
            if stops:
                self._stop()

    def _report(self) -> None:
        """Write a line of the log."""
        run = self.run
        steps = run.config.steps
        self.values = run.read_values()
        speed, left = self.watch.look(self.done, steps, run.config.batch_size)
        self.values["samples_per_second"] = speed
        if self.log is None:
            return
        self.log.add(self.done, self.values)
        if self.on_progress is not None:
            best = None if run.validation is None else run.validation.best
            self.on_progress(
                Progress(
                    step=self.done,
                    steps=steps,
                    values=self.values,
                    samples_per_second=speed,
                    seconds_left=left,
                    best_success=None if best is None else best.success,
                    damaged=run.damaged,
                )
            )

    def _validate(self, *, saved: bool) -> bool:
        """Validate if that is due, save, and return whether the training is over.

        ``saved`` says that the checkpoint of this step is written already.
        """
        run = self.run
        validation = run.validation
        if validation is None:
            return False
        if not validation.is_due(self.done):
            return validation.is_over
        success = run.validate(self.done, self.interruption.asked)
        # the time of a validation does not count as time of the steps
        self.watch.look(self.done, run.config.steps, run.config.batch_size)
        if run.processes.rank == 0 and (success is not None or not saved):
            run.save(self.done)
        if success is None:
            self._stop()
        return validation.is_over

    def _stop(self) -> None:
        run = self.run
        run.processes.wait()
        if self.done == run.config.steps:
            return
        raise TrainingStopped(
            f"{self.interruption.noted or 'another process'} ended the training after step "
            f"{self.done} of {run.config.steps}; {run.path} holds it: "
            "run the same command or call again to go on"
        )


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers as they were, and hide one warning."""
    cards = [device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(cards), warnings.catch_warnings():
        # the gradient of a 1x1 convolution in channels-last memory is copied: a few hundred numbers
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        yield


@contextmanager
def _only_trainer(out: Path, processes: Processes) -> Iterator[None]:
    """Make the folder of a training, and keep other trainings out of it."""
    if processes.rank != 0:
        yield
        return
    with _folder_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with only_process(out):
        yield


def _note_settings(out: Path, config: TrainConfig) -> None:
    with _folder_errors(out):
        write_json(out / "config.json", config_to_table(config))


@contextmanager
def _folder_errors(out: Path) -> Iterator[None]:
    """Say what is wrong with the folder of a training."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"out must be a folder that can be written, got {out}: {error.strerror}"
        ) from error

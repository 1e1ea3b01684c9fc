"""A training in progress: what one step does, and how it becomes a checkpoint and back."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from rgbt_fusion.checks import check_finite_number
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.files.whole import write_text
from rgbt_fusion.layers.candidate_elimination import scheduled_keep_ratio
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.training.checkpoints import (
    TrainingError,
    check_same_alignment,
    check_same_training,
    decisive_settings,
    read_checkpoint,
    restoring,
    write_checkpoint,
)
from rgbt_fusion.training.config import TrainConfig, config_to_table
from rgbt_fusion.training.distributed import Processes, synchronise_batch_norms
from rgbt_fusion.training.objective import TrainingObjective
from rgbt_fusion.training.optimisation import (
    WeightAverage,
    learning_rate_factor,
    make_optimiser,
    set_learning_rate,
)
from rgbt_fusion.training.samples import Batch
from rgbt_fusion.training.validation import Validation
from rgbt_fusion.weights.checkpoints import CheckpointError, save_checkpoint
from rgbt_fusion.weights.stored_tensors import open_weight_file

__all__ = ["Run", "keep_ratio_at", "mixed_seed"]

LOGGER = logging.getLogger(__name__)
"""Where samples that cannot be read are named."""

SHOWN_DAMAGED = 10
"""How many of them are named."""


class Run:
    """A training in progress: everything that a step changes.

    Args:
        config: what is trained and how.
        objective: what is minimised.
        device: where the training runs.
        processes: the processes that share the batch.
        out: the folder of the training.
        validation: what the training is measured on. None measures nothing.
        align: what tells how the frames are aligned from other ways; None for frames as they are.
    """

    def __init__(
        self,
        config: TrainConfig,
        objective: TrainingObjective,
        device: torch.device,
        processes: Processes,
        out: Path,
        validation: Validation | None = None,
        *,
        align: str | None = None,
    ) -> None:
        self.config = config
        self.validation = validation
        self.align = align
        self.device = device
        self.processes = processes
        self.path = out / "checkpoint.pt"
        self.model_path = out / "model.safetensors"
        self.best_path = out / "best.safetensors"
        self.successes_path = out / "validation.csv"
        if processes.count > 1:
            synchronise_batch_norms(objective)
        self.objective = objective.to(device).train()
        self.model: nn.Module = objective.model
        self.optimiser = make_optimiser(objective, config.optimiser)
        self.average: WeightAverage | None = None
        self.wrapped: nn.Module = self.objective
        self.dtype = torch.float64 if config.precision == "float64" else torch.float32
        self.autocast = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(config.precision)
        self.scaler = GradScaler(device.type, enabled=config.precision == "float16")
        self.columns = (
            *objective.names,
            "gradient_norm",
            "learning_rate",
            "keep_ratio",
            "samples_per_second",
        )
        self.history: list[tuple[int, Tensor]] = []
        """Steps since the last line of the log, each with its terms and the gradient's norm."""
        self.learning_rate = 0.0
        self.keep_ratio = 1.0
        self.damaged = 0
        """How many samples could not be read, over all processes."""
        self._damaged_here = 0

    def resume(self) -> int:
        """Load the checkpoint, if there is one, and return the number of steps done.

        Raises:
            TrainingError: the checkpoint is damaged or belongs to another training.
        """
        content = read_checkpoint(self.path)
        done = 0
        if content is not None:
            with restoring(self.path):
                done = int(check_finite_number(content["step"], name="step", low=0))
                self.damaged = int(content.get("damaged", 0))
            check_same_training(self.config, content.get("config"), self.path, done=done)
            check_same_alignment(self.align, content.get("align"), self.path)
        if self.config.optimiser.average_decay:
            self.average = WeightAverage(self.model, self.config.optimiser.average_decay)
        if content is not None:
            with restoring(self.path):
                self.objective.load_state_dict(content["objective"])
                self.optimiser.load_state_dict(content["optimiser"])
                self.scaler.load_state_dict(content["scaler"])
                if self.average is not None:
                    self.average.load(content["average"])
                if self.validation is not None:
                    self.validation.load(content.get("validation"))
                self._load_unlogged(content.get("unlogged"), done)
        if self.processes.count > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.objective, device_ids=devices)
        return done

    def _load_unlogged(self, rows: Any, done: int) -> None:
        """Remember the last steps, whose line of the log is still to come."""
        if rows is None:
            return
        columns = len(self.objective.names) + 1
        if rows.shape != (len(rows), columns):
            raise ValueError(
                f"unlogged must hold {columns} values per step, got {tuple(rows.shape)}"
            )
        steps = range(done - len(rows), done)
        self.history = list(zip(steps, rows.to(self.device).unbind(), strict=True))

    def step(self, step: int, batch: Batch) -> None:
        """Make one step, counted from 0.

        Raises:
            TrainingError: on a CPU, the loss or the gradient is not finite.
        """
        draw = 1 + step * self.processes.count + self.processes.rank
        torch.manual_seed(mixed_seed(self.config.seed, draw))
        factor = learning_rate_factor(step, self.config.steps, self.config.optimiser)
        self.learning_rate = set_learning_rate(self.optimiser, factor)
        ratio = keep_ratio_at(step, self.config, self.model)
        self.keep_ratio = 1.0 if ratio is None else ratio

        batch = batch.to(self.device, self.dtype)
        casts = self.autocast is not None
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=casts):
            terms: dict[str, Tensor] = self.wrapped(batch, ratio)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(terms["loss"]).backward()
        self.scaler.unscale_(self.optimiser)
        largest_norm = self.config.optimiser.clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(self._trained(), largest_norm)
        values = [terms[name].detach() for name in self.objective.names]
        self.history.append((step, torch.stack([*values, norm])))
        if self.device.type == "cpu":
            self._check_finite(self.history[-1:])
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model, step)

    def read_values(self) -> dict[str, float]:
        """Return the means over the steps since the last line of the log.

        Raises:
            TrainingError: a loss or a gradient was not finite.
        """
        if self.device.type != "cpu":
            # on a card the check waits until the values are read anyway
            self._check_finite(self.history)
        rows = torch.stack([row for _, row in self.history])
        means = self.processes.mean(rows).mean(0).tolist()
        self.history.clear()
        names: tuple[str, ...] = (*self.objective.names, "gradient_norm")
        values: dict[str, float] = dict(zip(names, means, strict=True))
        return values | {"learning_rate": self.learning_rate, "keep_ratio": self.keep_ratio}

    def note_damaged(self, reasons: Sequence[str], *, meets: bool) -> None:
        """Count samples that could not be read, and name the first ones.

        Args:
            reasons: why the samples of one step could not be read.
            meets: whether all processes call it after this step and may add up their counts.

        Raises:
            DataError: they are more than the config allows.
        """
        for reason in reasons[: max(0, SHOWN_DAMAGED - self.damaged)]:
            LOGGER.warning("a sample is replaced by another one: %s", reason)
        self._damaged_here += len(reasons)
        if self.processes.count > 1 and not meets:
            return
        more = float(self._damaged_here)
        self._damaged_here = 0
        if self.processes.count > 1:
            mean = self.processes.mean(torch.tensor(more, device=self.device))
            more = float(mean) * self.processes.count
        self.damaged += round(more)
        limit = self.config.data.most_damaged
        if self.damaged > limit:
            last = reasons[-1] if reasons else "another process says which"
            raise DataError(
                f"data must hold fewer samples that cannot be read, data.most_damaged = {limit}, "
                f"got {self.damaged} so far; the last one: {last}"
            )

    def validate(self, step: int, stop: Callable[[], bool]) -> float | None:
        """Measure the success of the weights that would be saved, and keep them if they are best.

        Args:
            step: how many steps are done.
            stop: asked now and then whether to give up.

        Returns:
            The success; None where it was given up.

        Raises:
            DataError: a frame cannot be read.
            TrainingError: the best model cannot be written.
        """
        if self.validation is None:
            return None
        average = None if self.average is None else self.average.values
        with _swapped(self.model, average):
            success = self.validation.measure(self.model, step, stop)
            best = self.validation.best
            if success is None or best is None or best.step != step or self.processes.rank:
                return success
            what = {"steps_done": step, "success": success} | config_to_table(self.config)
            try:
                save_checkpoint(self.model, self.best_path, metadata={"training": json.dumps(what)})
            except CheckpointError as error:
                raise TrainingError(str(error)) from error
        return success

    def _trained(self) -> list[Tensor]:
        """Return the parameters that the optimiser changes."""
        parameters: list[Tensor] = []
        for group in self.optimiser.param_groups:
            parameters += group["params"]
        return parameters

    def _check_finite(self, history: list[tuple[int, Tensor]]) -> None:
        """Stop at a loss or a gradient that is not finite, before its weights are saved."""
        for step, row in history:
            loss = float(row[0])
            norm = float(row[-1])
            if not isfinite(loss):
                self._stop("loss", loss, step)
            # a scaler skips a gradient that is not finite, and tries a smaller scale
            if not isfinite(norm) and not self.scaler.is_enabled():
                self._stop("gradient", norm, step)

    def _stop(self, what: str, value: float, step: int) -> NoReturn:
        left = "there is no checkpoint yet"
        if self.path.exists():
            left = f"{self.path} holds the last checkpoint"
        raise TrainingError(
            f"the {what} of step {step + 1} is {value}: lower optimiser.learning_rate or "
            f"optimiser.clip_norm, or look at the data; {left}"
        )

    def save(self, step: int) -> None:
        """Write the checkpoint, then the model and the successes, after this many steps.

        Raises:
            TrainingError: a file cannot be written.
        """
        average = None if self.average is None else self.average.values
        content = {
            "step": step,
            "config": config_to_table(self.config),
            "align": self.align,
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": average,
            "damaged": self.damaged,
        }
        if self.validation is not None:
            content["validation"] = self.validation.state()
        if self.history:
            # the training stops between two lines of the log: the next line is the mean of these
            # steps, too
            self._check_finite(self.history)
            content["unlogged"] = torch.stack([row for _, row in self.history])
        write_checkpoint(self.path, content)
        self._save_model(step)
        self._save_successes()

    def renew(self, step: int) -> None:
        """Write what belongs to a checkpoint anew where it is missing, damaged or older.

        A training may have been killed between the checkpoint and these files, or one was lost.

        Raises:
            TrainingError: a file cannot be written.
        """
        if not step:
            return
        if not self._is_written(step):
            self._save_model(step)
        self._save_successes()

    def _is_written(self, step: int) -> bool:
        """Return whether the file of the model is that of this step of this training."""
        expected = decisive_settings(json.loads(self._description(step)))
        try:
            text = open_weight_file(self.model_path).metadata.get("training", "")
            return decisive_settings(json.loads(text)) == expected
        except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
            # no file, or one of another program
            return False

    def _description(self, step: int) -> str:
        """Return what a file of the model says about its training."""
        settings: dict[str, Any] = {"steps_done": step} | config_to_table(self.config)
        if self.align is not None:
            settings["align"] = self.align
        return json.dumps(settings)

    def _save_successes(self) -> None:
        """Write the successes of all validations, where there are any to write."""
        if self.validation is None:
            return
        try:
            write_text(self.successes_path, self.validation.table())
        except OSError as error:
            raise TrainingError(
                f"{self.successes_path} cannot be written: {error.strerror}; {self.path} holds them"
            ) from error

    def _save_model(self, step: int) -> None:
        average = None if self.average is None else self.average.values
        metadata = {"training": self._description(step)}
        try:
            with _swapped(self.model, average):
                save_checkpoint(self.model, self.model_path, metadata=metadata)
        except CheckpointError as error:
            raise TrainingError(
                f"{error}; {self.path} holds the checkpoint of step {step}"
            ) from error


@contextmanager
def _swapped(model: nn.Module, values: dict[str, Tensor] | None) -> Iterator[None]:
    """Give a model other weights inside the block; None leaves it as it is."""
    if values is None:
        yield
        return
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(values)
    try:
        yield
    finally:
        model.load_state_dict(own)


def keep_ratio_at(step: int, config: TrainConfig, model: nn.Module) -> float | None:
    """Return the keep ratio of a step, which falls from 1 to the model's.

    A model that eliminates nothing has none: the result is None.
    """
    settings = getattr(model, "settings", None)
    if not isinstance(settings, EncoderSettings) or settings.keep_ratio == 1:
        return None
    start, stop = config.elimination_schedule
    return scheduled_keep_ratio(
        step, start=start * config.steps, stop=stop * config.steps, keep_ratio=settings.keep_ratio
    )


def mixed_seed(seed: int, number: int) -> int:
    """Return one of many seeds derived from a seed."""
    # odd multipliers, the first near the golden ratio: neighbours come out far apart
    mixed = seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019
    return mixed % (1 << 63)

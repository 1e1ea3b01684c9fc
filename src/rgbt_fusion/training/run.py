"""A training under way: everything that a step changes, that a checkpoint holds, and how the one
becomes the other."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rgbt_fusion.layers.candidate_elimination import scheduled_keep_ratio
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.training.checkpoints import (
    TrainingError,
    check_same_training,
    read_checkpoint,
    write_checkpoint,
)
from rgbt_fusion.training.config import TrainConfig, config_to_table
from rgbt_fusion.training.distributed import Processes, synchronise_batch_norms
from rgbt_fusion.training.optimisation import (
    WeightAverage,
    learning_rate_factor,
    make_optimiser,
    set_learning_rate,
)
from rgbt_fusion.training.samples import Batch
from rgbt_fusion.weights.checkpoints import CheckpointError, save_checkpoint

__all__ = ["Run", "keep_ratio_at", "mixed_seed"]


class Run:
    """A training under way: everything a step changes."""

    def __init__(
        self,
        config: TrainConfig,
        objective: Any,
        device: torch.device,
        processes: Processes,
        out: Path,
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
        self.columns = (
            *objective.names,
            "gradient_norm",
            "learning_rate",
            "keep_ratio",
            "samples_per_second",
        )
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
        torch.manual_seed(
            mixed_seed(self.config.seed, 1 + step * self.processes.count + self.processes.rank)
        )
        self.learning_rate = set_learning_rate(
            self.optimiser, learning_rate_factor(step, self.config.steps, config)
        )
        ratio = keep_ratio_at(step, self.config, self.model)
        self.keep_ratio = 1.0 if ratio is None else ratio
        batch = batch.to(self.device, self.dtype)
        with torch.autocast(
            self.device.type, dtype=self.autocast, enabled=self.autocast is not None
        ):
            terms = self.wrapped(batch, ratio)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(terms["loss"]).backward()
        self.scaler.unscale_(self.optimiser)
        parameters = [value for group in self.optimiser.param_groups for value in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm or float("inf"))
        self.history.append(
            (step, torch.stack([*(terms[name].detach() for name in self.objective.names), norm]))
        )
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
        names: tuple[str, ...] = (*self.objective.names, "gradient_norm")
        values: dict[str, float] = dict(zip(names, rows, strict=True))
        return values | {"learning_rate": self.learning_rate, "keep_ratio": self.keep_ratio}

    def _check_finite(self) -> None:
        """Refuse to go on after a loss or a gradient that is not finite: before its weights are
        saved."""
        for step, row in self.history[-1:] if self.device.type == "cpu" else self.history:
            loss, norm = float(row[0]), float(row[-1])
            # a scaler skips such gradients and tries a smaller scale
            if isfinite(loss) and (isfinite(norm) or self.scaler.is_enabled()):
                continue
            what, value = ("gradient", norm) if isfinite(loss) else ("loss", loss)
            left = (
                f"{self.path} holds the last checkpoint"
                if self.path.exists()
                else "there is no checkpoint yet"
            )
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
            raise TrainingError(
                f"{error}; {self.path} holds the checkpoint of step {step}"
            ) from error


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


def keep_ratio_at(step: int, config: TrainConfig, model: TrackingNetwork) -> float | None:
    """Return the keep ratio of a step, which falls from 1 to the model's; None for a model that
    eliminates nothing."""
    ratio = model.settings.keep_ratio
    if ratio == 1:
        return None
    start, stop = config.elimination_schedule
    return scheduled_keep_ratio(
        step, start=start * config.steps, stop=stop * config.steps, keep_ratio=ratio
    )


def mixed_seed(seed: int, number: int) -> int:
    """Return one of many seeds that a seed stands for."""
    # an odd multiplier near the golden ratio: neighbours come out far apart
    return (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % (
        1 << 63
    )

"""Running the study: the backbone first, then every variant from every seed, trained and scored."""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.study.records import Settings, Trial, append_trial, read_trials
from benchmarks.study.variants import BACKBONE, VARIANTS, Variant
from rgbt_fusion.benchmarking.records import new_record
from rgbt_fusion.evaluation.held_out import HARD, held_out_sequences, score_tracker
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.tracking.tracker import Tracker
from rgbt_fusion.training import (
    DistillConfig,
    TrainConfig,
    TrainResult,
    distill,
    read_config,
    train,
)
from rgbt_fusion.training.logs import Progress
from rgbt_fusion.training.loop import pick_device
from rgbt_fusion.weights.checkpoints import load_model

__all__ = ["RESULTS", "make_config", "network_ms", "run_study"]

RECIPE = "ainet_tiny_128_synthetic"
"""Whose world, augmentation and optimiser all variants have."""

RESULTS = "results.jsonl"

OnProgress = Callable[[str, Progress | None], None]


def run_study(
    out: str | Path,
    variants: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    *,
    backbone: str | Path | None = None,
    device: str | None = None,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> list[Trial]:
    """Train and score what is not there yet, the first seed of all variants before the second;
    return all of it.

    The folder ``out`` gets ``results.jsonl``, to which each trial is appended when it is done, and
    a folder a training. Killed and started again, the study goes on where it was, within a
    training, too.

    Args:
        out: the study's folder.
        variants: names of ``VARIANTS``, teachers before those that they teach.
        seeds: what weights and samples are drawn from.
        settings: what all have in common.
        backbone: a file to start from; None trains one, ``settings.backbone_steps`` long.
        device: as in :func:`~rgbt_fusion.training.train`.
        workers: processes that make samples, and that track; 0 does all in this one.
        on_progress: called with what is going on and, while something is trained, how far it is.

    Raises:
        ValueError: an unknown variant, a teacher behind or without those that it teaches.
        DataError: ``results.jsonl`` holds something else.
        TrainingError, CheckpointError: see :func:`~rgbt_fusion.training.train`.
    """
    for position, name in enumerate(variants):
        if name not in VARIANTS:
            raise ValueError(f"variants must be among {', '.join(VARIANTS)}, got {name!r}")
        teacher = VARIANTS[name].teacher
        if teacher is not None and teacher not in variants[:position]:
            raise ValueError(
                f"variants must hold {teacher!r} before {name!r}, which it teaches, got {list(variants)}"
            )
    study = _Study(Path(out), pick_device(device), workers, on_progress or _say_nothing)
    start, settings = study.backbone(settings, backbone)
    done = {
        (trial.variant, trial.seed): trial for trial in study.trials() if trial.settings == settings
    }
    for seed in seeds:
        for name in variants:
            if (name, seed) not in done:
                done[name, seed] = study.trial(name, seed, settings, start)
    return list(done.values())


def make_config(
    variant: Variant, seed: int, settings: Settings, *, backbone: bool = False, workers: int = 1
) -> TrainConfig:
    """Return the config of a variant's training, a :class:`DistillConfig` where it has a
    teacher."""
    recipe = read_config(RECIPE)
    steps = settings.backbone_steps if backbone else settings.steps
    rate = settings.backbone_learning_rate if backbone else settings.learning_rate
    augmentation = recipe.augmentation
    if variant.modality != "both":
        augmentation = replace(augmentation, missing=0.0)
    values: dict[str, Any] = {
        "model": variant.model,
        "overrides": {"drop_path": 0.0} | dict(variant.overrides),
        "modality": variant.modality,
        "clip_length": variant.clip_length,
        "steps": steps,
        "batch_size": settings.batch_size,
        "seed": seed,
        # what a fusion adds starts from nothing
        "start_share": None if backbone else 0.5,
        "checkpoint_every": 100,
        "data": replace(recipe.data, workers=workers),
        "augmentation": augmentation,
        "optimiser": replace(
            recipe.optimiser, learning_rate=rate, warmup_steps=min(100, steps // 5)
        ),
        "loss": recipe.loss,
    }
    if variant.teacher is None:
        return TrainConfig(**values)
    return DistillConfig(**values, **variant.distillation)


class _Study:
    """Where the study's files are and what it runs on."""

    def __init__(
        self, out: Path, device: torch.device, workers: int, on_progress: OnProgress
    ) -> None:
        self.out, self.device, self.workers, self.on_progress = out, device, workers, on_progress

    def trials(self) -> list[Trial]:
        path = self.out / RESULTS
        return read_trials([path]) if path.exists() else []

    def backbone(self, settings: Settings, given: str | Path | None) -> tuple[Path, Settings]:
        """Return the file that all variants start from, and the settings that name it."""
        if given is None:
            config = make_config(BACKBONE, 0, settings, backbone=True, workers=self.workers)
            path = self.train(
                config, "backbone", self.out / f"backbone-{settings.backbone_steps}"
            ).model
        else:
            path, settings = Path(given), replace(settings, backbone_steps=0)
        return path, replace(settings, backbone=sha256(path.read_bytes()).hexdigest()[:8])

    def folder(self, name: str, seed: int, settings: Settings) -> Path:
        return self.out / "trainings" / f"{name}-{seed}-{settings.key}"

    def train(self, config: TrainConfig, title: str, folder: Path, **inputs: Any) -> TrainResult:
        options: dict[str, Any] = {"out": folder, "device": str(self.device), **inputs}
        options["on_progress"] = lambda progress: self.on_progress(f"{title}: training", progress)
        if isinstance(config, DistillConfig):
            return distill(config, **options)
        return train(config, **options)

    def trial(self, name: str, seed: int, settings: Settings, start: Path) -> Trial:
        """Train and score one variant, and append the line."""
        variant = VARIANTS[name]
        title, folder = f"{variant.title}, seed {seed}", self.folder(name, seed, settings)
        inputs: dict[str, Any] = {"start_from": start}
        if variant.teacher is not None:
            inputs["teacher"] = self.folder(variant.teacher, seed, settings) / "model.safetensors"
        config = make_config(variant, seed, settings, workers=self.workers)
        result = self.train(config, title, folder, **inputs)
        self.on_progress(f"{title}: scoring", None)
        scores = score_tracker(
            partial(_tracker, result.model, self.device),
            held_out_sequences(HARD, sequences=settings.sequences, frames=settings.frames),
            name=name,
            modality=variant.modality,
            workers=max(1, self.workers),
        )
        model = load_model(result.model)
        lines, seconds = _read_log(result.log, config.batch_size)
        record = new_record("study", self.device.type, "")
        trial = Trial(
            variant=name,
            seed=seed,
            settings=settings,
            success=_by_challenge(scores, "MSR"),
            precision=_by_challenge(scores, "MPR"),
            parameters=sum(value.numel() for value in model.parameters()),
            network_ms=network_ms(model),
            train_seconds=seconds,
            curve=lines,
            version=record.version,
            commit=record.commit,
            machine=record.machine.name,
            device=record.device,
            torch=record.software["torch"],
            created=record.created,
        )
        append_trial(self.out / RESULTS, trial)
        self.on_progress(f"{title}: success {trial.success['all']:.3f}", None)
        return trial


def network_ms(model: TrackingNetwork, *, rounds: int = 40) -> float:
    """Return the median time of a network for one frame, its template embedded before, on the
    CPU."""
    model = model.cpu().eval()
    template, search = (
        ImagePair(*torch.rand(2, 1, 3, size, size))
        for size in (model.template_size, model.search_size)
    )
    times = []
    with torch.inference_mode():
        tokens = model.embed_template(template)
        state = model(tokens, search).state
        for _ in range(rounds):
            start = time.perf_counter()
            model(tokens, search, state)
            times.append(1e3 * (time.perf_counter() - start))
    return round(median(times), 3)


def _tracker(path: Path, device: torch.device) -> Tracker:
    return Tracker(load_model(path), device=device)


def _by_challenge(scores: Scores, metric: str) -> dict[str, float]:
    found = {name: one.metrics[metric] for name, one in scores.attributes.items()}
    return {
        name: round(value, 5) for name, value in (found | {"all": scores.metrics[metric]}).items()
    }


def _read_log(path: Path, batch_size: int) -> tuple[dict[str, list[float]], float]:
    """Return the columns that all trainings have, and how long it took in all, whenever it was
    interrupted."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [float(row[name]) for row in rows] for name in _COLUMNS}
    speeds = [float(row["samples_per_second"]) for row in rows]
    steps = [0.0, *columns["step"]]
    seconds = [
        (stop - start) * batch_size / speed
        for start, stop, speed in zip(steps, steps[1:], speeds, strict=False)
    ]
    return columns, round(sum(seconds), 1)


_COLUMNS = ("step", "focal", "giou", "l1", "iou")


def _say_nothing(what: str, progress: Progress | None) -> None:
    """Be nobody who wants to know."""

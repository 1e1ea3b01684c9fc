"""Running the study: the backbone first, then every variant from every seed, trained and scored."""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch

from benchmarks.study.alignments import aligned_groups, digest, kept_alignment
from benchmarks.study.challenges import study_sequences
from benchmarks.study.records import (
    AlignedScores,
    StudySettings,
    Trial,
    append_trial,
    read_trials,
)
from benchmarks.study.variants import BACKBONE, VARIANTS, Variant
from rgbt_fusion.alignment.estimate import Alignment
from rgbt_fusion.benchmarking.records import new_record
from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.clips import Modality
from rgbt_fusion.evaluation.held_out import Groups, score_tracker
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.files.folder_lock import only_process
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

__all__ = ["RESULTS", "OnProgress", "make_config", "network_ms", "run_study"]

RECIPE = "ainet_tiny_128_synthetic"
"""Whose world, augmentation and optimiser all variants have."""

RESULTS = "results.jsonl"

SCORED_MODALITIES: tuple[Modality, ...] = get_args(Modality)

OnProgress = Callable[[str, Progress | None], None]


def run_study(
    out: str | Path,
    variants: Sequence[str],
    seeds: Sequence[int],
    settings: StudySettings,
    *,
    backbone: str | Path | None = None,
    device: str | None = None,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> list[Trial]:
    """Train and score what is not there yet; return all trials.

    The first seed of all variants comes before the second. The folder ``out`` gets
    ``results.jsonl``, to which each trial is appended when it is done, and one folder per training.
    A study that was killed resumes where it was, also within a training.

    Args:
        out: the study's folder.
        variants: names of ``VARIANTS``, teachers before those that they teach.
        seeds: the seeds of weights and samples.
        settings: what all have in common.
        backbone: a file to start from; None trains one, ``settings.backbone_steps`` long.
        device: as in :func:`~rgbt_fusion.training.train`.
        workers: number of processes that make samples and that track; 0 does all in this one.
        on_progress: called with what is going on and, while something is trained, how far it is.

    Raises:
        ValueError: ``variants`` names none, or does not hold a teacher before its student.
        DataError: ``results.jsonl`` holds something else.
        FolderInUseError: another process works in ``out``.
        TrainingError: see :func:`~rgbt_fusion.training.train`.
        CheckpointError: see :func:`~rgbt_fusion.training.train`.
    """
    _check_variants(variants)
    folder = Path(out)
    study = _Study(folder, pick_device(device), workers, on_progress or _ignore_progress)
    folder.mkdir(parents=True, exist_ok=True)
    with only_process(folder):
        start, settings = study.backbone(settings, backbone)
        same_study = [trial for trial in study.trials() if trial.settings == settings]
        done = {(trial.variant, trial.seed): trial for trial in same_study}
        for seed in seeds:
            for name in variants:
                if (name, seed) not in done:
                    done[name, seed] = study.trial(name, seed, settings, start)
        return list(done.values())


def _check_variants(variants: Sequence[str]) -> None:
    for position, name in enumerate(variants):
        if name not in VARIANTS:
            raise ValueError(f"variants must be among {', '.join(VARIANTS)}, got {name!r}")
        teacher = VARIANTS[name].teacher
        if teacher is not None and teacher not in variants[:position]:
            raise ValueError(
                f"variants must hold {teacher!r} before {name!r}, which it teaches, "
                f"got {list(variants)}"
            )


def make_config(
    variant: Variant,
    seed: int,
    settings: StudySettings,
    *,
    backbone: bool = False,
    workers: int = 1,
) -> TrainConfig:
    """Return the config of a variant's training, a :class:`DistillConfig` if it has a teacher."""
    recipe = read_config(RECIPE)
    steps = settings.backbone_steps if backbone else settings.steps
    rate = settings.backbone_learning_rate if backbone else settings.learning_rate
    augmentation = recipe.augmentation
    if variant.modality == "both":
        augmentation = replace(
            augmentation, misalignment=settings.misalignment, failing=settings.failing
        )
    else:
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
        self.out = out
        self.device = device
        self.workers = workers
        self.on_progress = on_progress

    def trials(self) -> list[Trial]:
        path = self.out / RESULTS
        return read_trials([path]) if path.exists() else []

    def backbone(
        self, settings: StudySettings, given: str | Path | None
    ) -> tuple[Path, StudySettings]:
        """Return the file that all variants start from, and the settings that name it."""
        if given is None:
            config = make_config(BACKBONE, 0, settings, backbone=True, workers=self.workers)
            folder = self.out / f"backbone-{settings.backbone_steps}"
            path = self.train(config, "backbone", folder).model
        else:
            path = Path(given)
            settings = replace(settings, backbone_steps=0)
        digest = sha256(path.read_bytes()).hexdigest()
        return path, replace(settings, backbone=digest[:8])

    def folder(self, name: str, seed: int, settings: StudySettings) -> Path:
        return self.out / "trainings" / f"{name}-{seed}-{settings.key}"

    def train(self, config: TrainConfig, title: str, folder: Path, **inputs: Any) -> TrainResult:
        options: dict[str, Any] = {
            "out": folder,
            "device": str(self.device),
            "on_progress": lambda progress: self.on_progress(f"{title}: training", progress),
            **inputs,
        }
        if isinstance(config, DistillConfig):
            return distill(config, **options)
        return train(config, **options)

    def trial(self, name: str, seed: int, settings: StudySettings, start: Path) -> Trial:
        """Train and score one variant, and append the line."""
        variant = VARIANTS[name]
        title = f"{variant.title}, seed {seed}"
        inputs: dict[str, Any] = {"start_from": start}
        if variant.teacher is not None:
            inputs["teacher"] = self.folder(variant.teacher, seed, settings) / "model.safetensors"
        config = make_config(variant, seed, settings, workers=self.workers)
        folder = self.folder(name, seed, settings)
        result = self.train(config, title, folder, **inputs)
        self.on_progress(f"{title}: scoring", None)
        groups = study_sequences(
            settings.challenges, sequences=settings.sequences, frames=settings.frames
        )
        scores = self.score(name, result.model, groups, folder / "boxes")
        aligned = None
        if settings.imperfect_cameras and variant.modality == "both":
            aligned = self.score_aligned(name, title, result.model, groups, settings)
        model = load_model(result.model)
        curve = _read_log(result.log)
        record = new_record("study", self.device.type, "")
        trial = Trial(
            variant=name,
            seed=seed,
            settings=settings,
            success=_by_challenge(scores, "MSR"),
            precision=_by_challenge(scores, "MPR"),
            parameters=sum(value.numel() for value in model.parameters()),
            network_ms=network_ms(model),
            train_seconds=_train_seconds(curve, config.batch_size),
            curve={name: curve[name] for name in CURVE_COLUMNS},
            version=record.version,
            commit=record.commit,
            machine=record.machine.name,
            device=record.device,
            torch=record.software["torch"],
            created=record.created,
            sequences=_by_sequence(scores),
            aligned=aligned,
        )
        append_trial(self.out / RESULTS, trial)
        self.on_progress(f"{title}: success {trial.success['all']:.3f}", None)
        return trial

    def score(
        self,
        name: str,
        model: Path,
        groups: Groups,
        folder: Path,
        **made_with: str,
    ) -> Scores:
        """Run a trained variant over sequences; its boxes stay in ``folder``."""
        return score_tracker(
            partial(_tracker, model, self.device),
            groups,
            name=name,
            modality=check_choice(VARIANTS[name].modality, SCORED_MODALITIES, name="modality"),
            folder=folder,
            settings={"weights": sha256(model.read_bytes()).hexdigest(), **made_with},
            workers=max(1, self.workers),
        )

    def score_aligned(
        self,
        name: str,
        title: str,
        model: Path,
        groups: dict[str, tuple[Any, ...]],
        settings: StudySettings,
    ) -> AlignedScores:
        """Run a trained variant over the same sequences with aligned thermal frames."""
        alignments = self.alignments(groups, settings)
        self.on_progress(f"{title}: scoring on aligned frames", None)
        scores = self.score(
            name,
            model,
            aligned_groups(groups, alignments),  # pyright: ignore[reportArgumentType]
            model.parent / "boxes_aligned",
            alignments=digest(alignments),
        )
        unsure = {
            challenge: sum(not alignments[one.name].sure for one in members)
            for challenge, members in groups.items()
        }
        return AlignedScores(
            success=_by_challenge(scores, "MSR"),
            precision=_by_challenge(scores, "MPR"),
            sequences=_by_sequence(scores),
            unsure=unsure,
        )

    def alignments(
        self, groups: dict[str, tuple[Any, ...]], settings: StudySettings
    ) -> dict[str, Alignment]:
        """Return the alignment of each sequence, by its name.

        No network takes part in it: the first variant estimates, the others read the files.
        """
        self.on_progress("alignments of the held-out sequences", None)
        folder = self.out / "alignments" / f"{settings.frames}-frames"
        every = chain.from_iterable(groups.values())
        return {one.name: kept_alignment(one, folder) for one in every}


def network_ms(model: TrackingNetwork, *, rounds: int = 40) -> float:
    """Return the median milliseconds of a network for one frame on the CPU.

    Its template is embedded before.
    """
    model = model.cpu().eval()
    template = _random_images(model.template_size)
    search = _random_images(model.search_size)
    times = []
    with torch.inference_mode():
        tokens = model.embed_template(template)
        state = model(tokens, search).state
        for _ in range(rounds):
            start = time.perf_counter()
            model(tokens, search, state)
            times.append(1e3 * (time.perf_counter() - start))
    return round(median(times), 3)


def _random_images(size: int) -> ImagePair:
    return ImagePair(*torch.rand(2, 1, 3, size, size))


def _tracker(path: Path, device: torch.device) -> Tracker:
    return Tracker(load_model(path), device=device)


def _by_challenge(scores: Scores, metric: str) -> dict[str, float]:
    found = {name: one.metrics[metric] for name, one in scores.attributes.items()}
    found["all"] = scores.metrics[metric]
    return {name: round(value, 5) for name, value in found.items()}


def _by_sequence(scores: Scores) -> dict[str, float]:
    return {name: numbers["MSR"] for name, numbers in scores.sequences.items()}


CURVE_COLUMNS = ("step", "focal", "giou", "l1", "iou")
"""Columns of the log that all trainings have."""


def _read_log(path: Path) -> dict[str, list[float]]:
    """Return the columns of a training's log that the study needs."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = (*CURVE_COLUMNS, "samples_per_second")
    return {name: [float(row[name]) for row in rows] for name in names}


def _train_seconds(log: dict[str, list[float]], batch_size: int) -> float:
    """Return how long a training took in all, also if it was interrupted."""
    seconds = 0.0
    start = 0.0
    for stop, speed in zip(log["step"], log["samples_per_second"], strict=True):
        seconds += (stop - start) * batch_size / speed
        start = stop
    return round(seconds, 1)


def _ignore_progress(what: str, progress: Progress | None) -> None:
    """Ignore progress."""

"""What a training is told: frozen dataclasses, read from TOML, refused where they make no sense."""

import math
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int
from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.models.presets import MODELS
from rgbt_fusion.synthetic.plan import CHALLENGES

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "LossConfig",
    "OptimiserConfig",
    "TrainConfig",
    "config_from_table",
    "config_to_table",
    "list_recipes",
    "parse_toml",
    "read_config",
    "read_table",
]

MODALITIES = ("both", "rgb", "tir", "either")
PRECISIONS = ("float32", "float64", "bfloat16", "float16")
SCHEDULES = ("constant", "step", "cosine")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where samples come from: how the dataset is laid out, or what the synthetic world shows."""

    layout: str = "synthetic"
    """A key of ``LAYOUTS``, or ``"synthetic"``."""
    max_gap: int = 200
    """Frames at most between template and search crop."""
    workers: int = 1
    """Processes that make samples; 0 makes them between the steps."""
    sequences: int = 4000
    """Synthetic only: how many different sequences there are."""
    frames: int = 120
    """Synthetic only: their length."""
    challenges: tuple[str, ...] = CHALLENGES
    """Synthetic only: what they are drawn from, each as often; repeat one to see it more often."""

    def __post_init__(self) -> None:
        check_choice(self.layout, ("synthetic", *LAYOUTS), name="data.layout")
        check_positive_int(self.max_gap, name="data.max_gap")
        _check_count(self.workers, name="data.workers")
        check_positive_int(self.sequences, name="data.sequences")
        check_positive_int(self.frames, name="data.frames")
        if not self.challenges:
            raise ValueError("data.challenges must name at least one challenge, got none")
        for challenge in self.challenges:
            check_choice(challenge, CHALLENGES, name="data.challenges")


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How samples are varied; the defaults are OSTrack's. Both modalities are always varied alike.

    The search crop's centre moves by up to half of ``centre_jitter`` times the target's size, its
    side is multiplied by exp(``scale_jitter`` * N(0, 1)). The rest are probabilities, or ranges
    around 1, but ``rotation``, which is in degrees.
    """

    centre_jitter: float = 3.0
    scale_jitter: float = 0.25
    rotation: float = 0.0
    flip: float = 0.5
    grey: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.0
    blur: float = 0.0
    missing: float = 0.0
    """How often the search crop of one modality is blank, as that of a camera that failed."""

    def __post_init__(self) -> None:
        for name in ("flip", "grey", "blur", "missing"):
            check_finite_number(getattr(self, name), name=f"augmentation.{name}", low=0.0, high=1.0)
        for name in ("brightness", "contrast"):
            check_finite_number(
                getattr(self, name), name=f"augmentation.{name}", low=0.0, high=0.99
            )
        check_finite_number(self.rotation, name="augmentation.rotation", low=0.0, high=180.0)
        check_finite_number(self.scale_jitter, name="augmentation.scale_jitter", low=0.0, high=1.0)
        check_finite_number(self.centre_jitter, name="augmentation.centre_jitter", low=0.0)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW and its schedule; the defaults are OSTrack's."""

    learning_rate: float = 1e-4
    backbone_factor: float = 0.1
    """The encoder's learning rate in units of the others'."""
    weight_decay: float = 1e-4
    clip_norm: float = 0.1
    """The gradient's largest norm; 0 lets any pass."""
    schedule: str = "step"
    """``"constant"``; ``"step"``: a tenth after ``drop_at`` of the steps; ``"cosine"``: down to a
hundredth."""
    drop_at: float = 0.8
    warmup_steps: int = 0
    """Steps during which the learning rate rises from 0."""
    average_decay: float = 0.0
    """Of the exponential average of the weights, which is then what is saved as the model; 0 takes
none."""

    def __post_init__(self) -> None:
        check_finite_number(self.learning_rate, name="optimiser.learning_rate", low=0.0)
        check_finite_number(self.backbone_factor, name="optimiser.backbone_factor", low=0.0)
        check_finite_number(self.weight_decay, name="optimiser.weight_decay", low=0.0)
        check_finite_number(self.clip_norm, name="optimiser.clip_norm", low=0.0)
        check_choice(self.schedule, SCHEDULES, name="optimiser.schedule")
        check_finite_number(self.drop_at, name="optimiser.drop_at", low=0.0, high=1.0)
        _check_count(self.warmup_steps, name="optimiser.warmup_steps")
        check_finite_number(
            self.average_decay, name="optimiser.average_decay", low=0.0, high=0.99999
        )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of :class:`~rgbt_fusion.losses.localization.LocalizationLoss`."""

    focal_weight: float = 1.0
    giou_weight: float = 2.0
    l1_weight: float = 5.0

    def __post_init__(self) -> None:
        for one in fields(self):
            check_finite_number(getattr(self, one.name), name=f"loss.{one.name}", low=0.0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All that decides what a training computes; machine paths and the device are arguments of
    ``train``.

    Args:
        model: the preset to train, one of :func:`~rgbt_fusion.models.presets.list_models`.
        overrides: settings and options of the preset to change.
        modality: ``"both"``; ``"rgb"`` or ``"tir"``, the other being blank as a tracker shows a
            missing one; or ``"either"``: one of the two, drawn for each sample, in both places, for
            an encoder that knows no modality.
        steps: optimiser steps.
        batch_size: samples of a step, over all processes.
        seed: what weights, samples and dropped paths are drawn from.
        clip_length: search frames of a sample; more than one for models that remember the previous
            frame.
        template_factor: side of the template crop over the square root of the target's area.
        precision: ``"float32"``, ``"float64"``, or autocast's ``"bfloat16"`` or ``"float16"``.
        frozen: beginnings of the names of parameters that are not trained.
        start_share: how much of the model the file it starts from must provide; see
            ``load_checkpoint``.
        elimination_schedule: the shares of the training at which the keep ratio begins to fall and
            arrives.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
        data, augmentation, optimiser, loss: see their classes.

    Raises:
        ValueError, TypeError: a value out of range, or two that contradict each other.

    Example:
        >>> from rgbt_fusion.training import TrainConfig
        >>> TrainConfig(model="ostrack_tiny_128", steps=100).optimiser.learning_rate
        0.0001
    """

    model: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    modality: str = "both"
    steps: int = 1000
    batch_size: int = 32
    seed: int = 0
    clip_length: int = 1
    template_factor: float = 2.0
    precision: str = "float32"
    frozen: tuple[str, ...] = ()
    start_share: float | None = None
    elimination_schedule: tuple[float, ...] = (20 / 300, 100 / 300)
    checkpoint_every: int = 500
    log_every: int = 10
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        check_choice(self.model, MODELS, name="model")
        check_choice(self.modality, MODALITIES, name="modality")
        check_choice(self.precision, PRECISIONS, name="precision")
        for name in ("steps", "batch_size", "clip_length", "checkpoint_every", "log_every"):
            check_positive_int(getattr(self, name), name=name)
        _check_count(self.seed, name="seed")
        check_finite_number(self.template_factor, name="template_factor", low=1.0)
        if self.start_share is not None:
            check_finite_number(self.start_share, name="start_share", low=0.0, high=1.0)
        self._check_schedules()
        if self.modality != "both" and self.augmentation.missing:
            raise ValueError(
                f"augmentation.missing must be 0 where only one modality is shown, modality = {self.modality!r}, "
                f"got {self.augmentation.missing}"
            )

    def _check_schedules(self) -> None:
        if self.optimiser.warmup_steps >= self.steps and self.optimiser.warmup_steps:
            raise ValueError(
                f"optimiser.warmup_steps must be below steps = {self.steps}, got {self.optimiser.warmup_steps}"
            )
        schedule = self.elimination_schedule
        if len(schedule) != 2 or not 0 <= schedule[0] <= schedule[1] <= 1:
            raise ValueError(
                f"elimination_schedule must be two shares in order, in [0, 1], got {list(schedule)}"
            )


Config = TypeVar("Config", bound=TrainConfig)


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    found = (resources.files("rgbt_fusion") / "recipes").iterdir()
    return sorted(
        entry.name.removesuffix(".toml") for entry in found if entry.name.endswith(".toml")
    )


def read_table(name_or_file: str | Path) -> dict[str, Any]:
    """Return the content of a TOML file, or of the recipe of that name.

    Raises:
        FileNotFoundError: there is neither such a file nor such a recipe.
        ValueError: it is not TOML.
    """
    path = Path(name_or_file)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif str(name_or_file) in list_recipes():
        text = (resources.files("rgbt_fusion") / "recipes" / f"{name_or_file}.toml").read_text(
            encoding="utf-8"
        )
    else:
        known = ", ".join(list_recipes())
        raise FileNotFoundError(
            f"config must be a file or one of the recipes {known}; got {str(name_or_file)!r}"
        )
    return parse_toml(text, name=str(name_or_file))


def parse_toml(text: str, *, name: str) -> dict[str, Any]:
    """Return the content of a TOML text.

    Raises:
        ValueError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} must be TOML: {error}") from None


def read_config(name_or_file: str | Path) -> TrainConfig:
    """Read a :class:`TrainConfig` from a TOML file, or from the recipe of that name.

    Raises:
        FileNotFoundError: there is neither such a file nor such a recipe.
        ValueError: it is not TOML, a key is unknown, a value is of the wrong type or out of range,
            or two contradict each other.

    Example:
        >>> from rgbt_fusion.training.config import read_config
        >>> read_config("ainet_tiny_128_synthetic").batch_size
        32
    """
    return config_from_table(TrainConfig, read_table(name_or_file))


def config_from_table(kind: type[Config], table: Mapping[str, Any]) -> Config:
    """Build a config from plain values, such as TOML gives them.

    Raises:
        ValueError: see :func:`read_config`.
    """
    return _build(kind, table, "")


def config_to_table(config: TrainConfig) -> dict[str, Any]:
    """Return a config as plain values, as a checkpoint holds it."""
    return _plain(asdict(config))


def _build(kind: Any, table: Mapping[str, Any], prefix: str) -> Any:
    known = {one.name: one for one in fields(kind)}
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"unknown key {prefix}{unknown[0]}; known are {', '.join(known)}")
    needed = [
        name
        for name, one in known.items()
        if one.default is MISSING and one.default_factory is MISSING
    ]
    for name in needed:
        if name not in table:
            raise ValueError(f"{prefix}{name} must be given")
    hints = get_type_hints(kind)
    values = {name: _value(hints[name], value, f"{prefix}{name}") for name, value in table.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _value(hint: Any, value: Any, name: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a table, got {value!r}")
        return _build(hint, value, f"{name}.")
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(get_args(hint)[0], value, name)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list, got {value!r}")
        return tuple(_value(get_args(hint)[0], one, f"{name}[{i}]") for i, one in enumerate(value))
    if origin is not None:  # the mapping of overrides
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a table, got {value!r}")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{name} must be {_TYPES[hint]}, got {value!r}")
    return value


_TYPES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _check_count(value: Any, *, name: str) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < 0
        or not math.isfinite(value)
    ):
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")

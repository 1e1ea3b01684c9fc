"""The settings of a training: frozen dataclasses, read from TOML and checked."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from rgbt_fusion.checks import check_choice, check_finite_number, check_positive_int, did_you_mean
from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.files.plain import from_plain, to_plain
from rgbt_fusion.files.text_tables import read_text
from rgbt_fusion.models.named import names_code
from rgbt_fusion.models.presets import MODELS, check_preset_name
from rgbt_fusion.synthetic.plan import CHALLENGES, Challenge

__all__ = [
    "GIVEN",
    "AugmentationConfig",
    "DataConfig",
    "LossConfig",
    "MoreData",
    "OptimiserConfig",
    "Precision",
    "Schedule",
    "TrainConfig",
    "TrainingModality",
    "ValidationConfig",
    "config_from_table",
    "config_to_table",
    "list_recipes",
    "parse_toml",
    "read_config",
    "read_table",
    "recipe_text",
]

TrainingModality: TypeAlias = Literal["both", "rgb", "tir", "either"]
Precision: TypeAlias = Literal["float32", "float64", "bfloat16", "float16"]
Schedule: TypeAlias = Literal["constant", "step", "cosine"]

GIVEN = "given"
"""The ``model`` of a config whose network is handed to ``train``."""

SINCE_0_1_0 = (
    ("optimiser", "decay_everything"),
    ("data", "weight"),
    ("data", "more"),
    ("data", "absent"),
    ("data", "wide"),
    ("data", "most_damaged"),
    ("augmentation", "failing"),
    ("augmentation", "misalignment"),
    ("loss", "reliability_weight"),
    ("loss", "alignment_weight"),
    ("", "activation_checkpointing"),
    ("", "validation"),
)
"""The settings that 0.1.0 does not know, each behind its table."""

MODALITIES: tuple[TrainingModality, ...] = get_args(TrainingModality)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True, kw_only=True)
class MoreData:
    """A further dataset of the same training.

    Raises:
        ValueError: a value is out of range or unknown.
        TypeError: the weight is not a number.
    """

    layout: str
    """A key of ``LAYOUTS``, or ``"synthetic"``."""
    weight: float = 1.0
    """How often a sample is drawn from this dataset, next to the weights of the others."""

    def __post_init__(self) -> None:
        check_choice(self.layout, ("synthetic", *LAYOUTS), name="data.more.layout")
        _check_weight(self.weight, name="data.more.weight")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where samples come from: a dataset's layout, or what the synthetic world shows.

    Raises:
        ValueError: a value is out of range or unknown.
        TypeError: a value is not a whole number where one is needed.
    """

    layout: str = "synthetic"
    """A key of ``LAYOUTS``, or ``"synthetic"``."""
    max_gap: int = 200
    """Largest number of frames between template and search crop."""
    workers: int = 1
    """Number of processes that make samples; 0 makes them between the steps."""
    sequences: int = 4000
    """Synthetic only: how many different sequences there are."""
    frames: int = 120
    """Synthetic only: number of frames per sequence."""
    challenges: tuple[Challenge, ...] = CHALLENGES
    """Synthetic only: what happens in the sequences. Each entry is drawn equally often, so a
    repeated one is seen more often."""
    wide: float = 0.0
    """Synthetic only: share of the sequences that are of the wide world, with objects of any size,
    lookalikes that cross and imperfect cameras."""
    weight: float = 1.0
    """How often a sample is drawn from this dataset, next to the weights of ``more``."""
    more: tuple[MoreData, ...] = ()
    """Further datasets to draw samples from, in the order of their folders."""
    absent: float = 0.0
    """Share of the samples whose search crops do not show the target: the score map is then
    trained to be 0 everywhere. They are frames that the dataset marks so, or another sequence."""
    most_damaged: int = 100
    """How many samples that cannot be read are replaced by others before the training ends with
    an error; 0 ends it at the first one."""

    def __post_init__(self) -> None:
        check_choice(self.layout, ("synthetic", *LAYOUTS), name="data.layout")
        check_positive_int(self.max_gap, name="data.max_gap")
        _check_count(self.workers, name="data.workers")
        check_positive_int(self.sequences, name="data.sequences")
        check_positive_int(self.frames, name="data.frames")
        _check_weight(self.weight, name="data.weight")
        check_finite_number(self.wide, name="data.wide", low=0.0, high=1.0)
        check_finite_number(self.absent, name="data.absent", low=0.0, high=1.0)
        _check_count(self.most_damaged, name="data.most_damaged")
        if not self.challenges:
            raise ValueError("data.challenges must name at least one challenge, got none")
        for challenge in self.challenges:
            check_choice(challenge, CHALLENGES, name="data.challenges")


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How samples are varied, both modalities in the same way; the defaults are OSTrack's.

    Raises:
        ValueError: a value is out of range.
        TypeError: a value is not a number.
    """

    centre_jitter: float = 3.0
    """The centre of the search crop moves by up to half of this times the target's size."""
    scale_jitter: float = 0.25
    """The side of the search crop is multiplied by exp(``scale_jitter`` * N(0, 1))."""
    rotation: float = 0.0
    """Largest rotation of the search crop in degrees."""
    flip: float = 0.5
    """Probability that a sample is mirrored left to right."""
    grey: float = 0.05
    """Probability that a sample loses its colours."""
    brightness: float = 0.2
    """Largest change of the brightness, as a share."""
    contrast: float = 0.0
    """Largest change of the contrast, as a share."""
    blur: float = 0.0
    """Probability that a crop is blurred."""
    missing: float = 0.0
    """Probability that one modality of the search crop is blank, as if its camera had failed."""
    failing: float = 0.0
    """Probability that one modality of the search crop shows no scene or another one: a flat or
    saturated image, noise alone, an earlier frame, the image of another sequence, or the two
    cameras swapped."""
    misalignment: float = 0.0
    """Largest shift of the thermal image against the colour one, in heights of the target; its
    scale then differs by up to 5 %. It is the same in the template and in the search crops."""

    def __post_init__(self) -> None:
        for name in ("flip", "grey", "blur", "missing", "failing"):
            check_finite_number(getattr(self, name), name=f"augmentation.{name}", low=0.0, high=1.0)
        for name in ("brightness", "contrast"):
            check_finite_number(
                getattr(self, name), name=f"augmentation.{name}", low=0.0, high=0.99
            )
        check_finite_number(self.rotation, name="augmentation.rotation", low=0.0, high=180.0)
        check_finite_number(self.scale_jitter, name="augmentation.scale_jitter", low=0.0, high=1.0)
        check_finite_number(self.centre_jitter, name="augmentation.centre_jitter", low=0.0)
        check_finite_number(self.misalignment, name="augmentation.misalignment", low=0.0, high=2.0)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW and its schedule; the defaults are OSTrack's.

    Raises:
        ValueError: a value is out of range or unknown.
        TypeError: a value is not a number where one is needed.
    """

    learning_rate: float = 1e-4
    """The learning rate of everything but the encoder."""
    backbone_factor: float = 0.1
    """The encoder's learning rate as a share of ``learning_rate``."""
    weight_decay: float = 1e-4
    """AdamW's weight decay."""
    decay_everything: bool = True
    """Also decay norms and what a layer marks as ``_no_weight_decay``: ``A_log`` and ``D`` of a
    Mamba, as its authors do. The published trackers decay all of them, and so did 0.1.0."""
    clip_norm: float = 0.1
    """Largest norm of the gradient; 0 does not limit it."""
    schedule: Schedule = "step"
    """How the learning rate falls: ``"constant"`` does not, ``"step"`` falls to a tenth after
    ``drop_at`` of the steps, ``"cosine"`` falls to a hundredth."""
    drop_at: float = 0.8
    """Share of the steps after which ``"step"`` falls."""
    warmup_steps: int = 0
    """Number of steps during which the learning rate rises from 0."""
    average_decay: float = 0.0
    """Decay of the exponential average of the weights, which is saved as the model. 0 keeps no
    average and saves the last weights."""

    def __post_init__(self) -> None:
        check_finite_number(self.learning_rate, name="optimiser.learning_rate", low=0.0)
        check_finite_number(self.backbone_factor, name="optimiser.backbone_factor", low=0.0)
        check_finite_number(self.weight_decay, name="optimiser.weight_decay", low=0.0)
        if not isinstance(self.decay_everything, bool):
            raise TypeError(
                f"optimiser.decay_everything must be true or false, got {self.decay_everything!r}"
            )
        check_finite_number(self.clip_norm, name="optimiser.clip_norm", low=0.0)
        check_choice(self.schedule, SCHEDULES, name="optimiser.schedule")
        check_finite_number(self.drop_at, name="optimiser.drop_at", low=0.0, high=1.0)
        _check_count(self.warmup_steps, name="optimiser.warmup_steps")
        check_finite_number(
            self.average_decay, name="optimiser.average_decay", low=0.0, high=0.99999
        )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of :class:`~rgbt_fusion.losses.localization.LocalizationLoss`.

    Raises:
        ValueError: a weight is negative or not finite.
        TypeError: a weight is not a number.
    """

    focal_weight: float = 1.0
    """Weight of the focal loss on the score map."""
    giou_weight: float = 2.0
    """Weight of the GIoU loss on the box."""
    l1_weight: float = 5.0
    """Weight of the L1 loss on the box."""
    reliability_weight: float = 1.0
    """Weight of the loss on the reliability of the modalities, of a network that estimates it:
    samples say which camera does not show the target."""
    alignment_weight: float = 1.0
    """Weight of the loss on the offset of the thermal crop, of a network that estimates it:
    samples say how far it is off."""

    def __post_init__(self) -> None:
        for one in fields(self):
            check_finite_number(getattr(self, one.name), name=f"loss.{one.name}", low=0.0)


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """How a training is measured on sequences that it never shows.

    The figure is the success of the tracker itself (the area under its success curve, the mean
    over the sequences), not the loss of crops.

    Raises:
        ValueError: a value is out of range, or ``patience`` is set without ``every``.
    """

    every: int = 0
    """Number of steps between validations; 0 makes none, and holds no sequence out."""
    sequences: int = 20
    """How many sequences are held out: of a dataset they are drawn by the seed and not trained on;
    the synthetic world has places and objects that no training shows."""
    frames: int = 100
    """Track at most this many frames per sequence."""
    patience: int = 0
    """End the training after this many validations without a better success; 0 never does."""

    def __post_init__(self) -> None:
        _check_count(self.every, name="validation.every")
        check_positive_int(self.sequences, name="validation.sequences")
        if check_positive_int(self.frames, name="validation.frames") < 2:
            raise ValueError(f"validation.frames must be at least 2, got {self.frames}")
        _check_count(self.patience, name="validation.patience")
        if self.patience and not self.every:
            raise ValueError(
                f"validation.patience must come with validation.every, got {self.patience} without"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a training computes.

    Machine paths and the device are not settings: they are arguments of ``train``.

    Args:
        model: the preset to train, one of :func:`~rgbt_fusion.models.presets.list_models`; or
            ``"package.module:function"``, which builds a network of your own; or ``"given"`` for a
            network that is handed to ``train``.
        overrides: settings and options of the preset to change, or the arguments of the function.
        modality: what the model is shown. ``"both"``; ``"rgb"`` or ``"tir"``, the other one being
            blank; ``"either"`` shows one of the two in both places, drawn per sample, for an
            encoder that does not tell modalities apart.
        steps: number of optimiser steps.
        batch_size: samples per step, over all processes.
        seed: decides initial weights, samples and dropped paths.
        clip_length: search frames per sample; more than one for models with a memory.
        template_factor: side of the template crop over the square root of the target's area.
        precision: ``"float32"``, ``"float64"``, or autocast's ``"bfloat16"`` or ``"float16"``.
        frozen: beginnings of the names of parameters that are not trained.
        start_share: the share of the model that the file of initial weights must provide; see
            ``load_checkpoint``.
        elimination_schedule: the shares of the training between which the keep ratio falls from 1
            to the model's.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
        activation_checkpointing: compute the blocks of the network a second time in the backward
            pass instead of keeping what they computed: less memory, more time, the same weights.
        data: see :class:`DataConfig`.
        augmentation: see :class:`AugmentationConfig`.
        optimiser: see :class:`OptimiserConfig`.
        loss: see :class:`LossConfig`.
        validation: see :class:`ValidationConfig`.

    Raises:
        ValueError: a value is out of range, or two values contradict each other.
        TypeError: a value is not a number where one is needed.

    Example:
        >>> from rgbt_fusion.training import TrainConfig
        >>> TrainConfig(model="ostrack_tiny_128", steps=100).optimiser.learning_rate
        0.0001
    """

    model: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    modality: TrainingModality = "both"
    steps: int = 1000
    batch_size: int = 32
    seed: int = 0
    clip_length: int = 1
    template_factor: float = 2.0
    precision: Precision = "float32"
    frozen: tuple[str, ...] = ()
    start_share: float | None = None
    elimination_schedule: tuple[float, ...] = (20 / 300, 100 / 300)
    checkpoint_every: int = 500
    log_every: int = 10
    activation_checkpointing: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        self._check_model()
        check_choice(self.modality, MODALITIES, name="modality")
        check_choice(self.precision, PRECISIONS, name="precision")
        for name in ("steps", "batch_size", "clip_length", "checkpoint_every", "log_every"):
            check_positive_int(getattr(self, name), name=name)
        _check_count(self.seed, name="seed")
        check_finite_number(self.template_factor, name="template_factor", low=1.0)
        if not isinstance(self.activation_checkpointing, bool):
            raise TypeError(
                "activation_checkpointing must be true or false, "
                f"got {self.activation_checkpointing!r}"
            )
        if self.start_share is not None:
            check_finite_number(self.start_share, name="start_share", low=0.0, high=1.0)
        self._check_schedules()
        if self.modality != "both" and self.augmentation.missing:
            raise ValueError(
                "augmentation.missing must be 0 where only one modality is shown, "
                f"modality = {self.modality!r}, got {self.augmentation.missing}"
            )

    def _check_model(self) -> None:
        if not isinstance(self.model, str):
            raise TypeError(
                "model must be a name; hand your own network to "
                f"train(config, model=network) with model={GIVEN!r} here, "
                f"got {type(self.model).__name__}"
            )
        if self.model == GIVEN and self.overrides:
            raise ValueError(f"overrides must be empty for a given network, got {self.overrides}")
        if self.model != GIVEN and not names_code(self.model):
            check_preset_name(self.model, name="model")

    def _check_schedules(self) -> None:
        warmup_steps = self.optimiser.warmup_steps
        if 0 < warmup_steps >= self.steps:
            raise ValueError(
                f"optimiser.warmup_steps must be below steps = {self.steps}, got {warmup_steps}"
            )
        shares = self.elimination_schedule
        if len(shares) != 2 or not 0 <= shares[0] <= shares[1] <= 1:
            raise ValueError(
                f"elimination_schedule must be two shares in order, in [0, 1], got {list(shares)}"
            )


Config = TypeVar("Config", bound=TrainConfig)


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    files = [entry.name for entry in (resources.files("rgbt_fusion") / "recipes").iterdir()]
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def read_table(name_or_file: str | Path) -> dict[str, Any]:
    """Return the content of a TOML file, or of the recipe of that name.

    Raises:
        FileNotFoundError: ``name_or_file`` is neither a file nor a recipe.
        ValueError: the file is not TOML.
    """
    name = str(name_or_file)
    path = Path(name_or_file)
    if path.is_file():
        return parse_toml(read_text(path), name=name)
    return parse_toml(recipe_text(name), name=name)


def recipe_text(name: str) -> str:
    """Return the TOML text of a recipe.

    Raises:
        FileNotFoundError: there is no recipe of this name; the error shows the nearest ones.
    """
    known = list_recipes()
    if name not in known:
        hint = did_you_mean(name, known, most=3)
        if name in MODELS:
            hint = f", which is a preset: name a recipe, and add --set model={name}"
        raise FileNotFoundError(
            f"config must be a file or one of the recipes {', '.join(known)}; got {name!r}{hint}"
        )
    recipe = resources.files("rgbt_fusion") / "recipes" / f"{name}.toml"
    return recipe.read_text(encoding="utf-8")


def parse_toml(text: str, *, name: str) -> dict[str, Any]:
    """Return the content of a TOML text; ``name`` is what an error calls it.

    Raises:
        ValueError: ``text`` is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be TOML: {error}") from None


def read_config(name_or_file: str | Path) -> TrainConfig:
    """Read a :class:`TrainConfig` from a TOML file, or from the recipe of that name.

    Raises:
        FileNotFoundError: ``name_or_file`` is neither a file nor a recipe.
        ValueError: the file is not TOML, a key is unknown, a value has the wrong type or is out of
            range, or two values contradict each other.

    Example:
        >>> from rgbt_fusion.training.config import read_config
        >>> read_config("ainet_tiny_128_synthetic").batch_size
        32
    """
    return config_from_table(TrainConfig, read_table(name_or_file))


def config_from_table(kind: type[Config], table: Mapping[str, Any]) -> Config:
    """Build a config from plain values, as TOML has them.

    Raises:
        ValueError: a key is unknown, a value has the wrong type or is out of range, or two values
            contradict each other.
    """
    return from_plain(kind, table)


def config_to_table(config: TrainConfig) -> dict[str, Any]:
    """Return a config as plain values, which is how a checkpoint holds it.

    A setting that 0.1.0 does not know is left out at its default: 0.1.0 reads such a checkpoint.
    """
    table = to_plain(config)
    for place, name in SINCE_0_1_0:
        settings = table[place] if place else table
        usual = _USUAL[place] if place else _USUAL
        if settings[name] == usual[name]:
            del settings[name]
    return table


def _check_weight(value: Any, *, name: str) -> None:
    if not check_finite_number(value, name=name, low=0.0):
        raise ValueError(f"{name} must be above 0, got {value!r}")


def _check_count(value: Any, *, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")


_USUAL = to_plain(TrainConfig(model=GIVEN))
"""Every setting at its default."""

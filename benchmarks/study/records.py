"""The study's result file: one line per trial, appended, so that it can grow in pieces."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

from benchmarks.study.challenges import IMPERFECT_CAMERAS
from benchmarks.study.variants import VARIANTS
from rgbt_fusion.checks import check_finite_number, check_positive_int
from rgbt_fusion.evaluation.held_out import HARD
from rgbt_fusion.files.plain import from_plain
from rgbt_fusion.files.text_tables import DataError, read_text
from rgbt_fusion.files.whole import write_text

__all__ = [
    "AlignedScores",
    "StudySettings",
    "Trial",
    "append_trial",
    "by_settings",
    "read_trials",
]

_SINCE_0_1_0 = ("imperfect_cameras", "misalignment", "failing")
"""The settings that 0.1.0 does not know."""

MOST_BYTES = 1 << 28
"""The largest result file: a trial takes 3 to 20 kB."""


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What all variants have in common: trials of different settings are never compared.

    Args:
        steps: training steps of a variant.
        batch_size: samples in one step.
        learning_rate: highest learning rate of a variant.
        backbone_steps: training steps of the backbone that every variant starts from; 0 where it
            came from a file.
        backbone_learning_rate: highest learning rate of the backbone.
        backbone: beginning of the hash of the backbone's file; the study fills it in.
        sequences: held-out sequences of each challenge.
        frames: length of the held-out sequences.
        imperfect_cameras: score also on cameras that are farther apart and on empty modalities, and
            networks of two modalities with the thermal frames aligned as well.
        misalignment: largest shift of the thermal image in training samples of both modalities, in
            heights of the target.
        failing: share of these samples in which one modality shows no scene or another one.

    Raises:
        ValueError: a number is out of range.
        TypeError: a number is of another type.
    """

    steps: int = 500
    batch_size: int = 32
    learning_rate: float = 5e-4
    backbone_steps: int = 3000
    backbone_learning_rate: float = 1e-3
    backbone: str = ""
    sequences: int = 10
    frames: int = 60
    imperfect_cameras: bool = False
    misalignment: float = 0.0
    failing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "sequences", "frames"):
            check_positive_int(getattr(self, name), name=name)
        for name in ("learning_rate", "backbone_learning_rate"):
            check_finite_number(getattr(self, name), name=name, low=0.0)
        if self.backbone_steps < 0:
            raise ValueError(f"backbone_steps must be at least 0, got {self.backbone_steps}")
        check_finite_number(self.misalignment, name="misalignment", low=0.0, high=2.0)
        check_finite_number(self.failing, name="failing", low=0.0, high=1.0)

    @property
    def challenges(self) -> tuple[str, ...]:
        """What the trials are scored on."""
        return IMPERFECT_CAMERAS if self.imperfect_cameras else HARD

    @property
    def key(self) -> str:
        """Eight letters that differ where the settings do; folders of trainings end with them."""
        values = asdict(self)
        for name in _SINCE_0_1_0:
            # studies of 0.1.0 are continued: what it does not know is left out at its default
            if values[name] == getattr(type(self), name):
                del values[name]
        content = json.dumps(values, sort_keys=True)
        return sha256(content.encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class AlignedScores:
    """What a network reaches with the thermal frames laid on the colour frames."""

    success: dict[str, float]
    """Success by challenge, and the mean of all as ``"all"``."""
    precision: dict[str, float]
    sequences: dict[str, float]
    """Success by sequence."""
    unsure: dict[str, int]
    """How many sequences per challenge went on unaligned, since the estimate was not sure."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One variant trained from one seed and scored."""

    variant: str
    seed: int
    settings: StudySettings
    success: dict[str, float]
    """Success by challenge, and the mean of all as ``"all"``."""
    precision: dict[str, float]
    parameters: int
    network_ms: float
    """Median time of the network alone for one frame."""
    train_seconds: float
    curve: dict[str, list[float]]
    """The log of the training, one list per column."""
    version: str
    commit: str
    machine: str
    device: str
    torch: str
    created: str
    sequences: dict[str, float] = field(default_factory=dict)
    """Success by sequence; empty in records of version 0.1.0."""
    aligned: AlignedScores | None = None
    """The same network with aligned frames; None where it is not scored so."""


def append_trial(path: Path, trial: Trial) -> None:
    """Add a line; what a kill left of an unfinished one is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    there = "".join(f"{line}\n" for line in _lines(path)) if path.exists() else ""
    write_text(path, there + json.dumps(asdict(trial)) + "\n")


def read_trials(paths: Iterable[Path]) -> list[Trial]:
    """Read result files.

    Of two trials of the same variant, seed and settings the later one counts.

    Raises:
        DataError: a line is no trial of this study.
        OSError: a file cannot be read.
    """
    found: dict[tuple[str, int, str], Trial] = {}
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            trial = _trial(line, f"{path}, line {number}")
            found[trial.variant, trial.seed, trial.settings.key] = trial
    return list(found.values())


def by_settings(trials: Iterable[Trial]) -> dict[StudySettings, list[Trial]]:
    """Sort trials by their settings, the largest study first."""
    groups: dict[StudySettings, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.settings, []).append(trial)
    largest_first = sorted(groups.items(), key=lambda group: len(group[1]), reverse=True)
    return dict(largest_first)


def _lines(path: Path) -> list[str]:
    """Return the lines of a result file, without one that a kill of an earlier version cut off.

    Editors and copies leave a last line without its end: what is whole JSON stays.
    """
    text = read_text(path, most_bytes=MOST_BYTES)
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        try:
            json.loads(lines[-1])
        except (ValueError, RecursionError):
            del lines[-1]
    return lines


def _trial(line: str, where: str) -> Trial:
    try:
        trial = from_plain(Trial, json.loads(line))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} must be a trial: {error}") from None
    if trial.variant not in VARIANTS:
        raise DataError(
            f"{where} must be a trial of a variant that this version knows, got {trial.variant!r}"
        )
    return trial

"""The study's result file: a line a trial, appended, so that it can grow in pieces."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.study.variants import VARIANTS
from rgbt_fusion.checks import check_finite_number, check_positive_int
from rgbt_fusion.files.text_tables import DataError

__all__ = ["Settings", "Trial", "append_trial", "by_settings", "read_trials"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all variants have in common: trials of different settings are never compared.

    Args:
        steps: of a variant.
        batch_size: samples of a step.
        learning_rate: at its highest.
        backbone_steps: of the backbone that every variant starts from; 0 where it came from a file.
        backbone_learning_rate: at its highest.
        backbone: what tells the backbone's file from others; it is found out.
        sequences: held-out sequences of each challenge.
        frames: their length.

    Raises:
        ValueError, TypeError: a number out of range.
    """

    steps: int = 500
    batch_size: int = 32
    learning_rate: float = 5e-4
    backbone_steps: int = 3000
    backbone_learning_rate: float = 1e-3
    backbone: str = ""
    sequences: int = 10
    frames: int = 60

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "sequences", "frames"):
            check_positive_int(getattr(self, name), name=name)
        for name in ("learning_rate", "backbone_learning_rate"):
            check_finite_number(getattr(self, name), name=name, low=0.0)
        if self.backbone_steps < 0:
            raise ValueError(f"backbone_steps must be at least 0, got {self.backbone_steps}")

    @property
    def key(self) -> str:
        """Eight letters that differ where the settings do."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One variant trained from one seed and scored."""

    variant: str
    seed: int
    settings: Settings
    success: dict[str, float]
    """By challenge, and their mean as ``"all"``."""
    precision: dict[str, float]
    parameters: int
    network_ms: float
    """The median time of the network alone for one frame."""
    train_seconds: float
    curve: dict[str, list[float]]
    """The log of the training, a list a column."""
    version: str
    commit: str
    machine: str
    device: str
    torch: str
    created: str


def append_trial(path: Path, trial: Trial) -> None:
    """Add a line; what a kill left of an unfinished one is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(asdict(trial)).encode() + b"\n")
        file.flush()


def read_trials(paths: Iterable[Path]) -> list[Trial]:
    """Read result files, the later trial of two of the same variant, seed and settings in the place
    of the earlier.

    Raises:
        DataError: a line is no trial of this study.
        OSError: a file cannot be read.
    """
    found: dict[tuple[str, int, str], Trial] = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        # behind the last end of a line is what a kill left
        for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
            trial = _trial(line, f"{path}, line {number}")
            found[trial.variant, trial.seed, trial.settings.key] = trial
    return list(found.values())


def by_settings(trials: Iterable[Trial]) -> dict[Settings, list[Trial]]:
    """Sort trials by their settings, the largest study first."""
    groups: dict[Settings, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.settings, []).append(trial)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _trial(line: str, where: str) -> Trial:
    try:
        content: dict[str, Any] = json.loads(line)
        content["settings"] = Settings(**content["settings"])
        trial = Trial(**content)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{where} must be a trial: {error}") from None
    if trial.variant not in VARIANTS:
        raise DataError(
            f"{where} must be a trial of a variant that this version knows, got {trial.variant!r}"
        )
    return trial

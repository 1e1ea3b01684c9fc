"""The one file that a training goes on from: written beside, synced, renamed."""

from pathlib import Path
from typing import Any

import torch

from rgbt_fusion.files.whole import writing
from rgbt_fusion.training.config import TrainConfig, config_to_table

__all__ = ["TrainingError", "check_same_training", "read_checkpoint", "write_checkpoint"]

FORMAT = 1
NOT_COMPUTED = ("checkpoint_every", "log_every", "data.workers")
"""Settings that may change when a training is resumed: no weight depends on them."""


class TrainingError(ValueError):
    """A training cannot start or go on; the message says what is left of it."""


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that the file is at any moment the old one or the new one, whole.

    Raises:
        TrainingError: it cannot be written; the old one is untouched.
    """
    try:
        with writing(path) as part, part.open("wb") as file:
            torch.save({"format": FORMAT} | content, file)
    except (OSError, RuntimeError) as error:
        reason = _reason(error)
        left = f"the last one is of step {_step_of(path)}" if path.exists() else "there is none yet"
        raise TrainingError(f"checkpoint {path} cannot be written: {reason}; {left}") from error


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint, None where there is none.

    Raises:
        TrainingError: the file is damaged or is something else.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(f"checkpoint {path} cannot be read: {_first_line(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(
            f"checkpoint {path} must be of format {FORMAT}: it is another program's"
        )
    return content


def check_same_training(config: TrainConfig, table: dict[str, Any], path: Path) -> None:
    """Check that a checkpoint was made with the same settings.

    Raises:
        TrainingError: a setting differs that decides what is computed.
    """
    ours, theirs = _flat(config_to_table(config)), _flat(table)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in NOT_COMPUTED and ours.get(name) != theirs.get(name):
            raise TrainingError(
                f"{name} must be {theirs.get(name)!r}, as in the training that {path} belongs to, got "
                f"{ours.get(name)!r}; choose another folder for another training"
            )


def _reason(error: BaseException) -> str:
    """Return why a file could not be written: torch hides the system's error behind one of its
    own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in table.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else {f"{prefix}{name}": value}
        )
    return flat


def _step_of(path: Path) -> object:
    try:
        content = read_checkpoint(path)
    except TrainingError:
        return "unknown"
    return content["step"] if content else "unknown"

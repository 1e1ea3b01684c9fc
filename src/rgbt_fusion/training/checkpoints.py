"""The checkpoint of a training: the one file that it resumes from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rgbt_fusion.checks import first_line
from rgbt_fusion.files.whole import writing
from rgbt_fusion.training.config import TrainConfig, config_to_table
from rgbt_fusion.weights.stored_tensors import check_torch_file

__all__ = [
    "FORMAT",
    "NOT_COMPUTED",
    "TrainingError",
    "check_same_alignment",
    "check_same_training",
    "decisive_settings",
    "read_checkpoint",
    "restoring",
    "write_checkpoint",
]

FORMAT = 1
"""The version of the file's content."""

NOT_COMPUTED = (
    "checkpoint_every",
    "log_every",
    "activation_checkpointing",
    "data.workers",
    "data.most_damaged",
    "validation.every",
    "validation.frames",
    "validation.patience",
)
"""Settings that may change when a training is resumed: no weight depends on them."""


class TrainingError(ValueError):
    """A training cannot start or continue; the message says which checkpoint is left."""


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; at every moment the file is the old one or the new one, complete.

    Raises:
        TrainingError: ``path`` cannot be written. The old checkpoint is untouched.
    """
    try:
        with writing(path) as part, part.open("wb") as file:
            torch.save({"format": FORMAT} | content, file)
    except (OSError, RuntimeError) as error:
        left = "there is none yet"
        if path.exists():
            left = f"the last one is of step {_step_of(path)}"
        raise TrainingError(
            f"checkpoint {path} cannot be written: {_reason(error)}; {left}"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint, None where there is no file.

    Raises:
        TrainingError: ``path`` is damaged or was written by another program.
    """
    if not path.exists():
        return None
    try:
        check_torch_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(f"checkpoint {path} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(
            f"checkpoint {path} must be of format {FORMAT}: it is another program's"
        )
    return content


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Say that a checkpoint does not fit where torch refuses a part of it.

    Raises:
        TrainingError: the content of ``path`` does not fit the training.
    """
    try:
        yield
    except Exception as error:  # torch raises whatever it meets in a state
        raise TrainingError(
            f"checkpoint {path} does not fit this training: {first_line(error)}"
        ) from error


def check_same_training(config: TrainConfig, table: Any, path: Path, *, done: int = 0) -> None:
    """Check that a checkpoint was made with the same settings.

    The number of steps may differ: what is left follows the schedules of the new number.

    Args:
        config: the settings now.
        table: those of the checkpoint.
        path: where the checkpoint is.
        done: how many steps it has made.

    Raises:
        TrainingError: ``config`` and ``table`` differ in a setting that decides what is computed,
            or there are fewer steps than are done.
    """
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
        raise TrainingError(f"checkpoint {path} must hold a table of settings, but does not")
    if config.steps < done:
        raise TrainingError(
            f"steps must be at least {done}, as many as {path} has made, got {config.steps}"
        )
    ours = decisive_settings(config_to_table(config))
    theirs = decisive_settings(table)
    for name in sorted(ours.keys() | theirs.keys()):
        now = ours.get(name)
        before = theirs.get(name)
        if now != before:
            raise TrainingError(
                f"{name} must be {before!r}, as in the training that {path} belongs to, "
                f"got {now!r}; choose another folder for another training"
            )


def check_same_alignment(align: str | None, before: str | None, path: Path) -> None:
    """Check that a checkpoint was made with frames aligned in the same way.

    Args:
        align: the name of the way now, None for frames as they are.
        before: that of the checkpoint.
        path: the checkpoint.

    Raises:
        TrainingError: the two differ.
    """
    if align != before:
        raise TrainingError(
            f"align must be {before!r}, as in the training that {path} belongs to, got {align!r}; "
            "choose another folder for another training"
        )


def _reason(error: BaseException) -> str:
    """Return why a file could not be written; torch hides the system's error behind its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return first_line(error)


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested table with dotted names, as in ``data.layout``."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def decisive_settings(table: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that what is left of a training depends on, with dotted names."""
    flat = _flat(table)
    every = flat.get("validation.every", 0)
    layouts = {flat.get("data.layout"), *(one["layout"] for one in flat.get("data.more", ()))}
    if not every or layouts == {"synthetic"}:
        # nothing is held out of what is trained on
        flat.pop("validation.sequences", None)
    for name in (*NOT_COMPUTED, "steps"):
        flat.pop(name, None)
    return flat


def _step_of(path: Path) -> int | str:
    """Return the step of a checkpoint, for an error message."""
    try:
        content = read_checkpoint(path)
    except TrainingError:
        content = None
    return "unknown" if content is None else content.get("step", "unknown")

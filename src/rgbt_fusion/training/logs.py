"""What a training reports: lines of a CSV file, TensorBoard on request, and progress."""

import csv
import io
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rgbt_fusion.files.text_tables import read_text
from rgbt_fusion.files.whole import write_text
from rgbt_fusion.training.checkpoints import TrainingError

__all__ = ["Log", "Progress", "Stopwatch"]


class Progress(NamedTuple):
    """How far a training is."""

    step: int
    """Steps done."""
    steps: int
    """Steps of the whole training."""
    values: Mapping[str, float]
    """The line of the log, by name."""
    samples_per_second: float
    """The throughput since the last line."""
    seconds_left: float
    """How long the remaining steps take at that rate."""
    best_success: float | None = None
    """The best success of the validations so far; None without any."""
    damaged: int = 0
    """How many samples could not be read so far, and were replaced by others."""


class Stopwatch:
    """Measure the throughput since the last look, and estimate the time left.

    Args:
        step: the steps done when the watch starts.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.time = time.monotonic()

    def look(self, step: int, steps: int, batch_size: int) -> tuple[float, float]:
        """Return samples per second since the last look, and the seconds left at that rate."""
        now = time.monotonic()
        steps_per_second = (step - self.step) / max(now - self.time, 1e-9)
        self.step = step
        self.time = now
        seconds_left = (steps - step) / max(steps_per_second, 1e-9)
        return steps_per_second * batch_size, seconds_left


class Log:
    """The table of a training, ``log.csv``: one line every few steps.

    When a training resumes from a checkpoint, the lines after the checkpoint's step are dropped,
    because they are written again.

    Args:
        folder: the folder of the training.
        columns: the names of the values.
        step: the step of the checkpoint, 0 for a new training.
        tensorboard: also write events for TensorBoard.

    Raises:
        TrainingError: ``folder`` cannot be written.
        ModuleNotFoundError: ``tensorboard`` is True and TensorBoard is not installed.
    """

    def __init__(
        self, folder: Path, columns: tuple[str, ...], step: int, *, tensorboard: bool = False
    ) -> None:
        self.path = folder / "log.csv"
        self.columns = ("step", *columns)
        self.board: Any = _open_board(folder) if tensorboard else None
        kept = _whole_lines(self.path, step) if step and self.path.is_file() else []
        text = io.StringIO()
        writer = csv.DictWriter(
            text, self.columns, restval="", extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(kept)
        with _refusing(self.path):
            write_text(self.path, text.getvalue())

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line.

        Raises:
            TrainingError: the file cannot be written.
        """
        line = ",".join(f"{values[name]:.6g}" for name in self.columns[1:])
        with _refusing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{step},{line}\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        if self.board is not None:
            self.board.close()


def _whole_lines(path: Path, last: int) -> list[dict[str, str]]:
    """Return the lines up to a step that are lines of a log.

    Whatever a kill or a person left there: no weight depends on it, and nothing stops a training.
    """
    try:
        header, *lines = read_text(path).splitlines()
    except ValueError:
        return []
    columns = header.split(",")
    kept: list[dict[str, str]] = []
    before = 0
    for line in lines:
        row = dict(zip(columns, line.split(","), strict=False))
        complete = len(row) == len(columns) and all(map(_is_number, row.values()))
        number = row.get("step", "")
        step = int(number) if re.fullmatch("[0-9]{1,18}", number) else 0
        if before < step <= last and complete:
            kept.append(row)
            before = step
    return kept


def _is_number(word: str) -> bool:
    """Return whether a word is a number; a column that a log lacked is empty."""
    try:
        float(word or "0")
    except ValueError:
        return False
    return True


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn a failure to write into a TrainingError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise TrainingError(
            f"{path} cannot be written: {reason}; the last checkpoint is whole"
        ) from error


def _open_board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ModuleNotFoundError(
            f"events for TensorBoard cannot be written ({error}): pip install 'rgbt-fusion[train]'",
            name="tensorboard",
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))

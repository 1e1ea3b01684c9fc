"""What a training says of itself: lines of a CSV file, TensorBoard if wanted, and progress to
whoever asks."""

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rgbt_fusion.files.whole import write_text
from rgbt_fusion.training.checkpoints import TrainingError

__all__ = ["Log", "Progress", "Stopwatch"]


class Progress(NamedTuple):
    """Where a training is after ``step`` of ``steps``: the values of the log, samples a second,
    seconds left."""

    step: int
    steps: int
    values: Mapping[str, float]
    samples_per_second: float
    seconds_left: float


class Stopwatch:
    """Measure the throughput since the last look, and from it the time left."""

    def __init__(self, step: int) -> None:
        self.step, self.time = step, time.monotonic()

    def look(self, step: int, steps: int, batch_size: int) -> tuple[float, float]:
        """Return samples a second since the last look, and the seconds that the remaining steps
        take at that rate."""
        now = time.monotonic()
        rate = (step - self.step) / max(now - self.time, 1e-9)
        self.step, self.time = step, now
        return rate * batch_size, (steps - step) / max(rate, 1e-9)


class Log:
    """The table of a training: a line every so many steps.

    Going on from a checkpoint, lines beyond its step are dropped: they are written again.

    Args:
        folder: of the training; the table is its ``log.csv``.
        columns: names of the values.
        step: of the checkpoint.
        tensorboard: write events for TensorBoard beside it, too.

    Raises:
        TrainingError: it cannot be written.
        ModuleNotFoundError: TensorBoard is wanted and not installed.
    """

    def __init__(
        self, folder: Path, columns: tuple[str, ...], step: int, *, tensorboard: bool = False
    ) -> None:
        self.path = folder / "log.csv"
        self.columns = ("step", *columns)
        self.board: Any = _open_board(folder) if tensorboard else None
        kept = _whole_lines(self.path, step) if step and self.path.exists() else []
        text = io.StringIO()
        writer = csv.DictWriter(
            text, self.columns, restval="", extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(kept)
        with _refusing(self.path):
            write_text(self.path, text.getvalue())

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line."""
        line = ",".join(f"{values[name]:.6g}" for name in self.columns[1:])
        with _refusing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{step},{line}\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish what TensorBoard has not written yet."""
        if self.board is not None:
            self.board.close()


def _whole_lines(path: Path, last: int) -> list[dict[str, str]]:
    """Return the lines up to a step, without one that a kill cut off."""
    kept: list[dict[str, str]] = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = int(row["step"]) if (row["step"] or "").isdigit() else 0
            before = int(kept[-1]["step"]) if kept else 0
            if before < step <= last and None not in row.values():
                kept.append(row)
    return kept


class _refusing:
    """Turn a failure to write into one clear error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise TrainingError(
                f"{self.path} cannot be written: {reason}; the last checkpoint is whole"
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

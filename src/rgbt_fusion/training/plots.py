"""Draw what a training wrote: its losses, its overlap, its learning rate and its validations."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.evaluation.plots import new_figure
from rgbt_fusion.evaluation.results import names_of_folders
from rgbt_fusion.files.text_tables import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_trainings", "read_columns", "smoothed"]

SMOOTHED_OVER = 0.05
"""The share of the lines of a log that are averaged for the thick line."""


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the columns of a CSV file of numbers by name; an empty field is NaN.

    A last line that is cut off, as in the log of a training that runs, is left out.

    Raises:
        DataError: ``path`` is no table of numbers with a column ``step``.
        OSError: ``path`` cannot be read.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        header = rows[0] if rows else []
        if len(rows) > 1 and len(rows[-1]) != len(header):
            rows.pop()
        values = [[float(field or "nan") for field in row] for row in rows[1:]]
        table = np.array(values, dtype=np.float64).reshape(len(values), len(header))
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} must be a table of numbers: {error}") from None
    if "step" not in header:
        raise DataError(f"{path} must have a column step, got {', '.join(header)[:80] or 'none'}")
    return dict(zip(header, table.T, strict=True))


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running mean over the last twentieth of all values, shorter at the start.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.training.plots import smoothed
        >>> smoothed(np.arange(60.0))[[0, 1, 59]].tolist()
        [0.0, 0.5, 58.0]
    """
    width = max(1, round(SMOOTHED_OVER * len(values)))
    sums = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def plot_trainings(folders: Sequence[str | Path]) -> "Figure":
    """Draw one or several trainings into one figure, also while they run.

    It shows the loss, the overlap of boxes in crops, the learning rate, and the success of the
    validations where there are any, with the best one marked.

    Args:
        folders: the folders of the trainings, ``out`` of ``train``.

    Raises:
        ValueError: ``folders`` is empty.
        DataError: a log is not that of a training, or has no line yet.
        OSError: a folder holds no log.
        ModuleNotFoundError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from rgbt_fusion.training.plots import plot_trainings
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = Path(folder, "log.csv")
        ...     _ = log.write_text("step,loss,iou\\n1,9.1,0.2\\n2,7.5,0.3\\n")
        ...     len(plot_trainings([folder]).axes)
        4
    """
    if not folders:
        raise ValueError("folders must hold at least one training, got none")
    logs = {}
    for folder in map(Path, folders):
        columns = read_columns(folder / "log.csv")
        if not len(columns["step"]):
            raise DataError(
                f"{folder / 'log.csv'} must hold a line of a training, but has none yet"
            )
        logs[folder] = columns
    figure, _ = new_figure(width=9.0, height=6.0)
    from matplotlib.ticker import LogFormatter

    figure.clear()
    (loss, overlap), (success, rate) = figure.subplots(2, 2)
    names = names_of_folders(list(logs))
    for number, (folder, columns) in enumerate(logs.items()):
        colour = f"C{number}"
        name = names[number]
        for axes, column in ((loss, "loss"), (overlap, "iou"), (rate, "learning_rate")):
            if column in columns:
                smooth = column != "learning_rate"
                _draw(axes, columns["step"], columns[column], colour, name, smooth=smooth)
        validations = folder / "validation.csv"
        if validations.is_file():
            _draw_validations(success, read_columns(validations), colour, name)
    loss.set(title="loss", yscale="log")
    # 6 instead of 6 x 10^0: a loss spans a decade or two
    loss.yaxis.set_major_formatter(LogFormatter())
    loss.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    overlap.set(title="overlap in crops (IoU)", ylim=(0, 1))
    success.set(title="success on held-out sequences", ylim=(0, 1))
    rate.set(title="learning rate")
    for axes in (loss, overlap, success, rate):
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        # the loss has its ticks between the decades
        axes.grid(visible=True, which="both", alpha=0.3)
    if success.lines:
        success.legend(loc="lower right", fontsize="small")
    else:
        success.text(0.5, 0.5, "no validation", ha="center", transform=success.transAxes)
    loss.legend(fontsize="small")
    return figure


def _draw(
    axes: "Axes",
    steps: NDArray[np.float64],
    values: NDArray[np.float64],
    colour: str,
    name: str,
    *,
    smooth: bool,
) -> None:
    """Draw a column: every line of the log pale, and their running mean."""
    if smooth:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        values = smoothed(values)
    axes.plot(steps, values, color=colour, label=name)


def _draw_validations(
    axes: "Axes", columns: dict[str, NDArray[np.float64]], colour: str, name: str
) -> None:
    """Draw the successes, and mark the best one, which the legend says."""
    if not len(columns["step"]) or "success" not in columns:
        return
    best = int(np.argmax(columns["success"]))
    step = columns["step"][best]
    success = columns["success"][best]
    label = f"{name} [best {success:.3f}]"
    axes.plot(columns["step"], columns["success"], ".-", color=colour, label=label)
    axes.plot(step, success, "*", color=colour, markersize=12)

"""A picture of a run: how many times faster than its baseline every contender is."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.files.whole import writing

__all__ = ["draw_ratios", "plain_style", "save_plot"]


def plain_style() -> AbstractContextManager[None]:
    """Return a context in which figures have small letters and no frame.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        message = "drawing needs matplotlib: pip install 'rgbt-fusion[tracking]'"
        raise ModuleNotFoundError(message, name="matplotlib") from error
    settings: Any = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    return matplotlib.rc_context(settings)


def draw_ratios(rows: Sequence[Row], path: Path) -> None:
    """Draw one bar per contender, grouped by contest, into an image file.

    Args:
        rows: what was measured; rows without a ratio are left out.
        path: the file; its ending chooses the format.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: no row has a ratio, or the ending is no image format.
    """
    with plain_style():
        from matplotlib.figure import Figure

        rows = [row for row in rows if row.ratio is not None]
        if not rows:
            raise ValueError("a plot needs rows with a baseline; the run has none")
        contests = len({(row.table, row.comparison) for row in rows})
        height = 1 + 0.19 * (len(rows) + contests)
        figure = Figure(figsize=(10, max(3.0, height)), layout="constrained")
        _draw_bars(figure.subplots(), rows)
        save_plot(figure, path)


def save_plot(figure: Any, path: Path) -> None:
    """Write a figure into an image file, whose ending chooses the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, keep_suffix=True) as part:
        figure.savefig(part, dpi=130, format=path.suffix[1:] or "png")


def _draw_bars(axes: Any, rows: Sequence[Row]) -> None:
    places = []
    names = []
    place = 0.0
    drawn = None
    for row in rows:
        contest = (row.table, row.comparison)
        if contest != drawn:
            place += 1.0
            _draw_title(axes, place - 0.1, row)
            place += 1.0
            drawn = contest
        colour = "lightgrey" if row.label == row.baseline else "tab:blue"
        axes.barh(place, row.ratio, color=colour, log=True)
        axes.text(row.ratio or 1.0, place, f" {row.ratio:.3g}x", va="center")
        places.append(place)
        names.append(row.label)
        place += 1.0
    axes.set_yticks(places, names)
    axes.set_ylim(place, 0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, position: "")
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_xlabel("times faster than the baseline (median over median)")


def _draw_title(axes: Any, place: float, row: Row) -> None:
    axes.text(
        0.0,
        place,
        f"{row.table}: {row.comparison}, against {row.baseline}",
        weight="bold",
        transform=axes.get_yaxis_transform(),
        va="center",
    )

"""Pictures of a run: how many times faster, and how time and memory grow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rgbt_fusion.benchmarking.records import Row

__all__ = ["draw"]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw ``rows`` into the image file ``path``; its ending chooses the format.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: the rows hold nothing to draw, or the ending is no image format.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        message = "drawing needs matplotlib: pip install 'rgbt-fusion[tracking]'"
        raise ModuleNotFoundError(message, name="matplotlib") from error
    from matplotlib.figure import Figure

    growth = [row for row in rows if row.table == "complexity" and not row.skipped]
    bars = [row for row in rows if row.table != "complexity" and row.ratio is not None]
    if not growth and not bars:
        raise ValueError(
            "a plot needs rows with a baseline, or those of the suite complexity; the run has neither"
        )
    groups = len({(row.table, row.comparison) for row in bars})
    height = 0.19 * (len(bars) + groups) + (1 if bars else 0) + (4.5 if growth else 0)
    with matplotlib.rc_context(
        {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(10, max(3.0, height)), layout="constrained")
        parts: Any = (
            figure.subfigures(2, 1, height_ratios=[max(1.0, height - 4.5), 4.5])
            if growth and bars
            else None
        )
        if bars:
            _draw_bars((figure if parts is None else parts[0]).subplots(), bars)
        if growth:
            _draw_growth((figure if parts is None else parts[1]).subplots(1, 4), growth)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)


def _draw_bars(axes: Any, rows: Sequence[Row]) -> None:
    """Draw one bar a contender, grouped by comparison: how many times faster than its baseline."""
    places, names, place, last = [], [], 0.0, None
    for row in rows:
        if (row.table, row.comparison) != last:
            place += 1.0
            last = (row.table, row.comparison)
            axes.text(0.0, place - 0.1, f"{row.table}: {row.comparison}, against {row.baseline}", weight="bold",
                      transform=axes.get_yaxis_transform(), va="center")  # fmt: skip
            place += 1.0
        own = row.label != row.baseline
        axes.barh(place, row.ratio, color="tab:blue" if own else "lightgrey", log=True)
        axes.text(row.ratio or 1.0, place, f" {row.ratio:.3g}x", va="center")
        places.append(place)
        names.append(row.label)
        place += 1.0
    axes.set_yticks(places, names)
    axes.set_ylim(place, 0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, place: "")
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_xlabel("times faster than the baseline (median over median)")


def _draw_growth(axes: Any, rows: Sequence[Row]) -> None:
    """Draw time and memory over the tokens of a layer at most layers, and over layers at the
    commonest resolution."""
    most = max(row.sizes["K"] for row in rows)
    over_tokens = [row for row in rows if row.sizes["K"] == most]
    lengths = [row.sizes["L"] for row in rows]
    common = max(sorted(set(lengths)), key=lengths.count)
    over_layers = [row for row in rows if row.sizes["L"] == common]
    quantities = (
        (f"{rows[0].clock} time (ms)", lambda row: getattr(row.time, "median", None)),
        (
            "extra memory (MB)",
            lambda row: None if row.extra_bytes is None else row.extra_bytes / 2**20,
        ),
    )
    panels = [
        (selected, axis, name, title, quantity)
        for selected, axis, title in (
            (over_tokens, "L", f"tokens a layer ({most} layers)"),
            (over_layers, "K", f"layers ({common} tokens each)"),
        )
        for name, quantity in quantities
    ]
    for ax, (selected, axis, name, title, quantity) in zip(axes, panels, strict=True):
        for label in dict.fromkeys(row.label for row in selected):
            points = sorted(
                (row.sizes[axis], quantity(row)) for row in selected if row.label == label
            )
            ax.plot(*zip(*points, strict=True), marker="o", label=label)
        ax.set(xlabel=title, ylabel=name, xscale="log", yscale="log")
        for scale in (ax.xaxis, ax.yaxis):
            scale.set_major_formatter("{x:g}")
            scale.set_minor_formatter(lambda x, place: "")
        ax.set_xticks(sorted({row.sizes[axis] for row in selected}))
        ax.grid(visible=True, which="both", linewidth=0.2)
    axes[0].legend()

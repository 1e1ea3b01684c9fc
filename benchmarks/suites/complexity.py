"""AINet's Fig. 5 again: what its fusion costs over resolution and layers, as suite and as table."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rgbt_fusion.benchmarking.cells import by_comparison, megabytes, milliseconds
from rgbt_fusion.benchmarking.contest import Contest, Options, base_workload, clock_of
from rgbt_fusion.benchmarking.plots import plain_style, save_plot
from rgbt_fusion.benchmarking.records import Row, memory_bytes
from rgbt_fusion.benchmarking.suites import able_backends, sizes_of
from rgbt_fusion.benchmarking.timing import Spread
from rgbt_fusion.files.table import Table

__all__ = ["complexity", "complexity_table", "draw_growth"]

QUICK_SHAPES = ((128, 12), (192, 12), (256, 12))
FULL_SHAPES = ((128, 12), (192, 12), (256, 12), (384, 12), (256, 1), (256, 3), (256, 6))
"""Pixels of the search crop, and fused layers."""

HEADS = 12
MATRICES_AT_ONCE = 3
"""How many attention matrices lie in memory at once where they are written out."""
FLOAT32_BYTES = 4
USUAL_MEMORY_BYTES = 8e9
"""What a machine is taken to have that does not say."""


def complexity(options: Options) -> Iterator[Contest]:
    """What AINet adds to a two-stream ViT-B, over search resolution and over fused layers."""
    backend = able_backends(options)[0]
    for shape in options.shapes or (QUICK_SHAPES if options.quick else FULL_SHAPES):
        px, num_layers = sizes_of(shape, ("px", "K")).values()
        search_tokens = (px // 16) ** 2
        template_tokens = (px // 32) ** 2
        tokens = search_tokens + template_tokens
        sizes = {"B": 1, "L": tokens, "C": 768, "K": num_layers, "px": px}
        base = base_workload(options, "fusion", sizes)
        contenders = {"Mamba": backend, "fused attention": "fused attention"}
        skipped = {}
        if _matrix_bytes(num_layers * tokens) > _memory_of(options.device) / 2:
            skipped["written-out attention"] = "its matrix would fill the memory"
        else:
            contenders["written-out attention"] = "written-out attention"
        yield Contest(
            suite="complexity",
            table="complexity",
            title=f"{px} px, {num_layers} layer{'' if num_layers == 1 else 's'}",
            entries={label: replace(base, contender=name) for label, name in contenders.items()},
            baseline="fused attention",
            clock=clock_of(options),
            memory=True,
            skipped=skipped,
        )


def _matrix_bytes(tokens: int) -> int:
    """Return what self-attention over so many tokens takes where it is written out."""
    return MATRICES_AT_ONCE * HEADS * tokens**2 * FLOAT32_BYTES


def _memory_of(device: str) -> float:
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return memory_bytes() or USUAL_MEMORY_BYTES


def complexity_table(rows: Sequence[Row]) -> Table:
    """Show time and memory of all fusion layers, by tokens and layers; then how fast they grow."""
    labels = list(dict.fromkeys(row.label for row in rows))
    lines = []
    for title, group in by_comparison(rows).items():
        found = {row.label: row for row in group}
        cells = [title, str(_tokens_in_all(group[0]))]
        for label in labels:
            cells += _time_and_memory(found.get(label))
        lines.append(tuple(cells))
    growth = ["growth: exponent of the tokens", ""]
    for label in labels:
        growth += _growth(rows, label)
    header = ["", "tokens in all"]
    for label in labels:
        header += [f"{label}, {rows[0].clock} ms", f"{label}, extra MB"]
    return Table(tuple(header), (*lines, tuple(growth)))


def _tokens_in_all(row: Row) -> int:
    return row.sizes["L"] * row.sizes["K"]


def _time_and_memory(row: Row | None) -> list[str]:
    if row is None:
        return ["", ""]
    return [row.skipped or milliseconds(row.time), megabytes(row)]


def _growth(rows: Sequence[Row], label: str) -> list[str]:
    """Return the exponents of time and memory between the two largest resolutions measured."""
    most_layers = max(row.sizes["K"] for row in rows)
    measured = [
        row
        for row in rows
        if row.label == label and row.sizes["K"] == most_layers and row.time is not None
    ]
    measured.sort(key=lambda row: row.sizes["L"])
    if len(measured) < 2:
        return ["", ""]
    smaller, larger = measured[-2:]
    span = math.log(larger.sizes["L"] / smaller.sizes["L"])

    def exponent(low: float, high: float) -> str:
        return f"{math.log(high / low) / span:.2f}" if low > 0 and high > 0 else ""

    return [
        exponent(_median(smaller.time), _median(larger.time)),
        exponent(smaller.extra_bytes or 0, larger.extra_bytes or 0),
    ]


def _median(time: Spread | None) -> float:
    return 0.0 if time is None else time.median


def draw_growth(rows: Sequence[Row], path: Path) -> None:
    """Draw how time and memory grow over tokens and over layers, into an image file.

    Args:
        rows: what the suite measured.
        path: the file; its ending chooses the format.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: there is no row, or the ending is no image format.
    """
    with plain_style():
        from matplotlib.figure import Figure

        rows = [row for row in rows if not row.skipped]
        if not rows:
            raise ValueError("a plot needs rows of the suite complexity; the run has none")
        figure = Figure(figsize=(10, 4.5), layout="constrained")
        _draw_panels(figure.subplots(1, 4), rows)
        save_plot(figure, path)


def _draw_panels(axes: Any, rows: Sequence[Row]) -> None:
    """Draw tokens at most layers on the left, layers at the commonest resolution on the right."""
    most_layers = max(row.sizes["K"] for row in rows)
    over_tokens = [row for row in rows if row.sizes["K"] == most_layers]
    lengths = [row.sizes["L"] for row in rows]
    common = max(sorted(set(lengths)), key=lengths.count)
    over_layers = [row for row in rows if row.sizes["L"] == common]
    by_tokens = f"tokens per layer ({most_layers} layers)"
    by_layers = f"layers ({common} tokens each)"
    time = f"{rows[0].clock} time (ms)"
    memory = "extra memory (MB)"
    _draw_panel(axes[0], over_tokens, "L", by_tokens, time, _milliseconds)
    _draw_panel(axes[1], over_tokens, "L", by_tokens, memory, _megabytes)
    _draw_panel(axes[2], over_layers, "K", by_layers, time, _milliseconds)
    _draw_panel(axes[3], over_layers, "K", by_layers, memory, _megabytes)
    axes[0].legend()


def _milliseconds(row: Row) -> float | None:
    return None if row.time is None else row.time.median


def _megabytes(row: Row) -> float | None:
    return None if row.extra_bytes is None else row.extra_bytes / 2**20


def _draw_panel(
    axes: Any,
    rows: Sequence[Row],
    axis: str,
    xlabel: str,
    ylabel: str,
    quantity: Callable[[Row], float | None],
) -> None:
    for label in dict.fromkeys(row.label for row in rows):
        points = sorted((row.sizes[axis], quantity(row)) for row in rows if row.label == label)
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log", yscale="log")
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_major_formatter("{x:g}")
        scale.set_minor_formatter(lambda x, position: "")
    axes.set_xticks(sorted({row.sizes[axis] for row in rows}))
    axes.grid(visible=True, which="both", linewidth=0.2)

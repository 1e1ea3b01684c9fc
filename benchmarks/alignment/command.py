"""``python -m benchmarks alignment``: figures of the registration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from benchmarks.alignment.measure import Row

__all__ = ["alignment"]


def alignment(
    draws: Annotated[int, typer.Option(help="Number of drawn views per part.")] = 100,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of real pairs: llvip, roadscene, sequences and more; by default the "
            "synthetic world alone is measured.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="What the views are drawn from.")] = 77,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every estimate to this file.")
    ] = None,
) -> None:
    """Measure how well recordings are registered, on views with known matrices and offsets."""
    import cv2

    from benchmarks.alignment import measure
    from rgbt_fusion.files.table import to_markdown

    # seconds are those of one core
    cv2.setNumThreads(1)
    parts = [measure.synthetic(draws, seed), measure.offsets(max(1, draws // 4), seed)]
    if data is not None:
        parts += [
            measure.stills(data, draws, seed),
            measure.unrelated(data, draws, seed),
            measure.videos(data, max(1, draws // 3), seed),
        ]
    rows: list[Row] = []
    for part in parts:
        for row in part:
            rows.append(row)
            if json is not None:
                measure.write_rows(rows, json)
    typer.echo(to_markdown(measure.figures(rows)))
    late = [row for row in rows if row.offset_error is not None and row.sure]
    if late:
        near = sum((row.offset_error or 0) <= 0.5 for row in late)
        typer.echo(f"\ntime offset within half a frame: {near} of {len(late)} sure ones")
    if data is not None:
        apart, sure = measure.fixed_camera(data)
        typer.echo(f"three groups of a fixed camera: {apart:.2f} of 640 apart, {sure} sure")

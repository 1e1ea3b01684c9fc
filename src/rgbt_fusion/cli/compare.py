"""``rgbt-fusion compare``: trackers side by side on sequences that no training shows, or on your
own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rgbt_fusion.cli.trackers import (
    BASELINE,
    check_tracker,
    make_tracker,
    tracker_name,
    tracker_settings,
)

if TYPE_CHECKING:
    from rgbt_fusion.evaluation.scores import Scores
    from rgbt_fusion.evaluation.workers import Progress


class Entry(NamedTuple):
    """One row: a tracker, by preset and weights, and what it is shown."""

    name: str
    model: str
    checkpoint: Path | None
    modality: str = "both"


def compare(
    model: Annotated[str, typer.Option(help="A preset, or a file of weights.")] = "ainet_tiny_128",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights for a preset; by default its own.")
    ] = None,
    rgb_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same network trained on RGB alone.")
    ] = None,
    tir_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same network trained on TIR alone.")
    ] = None,
    halves: Annotated[
        bool,
        typer.Option(
            "--halves", help="Tracker and template matching with one modality hidden, too."
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="ROOT", help="Real sequences; by default held-out synthetic ones."),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="How ROOT is laid out: rgbt234, lasher, ...")
    ] = "rgbt234",
    sequences: Annotated[int, typer.Option(help="Synthetic sequences of each of six kinds.")] = 10,
    frames: Annotated[int, typer.Option(help="Their length.")] = 120,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the boxes; the same command again goes on."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the numbers, too.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that track.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:NUMBER.")] = "cpu",
) -> None:
    """Score a tracker beside template matching on both modalities, and beside trackers that have
    only one.

    Success counts, in each frame, the modality whose box fits better.
    """
    from rgbt_fusion.evaluation.held_out import score_tracker

    entries = _entries(model, checkpoint, {"rgb": rgb_model, "tir": tir_model}, halves)
    for entry in entries:
        check_tracker(entry.model, entry.checkpoint, device)
    groups, title = _sequences(data, layout, sequences, frames)
    scored = []
    for entry in entries:
        with _bar(
            entry.name, sum(len(one) for group in groups.values() for one in group)
        ) as advance:
            scored.append(
                score_tracker(
                    partial(make_tracker, entry.model, entry.checkpoint, device),
                    groups,
                    name=entry.name,
                    title=title,
                    modality=entry.modality,
                    folder=None
                    if out is None
                    else out / entry.name.replace(",", "").replace(" ", "_"),
                    settings=tracker_settings(entry.model, entry.checkpoint)
                    | {"shown": entry.modality},
                    workers=workers,
                    on_progress=advance,
                )
            )
    _print(scored)
    if json is not None:
        _write(scored, json)


def _sequences(
    data: Path | None, layout: str, sequences: int, frames: int
) -> tuple[Mapping[str, Any], str]:
    from rgbt_fusion.data.sequences import open_dataset
    from rgbt_fusion.evaluation.held_out import SINGLE, held_out_sequences

    if data is None:
        groups = held_out_sequences(SINGLE, sequences=sequences, frames=frames)
        return groups, "the held-out synthetic world"
    dataset = open_dataset(data, layout)
    for name, reason in dataset.refused.items():
        raise ValueError(f"sequences of {data} must be whole, but {name} is not: {reason}")
    return {one.name: (one,) for one in dataset.sequences}, str(data.name)


def _entries(
    model: str, checkpoint: Path | None, singles: Mapping[str, Path | None], halves: bool
) -> list[Entry]:
    whole, matching = (
        Entry(tracker_name(model), model, checkpoint),
        Entry("template matching", BASELINE, None),
    )
    entries = [whole, matching]
    for modality, single in singles.items():
        if single is not None:
            entries.append(
                Entry(f"trained on {modality.upper()} alone", str(single), None, modality)
            )
    for entry in (whole, matching) if halves else ():
        for modality in singles:
            entries.append(
                entry._replace(name=f"{entry.name}, {modality.upper()} shown", modality=modality)
            )
    return entries


@contextmanager
def _bar(name: str, frames: int) -> Iterator[Callable[["Progress"], None]]:
    """Show how many frames a tracker has done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(name, total=frames)
        yield lambda event: bars.update(bar, advance=event.state == "frame")


def _print(scored: list["Scores"]) -> None:
    from rgbt_fusion.evaluation.tables import attribute_table, score_table, to_markdown

    first = scored[0]
    typer.echo(
        f"{len(first.sequences)} sequences, {first.frames} frames of {first.protocol.title}\n"
    )
    typer.echo(to_markdown(score_table(scored)) + "\n")
    typer.echo(to_markdown(attribute_table(scored)))
    typer.echo()
    for other in scored[1:]:
        lead = first.metrics["MSR"] - other.metrics["MSR"]
        typer.echo(f"{first.tracker} above {other.tracker}: {lead:+.3f}")


def _write(scored: list["Scores"], path: Path) -> None:
    import json

    from rgbt_fusion.files.whole import write_text

    content = {
        one.tracker: {
            "success": one.metrics["MSR"],
            "precision": one.metrics["MPR"],
            "frames_per_second": one.fps,
            "groups": {name: group.metrics["MSR"] for name, group in one.attributes.items()},
            "sequences": {name: numbers["MSR"] for name, numbers in one.sequences.items()},
        }
        for one in scored
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")

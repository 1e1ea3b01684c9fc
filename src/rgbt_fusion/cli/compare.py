"""``rgbt-fusion compare``: trackers side by side on held-out sequences, or on your own."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rgbt_fusion.cli.align import (
    ALIGN_HELP,
    FIT_HELP,
    HOMOGRAPHY_HELP,
    REMEDY,
    aligned_sequences,
    choose,
    name_options,
)
from rgbt_fusion.cli.bars import Bar
from rgbt_fusion.cli.completion import complete_models
from rgbt_fusion.cli.idle_options import refuse_idle
from rgbt_fusion.cli.trackers import (
    CHECKPOINT_HELP,
    DEVICE_HELP,
    NETWORK_HELP,
    TEMPLATE_MATCHING,
    check_tracker,
    make_tracker,
    tracker_name,
    tracker_settings,
)
from rgbt_fusion.cli.tracking_options import NOTHING_GIVEN, settings_in_words, takes_settings

if TYPE_CHECKING:
    from rgbt_fusion.alignment.aligned_frames import AlignmentChoice
    from rgbt_fusion.data.clips import Modality
    from rgbt_fusion.evaluation.scores import Scores
    from rgbt_fusion.evaluation.workers import RunEvent


class Entry(NamedTuple):
    """One row: a tracker, by preset and weights, and what it is shown."""

    name: str
    model: str
    checkpoint: Path | None
    modality: "Modality" = "both"

    @property
    def folder(self) -> str:
        """The name of the folder that keeps its boxes."""
        return self.name.replace(",", "").replace(" ", "_")

    def device(self, chosen: str) -> str:
        """Return what runs it: template matching has no network to move to a GPU."""
        return "cpu" if self.model == TEMPLATE_MATCHING else chosen


@takes_settings
def compare(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(help=NETWORK_HELP, autocompletion=complete_models)
    ] = "ainet_tiny_128",
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    rgb_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Weights of the same network trained on colour images alone."
        ),
    ] = None,
    tir_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Weights of the same network trained on thermal images alone."
        ),
    ] = None,
    halves: Annotated[
        bool,
        typer.Option(
            "--halves",
            help="Also run the tracker and template matching with either modality hidden.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="ROOT",
            help="Folder of real sequences; by default held-out synthetic ones are made.",
        ),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Layout of the folder of real sequences: rgbt234, lasher, ...")
    ] = "rgbt234",
    sequences: Annotated[
        int, typer.Option(help="Number of synthetic sequences of each of six kinds.")
    ] = 10,
    frames: Annotated[int, typer.Option(help="Length of the synthetic sequences in frames.")] = 120,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder that keeps the boxes; run the same command again to resume.",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the numbers to this JSON file.")
    ] = None,
    align: Annotated[str | None, typer.Option(metavar="auto|follow|FILE", help=ALIGN_HELP)] = None,
    fit: Annotated[bool, typer.Option("--fit", help=FIT_HELP)] = False,
    homography: Annotated[Path | None, typer.Option(metavar="FILE", help=HOMOGRAPHY_HELP)] = None,
    settings: Mapping[str, Any] = NOTHING_GIVEN,
    workers: Annotated[int, typer.Option(help="Number of processes that track.")] = 1,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
) -> None:
    """Compare a tracker with template matching, and with trackers of one modality.

    Success counts, in each frame, the modality whose box fits better.
    """
    refuse_idle(context, needs={"layout": "data"}, excludes={"sequences": "data", "frames": "data"})
    entries = _entries(model, checkpoint, {"rgb": rgb_model, "tir": tir_model}, halves)
    for entry in entries:
        check_tracker(entry.model, entry.checkpoint, entry.device(device))
    choice = choose(align, fit=fit, homography=homography)
    groups, title = _sequences(data, layout, sequences, frames)
    if choice is not None:
        groups = {name: aligned_sequences(group, choice) for name, group in groups.items()}
    with name_options({}, REMEDY):
        scored = [
            _score(entry, settings, groups, title, out, workers, device, choice)
            for entry in entries
        ]
    _print(scored)
    _say_starts(entries, groups)
    if json is not None:
        _write(scored, json)


def _entries(
    model: str, checkpoint: Path | None, singles: "Mapping[Modality, Path | None]", halves: bool
) -> list[Entry]:
    """Return the rows: tracker, template matching, trackers of one modality, then the halves."""
    whole = Entry(tracker_name(model), model, checkpoint)
    matching = Entry("template matching", TEMPLATE_MATCHING, None)
    entries = [whole, matching]
    for modality, weights in singles.items():
        if weights is not None:
            name = f"trained on {modality.upper()} alone"
            entries.append(Entry(name, str(weights), None, modality))
    if halves:
        for entry in (whole, matching):
            for modality in singles:
                name = f"{entry.name}, {modality.upper()} shown"
                entries.append(entry._replace(name=name, modality=modality))
    return entries


def _sequences(
    data: Path | None, layout: str, sequences: int, frames: int
) -> tuple[Mapping[str, Sequence[Any]], str]:
    """Return the sequences by group, and what they are called together."""
    from rgbt_fusion.data.sequences import open_dataset
    from rgbt_fusion.evaluation.held_out import SINGLE, held_out_sequences

    if data is None:
        groups = held_out_sequences(SINGLE, sequences=sequences, frames=frames)
        return groups, "the held-out synthetic world"
    dataset = open_dataset(data, layout)
    for name, reason in dataset.refused.items():
        raise ValueError(f"sequences of {data} must be whole, but {name} is not: {reason}")
    return {one.name: (one,) for one in dataset.sequences}, str(data.name)


def _score(
    entry: Entry,
    given: Mapping[str, Any],
    groups: Mapping[str, Sequence[Any]],
    title: str,
    out: Path | None,
    workers: int,
    device: str,
    align: "AlignmentChoice | None",
) -> "Scores":
    """Run a tracker over all sequences and score it."""
    from rgbt_fusion.evaluation.held_out import score_tracker

    settings = tracker_settings(entry.model, entry.checkpoint) | {"shown": entry.modality}
    # template matching has no network whose boxes could be held
    own = {} if entry.model == TEMPLATE_MATCHING else given
    settings |= settings_in_words(own)
    if align is not None:
        settings |= {"align": align.name}
    total = sum(len(sequence) for sequence in chain.from_iterable(groups.values()))
    with Bar(total, entry.name) as bar:

        def show(event: "RunEvent") -> None:
            if event.state == "frame":
                bar.advance()

        return score_tracker(
            partial(make_tracker, entry.model, entry.checkpoint, entry.device(device), own),
            groups,
            name=entry.name,
            title=title,
            modality=entry.modality,
            folder=None if out is None else out / entry.folder,
            settings=settings,
            workers=workers,
            on_progress=show,
        )


def _print(scored: list["Scores"]) -> None:
    from rgbt_fusion.evaluation.intervals import paired_differences, score_intervals
    from rgbt_fusion.evaluation.tables import (
        attribute_table,
        interval_note,
        paired_note,
        paired_table,
        score_table,
    )
    from rgbt_fusion.files.table import to_markdown

    first, *others = scored
    sequences = f"{len(first.sequences)} sequences, {first.frames} frames"
    typer.echo(f"{sequences} of {first.protocol.title}\n")
    intervals = score_intervals(scored)
    typer.echo(to_markdown(score_table(scored, intervals=intervals)) + "\n")
    typer.echo(to_markdown(attribute_table(scored, intervals=intervals)) + "\n")
    typer.echo(interval_note(scored) + "\n")
    if others and len(first.sequences) > 1:
        differences = paired_differences(scored, pairs="first")
        typer.echo(to_markdown(paired_table(differences)) + "\n")
        typer.echo(paired_note(differences) + "\n")
    for other in others:
        lead = first.metrics["MSR"] - other.metrics["MSR"]
        typer.echo(f"{first.tracker} minus {other.tracker}: {lead:+.3f}")


def _say_starts(entries: list[Entry], groups: Mapping[str, Sequence[Any]]) -> None:
    """Say where trackers of the thermal images alone start on another box than the others."""
    alone = [entry.name for entry in entries if entry.modality == "tir"]
    apart = []
    for sequence in chain.from_iterable(groups.values()):
        truth = sequence.truth
        apart.append(abs(truth.tir[0] - truth.rgb[0]).max())
    differing = [distance for distance in apart if distance > 0]
    if alone and differing:
        typer.echo(
            f"\n{', '.join(alone)}: started on the box of the thermal image, the others on that of "
            f"the colour image. The boxes differ in {len(differing)} of {len(apart)} sequences, by "
            f"up to {max(differing):.0f} pixels."
        )


def _write(scored: list["Scores"], path: Path) -> None:
    from rgbt_fusion.evaluation.intervals import paired_differences, score_intervals
    from rgbt_fusion.evaluation.summary import summary
    from rgbt_fusion.files.whole import write_json

    differences = {}
    if len(scored) > 1 and len(scored[0].sequences) > 1:
        differences = {"MSR": paired_differences(scored, "MSR", pairs="first")}
    everything = summary(scored, score_intervals(scored), differences)
    pairs = everything["differences"].get("MSR", ())
    content = {}
    for one in scored:
        tracker = one.tracker
        content[tracker] = {
            "success": one.metrics["MSR"],
            "precision": one.metrics["MPR"],
            "frames_per_second": one.fps,
            "groups": {name: group.metrics["MSR"] for name, group in one.attributes.items()},
            "sequences": {name: numbers["MSR"] for name, numbers in one.sequences.items()},
            "intervals": everything["trackers"][tracker]["metrics"],
            "above": [pair for pair in pairs if tracker in (pair["first"], pair["second"])],
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)

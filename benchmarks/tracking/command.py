"""``python -m benchmarks settings``: measure tracking settings, and store them with the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rgbt_fusion.cli.tracking_options import NOTHING_GIVEN, setting_options, takes

__all__ = ["failing", "settings"]

ROUNDS = 2
"""How often the confidence is fitted: with the boxes of lost targets moving, then held."""


_OPTIONS = setting_options("By default as in OSTrack's paper") | {
    "lost_threshold": Annotated[
        float | None,
        typer.Option(
            help="Confidence below which the target counts as lost; by default this and the next "
            "one flag the most lost frames for at most 0.04 of the good ones."
        ),
    ],
    "found_threshold": Annotated[
        float | None,
        typer.Option(help="Confidence from which on a lost target counts as found again."),
    ],
}


@takes(_OPTIONS)
def settings(
    weights: Annotated[Path, typer.Argument(help="File of this library.")],
    settings: Mapping[str, Any] = NOTHING_GIVEN,
    sequences: Annotated[int, typer.Option(help="Number of synthetic sequences per group.")] = 10,
    frames: Annotated[int, typer.Option(help="Length of these sequences in frames.")] = 90,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYOUT=FOLDER",
            help="Folder of real sequences that may be chosen by, repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the weights with what was measured.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Fit the confidence of a tracker under some settings, and say what both are worth.

    The confidence and the threshold of lost are fitted on every second sequence of each group. The
    table is about the others, which nothing was fitted to.
    """
    from dataclasses import replace

    from benchmarks.tracking import measure
    from rgbt_fusion.cli.model_argument import refuse_overwriting
    from rgbt_fusion.files.table import to_markdown
    from rgbt_fusion.models.tracking_settings import TrackingSettings
    from rgbt_fusion.weights.checkpoints import load_model, store_tracking_settings

    if out is not None:
        refuse_overwriting(out, force=force)
    network = load_model(weights)
    given = dict(settings)
    chosen = TrackingSettings(**given)
    groups = _sequences(sequences, frames, data or [])
    fitted_on = {group: members[::2] for group, members in groups.items()}
    others = {group: members[1::2] for group, members in groups.items()}
    measured = replace(chosen, hold_below=0.0)
    for _ in range(ROUNDS):
        # what is held changes what is seen, and so what a score means
        tracks = measure.follow_all(network, fitted_on, measured)
        confidence = measure.fit_confidence(tracks)
        lost, found = measure.lost_thresholds(tracks, confidence)
        fitted = replace(chosen, lost_threshold=lost, found_threshold=found)
        measured = replace(fitted, confidence=confidence).chosen(**given)
    typer.echo(f"{measured.plain()}\n")
    tracks = measure.follow_all(network, others, measured)
    typer.echo(to_markdown(measure.table(tracks), digits=3))
    if out is not None:
        store_tracking_settings(weights, measured, out)
        typer.echo(f"\nwrote {out}")


def failing(
    weights: Annotated[list[Path], typer.Argument(help="Files of this library.")],
    sequences: Annotated[int, typer.Option(help="Number of sequences per group.")] = 10,
    frames: Annotated[int, typer.Option(help="Length of the sequences in frames.")] = 120,
    challenges: Annotated[
        bool,
        typer.Option("--challenges", help="Measure the challenges of the synthetic world instead."),
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="Track as in the paper, without the files' settings.")
    ] = False,
) -> None:
    """Say what networks are worth where one camera fails for a third of the frames.

    All see the same held-out synthetic sequences. The colour camera fails in every second one, the
    thermal camera in the others: it shows nothing, too much light, noise, an earlier frame or
    another scene.
    """
    from benchmarks.tracking import failing as cameras
    from rgbt_fusion.files.table import to_markdown
    from rgbt_fusion.weights.checkpoints import load_model

    networks = {file.stem: load_model(file).eval() for file in weights}
    groups: dict[str, Sequence[Any]] = {}
    if challenges:
        groups |= cameras.challenge_sequences(count=sequences, frames=frames)
    else:
        for failure in cameras.KINDS:
            groups[failure] = cameras.failing_sequences(failure, count=sequences, frames=frames)
    found = cameras.measure(networks, groups, paper=paper)
    typer.echo(to_markdown(cameras.table(found), digits=3))


def _sequences(count: int, frames: int, data: Sequence[str]) -> dict[str, list[Any]]:
    """Return the synthetic and the real sequences by group."""
    from benchmarks.tracking.worlds import GROUPS, scenes
    from rgbt_fusion.data.sequences import open_dataset

    groups: dict[str, list[Any]] = {}
    for group in GROUPS:
        groups[group] = list(scenes(group, count=count, frames=frames))
    for one in data:
        layout, _, folder = one.partition("=")
        groups[one] = list(open_dataset(folder, layout).sequences)
    return groups

"""``rgbt-fusion align``: how two recordings lie on each other in space and time."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rgbt_fusion.cli.idle_options import refuse_idle

if TYPE_CHECKING:
    from rgbt_fusion.alignment.aligned_frames import AlignedFrames, AlignmentChoice
    from rgbt_fusion.alignment.estimate import Alignment, AlignmentModel
    from rgbt_fusion.frames.types import Frame
    from rgbt_fusion.video.sources import Arrangement, Source

__all__ = [
    "ALIGN_HELP",
    "FIT_HELP",
    "HOMOGRAPHY_HELP",
    "REMEDY",
    "UNSURE",
    "align",
    "aligned",
    "aligned_sequences",
    "choose",
    "described",
    "name_options",
    "say_page",
    "say_remedy",
]

ALIGN_HELP = (
    "Lay the thermal on the colour frames: auto estimates how, follow also follows a slow drift, "
    "FILE is what `rgbt-fusion align` wrote."
)

FIT_HELP = "Scale the thermal images to the colour ones: the same view in another resolution."

HOMOGRAPHY_HELP = (
    "Text file of the matrix from colour to thermal pixels: three rows of three numbers."
)

ESTIMATED = ("auto", "follow")
"""What stands for a file where the alignment is to be estimated."""

_OPTION_OF_ARGUMENT = {
    "arrangement": "--arrangement",
    "layout": "--layout",
    "frames": "--first",
    "delay": "--delay",
}

REMEDY = "--fit, --homography or --align"
"""What most commands have for cameras that are not aligned."""

_ADVICE = ("give tir_from_rgb", "give align")
"""What a library error advises where a command has options for it."""

UNSURE = 3
"""The status where the answer cannot be relied on."""

SHOWN_PAIRS = (0, 40)
"""Pairs of the preview, where the recordings are long enough."""


def align(
    context: typer.Context,
    rgb: Annotated[
        str,
        typer.Argument(
            help="Colour video, folder or camera. Without TIR: the folder of a sequence."
        ),
    ],
    tir: Annotated[str | None, typer.Argument(help="Thermal video, folder or camera.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON file to write, for `track --align FILE`."),
    ] = None,
    frames: Annotated[
        int, typer.Option(help="Number of pairs to register, evenly spread over 80 frames.")
    ] = 6,
    model: Annotated[
        str, typer.Option(help="What may differ: similarity, affine or homography.")
    ] = "homography",
    max_offset: Annotated[
        int,
        typer.Option(
            help="Largest time offset to look for, in frames; 0 takes pairs for simultaneous."
        ),
    ] = 10,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Picture to write: a checkerboard and the edges of both."
        ),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(help="Read only so many pairs, where one recording is longer than the other."),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Layout of a sequence folder: auto, rgbt234, lasher, ...")
    ] = "auto",
    arrangement: Annotated[
        str | None,
        typer.Option(
            help="What one source shows, with colour at rgb-left, rgb-right, rgb-top or rgb-bottom."
        ),
    ] = None,
    delay: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Time by which the thermal video is behind the colour one; both are then paired "
            "by their time stamps.",
        ),
    ] = 0.0,
    pick: Annotated[
        bool,
        typer.Option(
            "--pick",
            help="Click pairs of the same points in a page in the browser, instead of a search.",
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(help="Port of the page to click points in; 0 takes a free one.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Find out how a thermal recording lies on a colour recording.

    The answer is a matrix from colour to thermal pixels and a time offset. Where it cannot be
    relied on, the reason is said, no JSON file is written, and the status is 3. With --pick a
    person clicks points instead, four pairs or more.
    """
    from rgbt_fusion.alignment.estimate import ALIGNMENT_MODELS, align_source, write_alignment
    from rgbt_fusion.checks import check_choice, check_positive_int
    from rgbt_fusion.cli.model_argument import refuse_overwriting
    from rgbt_fusion.video.sources import open_source

    kind: AlignmentModel = check_choice(model, ALIGNMENT_MODELS, name="--model")
    check_positive_int(frames, name="--frames")
    if max_offset < 0:
        raise ValueError(f"--max-offset must be at least 0, got {max_offset}")
    for path in (out, preview):
        if path is not None:
            refuse_overwriting(path, force=force)
    if preview is not None:
        check_choice(
            preview.suffix.lower(), (".png", ".jpg", ".jpeg"), name="the ending of --preview"
        )
    refuse_idle(
        context,
        needs={"port": "pick"},
        excludes=dict.fromkeys(("frames", "model", "max_offset"), "pick"),
    )
    with name_options(_OPTION_OF_ARGUMENT, "--pick"):
        source = open_source(
            rgb,
            tir,
            # an unknown one is refused there
            arrangement=cast("Arrangement | None", arrangement),
            layout=layout,
            frames=first,
            delay=delay,
        )
    if pick:
        found = _pick(source, port)
    else:
        found = align_source(source, model=kind, frames=frames, max_offset=max_offset)
    typer.echo(described(found))
    if preview is not None:
        _write_preview(preview, source, found)
    if not found.sure:
        raise typer.Exit(UNSURE)
    if out is not None:
        write_alignment(out, found)
        typer.echo(f"wrote {out}", err=True)


def _pick(source: "Source", port: int) -> "Alignment":
    """Have a person click the same points in a pair of frames, who must be there for that."""
    from rgbt_fusion.video.pick import pick_alignment

    pair = next(((rgb, tir) for rgb, tir in source if rgb is not None and tir is not None), None)
    if pair is None:
        raise ValueError("--pick must come with recordings of both modalities, got one")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ValueError("--pick must come with a person who clicks, but this is no terminal")

    def announce(address: str) -> None:
        say_page(address, "and click points")

    return pick_alignment(*pair, announce=announce, port=port)


def say_page(address: str, what_for: str) -> None:
    """Ask a person to open a page."""
    typer.echo(f"open this page in a browser of this machine, {what_for}: {address}", err=True)


def described(alignment: "Alignment") -> str:
    """Return what was found in one line."""
    if not alignment.sure:
        return f"not sure: {alignment.reason}"
    import numpy as np

    matrix = alignment.tir_from_rgb
    area = abs(np.linalg.det(matrix[:2, :2]))
    scale = float(np.sqrt(area))
    degrees = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    return (
        f"scale {scale:.3f}, turn {degrees:+.2f} degrees, "
        f"shift {matrix[0, 2]:+.1f}, {matrix[1, 2]:+.1f} pixels, "
        f"offset {alignment.offset_frames:+.2f} frames, overlap {alignment.overlap:.0%}, "
        f"confidence {alignment.confidence:.2f}; {alignment.reason}"
    )


def aligned(source: "Source", choice: str) -> "Source":
    """Return a source with its thermal frames laid on the colour frames, and say what was found.

    Args:
        source: the recordings.
        choice: ``"auto"``, ``"follow"``, or a file that ``rgbt-fusion align`` wrote.
    """
    from rgbt_fusion.alignment.aligned_frames import AlignedFrames
    from rgbt_fusion.alignment.estimate import align_source, read_alignment

    if choice in ESTIMATED:
        if source.length is None:
            raise ValueError(
                f"--align {choice} must come with recordings, not with a camera: "
                "record first, then give the file that `rgbt-fusion align` writes"
            )
        found = align_source(source)
    else:
        found = read_alignment(choice)
    if not found.sure:
        typer.echo(f"warning: goes on unaligned: {found.reason}", err=True)
        return source
    typer.echo(f"aligned: {described(found)}", err=True)
    frames = AlignedFrames(source, found, follow=choice == "follow")
    return replace(source, frames=lambda: iter(frames))


def aligned_sequences(
    sequences: "Iterable[Any]", choice: "AlignmentChoice"
) -> "tuple[AlignedFrames, ...]":
    """Return sequences whose thermal frames are laid on the colour frames.

    Args:
        sequences: sequences of a dataset, or synthetic ones.
        choice: how; a sequence without an alignment of its own gets it when it is first read.
    """
    return tuple(choice.of(sequence) for sequence in sequences)


def choose(align: str | None, *, fit: bool, homography: Path | None) -> "AlignmentChoice | None":
    """Return the alignment that the options of a command ask for, None where they ask for none.

    Raises:
        ValueError: more than one of them is given, or a file holds no alignment.
    """
    given = {"--align": align, "--fit": fit or None, "--homography": homography}
    names = [name for name, value in given.items() if value is not None]
    if not names:
        return None
    if len(names) > 1:
        raise ValueError(f"{names[0]} must not come with {names[1]}: each says where to look")
    from rgbt_fusion.alignment.aligned_frames import choose_alignment
    from rgbt_fusion.alignment.estimate import read_homography

    if fit:
        return choose_alignment("fit")
    if homography is not None:
        return choose_alignment(read_homography(homography))
    return choose_alignment(align or "")


@contextmanager
def name_options(options: Mapping[str, str], remedy: str) -> Iterator[None]:
    """Have an error name the options of a command instead of arguments.

    Args:
        options: the option of each argument.
        remedy: what the command has for cameras that are not aligned.
    """
    try:
        yield
    except ValueError as error:
        message = str(error)
        name, _, rest = message.partition(" ")
        if name in options:
            message = f"{options[name]} {rest}"
        message = say_remedy(message, remedy)
        if "frames" in options:
            message = message.replace("; frames = ", f"; {options['frames']} ")
        raise type(error)(message) from None


def say_remedy(message: str, remedy: str) -> str:
    """Return the message of an error with what the command has for cameras not aligned."""
    for advice in _ADVICE:
        message = message.replace(advice, f"give {remedy}")
    return message


def _write_preview(path: Path, source: "Source", found: "Alignment") -> None:
    from rgbt_fusion.alignment.preview import write_preview

    pairs = list(_shown(source, round(found.offset_frames)))
    if not pairs:
        typer.echo("no two frames of the same moment to draw", err=True)
        return
    write_preview(path, pairs, found)
    typer.echo(f"wrote {path}", err=True)


def _shown(source: "Source", offset: int) -> "Iterator[tuple[Frame, Frame]]":
    """Yield the pairs of the same moments that the preview shows."""
    from rgbt_fusion.alignment.aligned_frames import same_moments

    last = max(SHOWN_PAIRS)
    shown = 0
    for number, (rgb, tir) in enumerate(islice(same_moments(source, offset), last + 1)):
        due = shown < len(SHOWN_PAIRS) and number >= SHOWN_PAIRS[shown]
        if due and rgb is not None and tir is not None:
            shown += 1
            yield cast("tuple[Frame, Frame]", (rgb, tir))

"""``rgbt-fusion track``: follow a target through videos, folders, cameras or a sequence, and draw
it."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rgbt_fusion.frames.types import FramePair
    from rgbt_fusion.tracking.tracker import FrameTracker, TrackResult
    from rgbt_fusion.video.sources import Source

    Boxes = NDArray[np.float64]

_CAMERAS, _DRAWING = "Cameras", "Drawing"


class _Outputs(NamedTuple):
    """What is written where, and what is drawn."""

    video: Path | None
    text: Path | None
    debug: bool
    fps: float | None
    compare: "dict[str, Boxes]"


def track(
    rgb: Annotated[
        str,
        typer.Argument(
            help="Colour video, folder or camera (0, rtsp://...); alone: a video of both, a sequence."
        ),
    ],
    tir: Annotated[str | None, typer.Argument(help="The same of the thermal images.")] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="The target in the first frame; once for each. Without: pick it.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Overlay video: .mp4, .avi or .mkv.")
    ] = None,
    txt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Left, top, width, height of every frame, one a line."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A preset, a file of this library, or ncc, template matching.")
    ] = "ainet_tiny_128",
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights for a preset.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:NUMBER.")] = "cpu",
    frames: Annotated[int | None, typer.Option(help="Take only so many.")] = None,
    layout: Annotated[
        str, typer.Option(help="Of a sequence's folder: rgbt234, lasher, ...")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    arrangement: Annotated[
        str,
        typer.Option(
            help="One video: rgb-left, rgb-right, rgb-top, rgb-bottom, ...",
            rich_help_panel=_CAMERAS,
        ),
    ] = "rgb-left",
    offset: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y", help="From a colour pixel to its thermal one.", rich_help_panel=_CAMERAS
        ),
    ] = None,
    homography: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The same, as three rows of three numbers.",
            rich_help_panel=_CAMERAS,
        ),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            help="Stand-in for a missing modality: zeros, other or last.", rich_help_panel=_CAMERAS
        ),
    ] = "zeros",
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Draw what the network sees and thinks, too.", rich_help_panel=_DRAWING
        ),
    ] = False,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Draw the results of other trackers, too.",
            rich_help_panel=_DRAWING,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Of the video; by default the source's, or 25.", rich_help_panel=_DRAWING
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(help="Of the page to pick the target in; 0 takes a free one.")
    ] = 0,
) -> None:
    """Follow a target and write its boxes and a video of them.

    Without --init the annotation of a sequence is taken; where there is none, a page of this
    machine's browser asks for a box. Ctrl-C ends the tracking of a camera and keeps what was found;
    of a video it keeps nothing.
    """
    # FFmpeg's own lines would stand around ours
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    _check_outputs(out, txt, debug, fps, model, force)
    settings = _tracker_settings(offset, homography, missing, model)
    boxes = [_numbers(text, 4, "--init") for text in init or ()]
    tracker = _make_tracker(model, checkpoint, device, settings)

    from rgbt_fusion.cli.trackers import tracker_name
    from rgbt_fusion.video.sources import open_source

    source = open_source(rgb, tir, arrangement=arrangement, layout=layout, frames=frames)
    outputs = _Outputs(out, txt, debug, fps, _read_compared(compare or [], source))
    with ExitStack() as stack:
        pairs = iter(source)
        if hasattr(pairs, "close"):
            stack.callback(pairs.close)  # pyright: ignore[reportAttributeAccessIssue]
        first = next(pairs, None)
        if first is None:
            raise ValueError(f"{rgb} must hold at least one frame, got none")
        targets = boxes or _find_box(source, first, port)
        start = targets[0] if len(targets) == 1 else targets
        # an unusable frame or box is refused here, before any file is there
        result = tracker.init(*first, start)
        _run(tracker, source, chain([first], pairs), result, outputs, tracker_name(model))


def _check_outputs(
    out: Path | None, txt: Path | None, debug: bool, fps: float | None, model: str, force: bool
) -> None:
    from rgbt_fusion.checks import check_choice, check_finite_number
    from rgbt_fusion.cli.model_argument import refuse_overwriting
    from rgbt_fusion.cli.trackers import BASELINE
    from rgbt_fusion.frames.reading import load_cv2
    from rgbt_fusion.video.film import VIDEO_CODES

    if out is None and txt is None:
        raise ValueError("--out or --txt must be given, got neither")
    if out == txt:
        raise ValueError(f"--out and --txt must be two files, got {out} for both")
    if debug and out is None:
        raise ValueError("--debug must come with --out, the video to draw in, got it without")
    if debug and model == BASELINE:
        raise ValueError(f"--debug must come with a network, which {BASELINE} has none of")
    if fps is not None:
        check_finite_number(fps, name="--fps", low=0.1, high=1000.0)
    if out is not None:
        check_choice(out.suffix.lower(), VIDEO_CODES, name="the ending of --out")
    load_cv2()
    for path in (out, txt, txt and _beside(txt, "_confidence")):
        if path is not None:
            refuse_overwriting(path, force=force)


def _tracker_settings(
    offset: str | None, homography: Path | None, missing: str, model: str
) -> dict[str, Any]:
    from rgbt_fusion.checks import check_choice
    from rgbt_fusion.cli.trackers import BASELINE
    from rgbt_fusion.files.text_tables import DataError, read_numbers
    from rgbt_fusion.tracking.tracker import MISSING

    check_choice(missing, MISSING, name="--missing")
    settings: dict[str, Any] = {} if missing == "zeros" else {"missing": missing}
    if offset is not None and homography is not None:
        raise ValueError(f"--offset must not come with --homography, got {offset} and {homography}")
    if offset is not None:
        settings["tir_from_rgb"] = _numbers(offset, 2, "--offset")
    if homography is not None:
        matrix = read_numbers(homography, columns=(3,))
        if matrix.shape != (3, 3):
            raise DataError(
                f"{homography} must hold three rows of three numbers, got {len(matrix)}"
            )
        settings["tir_from_rgb"] = matrix
    if settings and model == BASELINE:
        raise ValueError(
            f"--missing, --offset and --homography must come with a network, not with {BASELINE}"
        )
    return settings


def _numbers(text: str, count: int, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise ValueError(
            f"{option} must be {','.join('xywh'[:count])}, {count} numbers, got {text!r}"
        )
    return numbers


def _make_tracker(
    model: str, checkpoint: Path | None, device: str, settings: dict[str, Any]
) -> "FrameTracker":
    from rgbt_fusion.cli.trackers import make_tracker
    from rgbt_fusion.tracking.tracker import Tracker

    tracker = make_tracker(model, checkpoint, device)
    return (
        Tracker(tracker.model, **settings) if isinstance(tracker, Tracker) and settings else tracker
    )


def _find_box(source: "Source", first: "FramePair", port: int) -> list[Sequence[float]]:
    """Return the annotated box, or what a person picks, who must be there for that."""
    if source.truth is not None:
        return [source.truth.rgb[0].tolist()]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ValueError(
            "--init must be given where nobody can pick the target: this is no terminal. "
            "Hint: --init x,y,w,h, left, top, width and height in pixels of the first colour frame"
        )
    from rgbt_fusion.video.pick import pick_box

    def announce(address: str) -> None:
        typer.echo(
            f"open this page in a browser of this machine, and draw a box: {address}", err=True
        )

    return [pick_box(*first, announce=announce, port=port)]


def _read_compared(folders: list[Path], source: "Source") -> "dict[str, Boxes]":
    from rgbt_fusion.evaluation.results import read_results
    from rgbt_fusion.files.text_tables import DataError

    tracks = {}
    for folder in folders:
        found = read_results(folder, [source.name])
        for reason in found.unreadable.values():
            raise DataError(reason)
        if found.missing:
            raise DataError(
                f"--compare must name folders with {source.name}.txt, but {folder} has none"
            )
        tracks[found.tracker] = found.results[source.name].boxes
    return tracks


def _run(
    tracker: "FrameTracker",
    source: "Source",
    pairs: "Iterator[FramePair]",
    first: "TrackResult",
    outputs: _Outputs,
    label: str,
) -> None:
    """Track to the end, and write what was asked for."""
    from functools import partial

    import numpy as np

    from rgbt_fusion.video.film import writing_video
    from rgbt_fusion.video.result_picture import draw_result

    draw = partial(
        draw_result, label=label, tracks=outputs.compare, truth=source.truth, debug=outputs.debug
    )
    results: list[TrackResult] = []
    seconds = 0.0
    with ExitStack() as stack:
        fps = outputs.fps or source.fps or 25.0
        video = (
            stack.enter_context(writing_video(outputs.video, fps=fps)) if outputs.video else None
        )
        try:
            for rgb, tir in _with_progress(pairs, source.length):
                start = time.perf_counter()
                results.append(tracker.update(rgb, tir) if results else first)
                seconds += time.perf_counter() - start
                if video is not None:
                    video.write(draw(tracker, (rgb, tir), results[-1]))
        except KeyboardInterrupt:
            # a camera has no other end
            if source.length is not None or not results:
                raise
    if outputs.text:
        _write_text(outputs.text, results)
    lost = int(np.sum([np.any(result.lost) for result in results]))
    speed = (
        f", {(len(results) - 1) / seconds:.1f} a second" if len(results) > 1 and seconds > 0 else ""
    )
    written = " and ".join(str(path) for path in (outputs.video, outputs.text) if path)
    typer.echo(f"{len(results)} frames{speed}, lost in {lost}; wrote {written}", err=True)


def _with_progress(pairs: "Iterator[FramePair]", length: int | None) -> "Iterator[FramePair]":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("", total=length, speed="")
        for pair in pairs:
            yield pair
            speed = progress.tasks[0].speed
            progress.update(bar, advance=1, speed=f"{speed:.1f} frames a second" if speed else "")


def _write_text(path: Path, results: "list[TrackResult]") -> None:
    import numpy as np

    from rgbt_fusion.files.whole import write_text

    boxes = np.stack([np.atleast_2d(result.box_xywh_px) for result in results])
    confidences = np.stack([np.atleast_1d(result.confidence) for result in results])
    for target in range(boxes.shape[1]):
        number = f"_{target + 1}" if boxes.shape[1] > 1 else ""
        write_text(
            _beside(path, f"{number}_confidence"),
            "".join(f"{value:.6f}\n" for value in confidences[:, target]),
        )
        lines = (",".join(f"{side:.4f}" for side in box) for box in boxes[:, target])
        write_text(_beside(path, number), "".join(f"{line}\n" for line in lines))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.stem}{ending}{path.suffix}")

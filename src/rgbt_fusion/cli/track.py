"""``rgbt-fusion track``: follow a target through videos, folders, cameras or a sequence."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from rgbt_fusion.cli.bars import Bar
from rgbt_fusion.cli.trackers import (
    CHECKPOINT_HELP,
    DEVICE_HELP,
    TEMPLATE_MATCHING,
    TRACKER_HELP,
    make_tracker,
    tracker_name,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rgbt_fusion.frames.types import FramePair
    from rgbt_fusion.tracking.interface import FrameTracker, TrackResult
    from rgbt_fusion.video.sources import Arrangement, Source

    Boxes = NDArray[np.float64]

_CAMERAS = "Cameras"
_DRAWING = "Drawing"

USUAL_FPS = 25.0


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
            help="Colour video, folder or camera (0, rtsp://...). Without TIR: one video of both "
            "modalities, or the folder of a sequence."
        ),
    ],
    tir: Annotated[str | None, typer.Argument(help="Thermal video, folder or camera.")] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Box of the target in the first frame, repeatable. If omitted, pick the target "
            "in the browser.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Video to write, with the boxes drawn: .mp4, .avi or .mkv."
        ),
    ] = None,
    txt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text file to write: left, top, width and height, one line per frame.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help=TRACKER_HELP)] = "ainet_tiny_128",
    checkpoint: Annotated[Path | None, typer.Option(metavar="FILE", help=CHECKPOINT_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    layout: Annotated[
        str, typer.Option(help="Layout of a sequence folder: auto, rgbt234, lasher, ...")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    arrangement: Annotated[
        str,
        typer.Option(
            help="Place of the colour half in one video of both: rgb-left, rgb-right, rgb-top, "
            "rgb-bottom, ...",
            rich_help_panel=_CAMERAS,
        ),
    ] = "rgb-left",
    offset: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="Shift in pixels from a point in the colour image to the same point in the "
            "thermal one.",
            rich_help_panel=_CAMERAS,
        ),
    ] = None,
    homography: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text file of the matrix from colour to thermal pixels: three rows of three "
            "numbers.",
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
            "--debug",
            help="Also draw the crops that the network sees, and its maps.",
            rich_help_panel=_DRAWING,
        ),
    ] = False,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Also draw the results of another tracker from this folder, repeatable.",
            rich_help_panel=_DRAWING,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second of the written video; by default those of the source, or 25.",
            rich_help_panel=_DRAWING,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(help="Port of the page to pick the target in; 0 takes a free one.")
    ] = 0,
) -> None:
    """Follow a target and write its boxes and a video of them.

    Without --init the annotation of a sequence is taken. Where there is none, a page in the
    browser of this machine asks for a box. Ctrl-C ends the tracking of a camera and keeps what was
    found; of a video it keeps nothing.
    """
    # FFmpeg's own lines would stand around ours
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    _check_outputs(out, txt, debug, fps, model, force)
    settings = _tracker_settings(offset, homography, missing, model)
    boxes = [_numbers(text, 4, "--init") for text in init or ()]
    tracker = _make_tracker(model, checkpoint, device, settings)

    from rgbt_fusion.video.sources import open_source

    source = open_source(
        rgb,
        tir,
        arrangement=cast("Arrangement", arrangement),  # what is none is refused there
        layout=layout,
        frames=frames,
    )
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
    from rgbt_fusion.frames.reading import load_cv2
    from rgbt_fusion.video.film import VIDEO_CODES

    if out is None and txt is None:
        raise ValueError("--out or --txt must be given, got neither")
    if out == txt:
        raise ValueError(f"--out and --txt must be two files, got {out} for both")
    if debug and out is None:
        raise ValueError("--debug must come with --out, the video to draw in, got it without")
    if debug and model == TEMPLATE_MATCHING:
        raise ValueError(f"--debug must come with a network, which {TEMPLATE_MATCHING} has none of")
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
    if settings and model == TEMPLATE_MATCHING:
        raise ValueError(
            "--missing, --offset and --homography must come with a network, "
            f"not with {TEMPLATE_MATCHING}"
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
    from rgbt_fusion.tracking.tracker import Tracker

    tracker = make_tracker(model, checkpoint, device)
    if settings and isinstance(tracker, Tracker):
        return Tracker(tracker.model, **settings)
    return tracker


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

    from rgbt_fusion.video.film import writing_video
    from rgbt_fusion.video.result_picture import draw_result

    draw = partial(
        draw_result, label=label, tracks=outputs.compare, truth=source.truth, debug=outputs.debug
    )
    results: list[TrackResult] = []
    seconds = 0.0
    with ExitStack() as stack:
        video = None
        if outputs.video:
            fps = outputs.fps or source.fps or USUAL_FPS
            video = stack.enter_context(writing_video(outputs.video, fps=fps))
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
    _say_result(results, seconds, outputs)


def _say_result(results: "list[TrackResult]", seconds: float, outputs: _Outputs) -> None:
    import numpy as np

    lost = sum(bool(np.any(result.lost)) for result in results)
    speed = ""
    if len(results) > 1 and seconds > 0:
        speed = f", {(len(results) - 1) / seconds:.1f} a second"
    written = " and ".join(str(path) for path in (outputs.video, outputs.text) if path)
    typer.echo(f"{len(results)} frames{speed}, lost in {lost}; wrote {written}", err=True)


def _with_progress(pairs: "Iterator[FramePair]", length: int | None) -> "Iterator[FramePair]":
    """Yield the frames, and show how many are done and how fast."""
    with Bar(length) as bar:
        for pair in pairs:
            yield pair
            speed = bar.steps_per_second
            bar.advance(1, f"{speed:.1f} frames a second" if speed else "")


def _write_text(path: Path, results: "list[TrackResult]") -> None:
    """Write a file of boxes and one of confidences for each target."""
    import numpy as np

    from rgbt_fusion.files.whole import write_text

    boxes = np.stack([np.atleast_2d(result.box_xywh_px) for result in results])
    confidences = np.stack([np.atleast_1d(result.confidence) for result in results])
    targets = boxes.shape[1]
    for target in range(targets):
        number = f"_{target + 1}" if targets > 1 else ""
        confidence_lines = [f"{value:.6f}\n" for value in confidences[:, target]]
        write_text(_beside(path, f"{number}_confidence"), "".join(confidence_lines))
        box_lines = [",".join(f"{side:.4f}" for side in box) + "\n" for box in boxes[:, target]]
        write_text(_beside(path, number), "".join(box_lines))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.stem}{ending}{path.suffix}")

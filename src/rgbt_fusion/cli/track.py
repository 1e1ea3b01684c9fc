"""``rgbt-fusion track``: follow a target through videos, folders, cameras or a sequence."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from rgbt_fusion.cli.align import (
    ALIGN_HELP,
    FIT_HELP,
    HOMOGRAPHY_HELP,
    aligned,
    described,
    name_options,
    say_page,
)
from rgbt_fusion.cli.bars import Bar
from rgbt_fusion.cli.completion import complete_layouts, complete_models
from rgbt_fusion.cli.trackers import (
    CHECKPOINT_HELP,
    DEVICE_HELP,
    TEMPLATE_MATCHING,
    TRACKER_HELP,
    make_tracker,
    tracker_name,
)
from rgbt_fusion.cli.tracking_options import NOTHING_GIVEN, takes_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rgbt_fusion.frames.drawing import Picture
    from rgbt_fusion.frames.types import FramePair
    from rgbt_fusion.tracking.interface import FrameTracker, TrackResult
    from rgbt_fusion.video.live import LivePage
    from rgbt_fusion.video.sources import Arrangement, Source

    Boxes = NDArray[np.float64]

_CAMERAS = "Cameras"
_DRAWING = "Drawing"

USUAL_FPS = 25.0

OPENING_SECONDS = 30.0
"""How long a recording waits for the page of --live to be opened, where a person is."""

_REMEDY = "--offset, --homography, --fit or --align"

_OPTION_OF_ARGUMENT = {
    "arrangement": "--arrangement",
    "layout": "--layout",
    "frames": "--frames",
    "delay": "--delay",
    "box_xywh_px": "--init",
    "tir_range": "--tir-range",
}


class _Outputs(NamedTuple):
    """What is written where, and what is drawn."""

    video: Path | None
    text: Path | None
    live: bool
    port: int
    debug: bool
    fps: float | None
    compare: "dict[str, Boxes]"


@takes_settings
def track(
    rgb: Annotated[
        str,
        typer.Argument(
            help="Colour video, folder or camera (0, rtsp://...). Without TIR: the folder of a "
            "sequence, or one video, folder or camera of both modalities with --arrangement."
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
            metavar="FILE",
            help="Video to write, with the boxes drawn: .webm, .mp4, .avi or .mkv. Browsers play "
            ".webm, and .mp4 if an ffmpeg is on the path; without an ending it gets the one that "
            "plays. Its folder is made.",
        ),
    ] = None,
    txt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text file to write: left, top, width and height, one line per frame.",
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Show the tracking as it goes, in a page on this machine."),
    ] = False,
    model: Annotated[
        str, typer.Option(help=TRACKER_HELP, autocompletion=complete_models)
    ] = "ainet_tiny_128",
    checkpoint: Annotated[Path | None, typer.Option(metavar="FILE", help=CHECKPOINT_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="Layout of a sequence folder: auto, rgbt234, lasher, ...",
            autocompletion=complete_layouts,
        ),
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    arrangement: Annotated[
        str | None,
        typer.Option(
            help="What one source shows: both modalities, with colour at rgb-left, rgb-right, "
            "rgb-top or rgb-bottom, or one of them, rgb-only or tir-only.",
            rich_help_panel=_CAMERAS,
        ),
    ] = None,
    delay: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Time by which the thermal video is behind the colour one; both are then paired "
            "by their time stamps.",
            rich_help_panel=_CAMERAS,
        ),
    ] = 0.0,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit",
            help=FIT_HELP,
            rich_help_panel=_CAMERAS,
        ),
    ] = False,
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
            help=HOMOGRAPHY_HELP,
            rich_help_panel=_CAMERAS,
        ),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(metavar="auto|follow|FILE", help=ALIGN_HELP, rich_help_panel=_CAMERAS),
    ] = None,
    tir_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Thermal values that become black and white, for images of more than 8 bits; by "
            "default they follow the images.",
            rich_help_panel=_CAMERAS,
        ),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            help="Stand-in for a missing modality: zeros, other or last.", rich_help_panel=_CAMERAS
        ),
    ] = "zeros",
    settings: Mapping[str, Any] = NOTHING_GIVEN,
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
        int,
        typer.Option(
            help="Port of the page to pick the target in, and of that of --live; 0 takes a free "
            "one."
        ),
    ] = 0,
) -> None:
    """Follow a target and write its boxes and a video of them.

    Without --out, --txt and --live the boxes are shown as they are found: one line that is renewed
    on a terminal, one line of CSV per frame elsewhere.

    Without --init the annotation of a sequence is taken. Where there is none, a page in the
    browser of this machine asks for a box, and for points that both cameras see where they do not
    lie on each other. Ctrl-C ends the tracking of a camera and keeps what was found; of a video it
    keeps nothing. A camera or a video that stops by itself ends the tracking, and what was found is
    kept.
    """
    # FFmpeg's own lines would stand around ours
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    out = _with_ending(out)
    _check_outputs(out, txt, live, len(init or ()), debug, fps, model, force)
    _check_uses(out, live, compare, fps, init, port)
    chosen = _tracker_settings(offset, homography, fit, missing, tir_range, model)
    chosen |= settings
    if align is not None and ("tir_from_rgb" in chosen or fit):
        raise ValueError(
            f"--align must not come with --offset, --homography or --fit, got {align} and one of "
            "them"
        )
    boxes = [_numbers(text, 4, "--init") for text in init or ()]
    tracker = make_tracker(model, checkpoint, device, chosen)

    from rgbt_fusion.tracking.interface import naming_annotation
    from rgbt_fusion.video.sources import open_source

    with name_options(_OPTION_OF_ARGUMENT, _REMEDY):
        source = open_source(
            rgb,
            tir,
            # an unknown one is refused there
            arrangement=cast("Arrangement | None", arrangement),
            layout=layout,
            frames=frames,
            delay=delay,
        )
    if align is not None:
        source = aligned(source, align)
    compared = _read_compared(compare or [], source)
    outputs = _Outputs(out, txt, live, port, debug, fps, compared)
    with ExitStack() as stack:
        pairs = iter(source)
        if hasattr(pairs, "close"):
            stack.callback(pairs.close)  # pyright: ignore[reportAttributeAccessIssue]
        first = next(pairs, None)
        if first is None:
            raise ValueError(f"{rgb} must hold at least one frame, got none")
        if fit:
            chosen["tir_from_rgb"] = _fitted(first)
        if "tir_from_rgb" in chosen:
            pairs = _lay(tracker, chosen["tir_from_rgb"], chain([first], pairs))
            first = next(pairs)
        targets = boxes or _find_box(tracker, source, first, port, may_point=align is None)
        start = targets[0] if len(targets) == 1 else targets
        annotation = None if boxes else source.truth
        with name_options(_OPTION_OF_ARGUMENT, _REMEDY), naming_annotation(annotation):
            # an unusable frame or box is refused here, before any file is there
            result = tracker.init(*first, start)
        _say_boxes_beyond(targets, first)
        _run(tracker, source, chain([first], pairs), result, outputs, tracker_name(model))


def _with_ending(out: Path | None) -> Path | None:
    """Give a video without an ending the one that browsers play."""
    if out is None or out.suffix:
        return out
    if out.is_dir():
        raise ValueError(f"--out must be a file, got the folder {out}")
    from rgbt_fusion.video.film import default_ending

    return out.with_name(out.name + default_ending())


def _check_uses(
    out: Path | None,
    live: bool,
    compare: list[Path] | None,
    fps: float | None,
    init: list[str] | None,
    port: int,
) -> None:
    """Refuse an option that would do nothing."""
    if out is None and compare and not live:
        raise ValueError("--compare must come with --out or --live, to draw in, got it without")
    if out is None and fps is not None:
        raise ValueError("--fps must come with --out, the video to write, got it without")
    if init and port and not live:
        raise ValueError(f"--port must not come with --init, which needs no page, got {port}")


def _fitted(first: "FramePair") -> "NDArray[np.float64]":
    """Return the matrix between images of the same view in two sizes."""
    from rgbt_fusion.alignment.known import fit_source

    if first.rgb is None or first.tir is None:
        raise ValueError("--fit must come with both modalities, got one")
    found = fit_source([first])
    if "stretched" in found.reason:
        _say_notice(found.reason)
    return found.tir_from_rgb


def _lay(
    tracker: "FrameTracker", tir_from_rgb: Any, pairs: "Iterator[FramePair]"
) -> "Iterator[FramePair]":
    """Tell a tracker how the images lie on each other, or lay them so where it cannot be told."""
    import numpy as np

    from rgbt_fusion.alignment.aligned_frames import AlignedFrames
    from rgbt_fusion.alignment.estimate import Alignment
    from rgbt_fusion.tracking.tracker import Tracker

    if isinstance(tracker, Tracker):
        tracker.tir_from_rgb = tir_from_rgb
        return pairs
    matrix = np.asarray(tir_from_rgb, dtype=np.float64)
    if matrix.shape == (2,):
        x, y = matrix
        matrix = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
    return iter(AlignedFrames(pairs, Alignment(matrix, 0.0, 1.0, True, 0.0, 1.0, "given")))


def _say_boxes_beyond(boxes: Sequence[Sequence[float]], first: "FramePair") -> None:
    """Say where a first box reaches beyond the frame, as two corners given for a box do."""
    frame = first.tir if first.rgb is None else first.rgb
    if frame is None:
        return
    rows, columns = frame.shape[:2]
    for x, y, width, height in boxes:
        is_beyond = x + width > columns or y + height > rows
        if is_beyond and width > x and height > y:
            _say_notice(
                f"the first box {x:g},{y:g},{width:g},{height:g} reaches beyond the frame of "
                f"{columns} x {rows}: if these are two corners, give "
                f"{x:g},{y:g},{width - x:g},{height - y:g}"
            )


def _say_notice(text: str) -> None:
    typer.echo(f"notice: {text}", err=True)


def _check_outputs(
    out: Path | None,
    txt: Path | None,
    live: bool,
    targets: int,
    debug: bool,
    fps: float | None,
    model: str,
    force: bool,
) -> None:
    from rgbt_fusion.checks import check_choice, check_finite_number
    from rgbt_fusion.cli.model_argument import refuse_overwriting
    from rgbt_fusion.frames.reading import load_cv2
    from rgbt_fusion.video.film import VIDEO_CODES

    if out is not None and out == txt:
        raise ValueError(f"--out and --txt must be two files, got {out} for both")
    if debug and out is None and not live:
        raise ValueError("--debug must come with --out or --live, to draw in, got it without")
    if debug and model == TEMPLATE_MATCHING:
        raise ValueError(f"--debug must come with a network, which {TEMPLATE_MATCHING} has none of")
    if fps is not None:
        check_finite_number(fps, name="--fps", low=0.1, high=1000.0)
    if out is not None:
        check_choice(out.suffix.lower(), VIDEO_CODES, name="the ending of --out")
    load_cv2()
    written = [out] if out else []
    for number in _numbers_of(targets):
        if txt:
            written += [_beside(txt, number), _beside(txt, f"{number}_confidence")]
    for path in written:
        # a folder that is not there is made when all else is found to work
        if path.parent.is_dir():
            refuse_overwriting(path, force=force)


def _tracker_settings(
    offset: str | None,
    homography: Path | None,
    fit: bool,
    missing: str,
    tir_range: str | None,
    model: str,
) -> dict[str, Any]:
    from rgbt_fusion.checks import check_choice
    from rgbt_fusion.tracking.tracker import MISSING

    check_choice(missing, MISSING, name="--missing")
    settings: dict[str, Any] = {} if missing == "zeros" else {"missing": missing}
    if offset is not None and homography is not None:
        raise ValueError(f"--offset must not come with --homography, got {offset} and {homography}")
    if fit and (offset is not None or homography is not None):
        raise ValueError("--fit must not come with --offset or --homography, got both")
    if tir_range is not None:
        low, high = _numbers(tir_range, 2, "--tir-range", "low,high")
        if not low < high:
            raise ValueError(f"--tir-range must be two numbers in order, got {tir_range!r}")
        settings["tir_range"] = (low, high)
    if offset is not None:
        settings["tir_from_rgb"] = _numbers(offset, 2, "--offset")
    if homography is not None:
        from rgbt_fusion.alignment.estimate import read_homography

        settings["tir_from_rgb"] = read_homography(homography).tir_from_rgb
    if model == TEMPLATE_MATCHING and settings.keys() - {"tir_from_rgb"}:
        raise ValueError(
            f"--missing and --tir-range must come with a network, not with {TEMPLATE_MATCHING}"
        )
    return settings


def _numbers(text: str, count: int, option: str, form: str = "") -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise ValueError(
            f"{option} must be {form or ','.join('xywh'[:count])}, {count} numbers, got {text!r}"
        )
    return numbers


def _find_box(
    tracker: "FrameTracker", source: "Source", first: "FramePair", port: int, *, may_point: bool
) -> list[Sequence[float]]:
    """Return the annotated box, or what a person picks, who must be there for that."""
    from rgbt_fusion.tracking.tracker import Tracker

    if source.truth is not None:
        return [source.truth.rgb[0].tolist()]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ValueError(
            "--init must be given where nobody can pick the target: this is no terminal. "
            "Hint: --init x,y,w,h, left, top, width and height in pixels of the first colour frame"
        )
    from rgbt_fusion.video.pick import pick_target

    network_tracker = tracker if isinstance(tracker, Tracker) else None
    picked = pick_target(
        *first,
        announce=lambda address: say_page(address, "and draw a box"),
        port=port,
        tir_from_rgb=network_tracker.tir_from_rgb if network_tracker else None,
        points=may_point and network_tracker is not None,
    )
    if picked.alignment is not None and network_tracker is not None:
        network_tracker.tir_from_rgb = picked.alignment.tir_from_rgb
        typer.echo(f"aligned: {described(picked.alignment)}", err=True)
    return [picked.box_xywh_px]


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
    for path in (outputs.video, outputs.text):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    seen = _Notices(source, tracker)
    seen.say()
    with ExitStack() as stack:
        page = _open_live_page(source, outputs.port, stack) if outputs.live else None
        video = None
        if outputs.video:
            fps = outputs.fps or source.fps or USUAL_FPS
            video = stack.enter_context(writing_video(outputs.video, fps=fps))
            _say_where_it_plays(outputs.video)
        unseen = not (outputs.video or outputs.text or outputs.live)
        lines = stack.enter_context(_Lines()) if unseen else None
        try:
            for rgb, tir in _with_progress(pairs, source.length, hidden=lines is not None):
                start = time.perf_counter()
                results.append(tracker.update(rgb, tir) if results else first)
                seconds += time.perf_counter() - start
                if lines is not None:
                    lines.show(results[-1], len(results) / seconds)
                picture = partial(draw, tracker, (rgb, tir), results[-1])
                if video is not None:
                    drawn = picture()
                    video.write(drawn)
                    picture = partial(_same, drawn)
                if page is not None:
                    page.show(picture, _live_text(results, seconds))
                seen.say()
        except KeyboardInterrupt:
            # a camera has no other end
            if not (source.live or source.length is None) or not results:
                raise
        if page is not None:
            page.end(f"The tracking has ended after {len(results)} frames.")
    seen.say()
    written = [outputs.video] if outputs.video else []
    if outputs.text:
        written += _write_text(outputs.text, results)
    _say_result(results, seconds, written)


def _open_live_page(source: "Source", port: int, stack: ExitStack) -> "LivePage":
    """Open the page of --live; a recording waits for a person who is there to look at it."""
    from rgbt_fusion.video.live import LivePage

    def announce(address: str) -> None:
        say_page(address, "to see the tracking")

    page = stack.enter_context(LivePage(announce=announce, port=port))
    if not source.live and sys.stderr.isatty():
        page.wait_for_viewer(OPENING_SECONDS)
    return page


def _same(drawn: "Picture") -> "Picture":
    """Return a picture that is drawn already."""
    return drawn


def _live_text(results: "list[TrackResult]", seconds: float) -> str:
    import numpy as np

    last = results[-1]
    confidences = ", ".join(f"{value:.2f}" for value in np.atleast_1d(last.confidence))
    words = [f"frame {len(results)}", f"confidence {confidences}"]
    if np.any(last.lost):
        words.append("lost")
    if len(results) > 1 and seconds > 0:
        words.append(f"{(len(results) - 1) / seconds:.1f} frames a second")
    return ", ".join(words)


def _say_where_it_plays(path: Path) -> None:
    """Say that an .mp4 without an ffmpeg does not play everywhere."""
    from rgbt_fusion.video.film import plays_in_browsers

    if path.suffix.lower() == ".mp4" and not plays_in_browsers(path):
        _say_notice(
            f"{path} plays in video players, not in browsers and chat programs: an ffmpeg with "
            "libx264 on the path writes one that does, and .webm does without"
        )


class _Notices:
    """Says what a source and a tracker notice, each thing once."""

    def __init__(self, source: "Source", tracker: "FrameTracker") -> None:
        self.lists: list[list[str]] = [source.notices, getattr(tracker, "notices", [])]
        self.told = [0, 0]

    def say(self) -> None:
        for place, notices in enumerate(self.lists):
            for notice in notices[self.told[place] :]:
                _say_notice(notice)
            self.told[place] = len(notices)


def _say_result(results: "list[TrackResult]", seconds: float, written: list[Path]) -> None:
    import numpy as np

    lost = sum(bool(np.any(result.lost)) for result in results)
    speed = ""
    if len(results) > 1 and seconds > 0:
        speed = f", {(len(results) - 1) / seconds:.1f} a second"
    files = f"; wrote {' and '.join(map(str, written))}" if written else ""
    typer.echo(f"{len(results)} frames{speed}, lost in {lost}{files}", err=True)


class _Lines:
    """Shows results as they come, to be used in a ``with`` statement.

    On a terminal it is one line that is renewed, elsewhere one line of CSV per frame and target.
    """

    def __init__(self) -> None:
        self.renews = sys.stdout.isatty()

    def __enter__(self) -> "_Lines":
        if not self.renews:
            typer.echo("frame,target,left,top,width,height,confidence")
        return self

    def show(self, result: "TrackResult", frames_per_second: float) -> None:
        """Show the targets of one frame."""
        import numpy as np

        boxes = np.atleast_2d(result.box_xywh_px)
        confidences = np.atleast_1d(result.confidence)
        lost = np.atleast_1d(result.lost)
        if not self.renews:
            for target, (box, confidence) in enumerate(zip(boxes, confidences, strict=True), 1):
                typer.echo(f"{result.frame},{target},{_box_in_words(box)},{confidence:.6f}")
            sys.stdout.flush()
            return
        targets = []
        for box, confidence, is_lost in zip(boxes, confidences, lost, strict=True):
            sides = ",".join(f"{side:.1f}" for side in box)
            targets.append(f"{sides} {'lost' if is_lost else 'sure'} {confidence:.2f}")
        line = f"frame {result.frame}  {'  '.join(targets)}  {frames_per_second:.1f} frames/s"
        # a line that wraps cannot be renewed
        width = shutil.get_terminal_size().columns - 1
        typer.echo(f"\r\x1b[K{line[:width]}", nl=False)
        sys.stdout.flush()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.renews:
            typer.echo()


def _with_progress(
    pairs: "Iterator[FramePair]", length: int | None, *, hidden: bool = False
) -> "Iterator[FramePair]":
    """Yield the frames, and show how many are done and how fast."""
    with Bar(length, hidden=hidden) as bar:
        for pair in pairs:
            yield pair
            speed = bar.steps_per_second
            bar.advance(1, f"{speed:.1f} frames a second" if speed else "")


def _write_text(path: Path, results: "list[TrackResult]") -> list[Path]:
    """Write a file of boxes and one of confidences for each target; return those of boxes."""
    import numpy as np

    from rgbt_fusion.files.whole import write_text

    boxes = np.stack([np.atleast_2d(result.box_xywh_px) for result in results])
    confidences = np.stack([np.atleast_1d(result.confidence) for result in results])
    written: list[Path] = []
    for target, number in enumerate(_numbers_of(boxes.shape[1])):
        confidence_lines = [f"{value:.6f}\n" for value in confidences[:, target]]
        write_text(_beside(path, f"{number}_confidence"), "".join(confidence_lines))
        box_lines = [_box_in_words(box) + "\n" for box in boxes[:, target]]
        written.append(_beside(path, number))
        write_text(written[-1], "".join(box_lines))
    return written


def _box_in_words(box: "Boxes") -> str:
    return ",".join(f"{side:.4f}" for side in box)


def _numbers_of(targets: int) -> list[str]:
    """Return what is put into the names of the files of each target, nothing for a single one."""
    if targets <= 1:
        return [""]
    return [f"_{number}" for number in range(1, targets + 1)]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.stem}{ending}{path.suffix}")

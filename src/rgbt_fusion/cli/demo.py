"""``rgbt-fusion demo``: a film of the tracker that comes with the package, without a download."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rgbt_fusion.cli.bars import Bar
from rgbt_fusion.cli.completion import complete_models
from rgbt_fusion.cli.trackers import (
    CHECKPOINT_HELP,
    NETWORK_HELP,
    TEMPLATE_MATCHING,
    check_tracker,
    make_tracker,
    tracker_name,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rgbt_fusion.evaluation.scores import Scores
    from rgbt_fusion.frames.drawing import Picture
    from rgbt_fusion.synthetic.plan import Challenge
    from rgbt_fusion.synthetic.world import SyntheticSequence
    from rgbt_fusion.tracking.interface import FrameTracker
    from rgbt_fusion.video.overlay import Mark

FILM = "film"
"""Name of the film, without its ending."""
FPS = 16
FRAME_STEP = 2
"""The film shows every second frame; all are tracked."""
WIDTH = 400
"""Pixels that a frame of either modality is enlarged to, as ``HEIGHT``."""
HEIGHT = 300
JPEG_QUALITY = 75

BACKGROUND = "#14161a"
PANEL = "#1b1e23"
LEGEND = "#23262c"
LINES = "#555"
LABELS = "#b8bcc4"
TEXT = "#e8e8e8"


class Scene(NamedTuple):
    """One sequence of the film."""

    challenge: "Challenge"
    seed: int
    """Of a place and objects that no training shows."""
    title: str


SCENES = (
    Scene("none", 7032, "by day"),
    Scene("night", 7012, "at night"),
    Scene("glare", 7039, "against the light"),
    Scene("thermal_crossover", 7000, "as warm as the street"),
    Scene("missing", 7037, "a camera fails"),
)


class DemoFilm(NamedTuple):
    """What tracking all scenes gave."""

    pictures: list[bytes]
    """JPEG files, one per frame shown."""
    scores: list["Scores"]
    """Of the tracker, and of template matching."""


def demo(
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Folder for the film, the plot, the scores and the page."
        ),
    ] = Path("rgbt-fusion-demo"),
    model: Annotated[
        str, typer.Option(help=NETWORK_HELP, autocompletion=complete_models)
    ] = "ainet_tiny_128",
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    frames: Annotated[int, typer.Option(help="Number of frames of each of the five scenes.")] = 96,
    show: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            help="Open the page in a browser; by default where there is a screen.",
        ),
    ] = None,
) -> None:
    """Track five made-up scenes beside template matching: a film, a plot, scores, and a page.

    Nothing is downloaded. The tracker was not trained on these places and objects.
    """
    from rgbt_fusion.checks import check_positive_int
    from rgbt_fusion.evaluation.plots import new_figure
    from rgbt_fusion.files.whole import writing
    from rgbt_fusion.video.film import default_ending

    check_positive_int(frames, name="--frames")
    check_tracker(model, checkpoint, "cpu")
    trackers = {
        tracker_name(model): make_tracker(model, checkpoint, "cpu"),
        "template matching": make_tracker(TEMPLATE_MATCHING, None, "cpu"),
    }
    # first of all, so that what is not installed is said before a film is made
    figure, axes = new_figure(width=9.6, height=3.2)
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    film = _shoot(trackers, frames, out / (FILM + default_ending()))
    _plot(axes, film.scores, frames)
    _darken(figure, axes)
    with writing(out / "overlap.png", keep_suffix=True) as part:
        figure.savefig(part)
    _write_scores(film.scores, out / "scores.json")
    _write_page(film, figure, out)
    typer.echo(_table(film.scores))
    names = ", ".join(sorted(path.name for path in out.iterdir()))
    seconds = time.perf_counter() - start
    typer.echo(f"\n{frames * len(SCENES)} frames in {seconds:.0f} s; {out} holds {names}")
    if _should_open(show):
        import webbrowser

        webbrowser.open((out / "index.html").resolve().as_uri())


def _shoot(trackers: Mapping[str, "FrameTracker"], frames: int, path: Path) -> DemoFilm:
    """Track all scenes, draw every frame, and score the boxes."""
    from rgbt_fusion.synthetic.world import SyntheticSequence
    from rgbt_fusion.video.film import writing_video

    sequences = [
        SyntheticSequence(scene.seed, frames=frames, challenge=scene.challenge, held_out=True)
        for scene in SCENES
    ]
    boxes: dict[str, dict[str, list[Any]]] = {name: {} for name in trackers}
    pictures: list[bytes] = []
    with writing_video(path, fps=FPS) as video, Bar(frames * len(SCENES), "tracking") as bar:
        for scene, sequence in zip(SCENES, sequences, strict=True):
            for number, frame in enumerate(_track(sequence, trackers, boxes)):
                if number % FRAME_STEP == 0:
                    picture = _draw(frame, scene.title)
                    video.write(picture)
                    pictures.append(_jpeg(picture))
                bar.advance()
    return DemoFilm(pictures, _score(sequences, boxes))


class TrackedFrame(NamedTuple):
    """A frame and the boxes to draw in it, the truth first, then those of the trackers."""

    rgb: Any
    tir: Any
    marks: list["Mark"]


def _track(
    sequence: "SyntheticSequence",
    trackers: Mapping[str, "FrameTracker"],
    boxes: Mapping[str, dict[str, list[Any]]],
) -> Iterator[TrackedFrame]:
    """Track frame by frame, and add every box to ``boxes``."""
    from rgbt_fusion.video.overlay import COLOURS, TRUTH_COLOUR, Mark

    for number, (rgb, tir) in enumerate(sequence):
        truth = sequence.truth.rgb[number]
        marks = [Mark(truth, "truth", TRUTH_COLOUR)]
        for (name, tracker), colour in zip(trackers.items(), COLOURS, strict=False):
            result = tracker.update(rgb, tir) if number else tracker.init(rgb, tir, truth)
            boxes[name].setdefault(sequence.name, []).append(result.box_xywh_px)
            marks.append(Mark(result.box_xywh_px, name, colour, bool(result.lost)))
        yield TrackedFrame(rgb, tir, marks)


def _draw(frame: TrackedFrame, title: str) -> "Picture":
    from rgbt_fusion.video.overlay import draw_overlay

    shown = frame.rgb if frame.rgb is not None else frame.tir
    scale = WIDTH / shown.shape[1]
    truth, *tracked = (mark._replace(box_xywh_px=mark.box_xywh_px * scale) for mark in frame.marks)
    # the tracker's own box lies on top
    marks = [truth, *reversed(tracked)]
    return draw_overlay(_enlarged(frame.rgb), _enlarged(frame.tir), marks, text=title)


def _enlarged(image: Any) -> "Picture | None":
    from rgbt_fusion.frames.drawing import eight_bits, resize

    return None if image is None else resize(eight_bits(image), WIDTH, HEIGHT)


def _jpeg(picture: "Picture") -> bytes:
    from rgbt_fusion.frames.reading import load_cv2

    cv2 = load_cv2()
    bgr = picture[:, :, ::-1]
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _score(
    sequences: Sequence["SyntheticSequence"], boxes: Mapping[str, Mapping[str, Sequence[Any]]]
) -> list["Scores"]:
    import numpy as np

    from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score

    truth = BenchmarkTruth("rgbt234", {one.name: one.truth for one in sequences}, {})
    scores = []
    for name, tracks in boxes.items():
        arrays = {sequence: np.array(track) for sequence, track in tracks.items()}
        scores.append(score(arrays, truth, tracker=name))
    return scores


def _plot(axes: Any, scores: Sequence["Scores"], frames: int) -> None:
    """Draw the overlap with the truth through the whole film."""
    import numpy as np

    from rgbt_fusion.video.overlay import COLOURS

    # the tracker's own line lies on top
    for number, one in reversed(list(enumerate(scores))):
        overlap = np.concatenate([track.overlap for track in one.tracks.values()])
        colour = tuple(channel / 255 for channel in COLOURS[number])
        label = f"{one.tracker} [{one.metrics['MSR']:.3f}]"
        axes.plot(overlap, color=colour, linewidth=1.8, label=label)
    for number, scene in enumerate(SCENES):
        axes.text((number + 0.5) * frames, 1.04, scene.title, ha="center", color=TEXT)
        if number:
            axes.axvline(number * frames - 0.5, color=LINES, linewidth=0.8)
    axes.set(
        xlim=(0, len(SCENES) * frames - 1),
        ylim=(0, 1.0),
        xlabel="frame",
        ylabel="overlap with the truth",
    )
    legend = axes.legend(
        loc="lower left", fontsize="small", facecolor=LEGEND, edgecolor=LINES, labelcolor=TEXT
    )
    legend.set_zorder(5)


def _darken(figure: "Figure", axes: Any) -> None:
    figure.set_facecolor(BACKGROUND)
    axes.set_facecolor(PANEL)
    axes.grid(visible=True, axis="y", alpha=0.2)
    axes.tick_params(colors=LABELS)
    axes.xaxis.label.set_color(LABELS)
    axes.yaxis.label.set_color(LABELS)
    for spine in axes.spines.values():
        spine.set_color(LINES)


class SceneScores(NamedTuple):
    """The success of every tracker in a scene, or in all."""

    title: str
    success: list[float]


def _rows(scores: Sequence["Scores"]) -> list[SceneScores]:
    rows = []
    for scene, name in zip(SCENES, scores[0].sequences, strict=True):
        success = [one.sequences[name]["MSR"] for one in scores]
        rows.append(SceneScores(scene.title, success))
    rows.append(SceneScores("all", [one.metrics["MSR"] for one in scores]))
    return rows


def _table(scores: Sequence["Scores"]) -> str:
    from rgbt_fusion.files.table import Table, to_markdown

    rows = tuple((row.title, *row.success) for row in _rows(scores))
    return to_markdown(Table(("success", *(one.tracker for one in scores)), rows))


def _write_scores(scores: Sequence["Scores"], path: Path) -> None:
    from rgbt_fusion.files.whole import write_json

    names = [one.tracker for one in scores]
    content = {row.title: dict(zip(names, row.success, strict=True)) for row in _rows(scores)}
    write_json(path, content)


def _write_page(film: DemoFilm, figure: "Figure", out: Path) -> None:
    """Write one page that holds the film, the plot and the scores, and needs nothing else."""
    import base64
    import html
    import json
    from importlib import resources
    from string import Template

    from rgbt_fusion.files.whole import write_text

    template = resources.files("rgbt_fusion.cli").joinpath("demo.html").read_text(encoding="utf-8")
    place = figure.axes[0].get_position()
    plot = (out / "overlap.png").read_bytes()
    frames = [base64.b64encode(picture).decode() for picture in film.pictures]
    page = Template(template).substitute(
        tracker=html.escape(film.scores[0].tracker),
        plot=base64.b64encode(plot).decode(),
        table=_html_table(film.scores),
        frames=json.dumps(frames),
        left=place.x0,
        right=place.x1,
        fps=FPS,
    )
    write_text(out / "index.html", page)


def _html_table(scores: Sequence["Scores"]) -> str:
    import html

    head = "".join(f"<th>{html.escape(one.tracker)}</th>" for one in scores)
    lines = [f"<tr><th>success</th>{head}</tr>"]
    for row in _rows(scores):
        values = "".join(f"<td>{value:.3f}</td>" for value in row.success)
        lines.append(f"<tr><td>{row.title}</td>{values}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _should_open(wanted: bool | None) -> bool:
    """Say whether to open the page: as told, or where somebody sits before a screen."""
    if wanted is not None:
        return wanted
    if os.environ.get("CI") or not sys.stdout.isatty():
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

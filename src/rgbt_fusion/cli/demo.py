"""``rgbt-fusion demo``: a film of the tracker that comes with the package, in a minute and without
a download."""

import base64
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rgbt_fusion.cli.trackers import BASELINE, check_tracker, make_tracker, tracker_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rgbt_fusion.evaluation.scores import Scores
    from rgbt_fusion.frames.drawing import Picture
    from rgbt_fusion.synthetic.world import SyntheticSequence
    from rgbt_fusion.tracking.tracker import FrameTracker
    from rgbt_fusion.video.film import VideoFile
    from rgbt_fusion.video.overlay import Mark

FILM = "film.mp4"
FPS = 16
EVERY = 2
"""The film shows one of so many frames; all are tracked."""
WIDTH, HEIGHT = 400, 300
"""What a frame of either modality is enlarged to."""

MATCHING = "template matching"


class Scene(NamedTuple):
    """One sequence of the film: what happens, the seed of a place and objects that no training
    shows, and a title."""

    challenge: str
    seed: int
    title: str


SCENES = (
    Scene("none", 7032, "by day"),
    Scene("night", 7012, "at night"),
    Scene("glare", 7039, "against the light"),
    Scene("thermal_crossover", 7000, "as warm as the street"),
    Scene("missing", 7037, "a camera fails"),
)


class Film(NamedTuple):
    """What tracking all scenes gave."""

    pictures: list[bytes]
    """JPEG files, one a frame shown."""
    scores: list["Scores"]
    """Of the tracker, and of template matching."""


def demo(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Gets the film, the plot, the scores and a page.")
    ] = Path("rgbt-fusion-demo"),
    model: Annotated[str, typer.Option(help="A preset, or a file of weights.")] = "ainet_tiny_128",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights for a preset; by default its own.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of each of the five scenes.")] = 96,
    show: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open the page; by default where there is a browser."
        ),
    ] = None,
) -> None:
    """Track five scenes of the synthetic world beside template matching: a film, a plot, the
    scores, and a page of all.

    Nothing is downloaded. The places and objects are none that the tracker was trained on.
    """
    from rgbt_fusion.checks import check_positive_int
    from rgbt_fusion.evaluation.plots import new_figure

    check_positive_int(frames, name="--frames")
    check_tracker(model, checkpoint, "cpu")
    trackers = {
        tracker_name(model): make_tracker(model, checkpoint, "cpu"),
        MATCHING: make_tracker(BASELINE, None, "cpu"),
    }
    # first of all, so that what is not installed is said before a film is made
    figure, axes = new_figure(width=9.6, height=3.2)
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    film = _shoot(trackers, frames, out / FILM)
    _plot(axes, film.scores, frames)
    _darken(figure, axes)
    figure.savefig(out / "overlap.png")
    _write_scores(film.scores, out / "scores.json")
    _write_page(film, figure, out)
    typer.echo(_table(film.scores))
    names = ", ".join(sorted(path.name for path in out.iterdir()))
    typer.echo(
        f"\n{frames * len(SCENES)} frames in {time.perf_counter() - start:.0f} s; {out} holds {names}"
    )
    if _should_open(show):
        import webbrowser

        webbrowser.open((out / "index.html").resolve().as_uri())


def _shoot(trackers: Mapping[str, "FrameTracker"], frames: int, path: Path) -> Film:
    """Track all scenes, draw every frame, and score the boxes."""
    from rich.console import Console
    from rich.progress import track

    from rgbt_fusion.synthetic.world import SyntheticSequence
    from rgbt_fusion.video.film import writing_video

    sequences = [
        SyntheticSequence(scene.seed, frames=frames, challenge=scene.challenge, held_out=True)
        for scene in SCENES
    ]
    boxes: dict[str, dict[str, list[Any]]] = {name: {} for name in trackers}
    pictures: list[bytes] = []
    console = Console(stderr=True)
    with writing_video(path, fps=FPS) as video:
        steps = _steps(sequences, trackers, boxes, video)
        total = frames * len(SCENES)
        steps = track(
            steps,
            "tracking",
            total,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        pictures += [picture for picture in steps if picture]
    return Film(pictures, _score(sequences, boxes))


def _steps(
    sequences: Sequence["SyntheticSequence"],
    trackers: Mapping[str, "FrameTracker"],
    boxes: Mapping[str, dict[str, list[Any]]],
    video: "VideoFile",
) -> Iterator[bytes]:
    """Track frame by frame; yield those that are shown as JPEG files, nothing for the others."""
    from rgbt_fusion.video.overlay import COLOURS, TRUTH_COLOUR, Mark

    for scene, sequence in zip(SCENES, sequences, strict=True):
        for number, (rgb, tir) in enumerate(sequence):
            truth = sequence.truth.rgb[number]
            marks = [Mark(truth, "truth", TRUTH_COLOUR)]
            for (name, tracker), colour in zip(trackers.items(), COLOURS, strict=False):
                result = tracker.update(rgb, tir) if number else tracker.init(rgb, tir, truth)
                boxes[name].setdefault(sequence.name, []).append(result.box_xywh_px)
                marks.append(Mark(result.box_xywh_px, name, colour, bool(result.lost)))
            if number % EVERY:
                yield b""
                continue
            # the tracker's own box lies on top
            picture = _draw(rgb, tir, [marks[0], *reversed(marks[1:])], scene.title)
            video.write(picture)
            yield _jpeg(picture)


def _draw(rgb: Any, tir: Any, marks: Sequence["Mark"], title: str) -> "Picture":
    from rgbt_fusion.frames.drawing import eight_bits, resize
    from rgbt_fusion.video.overlay import draw_overlay

    shown = rgb if rgb is not None else tir
    scale = WIDTH / shown.shape[1]
    colour, thermal = (
        None if frame is None else resize(eight_bits(frame), WIDTH, HEIGHT) for frame in (rgb, tir)
    )
    return draw_overlay(
        colour,
        thermal,
        [mark._replace(box_xywh_px=mark.box_xywh_px * scale) for mark in marks],
        text=title,
    )


def _jpeg(picture: "Picture") -> bytes:
    from rgbt_fusion.frames.reading import load_cv2

    cv2 = load_cv2()
    return cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()


def _score(
    sequences: Sequence["SyntheticSequence"], boxes: Mapping[str, Mapping[str, Sequence[Any]]]
) -> list["Scores"]:
    import numpy as np

    from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score

    truth = BenchmarkTruth("rgbt234", {one.name: one.truth for one in sequences}, {})
    return [
        score({key: np.array(track) for key, track in tracks.items()}, truth, tracker=name)
        for name, tracks in boxes.items()
    ]


def _plot(axes: Any, scores: Sequence["Scores"], frames: int) -> None:
    """Draw the overlap with the truth through the whole film."""
    import numpy as np

    from rgbt_fusion.video.overlay import COLOURS

    for number, one in reversed(list(enumerate(scores))):
        overlap = np.concatenate([track.overlap for track in one.tracks.values()])
        colour = tuple(channel / 255 for channel in COLOURS[number])
        axes.plot(
            overlap, color=colour, linewidth=1.8, label=f"{one.tracker} [{one.metrics['MSR']:.3f}]"
        )
    for number, scene in enumerate(SCENES):
        axes.text((number + 0.5) * frames, 1.04, scene.title, ha="center", color="#e8e8e8")
        if number:
            axes.axvline(number * frames - 0.5, color="#555", linewidth=0.8)
    axes.set(
        xlim=(0, len(SCENES) * frames - 1),
        ylim=(0, 1.0),
        xlabel="frame",
        ylabel="overlap with the truth",
    )
    legend = axes.legend(
        loc="lower left",
        fontsize="small",
        facecolor="#23262c",
        edgecolor="#555",
        labelcolor="#e8e8e8",
    )
    legend.set_zorder(5)


def _darken(figure: "Figure", axes: Any) -> None:
    figure.set_facecolor("#14161a")
    axes.set_facecolor("#1b1e23")
    axes.grid(visible=True, axis="y", alpha=0.2)
    axes.tick_params(colors="#b8bcc4")
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set_color("#b8bcc4")
    for spine in axes.spines.values():
        spine.set_color("#555")


def _rows(scores: Sequence["Scores"]) -> list[tuple[str, list[float]]]:
    """Return the success of each tracker in each scene, and in all."""
    names = list(scores[0].sequences)
    rows = [
        (scene.title, [one.sequences[name]["MSR"] for one in scores])
        for scene, name in zip(SCENES, names, strict=True)
    ]
    return [*rows, ("all", [one.metrics["MSR"] for one in scores])]


def _table(scores: Sequence["Scores"]) -> str:
    from rgbt_fusion.evaluation.tables import Table, to_markdown

    rows = tuple((title, *values) for title, values in _rows(scores))
    return to_markdown(Table(("success", *(one.tracker for one in scores)), rows))


def _write_scores(scores: Sequence["Scores"], path: Path) -> None:
    import json

    from rgbt_fusion.files.whole import write_text

    content = {
        title: dict(zip((one.tracker for one in scores), values, strict=True))
        for title, values in _rows(scores)
    }
    write_text(path, json.dumps(content, indent=1) + "\n")


def _write_page(film: Film, figure: "Figure", out: Path) -> None:
    """Write one page that holds the film, the plot and the scores, and needs nothing else."""
    import html
    import json
    from importlib import resources
    from string import Template

    from rgbt_fusion.files.whole import write_text

    head = "".join(f"<th>{html.escape(one.tracker)}</th>" for one in film.scores)
    rows = "".join(
        f"<tr><td>{title}</td>{''.join(f'<td>{value:.3f}</td>' for value in values)}</tr>"
        for title, values in _rows(film.scores)
    )
    place = figure.axes[0].get_position()
    page = Template(
        resources.files("rgbt_fusion.cli").joinpath("demo.html").read_text(encoding="utf-8")
    )
    filled = page.substitute(
        tracker=html.escape(film.scores[0].tracker),
        plot=base64.b64encode((out / "overlap.png").read_bytes()).decode(),
        table=f"<table><tr><th>success</th>{head}</tr>{rows}</table>",
        frames=json.dumps([base64.b64encode(picture).decode() for picture in film.pictures]),
        left=place.x0,
        right=place.x1,
        fps=FPS,
    )
    write_text(out / "index.html", filled)


def _should_open(wanted: bool | None) -> bool:
    """Say whether to open the page: as told, or where somebody sits before a screen."""
    if wanted is not None:
        return wanted
    screen = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return screen and not os.environ.get("CI") and sys.stdout.isatty()

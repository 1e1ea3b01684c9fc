"""Write one HTML file with everything: tables, plots, attributes and the worst sequences."""

import io
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.data.sequences import ImageSequence
from rgbt_fusion.evaluation.comparison import Comparison
from rgbt_fusion.evaluation.confidence import (
    FOUND_ABOVE,
    LOST_BELOW,
    confidence_table,
    score_confidence,
)
from rgbt_fusion.evaluation.intervals import paired_differences, score_intervals
from rgbt_fusion.evaluation.plots import confidence_figures, score_figures
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.evaluation.tables import (
    attribute_table,
    interval_note,
    paired_note,
    paired_table,
    score_table,
    sequence_table,
)
from rgbt_fusion.files.table import Table, best_cells, to_cells
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.files.whole import write_text
from rgbt_fusion.frames.drawing import (
    Colour,
    Picture,
    draw_rectangle,
    eight_bits,
    resize,
)
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import FramePair, GroundTruth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["worst_sequences", "write_report"]

_ANNOTATION: Colour = (255, 255, 255)
# matplotlib's ten colours, so that a tracker looks the same in pictures and plots
_COLOURS: tuple[Colour, ...] = (
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (188, 189, 34),
    (23, 190, 207),
)
_PICTURES = 4
"""How many frames of a sequence are shown."""
_WIDTH = 360
"""Width of a picture in pixels."""
_TIMELINE_POINTS = 400
"""How many points of a line are drawn: more than that no screen shows."""
_TIMELINE_WIDTH = 4 * _WIDTH
_TIMELINE_END = _TIMELINE_WIDTH - 10
"""Where the frames end; the rest is room for half of the last frame number."""
_LEFT = 84
"""Room for the words left of the overlap's lines."""
_BELOW = 52
"""Room for the words below them."""
_HEIGHT = 130
"""Height of the overlap's axis."""

_STYLE = """
body {
  font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff;
}
h1 { font-size: 1.6em }
h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #ddd }
h3 { font-size: 1em; margin-bottom: .2em }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #eee }
th, td { white-space: nowrap }
.wide { overflow-x: auto }
th:first-child, td:first-child { text-align: left }
.plots img { width: 49%; min-width: 320px }
.strip { display: flex; gap: 4px; align-items: flex-start; overflow-x: auto }
.strip figure { width: 24.5%; margin: 0 }
.strip img { width: 100% }
.strip figcaption { color: #666; font-size: .85em; line-height: 1.3 }
.best { font-weight: bold }
.scroll { max-height: 30em; overflow: auto }
.note { color: #666; font-size: .9em }
.key { padding: 0 .4em; margin-right: .6em; color: #fff }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd }
  th, td { border-color: #333 }
  .plots img { filter: invert(.9) }
}
"""


def write_report(
    scores: Sequence[Scores],
    path: str | Path,
    *,
    truth: Mapping[str, GroundTruth] | None = None,
    images: Mapping[str, ImageSequence] | None = None,
    worst: int = 8,
) -> Path:
    """Write a report that needs no other file.

    It shows the sequences in which the first tracker is worst, with the boxes of every tracker
    and the annotation.

    Args:
        scores: the trackers' scores on one benchmark.
        path: the file to write.
        truth: the annotations by sequence, to draw. None draws no pictures.
        images: the sequences by name, to draw on. None draws on an empty canvas.
        worst: how many sequences to show.

    Raises:
        ValueError: ``scores`` is empty, or ``worst`` is below 1.
        ModuleNotFoundError: matplotlib or OpenCV is not installed.

    Example:
        >>> import tempfile, pathlib
        >>> import numpy as np
        >>> from rgbt_fusion import score, write_report
        >>> from rgbt_fusion.evaluation.scoring import BenchmarkTruth
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> boxes = np.array([[1.0, 1, 10, 10], [5, 5, 10, 10]])
        >>> truth = {"car": GroundTruth(boxes, boxes, np.arange(2))}
        >>> scores = score({"car": boxes}, BenchmarkTruth("lasher", truth, {}))
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "report.html"
        >>> write_report([scores], file, truth=truth).read_text().count("<h2>")
        4
    """
    check_positive_int(worst, name="worst")
    intervals = score_intervals(scores)
    own_numbers = score_table(scores, intervals=intervals)
    title = f"{scores[0].protocol.title}: {', '.join(one.tracker for one in scores)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        "<h2>Scores</h2>",
        _table(own_numbers),
        _table(score_table(scores, metrics=_further_metrics(scores), intervals=intervals)),
        _note(interval_note(scores)),
        _notes(scores),
        *_differences(scores),
        "<h2>Plots</h2>",
        _drawn(score_figures(scores, intervals)),
        _note("Bands: 95 % intervals over sequences, at each threshold."),
    ]
    parts += _confidence(scores)
    if scores[0].attributes:
        parts += [
            "<h2>Attributes</h2>",
            _table(attribute_table(scores, intervals=intervals)),
            _note("An interval over few sequences is wide; over one there is none."),
        ]
    parts += ["<h2>Worst sequences</h2>", _legend(scores)]
    for name in worst_sequences(scores[0], worst):
        parts.append(_sequence(name, scores, truth or {}, images or {}))
    parts.append("<h2>All sequences</h2>")
    for one in scores:
        parts.append(f"<h3>{escape(one.tracker)}</h3>")
        parts.append(f'<div class="scroll">{_table(sequence_table(one))}</div>')
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    file = Path(path)
    write_text(file, page)
    return file


def worst_sequences(scores: Scores, count: int) -> list[str]:
    """Return the names of the sequences with the lowest score, the worst first.

    The score is the last of the benchmark's own numbers.
    """
    metric = scores.protocol.metrics[-1]

    def value(name: str) -> float:
        return scores.sequences[name].get(metric, 0.0)

    return sorted(scores.sequences, key=value)[:count]


def _table(table: Table) -> str:
    header, *rows = to_cells(table)
    _, *bold = best_cells(table)
    lines = [_row(header, [False] * len(header), "th")]
    lines += [_row(row, best, "td") for row, best in zip(rows, bold, strict=True)]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _row(cells: Sequence[str], bold: Sequence[bool], tag: str) -> str:
    texts = []
    for cell, best in zip(cells, bold, strict=True):
        opening = f'{tag} class="best"' if best else tag
        texts.append(f"<{opening}>{escape(cell)}</{tag}>")
    return f"<tr>{''.join(texts)}</tr>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _differences(scores: Sequence[Scores]) -> list[str]:
    """Say what is decided between the trackers; nothing where they cannot be compared."""
    if len(scores) < 2:
        return []
    parts = ["<h2>Differences</h2>"]
    try:
        pairs = paired_differences(scores)
    except ValueError as error:
        return [*parts, _note(str(error))]
    table = f'<div class="scroll">{_table(paired_table(pairs))}</div>'
    return [*parts, table, _note(paired_note(pairs))]


def _further_metrics(scores: Sequence[Scores]) -> list[str]:
    """Return the numbers that are not the benchmark's own."""
    names: dict[str, None] = {}
    for one in scores:
        names |= dict.fromkeys(one.metrics)
    own = scores[0].protocol.metrics
    return [name for name in names if name not in own]


def _notes(scores: Sequence[Scores]) -> str:
    """Say of each tracker how much was scored, left out and cut."""
    notes = []
    for one in scores:
        text = f"{one.tracker}: {len(one.sequences)} sequences, {one.frames} frames"
        if one.left_out:
            reasons = [f"{name} ({reason})" for name, reason in one.left_out.items()]
            text += f"; left out: {', '.join(reasons)}"
        if one.cut:
            text += f"; longer than the annotation and cut: {len(one.cut)}"
        notes.append(_note(text))
    return "".join(notes)


def _drawn(figures: "dict[str, Figure]") -> str:
    """Show figures beside each other."""
    images = [_svg(figure, name) for name, figure in figures.items()]
    return f'<div class="plots">{"".join(images)}</div>'


def _confidence(scores: Sequence[Scores]) -> list[str]:
    """Show what the confidences are worth; nothing where no tracker wrote any."""
    names = [one.tracker for one in scores]
    found = [score_confidence(one) for one in scores]
    if not any(found):
        return []
    note = (
        f"Found: overlap above {FOUND_ABOVE:g}. Lost: overlap below {LOST_BELOW:g}, or target "
        "absent. ECE: how far the confidence is from the share of frames with the target found. "
        "AUROC: how well low confidence finds losses. AURC: mean of 1 - overlap over the most "
        "confident frames, over all shares of them."
    )
    return [
        "<h2>Confidence</h2>",
        _table(confidence_table(names, found)),
        _note(note),
        _drawn(confidence_figures(names, found)),
    ]


def _svg(figure: "Figure", name: str) -> str:
    drawing = io.BytesIO()
    figure.savefig(drawing, format="svg", metadata={"Date": None})
    return _image(drawing.getvalue(), "svg+xml", name)


def _image(data: bytes, kind: str, alt: str) -> str:
    """Return an image that is part of the page."""
    content = b64encode(data).decode()
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/{kind};base64,{content}">'


def _legend(scores: Sequence[Scores]) -> str:
    """Say which colour is whose."""
    names = ['<span class="key" style="background:#000">annotation (white)</span>']
    for number, one in enumerate(scores):
        colour = _hex(number)
        names.append(f'<span class="key" style="background:{colour}">{escape(one.tracker)}</span>')
    return f"<p>{''.join(names)}</p>"


def _colour(number: int) -> Colour:
    return _COLOURS[number % len(_COLOURS)]


def _hex(number: int) -> str:
    red, green, blue = _colour(number)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _sequence(
    name: str,
    scores: Sequence[Scores],
    truth: Mapping[str, GroundTruth],
    images: Mapping[str, ImageSequence],
) -> str:
    """Show one sequence: its numbers, the overlap over time and some frames."""
    metric = scores[0].protocol.metrics[-1]
    numbers = [
        f"{one.tracker} {one.sequences[name].get(metric, 0.0):.3f}"
        for one in scores
        if name in one.sequences
    ]
    head = f"<h3>{escape(name)}</h3><p class=note>{metric}: {escape(', '.join(numbers))}</p>"
    rows = _telling_rows(scores[0].tracks[name].overlap)
    if name not in truth:
        return f"{head}{_timeline(name, scores, ())}"
    head += _timeline(name, scores, rows)
    try:
        pictures = [_picture(name, row, scores, truth[name], images.get(name)) for row in rows]
    except DataError as error:
        return f"{head}{_note(str(error))}"
    return f'{head}<div class="strip">{"".join(pictures)}</div>'


def _telling_rows(overlaps: NDArray[np.floating]) -> list[int]:
    """Return rows to draw: first, last, the one where the target is lost for good, some between."""
    last = len(overlaps) - 1
    good = np.flatnonzero(overlaps > 0.3)
    if len(good):
        lost = min(int(good[-1]) + 1, last)
    else:
        lost = int(np.argmin(overlaps))
    rows = {0, lost, last}
    for row in np.linspace(0, last, _PICTURES + 1).astype(int)[1:]:
        if len(rows) < _PICTURES:
            rows.add(int(row))
    return sorted(rows)


def _timeline(name: str, scores: Sequence[Scores], shown: Sequence[int]) -> str:
    """Draw the overlap over time, one line per tracker, with its axes in words.

    Frames without target are shaded. The frames of the pictures are marked.
    """
    track = scores[0].tracks[name]
    axis = _FrameAxis(int(track.frames[0]), int(track.frames[-1]))
    width = _TIMELINE_END - _LEFT
    parts = [
        f'<rect x="{_LEFT}" y="0" width="{width}" height="{_HEIGHT}" fill="#8881"/>',
        *_absences(track, axis),
        *_levels(),
        *_frame_numbers(axis),
        *_marks(track.frames[list(shown)], axis),
    ]
    for number, one in enumerate(scores):
        if name in one.tracks:
            parts.append(_overlap_line(one.tracks[name], axis, _hex(number)))
    return (
        f'<svg viewBox="0 -10 {_TIMELINE_WIDTH} {_HEIGHT + _BELOW + 10}" width="100%" role="img" '
        'aria-label="overlap of each tracker over the frames" font-size="18" fill="currentColor">'
        f"{''.join(parts)}"
        f'<text transform="translate(22 {_HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">'
        "overlap (IoU)</text>"
        f'<text x="{(_TIMELINE_WIDTH + _LEFT) // 2}" y="{_HEIGHT + 46}" text-anchor="middle">'
        "frame (shaded: target absent)</text></svg>"
    )


class _FrameAxis(NamedTuple):
    """The horizontal axis of a timeline."""

    first: int
    last: int

    def x(self, frames: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return where frames lie, in units of the drawing."""
        length = max(self.last - self.first, 1)
        return _LEFT + (frames - self.first) / length * (_TIMELINE_END - _LEFT)


def _absences(track: Comparison, axis: _FrameAxis) -> Iterator[str]:
    """Shade the frames without target."""
    for begin, end in _runs(~track.present):
        left, right = axis.x(track.frames[[begin, end]])
        yield (
            f'<rect x="{left:.0f}" y="0" width="{max(right - left, 2):.0f}" height="{_HEIGHT}" '
            'fill="#8884"><title>target absent</title></rect>'
        )


def _levels() -> Iterator[str]:
    """Draw a line and a number at overlaps of 0, 0.5 and 1."""
    for level in (0.0, 0.5, 1.0):
        y = _HEIGHT * (1 - level)
        yield (
            f'<line x1="{_LEFT}" x2="{_TIMELINE_END}" y1="{y:.0f}" y2="{y:.0f}" '
            'stroke="#8886"/>'
            f'<text x="{_LEFT - 8}" y="{y + 6:.0f}" text-anchor="end">{level:g}</text>'
        )


def _frame_numbers(axis: _FrameAxis) -> Iterator[str]:
    """Write a few frame numbers below the axis."""
    frames = np.unique(np.linspace(axis.first, axis.last, 5).astype(int))
    for frame, x in zip(frames, axis.x(frames), strict=True):
        yield f'<text x="{x:.0f}" y="{_HEIGHT + 22}" text-anchor="middle">{frame + 1}</text>'


def _marks(frames: NDArray[np.int64], axis: _FrameAxis) -> Iterator[str]:
    """Mark the frames of the pictures."""
    for x in axis.x(frames):
        yield (
            f'<line x1="{x:.0f}" x2="{x:.0f}" y1="0" y2="{_HEIGHT}" stroke="#888" '
            'stroke-dasharray="4 4"><title>picture below</title></line>'
        )


def _overlap_line(track: Comparison, axis: _FrameAxis, colour: str) -> str:
    """Draw the overlap of one tracker."""
    rows = np.unique(np.linspace(0, len(track.overlap) - 1, _TIMELINE_POINTS).astype(int))
    xs = axis.x(track.frames[rows])
    ys = _HEIGHT * (1 - np.clip(track.overlap[rows], 0, 1))
    points = " ".join(f"{x:.0f},{y:.0f}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>'


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and the last position of each unbroken run of True."""
    edges = np.diff(np.concatenate(([0], flags.astype(np.int8), [0])))
    starts = np.flatnonzero(edges == 1)
    ends = np.flatnonzero(edges == -1) - 1
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _picture(
    name: str, row: int, scores: Sequence[Scores], truth: GroundTruth, images: ImageSequence | None
) -> str:
    """Draw one frame with all boxes, the colour image above the thermal one."""
    cv2 = load_cv2()
    position = int(scores[0].tracks[name].frames[row])
    boxes = _boxes_at(name, position, scores, truth)
    frame = _empty_frame(truth.rgb) if images is None else images[position]
    planes = [_draw(eight_bits(plane), boxes) for plane in frame if plane is not None]
    stacked = np.concatenate([_to_width(plane) for plane in planes])
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(stacked, f"{position + 1}", (6, 18), font, 0.5, (255, 255, 0), 1, cv2.LINE_AA)
    _, data = cv2.imencode(".jpg", stacked[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 80))
    image = _image(data.tobytes(), "jpeg", f"{name}, frame {position + 1}")
    two = "; colour above, second modality below" if len(planes) == 2 else ""
    caption = f"frame {position + 1}{two}. Overlap: {_overlaps_at(name, position, scores)}"
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _overlaps_at(name: str, position: int, scores: Sequence[Scores]) -> str:
    """Say how well each tracker fits in one frame."""
    texts = []
    for one in scores:
        if name not in one.tracks:
            continue
        track = one.tracks[name]
        for row in np.flatnonzero(track.frames == position):
            overlap = f"{track.overlap[row]:.2f}" if track.present[row] else "target absent"
            texts.append(f"{one.tracker} {overlap}")
    return ", ".join(texts)


def _boxes_at(
    name: str, position: int, scores: Sequence[Scores], truth: GroundTruth
) -> list[tuple[NDArray[np.floating], Colour]]:
    """Return the annotation and every tracker's box of a frame, each with its colour."""
    annotated = int(np.searchsorted(truth.frames, position))
    boxes: list[tuple[NDArray[np.floating], Colour]] = [(truth.rgb[annotated], _ANNOTATION)]
    for number, one in enumerate(scores):
        if name not in one.tracks:
            continue
        track = one.tracks[name]
        for row in np.flatnonzero(track.frames == position):
            boxes.append((track.boxes[row], _colour(number)))
    return boxes


def _empty_frame(track: NDArray[np.float64]) -> FramePair:
    """Return an empty image of the usual proportions that holds the whole track."""
    boxes = track[np.isfinite(track).all(axis=1)]
    ends = boxes[:, :2] + boxes[:, 2:]
    right, bottom = ends.max(axis=0, initial=64) * 1.1
    width = int(np.clip(max(right, bottom * 4 / 3), 64, 4096))
    return FramePair(np.full((width * 3 // 4, width, 3), 40, dtype=np.uint8), None)


def _draw(picture: Picture, boxes: list[tuple[NDArray[np.floating], Colour]]) -> Picture:
    canvas = picture.copy()
    thickness = max(1, round(canvas.shape[1] / _WIDTH * 2))
    for box, colour in boxes:
        x, y, width, height = box
        draw_rectangle(canvas, (x, y, x + width, y + height), colour, thickness)
    return canvas


def _to_width(picture: Picture) -> Picture:
    """Return the picture in the width of the report's pictures."""
    height, width = picture.shape[:2]
    return resize(picture, _WIDTH, max(1, round(height * _WIDTH / width)))

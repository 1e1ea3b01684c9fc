"""One HTML file with everything: tables, plots, attributes, and the worst sequences as pictures."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_positive_int
from rgbt_fusion.data.sequences import ImageSequence
from rgbt_fusion.evaluation.plots import plot_attributes, plot_curves
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.evaluation.tables import Table, attribute_table, score_table, sequence_table
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.files.whole import write_text
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.thermal import scale_thermal, thermal_range
from rgbt_fusion.frames.types import FramePair, GroundTruth

__all__ = ["worst_sequences", "write_report"]

_TRUTH = (255, 255, 255)
# matplotlib's ten colours, so that a tracker looks the same in pictures and plots
_COLOURS = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
)
_PICTURES = 4
_WIDTH = 360

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.6em}h2{font-size:1.25em;margin-top:2em;border-bottom:1px solid #ddd}h3{font-size:1em;margin-bottom:.2em}
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}
th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #eee}th:first-child,td:first-child{text-align:left}
.plots img{width:49%;min-width:320px}.strip img{width:24.5%}
.strip{display:flex;gap:4px;align-items:flex-start;overflow-x:auto}
.scroll{max-height:30em;overflow:auto}.note{color:#666;font-size:.9em}.key{padding:0 .4em;margin-right:.6em;color:#fff}
@media (prefers-color-scheme:dark){body{background:#181818;color:#ddd}th,td{border-color:#333}
.plots img{filter:invert(.9)}}
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

    The sequences shown are those in which the first tracker does worst; every tracker's box is
    drawn beside the annotation.

    Args:
        scores: the trackers' scores on one benchmark.
        path: the file to write.
        truth: the annotations by sequence, to draw; None draws overlaps over time alone.
        images: the sequences by name, to draw on; None draws on an empty canvas.
        worst: how many sequences to show.

    Raises:
        ValueError: there is no score, or ``worst`` is below 1.
        ModuleNotFoundError: matplotlib or OpenCV is not installed.

    Example:
        >>> import tempfile, pathlib
        >>> import numpy as np
        >>> from rgbt_fusion.frames.types import GroundTruth
        >>> from rgbt_fusion import score
        >>> from rgbt_fusion.evaluation.scoring import BenchmarkTruth
        >>> from rgbt_fusion import write_report
        >>> boxes = np.array([[1.0, 1, 10, 10], [5, 5, 10, 10]])
        >>> truth = {"car": GroundTruth(boxes, boxes, np.arange(2))}
        >>> scores = score({"car": boxes}, BenchmarkTruth("lasher", truth, {}))
        >>> page = write_report([scores], pathlib.Path(tempfile.mkdtemp()) / "report.html", truth=truth)
        >>> page.read_text().count("<h2>")
        4
    """
    check_positive_int(worst, name="worst")
    first = score_table(scores)
    title = f"{scores[0].protocol.title}: {', '.join(one.tracker for one in scores)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        "<h2>Scores</h2>",
        _table(first),
        _table(score_table(scores, metrics=_others(scores))),
        _left_out(scores),
        "<h2>Plots</h2>",
        f'<div class="plots">{_plots(scores)}</div>',
    ]
    if scores[0].attributes:
        parts += ["<h2>Attributes</h2>", _table(attribute_table(scores))]
    parts += ["<h2>Worst sequences</h2>", _key(scores)]
    parts += [
        _sequence(name, scores, truth or {}, images or {})
        for name in worst_sequences(scores[0], worst)
    ]
    parts += ["<h2>All sequences</h2>"]
    parts += [
        f'<h3>{escape(one.tracker)}</h3><div class="scroll">{_table(sequence_table(one))}</div>'
        for one in scores
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"{''.join(parts)}</body></html>\n"
    )
    file = Path(path)
    write_text(file, page)
    return file


def worst_sequences(scores: Scores, count: int) -> list[str]:
    """Return the names of the sequences with the lowest last number of the benchmark's own, the
    worst first."""
    metric = scores.protocol.metrics[-1]
    return sorted(scores.sequences, key=lambda name: scores.sequences[name].get(metric, 0.0))[
        :count
    ]


def _table(table: Table) -> str:
    def row(cells: Sequence[Any], tag: str) -> str:
        texts = (
            "" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else escape(str(cell))
            for cell in cells
        )
        return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"

    return f"<table>{row(table.header, 'th')}{''.join(row(cells, 'td') for cells in table.rows)}</table>"


def _others(scores: Sequence[Scores]) -> list[str]:
    own = scores[0].protocol.metrics
    return [
        name
        for name in dict.fromkeys(name for one in scores for name in one.metrics)
        if name not in own
    ]


def _left_out(scores: Sequence[Scores]) -> str:
    notes = []
    for one in scores:
        text = f"{one.tracker}: {len(one.sequences)} sequences, {one.frames} frames"
        if one.left_out:
            text += "; left out: " + ", ".join(
                f"{name} ({reason})" for name, reason in one.left_out.items()
            )
        if one.cut:
            text += f"; longer than the annotation and cut: {len(one.cut)}"
        notes.append(f'<p class="note">{escape(text)}</p>')
    return "".join(notes)


def _plots(scores: Sequence[Scores]) -> str:
    figures = [(name, plot_curves(scores, name)) for name in scores[0].curves]
    if len(scores[0].attributes) >= 3:
        figures.append(("attributes", plot_attributes(scores)))
    images = []
    for name, figure in figures:
        drawing = io.BytesIO()
        figure.savefig(drawing, format="svg", metadata={"Date": None})
        images.append(_image(drawing.getvalue(), "svg+xml", name))
    return "".join(images)


def _image(data: bytes, kind: str, alt: str) -> str:
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/{kind};base64,{b64encode(data).decode()}">'


def _key(scores: Sequence[Scores]) -> str:
    names = ['<span class="key" style="background:#000">annotation (white)</span>']
    for number, one in enumerate(scores):
        colour = _hex(number)
        names.append(f'<span class="key" style="background:{colour}">{escape(one.tracker)}</span>')
    return f"<p>{''.join(names)}</p>"


def _hex(number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_COLOURS[number % len(_COLOURS)])


def _sequence(
    name: str,
    scores: Sequence[Scores],
    truth: Mapping[str, GroundTruth],
    images: Mapping[str, ImageSequence],
) -> str:
    metric = scores[0].protocol.metrics[-1]
    having = [one for one in scores if name in one.sequences]
    numbers = ", ".join(
        f"{one.tracker} {one.sequences[name].get(metric, 0.0):.3f}" for one in having
    )
    head = f"<h3>{escape(name)}</h3><p class=note>{metric}: {escape(numbers)}</p>{_timeline(name, scores)}"
    if name not in truth:
        return head
    try:
        pictures = [
            _picture(name, row, scores, truth[name], images.get(name))
            for row in _telling_rows(name, scores[0])
        ]
    except DataError as error:
        return f'{head}<p class="note">{escape(str(error))}</p>'
    return f'{head}<div class="strip">{"".join(pictures)}</div>'


def _telling_rows(name: str, scores: Scores) -> list[int]:
    """Return rows to draw: the first, the one in which the target is lost for good, the last, and
    some between."""
    overlaps = scores.tracks[name].overlap
    good = np.flatnonzero(overlaps > 0.3)
    lost = min(int(good[-1]) + 1, len(overlaps) - 1) if len(good) else int(np.argmin(overlaps))
    rows = {0, lost, len(overlaps) - 1}
    for row in np.linspace(0, len(overlaps) - 1, _PICTURES + 1).astype(int)[1:]:
        if len(rows) < _PICTURES:
            rows.add(int(row))
    return sorted(rows)


def _timeline(name: str, scores: Sequence[Scores]) -> str:
    """Draw the overlap over time, one line a tracker."""
    width, height = 4 * _WIDTH, 70
    lines = []
    for number, one in enumerate(scores):
        track = one.tracks.get(name)
        if track is None:
            continue
        # a few hundred points show all that a screen can
        rows = np.unique(np.linspace(0, len(track.overlap) - 1, 400).astype(int))
        x = rows / max(len(track.overlap) - 1, 1) * width
        y = height * (1 - np.clip(track.overlap[rows], 0, 1))
        points = " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, y, strict=True))
        colour = _hex(number)
        lines.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>'
        )
    return (
        f'<svg viewBox="0 -2 {width} {height + 4}" width="100%" height="{height}" preserveAspectRatio="none" '
        f'role="img" aria-label="overlap over time"><rect width="{width}" height="{height}" fill="#8881"/>'
        f"{''.join(lines)}</svg>"
    )


def _picture(
    name: str, row: int, scores: Sequence[Scores], truth: GroundTruth, images: ImageSequence | None
) -> str:
    """Draw one frame, the colour image above the thermal one."""
    cv2 = load_cv2()
    position = int(scores[0].tracks[name].frames[row])
    annotation = int(np.searchsorted(truth.frames, position))
    boxes: list[tuple[NDArray[Any], tuple[int, int, int]]] = [(truth.rgb[annotation], _TRUTH)]
    for number, one in enumerate(scores):
        track = one.tracks.get(name)
        at = np.flatnonzero(track.frames == position) if track else []
        boxes += [(track.boxes[int(k)], _COLOURS[number % len(_COLOURS)]) for k in at if track]
    frame = _blank(truth.rgb) if images is None else images[position]
    planes = [_draw(_eight_bits(plane), boxes) for plane in frame if plane is not None]
    # side by side of equal height, or one above the other of equal width: the latter fits a strip
    stacked = np.concatenate([_resize(plane, _WIDTH) for plane in planes])
    cv2.putText(
        stacked,
        f"{position + 1}",
        (6, 18),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.5,
        (255, 255, 0),
        1,
        cv2.LINE_AA,
    )
    _, data = cv2.imencode(".jpg", stacked[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 80))
    return _image(data.tobytes(), "jpeg", f"{name}, frame {position + 1}")


def _blank(track: NDArray[np.float64]) -> FramePair:
    """Return an empty image of the usual proportions that holds the whole track."""
    boxes = track[np.isfinite(track).all(axis=1)]
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(axis=0, initial=64) * 1.1
    width = int(np.clip(max(right, bottom * 4 / 3), 64, 4096))
    return FramePair(np.full((width * 3 // 4, width, 3), 40, dtype=np.uint8), None)


def _eight_bits(plane: NDArray[Any]) -> NDArray[np.uint8]:
    if plane.dtype == np.uint16:
        plane = scale_thermal(plane, thermal_range(plane)).astype(np.uint8)
    return plane if plane.ndim == 3 else np.repeat(plane[:, :, None], 3, axis=2)


def _draw(
    plane: NDArray[np.uint8], boxes: list[tuple[NDArray[Any], tuple[int, int, int]]]
) -> NDArray[np.uint8]:
    cv2 = load_cv2()
    canvas = plane.copy()
    thick = max(1, round(canvas.shape[1] / _WIDTH * 2))
    for box, colour in boxes:
        if np.isfinite(box).all():
            # OpenCV draws with 32-bit integers
            x, y, w, h = np.clip(box, -1e5, 1e5)
            cv2.rectangle(canvas, (round(x), round(y)), (round(x + w), round(y + h)), colour, thick)
    return canvas


def _resize(plane: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    cv2 = load_cv2()
    height = max(1, round(plane.shape[0] * width / plane.shape[1]))
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)

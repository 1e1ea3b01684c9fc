"""The few figures that sum a version up, each computed from the rows of its table."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rgbt_fusion.benchmarking.cells import ns_per_16_elements
from rgbt_fusion.benchmarking.records import Row
from rgbt_fusion.files.table import Table

__all__ = ["FIGURES", "Figure", "headline_table", "readme_table"]


class Figure(NamedTuple):
    """One line: what is measured, what is wanted, and how the figure is read off the rows."""

    what: str
    goal: str
    read: "Read"
    front: bool = False
    """Whether the README shows it."""


Read = Callable[[Sequence[Row]], str]
"""Reads a figure off rows; empty where they hold nothing for it."""


def _median(row: Row) -> float:
    return row.time.median if row.time else float("nan")


class Pair(NamedTuple):
    """Two rows that were timed together."""

    row: Row
    over: Row


def _pairs(rows: Sequence[Row], table: str, label: str, over: str, **where: object) -> list[Pair]:
    """Return the rows of ``label`` that fit ``where``, each with that of ``over`` beside it."""
    measured = [row for row in rows if row.table == table and not row.skipped]
    found = {(row.comparison, row.label): row for row in measured}
    pairs = []
    for (comparison, name), row in found.items():
        other = found.get((comparison, over))
        fits = all(getattr(row, key) == value for key, value in where.items())
        if name == label and other and fits:
            pairs.append(Pair(row, other))
    return pairs


def _range(values: Iterable[float], unit: str, digits: int = 1) -> str:
    values = sorted(values)
    if not values:
        return ""
    low = f"{values[0]:.{digits}f}"
    high = f"{values[-1]:.{digits}f}"
    return f"{low}{unit}" if low == high else f"{low}-{high}{unit}"


def _faster(table: str, label: str, over: str, **where: object) -> Read:
    """How many times faster ``label`` is than ``over``."""

    def read(rows: Sequence[Row]) -> str:
        pairs = _pairs(rows, table, label, over, **where)
        return _range((_median(pair.over) / _median(pair.row) for pair in pairs), "x")

    return read


def _longer(table: str, label: str, over: str, **where: object) -> Read:
    """How many times the time of ``over`` it takes ``label``."""

    def read(rows: Sequence[Row]) -> str:
        pairs = _pairs(rows, table, label, over, **where)
        return _range((_median(pair.row) / _median(pair.over) for pair in pairs), "x", 2)

    return read


def _memory(table: str, label: str, over: str, **where: object) -> Read:
    """The peak extra memory of ``label`` over that of ``over``."""

    def read(rows: Sequence[Row]) -> str:
        ratios = []
        for pair in _pairs(rows, table, label, over, **where):
            if pair.row.extra_bytes and pair.over.extra_bytes:
                ratios.append(pair.row.extra_bytes / pair.over.extra_bytes)
        return _range(ratios, "x", 2)

    return read


def _element_time(rows: Sequence[Row]) -> str:
    """The time of 16 state-elements of the forward scan, token-major."""
    found = [
        ns_per_16_elements(row)
        for row in rows
        if (row.table, row.label, row.layout, row.backward) == ("scan", "native", "token", False)
    ]
    return _range((value for value in found if value is not None), " ns")


def _two_threads(rows: Sequence[Row]) -> str:
    """How many times faster two threads are than one, where there are many channels."""
    pairs = _pairs(rows, "scan-threads", "2 threads", "1 thread")
    wide = [pair for pair in pairs if pair.row.sizes["D"] >= 1536]
    return _range((_median(pair.over) / _median(pair.row) for pair in wide), "x", 2)


def _share(length: int) -> Read:
    """The share of convolution and scan in a Mamba block over so many tokens."""

    def read(rows: Sequence[Row]) -> str:
        pairs = _pairs(rows, "block-share", "its scan and convolution", "Mamba block")
        fitting = [pair for pair in pairs if pair.row.sizes["L"] == length]
        return _range((100 * _median(pair.row) / _median(pair.over) for pair in fitting), " %")

    return read


def _error(dtype: str, *kinds: str) -> Read:
    """The worst error of the native scan in a data type, of each kind."""
    table, label = ("scan", "native") if dtype == "float32" else ("scan-dtypes", dtype)

    def read(rows: Sequence[Row]) -> str:
        found = [
            row.error for row in rows if row.table == table and row.label == label and row.error
        ]
        if not found:
            return ""
        return " / ".join(_worst(found, kind) for kind in kinds)

    return read


def _worst(errors: Sequence[dict[str, float]], kind: str) -> str:
    found = [error[kind] for error in errors if kind in error]
    return f"{max(found):.1e}" if found else "-"


def _startup(label: str) -> Read:
    """The seconds until something can run."""

    def read(rows: Sequence[Row]) -> str:
        found = [row.wall_ms.median / 1e3 for row in rows if row.label == label and row.wall_ms]
        return _range(found, " s", 3)

    return read


def _tracker(name: str, form: str | None = None) -> Read:
    """The time of a tracker over that of OSTrack beside it; of a form over the eager one."""
    if form is None:
        return _longer("models", name, "OSTrack", comparison=name)
    return _longer("models-forms", form, "eager", comparison=name)


def _score_difference(form: str) -> Read:
    """How far the score map of OSTrack in another form is from the eager one's."""

    def read(rows: Sequence[Row]) -> str:
        found = []
        for row in rows:
            asked = (row.table, row.comparison, row.label) == ("models-forms", "OSTrack", form)
            if asked and row.error:
                found.append(row.error["score"])
        return _range(found, "", 4)

    return read


def _process(name: str) -> Read:
    """The peak memory of a process that builds a tracker and runs it a few times."""

    def read(rows: Sequence[Row]) -> str:
        found = []
        for row in rows:
            asked = (row.table, row.comparison, row.label) == ("models", name, name)
            if asked and row.resident_bytes:
                found.append(row.resident_bytes / 1e9)
        return _range(found, " GB", 2)

    return read


_LOOP = "reference loop"
_USUAL = "PyTorch loop"
_FASTEST = "chunked PyTorch loop"
_RELEASED = "copies as released"
_SINGLE = "single copies, (B, L, D)"
_SHARE = "share of convolution and scan in a Mamba block"

FIGURES: tuple[Figure, ...] = (
    Figure(
        "native scan against the reference loop, forward, token-major",
        "40x",
        _faster("scan", "native", _LOOP, layout="token", backward=False),
        True,
    ),
    Figure(
        "the same on (B, D, L)",
        "40x",
        _faster("scan", "native", _LOOP, layout="channel", backward=False),
    ),
    Figure("native scan, forward, time of 16 state-elements", "9 ns", _element_time, True),
    Figure(
        "native scan against the fastest PyTorch loop, forward+backward, token-major",
        "25x",
        _faster("scan", "native", _FASTEST, layout="token", backward=True),
        True,
    ),
    Figure(
        "the same on (B, D, L)",
        "15x",
        _faster("scan", "native", _FASTEST, layout="channel", backward=True),
    ),
    Figure(
        "native scan against the usual PyTorch loop, forward+backward, token-major",
        "",
        _faster("scan", "native", _USUAL, layout="token", backward=True),
    ),
    Figure(
        "the same on (B, D, L)",
        "",
        _faster("scan", "native", _USUAL, layout="channel", backward=True),
    ),
    Figure("two threads against one, 1,536 channels", "1.5x", _two_threads, True),
    Figure(
        "ordered scan over the same in natural order, forward",
        "1.05x",
        _longer("scan-order", "random order of segments", "natural order", backward=False),
    ),
    Figure(
        "OFM, convolution and scan: one call against permuted copies as the released code "
        "makes them",
        "2.0x",
        _faster("ofm-scan", "one call", _RELEASED, backward=False),
    ),
    Figure(
        "the same against single copies, (B, L, D)",
        "",
        _faster("ofm-scan", "one call", _SINGLE, backward=False),
    ),
    Figure(
        "OFM, whole layer: one call against permuted copies as released",
        "1.4x",
        _faster("ofm", "one call", _RELEASED, backward=False),
        True,
    ),
    Figure(
        "the same against single copies, (B, L, D)",
        "",
        _faster("ofm", "one call", _SINGLE, backward=False),
    ),
    Figure(
        "OFM, convolution and scan: extra memory over permuted copies as released",
        "0.5x",
        _memory("ofm-scan", "one call", _RELEASED, backward=False),
        True,
    ),
    Figure(
        "the same over single copies, (B, L, D)",
        "",
        _memory("ofm-scan", "one call", _SINGLE, backward=False),
    ),
    Figure(
        "OFM, whole layer: extra memory over permuted copies as released",
        "0.5x",
        _memory("ofm", "one call", _RELEASED, backward=False),
    ),
    Figure(f"{_SHARE}, 320 tokens", "25 %", _share(320), True),
    Figure(f"{_SHARE}, 3,840 tokens", "25 %", _share(3840), True),
    Figure(
        "native scan, error, float32: output / gradients",
        "1e-6 / 5e-6",
        _error("float32", "out", "gradients"),
        True,
    ),
    Figure("the same, bfloat16", "1e-2", _error("bfloat16", "out", "gradients")),
    Figure("the same, float16", "2e-3", _error("float16", "out", "gradients")),
    Figure(
        "bfloat16 over float32, time", "1.2x", _longer("scan-dtypes", "bfloat16", "float32"), True
    ),
    Figure("float16 over float32, time", "1.2x", _longer("scan-dtypes", "float16", "float32")),
    Figure(
        "pure-PyTorch fallback against the reference loop, forward",
        "1x",
        _faster("scan", "vectorised", _LOOP, backward=False),
    ),
    Figure(
        "its extra memory over the reference loop's",
        "0.25x",
        _memory("scan", "vectorised", _LOOP, backward=False),
    ),
    Figure(
        "Triton scan against mamba-ssm, forward",
        "",
        _faster("scan", "triton", "mamba-ssm", backward=False),
        True,
    ),
    Figure("the same, forward+backward", "", _faster("scan", "triton", "mamba-ssm", backward=True)),
    Figure(
        "attention with scores over plain fused attention, 640 and 720 tokens",
        "1.15x",
        _longer("attention-scores", "fused, scores", "fused, no scores"),
        True,
    ),
    Figure(
        "the same with the whole matrix written out",
        "",
        _longer("attention-scores", "written out, scores", "fused, no scores"),
    ),
    Figure(
        "OSTrack-256 over the same with attention as released",
        "0.95x",
        _longer("models", "OSTrack", "explicit attention", comparison="OSTrack"),
    ),
    Figure("two streams over OSTrack-256", "1.9x", _tracker("two streams"), True),
    Figure(
        "AINet-256, released widths, over OSTrack-256",
        "3.3x",
        _tracker("AINet, released widths"),
        True,
    ),
    Figure("AINet-256, compact, over OSTrack-256", "2.4x", _tracker("AINet, compact"), True),
    Figure("teacher over OSTrack-256", "2.15x", _tracker("teacher"), True),
    Figure("student, 640 tokens, over OSTrack-256", "the teacher's", _tracker("student"), True),
    Figure(
        "student with elimination over OSTrack-256", "1.55x", _tracker("student, elimination"), True
    ),
    Figure("OSTrack-256 compiled over eager", "0.85x", _tracker("OSTrack", "compiled")),
    Figure("OSTrack-256 in ONNX Runtime over eager", "", _tracker("OSTrack", "ONNX Runtime")),
    Figure(
        "OSTrack-256, linear layers in int8, over eager", "0.65x", _tracker("OSTrack", "int8"), True
    ),
    Figure("difference of the score with linear layers in int8", "0.03", _score_difference("int8")),
    Figure(
        "OSTrack-256 in ONNX Runtime with int8 over eager",
        "0.65x",
        _tracker("OSTrack", "ONNX Runtime, int8"),
    ),
    Figure(
        "difference of the score in ONNX Runtime with int8",
        "0.03",
        _score_difference("ONNX Runtime, int8"),
    ),
    Figure(
        "whole process of AINet-256, four steps", "1.2 GB", _process("AINet, released widths"), True
    ),
    Figure(
        "`from rgbt_fusion import DFM` beyond `import torch`",
        "0.2 s",
        _startup("from rgbt_fusion import DFM"),
        True,
    ),
    Figure("`rgbt-fusion --help`", "0.5 s", _startup("rgbt-fusion --help"), True),
)
"""The figures, each with what it should reach; a range spans the shapes that were measured."""


def headline_table(rows: Sequence[Row]) -> Table:
    """Show the figures that ``rows`` hold something for, each with its goal."""
    lines = [(figure.what, figure.read(rows), figure.goal) for figure in FIGURES]
    return Table(("", "measured", "goal"), tuple(line for line in lines if line[1]))


def readme_table(rows: Sequence[Row]) -> Table:
    """Show the foremost of them, without the goals."""
    lines = [(figure.what, figure.read(rows)) for figure in FIGURES if figure.front]
    return Table(("", "measured"), tuple(line for line in lines if line[1]))

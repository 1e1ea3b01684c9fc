"""Accuracy, robustness and expected average overlap of VOT-RGBT: runs that start at anchors.

A tracker is started at every anchor of a sequence and follows the target to the end of the
sequence, or back to its beginning. A run fails where the overlap stays low for ten frames.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.annotations import Located, find_sequences, read_attributes
from rgbt_fusion.data.region_overlap import has_no_size, rasterised, region_overlap
from rgbt_fusion.data.regions import NO_REGION, Region, read_region_shapes
from rgbt_fusion.data.sequences import Dataset, ImageSequence, open_dataset, read_sizes
from rgbt_fusion.evaluation.metrics import Array
from rgbt_fusion.evaluation.protocols import ScoringRules
from rgbt_fusion.evaluation.scores import AttributeScores, Ratio, Scores, SequenceTable
from rgbt_fusion.evaluation.scoring import INCOMPLETE, Incomplete, IncompleteResultsError
from rgbt_fusion.files.text_tables import DataError, read_numbers

__all__ = [
    "EAO_FRAMES",
    "MULTISTART",
    "Anchor",
    "open_multistart",
    "read_anchors",
    "score_multistart",
]

EAO_FRAMES = (115, 755)
"""Over which lengths of runs VOT-RGBT 2019 and 2020 average the expected overlap: from the first
number to the one before the last."""

MULTISTART = ScoringRules(title="VOT-RGBT, from anchors", metrics=("A", "R", "EAO"))
"""The numbers of VOT-RGBT: accuracy, robustness and expected average overlap."""

BENCHMARK = "vot_rgbt"

EXPERIMENT = "baseline"
"""What the VOT toolkit calls the experiment from anchors without a limit on time."""

ANCHOR_FILE = "anchor.value"

FAILED_AT = 0.1
"""An overlap up to this counts towards a failure."""

GRACE = 10
"""So many frames of low overlap in a row are a failure."""

_SHOWN = 5


class Anchor(NamedTuple):
    """A frame in which a run starts."""

    frame: int
    """Its number, from 0."""
    backward: bool
    """Whether the run goes to the first frame instead of the last."""

    def frames(self, length: int) -> NDArray[np.int64]:
        """Return the frames of the run in a sequence of this length, in their order."""
        if self.backward:
            return np.arange(self.frame, -1, -1)
        return np.arange(self.frame, length)

    def run(self, sequence: str) -> str:
        """Return the name of the run, as the VOT toolkit names its files."""
        return f"{sequence}_{self.frame:08d}"


class _Run(NamedTuple):
    """How one run went."""

    overlaps: Array
    """Per frame; 0 from the failure on."""
    progress: int
    """How many frames the run lasted."""


class _SequenceRuns(NamedTuple):
    """What the runs of one sequence add to the numbers of a tracker."""

    overlap: float
    """The sum of the overlaps before failures."""
    tracked: int
    """How many frames were tracked before failures."""
    frames: int
    """How many frames all runs have."""
    length: int
    """How many frames the sequence has."""
    expected: Array
    """Per length of a run: the sum of the average overlaps of the runs that count."""
    counting: Array
    """Per length of a run: how many runs count."""


def read_anchors(folder: str | Path) -> tuple[Anchor, ...]:
    """Read where the runs of a sequence start: those forward, then those backward.

    ``anchor.value`` has one number per frame: above 0 where a run starts forward, below 0 where one
    starts backward.

    Raises:
        DataError: the file is missing or malformed, or marks no frame.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.evaluation.multistart import read_anchors
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "anchor.value").write_text("1\\n0\\n-1\\n")
        >>> [tuple(anchor) for anchor in read_anchors(folder)]
        [(0, False), (2, True)]
    """
    path = Path(folder) / ANCHOR_FILE
    values = read_numbers(path, columns=(1,))[:, 0]
    forward = [Anchor(int(frame), False) for frame in np.flatnonzero(values > 0)]
    backward = [Anchor(int(frame), True) for frame in np.flatnonzero(values < 0)]
    if not forward and not backward:
        raise DataError(f"{path} must mark a frame to start from, but marks none")
    return (*forward, *backward)


def open_multistart(
    root: str | Path, *, names: str | Path | Iterable[str] | None = None
) -> Dataset:
    """Open the runs of VOT-RGBT: each is a sequence that starts at an anchor.

    :func:`~rgbt_fusion.evaluation.run.run_tracker` tracks them, and :func:`score_multistart` scores
    its folder.

    Args:
        root: the dataset's folder.
        names: take only these sequences, in this order: names, or a file that lists them.

    Raises:
        DataError: ``root`` holds no sequence of VOT-RGBT, or lacks one of ``names``.
    """
    dataset = open_dataset(root, BENCHMARK, names=names)
    places = find_sequences(root, BENCHMARK)
    refused = dict(dataset.refused)
    runs: list[ImageSequence] = []
    for sequence in dataset.sequences:
        try:
            runs += _runs_of(sequence, places[sequence.name])
        except DataError as error:
            refused[sequence.name] = str(error)
    return Dataset(tuple(runs), refused)


def score_multistart(
    results: str | Path,
    root: str | Path,
    *,
    sequences: str | Path | Iterable[str] | None = None,
    incomplete: Incomplete = "refuse",
    tracker: str | None = None,
    eao_frames: tuple[int, int] = EAO_FRAMES,
) -> Scores:
    r"""Score runs from anchors as the VOT toolkit does for VOT-RGBT 2019 and 2020.

    With :math:`\phi_r(i)` the overlap in frame ``i`` of run ``r``, :math:`N_r` its length and
    :math:`F_r` the frames before it failed:

    .. math::
        A = \frac{\sum_r \sum_{i < F_r} \phi_r(i)}{\sum_r F_r}, \qquad
        R = \frac{\sum_s L_s \left(\sum_{r \in s} F_r / \sum_{r \in s} N_r\right)}{\sum_s L_s},
        \qquad
        \mathrm{EAO} = \frac{1}{b - a} \sum_{n=a}^{b-1} \bar\Phi(n)

    :math:`L_s` is the length of sequence ``s`` and :math:`\bar\Phi(n)` the mean over runs of the
    average overlap in frames 1 to ``n``. A run that failed counts with zeros from there on; one
    that did not counts up to its end.

    Paper and code: the toolkit's. A run's first frame, on which the tracker was started, has no
    region and overlaps nothing, but counts in A and R. Where a run failed before frame ``n`` of
    the curve, the sum is divided by ``n - 1``.

    Args:
        results: the folder of a tracker: ``<sequence>/<sequence>_<anchor>.bin`` or ``.txt`` of the
            VOT toolkit, there or in its ``baseline``, or ``<sequence>_<anchor>.txt`` as
            :func:`~rgbt_fusion.evaluation.run.run_tracker` writes them.
        root: the dataset's folder.
        sequences: only these sequences: their names, or a file that lists them.
        incomplete: ``"refuse"`` results that lack a run, or ``"skip"`` the sequence and list it in
            ``left_out``.
        tracker: the tracker's name in tables. None takes the folder's name.
        eao_frames: over which lengths of runs the expected overlap is averaged: ``(a, b)``.

    Raises:
        IncompleteResultsError: a run is missing, malformed or of another length and ``incomplete``
            is ``"refuse"``, or no sequence can be scored.
        DataError: the dataset cannot be read.
        ValueError: ``incomplete`` is unknown, or ``eao_frames`` are not two rising numbers.

    Source:
        Kristan et al., "The Eighth Visual Object Tracking VOT2020 Challenge Results", ECCV
        workshops 2020, section 2; the VOT toolkit 0.9.0, ``vot.analysis.multistart``.
    """
    check_choice(incomplete, INCOMPLETE, name="incomplete")
    low, high = eao_frames
    if not 0 < low < high:
        raise ValueError(f"eao_frames must be two rising numbers above 0, got {eao_frames}")
    folder = Path(results)
    if not folder.is_dir():
        raise DataError(f"results must be a folder of runs, got {results}")
    title = tracker or folder.resolve().name
    if (folder / EXPERIMENT).is_dir():
        folder = folder / EXPERIMENT
    places = find_sequences(root, BENCHMARK, names=sequences)
    sizes = read_sizes(root, BENCHMARK, places)
    scored: dict[str, _SequenceRuns] = {}
    left_out: dict[str, str] = {}
    for name, place in places.items():
        try:
            scored[name] = _score_sequence(folder, name, place, sizes.get(name), high)
        except _Unscorable as error:
            left_out[name] = str(error)
    if not scored or (left_out and incomplete == "refuse"):
        raise _refusal(title, len(places), left_out)
    attributes = read_attributes(root, BENCHMARK, scored)
    return _scores(title, scored, left_out, attributes, low)


class _Unscorable(DataError):
    """The runs of a sequence cannot be scored."""


def _runs_of(sequence: ImageSequence, place: Located) -> Iterator[ImageSequence]:
    """Yield the runs of a sequence, as sequences of their own."""
    truth = sequence.truth
    if place.folder is None or truth is None:
        return
    for anchor in _anchors_of(place.folder, len(sequence)):
        order = anchor.frames(len(sequence))
        boxes = truth.rgb[order]
        yield replace(
            sequence,
            name=anchor.run(sequence.name),
            rgb=tuple(sequence.rgb[k] for k in order),
            tir=tuple(sequence.tir[k] for k in order),
            truth=truth._replace(
                rgb=boxes,
                tir=boxes,
                frames=np.arange(len(order)),
                skipped=0,
                row=truth.row + anchor.frame,
            ),
        )


def _anchors_of(folder: Path, length: int) -> tuple[Anchor, ...]:
    """Read the anchors of a sequence; refuse one behind its last annotation."""
    anchors = read_anchors(folder)
    last = max(anchor.frame for anchor in anchors)
    if last >= length:
        raise DataError(
            f"{folder / ANCHOR_FILE} must mark frames below {length}, which are annotated, "
            f"got {last}"
        )
    return anchors


def _score_sequence(
    folder: Path, name: str, place: Located, size: tuple[int, int] | None, high: int
) -> _SequenceRuns:
    """Score all runs of a sequence."""
    if place.folder is None or place.truth is None or size is None:
        raise DataError(f"{name} must have images, {ANCHOR_FILE} and an annotation")
    annotated = read_region_shapes(place.truth)
    absent = np.array([has_no_size(region) for region in annotated])
    truth = [rasterised(region, size) for region in annotated]
    runs: list[_Run] = []
    for anchor in _anchors_of(place.folder, len(truth)):
        order = anchor.frames(len(truth))
        regions = _read_run(folder, name, anchor, len(order))
        overlaps = []
        for region, k in zip(regions, order, strict=True):
            overlaps.append(region_overlap(region, truth[k], size))
        runs.append(_until_failure(np.array(overlaps), absent[order]))
    expected, counting = _expected_overlaps(runs, high)
    return _SequenceRuns(
        overlap=sum(float(run.overlaps.sum()) for run in runs),
        tracked=sum(run.progress for run in runs),
        frames=sum(len(run.overlaps) for run in runs),
        length=len(truth),
        expected=expected,
        counting=counting,
    )


def _read_run(folder: Path, name: str, anchor: Anchor, length: int) -> list[Region]:
    """Read the regions of a run; the first, on which the tracker was started, is empty."""
    run = anchor.run(name)
    spellings = [folder / name / f"{run}.txt", folder / name / f"{run}.bin", folder / f"{run}.txt"]
    path = next((path for path in spellings if path.is_file()), None)
    if path is None:
        raise _Unscorable(f"run {run} is missing")
    try:
        regions = read_region_shapes(path)
    except DataError as error:
        raise _Unscorable(str(error)) from None
    if len(regions) != length:
        raise _Unscorable(f"run {run} must have {length} regions, got {len(regions)}")
    return [NO_REGION, *regions[1:]]


def _until_failure(overlaps: Array, absent: NDArray[np.bool_]) -> _Run:
    """Find where a run failed, and let it overlap nothing from there on."""
    left = GRACE
    for k, low in enumerate((overlaps <= FAILED_AT) & ~absent):
        left = left - 1 if low else GRACE
        if left == 0:
            progress = k + 1 - GRACE
            is_before = np.arange(len(overlaps)) < progress
            return _Run(np.where(is_before, overlaps, 0.0), progress)
    return _Run(overlaps, len(overlaps))


def _expected_overlaps(runs: Sequence[_Run], high: int) -> tuple[Array, Array]:
    """Return, per length of a run, the sum of average overlaps and the number of runs."""
    expected = np.zeros(high)
    counting = np.zeros(high)
    lengths = np.arange(1, high)
    for overlaps, progress in runs:
        total = np.cumsum(overlaps[1:])
        inside = lengths < len(overlaps)
        own = lengths[inside]
        expected[own] += total[own - 1] / own
        counting[own] += 1
        beyond = lengths[~inside]
        if progress < len(overlaps) and len(beyond):
            sum_of_all = total[-1] if len(total) else 0.0
            expected[beyond] += sum_of_all / np.maximum(beyond - 1, 1)
            counting[beyond] += 1
    return expected, counting


def _scores(
    tracker: str,
    scored: Mapping[str, _SequenceRuns],
    left_out: Mapping[str, str],
    attributes: Mapping[str, tuple[str, ...]],
    low: int,
) -> Scores:
    """Put the numbers of all sequences together."""
    found = list(scored.values())
    ratios = _ratios(found, low)
    nothing = np.zeros((len(found), 0))
    table = SequenceTable(
        names=tuple(scored),
        precision=nothing,
        normalised=nothing,
        success=nothing,
        columns={name: ratio.alone() for name, ratio in ratios.items()},
        weights=np.ones(len(found)),
        long_term=None,
        timed_frames=np.zeros(len(found)),
        seconds=np.zeros(len(found)),
        ratios=ratios,
    )
    by_attribute: dict[str, AttributeScores] = {}
    for attribute, names in attributes.items():
        numbers = _summary(table.take(table.rows_of(names)).ratios)
        by_attribute[attribute] = AttributeScores(len(names), numbers, names)
    return Scores(
        tracker=tracker,
        benchmark=BENCHMARK,
        protocol=MULTISTART,
        metrics=_summary(ratios),
        curves={},
        sequences=table.by_sequence(),
        attributes=by_attribute,
        left_out=left_out,
        cut=(),
        frames=sum(one.frames for one in found),
        fps=None,
        tracks={},
        table=table,
    )


def _ratios(found: Sequence[_SequenceRuns], low: int) -> dict[str, Ratio]:
    """Return the three numbers as sums over sequences."""
    overlap = np.array([[one.overlap] for one in found])
    tracked = np.array([[float(one.tracked)] for one in found])
    frames = np.array([[float(one.frames)] for one in found])
    length = np.array([[float(one.length)] for one in found])
    return {
        "A": Ratio(overlap, tracked),
        "R": Ratio(tracked / frames * length, length),
        "EAO": Ratio(
            np.stack([one.expected[low:] for one in found]),
            np.stack([one.counting[low:] for one in found]),
        ),
    }


def _summary(ratios: Mapping[str, Ratio]) -> dict[str, float]:
    """Return the numbers over all sequences of the ratios."""
    numbers: dict[str, float] = {}
    for name, ratio in ratios.items():
        every_sequence_once = np.ones((1, len(ratio.parts)))
        numbers[name] = float(ratio.over(every_sequence_once)[0])
    return numbers


def _refusal(tracker: str, count: int, left_out: Mapping[str, str]) -> IncompleteResultsError:
    first = list(left_out.items())[:_SHOWN]
    shown = "; ".join(f"{name}: {reason}" for name, reason in first)
    return IncompleteResultsError(
        f"results of {tracker} must have all runs of the {count} sequences, but {len(left_out)} "
        f"cannot be scored: {shown}; incomplete='skip' scores the others and counts these"
    )

"""How each benchmark scores: one row a benchmark, and what the two other protocols change in a row.

The rows were read off the benchmarks' own toolkits. To add a benchmark, add a row here and a row to
``data.layouts.LAYOUTS``.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rgbt_fusion.checks import check_choice
from rgbt_fusion.evaluation.metrics import Array, matlab_colon

__all__ = ["PROTOCOLS", "PROTOCOL_NAMES", "Grid", "Protocol", "get_protocol"]

PROTOCOL_NAMES = ("official", "rgbt", "exclude_absent")


class Grid(NamedTuple):
    """Equally spaced thresholds, and the one at which a single number is read."""

    stop: float
    step: float
    at: float = 0.0
    matlab: bool = True

    def thresholds(self) -> Array:
        """Return the thresholds from 0 to ``stop``, as MATLAB or as numpy spaces them."""
        if self.matlab:
            return matlab_colon(0.0, self.step, self.stop)
        return np.linspace(0.0, self.stop, round(self.stop / self.step) + 1)

    def position(self) -> int:
        """Return the position of ``at``."""
        return round(self.at / self.step)


PIXELS = Grid(50, 1, at=20)
NORMALISED = Grid(0.5, 0.01, at=0.2)
OVERLAPS = Grid(1, 0.05)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How one benchmark turns boxes into numbers."""

    title: str
    metrics: tuple[str, ...]
    """The benchmark's own numbers, in its own order."""
    average: str = "sequences"
    """``"sequences"``: the mean of the sequences' values; ``"frames"``: every frame counts the
same."""
    first_frame: str = "kept"
    """``"kept"``, ``"truth"`` (replaced by the annotation) or ``"dropped"``."""
    modalities: str = "first"
    """``"first"``: one annotation; ``"best"``: the smaller error and the larger overlap of the two,
frame by frame."""
    absent: str = "scored"
    """Frames without target: ``"scored"`` as they stand, ``"minus_one"`` (LasHeR) or
``"excluded"``."""
    absent_rule: str = "no_size"
    """What an absent target looks like: ``"no_size"``, ``"not_positive"`` (any number at most 0) or
    ``"label"`` (a file)."""
    invalid: str = "kept"
    """Boxes that are none: ``"kept"`` (they overlap nothing) or replaced by the ``"previous"`` one;
    ``"previous_by_size"`` leaves NaN."""
    rounding: str = "none"
    """``"none"``, ``"corners"`` (8-column results, halves away from zero) or ``"all"`` (halves to
even)."""
    inclusive: bool = True
    """Whether a box's right edge is ``x + w - 1``."""
    centre_offset: float = 1.0
    """The centre is ``x + (w - centre_offset)/2``."""
    bounded: bool = False
    """Whether boxes are cut at the borders of the image."""
    annotated_every: int = 1
    """One annotation in this many frames."""
    dtype: str = "float64"
    precision: Grid = PIXELS
    precision_strict: bool = False
    normalised: Grid = NORMALISED
    success: Grid = OVERLAPS
    success_rule: str = "mean"


_VTUAV = Protocol(
    title="VTUAV short-term",
    metrics=("MPR", "MSR"),
    modalities="best",
    rounding="corners",
    centre_offset=0.0,
    annotated_every=10,
)

PROTOCOLS: dict[str, Protocol] = {
    "gtot": Protocol(
        title="GTOT",
        metrics=("MPR", "MSR"),
        average="frames",
        modalities="best",
        rounding="corners",
        centre_offset=0.0,
        precision=Grid(25, 0.5, at=5),
        precision_strict=True,
        success=Grid(1, 0.02),
        success_rule="trapezoid",
    ),
    "rgbt210": Protocol(
        title="RGBT210", metrics=("PR", "SR"), first_frame="truth", rounding="corners"
    ),
    "rgbt234": Protocol(
        title="RGBT234", metrics=("MPR", "MSR"), modalities="best", rounding="corners"
    ),
    "lasher": Protocol(
        title="LasHeR",
        metrics=("PR", "NPR", "SR"),
        first_frame="truth",
        absent="minus_one",
        absent_rule="not_positive",
        invalid="previous",
    ),
    "vtuav_st": _VTUAV,
    "vtuav_lt": replace(_VTUAV, title="VTUAV long-term"),
    "depthtrack": Protocol(
        title="DepthTrack", metrics=("Pr", "Re", "F"), first_frame="truth", bounded=True
    ),
    "visevent": Protocol(
        title="VisEvent",
        metrics=("PR", "SR"),
        first_frame="truth",
        absent="excluded",
        absent_rule="label",
        invalid="previous",
    ),
    "got10k": Protocol(
        title="GOT-10k",
        metrics=("AO", "SR0.5", "SR0.75"),
        average="frames",
        first_frame="dropped",
        absent="excluded",
        absent_rule="label",
        inclusive=False,
        bounded=True,
        success=Grid(1, 0.01, matlab=False),
    ),
    "otb100": Protocol(
        title="OTB-100",
        metrics=("PR", "SR"),
        first_frame="truth",
        inclusive=False,
        success=Grid(1, 0.05, matlab=False),
    ),
    # one's own sequences, as LasHeR scores its own but for absent targets, which count neither way
    "folder": Protocol(
        title="plain folder",
        metrics=("PR", "NPR", "SR"),
        first_frame="truth",
        absent="excluded",
        invalid="previous",
    ),
}


def get_protocol(benchmark: str, protocol: str = "official") -> Protocol:
    """Return how a benchmark is scored.

    Args:
        benchmark: a key of ``PROTOCOLS``.
        protocol: ``"official"``: as the benchmark's own toolkit; ``"rgbt"``: as the PyPI package
            ``rgbt`` does, with its rounding of predictions, its float32 and its 21 thresholds on
            GTOT; ``"exclude_absent"``: official, but frames without target count neither as a
            success nor as a failure.

    Raises:
        ValueError: an unknown name, or ``"rgbt"`` for a benchmark which that package does not
            score.

    Example:
        >>> from rgbt_fusion.evaluation.protocols import get_protocol
        >>> get_protocol("gtot").precision.at, get_protocol("lasher", "exclude_absent").absent
        (5, 'excluded')
    """
    check_choice(benchmark, PROTOCOLS, name="benchmark")
    check_choice(protocol, PROTOCOL_NAMES, name="protocol")
    row = PROTOCOLS[benchmark]
    if protocol == "official":
        return row
    if protocol == "exclude_absent":
        return replace(row, absent="excluded")
    known = ("gtot", "rgbt210", "rgbt234", "lasher")
    if benchmark not in known:
        raise ValueError(
            f"protocol 'rgbt' must be used with one of {', '.join(known)}, got {benchmark!r}"
        )
    return replace(
        row,
        rounding="all",
        dtype="float32",
        invalid="previous_by_size" if row.invalid == "previous" else row.invalid,
        precision=row.precision._replace(matlab=False),
        normalised=row.normalised._replace(matlab=False),
        success=OVERLAPS._replace(matlab=False),
    )

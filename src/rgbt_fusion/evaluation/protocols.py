"""How each benchmark scores, one row per benchmark, and what the other two protocols change.

The rows were read off the benchmarks' own toolkits. To add a benchmark, add a row here and a row to
``data.layouts.LAYOUTS``.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from rgbt_fusion.checks import check_choice
from rgbt_fusion.evaluation.metrics import AreaRule, Array, matlab_colon

__all__ = [
    "PROTOCOLS",
    "PROTOCOL_NAMES",
    "ProtocolName",
    "ScoringRules",
    "ThresholdGrid",
    "get_protocol",
]

ProtocolName: TypeAlias = Literal["official", "rgbt", "exclude_absent"]
"""Whose rules are followed."""

PROTOCOL_NAMES: tuple[ProtocolName, ...] = get_args(ProtocolName)
"""The protocols that ``score`` takes."""

_SCORED_BY_RGBT = ("gtot", "rgbt210", "rgbt234", "lasher", "lasher_unaligned", "muart244")

# that package counts inclusive pixels with these alone
_LASHER_KIN = ("lasher", "lasher_unaligned", "muart244")


class ThresholdGrid(NamedTuple):
    """Equally spaced thresholds, and the one at which a single number is read."""

    stop: float
    """The last threshold; the first is 0."""
    step: float
    """The distance between two thresholds."""
    at: float = 0.0
    """The threshold at which the single number is read."""
    spacing: Literal["colon", "division", "linspace"] = "colon"
    """How a toolkit writes them, which decides their last bits: MATLAB's ``0:step:stop``, whole
    numbers divided by ``1 / step``, or numpy's ``linspace``."""

    def thresholds(self) -> Array:
        """Return the thresholds from 0 to ``stop``."""
        if self.spacing == "colon":
            return matlab_colon(0.0, self.step, self.stop)
        count = round(self.stop / self.step) + 1
        if self.spacing == "division":
            return np.arange(count) / round(1 / self.step)
        return np.linspace(0.0, self.stop, count)

    def position(self) -> int:
        """Return the position of ``at`` among the thresholds."""
        return round(self.at / self.step)


PIXELS = ThresholdGrid(50, 1, at=20)
# (0:50)/100
NORMALISED = ThresholdGrid(0.5, 0.01, at=0.2, spacing="division")
OVERLAPS = ThresholdGrid(1, 0.05)


@dataclass(frozen=True, kw_only=True)
class ScoringRules:
    """How one benchmark turns boxes into numbers."""

    title: str
    """The benchmark's name in tables and plots."""
    metrics: tuple[str, ...]
    """The benchmark's own numbers, in its own order."""
    average: Literal["sequences", "frames"] = "sequences"
    """What counts the same: every sequence (the mean of the sequences' values) or every frame."""
    first_frame: Literal["kept", "truth", "dropped"] = "kept"
    """The first frame: ``"kept"``, replaced by the annotation (``"truth"``) or ``"dropped"``."""
    modalities: Literal["first", "best"] = "first"
    """Which annotation counts: the ``"first"``, or the ``"best"`` of two, which is the smaller
    error and the larger overlap in each frame."""
    absent: Literal["scored", "minus_one", "excluded"] = "scored"
    """Frames without target: ``"scored"`` as they stand, ``"minus_one"`` (LasHeR: a failure in
    overlap, a success in error) or ``"excluded"``."""
    absent_succeeds_normalised: bool = False
    """Whether frames without target are successes of the normalised error, whatever ``absent``
    says of the others."""
    absent_rule: Literal["no_size", "not_positive", "label"] = "no_size"
    """How an absent target is annotated: a box without size, any number of at most 0, or a label in
    a file."""
    invalid: Literal["kept", "previous", "previous_by_size"] = "kept"
    """Predicted boxes without size or with NaN: ``"kept"`` (they overlap nothing) or replaced by
    the ``"previous"`` box. ``"previous_by_size"`` keeps NaN."""
    rounding: Literal["none", "corners", "all"] = "none"
    """Which predictions are rounded: ``"none"``, boxes from 8 columns (``"corners"``, halves away
    from zero) or ``"all"`` numbers as they were written (halves to even numbers)."""
    corner_offset: float = 0.0
    """A box from four corners is this much wider and higher than their distance."""
    inclusive: bool = True
    """Whether the right edge of a box is ``x + w - 1``."""
    least_overlap: float = 0.0
    """A smaller overlap counts as none."""
    centre_offset: float = 1.0
    """The centre of a box is ``x + (w - centre_offset) / 2``."""
    bounded: bool = False
    """Whether boxes are cut at the borders of the image."""
    dtype: Literal["float64", "float32"] = "float64"
    """In which precision boxes are compared."""
    precision: ThresholdGrid = PIXELS
    """The thresholds of the centre error in pixels."""
    precision_strict: bool = False
    """Whether an error at a threshold fails."""
    normalised: ThresholdGrid = NORMALISED
    """The thresholds of the normalised centre error."""
    success: ThresholdGrid = OVERLAPS
    """The thresholds of the overlap."""
    success_rule: AreaRule = "mean"
    """How the area under the success curve is taken."""


_VTUAV = ScoringRules(
    title="VTUAV short-term",
    metrics=("MPR", "MSR"),
    modalities="best",
    rounding="corners",
    centre_offset=0.0,
)

_LASHER = ScoringRules(
    title="LasHeR",
    metrics=("PR", "NPR", "SR"),
    first_frame="truth",
    absent="minus_one",
    absent_rule="not_positive",
    invalid="previous",
)

_VISEVENT = ScoringRules(
    title="VisEvent",
    metrics=("PR", "SR"),
    first_frame="truth",
    absent="excluded",
    absent_rule="label",
    invalid="previous",
)

_OTB = ScoringRules(
    title="OTB-100",
    metrics=("PR", "SR"),
    first_frame="truth",
    inclusive=False,
    success=ThresholdGrid(1, 0.05, spacing="linspace"),
)

_OWN = ScoringRules(
    title="plain folder",
    metrics=("PR", "NPR", "SR"),
    first_frame="truth",
    absent="excluded",
    invalid="previous",
)

_EVENTS = replace(_VISEVENT, metrics=("PR", "NPR", "SR"))

PROTOCOLS: dict[str, ScoringRules] = {
    "gtot": ScoringRules(
        title="GTOT",
        metrics=("MPR", "MSR"),
        average="frames",
        modalities="best",
        rounding="corners",
        centre_offset=0.0,
        precision=ThresholdGrid(25, 0.5, at=5),
        precision_strict=True,
        success=ThresholdGrid(1, 0.02),
        success_rule="trapezoid",
    ),
    "rgbt210": ScoringRules(
        title="RGBT210", metrics=("PR", "SR"), first_frame="truth", rounding="corners"
    ),
    "rgbt234": ScoringRules(
        title="RGBT234", metrics=("MPR", "MSR"), modalities="best", rounding="corners"
    ),
    "lasher": _LASHER,
    "vtuav_st": _VTUAV,
    "vtuav_lt": replace(_VTUAV, title="VTUAV long-term"),
    "depthtrack": ScoringRules(
        title="DepthTrack", metrics=("Pr", "Re", "F"), first_frame="truth", bounded=True
    ),
    "visevent": _VISEVENT,
    "got10k": ScoringRules(
        title="GOT-10k",
        metrics=("AO", "SR0.5", "SR0.75"),
        average="frames",
        first_frame="dropped",
        absent="excluded",
        absent_rule="label",
        inclusive=False,
        bounded=True,
        success=ThresholdGrid(1, 0.01, spacing="linspace"),
    ),
    "otb100": _OTB,
    # overlap of the box alone; the challenge's own measure restarts the tracker
    "vot_rgbt": ScoringRules(
        title="VOT-RGBT",
        metrics=("AO", "SR0.5", "SR0.75"),
        first_frame="truth",
        absent="excluded",
        bounded=True,
    ),
    # both modalities have boxes and sizes of their own: a result is one in the colour images
    "lasher_unaligned": replace(_LASHER, title="LasHeR unaligned"),
    "muart244": replace(_LASHER, title="MUART244"),
    "luart": replace(_LASHER, title="LUART", precision=PIXELS._replace(at=5), least_overlap=0.025),
    # its toolkit is the PyPI package, with the precision and success of RGBT210 and LasHeR's NPR
    "drgbt603": ScoringRules(
        title="DRGBT603",
        metrics=("PR", "NPR", "SR"),
        first_frame="truth",
        absent_succeeds_normalised=True,
        absent_rule="not_positive",
        rounding="all",
        corner_offset=1.0,
        dtype="float32",
        precision=PIXELS._replace(spacing="linspace"),
        normalised=NORMALISED._replace(spacing="linspace"),
        success=OVERLAPS._replace(spacing="linspace"),
    ),
    "drgbt1k": replace(_OWN, title="DRGBT-1K"),
    "mv_rgbt": replace(_LASHER, title="MV-RGBT", metrics=("PR", "SR")),
    "rgbdt500": replace(_OWN, title="RGBDT500"),
    "rgbdt500_depth": replace(_OWN, title="RGBDT500, colour and depth"),
    "rgbdt500_depth_infrared": replace(_OWN, title="RGBDT500, depth and infrared"),
    "coesot": replace(_EVENTS, title="COESOT"),
    "felt": replace(_EVENTS, title="FELT"),
    "eventvot": replace(_EVENTS, title="EventVOT"),
    "trackingnet": ScoringRules(
        title="TrackingNet",
        metrics=("PR", "NPR", "SR"),
        first_frame="truth",
        inclusive=False,
        success=ThresholdGrid(1, 0.05, spacing="linspace"),
    ),
    "lsotb_tir": replace(_OTB, title="LSOTB-TIR", metrics=("PR", "NPR", "SR")),
    "ptb_tir": replace(_OTB, title="PTB-TIR"),
    "antiuav410": ScoringRules(
        title="Anti-UAV410", metrics=("AO", "SR0.5", "PR"), absent="excluded"
    ),
    # one's own sequences: LasHeR's rules, but frames without target do not count
    "folder": _OWN,
}
"""How each benchmark scores results, by the name that ``score`` takes."""


def get_protocol(benchmark: str, protocol: ProtocolName = "official") -> ScoringRules:
    """Return how a benchmark is scored.

    Args:
        benchmark: a key of ``PROTOCOLS``.
        protocol: ``"official"`` follows the benchmark's own toolkit. ``"rgbt"`` follows the PyPI
            package ``rgbt``: it rounds predictions, computes in float32 and takes 21 thresholds on
            GTOT. ``"exclude_absent"`` is official, but frames without target do not count.

    Raises:
        ValueError: ``benchmark`` or ``protocol`` is unknown, or ``protocol`` is ``"rgbt"`` for a
            benchmark which that package does not score.

    Example:
        >>> from rgbt_fusion.evaluation.protocols import get_protocol
        >>> get_protocol("gtot").precision.at, get_protocol("lasher", "exclude_absent").absent
        (5, 'excluded')
    """
    check_choice(benchmark, PROTOCOLS, name="benchmark")
    check_choice(protocol, PROTOCOL_NAMES, name="protocol")
    rules = PROTOCOLS[benchmark]
    if protocol == "official":
        return rules
    if protocol == "exclude_absent":
        return replace(rules, absent="excluded")
    if benchmark not in _SCORED_BY_RGBT:
        raise ValueError(
            f"protocol 'rgbt' must be used with one of {', '.join(_SCORED_BY_RGBT)}, "
            f"got {benchmark!r}"
        )
    return replace(
        rules,
        rounding="all",
        dtype="float32",
        invalid="previous_by_size" if rules.invalid == "previous" else rules.invalid,
        corner_offset=1.0 if benchmark in _LASHER_KIN else 0.0,
        precision=rules.precision._replace(spacing="linspace"),
        normalised=rules.normalised._replace(spacing="linspace"),
        success=OVERLAPS._replace(spacing="linspace"),
    )

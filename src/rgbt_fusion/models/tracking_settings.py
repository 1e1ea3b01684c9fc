"""How a tracker goes from what a network finds to a box, as a file of weights stores it."""

from dataclasses import asdict, dataclass, fields, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.checks import NetworkError, check_finite_number

__all__ = ["ConfidenceMap", "TrackingSettings", "logit", "tracking_settings_of"]

_SMALLEST_SCORE = 1e-4
"""Scores are held this far from 0 and 1, so that their logits stay finite."""

_MOST_INERTIA = 0.999
"""A size that is kept whole would never follow the target."""


_SHARES = (
    "window_weight",
    "size_correction",
    "hold_below",
    "look_ahead",
    "match_weight",
    "lost_threshold",
    "found_threshold",
)
"""Settings from 0 to 1."""


@dataclass(frozen=True)
class ConfidenceMap:
    r"""The probability that the overlap with the target exceeds 0.5, from two of the scores.

    .. math::
        p = \sigma\Big(a + b \log \frac{s}{1 - s} - c \log \frac{r}{1 - r}\Big)

    :math:`s` is the network's score at the box, and :math:`r` the best one elsewhere: with a rival
    that is as good, the target is less sure.

    Args:
        offset: :math:`a`.
        slope: :math:`b`, above 0.
        rival_slope: :math:`c`, not below 0.

    Shape:
        - scores, rivals: ``(N,)`` in [0, 1]
        - returns ``(N,)``

    Raises:
        TypeError: an argument is not a number.
        ValueError: ``offset`` is not in [-100, 100], ``slope`` not in [0.01, 100], or
            ``rival_slope`` not in [0, 100].

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion.models.tracking_settings import ConfidenceMap
        >>> sure = ConfidenceMap(offset=1.0, slope=2.0, rival_slope=0.5)
        >>> sure(np.array([0.8, 0.8, 0.2]), np.array([0.01, 0.5, 0.5])).round(2)
        array([1.  , 0.98, 0.15])
    """

    offset: float
    slope: float
    rival_slope: float = 0.0

    def __post_init__(self) -> None:
        check_finite_number(self.offset, name="offset", low=-100.0, high=100.0)
        check_finite_number(self.slope, name="slope", low=0.01, high=100.0)
        check_finite_number(self.rival_slope, name="rival_slope", low=0.0, high=100.0)

    def __call__(
        self, scores: NDArray[np.float64], rivals: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the probabilities of scores beside those of their rivals."""
        of_the_score = self.slope * logit(scores)
        of_the_rival = self.rival_slope * logit(rivals)
        log_odds = self.offset + of_the_score - of_the_rival
        return 1 / (1 + np.exp(-log_odds))


def logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the odds; scores are held 1e-4 away from 0 and 1."""
    inside = np.clip(scores, _SMALLEST_SCORE, 1 - _SMALLEST_SCORE)
    return np.log(inside / (1 - inside))


@dataclass(frozen=True)
class TrackingSettings:
    """What a tracker makes of a network's answers: part of what was measured for its weights.

    The defaults are those of OSTrack's paper: the box is what the network says. A file of weights
    may store others, and a :class:`~rgbt_fusion.tracking.tracker.Tracker` takes them from its
    network; see :func:`~rgbt_fusion.tracking.settle.settle` for what they do.

    Args:
        window_weight: how much the window that prefers the middle counts, from 0 to 1.
        size_inertia: share of the old size that is kept, from 0 to below 1; of a size, the square
            root of the area.
        aspect_inertia: share of the old aspect that is kept, from 0 to below 1.
        size_correction: share of the error of the first frame's size that is taken off all later
            ones, from 0 to 1: the network is asked once where the target is in the frame that it
            was given.
        size_growth: largest factor by which a side grows or shrinks in one frame, at least 1.
        smallest_px: width and height that a box has at least, in pixels inside the image.
        hold_below: below this confidence the box stays where it is; 0 never holds it.
        look_ahead: share of a fast target's last motion that the search crop lies ahead of the last
            box, from 0 to 1.
        match_weight: share of the way to where the target looks most like before that a box moves,
            from 0 to 1.
        lost_threshold: below this confidence the target counts as lost.
        found_threshold: a lost target counts as found again only from this confidence on, if it is
            above ``lost_threshold``.
        confidence: what turns the network's score into a confidence; None takes it as it is.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: a number is out of range.

    Example:
        >>> from rgbt_fusion.models.tracking_settings import TrackingSettings
        >>> TrackingSettings(size_inertia=0.9).chosen(size_inertia=None, smallest_px=4.0).plain()
        {'size_inertia': 0.9, 'smallest_px': 4.0}
    """

    window_weight: float = 1.0
    size_inertia: float = 0.0
    aspect_inertia: float = 0.0
    size_correction: float = 0.0
    size_growth: float = inf
    smallest_px: float = 10.0
    hold_below: float = 0.0
    look_ahead: float = 0.0
    match_weight: float = 0.0
    lost_threshold: float = 0.25
    found_threshold: float = 0.0
    confidence: ConfidenceMap | None = None

    def __post_init__(self) -> None:
        for name in _SHARES:
            check_finite_number(getattr(self, name), name=name, low=0.0, high=1.0)
        for name in ("size_inertia", "aspect_inertia"):
            check_finite_number(getattr(self, name), name=name, low=0.0, high=_MOST_INERTIA)
        check_finite_number(self.smallest_px, name="smallest_px", low=1.0)
        _check_factor(self.size_growth, "size_growth")

    def chosen(self, **given: Any) -> "TrackingSettings":
        """Return the settings with others in the place of some; None leaves one as it is."""
        chosen = {name: value for name, value in given.items() if value is not None}
        return replace(self, **chosen)

    def plain(self) -> dict[str, Any]:
        """Return what differs from the defaults, as plain values."""
        values = asdict(self)
        for one in fields(self):
            if getattr(self, one.name) == one.default:
                del values[one.name]
        return values


def tracking_settings_of(model: object) -> TrackingSettings:
    """Return the settings that a network carries, or those of the paper.

    Raises:
        TypeError: ``tracking_settings`` of the network is something else.
    """
    own = getattr(model, "tracking_settings", None)
    if own is None:
        return TrackingSettings()
    if not isinstance(own, TrackingSettings):
        raise NetworkError(
            f"tracking_settings of {type(model).__name__} must be TrackingSettings or None, "
            f"got {type(own).__name__}"
        )
    return own


def _check_factor(value: Any, name: str) -> None:
    """Check that a bound is a number of at least 1; infinity is no bound."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not value >= 1:
        raise ValueError(f"{name} must be a number of at least 1, got {value!r}")

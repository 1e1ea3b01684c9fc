"""The measures of single-object tracking, as pure functions of numpy arrays.

Boxes are ``(T, 4)`` arrays of left, top, width, height in pixels, one row per frame. float32 stays
float32, everything else becomes float64. The order of operations is that of the MATLAB toolkits,
so that a frame at a threshold falls on the same side as there. A box that holds NaN overlaps
nothing and is infinitely far away.
"""

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import ShapeError, check_choice

__all__ = [
    "AreaRule",
    "Array",
    "area_under",
    "as_frames",
    "centre_error",
    "clip_to_image",
    "matlab_colon",
    "max_ratio",
    "miss_count",
    "normalised_centre_error",
    "overlap",
    "precision_curve",
    "repeat_previous",
    "round_half_away",
    "success_curve",
    "track_success",
]

Array: TypeAlias = NDArray[np.floating]
"""Numbers in float32 or float64."""

AreaRule: TypeAlias = Literal["mean", "trapezoid"]
"""How the area under a curve is taken."""


def matlab_colon(start: float, step: float, stop: float) -> Array:
    """Return ``start:step:stop`` as MATLAB computes it, to the last bit.

    MATLAB counts the lower half up from ``start`` and the upper half down from ``stop``. So its
    ``0:0.05:1`` holds 0.64999999999999991 where ``0.05 * 13`` is 0.65, and an overlap of exactly
    0.65 succeeds.

    Args:
        start: the first number.
        step: the distance between two numbers, not 0.
        stop: the upper limit, included when it is a whole number of steps away.

    Raises:
        ValueError: ``step`` is 0, or points away from ``stop``.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import matlab_colon
        >>> repr(float(matlab_colon(0, 0.05, 1)[13]))
        '0.6499999999999999'

    Source:
        MathWorks, "How does the COLON operator work?".
    """
    if step == 0 or (stop - start) / step < 0:
        raise ValueError(f"step must lead from start to stop, got {start}:{step}:{stop}")
    count = round((stop - start) / step)
    tolerance = 2.0 * np.finfo(float).eps * max(abs(start), abs(stop))
    if np.sign(step) * (start + count * step - stop) > tolerance:
        count -= 1
    last = start + count * step
    if np.sign(step) * (last - stop) > -tolerance:
        last = stop
    k = np.arange(count + 1)
    upwards = start + k * step
    downwards = last - (count - k) * step
    numbers = np.where(k <= count // 2, upwards, downwards)
    if count and count % 2 == 0:
        numbers[count // 2] = (start + last) / 2
    return numbers


def overlap(boxes: ArrayLike, truth: ArrayLike, *, inclusive: bool = True) -> Array:
    r"""Return the intersection over union of two tracks, frame by frame.

    .. math::
        \mathrm{IoU} = \frac{|A \cap B|}{|A| + |B| - |A \cap B|}

    Paper and code: the toolkits count inclusive pixels (right = x + w - 1, and 1 more on the
    intersection). The area is the same; only the last bit can differ. Two boxes without area, and
    boxes with NaN, overlap by 0.

    Args:
        boxes: the predicted boxes.
        truth: the annotated boxes.
        inclusive: True counts as the toolkits that descend from OTB's, False as the GOT-10k
            toolkit.

    Shape:
        - boxes, truth: ``(T, 4)``
        - returns ``(T,)``, in [0, 1]

    Raises:
        ShapeError: ``boxes`` or ``truth`` is not ``(T, 4)``, or their lengths differ.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import overlap
        >>> overlap([[0, 0, 10, 10]], [[5, 0, 10, 10]]).round(4).tolist()
        [0.3333]

    Source:
        Wu, Lim, Yang, "Object Tracking Benchmark", TPAMI 2015.
    """
    a, b = _pair_of_tracks(boxes, truth)
    one = a.dtype.type(1 if inclusive else 0)
    last_a = a[:, 2:] + a[:, :2] - one
    last_b = b[:, 2:] + b[:, :2] - one
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        first = np.maximum(a[:, :2], b[:, :2])
        last = np.minimum(last_a, last_b)
        sides = np.maximum(last - first + one, 0)
        shared = sides[:, 0] * sides[:, 1]
        area_a = a[:, 2] * a[:, 3]
        area_b = b[:, 2] * b[:, 3]
        ratio = shared / (area_a + area_b - shared)
    return np.where(np.isfinite(ratio), ratio, ratio.dtype.type(0))


def centre_error(boxes: ArrayLike, truth: ArrayLike, *, centre_offset: float = 1.0) -> Array:
    r"""Return the distance between the centres of two tracks in pixels, frame by frame.

    .. math::
        e = \lVert c(A) - c(B) \rVert_2, \qquad
        c(x, y, w, h) = \left(x + \frac{w - o}{2},\ y + \frac{h - o}{2}\right)

    Paper and code: the offset :math:`o` cancels in the difference. It is kept because it can
    change the last bit.

    Args:
        boxes: the predicted boxes.
        truth: the annotated boxes.
        centre_offset: 1 for toolkits with the centre at ``x + (w - 1)/2``, 0 for those with the
            centre at ``x + w/2``.

    Shape:
        - boxes, truth: ``(T, 4)``
        - returns ``(T,)``, infinite where a box holds NaN

    Raises:
        ShapeError: ``boxes`` or ``truth`` is not ``(T, 4)``, or their lengths differ.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import centre_error
        >>> centre_error([[0, 0, 10, 10]], [[3, 4, 10, 10]]).tolist()
        [5.0]
    """
    a, b = _pair_of_tracks(boxes, truth)
    return _distance(_centres(a, centre_offset), _centres(b, centre_offset))


def normalised_centre_error(
    boxes: ArrayLike, truth: ArrayLike, *, centre_offset: float = 1.0
) -> Array:
    r"""Return the distance between the centres in units of the annotated width and height.

    .. math::
        e = \left\lVert \left(\frac{c_x(A)}{w_B}, \frac{c_y(A)}{h_B}\right)
        - \left(\frac{c_x(B)}{w_B}, \frac{c_y(B)}{h_B}\right) \right\rVert_2

    Paper and code: the centres are divided before they are subtracted, as in the toolkits of
    LaSOT and LasHeR.

    Args:
        boxes: the predicted boxes.
        truth: the annotated boxes.
        centre_offset: as in :func:`centre_error`.

    Shape:
        - boxes, truth: ``(T, 4)``
        - returns ``(T,)``, infinite where a box holds NaN or the annotated box has no size

    Raises:
        ShapeError: ``boxes`` or ``truth`` is not ``(T, 4)``, or their lengths differ.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import normalised_centre_error
        >>> normalised_centre_error([[0, 0, 10, 20]], [[3, 8, 10, 20]]).tolist()
        [0.5]

    Source:
        Li et al., "LasHeR", TIP 2022.
    """
    a, b = _pair_of_tracks(boxes, truth)
    annotated_size = b[:, 2:]
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted = _centres(a, centre_offset) / annotated_size
        annotated = _centres(b, centre_offset) / annotated_size
        return _distance(predicted, annotated)


def precision_curve(errors: ArrayLike, thresholds: ArrayLike, *, strict: bool = False) -> Array:
    """Return the share of frames whose centre error is at most each threshold.

    Args:
        errors: one error per frame; -1 is below every threshold and infinity above.
        thresholds: the thresholds.
        strict: count errors below a threshold only.

    Shape:
        - errors: ``(T,)``
        - thresholds: ``(K,)``
        - returns ``(K,)``, in [0, 1]

    Raises:
        ShapeError: ``errors`` or ``thresholds`` does not have exactly one axis, or is empty.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import precision_curve
        >>> precision_curve([3.0, 20.0, 21.0, 40.0], [5, 20, 50]).tolist()
        [0.25, 0.5, 1.0]
    """
    ordered = np.sort(as_frames(errors, "errors"))
    limits = as_frames(thresholds, "thresholds")
    counts = np.searchsorted(ordered, limits, side="left" if strict else "right")
    return counts / len(ordered)


def success_curve(overlaps: ArrayLike, thresholds: ArrayLike) -> Array:
    """Return the share of frames whose overlap is above each threshold.

    Args:
        overlaps: one overlap per frame; -1 is below every threshold.
        thresholds: the thresholds.

    Shape:
        - overlaps: ``(T,)``
        - thresholds: ``(K,)``
        - returns ``(K,)``, in [0, 1]

    Raises:
        ShapeError: ``overlaps`` or ``thresholds`` does not have exactly one axis, or is empty.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import success_curve
        >>> success_curve([0.2, 0.5, 0.7, 1.0], [0, 0.5, 1]).tolist()
        [1.0, 0.5, 0.0]
    """
    ordered = np.sort(as_frames(overlaps, "overlaps"))
    counts = np.searchsorted(ordered, as_frames(thresholds, "thresholds"), side="right")
    return (len(ordered) - counts) / len(ordered)


def area_under(curve: ArrayLike, *, rule: AreaRule = "mean") -> float:
    """Return the area under a curve over [0, 1].

    Args:
        curve: the values at equally spaced thresholds.
        rule: ``"mean"`` of the values (every benchmark but GTOT) or ``"trapezoid"``.

    Shape:
        - curve: ``(K,)``
        - returns a number

    Raises:
        ShapeError: ``curve`` does not have exactly one axis, or is empty.
        ValueError: ``rule`` is unknown.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import area_under
        >>> area_under([1, 1, 0]), area_under([1, 1, 0], rule="trapezoid")
        (0.6666666666666666, 0.75)
    """
    values = as_frames(curve, "curve")
    check_choice(rule, get_args(AreaRule), name="rule")
    if rule == "mean":
        return float(values.mean())
    intervals = len(values) - 1
    return float((values[1:] + values[:-1]).sum() / 2 / intervals)


def repeat_previous(boxes: ArrayLike, *, nan: bool = True) -> Array:
    """Return the track with every invalid box replaced by the last valid one.

    A box is invalid when its width or height is 0 or less or, with ``nan``, when it holds NaN. The
    first row stays as it is.

    Args:
        boxes: the predicted boxes.
        nan: True replaces boxes that hold NaN (MATLAB's toolkits), False keeps them (the PyPI
            package ``rgbt``).

    Shape:
        - boxes: ``(T, 4)``
        - returns ``(T, 4)``

    Raises:
        ShapeError: ``boxes`` is not ``(T, 4)``.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import repeat_previous
        >>> repeat_previous([[1, 1, 5, 5], [2, 2, 0, 5], [3, 3, float("nan"), 5]])[:, 0].tolist()
        [1.0, 1.0, 1.0]
    """
    track = _track(boxes, "boxes")
    invalid = (track[:, 2] <= 0) | (track[:, 3] <= 0)
    unknown = np.isnan(track)
    if nan and unknown.any():
        invalid |= unknown.any(axis=1)
    if not invalid[1:].any():
        return track.copy()
    source = np.arange(len(track))
    source[1:][invalid[1:]] = 0
    return track[np.maximum.accumulate(source)]


def round_half_away(boxes: ArrayLike) -> Array:
    """Round halves away from zero, as MATLAB does; numpy rounds them to even numbers.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import round_half_away
        >>> round_half_away([0.5, 1.5, -2.5]).tolist()
        [1.0, 2.0, -3.0]
    """
    numbers = _floats(boxes)
    return np.copysign(np.floor(np.abs(numbers) + 0.5), numbers)


def clip_to_image(boxes: ArrayLike, *, width: float, height: float) -> Array:
    """Cut boxes at the borders of the image, as the GOT-10k and VOT toolkits do.

    Args:
        boxes: the boxes, predicted or annotated.
        width: the image's width.
        height: the image's height.

    Shape:
        - boxes: ``(T, 4)``
        - returns ``(T, 4)``

    Raises:
        ShapeError: ``boxes`` is not ``(T, 4)``.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import clip_to_image
        >>> clip_to_image([[90, 10, 30, 30]], width=100, height=100).tolist()
        [[90.0, 10.0, 10.0, 30.0]]
    """
    track = _track(boxes, "boxes")
    limit = np.array((width, height), dtype=track.dtype)
    corner = np.clip(track[:, :2], 0, limit)
    size = np.clip(track[:, 2:], 0, limit - corner)
    return np.concatenate((corner, size), axis=1)


def miss_count(overlaps: ArrayLike) -> int:
    """Return how often the target was lost: the number of unbroken runs of overlap 0.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import miss_count
        >>> miss_count([0.7, 0.0, 0.0, 0.5, 0.0])
        2
    """
    missed = as_frames(overlaps, "overlaps") <= 0
    lost_later = missed[1:] & ~missed[:-1]
    return int(missed[0]) + int(lost_later.sum())


def track_success(overlaps: ArrayLike) -> bool:
    """Return whether the target is still overlapped in the last frame.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import track_success
        >>> track_success([0.7, 0.0, 0.1])
        True
    """
    return bool(as_frames(overlaps, "overlaps")[-1] > 0)


def max_ratio(errors: ArrayLike, *, width: float, height: float) -> float:
    """Return the largest centre error as a fraction of the image's diagonal.

    Example:
        >>> from rgbt_fusion.evaluation.metrics import max_ratio
        >>> max_ratio([3.0, 5.0], width=30, height=40)
        0.1
    """
    return float(as_frames(errors, "errors").max() / np.hypot(width, height))


def _floats(numbers: ArrayLike) -> Array:
    """Return float32 as it is, and everything else in float64."""
    array = np.asarray(numbers)
    if array.dtype == np.float32:
        return array
    return array.astype(np.float64, copy=False)


def _track(boxes: ArrayLike, name: str) -> Array:
    """Return boxes as an array ``(T, 4)``, or raise."""
    array = _floats(boxes)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ShapeError(f"{name} must have shape (T, 4), got {array.shape}")
    return array


def _pair_of_tracks(boxes: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    a = _track(boxes, "boxes")
    b = _track(truth, "truth")
    if a.shape != b.shape:
        raise ShapeError(f"boxes must have the length of truth {len(b)}, got {len(a)}")
    return a, b


def as_frames(values: ArrayLike, name: str) -> Array:
    """Return one float64 number per frame.

    Raises:
        ShapeError: ``values`` does not have exactly one axis, or is empty.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ShapeError(f"{name} must have shape (T,) with at least one value, got {array.shape}")
    return array


def _centres(track: Array, offset: float) -> Array:
    """Return the centre of each box, in the dtype of the track."""
    return track[:, :2] + (track[:, 2:] - track.dtype.type(offset)) / 2


def _distance(a: Array, b: Array) -> Array:
    """Return the distance of points ``(T, 2)``, infinite where there is NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        squares = (a - b) ** 2
        distance = np.sqrt(squares[:, 0] + squares[:, 1])
    return np.where(np.isnan(distance), distance.dtype.type(np.inf), distance)

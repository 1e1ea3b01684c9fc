"""How two recordings lie on each other, and whether the answer can be relied on."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.alignment.geometry import resizing
from rgbt_fusion.alignment.gradients import Plane, grey
from rgbt_fusion.alignment.registration import Registration, register
from rgbt_fusion.alignment.search import PlanePair
from rgbt_fusion.alignment.time_offset import TimeOffset, find_time_offset, reach
from rgbt_fusion.checks import (
    ShapeError,
    check_choice,
    check_finite_number,
    check_positive_int,
)
from rgbt_fusion.files.text_tables import DataError, read_numbers, read_text
from rgbt_fusion.files.whole import write_json
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import Frame, FramePairLike

__all__ = [
    "ALIGNMENT_MODELS",
    "Alignment",
    "AlignmentModel",
    "align_source",
    "estimate_alignment",
    "read_alignment",
    "read_homography",
    "write_alignment",
]

AlignmentModel: TypeAlias = Literal["similarity", "affine", "homography"]
"""What the matrix may be: 4, 6 or 8 numbers."""

ALIGNMENT_MODELS: tuple[AlignmentModel, ...] = get_args(AlignmentModel)
"""What may lie between the two images."""

READ_PAIRS = 80
"""Pairs that :func:`align_source` reads."""

READ_WIDTH = 640
"""Width to which it reduces wider frames; the registration uses less."""

LONGEST_STRETCH = 80
"""Consecutive frames in which the time offset is looked for."""

LEAST_STRENGTH = 0.1
"""Least strength of the fit, see :class:`~rgbt_fusion.alignment.refinement.Fit`."""

LEAST_SUPPORT = 40.0
"""Least number of fields, of some 300, that the agreement must be spread over."""

LEAST_MARGIN = 0.03
"""Least strength by which the best placement must be ahead of any other."""

LARGEST_DISAGREEMENT = 0.015
"""Largest distance between the placements of two halves of the image, as a share of its width."""

MARGIN_WEIGHT = 66.7
STRENGTH_WEIGHT = 14.9
EVIDENCE_NEEDED = 6.4
"""The probability of a right placement is logistic in the weighted sum less this."""

LEAST_CONFIDENCE = 0.8

LARGEST_ROUNDS = 3
"""Times that the matrix and the time offset are made better by each other."""

CLOSE_PAIRS = 3
"""Consecutive pairs that the first registration uses while the time offset is not known."""

LARGEST_COEFFICIENT = 1e9
"""No matrix between two images has larger numbers."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a thermal recording lies on a colour recording in space and time."""

    tir_from_rgb: NDArray[np.float64]
    """``(3, 3)``: takes a pixel of the colour frame to the thermal frame."""
    offset_frames: float
    """Colour frame t shows the moment of thermal frame t + ``offset_frames``."""
    confidence: float
    """Probability that the matrix is right, in 0 to 1."""
    sure: bool
    """Whether it can be used as a fact."""
    margin: float
    """How far the best placement is ahead of the next one."""
    overlap: float
    """Share of the colour frame that the thermal frame covers."""
    reason: str
    """Why it is not sure, or what it rests on, in words."""


def estimate_alignment(
    rgb_frames: Sequence[Frame],
    tir_frames: Sequence[Frame],
    *,
    model: AlignmentModel = "homography",
    frames: int = 6,
    max_offset: int = 0,
) -> Alignment:
    """Estimate how two recordings lie on each other, without knowing anything of the cameras.

    All placements of scale 0.46 to 2.17, turned up to about 5 degrees, are searched by masked
    correlation of gradient fields. The best are refined on oriented gradients, from similarity over
    affine to homography. The margin over the next placement that is another one says how sure the
    answer is. With ``max_offset`` the recordings are then compared at every time offset, and
    registered again on frames of the same moments.

    Choices: frames count as taken at the same moments unless ``max_offset`` is given. An offset
    that cannot be known makes the whole alignment unsure, unless the recordings are too short to
    look for one.

    Args:
        rgb_frames: consecutive colour frames, all of one size; any few if ``max_offset`` is 0.
        tir_frames: as many thermal frames, all of one size, which may be another one.
        model: what the matrix may be.
        frames: how many pairs are registered, evenly spread.
        max_offset: largest time offset to look for, in frames.

    Raises:
        ShapeError: ``rgb_frames`` and ``tir_frames`` differ in number or are empty, or the frames
            of one differ in size.
        ValueError: ``model``, ``frames`` or ``max_offset`` is out of range.
        ModuleNotFoundError: OpenCV is not installed.

    Example:
        >>> from rgbt_fusion import estimate_alignment
        >>> from rgbt_fusion.synthetic.world import SyntheticSequence
        >>> pairs = list(SyntheticSequence(5, frames=2, challenge="none"))
        >>> rgb = [pair.rgb for pair in pairs]
        >>> tir = [pair.tir[12:, 20:] for pair in pairs]
        >>> found = estimate_alignment(rgb, tir, model="similarity")
        >>> found.sure, found.tir_from_rgb[:2, 2].round().tolist()
        (True, [-20.0, -12.0])

    Source:
        The parts name theirs: :func:`~rgbt_fusion.alignment.search.search`,
        :class:`~rgbt_fusion.alignment.refinement.Level`,
        :func:`~rgbt_fusion.alignment.time_offset.find_time_offset`.
    """
    check_choice(model, ALIGNMENT_MODELS, name="model")
    check_positive_int(frames, name="frames")
    if max_offset:
        check_positive_int(max_offset, name="max_offset")
    _check_recording(rgb_frames, "rgb_frames")
    _check_recording(tir_frames, "tir_frames")
    if len(rgb_frames) != len(tir_frames):
        raise ShapeError(
            f"tir_frames must be as many as rgb_frames {len(rgb_frames)}, got {len(tir_frames)}"
        )
    recordings = _Recordings(rgb_frames, tir_frames)
    largest = reach(len(rgb_frames), max_offset)
    if not largest:
        return _judged(register(recordings.spread(frames, 0), model), None)
    time = _first_offset(recordings, model, frames, largest)
    offset = round(time.frames) if time is not None and time.known else 0
    registration = register(recordings.spread(frames, offset), model)
    for _ in range(LARGEST_ROUNDS):
        if registration is None:
            break
        # with a better matrix the offset is known better, and the other way round
        time = recordings.time_offset(registration.fit.tir_from_rgb, largest)
        if not time.known or round(time.frames) == offset:
            break
        offset = round(time.frames)
        registration = register(recordings.spread(frames, offset), model)
    return _judged(registration, time)


def align_source(
    source: Iterable[FramePairLike],
    *,
    model: AlignmentModel = "homography",
    frames: int = 6,
    max_offset: int = 10,
) -> Alignment:
    """Estimate how the recordings of a source lie on each other, from its first 80 pairs.

    Large frames are reduced as they are read, so a long recording needs little memory. The matrix
    is that of the frames as they are.

    Args:
        source: pairs of frames, such as a video source or a sequence; pairs that lack a modality
            are left out.
        model: as in :func:`estimate_alignment`.
        frames: as in :func:`estimate_alignment`.
        max_offset: as in :func:`estimate_alignment`; it is not looked for where pairs were left
            out.

    Raises:
        ValueError: ``source`` has no pair of both modalities.
    """
    rgb: list[Frame] = []
    tir: list[Frame] = []
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    left_out = False
    for colour, heat in islice(source, READ_PAIRS):
        if colour is None or heat is None:
            left_out = True
            continue
        sizes = (_size(colour), _size(heat))
        rgb.append(_reduced(colour))
        tir.append(_reduced(heat))
    if sizes is None:
        raise ValueError("source must have a pair of frames of both modalities, got none")
    found = estimate_alignment(
        rgb, tir, model=model, frames=frames, max_offset=0 if left_out else max_offset
    )
    reduced_from_rgb = resizing(sizes[0], _size(rgb[0]))
    tir_from_reduced = np.linalg.inv(resizing(sizes[1], _size(tir[0])))
    matrix = tir_from_reduced @ found.tir_from_rgb @ reduced_from_rgb
    return replace(found, tir_from_rgb=matrix / matrix[2, 2])


def _size(frame: Frame) -> tuple[int, int]:
    return frame.shape[1], frame.shape[0]


def _reduced(frame: Frame) -> Frame:
    cv2 = load_cv2()
    width, height = _size(frame)
    if width <= READ_WIDTH:
        return frame
    size = (READ_WIDTH, round(height * READ_WIDTH / width))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


class _Recordings:
    """Frames of both cameras, made grey once they are needed."""

    def __init__(self, rgb: Sequence[Frame], tir: Sequence[Frame]) -> None:
        self.rgb = rgb
        self.tir = tir
        self._planes: dict[tuple[str, int], Plane] = {}

    def plane(self, camera: Literal["rgb", "tir"], index: int) -> Plane:
        """Return one frame as a grey plane."""
        key = (camera, index)
        if key not in self._planes:
            frames = self.rgb if camera == "rgb" else self.tir
            self._planes[key] = grey(frames[index])
        return self._planes[key]

    def pairs(self, times: Sequence[int], offset: int) -> list[PlanePair]:
        """Return pairs of the same moments, if the thermal frames are ``offset`` later."""
        return [
            PlanePair(self.plane("rgb", time), self.plane("tir", time + offset)) for time in times
        ]

    def spread(self, count: int, offset: int) -> list[PlanePair]:
        """Return pairs that are evenly spread over the recordings."""
        first = max(0, -offset)
        last = len(self.rgb) - 1 - max(0, offset)
        places = np.linspace(first, last, min(count, last - first + 1))
        return self.pairs(places.round().astype(int).tolist(), offset)

    def close(self, count: int) -> list[PlanePair]:
        """Return consecutive pairs from the middle."""
        first = max(0, (len(self.rgb) - count) // 2)
        return self.pairs(range(first, min(first + count, len(self.rgb))), 0)

    def time_offset(self, tir_from_rgb: NDArray[np.float64], largest: int) -> TimeOffset:
        """Look for the time offset in a stretch from the middle."""
        length = min(LONGEST_STRETCH, len(self.rgb))
        first = (len(self.rgb) - length) // 2
        times = range(first, first + length)
        rgb = [self.plane("rgb", time) for time in times]
        tir = [self.plane("tir", time) for time in times]
        return find_time_offset(rgb, tir, tir_from_rgb, largest=largest)


def _first_offset(
    recordings: _Recordings, model: AlignmentModel, frames: int, largest: int
) -> TimeOffset | None:
    """Return the time offset before the placement is known well."""
    # a moving camera shifts frames of two moments, but consecutive ones alike
    time = None
    for pairs in (recordings.close(CLOSE_PAIRS), recordings.spread(frames, 0)):
        registration = register(pairs, model)
        if registration is not None:
            time = recordings.time_offset(registration.fit.tir_from_rgb, largest)
            if time.known:
                break
    return time


def _judged(registration: Registration | None, time: TimeOffset | None) -> Alignment:
    """Return the alignment, and whether it can be relied on."""
    if registration is None:
        nothing = "too little in common: no placement is plausible"
        return Alignment(np.eye(3), 0.0, 0.0, False, 0.0, 0.0, nothing)
    doubt = _doubt(registration) or _doubt_of_time(time)
    offset = 0.0
    if time is not None and time.known:
        offset = time.frames
    return Alignment(
        tir_from_rgb=registration.fit.tir_from_rgb,
        offset_frames=offset,
        confidence=_confidence(registration),
        sure=doubt is None,
        margin=registration.margin,
        overlap=registration.fit.overlap,
        reason=doubt or _grounds(registration, time),
    )


def _confidence(registration: Registration) -> float:
    """Return the probability that the placement is right, learned from drawn views."""
    evidence = MARGIN_WEIGHT * registration.margin + STRENGTH_WEIGHT * registration.fit.strength
    return float(1 / (1 + np.exp(EVIDENCE_NEEDED - evidence)))


def _doubt(registration: Registration) -> str | None:
    """Return why the placement cannot be relied on; None if it can."""
    if registration.fit.strength < LEAST_STRENGTH:
        return (
            "too little in common: the edges of both recordings agree with a strength of "
            f"{registration.fit.strength:.2f}, {LEAST_STRENGTH} is needed"
        )
    if registration.support < LEAST_SUPPORT:
        return (
            "too little in common: what agrees lies in as little as "
            f"{registration.support:.0f} fields of the image, {LEAST_SUPPORT:.0f} are needed"
        )
    if registration.margin < LEAST_MARGIN or _confidence(registration) < LEAST_CONFIDENCE:
        return (
            "two placements fit equally well: the best is ahead by "
            f"{registration.margin:.3f}, {LEAST_MARGIN} is needed"
        )
    if registration.disagreement > LARGEST_DISAGREEMENT:
        return (
            "parallax: two halves of the image lie apart by "
            f"{registration.disagreement:.1%} of its width, {LARGEST_DISAGREEMENT:.1%} is allowed"
        )
    return None


def _doubt_of_time(time: TimeOffset | None) -> str | None:
    """Return why the time offset cannot be relied on; None if it can, or was not looked for."""
    if time is None or time.known:
        return None
    if time.at_the_end and time.lead > 0:
        return (
            f"the time offset may be beyond {abs(time.frames):.0f} frames, "
            "the largest that was looked for"
        )
    return (
        "nothing moves, so the time offset cannot be known "
        "(a largest offset of 0 takes the pairs for simultaneous)"
    )


def _grounds(registration: Registration, time: TimeOffset | None) -> str:
    """Return what a sure alignment rests on."""
    grounds = f"ahead of the next placement by {registration.margin:.2f}"
    if time is None:
        return f"{grounds}; pairs taken for simultaneous"
    return f"{grounds}; changes agree at this offset with a correlation of {time.correlation:.2f}"


def write_alignment(path: str | Path, alignment: Alignment) -> None:
    """Write an alignment as JSON.

    Raises:
        ValueError: ``alignment`` is not sure.
        OSError: ``path`` cannot be written.
    """
    if not alignment.sure:
        raise ValueError(f"alignment must be sure to be written, but {alignment.reason}")
    content = {
        "tir_from_rgb": alignment.tir_from_rgb.tolist(),
        "offset_frames": alignment.offset_frames,
        "confidence": alignment.confidence,
        "margin": alignment.margin,
        "overlap": alignment.overlap,
        "reason": alignment.reason,
    }
    write_json(path, content)


def read_alignment(path: str | Path) -> Alignment:
    """Read what :func:`write_alignment` wrote, or the matrix alone.

    Args:
        path: a JSON file, of which all but ``tir_from_rgb`` may be missing; or a text file of the
            matrix, three rows of three numbers.

    Raises:
        DataError: ``path`` is missing or does not hold an alignment.
    """
    text = read_text(path)
    if not text.lstrip().startswith(("{", "[")):
        return read_homography(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} must hold an alignment as JSON: {error}") from None
    if not isinstance(content, dict) or "tir_from_rgb" not in content:
        raise DataError(f"{path} must hold an alignment with a matrix tir_from_rgb, got none")
    return Alignment(
        tir_from_rgb=_matrix(content["tir_from_rgb"], path),
        offset_frames=_number(content, "offset_frames", 0.0, path),
        confidence=_number(content, "confidence", 1.0, path),
        sure=True,
        margin=_number(content, "margin", 0.0, path),
        overlap=_number(content, "overlap", 1.0, path),
        reason=str(content.get("reason", "")),
    )


def read_homography(path: str | Path) -> Alignment:
    """Read a text file of the matrix alone: three rows of three numbers.

    Raises:
        DataError: ``path`` is missing or does not hold an invertible matrix.
    """
    rows = read_numbers(path, columns=(3,))
    if rows.shape != (3, 3):
        raise DataError(f"{path} must hold three rows of three numbers, got {len(rows)}")
    return Alignment(_matrix(rows.tolist(), path), 0.0, 1.0, True, 0.0, 1.0, "a matrix")


def _matrix(rows: Any, path: str | Path) -> NDArray[np.float64]:
    try:
        matrix = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    is_usable = matrix.shape == (3, 3) and (np.abs(matrix) < LARGEST_COEFFICIENT).all()
    if not is_usable or np.linalg.det(matrix) == 0:
        raise DataError(
            f"tir_from_rgb of {path} must be an invertible 3x3 matrix, got {str(rows)[:80]}"
        )
    return matrix


def _number(content: dict[str, Any], name: str, default: float, path: str | Path) -> float:
    try:
        return check_finite_number(content.get(name, default), name=name)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None


def _check_recording(frames: Sequence[Frame], name: str) -> None:
    if not len(frames):
        raise ShapeError(f"{name} must hold at least one frame, got none")
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise ShapeError(f"{name} must be of one size, got {sorted(sizes)}")

"""Pairs of frames of two recordings, made to look as if one camera had taken both."""

import json
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.alignment.estimate import Alignment, align_source, read_alignment
from rgbt_fusion.alignment.geometry import distance, is_plausible
from rgbt_fusion.alignment.gradients import grey
from rgbt_fusion.alignment.known import fit_source
from rgbt_fusion.alignment.refinement import Level
from rgbt_fusion.alignment.search import PlanePair
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import Frame, FramePair, FramePairLike, GroundTruth

__all__ = [
    "ALIGNMENT_CHOICES",
    "AlignedFrames",
    "AlignmentChoice",
    "AlignmentLike",
    "AlignmentWarning",
    "DriftFollower",
    "choose_alignment",
    "lay_on_colour",
    "same_moments",
]

ALIGNMENT_CHOICES = ("auto", "follow", "fit")
"""What may be said in place of an alignment: it is estimated, its drift is followed, or both
recordings are the same view in another resolution."""

FOLLOWED_EVERY = 10
"""Frames between two looks at the drift."""

FOLLOWED_PAIRS = 3
"""Pairs that a look at the drift uses."""

FOLLOWED_WIDTH = 200

FOLLOWED_STEPS = 6

LEAST_SHARE = 0.7
"""Share of the first correlation that a followed placement must keep."""

LARGEST_STEP = 0.03
"""Largest drift between two looks, as a share of the image width."""


class AlignmentWarning(UserWarning):
    """Two recordings are used as they are, since how they lie on each other is not sure."""


class AlignedFrames:
    """Pairs of frames with the thermal one laid on the colour one of the same moment.

    Choices: where the thermal camera does not see it is black. Where the time offset leaves no
    thermal frame it is None. Other attributes of the source, such as its name, stay what they are;
    the annotated boxes of the colour frames are now those of both. Where the estimate is not sure
    the pairs stay as they are, with a warning.

    Args:
        source: pairs of frames as they were recorded.
        alignment: how they lie on each other; None finds it when the first frame is needed.
        follow: follow a slow drift of the cameras, such as a mount that gives; only where the
            frames are read in order.
        find: finds the alignment of the source: by estimating it, or from the sizes of the images
            with :func:`~rgbt_fusion.alignment.known.fit_source`.

    Example:
        >>> import numpy as np
        >>> from rgbt_fusion import Alignment
        >>> from rgbt_fusion.alignment.aligned_frames import AlignedFrames
        >>> shift = np.array([[1.0, 0, 2], [0, 1, 0], [0, 0, 1]])
        >>> known = Alignment(shift, 0.0, 1.0, True, 1.0, 1.0, "")
        >>> rgb = np.zeros((2, 4, 3), dtype=np.uint8)
        >>> tir = np.arange(8, dtype=np.uint8).reshape(2, 4)
        >>> ((_, seen),) = AlignedFrames([(rgb, tir)], known)
        >>> seen.tolist()
        [[2, 3, 0, 0], [6, 7, 0, 0]]
    """

    def __init__(
        self,
        source: Iterable[FramePairLike],
        alignment: Alignment | None = None,
        *,
        follow: bool = False,
        find: Callable[[Iterable[FramePairLike]], Alignment] = align_source,
    ) -> None:
        self._source = source
        self._known = alignment
        self._follow = follow
        self._find = find

    def __getattr__(self, name: str) -> Any:
        # a copy in another process has no source yet
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)  # pyright: ignore[reportArgumentType]

    def __iter__(self) -> Iterator[FramePair]:
        alignment = self.alignment()
        if not alignment.sure:
            yield from (FramePair(*pair) for pair in self._source)
            return
        follower = DriftFollower(alignment) if self._follow else None
        matrix = alignment.tir_from_rgb
        for rgb, tir in same_moments(self._source, round(alignment.offset_frames)):
            if follower is not None and rgb is not None and tir is not None:
                matrix = follower.update(rgb, tir)
            yield _laid(rgb, tir, matrix)

    def __getitem__(self, index: int) -> FramePair:
        frames: Any = self._source
        alignment = self.alignment()
        if not alignment.sure:
            return frames[index]
        rgb, _ = frames[index]
        there = index % len(self) + round(alignment.offset_frames)
        tir = frames[there][1] if 0 <= there < len(self) else None
        return _laid(rgb, tir, alignment.tir_from_rgb)

    @property
    def truth(self) -> GroundTruth | None:
        """The annotations: an aligned target is where it is in the colour frame."""
        truth: GroundTruth | None = getattr(self._source, "truth", None)
        if truth is None or not self.alignment().sure:
            return truth
        return truth._replace(tir=truth.rgb, files=truth.files[:1])

    def alignment(self) -> Alignment:
        """Return how the recordings lie on each other; warn at the first time if it is not sure."""
        if self._known is None:
            self._known = self._find(self._source)
            if not self._known.sure:
                name = getattr(self._source, "name", "the source")
                warnings.warn(
                    f"{name} stays unaligned: {self._known.reason}", AlignmentWarning, stacklevel=2
                )
        return self._known


class AlignmentChoice(NamedTuple):
    """How recordings are laid on each other, as a user chose it."""

    known: Alignment | None
    """The alignment itself; None where each recording has its own."""
    name: str
    """What tells this choice from any other: its word, or the numbers of the alignment."""

    def of(self, source: Iterable[FramePairLike]) -> AlignedFrames:
        """Return the pairs of a source, aligned."""
        if self.name == "fit":
            return AlignedFrames(source, find=fit_source)
        return AlignedFrames(source, self.known, follow=self.name == "follow")


AlignmentLike: TypeAlias = str | Path | Alignment | AlignmentChoice
"""What :func:`choose_alignment` takes."""


def choose_alignment(choice: AlignmentLike) -> AlignmentChoice:
    """Return what a choice means.

    Args:
        choice: ``"auto"`` estimates each recording; ``"follow"`` also follows a slow drift;
            ``"fit"`` takes both recordings for the same view in other resolutions; or an alignment,
            or a file of one, see :func:`~rgbt_fusion.alignment.estimate.read_alignment`; or what
            this function returned.

    Raises:
        DataError: ``choice`` is a file that is missing or holds no alignment.

    Example:
        >>> from rgbt_fusion.alignment.aligned_frames import choose_alignment
        >>> choose_alignment("fit")
        AlignmentChoice(known=None, name='fit')
    """
    if isinstance(choice, AlignmentChoice):
        return choice
    if isinstance(choice, str) and choice in ALIGNMENT_CHOICES:
        return AlignmentChoice(None, choice)
    known = choice if isinstance(choice, Alignment) else read_alignment(choice)
    numbers = {"tir_from_rgb": known.tir_from_rgb.tolist(), "offset_frames": known.offset_frames}
    return AlignmentChoice(known, json.dumps(numbers))


class DriftFollower:
    """Keeps the matrix right while the cameras move slowly against each other.

    Every ten frames the last three pairs are registered anew, as a similarity from the last
    matrix. A placement that fits much worse than the first one, or is far away, is not believed.

    Args:
        alignment: where to start.
    """

    def __init__(self, alignment: Alignment) -> None:
        self._matrix = alignment.tir_from_rgb
        self._pairs: deque[PlanePair] = deque(maxlen=FOLLOWED_PAIRS)
        self._frame = 0
        self._first_correlation: float | None = None

    def update(self, rgb: Frame, tir: Frame) -> NDArray[np.float64]:
        """Look at the next pair; return the matrix from colour to thermal pixels."""
        position = self._frame % FOLLOWED_EVERY
        self._frame += 1
        if position >= FOLLOWED_EVERY - FOLLOWED_PAIRS:
            self._pairs.append(PlanePair(grey(rgb), grey(tir)))
        if position == FOLLOWED_EVERY - 1:
            self._refine()
        return self._matrix

    def _refine(self) -> None:
        level = Level(list(self._pairs), FOLLOWED_WIDTH)
        fit = level.refine(self._matrix, "similarity", steps=FOLLOWED_STEPS)
        if self._first_correlation is None:
            self._first_correlation = fit.correlation
        step = distance(fit.tir_from_rgb, self._matrix, level.full_size)
        is_near = step < LARGEST_STEP and is_plausible(fit.tir_from_rgb, level.full_size)
        if is_near and fit.correlation > LEAST_SHARE * self._first_correlation:
            self._matrix = fit.tir_from_rgb


def lay_on_colour(tir: Frame, tir_from_rgb: NDArray[np.float64], size: tuple[int, int]) -> Frame:
    """Return the thermal frame as the colour camera would see it, black where it sees nothing.

    Args:
        tir: the thermal frame.
        tir_from_rgb: ``(3, 3)``.
        size: height and width of the colour frame.
    """
    cv2 = load_cv2()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(tir, tir_from_rgb, (size[1], size[0]), flags=flags)


def _laid(rgb: Any, tir: Frame | None, matrix: NDArray[np.float64]) -> FramePair:
    """Return a pair whose thermal frame, if it is there, is laid on the colour frame."""
    if tir is None:
        return FramePair(rgb, None)
    # without a colour frame its size is taken for that of the thermal frame
    size = tir.shape[:2] if rgb is None else rgb.shape[:2]
    return FramePair(rgb, lay_on_colour(tir, matrix, (size[0], size[1])))


def same_moments(source: Iterable[FramePairLike], offset: int) -> Iterator[FramePairLike]:
    """Yield pairs of the same moments; one is None where a recording has begun or ended."""
    waiting_rgb: deque[Any] = deque()
    waiting_tir: deque[Any] = deque([None] * max(0, -offset))
    skipped = 0
    for rgb, tir in source:
        waiting_rgb.append(rgb)
        if skipped < offset:
            skipped += 1
        else:
            waiting_tir.append(tir)
        if waiting_rgb and waiting_tir:
            yield waiting_rgb.popleft(), waiting_tir.popleft()
    while waiting_rgb:
        yield waiting_rgb.popleft(), waiting_tir.popleft() if waiting_tir else None

"""What the study scores: held-out sequences in which a camera fails, looks elsewhere, or is empty.

``HARD`` are the challenges of the world itself. ``IMPERFECT_CAMERAS`` are those of cameras that are
neither aligned nor reliable.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.tracking.failing import FailingCamera
from rgbt_fusion.checks import check_choice
from rgbt_fusion.evaluation.held_out import HARD, held_out_sequences
from rgbt_fusion.frames.types import FramePair, GroundTruth
from rgbt_fusion.synthetic.world import SyntheticSequence

__all__ = [
    "EMPTY",
    "IMPERFECT_CAMERAS",
    "SHIFTS",
    "EmptyModality",
    "challenge_of",
    "shifted",
    "study_sequences",
]

SHIFTS: dict[str, float] = {"misalignment": 1.0, "misalignment_x2": 2.0, "misalignment_x5": 5.0}
"""The shift between the cameras, in shifts of the world's own misalignment."""

EMPTY: dict[str, Literal["rgb", "tir"]] = {"empty_rgb": "rgb", "empty_tir": "tir"}
"""The modality that is black."""

_OTHERS = tuple(name for name in HARD if name not in SHIFTS)

IMPERFECT_CAMERAS: tuple[str, ...] = (*_OTHERS, *SHIFTS, *EMPTY)
"""The challenges of cameras that are neither aligned nor reliable, and those of the world."""


@dataclass(frozen=True)
class EmptyModality:
    """A sequence in which one modality is black.

    The first frame is whole, so that a tracker of either modality can start.
    """

    name: str
    sequence: SyntheticSequence
    modality: Literal["rgb", "tir"]
    """The modality that is black."""

    @property
    def kind(self) -> str:
        """Kind of the second modality."""
        return self.sequence.kind

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self.sequence.size

    @property
    def truth(self) -> GroundTruth:
        """The exact boxes in both modalities."""
        return self.sequence.truth

    def __len__(self) -> int:
        return len(self.sequence)

    def __iter__(self) -> Iterator[FramePair]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> FramePair:
        """Return a frame whose one modality is empty, unless it is the first one."""
        number = index % len(self)
        camera = FailingCamera(self.sequence, self.modality, "empty", range(1, len(self)))
        return camera.shown(number, self.sequence[number])


def shifted(sequence: SyntheticSequence, factor: float, *, name: str) -> SyntheticSequence:
    """Return a misaligned sequence whose cameras are ``factor`` times as far apart in each frame.

    The constant part of the shift and its slow drift both grow. The zoom stays.

    Args:
        sequence: a held-out one with the challenge ``"misalignment"``.
        factor: what the shift is multiplied by.
        name: what the new sequence is called.
    """
    farther = SyntheticSequence(
        sequence.seed, frames=sequence.frames, challenge="misalignment", held_out=True
    )
    plan = farther.plan
    farther.name = name
    farther.plan = replace(plan, tir_x=plan.tir_x.scaled(factor), tir_y=plan.tir_y.scaled(factor))
    return farther


def study_sequences(
    challenges: Iterable[str], *, sequences: int, frames: int
) -> dict[str, tuple[Any, ...]]:
    """Return the sequences of each challenge; asking for more of them keeps the first ones.

    Args:
        challenges: names among ``IMPERFECT_CAMERAS``.
        sequences: how many sequences per challenge.
        frames: how many frames per sequence.

    Raises:
        ValueError: ``challenges`` holds an unknown name, or a number is below 1.

    Example:
        >>> from benchmarks.study.challenges import study_sequences
        >>> groups = study_sequences(["misalignment_x5", "empty_rgb"], sequences=1, frames=9)
        >>> [sequence.name for group in groups.values() for sequence in group]
        ['synthetic_misalignment_x5_4000', 'synthetic_empty_rgb_0']
    """
    groups: dict[str, tuple[Any, ...]] = {}
    for name in challenges:
        check_choice(name, IMPERFECT_CAMERAS, name="challenges")
        drawn = _as_drawn(name, sequences, frames)
        if name in EMPTY:
            groups[name] = tuple(
                EmptyModality(_named(name, one), one, EMPTY[name]) for one in drawn
            )
        elif SHIFTS.get(name, 1.0) != 1.0:
            groups[name] = tuple(
                shifted(one, SHIFTS[name], name=_named(name, one)) for one in drawn
            )
        else:
            groups[name] = drawn
    return groups


def _as_drawn(challenge: str, sequences: int, frames: int) -> tuple[SyntheticSequence, ...]:
    """Return the sequences of the world that a challenge is made from."""
    if challenge in EMPTY:
        world = "none"
    elif challenge in SHIFTS:
        world = "misalignment"
    else:
        world = check_choice(challenge, HARD, name="challenges")
    return held_out_sequences([world], sequences=sequences, frames=frames)[world]


def _named(challenge: str, sequence: SyntheticSequence) -> str:
    return f"synthetic_{challenge}_{sequence.seed}"


def challenge_of(sequence: str) -> str:
    """Return the challenge of a sequence of this study, by its name.

    Example:
        >>> from benchmarks.study.challenges import challenge_of
        >>> challenge_of("synthetic_misalignment_x2_4000")
        'misalignment_x2'
    """
    return sequence.removeprefix("synthetic_").rpartition("_")[0]

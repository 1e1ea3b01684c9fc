"""What the study scores: held-out sequences in which a camera fails, looks elsewhere, or is empty.

``HARD`` are the challenges of the world itself. ``IMPERFECT_CAMERAS`` are those of cameras that are
neither aligned nor reliable.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from benchmarks.tracking.failing import FailingCamera
from rgbt_fusion.checks import check_choice
from rgbt_fusion.evaluation.held_out import HARD, held_out_sequences
from rgbt_fusion.synthetic.world import SyntheticSequence

__all__ = [
    "EMPTY",
    "IMPERFECT_CAMERAS",
    "SHIFTS",
    "challenge_of",
    "shifted",
    "study_sequences",
    "with_empty_modality",
]

SHIFTS: dict[str, float] = {"misalignment": 1.0, "misalignment_x2": 2.0, "misalignment_x5": 5.0}
"""The shift between the cameras, in shifts of the world's own misalignment."""

EMPTY: dict[str, Literal["rgb", "tir"]] = {"empty_rgb": "rgb", "empty_tir": "tir"}
"""The modality that is black."""

_OTHERS = tuple(name for name in HARD if name not in SHIFTS)

IMPERFECT_CAMERAS: tuple[str, ...] = (*_OTHERS, *SHIFTS, *EMPTY)
"""The challenges of cameras that are neither aligned nor reliable, and those of the world."""


def with_empty_modality(
    sequence: SyntheticSequence, modality: Literal["rgb", "tir"], *, name: str
) -> FailingCamera:
    """Return a sequence in which one modality is black from the second frame on.

    The first frame is whole, so that a tracker of either modality can start.

    Args:
        sequence: any one.
        modality: the one that is black.
        name: what the new sequence is called.
    """
    return FailingCamera(name, sequence, modality, "empty", range(1, len(sequence)))


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
                with_empty_modality(one, EMPTY[name], name=_named(name, one)) for one in drawn
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

"""Sequences to choose tracking settings by: synthetic, neither trained on nor reported.

Beside the world as it is there are targets that are faster than training shows them, targets of any
size and shape, and targets that leave the picture and come back.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rgbt_fusion.frames.types import FramePair, GroundTruth
from rgbt_fusion.synthetic.plan import Challenge
from rgbt_fusion.synthetic.world import SyntheticSequence

__all__ = ["GROUPS", "Scene", "scenes"]

FIRST_SEED = 700_000
"""The reported sequences have seeds below 7,000."""

FAR_AWAY = 16
"""How many widths of the frame a target that has left is off."""


@dataclass(frozen=True)
class Scene:
    """A synthetic sequence of which some frames are left out, or lack the target."""

    name: str
    sequence: SyntheticSequence
    every: int = 1
    """Which frames are shown: with 3 every third one, a target three times as fast."""
    away: range = range(0)
    """The frames, of those shown, in which the target is out of the picture."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self.sequence.size

    def __len__(self) -> int:
        return len(self.sequence) // self.every

    def __iter__(self) -> Iterator[FramePair]:
        for number in range(len(self)):
            world = self._without_target if number in self.away else self.sequence
            yield world[number * self.every]

    @cached_property
    def truth(self) -> GroundTruth:
        """The boxes, and whether the target is in the picture."""
        numbers = np.arange(len(self))
        whole = self.sequence.truth
        rows = numbers * self.every
        return GroundTruth(
            whole.rgb[rows], whole.tir[rows], numbers, present=~np.isin(numbers, self.away)
        )

    @cached_property
    def _without_target(self) -> SyntheticSequence:
        """The same world with the target far away."""
        changed = copy.copy(self.sequence)
        target = changed.plan.target
        off = target.x._replace(mean=target.x.mean + FAR_AWAY * self.size[0])
        changed.plan = replace(changed.plan, target=target._replace(x=off))
        return changed


def scenes(group: str, *, count: int, frames: int, first: int = 0) -> list[Scene]:
    """Return sequences of a group; asking for more of them keeps the first ones.

    Args:
        group: a key of ``GROUPS``.
        count: how many sequences.
        frames: how many frames each of them shows.
        first: number of the first one; other numbers are other sequences.

    Example:
        >>> from benchmarks.tracking.worlds import scenes
        >>> [scene.name for scene in scenes("wide", count=2, frames=5, first=7)]
        ['wide_7', 'wide_8']
    """
    make = GROUPS[group]
    offset = 1000 * list(GROUPS).index(group)
    found: list[Scene] = []
    for number in range(first, first + count):
        name = f"{group}_{number}"
        found.append(make(name, FIRST_SEED + offset + number, frames))
    return found


def _world(seed: int, frames: int, challenge: Challenge) -> SyntheticSequence:
    return SyntheticSequence(seed, frames=frames, challenge=challenge, held_out=True)


def _plain(name: str, seed: int, frames: int) -> Scene:
    return Scene(name, _world(seed, frames, "none"))


def _mixed(name: str, seed: int, frames: int) -> Scene:
    return Scene(name, _world(seed, frames, "mixed"))


def _fast(name: str, seed: int, frames: int) -> Scene:
    return Scene(name, _world(seed, 3 * frames, "mixed"), every=3)


def _wide(name: str, seed: int, frames: int) -> Scene:
    sequence = SyntheticSequence(seed, frames=frames, challenge="none", held_out=True, wide=True)
    return Scene(name, sequence)


def _absent(name: str, seed: int, frames: int) -> Scene:
    """Return a target that is away for a while between a quarter and the end."""
    random = np.random.default_rng(seed)
    start = int(random.integers(frames // 4, max(frames // 2, frames // 4 + 1)))
    stop = start + int(random.integers(frames // 8, max(frames // 2, frames // 8 + 1)))
    challenge: Challenge = "mixed" if seed % 2 else "none"
    return Scene(name, _world(seed, frames, challenge), away=range(start, stop))


GROUPS: dict[str, Callable[[str, int, int], Scene]] = {
    "plain": _plain,
    "mixed": _mixed,
    "fast": _fast,
    "wide": _wide,
    "absent": _absent,
}
"""What the sequences show."""

"""Sequences of which one camera fails for a stretch, and what trackers are worth on them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.evaluation.held_out import SINGLE, held_out_sequences
from rgbt_fusion.evaluation.metrics import overlap
from rgbt_fusion.files.table import Table
from rgbt_fusion.frames.types import FramePair, GroundTruth
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.tracking.tracker import Tracker

__all__ = [
    "KINDS",
    "FailingCamera",
    "FailureKind",
    "challenge_sequences",
    "failing_sequences",
    "measure",
    "table",
]

FailureKind: TypeAlias = Literal["none", "empty", "saturated", "noise", "late", "foreign"]
"""What one camera shows for a stretch: what it should (``"none"``), black, too much light, noise
alone, an earlier frame, or another scene."""

KINDS: tuple[FailureKind, ...] = get_args(FailureKind)

LATE_BY = 20
"""Frames by which a late camera is late."""

THRESHOLDS = np.linspace(0, 1, 21)
"""Overlaps at which the success is counted."""


@dataclass(frozen=True)
class FailingCamera:
    """A synthetic sequence of which one camera fails for a stretch."""

    name: str
    sequence: SyntheticSequence
    modality: Literal["rgb", "tir"]
    """The camera that fails."""
    failure: FailureKind
    """What it shows instead."""
    stretch: range
    """The frames in which it fails."""

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
        """The boxes of the sequence."""
        return self.sequence.truth

    def __len__(self) -> int:
        return len(self.sequence)

    def __iter__(self) -> Iterator[FramePair]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> FramePair:
        """Return what both cameras show of a frame."""
        frame = self.sequence[index]
        number = index % len(self)
        if self.failure == "none" or number not in self.stretch:
            return frame
        image = frame.rgb if self.modality == "rgb" else frame.tir
        if image is None:
            return frame
        failed = self._failed(number, image)
        if self.modality == "rgb":
            return FramePair(failed, frame.tir)
        return FramePair(frame.rgb, failed)

    def _failed(self, index: int, image: NDArray[Any]) -> NDArray[Any] | None:
        """Return what the camera shows in the place of an image."""
        if self.failure == "empty":
            return np.zeros_like(image)
        if self.failure == "saturated":
            return np.minimum(5 * image.astype(np.float32) + 60, 255).astype(np.uint8)
        if self.failure == "noise":
            random = np.random.default_rng((self.sequence.seed, index))
            noise = image.mean() + 25 * random.standard_normal(image.shape)
            return np.clip(noise, 0, 255).astype(np.uint8)
        if self.failure == "late":
            earlier = self.sequence[max(index - LATE_BY, 0)]
            return earlier.rgb if self.modality == "rgb" else earlier.tir
        other = SyntheticSequence(
            self.sequence.seed + 500, frames=len(self), challenge="none", held_out=True
        )[index]
        return other.rgb if self.modality == "rgb" else other.tir


def failing_sequences(failure: FailureKind, *, count: int, frames: int) -> list[FailingCamera]:
    """Return plain held-out sequences of which one camera fails in the middle third.

    The colour camera fails in every second sequence, the thermal one in the others.
    """
    plain = held_out_sequences(["none"], sequences=count, frames=frames)["none"]
    stretch = range(frames // 3, 2 * frames // 3)
    sequences = []
    for number, sequence in enumerate(plain):
        modality: Literal["rgb", "tir"] = "tir" if number % 2 else "rgb"
        sequences.append(FailingCamera(sequence.name, sequence, modality, failure, stretch))
    return sequences


def measure(
    networks: Mapping[str, TrackingNetwork],
    groups: Mapping[str, Sequence[Any]],
    *,
    paper: bool = False,
) -> dict[str, dict[str, float]]:
    """Return the success of each network per group; all see the same frames.

    Args:
        networks: networks by name.
        groups: annotated sequences by group.
        paper: track as in OSTrack's paper; the networks lose the settings that they carry.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in networks}
    if paper:
        for network in networks.values():
            network.tracking_settings = None
    for group, sequences in groups.items():
        successes: dict[str, list[float]] = {name: [] for name in networks}
        for sequence in sequences:
            truth = sequence.truth
            trackers = {name: Tracker(network) for name, network in networks.items()}
            boxes: dict[str, list[Any]] = {name: [] for name in networks}
            for index, (rgb, tir) in enumerate(sequence):
                for name, tracker in trackers.items():
                    if index == 0:
                        result = tracker.init(rgb, tir, tuple(truth.rgb[0]))
                    else:
                        result = tracker.update(rgb, tir)
                    boxes[name].append(result.box_xywh_px)
            for name, track in boxes.items():
                successes[name].append(_success(np.array(track, dtype=np.float64), truth))
        for name, values in successes.items():
            found[name][group] = float(np.mean(values))
    return found


def _success(boxes: NDArray[np.float64], truth: GroundTruth) -> float:
    """Return the area under the success curve, by the modality whose box fits better."""
    overlaps = np.maximum(overlap(boxes, truth.rgb), overlap(boxes, truth.tir))
    return float((overlaps[:, None] > THRESHOLDS).mean())


def challenge_sequences(*, count: int, frames: int) -> dict[str, Sequence[SyntheticSequence]]:
    """Return the held-out sequences on which the weights in the box were measured."""
    return dict(held_out_sequences(SINGLE, sequences=count, frames=frames))


def table(found: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the success of each network and group as a table, one row per network."""
    rows: list[tuple[str | float, ...]] = []
    groups: list[str] = []
    for name, successes in found.items():
        groups = list(successes)
        mean = float(np.mean(list(successes.values())))
        rows.append((name, mean, *successes.values()))
    return Table(("success", "mean", *groups), tuple(rows))

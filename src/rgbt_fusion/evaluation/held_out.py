"""Score trackers on sequences that no training shows, by group."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.data.sequences import Dataset, ImageSequence
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.evaluation.workers import MakeTracker, RunEvent
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.files.whole import scratch_folder
from rgbt_fusion.frames.types import FramePair, GroundTruth
from rgbt_fusion.synthetic.plan import CHALLENGES, Challenge
from rgbt_fusion.synthetic.world import SyntheticSequence

__all__ = [
    "HARD",
    "SINGLE",
    "Groups",
    "SingleModality",
    "held_out_sequences",
    "score_tracker",
]

SINGLE: tuple[Challenge, ...] = tuple(name for name in CHALLENGES if name != "mixed")
"""The plain world, and every challenge alone."""

HARD: tuple[Challenge, ...] = tuple(name for name in SINGLE if name != "none")
"""The challenges in which one modality fails."""

AnySequence: TypeAlias = ImageSequence | SyntheticSequence

Groups: TypeAlias = Mapping[str, Iterable[AnySequence]]
"""Annotated sequences by the name of their group."""


def held_out_sequences(
    challenges: Iterable[Challenge] = HARD,
    *,
    sequences: int = 10,
    frames: int = 60,
    wide: bool = False,
) -> dict[str, tuple[SyntheticSequence, ...]]:
    """Return sequences of places and objects that training never shows, by challenge.

    The sequences are the same on every machine. Asking for more of them keeps the first ones.

    Args:
        challenges: what happens in the sequences.
        sequences: how many sequences per challenge.
        frames: how many frames per sequence.
        wide: take them from the wide world.

    Raises:
        ValueError: ``challenges`` holds an unknown name, or ``sequences`` or ``frames`` is below 1.
        TypeError: ``sequences`` or ``frames`` is not a whole number.

    Example:
        >>> from rgbt_fusion.evaluation.held_out import held_out_sequences
        >>> [sequence.name for sequence in held_out_sequences(["night"], sequences=2)["night"]]
        ['synthetic_night_1000', 'synthetic_night_1001']
    """
    check_positive_int(sequences, name="sequences")
    groups: dict[str, tuple[SyntheticSequence, ...]] = {}
    for name in challenges:
        challenge = check_choice(name, CHALLENGES, name="challenges")
        # a thousand seeds per challenge, so that no two challenges share their motions
        first = 1000 * CHALLENGES.index(challenge)
        groups[challenge] = tuple(
            SyntheticSequence(
                first + number, frames=frames, challenge=challenge, held_out=True, wide=wide
            )
            for number in range(sequences)
        )
    return groups


@dataclass(frozen=True)
class SingleModality:
    """A sequence that shows one modality only; a tracker starts on that modality's box.

    Raises:
        ValueError: ``modality`` is unknown, or ``sequence`` has one modality or no annotation.
    """

    sequence: AnySequence
    """The sequence with both modalities."""
    modality: Literal["rgb", "tir"]
    """The modality that is shown."""

    def __post_init__(self) -> None:
        check_choice(self.modality, ("rgb", "tir"), name="modality")
        if self.sequence.truth is None:
            raise ValueError(f"sequence must be annotated, got {self.name} without boxes")
        if self.sequence.kind == "none":
            raise ValueError(f"sequence must have both modalities, got {self.name} with one")

    @property
    def name(self) -> str:
        """Name of the wrapped sequence."""
        return self.sequence.name

    @property
    def kind(self) -> str:
        """Kind of the wrapped sequence's second modality."""
        return self.sequence.kind

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: int) -> FramePair:
        """Return a frame whose other modality is None."""
        frame = self.sequence[index]
        if self.modality == "rgb":
            return FramePair(frame.rgb, None)
        return FramePair(None, frame.tir)

    def __iter__(self) -> Iterator[FramePair]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def truth(self) -> GroundTruth:
        """The boxes of the modality that is shown."""
        truth = cast(GroundTruth, self.sequence.truth)
        if self.modality == "rgb":
            return truth._replace(tir=truth.rgb, files=truth.files[:1])
        return truth._replace(rgb=truth.tir, files=truth.files[-1:])


def score_tracker(
    make_tracker: MakeTracker,
    groups: Groups,
    *,
    name: str,
    title: str = "the held-out synthetic world",
    modality: Literal["both", "rgb", "tir"] = "both",
    folder: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
    workers: int = 1,
    on_progress: Callable[[RunEvent], None] | None = None,
) -> Scores:
    """Run a tracker over groups of annotated sequences, and score it overall and per group.

    The rules are those of RGBT234: in each frame the annotation counts that fits better, the one of
    the colour image or the one of the thermal image. ``MSR`` is the success, ``MPR`` the precision
    at 20 pixels. Each group is one of the ``attributes`` of the scores.

    Args:
        make_tracker: returns the tracker; picklable where there are several workers.
        groups: sequences by the name of their group.
        name: the tracker's name in tables.
        title: what the sequences are called in tables.
        modality: what the tracker is shown: ``"both"``, ``"rgb"`` or ``"tir"``.
        folder: where the boxes are kept; boxes of an earlier run are taken from there. None keeps
            no boxes.
        settings: what the boxes depend on; see :func:`~rgbt_fusion.evaluation.run.run_tracker`.
        workers: how many processes track.
        on_progress: called after every frame and every sequence.

    Raises:
        DataError: a sequence cannot be tracked, or ``folder`` holds boxes of other settings.
        ValueError: ``modality`` is unknown, or ``groups`` hold no sequence or two of one name.

    Example:
        >>> from rgbt_fusion.evaluation.held_out import held_out_sequences, score_tracker
        >>> from rgbt_fusion.tracking.ncc import NCCTracker
        >>> groups = held_out_sequences(["night", "glare"], sequences=1, frames=3)
        >>> scores = score_tracker(NCCTracker, groups, name="template matching")
        >>> sorted(scores.attributes), scores.frames
        (['glare', 'night'], 6)
    """
    check_choice(modality, ("both", "rgb", "tir"), name="modality")
    members = {group: tuple(sequences) for group, sequences in groups.items()}
    every = list(chain.from_iterable(members.values()))
    names = [sequence.name for sequence in every]
    if not every or len(set(names)) < len(every):
        raise ValueError(f"groups must hold sequences, each with a name of its own, got {names}")
    # a dataset holds anything that behaves like its sequences
    shown: list[Any] = list(every)
    if modality != "both":
        shown = [SingleModality(sequence, modality) for sequence in every]
    if folder is None:
        place_of_boxes = scratch_folder(Path(tempfile.gettempdir()) / "rgbt-fusion-boxes")
    else:
        place_of_boxes = nullcontext(folder)
    with place_of_boxes as place:
        report = run_tracker(
            make_tracker,
            Dataset(tuple(shown), {}),
            place,
            workers=workers,
            settings=settings,
            times=True,
            on_progress=on_progress,
        )
        if report.failed:
            sequence, reason = next(iter(report.failed.items()))
            raise DataError(
                f"{name} failed on {len(report.failed)} of {len(every)} sequences; "
                f"{sequence}: {reason}"
            )
        truth = BenchmarkTruth(
            benchmark="rgbt234",
            truth={one.name: cast(GroundTruth, one.truth) for one in every},
            attributes={group: _names(sequences) for group, sequences in members.items()},
            sizes={one.name: one.size for one in every},
        )
        scores = score(place, truth, tracker=name)
    return replace(scores, protocol=replace(scores.protocol, title=title))


def _names(sequences: Iterable[AnySequence]) -> tuple[str, ...]:
    return tuple(sequence.name for sequence in sequences)

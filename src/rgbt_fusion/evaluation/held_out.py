"""What trackers are compared on here: sequences of the synthetic world that no training shows, and
any others."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.data.sequences import Dataset, ImageSequence
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.evaluation.workers import MakeTracker, Progress
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.types import FramePair, GroundTruth
from rgbt_fusion.synthetic.world import CHALLENGES, SyntheticSequence

__all__ = ["HARD", "SINGLE", "SingleModality", "held_out_sequences", "score_tracker"]

SINGLE = tuple(name for name in CHALLENGES if name != "mixed")
"""Every challenge alone, and the plain world."""

HARD = tuple(name for name in SINGLE if name != "none")
"""The challenges in which one modality fails."""

Groups = Mapping[str, Iterable[ImageSequence | SyntheticSequence]]


def held_out_sequences(
    challenges: Iterable[str] = HARD, *, sequences: int = 10, frames: int = 60
) -> dict[str, tuple[SyntheticSequence, ...]]:
    """Return sequences of places and objects that training never shows, by challenge.

    They are the same wherever and whenever they are asked for, and the first of more are those of
    fewer.

    Args:
        challenges: what happens in them.
        sequences: how many of each.
        frames: their length.

    Raises:
        ValueError: an unknown challenge, or a number below 1.

    Example:
        >>> from rgbt_fusion.evaluation.held_out import held_out_sequences
        >>> [sequence.name for sequence in held_out_sequences(["night"], sequences=2)["night"]]
        ['synthetic_night_1000', 'synthetic_night_1001']
    """
    check_positive_int(sequences, name="sequences")
    groups = {}
    for challenge in challenges:
        check_choice(challenge, CHALLENGES, name="challenges")
        # another thousand for each, so that no two challenges share their motions
        first = 1000 * CHALLENGES.index(challenge)
        groups[challenge] = tuple(
            SyntheticSequence(first + number, frames=frames, challenge=challenge, held_out=True)
            for number in range(sequences)
        )
    return groups


@dataclass(frozen=True)
class SingleModality:
    """A sequence of which only one modality is shown; a tracker starts on that modality's box.

    Raises:
        ValueError: an unknown ``modality``, or a sequence that has only one or is not annotated.
    """

    sequence: ImageSequence | SyntheticSequence
    modality: str

    def __post_init__(self) -> None:
        check_choice(self.modality, ("rgb", "tir"), name="modality")
        if self.sequence.truth is None:
            raise ValueError(f"sequence must be annotated, got {self.name} without boxes")
        if self.sequence.kind == "none":
            raise ValueError(f"sequence must have both modalities, got {self.name} with one")

    @property
    def name(self) -> str:
        """The sequence's."""
        return self.sequence.name

    @property
    def kind(self) -> str:
        """The sequence's."""
        return self.sequence.kind

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: int) -> FramePair:
        """Return a frame whose other modality is None."""
        hidden = "tir" if self.modality == "rgb" else "rgb"
        return self.sequence[index]._replace(**{hidden: None})

    def __iter__(self) -> Iterator[FramePair]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def truth(self) -> GroundTruth:
        """The modality's boxes."""
        truth = cast(GroundTruth, self.sequence.truth)
        boxes = truth.rgb if self.modality == "rgb" else truth.tir
        return truth._replace(rgb=boxes, tir=boxes)


def score_tracker(
    make_tracker: MakeTracker,
    groups: Groups,
    *,
    name: str,
    title: str = "the held-out synthetic world",
    modality: str = "both",
    folder: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
    workers: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> Scores:
    """Run a tracker over groups of annotated sequences and score it, altogether and group by group.

    The rules are RGBT234's: in each frame the box counts that fits better, the colour image's or
    the thermal image's; ``MSR`` is the success, ``MPR`` the precision at 20 pixels, and each group
    is one of the scores' ``attributes``.

    Args:
        make_tracker: returns the tracker; picklable where there are several workers.
        groups: sequences by the name of their group.
        name: the tracker's, in tables.
        title: what the sequences are, in tables.
        modality: ``"both"``, or ``"rgb"`` or ``"tir"`` to show the tracker one alone.
        folder: where its boxes go, and are taken from where an earlier run left them; None keeps
            them nowhere.
        settings: what the boxes depend on; see :func:`~rgbt_fusion.evaluation.run.run_tracker`.
        workers: how many processes track.
        on_progress: called after every frame and every sequence.

    Raises:
        DataError: a sequence cannot be tracked, or ``folder`` holds boxes of other settings.
        ValueError: an unknown ``modality``, no sequence, or two of one name.

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
    every = [sequence for sequences in members.values() for sequence in sequences]
    known = {sequence.name: sequence for sequence in every}
    if not every or len(known) < len(every):
        raise ValueError(
            f"groups must hold sequences, each with a name of its own, got {[one.name for one in every]}"
        )
    shown: list[Any] = (
        every if modality == "both" else [SingleModality(sequence, modality) for sequence in every]
    )
    with nullcontext(folder) if folder is not None else tempfile.TemporaryDirectory() as place:
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
                f"{name} failed on {len(report.failed)} of {len(every)} sequences; {sequence}: {reason}"
            )
        truth = BenchmarkTruth(
            "rgbt234",
            {one.name: cast(GroundTruth, one.truth) for one in every},
            {group: tuple(one.name for one in sequences) for group, sequences in members.items()},
            {one.name: one.size for one in every},
        )
        scores = score(place, truth, tracker=name)
    return replace(scores, protocol=replace(scores.protocol, title=title))

"""Track held-out sequences during a training, and know which weights were the best."""

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from rgbt_fusion.alignment.aligned_frames import AlignmentChoice
from rgbt_fusion.data.clips import ClipSource, CropSequence, DatasetClips, MixedClips
from rgbt_fusion.data.sequences import open_dataset
from rgbt_fusion.evaluation.held_out import SingleModality, held_out_sequences
from rgbt_fusion.evaluation.protocols import PROTOCOLS
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.files.text_tables import DataError, read_names
from rgbt_fusion.frames.types import FramePair, GroundTruth
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.tracking.interface import naming_annotation
from rgbt_fusion.tracking.tracker import Tracker
from rgbt_fusion.training.config import TrainConfig
from rgbt_fusion.training.distributed import Processes

__all__ = ["AnnotatedSequence", "Validation", "hold_out", "success_of"]

DECIMALS = 4
"""Decimals of boxes in result files."""

SUCCESS = ("MSR", "SR")
"""What the success is called where the better of two annotations counts, and elsewhere."""


class AnnotatedSequence(Protocol):
    """A sequence that a tracker can be measured on."""

    @property
    def name(self) -> str:
        """Name of the sequence."""
        ...

    @property
    def truth(self) -> GroundTruth | None:
        """The annotations."""
        ...

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def __getitem__(self, index: int) -> FramePair:
        """Return one frame."""
        ...


def hold_out(
    config: TrainConfig,
    clips: ClipSource,
    data: str | Path,
    layout: str,
    names: str | Path | None = None,
    align: AlignmentChoice | None = None,
) -> Sequence[AnnotatedSequence]:
    """Return the sequences that a training is measured on, and train on them no more.

    Args:
        config: ``validation`` says how many; the seed decides which.
        clips: what is trained on; of several datasets the first one is split.
        data: the folder of that dataset, or ``"synthetic"``.
        layout: its layout.
        names: a file that lists the sequences to hold out. None draws them.
        align: how the frames of ``clips`` are aligned, for sequences that are opened here.

    Raises:
        ValueError: ``names`` is given for synthetic data.
        DataError: the dataset does not hold so many annotated sequences, or ``names`` lists one
            that is not there.
    """
    source = clips.sources[0] if isinstance(clips, MixedClips) else clips
    found: list[Any]
    if not isinstance(source, DatasetClips):
        if names is not None:
            raise ValueError(
                f"validation_names must be absent with synthetic data, got {str(names)!r}"
            )
        count = config.validation.sequences
        count_of_wide = round(config.data.wide * count)
        found = _held_out_worlds(config, count - count_of_wide, wide=False)
        found += _held_out_worlds(config, count_of_wide, wide=True)
    elif names is not None:
        chosen = read_names(names)
        source.hold_out(chosen)
        found = list(open_dataset(data, layout, names=chosen).sequences)
        if align is not None:
            found = [align.of(sequence) for sequence in found]
    else:
        known = {one.sequence.name: one.sequence for one in source.sequences}
        chosen = _drawn_names(config, source, data)
        source.hold_out(chosen)
        found = [known[name] for name in chosen]
    for sequence in found:
        _check_start(sequence)
    if config.modality in ("rgb", "tir"):
        found = [SingleModality(one, config.modality) for one in found]
    return found


def _drawn_names(config: TrainConfig, source: DatasetClips, data: str | Path) -> list[str]:
    """Draw the sequences of a dataset to hold out.

    Raises:
        DataError: nothing would be left to train on.
    """
    count = config.validation.sequences
    # of frames that are aligned, the annotation is asked for as few times as can be
    able = sorted(one.sequence.name for one in source.sequences if _begins_usable(one))
    if len(able) <= count:
        raise DataError(
            f"validation.sequences must be below the {len(able)} annotated sequences that "
            f"{data} holds, got {count}"
        )
    # a stream of random numbers that no sample is drawn from
    order = np.random.default_rng((config.seed, 0, 0, 0, 1)).permutation(len(able))
    return sorted(able[number] for number in order[:count])


def _held_out_worlds(config: TrainConfig, count: int, *, wide: bool) -> list[SyntheticSequence]:
    """Return held-out sequences of one synthetic world: one of each challenge, then the second."""
    if not count:
        return []
    kinds = tuple(dict.fromkeys(config.data.challenges))
    groups = held_out_sequences(
        kinds,
        sequences=ceil(count / len(kinds)),
        frames=config.validation.frames,
        wide=wide,
    )
    found: list[SyntheticSequence] = []
    for one_of_each in zip(*groups.values(), strict=True):
        found.extend(one_of_each)
    return found[:count]


def _begins_usable(stored: CropSequence) -> bool:
    """Return whether the first frame and another one have boxes to train on."""
    frames = stored.usable("rgb")
    return len(frames) >= 2 and frames[0] == 0


def _check_start(sequence: AnnotatedSequence) -> None:
    """Check that a tracker can start on a sequence.

    Raises:
        DataError: it is not annotated, or its first frame has no box.
    """
    if _starts_with_a_box(sequence):
        return
    name = sequence.name
    place = None if sequence.truth is None else sequence.truth.place_of_first_box()
    reason = f"{name} is not annotated"
    if place is not None:
        reason = f"{name} has no box to start on in {place}"
    raise DataError(f"validation_names must list annotated sequences, {reason}")


def _starts_with_a_box(sequence: AnnotatedSequence) -> bool:
    truth = sequence.truth
    if truth is None or len(truth.frames) < 2 or truth.frames[0] != 0:
        return False
    first = truth.rgb[0]
    return bool(np.isfinite(first).all() and (first[2:] > 0).all())


def success_of(
    model: Any,
    sequence: AnnotatedSequence,
    *,
    frames: int,
    benchmark: str = "rgbt234",
    stop: Callable[[], bool] | None = None,
) -> float | None:
    """Return the success of a tracker on the first frames of one sequence.

    It is the area under the success curve, as the benchmark's own toolkit takes it.

    Args:
        model: the tracking network; it is put into evaluation mode.
        sequence: the sequence; its first frame has a box.
        frames: how many frames to track at most.
        benchmark: whose rules count, a key of ``PROTOCOLS``.
        stop: asked before each frame; where it says so, the result is None.

    Example:
        >>> from rgbt_fusion import create_model
        >>> from rgbt_fusion.synthetic.world import SyntheticSequence
        >>> from rgbt_fusion.training.validation import success_of
        >>> model = create_model("ainet_tiny_128", pretrained=True)
        >>> success_of(model, SyntheticSequence(1, challenge="none"), frames=10) > 0.5
        True
    """
    truth = sequence.truth
    if truth is None:
        raise ValueError(f"sequence must be annotated, got {sequence.name} without boxes")
    shown = truth.frames < frames
    truth = truth._replace(
        rgb=truth.rgb[shown],
        tir=truth.tir[shown],
        frames=truth.frames[shown],
        present=None if truth.present is None else truth.present[shown],
    )
    tracker = Tracker(model)
    boxes = []
    for index in range(int(truth.frames[-1]) + 1):
        if stop is not None and stop():
            return None
        rgb, tir = sequence[index]
        if index:
            result = tracker.update(rgb, tir)
        else:
            with naming_annotation(truth):
                result = tracker.init(rgb, tir, truth.rgb[0])
        boxes.append(result.box_xywh_px)
    size = getattr(sequence, "size", None)
    sizes = {} if size is None else {sequence.name: size}
    scores = score(
        # as result files hold them: the overlap of the first frame may be a hair below 1
        {sequence.name: np.stack(boxes).round(DECIMALS)},
        BenchmarkTruth(benchmark, {sequence.name: truth}, {}, sizes),
    )
    return next(scores.metrics[name] for name in SUCCESS if name in scores.metrics)


class Measured(NamedTuple):
    """What one validation found."""

    step: int
    success: float


class Validation:
    """The validations of a training: when, how good, and whether to go on.

    Args:
        config: its ``validation`` says how often and how long.
        sequences: what is tracked; the processes share them.
        processes: the processes that train together.
        layout: the layout of the sequences, whose benchmark's rules count where it has any.
    """

    def __init__(
        self,
        config: TrainConfig,
        sequences: Sequence[AnnotatedSequence],
        processes: Processes,
        layout: str = "synthetic",
    ) -> None:
        self.settings = config.validation
        self.sequences = sequences
        self.processes = processes
        self.benchmark = layout if layout in PROTOCOLS else "rgbt234"
        self.measured: list[Measured] = []
        """All validations, in order."""

    @property
    def best(self) -> Measured | None:
        """The best validation, the first of equals; None before the first."""
        return max(self.measured, key=lambda one: one.success, default=None)

    @property
    def is_over(self) -> bool:
        """Whether the last ``patience`` validations brought nothing better."""
        if not self.settings.patience or self.best is None:
            return False
        since = sum(one.step > self.best.step for one in self.measured)
        return since >= self.settings.patience

    def is_due(self, step: int) -> bool:
        """Return whether a validation belongs after this many steps and has not been made."""
        every = self.settings.every
        last = self.measured[-1].step if self.measured else 0
        return bool(every) and step > last and step % every == 0

    def measure(self, model: nn.Module, step: int, stop: Callable[[], bool]) -> float | None:
        """Return the mean success over the sequences, and keep it; None where it was stopped.

        The mode of the network (training or evaluation) is put back.

        Args:
            model: the tracking network.
            step: how many steps it has been trained for.
            stop: asked before each frame whether to give up, on a single process only.
        """
        was_training = model.training
        here = self.sequences[self.processes.rank :: self.processes.count]
        total = 0.0
        asked = stop if self.processes.count == 1 else None
        try:
            for sequence in here:
                success = success_of(
                    model,
                    sequence,
                    frames=self.settings.frames,
                    benchmark=self.benchmark,
                    stop=asked,
                )
                if success is None:
                    return None
                total += success
        finally:
            model.train(was_training)
        device = next((one.device for one in model.parameters()), torch.device("cpu"))
        mean = self.processes.mean(torch.tensor(total, dtype=torch.float64, device=device))
        success = float(mean) * self.processes.count / len(self.sequences)
        self.measured.append(Measured(step, success))
        return success

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "steps": [one.step for one in self.measured],
            "successes": [one.success for one in self.measured],
            "of": [self.settings.sequences, self.settings.frames],
        }

    def load(self, state: Any) -> None:
        """Go on from a checkpoint; figures of other sequences or lengths are not comparable."""
        if isinstance(state, dict) and state.get("of") == self.state()["of"]:
            self.measured = [
                Measured(step, success)
                for step, success in zip(state["steps"], state["successes"], strict=True)
            ]

    def table(self) -> str:
        """Return all validations as CSV."""
        lines = [f"{one.step},{one.success:.6g}\n" for one in self.measured]
        return "".join(["step,success\n", *lines])

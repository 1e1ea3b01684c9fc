"""What a training minimises: a model's loss on a batch of clips."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from rgbt_fusion.boxes import box_iou, cxcywh_to_xyxy
from rgbt_fusion.losses.alignment import alignment_loss
from rgbt_fusion.losses.localization import LocalizationLoss, gaussian_label
from rgbt_fusion.losses.reliability import reliability_loss
from rgbt_fusion.models.interface import (
    Encoding,
    ModelOutput,
    check_output,
    embed_template,
    unwrapped,
)
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.training.config import LossConfig
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.samples import Batch
from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "FrameAnswer",
    "LocalizationObjective",
    "OwnLoss",
    "OwnLossObjective",
    "TrainingObjective",
    "alignment_term",
    "estimates_alignment",
    "estimates_reliability",
    "localization_loss",
    "mean_iou",
    "reliability_term",
    "shared_positives",
]


OwnLoss: TypeAlias = Callable[[ModelOutput, Tensor], Tensor]
"""The loss of an answer and of the true boxes ``(B, 4)``, cxcywh as fractions of the crop.

With ``data.absent`` above 0 the box of a target that is not there is NaN.
"""


class FrameAnswer(NamedTuple):
    """What a model finds in one search frame, and what is true of it."""

    output: ModelOutput
    boxes_cxcywh_unit: Tensor
    """The true boxes ``(B, 4)``."""
    encoding: Encoding | None
    """What the head read; None where nobody asked for it."""
    seen: Tensor | None
    """Which modalities show the target, ``(B, 2)``; None where nothing is known."""
    offset: Tensor | None
    """How far the thermal crop is off, ``(B, 2)`` as fractions of the crop; None where nothing is
    known."""


class TrainingObjective(TypedModule):
    """What a training minimises; a subclass writes ``names`` and ``forward``.

    Args:
        model: the model that is trained.
        processes: the processes that share the batch.
    """

    names: tuple[str, ...]
    """The names of what ``forward`` returns; the first is ``"loss"``."""

    def __init__(self, model: nn.Module, processes: Processes) -> None:
        super().__init__()
        # any network that check_model accepts: a checker cannot know what its call returns
        self.model: Any = model
        self.processes = processes

    def forward(self, batch: Batch, keep_ratio: float | None = None) -> dict[str, Tensor]:
        """Return scalars by name; ``loss`` carries the gradient, the others are for the log.

        ``keep_ratio`` is the share of candidates that survive; None takes the model's own.
        """
        raise NotImplementedError

    def by_name(self, rows: list[Tensor]) -> dict[str, Tensor]:
        """Return the mean of each value over the search frames, by name.

        Args:
            rows: the values of each search frame, in the order of ``names``.
        """
        means = torch.stack(rows).mean(0)
        return dict(zip(self.names, means.unbind(), strict=True))

    def answers(
        self, batch: Batch, keep_ratio: float | None, *, encodes: bool = False
    ) -> list[FrameAnswer]:
        """Return what the model finds in each search frame.

        Each frame hands its state to the next one.

        Args:
            batch: clips.
            keep_ratio: the share of candidates that survive; None takes the model's own.
            encodes: also return the encodings; for a
                :class:`~rgbt_fusion.models.network.TrackingNetwork`.
        """
        template: Any = batch.template
        # what torch.compile made of a network embeds the template inside its own graph: outside of
        # it the norms would run again, and change what the gradient needs
        if unwrapped(self.model) is self.model:
            template = embed_template(self.model, template)
        # a network of your own has no candidates to keep, and no argument for it
        options = {} if keep_ratio is None else {"keep_ratio": keep_ratio}
        state = None
        found = []
        nothing = (None,) * len(batch.searches)
        seen = batch.seen or nothing
        offsets = batch.offsets or nothing
        frames = zip(batch.searches, batch.boxes_cxcywh_unit, seen, offsets, strict=True)
        for search, boxes, seen_here, offset in frames:
            encoding = None
            if encodes:
                encoding = self.model.encode(template, search, state, drawing=False, **options)
                out = self.model.answer(encoding)
            else:
                out = self.model(template, search, state, **options)
            out = check_output(self.model, out, batch=len(boxes))
            state = out.state
            found.append(FrameAnswer(out, boxes, encoding, seen_here, offset))
        return found


class LocalizationObjective(TrainingObjective):
    """Find the box in every search frame of a clip; each frame hands its state to the next one.

    Args:
        model: the model that is trained.
        loss: weights of the terms.
        processes: the processes that share the batch.

    Shape:
        - batch: a :class:`Batch`
        - returns scalars by name; ``loss`` carries the gradient, the others are for the log
    """

    names: tuple[str, ...] = ("loss", "focal", "giou", "l1", "iou")

    def __init__(self, model: nn.Module, loss: LossConfig, processes: Processes) -> None:
        super().__init__(model, processes)
        self.loss = localization_loss(loss)
        self.reliability_weight = loss.reliability_weight
        self.teaches_reliability = estimates_reliability(model) and loss.reliability_weight > 0
        if self.teaches_reliability:
            self.names = (*self.names, "reliability")
        self.alignment_weight = loss.alignment_weight
        self.teaches_alignment = estimates_alignment(model) and loss.alignment_weight > 0
        if self.teaches_alignment:
            self.names = (*self.names, "alignment")

    def forward(self, batch: Batch, keep_ratio: float | None = None) -> dict[str, Tensor]:
        """Return the loss and its terms by name, means over the search frames of the clips."""
        rows = []
        encodes = self.teaches_reliability or self.teaches_alignment
        for answer in self.answers(batch, keep_ratio, encodes=encodes):
            out = answer.output
            boxes = answer.boxes_cxcywh_unit
            positives = shared_positives(boxes, out.score_map.shape[-1], self.processes)
            total, *parts = self.loss(
                out.score_map, out.box_cxcywh_unit, boxes, num_positives=positives
            )
            values = [total, *parts, mean_iou(out.box_cxcywh_unit, boxes)]
            if self.teaches_reliability:
                term = reliability_term(answer.encoding, answer.seen, boxes)
                values[0] = values[0] + self.reliability_weight * term
                values.append(term)
            if self.teaches_alignment:
                term = alignment_term(
                    answer.encoding, answer.seen, answer.offset, grid=out.score_map.shape[-1]
                )
                values[0] = values[0] + self.alignment_weight * term
                values.append(term)
            rows.append(torch.stack(values))
        return self.by_name(rows)


class OwnLossObjective(TrainingObjective):
    """Minimise a loss of your own, the mean over the search frames of a clip.

    Args:
        model: the model that is trained.
        loss: the loss; the parameters of a module are trained, too.
        processes: the processes that share the batch.

    Shape:
        - batch: a :class:`Batch`
        - returns ``loss``, which carries the gradient, and ``iou`` for the log

    Raises:
        TypeError: the loss does not return one number.
    """

    names = ("loss", "iou")

    def __init__(self, model: nn.Module, loss: OwnLoss, processes: Processes) -> None:
        super().__init__(model, processes)
        self.loss = loss

    def forward(self, batch: Batch, keep_ratio: float | None = None) -> dict[str, Tensor]:
        """Return the loss and the overlap of the boxes, means over the search frames."""
        rows = []
        for answer in self.answers(batch, keep_ratio):
            out = answer.output
            boxes = answer.boxes_cxcywh_unit
            loss = self.loss(out, boxes)
            if not isinstance(loss, Tensor) or loss.dim():
                raise TypeError(f"loss must return a tensor without axes, got {loss!r:.80}")
            iou = mean_iou(out.box_cxcywh_unit, boxes)
            rows.append(torch.stack((loss, iou.to(loss.dtype))))
        return self.by_name(rows)


def estimates_reliability(model: nn.Module) -> bool:
    """Say whether a network estimates how far its modalities are to be trusted."""
    network = unwrapped(model)
    return isinstance(network, TrackingNetwork) and network.reliability is not None


def estimates_alignment(model: nn.Module) -> bool:
    """Say whether a network estimates how far its thermal crop is off."""
    network = unwrapped(model)
    return isinstance(network, TrackingNetwork) and network.alignment is not None


def reliability_term(
    encoding: Encoding | None, seen: Tensor | None, boxes_cxcywh_unit: Tensor
) -> Tensor:
    """Return the loss on the reliabilities of an encoding; 0 where nothing is known.

    Raises:
        ValueError: the encoding holds no reliabilities.
    """
    if encoding is None or encoding.reliability is None:
        raise ValueError("encoding must hold reliabilities, got none")
    if seen is None:
        # each parameter gets a gradient, which processes that share a batch wait for
        return 0 * encoding.reliability.sum()
    return reliability_loss(encoding.reliability, seen, encoding.indices, boxes_cxcywh_unit)


def alignment_term(
    encoding: Encoding | None, seen: Tensor | None, offset_unit: Tensor | None, *, grid: int
) -> Tensor:
    """Return the loss on the alignment of an encoding; 0 where nothing is known.

    Raises:
        ValueError: the encoding holds no alignment.
    """
    if encoding is None or encoding.alignment is None:
        raise ValueError("encoding must hold an alignment, got none")
    offset, confidence = encoding.alignment
    if offset_unit is None:
        # each parameter gets a gradient, which processes that share a batch wait for
        return 0 * (offset.sum() + confidence.sum())
    return alignment_loss(offset, confidence, grid * offset_unit, seen)


def localization_loss(config: LossConfig) -> LocalizationLoss:
    """Return the loss with the weights of a config."""
    return LocalizationLoss(
        focal_weight=config.focal_weight, giou_weight=config.giou_weight, l1_weight=config.l1_weight
    )


def shared_positives(boxes_cxcywh_unit: Tensor, grid: int, processes: Processes) -> Tensor | None:
    """Return the divisor of the focal loss over all processes, None for a single process."""
    if processes.count == 1:
        return None
    positives = gaussian_label(boxes_cxcywh_unit, grid) == 1
    return processes.share_of(positives.sum().to(boxes_cxcywh_unit.dtype))


def mean_iou(predicted_cxcywh_unit: Tensor, target_cxcywh_unit: Tensor) -> Tensor:
    """Return the mean overlap of predicted and target boxes, without gradient.

    Targets that are absent, boxes of NaN, do not count; where all are, the overlap is 0.
    """
    predicted = predicted_cxcywh_unit.detach().to(target_cxcywh_unit.dtype)
    present = ~target_cxcywh_unit.isnan().all(dim=-1)
    overlaps = box_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target_cxcywh_unit))
    return overlaps.where(present, 0.0).sum() / present.sum().clamp(min=1)

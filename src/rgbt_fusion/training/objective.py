"""What a training minimises: a model's loss on a batch of clips."""

import torch
from torch import Tensor

from rgbt_fusion.boxes import box_iou, cxcywh_to_xyxy
from rgbt_fusion.losses.localization import LocalizationLoss, gaussian_label
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.training.config import LossConfig
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.samples import Batch
from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "LocalizationObjective",
    "TrainingObjective",
    "localization_loss",
    "mean_iou",
    "shared_positives",
]


class TrainingObjective(TypedModule):
    """What a training minimises; a subclass writes ``names`` and ``forward``.

    Args:
        model: the model that is trained.
        processes: the processes that share the batch.
    """

    names: tuple[str, ...]
    """The names of what ``forward`` returns; the first is ``"loss"``."""

    def __init__(self, model: TrackingNetwork, processes: Processes) -> None:
        super().__init__()
        self.model = model
        self.processes = processes

    def forward(self, batch: Batch, keep_ratio: float | None = None) -> dict[str, Tensor]:
        """Return scalars by name; ``loss`` carries the gradient, the others are for the log.

        ``keep_ratio`` is the share of candidates that survive; None takes the model's own.
        """
        raise NotImplementedError


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

    names = ("loss", "focal", "giou", "l1", "iou")

    def __init__(self, model: TrackingNetwork, loss: LossConfig, processes: Processes) -> None:
        super().__init__(model, processes)
        self.loss = localization_loss(loss)

    def forward(self, batch: Batch, keep_ratio: float | None = None) -> dict[str, Tensor]:
        """Return the loss and its terms by name, means over the search frames of the clips."""
        template = self.model.embed_template(batch.template)
        state = None
        rows = []
        for search, boxes in zip(batch.searches, batch.boxes_cxcywh_unit, strict=True):
            out = self.model(template, search, state, keep_ratio=keep_ratio)
            state = out.state
            positives = shared_positives(boxes, out.score_map.shape[-1], self.processes)
            terms = self.loss(out.score_map, out.box_cxcywh_unit, boxes, num_positives=positives)
            rows.append(torch.stack((*terms, mean_iou(out.box_cxcywh_unit, boxes))))
        means = torch.stack(rows).mean(0)
        return dict(zip(self.names, means.unbind(), strict=True))


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
    """Return the mean overlap of predicted and target boxes, without gradient."""
    predicted = predicted_cxcywh_unit.detach().to(target_cxcywh_unit.dtype)
    return box_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target_cxcywh_unit)).mean()

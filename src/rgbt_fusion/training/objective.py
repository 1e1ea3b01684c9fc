"""What a step minimises: a model's loss on a batch of clips."""

import torch
from torch import Tensor, nn

from rgbt_fusion.boxes import box_iou, cxcywh_to_xyxy
from rgbt_fusion.losses.localization import LocalizationLoss, gaussian_label
from rgbt_fusion.models.interface import ModelOutput
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.training.config import LossConfig
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.samples import Batch

__all__ = ["LocalizationObjective", "localization_loss", "mean_iou", "shared_positives"]


class LocalizationObjective(nn.Module):
    """Find the box in every search frame of a clip, the state handed on from frame to frame.

    Args:
        model: what is trained.
        loss: weights of the terms.
        processes: those that share the batch.

    Shape:
        a :class:`Batch` to scalars by name: ``loss`` carries the gradient, the others are for the
        log.
    """

    names = ("loss", "focal", "giou", "l1", "iou")

    def __init__(self, model: TrackingNetwork, loss: LossConfig, processes: Processes) -> None:
        super().__init__()
        self.model = model
        self.loss = localization_loss(loss)
        self.processes = processes

    def forward(self, batch: Batch, keep_ratio: float | None = None) -> dict[str, Tensor]:
        """Return the loss and what it is made of, means over the frames of the clips."""
        template = self.model.embed_template(batch.template)
        state, rows = None, []
        for search, boxes in zip(batch.searches, batch.boxes_cxcywh_unit, strict=True):
            out: ModelOutput = self.model(template, search, state, keep_ratio=keep_ratio)
            state = out.state
            positives = shared_positives(boxes, out.score_map.shape[-1], self.processes)
            terms = self.loss(out.score_map, out.box_cxcywh_unit, boxes, num_positives=positives)
            rows.append(torch.stack((*terms, mean_iou(out.box_cxcywh_unit, boxes))))
        return dict(zip(self.names, torch.stack(rows).mean(0).unbind(), strict=True))


def localization_loss(config: LossConfig) -> LocalizationLoss:
    """Return the loss with a config's weights."""
    return LocalizationLoss(
        focal_weight=config.focal_weight, giou_weight=config.giou_weight, l1_weight=config.l1_weight
    )


def shared_positives(boxes_cxcywh_unit: Tensor, grid: int, processes: Processes) -> Tensor | None:
    """Return the positives of the global batch as each process has to divide by them; None for one
    process alone."""
    if processes.count == 1:
        return None
    positives = (gaussian_label(boxes_cxcywh_unit, grid) == 1).sum()
    return processes.share_of(positives.to(boxes_cxcywh_unit.dtype))


def mean_iou(predicted_cxcywh_unit: Tensor, target_cxcywh_unit: Tensor) -> Tensor:
    """Return the mean overlap of boxes, without gradient."""
    predicted = cxcywh_to_xyxy(predicted_cxcywh_unit.detach().to(target_cxcywh_unit.dtype))
    return box_iou(predicted, cxcywh_to_xyxy(target_cxcywh_unit)).mean()

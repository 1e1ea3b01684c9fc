"""Train the detector with a loss of your own: on a few pairs until it knows them, or on many."""

import argparse
import importlib

import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.boxes import box_giou

network = importlib.import_module("08_detector_network")
score = importlib.import_module("09_detector_score")


def detection_loss(levels: list[Tensor], truth: list[Tensor]) -> Tensor:
    """Focal loss of every cell, GIoU loss of the cells in the middle of an object of their size."""
    logits, centres, boxes = score.read_maps(levels)
    cells = torch.tensor([level[0, 0].numel() for level in levels])
    level_of_cell = torch.arange(len(levels)).repeat_interleave(cells)
    total, hits = torch.zeros(()), 0
    for scores, found, true in zip(logits, boxes, truth, strict=True):
        size = true[:, 2:] - true[:, :2]
        level = (size.amax(1) > 20).long() + (size.amax(1) > 40).long()
        reach = (size / 5).maximum(torch.tensor(score.STRIDES)[level][:, None] / 2)
        inside = (centres[:, None] - (true[:, :2] + true[:, 2:]) / 2).abs() <= reach
        cell, target = (inside.all(-1) & (level_of_cell[:, None] == level)).nonzero().unbind(1)
        label = torch.zeros_like(scores).index_fill(0, cell, 1.0)
        entropy = F.binary_cross_entropy_with_logits(scores, label, reduction="none")
        total = total + (entropy * (label - scores.sigmoid()).square()).sum()
        total = total + (1 - box_giou(found[cell], true[target])).sum()
        hits += len(cell)
    return total / max(hits, 1)


def train(model: torch.nn.Module, rgb: Tensor, tir: Tensor, truth: list[Tensor], steps: int):
    losses = []  # of every step on eight pairs
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randperm(len(truth))[:8]
        loss = detection_loss(model(rgb[chosen], tir[chosen]), [truth[i] for i in chosen])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neck", choices=("FusionNeck", "SumNeck"), default="FusionNeck")
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    torch.manual_seed(0)
    model, pairs = network.Detector(getattr(network, options.neck)), score.make_pairs(8)
    losses = train(model, *pairs, steps=options.steps)
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}, AP50 {score.score(model, *pairs):.2f}")

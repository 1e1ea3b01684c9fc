"""Pairs of the synthetic world for a detector, the boxes that it finds, and their AP50."""

import importlib

import torch
from torch import Tensor

from rgbt_fusion.boxes import box_iou, xywh_to_xyxy
from rgbt_fusion.synthetic.world import SyntheticSequence

STRIDES = importlib.import_module("08_detector_network").STRIDES
CHALLENGES = ("night", "glare", "thermal_crossover", "none")
MOST = 20  # boxes per pair


def make_pairs(count: int, held_out: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return RGB and TIR images in -1 to 1, (count, 3, 128, 160), and the boxes of each pair."""
    rgb, tir, boxes = [], [], []
    for seed in range(count):
        kind = CHALLENGES[seed % len(CHALLENGES)]
        world = SyntheticSequence(seed, size=(160, 128), challenge=kind, held_out=held_out)
        pair = world[60]
        rgb.append(torch.from_numpy(pair.rgb).movedim(2, 0))
        tir.append(torch.from_numpy(pair.tir).expand(3, -1, -1))
        boxes.append(xywh_to_xyxy(torch.from_numpy(world.boxes(60)).float()))
    return torch.stack(rgb) / 127.5 - 1, torch.stack(tir) / 127.5 - 1, boxes


def read_maps(levels: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logit (B, N), the centre (N, 2) and the box (B, N, 4) of every cell."""
    logits, centres, boxes = [], [], []
    for level, stride in zip(levels, STRIDES, strict=True):
        rows, columns = ((torch.arange(n) + 0.5) * stride for n in level.shape[2:])
        centre = torch.cartesian_prod(rows, columns).flip(1)
        reach = level[:, 1:].flatten(2).mT.clamp(max=5).exp() * stride
        logits.append(level[:, 0].flatten(1))
        centres.append(centre)
        boxes.append(torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1))
    return torch.cat(logits, 1), torch.cat(centres), torch.cat(boxes, 1)


@torch.no_grad()
def score(model: torch.nn.Module, rgb: Tensor, tir: Tensor, truth: list[Tensor]) -> float:
    """Return AP50: the area under precision over recall, a hit overlapping by a half."""
    found = []  # the logit and whether it is a hit, of all boxes
    for i, true in enumerate(truth):
        logits, _, boxes = read_maps(model(rgb[i : i + 1], tir[i : i + 1]))
        logits, boxes = logits[0], boxes[0]
        kept, free = boxes[:0], torch.ones(len(true))
        for cell in logits.topk(10 * MOST).indices:
            if len(kept) < MOST and not (box_iou(boxes[cell], kept) > 0.5).any():
                kept = torch.cat([kept, boxes[cell][None]])
                overlap, object_ = (box_iou(boxes[cell], true) * free).max(0)
                free[object_] *= overlap < 0.5  # an object is hit once
                found.append((logits[cell].item(), (overlap >= 0.5).item()))
    hits = torch.tensor([hit for _, hit in sorted(found, reverse=True)]).double()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return ((envelope * hits).sum() / sum(map(len, truth))).item()

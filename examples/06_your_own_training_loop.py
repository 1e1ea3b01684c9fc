"""Train a network in a loop of your own: clips, crops, augmentation and loss are the package's."""

import argparse
import importlib

import torch
from torch import nn

from rgbt_fusion import LocalizationLoss, save_checkpoint
from rgbt_fusion.training import DataConfig, TrainConfig
from rgbt_fusion.training.samples import Sampler, batches, open_clips

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--out", default="own.safetensors")
options = parser.parse_args()

torch.manual_seed(0)
model = importlib.import_module("05_your_own_network").Correlation()

# what is drawn and how it is varied; the crops have the sizes that the model says
data = DataConfig(challenges=("none",), workers=0)
config = TrainConfig(model="given", steps=options.steps, batch_size=options.batch, data=data)
sampler = Sampler.of(config, open_clips(config, "synthetic"), model)

loss = LocalizationLoss(focal_weight=1, giou_weight=2, l1_weight=5)
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=options.steps)
for step, batch in enumerate(batches(sampler, 0, options.steps, start=0, stop=options.batch)):
    out = model(batch.template, batch.searches[0])
    terms = loss(out.score_map, out.box_cxcywh_unit, batch.boxes_cxcywh_unit[0])
    optimiser.zero_grad()
    terms.total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    schedule.step()
    if step % 20 == 0 or step == options.steps - 1:
        print(f"step {step:4d}  loss {terms.total.item():.3f}  GIoU loss {terms.giou.item():.3f}")
save_checkpoint(model, options.out)

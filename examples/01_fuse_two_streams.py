"""Fuse a registered RGB-thermal pair with DFM and draw what each stream took from the other."""

import argparse

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from rgbt_fusion import DFM
from rgbt_fusion.frames.reading import read_rgb

SIZE, PATCH = 256, 16


def read(path: str) -> torch.Tensor:
    """Read an image as grey patches, one token each: (1, L, PATCH * PATCH) in [0, 1]."""
    image = read_rgb(path).mean(axis=2) / 255
    pixels = torch.from_numpy(cv2.resize(image, (SIZE, SIZE))).float()
    return F.unfold(pixels[None, None], PATCH, stride=PATCH).mT


def picture(tokens: torch.Tensor) -> np.ndarray:
    """Put patches back together as an 8-bit picture."""
    grey = F.fold(tokens.detach().mT, SIZE, PATCH, stride=PATCH)[0].clamp(0, 1)
    return (grey.expand(3, -1, -1) * 255).byte().permute(1, 2, 0).numpy()


def heat(change: torch.Tensor) -> np.ndarray:
    """Draw how strongly each token changed, as a colour map."""
    strength = change.detach().norm(dim=-1).view(SIZE // PATCH, -1).numpy()
    large = cv2.resize(strength * 255 / strength.max(), (SIZE, SIZE))
    return cv2.applyColorMap(large.astype(np.uint8), cv2.COLORMAP_INFERNO)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("images", nargs=2, metavar=("RGB", "TIR"))
parser.add_argument("--out", default="fused.png")
parser.add_argument("--steps", type=int, default=150)
options = parser.parse_args()

# learn, on this one pair, to keep the brighter of both patches
torch.manual_seed(0)
rgb, tir = map(read, options.images)
dfm = DFM(PATCH * PATCH)
decode = torch.nn.Linear(PATCH * PATCH, PATCH * PATCH)
optimizer = torch.optim.AdamW([*dfm.parameters(), *decode.parameters()], lr=2e-3)
for step in range(options.steps):
    out = dfm(rgb, tir)
    fused = decode(out.fused)
    loss = F.l1_loss(fused, torch.maximum(rgb, tir))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step:4d}  mean error {loss.item():.4f}")

panels = [picture(rgb), picture(tir), picture(fused), heat(out.rgb - rgb), heat(out.tir - tir)]
cv2.imwrite(options.out, np.hstack(panels))

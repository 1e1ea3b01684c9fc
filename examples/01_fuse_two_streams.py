"""Fuse a registered RGB-thermal pair with DFM and draw what each stream took from the other.

    python examples/01_fuse_two_streams.py RGB.jpg TIR.jpg --out fused.png

The layer starts untrained, so it first learns on this one pair to keep the brighter of both images
in every patch.
"""

import argparse

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from rgbt_fusion import DFM

SIZE, PATCH = 256, 16


def read(path: str) -> torch.Tensor:
    """Read an image as grey patches, one token each: (1, L, PATCH * PATCH) in [0, 1]."""
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path} is not an image that OpenCV can read")
    image = torch.from_numpy(cv2.resize(image, (SIZE, SIZE))).float() / 255
    return F.unfold(image[None, None], PATCH, stride=PATCH).mT


def picture(tokens: torch.Tensor) -> np.ndarray:
    """Put patches back together as an 8-bit picture."""
    image = F.fold(tokens.mT, SIZE, PATCH, stride=PATCH)[0, 0]
    return (image.clamp(0, 1) * 255).byte().numpy()


def heat(change: torch.Tensor) -> np.ndarray:
    """Draw how strongly each token changed, as a colour map."""
    strength = change.square().mean(-1).sqrt().view(1, 1, SIZE // PATCH, -1)
    strength = F.interpolate(strength / strength.max().clamp(min=1e-9), size=SIZE, mode="bilinear")[
        0, 0
    ]
    return cv2.applyColorMap((strength * 255).byte().numpy(), cv2.COLORMAP_INFERNO)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rgb")
    parser.add_argument("tir")
    parser.add_argument("--out", default="fused.png")
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rgb, tir = read(arguments.rgb), read(arguments.tir)
    dfm, decode = DFM(PATCH * PATCH), torch.nn.Linear(PATCH * PATCH, PATCH * PATCH)
    optimizer = torch.optim.AdamW([*dfm.parameters(), *decode.parameters()], lr=2e-3)
    for step in range(arguments.steps):
        loss = F.l1_loss(decode(dfm(rgb, tir).fused), torch.maximum(rgb, tir))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == arguments.steps - 1:
            print(f"step {step:4d}  mean error {loss.item():.4f}")
    with torch.no_grad():
        out = dfm(rgb, tir)
        grey = [cv2.cvtColor(picture(x), cv2.COLOR_GRAY2BGR) for x in (rgb, tir, decode(out.fused))]
    panels = dict(zip(("RGB", "thermal", "fused"), grey, strict=True))
    panels["RGB took"], panels["thermal took"] = heat(out.rgb - rgb), heat(out.tir - tir)
    for title, panel in panels.items():
        cv2.putText(
            panel, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (80, 255, 80), 1, cv2.LINE_AA
        )
    cv2.imwrite(arguments.out, np.hstack(list(panels.values())))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()

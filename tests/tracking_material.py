"""What the tests of tracking share: a scene that moves, and a model that sees a bright spot."""

import numpy as np
import torch

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.head import decode_box
from rgbt_fusion.models.interface import Encoding, ModelOutput, TemplateTokens

BOX = (70.0, 50.0, 24.0, 16.0)


def scene(
    frames: int = 5, *, step: tuple[int, int] = (3, -2), dtype: type = np.uint8
) -> list[tuple]:
    """Frames of 160 x 120 in which a bright block moves by ``step``; it starts at ``BOX``."""
    pairs = []
    noise = np.random.default_rng(0)
    rgb_ground = noise.integers(20, 60, (120, 160, 3), dtype=np.uint8)
    tir_ground = noise.integers(20, 60, (120, 160)).astype(dtype) * (
        1 if dtype is np.uint8 else 100
    )
    for number in range(frames):
        rgb, tir = rgb_ground.copy(), tir_ground.copy()
        x, y = int(BOX[0]) + step[0] * number, int(BOX[1]) + step[1] * number
        rgb[y : y + 16, x : x + 24] = (250, 200, 180)
        tir[y : y + 16, x : x + 24] = 255 if dtype is np.uint8 else 25_000
        pairs.append((rgb, tir))
    return pairs


class BrightSpot:
    """A model that finds the brightest part of either image and counts its calls in its memory."""

    template_size, search_size, search_factor = 32, 128, 4.0

    def __init__(self, score: float = 0.8) -> None:
        self.score = score
        self.searched: list[ImagePair] = []

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        return TemplateTokens(template.rgb.flatten(2), template.tir.flatten(2))

    def __call__(self, template, search, state=None) -> ModelOutput:
        self.searched.append(search)
        bright = (search.rgb.mean(1) > 1) | (search.tir.mean(1) > 1)
        batch, grid = len(bright), 16
        score, size, offset = (torch.full((batch, k, grid, grid), 0.01) for k in (1, 2, 2))
        for row, spot in enumerate(bright):
            if not spot.any():
                continue
            ys, xs = (axis.float() / 128 for axis in spot.nonzero(as_tuple=True))
            centre = torch.stack(((xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2)) + 1 / 256
            i, j = (centre * grid).long().tolist()
            score[row, 0, j, i] = self.score
            size[row, :, j, i] = torch.stack((xs.max() - xs.min(), ys.max() - ys.min())) + 1 / 128
            offset[row, :, j, i] = centre * grid - torch.tensor((i, j))
        memory = (0 if state is None else state) + 1
        return ModelOutput(
            score, score.logit(), size, offset, decode_box(score, size, offset), memory
        )

    def encode(self, template, search, state=None, layers=()) -> Encoding:
        raise NotImplementedError

    def decode(self, output, window=None):
        score = output.score_map if window is None else output.score_map * window
        return decode_box(score, output.size_map, output.offset_map)

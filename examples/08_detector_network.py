"""A detector on RGB-thermal pairs: two backbones, a neck that fuses or only adds, one head."""

import torch
from torch import Tensor, nn

from rgbt_fusion import DFM, AnyPlace, MutualPrompter

STRIDES = (4, 8, 16)  # pixels per cell of the three levels
Pyramid = list[Tensor]


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(layer, nn.GroupNorm(8, outputs), nn.ReLU())


def backbone(dim: int) -> nn.ModuleList:
    blocks = [nn.Sequential(convolution(dim, dim, 2), convolution(dim, dim)) for _ in STRIDES]
    return nn.ModuleList([nn.Sequential(convolution(3, dim, 2), blocks[0]), *blocks[1:]])


class SumNeck(nn.Module):  # the baseline adds both pyramids, then goes from coarse to fine
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.smooth = nn.ModuleList(convolution(dim, dim) for _ in STRIDES)

    def join(self, rgb: Pyramid, tir: Pyramid) -> Pyramid:
        return [x + y for x, y in zip(rgb, tir, strict=True)]

    def forward(self, rgb: Pyramid, tir: Pyramid) -> Pyramid:
        fine, middle, coarse = self.join(rgb, tir)
        middle = middle + nn.functional.interpolate(coarse, scale_factor=2.0)
        fine = fine + nn.functional.interpolate(middle, scale_factor=2.0)
        return [f(x) for f, x in zip(self.smooth, (fine, middle, coarse), strict=True)]


class FusionNeck(SumNeck):  # <- the one class: the streams prompt each other, the DFM joins them
    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.prompt = AnyPlace(MutualPrompter(spatial_attention="length_free", history=False))
        self.fuse = AnyPlace([DFM(dim) for _ in STRIDES])

    def join(self, rgb: Pyramid, tir: Pyramid) -> Pyramid:
        prompts = self.prompt(rgb, tir)
        rgb = [x + prompt.rgb for x, prompt in zip(rgb, prompts, strict=True)]
        tir = [x + prompt.tir for x, prompt in zip(tir, prompts, strict=True)]
        return [out.fused for out in self.fuse(rgb, tir)]


class Detector(nn.Module):
    def __init__(self, neck: type[SumNeck], dim: int = 32) -> None:
        super().__init__()
        self.rgb, self.tir, self.neck = backbone(dim), backbone(dim), neck(dim)
        self.head = nn.Sequential(convolution(dim, dim), nn.Conv2d(dim, 5, 1))
        self.head[1].bias.data = torch.tensor([-4.0, 0.7, 0.7, 0.7, 0.7])

    def forward(self, rgb: Tensor, tir: Tensor) -> Pyramid:  # a logit and 4 distances per cell
        rgb_levels = [rgb := stage(rgb) for stage in self.rgb]
        tir_levels = [tir := stage(tir) for stage in self.tir]
        return [self.head(x) for x in self.neck(rgb_levels, tir_levels)]

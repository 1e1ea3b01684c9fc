"""A small tracking network that shares no class with the package, and goes through all its doors.

On the command line: `--model examples.05_your_own_network:Correlation`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion import ImagePair, ModelOutput, Tracker
from rgbt_fusion.synthetic.world import SyntheticSequence


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution with its norm."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Correlation(nn.Module):
    """Slide the template over the search crop, whole and in 16 parts, and read the box."""

    template_size, search_size, search_factor = 64, 128, 4.0  # what every network must say

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        stem = (convolution(6, dim // 2, stride=2), convolution(dim // 2, dim, stride=2))
        self.features = nn.Sequential(*stem, nn.Conv2d(dim, dim, 3, padding=1))
        first = convolution(dim + 17, 2 * dim, stride=2)
        self.mix = nn.Sequential(first, *(convolution(2 * dim, 2 * dim) for _ in range(2)))
        self.maps = nn.Conv2d(2 * dim, 5, 1)
        nn.init.zeros_(self.maps.weight)  # no target, a quarter of the crop, the cell's middle
        self.maps.bias.data = torch.tensor([-3.0, -1.1, -1.1, 0.5, 0.5])
        self.sharpness = nn.Parameter(torch.tensor(5.0))

    def embed_template(self, template: ImagePair) -> Tensor:
        """Return what is slid: the 8 x 8 cells of 4 pixels that show the target."""
        target = self.features(torch.cat(template, dim=1))[:, :, 4:12, 4:12]
        return target - target.mean((2, 3), keepdim=True)

    def forward(self, template: Tensor | ImagePair, search: ImagePair, state=None) -> ModelOutput:
        """Return the maps of 16 x 16 cells of 8 pixels."""
        target = template if isinstance(template, Tensor) else self.embed_template(template)
        cells = self.features(torch.cat(search, dim=1))
        padded = F.pad(cells, (4, 3, 4, 3))
        kernel = F.normalize(target, dim=(1, 2, 3))
        found = F.conv2d(padded.flatten(0, 1)[None], kernel, groups=len(kernel)).transpose(0, 1)
        mean = F.avg_pool2d(padded, 8, 1)
        spread = (F.avg_pool2d(padded**2, 8, 1) - mean**2).sum(1, keepdim=True).clamp(min=0)
        whole = found / (64 * spread + 1e-3).sqrt()
        parts = F.normalize(F.avg_pool2d(target, 2).flatten(2), dim=1).mT
        centred = F.normalize(cells - mean.mean((2, 3), keepdim=True), dim=1).flatten(2)
        alike = (parts @ centred).unflatten(2, cells.shape[2:])
        maps = self.maps(self.mix(torch.cat((cells, whole, alike), dim=1)))
        score = maps[:, :1] + self.sharpness * F.max_pool2d(whole, 2)
        return ModelOutput.from_maps(score, maps[:, 1:3].sigmoid(), maps[:, 3:])


if __name__ == "__main__":
    for result in Tracker(Correlation()).track(SyntheticSequence(0, frames=3)):
        print(result.frame, result.box_xywh_px.round(1))

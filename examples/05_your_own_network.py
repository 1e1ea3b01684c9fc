"""A small tracking network that shares no class with the package, and goes through all its doors.

On the command line: `--model examples.05_your_own_network:build`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion import ImagePair, ModelOutput, Tracker


def convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return a convolution with its norm."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Correlation(nn.Module):
    """Compare every cell of the search crop with every cell of the template, then read a box."""

    template_size = 64  # pixels: what a tracking network must say of its crops
    search_size = 128
    search_factor = 4.0

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(6, dim // 2, stride=2),
            convolution(dim // 2, dim, stride=2),
            convolution(dim, dim, stride=2),
            nn.Conv2d(dim, dim, 3, padding=1),
        )
        self.mix = nn.Sequential(
            convolution(dim + 36, 64, kernel=1), convolution(64, 64), convolution(64, 64)
        )
        self.maps = nn.Conv2d(64, 5, 1)
        # a first guess: no target, a quarter of the crop, the middle of the cell
        self.maps.bias.data = torch.tensor([-2.2, -1.1, -1.1, 0.5, 0.5])

    def forward(self, template: ImagePair, search: ImagePair, state: None = None) -> ModelOutput:
        """Return the maps of 16 x 16 cells of 8 pixels."""
        kernels = self.features(torch.cat(template, dim=1))[:, :, 1:7, 1:7].flatten(2)
        cells = self.features(torch.cat(search, dim=1))
        alike = torch.einsum(
            "bck,bchw->bkhw", F.normalize(kernels, dim=1), F.normalize(cells, dim=1)
        )
        maps: Tensor = self.maps(self.mix(torch.cat((cells, alike), dim=1)))
        return ModelOutput.from_maps(maps[:, :1], maps[:, 1:3].sigmoid(), maps[:, 3:])


build = Correlation  # what the command line calls


if __name__ == "__main__":
    from rgbt_fusion.synthetic.world import SyntheticSequence as Sequence

    for result in Tracker(build()).track(Sequence(0, frames=3)):
        print(result.frame, result.box_xywh_px.round(1))

"""A small tracking network that shares no class with the package, and goes through all doors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion import ImagePair, ModelOutput, Tracker
from rgbt_fusion.synthetic.world import SyntheticSequence


def brightness(pair: ImagePair) -> Tensor:
    """Return both modalities in cells of 4 pixels, float32 at least."""
    grey = torch.stack([image.mean(1) for image in pair], dim=1)
    grey = F.avg_pool2d(grey.to(torch.promote_types(grey.dtype, torch.float32)), 4)
    return grey - grey.mean((2, 3), keepdim=True)  # fewer digits are lost in the variance


def correlation(template: Tensor, search: Tensor, side: int) -> Tensor:
    """Return how well the template correlates at every cell; its middle counts most."""
    bell = torch.linspace(-1.4, 1.4, side).square().neg().exp().to(search)
    root = bell * bell[:, None] / bell.square().sum()  # of the weights, whose sum is 1
    weights = (root**2).expand(2, 1, side, side)
    template = F.interpolate(template, size=(side, side), mode="bilinear")
    template = template - (template * root**2).sum((2, 3), keepdim=True)
    kernel = (F.normalize(template * root, dim=(2, 3)) * root).flatten(0, 1)[:, None]
    search = F.pad(search, (side // 2, side // 2 - 1) * 2, mode="replicate")
    mean, square = (F.conv2d(x, weights, groups=2) for x in (search, search**2))
    found = F.conv2d(search.flatten(0, 1)[None], kernel, groups=len(kernel)).view_as(mean)
    return (found / (square - mean**2).clamp(min=1e-4).sqrt()).mean(1, keepdim=True)


class Correlation(nn.Module):
    """Slide the template over the search crop at three sizes; learn height over width from it."""

    template_size, search_size, search_factor = 64, 128, 4.0  # what every network must say
    sides = (14, 16, 18)  # of the slid template: smaller, as it is and larger, in cells

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        layers = []
        for inputs in (6, dim, dim, dim):
            layers += [nn.Conv2d(inputs, dim, 3, 2, 1), nn.BatchNorm2d(dim), nn.ReLU()]
        self.shape = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * dim, 1))
        self.trust = nn.Parameter(torch.tensor([40.0, 20.0]).log())  # in likeness, in the middle

    def embed_template(self, template: ImagePair) -> Tensor:
        """Return what is slid, and the logarithm of height over width as a third plane."""
        taller = self.shape(torch.cat(template, dim=1))[..., None, None].expand(-1, 1, 16, 16)
        return torch.cat((brightness(template), taller), dim=1)

    def forward(self, template: Tensor | ImagePair, search: ImagePair, state=None) -> ModelOutput:
        target = template if isinstance(template, Tensor) else self.embed_template(template)
        cells = brightness(search)
        alike = torch.cat([correlation(target[:, :2], cells, n) for n in self.sides], dim=1)
        axis = torch.arange(32).to(alike)
        far = (axis / 16 - 1) ** 2
        trust = self.trust[0].exp() * alike - self.trust[1].exp() * (far + far[:, None])
        weight = trust.flatten(1).softmax(1).view_as(alike)
        # place and size are means over all cells and sides, so that a near tie moves them little
        place = torch.stack([weight.sum((1, other)) @ axis for other in (2, 3)], dim=1)
        larger = weight.sum((2, 3)) @ torch.tensor(self.sides).div(16).log().to(alike)
        taller = target[:, 2, 0, 0] / 2
        size = torch.stack((larger - taller, larger + taller), dim=1).exp()[..., None, None] / 4
        offset = place[..., None, None] - torch.stack(torch.meshgrid(axis, axis, indexing="xy"))
        return ModelOutput.from_maps(12 * alike.amax(1, True) - 9, size.expand_as(offset), offset)


if __name__ == "__main__":
    for result in Tracker(Correlation()).track(SyntheticSequence(0, frames=3)):
        print(result.frame, result.box_xywh_px.round(1))

"""A small tracking network that shares no class with the package, and goes through all doors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion import ImagePair, ModelOutput, Tracker
from rgbt_fusion.synthetic.world import SyntheticSequence


def brightness(pair: ImagePair) -> Tensor:
    """Return both modalities in cells of 4 pixels, float32 at least."""
    grey = torch.stack(pair, dim=1).mean(2)
    return F.instance_norm(F.avg_pool2d(grey.to(torch.promote_types(grey.dtype, torch.float)), 4))


def correlations(template: Tensor, search: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Correlate the template, resized to each side, at every cell of an unfolded search."""
    most, roots, sized = max(sides), [], []
    for side, edge in ((side, [(most - side) // 2] * 4) for side in sides):
        bell = F.normalize(torch.linspace(-1.4, 1.4, side).square().neg().exp(), dim=0).to(search)
        roots.append(F.pad(bell.outer(bell), edge))  # of the weights: the middle counts most
        sized.append(F.pad(F.interpolate(template, size=(side, side), mode="bilinear"), edge))
    root, slid = torch.stack(roots), torch.stack(sized, dim=2)
    slid = F.normalize(((slid - (slid * root**2).sum((3, 4), True)) * root).flatten(3), dim=3)
    search = F.pad(search, (most // 2, most // 2 - 1) * 2, mode="replicate").flatten(0, 1)[:, None]
    mean, square = (F.conv2d(x, root[:, None] ** 2) for x in (search, search**2))
    found = ((slid * root.flatten(1)).flatten(0, 1) @ F.unfold(search, most)).view_as(mean)
    return (found / (square - mean**2).clamp(min=1e-4).sqrt()).unflatten(0, (-1, 2)).mean(1)


class Correlation(nn.Module):
    """Slide the template over the search crop at three sizes; learn the shape of its box."""

    template_size, search_size, search_factor = 64, 128, 4.0  # what every network must say
    sides = (14, 16, 18)  # of the slid template in cells; 0.4 of a change of size is believed

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        layers = []
        for inputs, stride, gap in ((6, 2, 1), (dim, 2, 1), (dim, 1, 2), (dim, 1, 4)):
            layers += [nn.Conv2d(inputs, dim, 3, stride, gap, gap), nn.BatchNorm2d(dim), nn.ReLU()]
        self.inside = nn.Sequential(*layers, nn.Conv2d(dim, 1, 1))  # is a cell the target's?
        self.trust = nn.Parameter(torch.tensor([40.0, 0.08]).log())  # in likeness, in the middle

    def embed_template(self, template: ImagePair) -> Tensor:
        """Return what is slid, and log width and height of its box: the best of 15 of one area."""
        inside = self.inside(torch.cat(template, dim=1))[:, 0]
        log_sides = torch.tensor([-1.0, 1]).outer(torch.linspace(-0.7, 0.7, 15)).to(inside)
        far = torch.linspace(-1.875, 1.875, 16).to(inside).abs()  # of a cell, in half sides
        columns, rows = (8 * (log_sides.exp()[..., None] - far)).sigmoid()
        shape = torch.einsum("bij,ri,rj->br", inside, rows, columns).softmax(1) @ log_sides.T
        return torch.cat((brightness(template), shape[..., None, None].expand(-1, 2, 16, 16)), 1)

    def forward(self, template: Tensor | ImagePair, search: ImagePair, state=None) -> ModelOutput:
        target = template if isinstance(template, Tensor) else self.embed_template(template)
        alike = correlations(target[:, :2], brightness(search), self.sides)
        axis = torch.arange(-16, 16).to(alike)
        trust = alike * self.trust[0].exp() - (axis**2 + axis[:, None] ** 2) * self.trust[1].exp()
        weight = trust.flatten(1).softmax(1).view_as(alike)  # a near tie moves means little
        place = torch.stack([weight.sum((1, other)) @ axis for other in (2, 3)], dim=1)
        larger = 0.4 * weight.sum((2, 3)) @ torch.tensor(self.sides).div(16).log().to(alike)
        size = (larger[:, None] + target[:, 2:, 0, 0]).exp()[..., None, None] / 4
        offset = place[..., None, None] - torch.stack(torch.meshgrid(axis, axis, indexing="xy"))
        return ModelOutput.from_maps(12 * alike.amax(1, True) - 9, size.expand_as(offset), offset)


if __name__ == "__main__":
    for result in Tracker(Correlation()).track(SyntheticSequence(0, frames=3)):
        print(result.frame, result.box_xywh_px.round(1))

"""A small tracking network that shares no class with the package, and goes through all its doors.

On the command line: `--model examples.05_your_own_network:Correlation`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion import ImagePair, ModelOutput, Tracker
from rgbt_fusion.synthetic.world import SyntheticSequence

SIDES = (28, 32, 36)  # the template is slid as it is, smaller and larger, in cells of 2 pixels


def convolution(inputs: int, outputs: int, stride: int = 1, apart: int = 1) -> nn.Sequential:
    """Return a convolution with its norm."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=apart, dilation=apart)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def planes(pair: ImagePair) -> Tensor:
    """Return both modalities without colours, in cells of 2 pixels; float32 at least."""
    grey = torch.stack([image.mean(1) for image in pair], dim=1)
    grey = F.avg_pool2d(grey.to(torch.promote_types(grey.dtype, torch.float32)), 2)
    return grey - grey.mean((2, 3), keepdim=True)  # fewer digits are lost in the variance


def correlation(template: Tensor, search: Tensor, side: int) -> Tensor:
    """Return how well both modalities correlate at every place; the middle counts most."""
    bell = torch.exp(-(torch.linspace(-2.2, 2.2, side, device=search.device) ** 2)).to(search.dtype)
    weight = (bell * bell[:, None] / bell.sum() ** 2).expand(2, 1, side, side)
    template = F.interpolate(template, size=(side, side), mode="bilinear")
    template = template - (template * weight[:, 0]).sum((2, 3), keepdim=True)
    spread = (template**2 * weight[:, 0]).sum((2, 3), keepdim=True)
    kernel = (template * weight[:, 0] / (spread + 1e-6).sqrt()).flatten(0, 1)[:, None]
    search = F.pad(search, (side // 2, side // 2 - 1) * 2, mode="replicate")
    found = F.conv2d(search.flatten(0, 1)[None], kernel, groups=len(kernel)).view(-1, 2, 64, 64)
    variance = F.conv2d(search**2, weight, groups=2) - F.conv2d(search, weight, groups=2) ** 2
    return (found / (variance.clamp(min=0) + 1e-4).sqrt()).mean(1, keepdim=True)


class Correlation(nn.Module):
    """Slide the template over the search crop at three sizes; learn its shape, and corrections."""

    template_size, search_size, search_factor = 64, 128, 4.0  # what every network must say

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        shrink = [convolution(dim if i else 6, dim, stride=2) for i in range(4)]
        self.shape = nn.Sequential(*shrink, nn.Flatten(), nn.Linear(16 * dim, 1))
        mix = [convolution(dim // 2 if i else 9, dim // 2, apart=2**i) for i in range(4)]
        self.mix = nn.Sequential(*mix)
        self.maps = nn.Conv2d(dim // 2, 3, 1)
        for last in (self.maps, self.shape[-1]):  # at the start nothing is corrected
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def embed_template(self, template: ImagePair) -> Tensor:
        """Return what is slid, and the logarithm of height over width, as a third plane."""
        taller = self.shape(torch.cat(template, dim=1))[..., None, None].expand(-1, 1, 32, 32)
        return torch.cat((planes(template), taller), dim=1)

    def forward(self, template: Tensor | ImagePair, search: ImagePair, state=None) -> ModelOutput:
        """Return the maps of 64 x 64 cells of 2 pixels."""
        target = template if isinstance(template, Tensor) else self.embed_template(template)
        around = planes(search)
        target = target.to(around.dtype)
        alike = torch.cat([correlation(target[:, :2], around, side) for side in SIDES], dim=1)
        seen = (F.avg_pool2d(torch.cat(search, dim=1), 2), alike.to(search.rgb.dtype))
        maps = self.maps(self.mix(torch.cat(seen, dim=1))).to(around.dtype)
        best = alike.amax(1, keepdim=True)
        score = 12 * best - 9 + maps[:, :1]
        growth = alike.new_tensor(SIDES).div(32).log()[:, None, None]
        larger = (60 * alike).softmax(1).mul(growth).sum(1, keepdim=True)
        taller = target[:, 2:, :1, :1] / 2
        size = torch.cat((larger - taller, larger + taller), dim=1) + 0.3 * maps[:, 1:]
        # the place is the mean of the 5 x 5 cells around, weighed by their correlations
        peak = (60 * (best - best.amax((2, 3), keepdim=True))).clamp(min=-9).exp()
        shift = torch.arange(-2, 3, device=best.device).to(best.dtype).expand(5, 5)
        sums = F.conv2d(peak, torch.stack((shift**0, shift, shift.mT))[:, None], padding=2)
        offset = sums[:, 1:] / sums[:, :1]
        return ModelOutput.from_maps(score, size.exp().clamp(max=4) / 4, offset)


if __name__ == "__main__":
    for result in Tracker(Correlation()).track(SyntheticSequence(0, frames=3)):
        print(result.frame, result.box_xywh_px.round(1))

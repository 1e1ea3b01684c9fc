"""Put DFM into a two-stream backbone of your own: the one line that fuses is marked."""

import torch
from torch import Tensor, nn

from rgbt_fusion import DFM, OFM


class TwoStreamBackbone(nn.Module):
    """Two streams through shared blocks; DFM fuses after each block, OFM joins all layers."""

    def __init__(self, dim: int = 192, depth: int = 4, heads: int = 3) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, dim, kernel_size=16, stride=16)
        self.blocks = nn.ModuleList(self.block(dim, heads) for _ in range(depth))
        self.fusion = nn.ModuleList(DFM(dim) for _ in range(depth))
        self.all_layers = OFM(dim, num_layers=depth)

    def block(self, dim: int, heads: int) -> nn.Module:
        """Return any block on tokens: this one is torch's own."""
        return nn.TransformerEncoderLayer(dim, heads, 4 * dim, batch_first=True, norm_first=True)

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        """Map two images (B, 3, H, W) to fused tokens (B, L, C)."""
        # both modalities pass the shared blocks as one batch
        both = self.embed(torch.cat([rgb, tir])).flatten(2).mT
        fused = []
        for block, dfm in zip(self.blocks, self.fusion, strict=True):
            rgb_tokens, tir_tokens = block(both).chunk(2)
            out = dfm(rgb_tokens, tir_tokens)  # <- the fusion layer
            both = torch.cat([out.rgb, out.tir])
            fused.append(out.fused)
        return self.all_layers(fused)


def millions(module: nn.Module) -> float:
    """Return the number of parameters in millions."""
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


torch.manual_seed(0)
backbone = TwoStreamBackbone()
tokens = backbone(torch.randn(2, 3, 256, 256), torch.randn(2, 3, 256, 256))
tokens.square().mean().backward()
fusion = millions(backbone.fusion) + millions(backbone.all_layers)
print(f"fused tokens {tuple(tokens.shape)}")
print(f"{millions(backbone):.2f} M parameters, {fusion:.2f} M of them fuse")

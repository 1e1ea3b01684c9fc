"""Token streams, and the pieces of a compensation written out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM = 8
HEADS = 2


def streams(
    batch: int = 2, length: int = 5, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rgb, tir = torch.randn(2, batch, length, DIM, generator=generator, dtype=dtype).unbind(0)
    return rgb, tir


def randomised(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.double().parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return layer


def weights_of(layer: nn.Module) -> dict[str, Tensor]:
    return dict(layer.state_dict())


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, (DIM,), w[f"{name}.weight"], w[f"{name}.bias"])


def linear(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def feed_forward(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return linear(F.gelu(linear(x, w, "feed_forward.0")), w, "feed_forward.2")

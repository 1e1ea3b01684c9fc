"""Pairs of maps and small layers for them."""

from typing import Any

import torch
from torch import Tensor, nn

CHANNELS = 8


def pair(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rgb, tir = torch.randn(2, *shape, dtype=dtype, generator=generator)
    return rgb, tir


def built(layer_type: type[nn.Module], *args, **options) -> Any:
    """A double-precision layer whose small perceptrons are large enough that every input of theirs
    matters."""
    torch.manual_seed(0)
    layer = layer_type(*args, **options).double()
    for name, parameter in layer.named_parameters():
        if "fc" in name:
            nn.init.normal_(parameter)
    return layer


def count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())

"""Tokens and an attention written out."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)

DIM = 8
HEADS = 2


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, key, value))
    attention = (query @ key.mT / (DIM // HEADS) ** 0.5).softmax(-1)
    return (attention @ value).transpose(1, 2).flatten(2)


def numbered(batch: int, template: int, search: int) -> Tensor:
    """Tokens that carry their own place: template tokens -1, -2, ..., search tokens 0, 1, ..."""
    places = torch.cat((-1.0 - torch.arange(template), torch.arange(search)))
    return places.repeat(batch, 1).unsqueeze(-1)


def randomised(layer: Layer) -> Layer:
    """The layer in float64 with every parameter drawn at random, biases and norms included."""
    generator = torch.Generator().manual_seed(0)
    layer = layer.double()
    for parameter in layer.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return layer

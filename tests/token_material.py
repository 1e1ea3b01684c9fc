"""Tokens and an attention written out."""

import torch
from torch import Tensor

DIM = 8
HEADS = 2


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, key, value))
    attention = (query @ key.mT / (DIM // HEADS) ** 0.5).softmax(-1)
    return (attention @ value).transpose(1, 2).flatten(2)

"""The ops between the two streams of a DFM at inference on a card: two kernels in place of seven.

Their oracle is the layer itself, written in PyTorch, which runs everywhere else.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from rgbt_fusion.ops.without_gradient import may_fuse

__all__ = ["can_fuse_streams", "exchange", "normed_difference"]

_LIBRARY = torch.library.Library("rgbt_fusion", "FRAGMENT")
_LIBRARY.define("exchange(Tensor rgb, Tensor tir, Tensor gate, int skipped) -> (Tensor, Tensor)")
_LIBRARY.define(
    "normed_difference(Tensor rgb, Tensor tir, Tensor weight, Tensor bias, float eps) -> Tensor"
)


def _exchange(rgb: Tensor, tir: Tensor, gate: Tensor, skipped: int) -> tuple[Tensor, Tensor]:
    from rgbt_fusion.ops.triton import streams

    return streams.exchange(rgb, tir, gate, skipped)


def _exchange_fake(rgb: Tensor, tir: Tensor, gate: Tensor, skipped: int) -> tuple[Tensor, Tensor]:
    batch, length, channels = rgb.shape
    tokens = rgb.new_empty((2 * batch, length, channels))
    return tokens, rgb.new_empty((batch, length - skipped, 2 * channels))


def _normed_difference(
    rgb: Tensor, tir: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    from rgbt_fusion.ops.triton import streams

    return streams.normed_difference(rgb, tir, weight, bias, eps)


def _normed_difference_fake(
    rgb: Tensor, tir: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    return rgb.new_empty(rgb.shape)


_LIBRARY.impl("exchange", _exchange, "CompositeExplicitAutograd")
torch.library.register_fake("rgbt_fusion::exchange", _exchange_fake, lib=_LIBRARY)
_LIBRARY.impl("normed_difference", _normed_difference, "CompositeExplicitAutograd")
torch.library.register_fake("rgbt_fusion::normed_difference", _normed_difference_fake, lib=_LIBRARY)

exchange = torch.ops.rgbt_fusion.exchange.default
"""Both streams with what they take from each other: as one batch, and side by side."""

normed_difference = torch.ops.rgbt_fusion.normed_difference.default
"""The LayerNorm of what differs between the streams."""


def can_fuse_streams(rgb: Tensor, others: Iterable[Tensor]) -> bool:
    """Say whether the kernels may take the place of the layer.

    ``others`` is what else the layer reads; it is looked at last.
    """
    if not may_fuse(rgb, others):
        return False
    from rgbt_fusion.ops.triton import streams

    return not streams.streams_why_not(rgb)

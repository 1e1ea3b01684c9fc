"""The op inside a narrow prompt layer at inference on a card: one kernel in place of nine.

Its oracle is the layer itself, written in PyTorch, which runs everywhere else.
"""

import torch
from torch import Tensor

from rgbt_fusion.ops.without_gradient import may_fuse

__all__ = ["can_fuse_maps", "prompt_maps"]

_LIBRARY = torch.library.Library("rgbt_fusion", "FRAGMENT")
_LIBRARY.define(
    "prompt_maps(Tensor x, Tensor y, int template_length, Tensor first, Tensor first_bias, "
    "Tensor gate, Tensor gate_bias) -> Tensor"
)


def _kernel(
    x: Tensor,
    y: Tensor,
    template_length: int,
    first: Tensor,
    first_bias: Tensor,
    gate: Tensor,
    gate_bias: Tensor,
) -> Tensor:
    from rgbt_fusion.ops.triton import maps

    return maps.prompt_maps(x, y, template_length, first, first_bias, gate, gate_bias)


def _fake(x: Tensor, y: Tensor, template_length: int, first: Tensor, *_: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:2], first.shape[1] // 2))


_LIBRARY.impl("prompt_maps", _kernel, "CompositeExplicitAutograd")
torch.library.register_fake("rgbt_fusion::prompt_maps", _fake, lib=_LIBRARY)
prompt_maps = torch.ops.rgbt_fusion.prompt_maps.default
"""The fused tokens of both maps, see :func:`~rgbt_fusion.ops.triton.maps.prompt_maps`."""


def can_fuse_maps(x: Tensor, y: Tensor, template_length: int) -> bool:
    """Say whether the kernel may take the place of attention and blend."""
    if not may_fuse(x, (y,)):
        return False
    from rgbt_fusion.ops.triton import maps

    return not maps.maps_why_not(x, template_length)

"""The op behind the mutual prompter at inference on a card: four kernels in place of a hundred.

Its oracle is the layer itself, written in PyTorch, which runs everywhere else.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rgbt_fusion.ops.without_gradient import may_fuse

__all__ = ["can_fuse_prompts", "mutual_prompts"]

_LIBRARY = torch.library.Library("rgbt_fusion", "FRAGMENT")
_LIBRARY.define(
    "mutual_prompts(Tensor[] streams, Tensor[] weights, Tensor? fovea_scale, bool sigmoid) "
    "-> Tensor"
)


def _kernel(
    streams: list[Tensor], weights: list[Tensor], fovea_scale: Tensor | None, sigmoid: bool
) -> Tensor:
    from rgbt_fusion.ops.triton import prompts

    return prompts.mutual_prompts(streams, weights, fovea_scale, sigmoid=sigmoid)


def _fake(
    streams: list[Tensor], weights: list[Tensor], fovea_scale: Tensor | None, sigmoid: bool
) -> Tensor:
    return streams[0].new_empty((2, *streams[0].shape))


_LIBRARY.impl("mutual_prompts", _kernel, "CompositeExplicitAutograd")
torch.library.register_fake("rgbt_fusion::mutual_prompts", _fake, lib=_LIBRARY)
mutual_prompts = torch.ops.rgbt_fusion.mutual_prompts.default
"""The prompts of both streams, see :func:`~rgbt_fusion.ops.triton.prompts.mutual_prompts`."""


def can_fuse_prompts(streams: Sequence[Tensor], weights: Sequence[Tensor]) -> bool:
    """Say whether the kernels may take the place of the layer."""
    first, *others = streams
    if not may_fuse(first, (*others, *weights)):
        return False
    from rgbt_fusion.ops.triton import prompts

    return not prompts.prompts_why_not(first)

"""The op behind the mutual prompter at inference on a card: four kernels in place of a hundred.

Its oracle is the layer itself, written in PyTorch, which runs everywhere else.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

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
    """Say whether the kernels may take the place of the layer.

    They have no gradient, round nothing in between, and are left to compilers and exporters, which
    fuse the layer themselves.
    """
    x = streams[0]
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if x.device.type not in ("cpu", "cuda") or x.numel() == 0:
        return False
    if torch.is_autocast_enabled(x.device.type):
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in (*streams, *weights)):
        return False
    if x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return False
    from rgbt_fusion.ops.triton import prompts

    return not prompts.prompts_why_not(x)

"""Compute blocks a second time in the backward pass instead of keeping what they computed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["check_blocks", "checkpointed_blocks", "find_blocks"]


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the parts of a network that can be computed twice, one at a time.

    They are the entries of the outermost ``ModuleList``, and the modules beside it that hold none.
    A part with a BatchNorm is left alone: its statistics would be updated twice. A single layer
    keeps hardly more than its input, and is no block.

    Example:
        >>> from rgbt_fusion import create_model
        >>> from rgbt_fusion.training.activation_checkpoints import find_blocks
        >>> len(find_blocks(create_model("ainet_tiny_128")))  # 4 blocks, 4 DFMs and the OFM
        9
    """
    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            found += [block for block in child if _is_block(block)]
        elif any(isinstance(part, nn.ModuleList) for part in child.modules()):
            found += find_blocks(child)
        elif _is_block(child):
            found.append(child)
    return found


def check_blocks(model: nn.Module) -> None:
    """Check that a network has blocks that can be computed twice.

    Raises:
        ValueError: it has none.
    """
    if not find_blocks(model):
        raise ValueError(
            "activation_checkpointing must be false for a network without blocks of several "
            f"layers and without a BatchNorm, got {type(model).__name__}"
        )


@contextmanager
def checkpointed_blocks(model: nn.Module) -> Iterator[None]:
    """Keep no activations of the blocks of a network, inside the block.

    Weights and gradients are those of a training that keeps them: dropped paths are drawn anew from
    the same random numbers. Names of parameters stay.

    Args:
        model: the network; its blocks are those of :func:`find_blocks`.

    Raises:
        ValueError: ``model`` has no such block.

    Source:
        Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
    """
    check_blocks(model)
    blocks = find_blocks(model)
    for block in blocks:
        block.forward = _computed_twice(block, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            # the method of the class shows again
            del block.forward


def _computed_twice(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward that keeps its inputs only, where a gradient is wanted."""

    @wraps(forward)
    def call(*inputs: Any, **options: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return forward(*inputs, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, **options)

    return call


def _is_block(module: nn.Module) -> bool:
    layers = [part for part in module.modules() if not any(part.children())]
    norms = nn.modules.batchnorm._BatchNorm
    return len(layers) > 1 and not any(isinstance(layer, norms) for layer in layers)

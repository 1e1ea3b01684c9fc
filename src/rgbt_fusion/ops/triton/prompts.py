"""Launches the kernels of the mutual prompter."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rgbt_fusion.ops.triton.backend import power_of_two, why_not
from rgbt_fusion.ops.triton.launching import (
    launch,
    launch_on,
    note_scratch,
    replay_or_record,
)

__all__ = ["mutual_prompts", "prompts_why_not"]

TILE = 32
"""Channels of a program."""

TOKENS = 32
"""Tokens that a program holds at once."""

LARGEST_ROW = 8192
"""Numbers of a row that a program holds at once."""

# Lanes that share a sum of products must get the same bits. One that fuses its own product into the
# sum rounds only those of the others.
OPTIONS = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": False}

BRANCHES = ("own", "other", "old")
PARTS = ("reduce", "reduce_bias", "restore", "restore_bias", "mix", "mix_bias")


def prompts_why_not(x: Tensor) -> list[str]:
    """Say why the kernels cannot run on streams ``(B, N, C)`` like ``x``; empty if they can."""
    if max(x.shape[1:]) > LARGEST_ROW:
        return [f"takes rows of at most {LARGEST_ROW} numbers, got {tuple(x.shape)}"]
    return why_not(x)


def mutual_prompts(
    streams: list[Tensor], weights: list[Tensor], fovea_scale: Tensor | None, *, sigmoid: bool
) -> Tensor:
    """Return the prompts of both streams ``(2, B, N, C)``.

    Args:
        streams: both streams ``(B, N, C)`` and, with a history, both previous prompts.
        weights: six per branch (own, other, and with a history the previous prompt): the bottleneck
            ``(H, N)``, ``(H,)``, ``(N, H)``, ``(N,)`` and the convolution ``(14,)``, ``(1,)``.
        fovea_scale: the factor in the softmax, or None for no fovea.
        sigmoid: whether the weights pass a sigmoid.
    """
    rgb, tir, *old = [x if x.stride(-1) == 1 else x.contiguous() for x in streams]
    if tir.stride() != rgb.stride():
        rgb = rgb.contiguous()
        tir = tir.contiguous()
    if old and old[0].stride() != old[1].stride():
        old = [x.contiguous() for x in old]
    out = rgb.new_empty((2, *rgb.shape))
    facts = ("prompts", len(streams), sigmoid)

    def call(tensors: Sequence[Any]) -> None:
        *given, scale, to = tensors
        _launch_all(given[: len(streams)], given[len(streams) :], scale, to, sigmoid=sigmoid)

    replay_or_record((rgb, tir, *old, *weights, fovea_scale, out), facts, call)
    return out


def _launch_all(
    streams: list[Tensor],
    weights: list[Tensor],
    fovea_scale: Tensor | None,
    out: Tensor,
    *,
    sigmoid: bool,
) -> None:
    from rgbt_fusion.ops.triton import prompt_kernels as kernels

    rgb, tir, *old = streams
    batch, tokens, channels = rgb.shape
    branches = len(weights) // len(PARTS)
    named: dict[str, Tensor | None] = {}
    for number, branch in enumerate(BRANCHES):
        given = weights[number * len(PARTS) : (number + 1) * len(PARTS)]
        for place, part in enumerate(PARTS):
            named[f"{branch}_{part}"] = given[place] if number < branches else None
    hidden = weights[0].shape[0]

    def scratch(*shape: int) -> Tensor:
        return note_scratch(rgb.new_empty(shape, dtype=torch.float32))

    token_pool = scratch(len(streams), batch, 2, tokens)
    token_weights = scratch(branches, 2, batch, tokens)
    channel_pool = scratch(branches, 2, batch, 2, channels)
    inputs: dict[str, Any] = {
        "rgb": rgb,
        "tir": tir,
        "old_rgb": old[0] if old else None,
        "old_tir": old[1] if old else None,
    }
    sizes: dict[str, Any] = {
        "N": tokens,
        "C": channels,
        "batch": batch,
        "stream_b": rgb.stride(0),
        "old_b": old[0].stride(0) if old else 0,
        "STREAM_ROW": rgb.stride(1),
        "OLD_ROW": old[0].stride(1) if old else 0,
    }
    tiles = -(-channels // TILE)
    mixes = {name: x for name, x in named.items() if "mix" in name}
    bottlenecks = {name: x for name, x in named.items() if "mix" not in name}
    tiled: dict[str, Any] = {
        "weights": token_weights,
        "pooled": channel_pool,
        "TOKENS": TOKENS,
        "TILE": TILE,
        **OPTIONS,
    }
    with launch_on(rgb):
        launch(
            kernels.pool_channels_kernel,
            (tokens, batch * len(streams)),
            **inputs,
            pooled=token_pool,
            **sizes,
            WIDTH=power_of_two(channels),
            **OPTIONS,
        )
        launch(
            kernels.weigh_tokens_kernel,
            (batch, 2 * branches),
            pooled=token_pool,
            **bottlenecks,
            weights=token_weights,
            N=tokens,
            batch=batch,
            HIDDEN=hidden,
            LENGTH=power_of_two(tokens),
            SIGMOID=sigmoid,
            **OPTIONS,
        )
        launch(
            kernels.pool_tokens_kernel, (tiles, batch * 2 * branches), **inputs, **sizes, **tiled
        )
        launch(
            kernels.prompt_kernel,
            (tiles, batch * 2),
            **inputs,
            **sizes,
            **tiled,
            **mixes,
            fovea_scale=fovea_scale,
            out=out,
            SIGMOID=sigmoid,
        )

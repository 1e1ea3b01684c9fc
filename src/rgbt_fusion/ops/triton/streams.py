"""Launches the kernels between two streams of tokens."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rgbt_fusion.ops.triton.backend import power_of_two, why_not
from rgbt_fusion.ops.triton.launching import launch, launch_on, replay_or_record

__all__ = ["exchange", "normed_difference", "streams_why_not"]

MOST_CHANNELS = 8192
"""Numbers of a token that a program holds at once."""

# see prompts.py: lanes that share a sum of products must get the same bits
OPTIONS = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": False}


def streams_why_not(x: Tensor) -> list[str]:
    """Say why the kernels cannot run on streams ``(B, L, C)`` like ``x``; empty if they can."""
    if x.shape[-1] > MOST_CHANNELS:
        return [f"takes tokens of at most {MOST_CHANNELS} channels, got {tuple(x.shape)}"]
    return why_not(x)


def exchange(rgb: Tensor, tir: Tensor, gate: Tensor, skipped: int) -> tuple[Tensor, Tensor]:
    """Give each stream ``(B, L, C)`` the other one times tanh(gate).

    Returns:
        Both as one batch ``(2 B, L, C)``, RGB first, and side by side ``(B, L - skipped, 2 C)``
        without their first tokens.
    """
    batch, length, channels = rgb.shape
    tokens = rgb.new_empty((2 * batch, length, channels))
    joined = rgb.new_empty((batch, length - skipped, 2 * channels))

    def call(tensors: Sequence[Any]) -> None:
        from rgbt_fusion.ops.triton import stream_kernels as kernels

        first, second, weight, to, side = tensors
        with launch_on(first):
            launch(
                kernels.exchange_kernel,
                (length, batch),
                rgb=first,
                tir=second,
                gate=weight,
                tokens=to,
                joined=side,
                L=length,
                C=channels,
                batch=batch,
                skipped=skipped,
                WIDTH=power_of_two(channels),
                **OPTIONS,
            )

    given = (rgb.contiguous(), tir.contiguous(), gate.contiguous())
    replay_or_record((*given, tokens, joined), ("exchange", skipped), call)
    return tokens, joined


def normed_difference(rgb: Tensor, tir: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return the LayerNorm of ``rgb - tir`` over the channels, ``(B, L, C)``."""
    batch, length, channels = rgb.shape
    out = rgb.new_empty(rgb.shape)

    def call(tensors: Sequence[Any]) -> None:
        from rgbt_fusion.ops.triton import stream_kernels as kernels

        first, second, scale, shift, to = tensors
        with launch_on(first):
            launch(
                kernels.normed_difference_kernel,
                (batch * length,),
                rgb=first,
                tir=second,
                weight=scale,
                bias=shift,
                out=to,
                C=channels,
                eps=eps,
                WIDTH=power_of_two(channels),
                **OPTIONS,
            )

    given = (rgb.contiguous(), tir.contiguous(), weight.contiguous(), bias.contiguous())
    replay_or_record((*given, out), ("normed difference", eps), call)
    return out

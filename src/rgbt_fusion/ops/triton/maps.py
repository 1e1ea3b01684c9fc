"""Launches the kernel of narrow prompt layers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, float32

from rgbt_fusion.ops.triton.backend import power_of_two, why_not
from rgbt_fusion.ops.triton.launching import launch, launch_on, note_scratch, replay_or_record

__all__ = ["maps_why_not", "prompt_maps"]

LARGEST_MAP = 2048
"""Positions of a map of which a program holds the scores of some rows."""

ROWS = 16
"""Rows of scores that a program holds at once."""

# see prompts.py: lanes that share a sum of products must get the same bits
OPTIONS = {"num_warps": 8, "num_stages": 1, "enable_fp_fusion": False}


def maps_why_not(x: Tensor, template_length: int) -> list[str]:
    """Say why the kernel cannot run on ``x`` ``(B, T + S, ...)``; empty if it can."""
    longest = max(template_length, x.shape[1] - template_length)
    if longest > LARGEST_MAP:
        return [f"takes maps of at most {LARGEST_MAP} positions, got {longest}"]
    return why_not(x)


def prompt_maps(
    x: Tensor,
    y: Tensor,
    template_length: int,
    first: Tensor,
    first_bias: Tensor,
    gate: Tensor,
    gate_bias: Tensor,
) -> Tensor:
    """Return the fused tokens ``(B, T + S, W)`` of both maps.

    Args:
        x: tokens twice and their queries, ``(B, T + S, 2 W + K)``.
        y: zeros, values and keys of the prompt, in the same shape.
        template_length: T.
        first, first_bias: the first layer of MAF's perceptron, ``(H, 2 W)`` with H a power of two.
        gate, gate_bias: the logit of the enhanced map minus that of the other, ``(1, H)`` and
            ``(1,)``.
    """
    batch, length, width = x.shape
    hidden, dim = first.shape[0], first.shape[1] // 2
    out = x.new_empty((batch, length, dim))
    longest = max(template_length, length - template_length)

    def call(tensors: Sequence[Any]) -> None:
        from rgbt_fusion.ops.triton import map_kernels as kernels

        tokens, prompts, weight, bias, gate_weight, shift, to = tensors
        enhanced = note_scratch(tokens.new_empty((batch, length, dim), dtype=float32))
        with launch_on(tokens):
            launch(
                kernels.prompt_map_kernel,
                (2, batch),
                x=tokens,
                y=prompts,
                first=weight,
                first_bias=bias,
                gate=gate_weight,
                gate_bias=shift,
                enhanced=enhanced,
                out=to,
                T=template_length,
                L=length,
                WIDTH=width,
                DIM=dim,
                KEYS=width - 2 * dim,
                HIDDEN=hidden,
                LENGTH=power_of_two(longest),
                ROWS=ROWS,
                **OPTIONS,
            )

    given = tuple(t.contiguous() for t in (x, y, first, first_bias, gate, gate_bias))
    replay_or_record((*given, out), ("maps", template_length), call)
    return out

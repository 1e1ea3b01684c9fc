"""Triton kernels between two streams of tokens: what they exchange, and the norm of what differs.

One program has one token. All arithmetic is float32.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _tanh(x):
    e = tl.exp2(tl.abs(x) * (-2.0 * LOG2E))
    size = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0, -size, size)


@triton.jit
def exchange_kernel(
    rgb,
    tir,
    gate,
    tokens,
    joined,
    L,
    C,
    batch,
    skipped,
    WIDTH: tl.constexpr,
):
    """Give each stream the other one times tanh(gate).

    ``tokens`` is ``(stream, B, L, C)``, ``joined`` ``(B, L - skipped, stream, C)``.
    """
    t = tl.program_id(0)
    b = tl.program_id(1)
    c = tl.arange(0, WIDTH)
    at = (b * L + t).to(tl.int64) * C + c
    inside = c < C
    x = tl.load(rgb + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(tir + at, mask=inside, other=0.0).to(tl.float32)
    share = _tanh(tl.load(gate + at, mask=inside, other=0.0).to(tl.float32))
    enhanced_rgb = (x + y * share).to(tokens.dtype.element_ty)
    enhanced_tir = (y + x * share).to(tokens.dtype.element_ty)
    second = tokens + tl.cast(batch * L, tl.int64) * C
    tl.store(tokens + at, enhanced_rgb, mask=inside)
    tl.store(second + at, enhanced_tir, mask=inside)
    if t >= skipped:
        side = joined + (b * (L - skipped) + t - skipped).to(tl.int64) * 2 * C + c
        tl.store(side, enhanced_rgb, mask=inside)
        tl.store(side + C, enhanced_tir, mask=inside)


@triton.jit
def normed_difference_kernel(rgb, tir, weight, bias, out, C, eps, WIDTH: tl.constexpr):
    """LayerNorm of rgb - tir over the channels."""
    c = tl.arange(0, WIDTH)
    at = tl.program_id(0).to(tl.int64) * C + c
    inside = c < C
    x = tl.load(rgb + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(tir + at, mask=inside, other=0.0).to(tl.float32)
    difference = x - y
    mean = tl.sum(difference, 0) / C
    centred = tl.where(inside, difference - mean, 0.0)
    variance = tl.sum(centred * centred, 0) / C
    value = centred / tl.sqrt(variance + eps)
    value = value * tl.load(weight + c, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)

"""Triton kernels of the mutual prompter: four launches in place of about a hundred.

1. mean and max over the channels of every token of every stream;
2. from them the weight of every token, for each branch (own, other, history) of each stream;
3. mean and max over the weighed tokens of every channel;
4. from them the weight of every channel, the fovea's softmax over the tokens, and the sum.

All arithmetic is float32. Sums run in a fixed order.
"""

import triton
import triton.language as tl

from rgbt_fusion.ops.triton.scan_kernels import sigmoid

LOG2E = tl.constexpr(1.4426950408889634)

# What stands before the first weight of a convolution over seven neighbours.
REACH = tl.constexpr(3)


@triton.jit
def _stream(rgb, tir, old_rgb, old_tir, i):
    """The stream ``i``: both streams, then both previous prompts, if there are any."""
    x = rgb
    if i == 1:
        x = tir
    if old_rgb is not None:
        if i == 2:
            x = old_rgb
        if i == 3:
            x = old_tir
    return x


@triton.jit
def pool_channels_kernel(
    rgb,
    tir,
    old_rgb,
    old_tir,
    pooled,
    N,
    C,
    batch,
    stream_b,
    old_b,
    STREAM_ROW: tl.constexpr,
    OLD_ROW: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Mean and max of one token: to ``pooled``, ``(stream, B, 2, N)``."""
    n = tl.program_id(0)
    b = tl.program_id(1) % batch
    i = tl.program_id(1) // batch
    x = _stream(rgb, tir, old_rgb, old_tir, i)
    row = b.to(tl.int64) * stream_b + n * STREAM_ROW
    if i >= 2:
        row = b.to(tl.int64) * old_b + n * OLD_ROW
    c = tl.arange(0, WIDTH)
    value = tl.load(x + row + c, mask=c < C, other=0.0).to(tl.float32)
    to = pooled + (i * batch + b) * 2 * N + n
    tl.store(to, tl.sum(value, 0) / C)
    tl.store(to + N, tl.max(tl.where(c < C, value, float("-inf")), 0))


@triton.jit
def _token_weight(pooled, reduce, reduce_bias, restore, restore_bias, n, N, HIDDEN: tl.constexpr):
    """The bottleneck on mean and max, summed."""
    mean = tl.load(pooled + n, mask=n < N, other=0.0)
    most = tl.load(pooled + N + n, mask=n < N, other=0.0)
    weight = 2.0 * tl.load(restore_bias + n, mask=n < N, other=0.0).to(tl.float32)
    for h in range(HIDDEN):
        row = tl.load(reduce + h * N + n, mask=n < N, other=0.0).to(tl.float32)
        bias = tl.load(reduce_bias + h).to(tl.float32)
        hidden = tl.maximum(tl.sum(row * mean, 0) + bias, 0.0)
        hidden += tl.maximum(tl.sum(row * most, 0) + bias, 0.0)
        weight += hidden * tl.load(restore + n * HIDDEN + h, mask=n < N, other=0.0).to(tl.float32)
    return weight


@triton.jit
def weigh_tokens_kernel(
    pooled,
    own_reduce,
    own_reduce_bias,
    own_restore,
    own_restore_bias,
    other_reduce,
    other_reduce_bias,
    other_restore,
    other_restore_bias,
    old_reduce,
    old_reduce_bias,
    old_restore,
    old_restore_bias,
    weights,
    N,
    batch,
    HIDDEN: tl.constexpr,
    LENGTH: tl.constexpr,
    SIGMOID: tl.constexpr,
):
    """The weight of every token of one stream in one branch: ``(branch, stream, B, N)``."""
    b = tl.program_id(0)
    i = tl.program_id(1) % 2
    branch = tl.program_id(1) // 2
    n = tl.arange(0, LENGTH)
    seen = i
    if branch == 2:
        seen = i + 2
    pooled += (seen * batch + b) * 2 * N
    if branch == 0:
        weight = _token_weight(
            pooled, own_reduce, own_reduce_bias, own_restore, own_restore_bias, n, N, HIDDEN
        )
    elif branch == 1:
        weight = _token_weight(
            pooled, other_reduce, other_reduce_bias, other_restore, other_restore_bias, n, N, HIDDEN
        )
    else:
        weight = tl.zeros((LENGTH,), tl.float32)
        if old_reduce is not None:
            weight = _token_weight(
                pooled, old_reduce, old_reduce_bias, old_restore, old_restore_bias, n, N, HIDDEN
            )
    if SIGMOID:
        weight = sigmoid(weight)
    tl.store(weights + ((branch * 2 + i) * batch + b) * N + n, weight, mask=n < N)


@triton.jit
def pool_tokens_kernel(
    rgb,
    tir,
    old_rgb,
    old_tir,
    weights,
    pooled,
    N,
    C,
    batch,
    stream_b,
    old_b,
    STREAM_ROW: tl.constexpr,
    OLD_ROW: tl.constexpr,
    TOKENS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Mean and max over the weighed tokens: to ``pooled``, ``(branch, stream, B, 2, C)``."""
    c = tl.program_id(0) * TILE + tl.arange(0, TILE)
    b = tl.program_id(1) % batch
    i = (tl.program_id(1) // batch) % 2
    branch = tl.program_id(1) // (batch * 2)
    seen = i
    if branch == 2:
        seen = i + 2
    x = _stream(rgb, tir, old_rgb, old_tir, seen)
    start = b.to(tl.int64) * stream_b
    row = STREAM_ROW
    if branch == 2:
        start = b.to(tl.int64) * old_b
        row = OLD_ROW
    place = (branch * 2 + i) * batch + b
    total = tl.zeros((TILE,), tl.float32)
    most = tl.full((TILE,), float("-inf"), tl.float32)
    for first in range(0, N, TOKENS):
        n = first + tl.arange(0, TOKENS)
        inside = (n < N)[:, None] & (c < C)[None, :]
        value = tl.load(x + start + n[:, None] * row + c[None, :], mask=inside, other=0.0)
        weight = tl.load(weights + place * N + n, mask=n < N, other=0.0)
        value = value.to(tl.float32) * weight[:, None]
        total += tl.sum(value, 0)
        most = tl.maximum(most, tl.max(tl.where(inside, value, float("-inf")), 0))
    to = pooled + place * 2 * C + c
    tl.store(to, total / N, mask=c < C)
    tl.store(to + C, most, mask=c < C)


@triton.jit
def _channel_weight(pooled, mix, mix_bias, c, C, SIGMOID: tl.constexpr):
    """Mean and max convolved over seven neighbours."""
    weight = tl.zeros(c.shape, tl.float32) + tl.load(mix_bias).to(tl.float32)
    for k in tl.static_range(7):
        at = c + (k - REACH)
        inside = (at >= 0) & (at < C)
        mean = tl.load(pooled + at, mask=inside, other=0.0)
        most = tl.load(pooled + C + at, mask=inside, other=0.0)
        weight += mean * tl.load(mix + k).to(tl.float32)
        weight += most * tl.load(mix + 7 + k).to(tl.float32)
    if SIGMOID:
        weight = sigmoid(weight)
    return weight


@triton.jit
def _weighed(x, weights, n, c, N, C, channel, row):
    """A block of tokens, weighed by both gates."""
    inside = (n < N)[:, None] & (c < C)[None, :]
    value = tl.load(x + n[:, None] * row + c[None, :], mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(weights + n, mask=n < N, other=0.0)
    return value * weight[:, None] * channel[None, :]


@triton.jit
def prompt_kernel(
    rgb,
    tir,
    old_rgb,
    old_tir,
    weights,
    pooled,
    own_mix,
    own_mix_bias,
    other_mix,
    other_mix_bias,
    old_mix,
    old_mix_bias,
    fovea_scale,
    out,
    N,
    C,
    batch,
    stream_b,
    old_b,
    STREAM_ROW: tl.constexpr,
    OLD_ROW: tl.constexpr,
    TOKENS: tl.constexpr,
    TILE: tl.constexpr,
    SIGMOID: tl.constexpr,
):
    """The prompts of one stream for some channels: ``out`` is ``(stream, B, N, C)``."""
    c = tl.program_id(0) * TILE + tl.arange(0, TILE)
    b = tl.program_id(1) % batch
    i = tl.program_id(1) // batch
    start = b.to(tl.int64) * stream_b
    own = _stream(rgb, tir, None, None, i) + start
    other = _stream(rgb, tir, None, None, 1 - i) + start
    own_place = i * batch + b
    other_place = (2 + 1 - i) * batch + b
    old_place = (4 + i) * batch + b
    own_channel = _channel_weight(pooled + own_place * 2 * C, own_mix, own_mix_bias, c, C, SIGMOID)
    other_channel = _channel_weight(
        pooled + other_place * 2 * C, other_mix, other_mix_bias, c, C, SIGMOID
    )
    if old_rgb is not None:
        old = _stream(old_rgb, old_tir, None, None, i) + b.to(tl.int64) * old_b
        old_channel = _channel_weight(
            pooled + old_place * 2 * C, old_mix, old_mix_bias, c, C, SIGMOID
        )
    scale = 0.0
    most = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    if fovea_scale is not None:
        scale = tl.load(fovea_scale).to(tl.float32) * LOG2E
        for first in range(0, N, TOKENS):
            n = first + tl.arange(0, TOKENS)
            value = _weighed(own, weights + own_place * N, n, c, N, C, own_channel, STREAM_ROW)
            logit = tl.where((n < N)[:, None], value * scale, float("-inf"))
            higher = tl.maximum(most, tl.max(logit, 0))
            total = total * tl.exp2(most - higher) + tl.sum(tl.exp2(logit - higher[None, :]), 0)
            most = higher
    for first in range(0, N, TOKENS):
        n = first + tl.arange(0, TOKENS)
        value = _weighed(own, weights + own_place * N, n, c, N, C, own_channel, STREAM_ROW)
        if fovea_scale is not None:
            value = tl.exp2(value * scale - most[None, :]) / total[None, :] * value
        value += _weighed(other, weights + other_place * N, n, c, N, C, other_channel, STREAM_ROW)
        if old_rgb is not None:
            value += _weighed(old, weights + old_place * N, n, c, N, C, old_channel, OLD_ROW)
        to = out + ((i * batch + b).to(tl.int64) * N + n[:, None]) * C + c[None, :]
        inside = (n < N)[:, None] & (c < C)[None, :]
        tl.store(to, value.to(out.dtype.element_ty), mask=inside)

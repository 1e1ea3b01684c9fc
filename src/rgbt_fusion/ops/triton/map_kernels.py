"""The Triton kernel of a narrow prompt layer: attention and blend within a map, one launch for all maps.

One program has one map, template or search region, of one sample. All arithmetic is float32.
"""

import triton
import triton.language as tl

from rgbt_fusion.ops.triton.scan_kernels import sigmoid

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _column(x, at, channel, inside, WIDTH: tl.constexpr):
    return tl.load(x + at * WIDTH + channel, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def prompt_map_kernel(
    x,
    y,
    first,
    first_bias,
    gate,
    gate_bias,
    enhanced,
    out,
    T,
    L,
    WIDTH: tl.constexpr,
    DIM: tl.constexpr,
    KEYS: tl.constexpr,
    HIDDEN: tl.constexpr,
    LENGTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Let the tokens of one map read from its prompts, and blend what they were with what they are.

    ``x`` and ``y`` are ``(B, L, 2 DIM + KEYS)``: tokens in the first DIM columns and queries in the
    last ones, values in the second DIM columns and keys in the last ones.
    """
    is_search = tl.program_id(0)
    b = tl.program_id(1)
    start = is_search * T
    n = tl.where(is_search == 1, L - T, T)
    row = tl.cast(b, tl.int64) * L + start
    x += row * WIDTH
    y += row * WIDTH
    enhanced += row * DIM
    out += row * DIM
    j = tl.arange(0, LENGTH)
    there = j < n
    for i0 in range(0, n, ROWS):
        i = i0 + tl.arange(0, ROWS)
        here = i < n
        score = tl.zeros((ROWS, LENGTH), tl.float32)
        for k in tl.static_range(KEYS):
            query = _column(x, i, 2 * DIM + k, here, WIDTH)
            key = _column(y, j, 2 * DIM + k, there, WIDTH)
            score += query[:, None] * key[None, :]
        score = tl.where(there[None, :], score, float("-inf"))
        most = tl.max(score, 1)
        weight = tl.exp2((score - most[:, None]) * LOG2E)
        total = tl.sum(weight, 1)
        for c in tl.static_range(DIM):
            value = _column(y, j, DIM + c, there, WIDTH)
            read = tl.sum(weight * value[None, :], 1) / total
            own = _column(x, i, c, here, WIDTH)
            tl.store(enhanced + i * DIM + c, own + read, mask=here)
    # other lanes wrote what is read from here on
    tl.debug_barrier()
    h = tl.arange(0, HIDDEN)
    hidden = tl.load(first_bias + h).to(tl.float32)
    for c in tl.static_range(DIM):
        mean = tl.sum(_column(x, j, c, there, WIDTH), 0) / n
        enhanced_mean = tl.sum(_column(enhanced, j, c, there, DIM), 0) / n
        hidden += mean * tl.load(first + h * 2 * DIM + c).to(tl.float32)
        hidden += enhanced_mean * tl.load(first + h * 2 * DIM + DIM + c).to(tl.float32)
    logit = tl.sum(tl.maximum(hidden, 0.0) * tl.load(gate + h).to(tl.float32), 0)
    share = sigmoid(logit + tl.load(gate_bias).to(tl.float32))
    for c in tl.static_range(DIM):
        own = _column(x, j, c, there, WIDTH)
        more = _column(enhanced, j, c, there, DIM)
        value = own + share * (more - own)
        tl.store(out + j * DIM + c, value.to(out.dtype.element_ty), mask=there)

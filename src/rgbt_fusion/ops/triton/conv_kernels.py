"""Triton kernels of the causal depthwise convolution with SiLU, forward and backward.

One program is one warp with four channels a lane. It walks its stretch of the sequence eight steps
at a time, all rows of the window in registers, so every token is read once from memory and a few
times from the cache. The taps follow the scan order: the rows before a segment are the last rows of
the segment that comes before it in the order.
"""

import triton
import triton.language as tl

from rgbt_fusion.ops.triton.scan_kernels import base, place, row_of, sigmoid


@triton.jit
def _window(order, t, segment, L, COUNT: tl.constexpr, SPAN: tl.constexpr):
    """Rows of COUNT steps from ``t``, both multiples of four.

    Steps outside the sequence get the row of one inside.
    """
    rows = ()
    for quad in tl.static_range(0, COUNT, 4):
        if SPAN == 1:
            for k in tl.static_range(4):
                rows = rows + (
                    row_of(order, tl.minimum(tl.maximum(t + quad + k, 0), L - 1), segment),
                )
        else:
            row = row_of(order, tl.minimum(tl.maximum(t + quad, 0), L - 1), segment)
            for k in tl.static_range(4):
                rows = rows + (tl.minimum(row + k, L - 1),)
    return rows


@triton.jit
def _inside(live, t, L):
    step = tl.full(live.shape, t, tl.int32)
    return live & (step >= 0) & (step < L)


@triton.jit
def _taps(weight, d, live, W: tl.constexpr):
    taps = ()
    for w in tl.static_range(W):
        taps = taps + (tl.load(weight + d * W + w, mask=live, other=0.0),)
    return taps


@triton.jit
def _convolve(taps, xs, bias, j, W: tl.constexpr):
    """The sum over the taps of the window that starts at ``xs[j]``."""
    y = taps[0] * xs[j]
    for w in tl.static_range(1, W):
        y += taps[w] * xs[j + w]
    if bias is not None:
        y += bias
    return y


@triton.jit
def conv_forward_kernel(
    x,
    weight,
    bias,
    order,
    out,
    L,
    D,
    tiles,
    chunks,
    batch,
    chunk_steps,
    segment,
    x_r,
    x_b,
    x_d,
    out_r,
    out_b,
    out_d,
    weight_r,
    bias_r,
    order_r,
    order_b,
    X_ROW: tl.constexpr,
    OUT_ROW: tl.constexpr,
    W: tl.constexpr,
    HALO: tl.constexpr,
    STEPS: tl.constexpr,
    TILE: tl.constexpr,
    SILU: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Convolve one stretch of the sequence. HALO is W - 1, rounded up to whole quads."""
    tile, chunk, b, r = place(tiles, chunks, batch)
    d = tile * TILE + tl.arange(0, TILE)
    live = d < D
    x = base(x, r, b, x_r, x_b)
    out = base(out, r, b, out_r, out_b)
    taps = _taps(weight + r * weight_r, d, live, W)
    if bias is not None:
        bias = tl.load(bias + r * bias_r + d, mask=live, other=0.0)
    if order is not None:
        order += r * order_r + b * order_b
    FIRST: tl.constexpr = HALO - W + 1
    for t in range(chunk * chunk_steps, tl.minimum((chunk + 1) * chunk_steps, L), STEPS):
        rows = _window(order, t - HALO, segment, L, HALO + STEPS, SPAN)
        xs = ()
        for j in tl.static_range(FIRST, HALO + STEPS):
            value = tl.load(
                x + rows[j] * X_ROW + d.to(tl.int64) * x_d,
                mask=_inside(live, t - HALO + j, L),
                other=0.0,
            )
            xs = xs + (value.to(tl.float32),)
        for k in tl.static_range(STEPS):
            y = _convolve(taps, xs, bias, k, W)
            if SILU:
                y = y * sigmoid(y)
            to = out + rows[HALO + k] * OUT_ROW + d.to(tl.int64) * out_d
            tl.store(to, y.to(out.dtype.element_ty), mask=_inside(live, t + k, L))


@triton.jit
def conv_backward_kernel(
    x,
    weight,
    bias,
    order,
    grad_out,
    dx,
    dweight,
    dbias,
    L,
    D,
    tiles,
    chunks,
    batch,
    chunk_steps,
    segment,
    x_r,
    x_b,
    x_d,
    grad_r,
    grad_b,
    grad_d,
    dx_r,
    dx_b,
    dx_d,
    weight_r,
    bias_r,
    order_r,
    order_b,
    X_ROW: tl.constexpr,
    GRAD_ROW: tl.constexpr,
    DX_ROW: tl.constexpr,
    W: tl.constexpr,
    HALO: tl.constexpr,
    STEPS: tl.constexpr,
    TILE: tl.constexpr,
    SILU: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Gradients of one stretch.

    The W - 1 steps after it are convolved again, but do not count for dweight.
    """
    tile, chunk, b, r = place(tiles, chunks, batch)
    d = tile * TILE + tl.arange(0, TILE)
    live = d < D
    x = base(x, r, b, x_r, x_b)
    grad_out = base(grad_out, r, b, grad_r, grad_b)
    dx = base(dx, r, b, dx_r, dx_b)
    taps = _taps(weight + r * weight_r, d, live, W)
    if bias is not None:
        bias = tl.load(bias + r * bias_r + d, mask=live, other=0.0)
    if order is not None:
        order += r * order_r + b * order_b
    dtaps = ()
    for _ in tl.static_range(W):
        dtaps = dtaps + (tl.zeros((TILE,), tl.float32),)
    dbias_sum = tl.zeros((TILE,), tl.float32)
    FIRST: tl.constexpr = HALO - W + 1
    for t in range(chunk * chunk_steps, tl.minimum((chunk + 1) * chunk_steps, L), STEPS):
        rows = _window(order, t - HALO, segment, L, HALO + STEPS + HALO, SPAN)
        xs = ()
        dys = ()
        for j in tl.static_range(FIRST, HALO + STEPS + W - 1):
            inside = _inside(live, t - HALO + j, L)
            xs = xs + (
                tl.load(x + rows[j] * X_ROW + d.to(tl.int64) * x_d, mask=inside, other=0.0).to(
                    tl.float32
                ),
            )
            if j >= HALO:
                dy = tl.load(
                    grad_out + rows[j] * GRAD_ROW + d.to(tl.int64) * grad_d, mask=inside, other=0.0
                )
                dys = dys + (dy.to(tl.float32),)
        dpres = ()
        for k in tl.static_range(STEPS + W - 1):
            dpre = dys[k]
            if SILU:
                y = _convolve(taps, xs, bias, k, W)
                gate = sigmoid(y)
                dpre = dpre * gate * (1.0 + y * (1.0 - gate))
            dpres = dpres + (dpre,)
        for k in tl.static_range(STEPS):
            to = dx + rows[HALO + k] * DX_ROW + d.to(tl.int64) * dx_d
            value = _convolve_back(taps, dpres, k, W)
            tl.store(to, value.to(dx.dtype.element_ty), mask=_inside(live, t + k, L))
        more = ()
        for w in tl.static_range(W):
            total = dtaps[w]
            for k in tl.static_range(STEPS):
                total += dpres[k] * xs[k + w]
            more = more + (total,)
        dtaps = more
        for k in tl.static_range(STEPS):
            dbias_sum += dpres[k]
    own = ((r * batch + b).to(tl.int64) * chunks + chunk) * D
    for w in tl.static_range(W):
        tl.store(dweight + (own + d) * W + w, dtaps[w], mask=live)
    if dbias is not None:
        tl.store(dbias + own + d, dbias_sum, mask=live)


@triton.jit
def _convolve_back(taps, dpres, k, W: tl.constexpr):
    """dx_t = sum_w weight_w dpre_{t + W - 1 - w}"""
    dx = taps[W - 1] * dpres[k]
    for w in tl.static_range(1, W):
        dx += taps[W - 1 - w] * dpres[k + w]
    return dx

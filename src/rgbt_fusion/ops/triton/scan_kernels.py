"""Triton kernels of the selective scan, forward and backward.

One program is one warp. It owns a tile of channels of one direction of one sample and walks its
tokens one by one; the states stay in registers, a tile ``(NP, TILE)`` in float32. Steps come in
*quads* (loads of four steps first, their stores last) inside *blocks* of 64, at whose starts the
state is kept for the backward pass.

* A is read as it lies in memory, states fastest. That gives a lane four states of four channels,
  and every tile in the loop inherits it: B and C cost a lane eight conversions a step, and most of
  a sum stays inside a lane.
* The rest of a sum crosses lanes by one turn through shared memory, because ``tl.split`` wants its
  two halves in one lane; that takes about a third of the instructions of a shuffle tree.
* Row strides are compile-time constants: the addresses inside a quad become immediates of the
  loads.
* The backward kernel does all that needs only the states (y, dC, the gate) in its pass forward over
  a block, and all that needs the adjoint in its pass back. It is short of registers, so it runs two
  of four states twice.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _exp(x):
    return tl.exp2(x * LOG2E)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + _exp(-x))


@triton.jit
def _log1p_unit(e):
    """log(1 + e) on [0, 1], relative error 2e-7.

    The minimax polynomial of log(1 + e) / e with value 1 at 0.
    """
    p = 0.005364738870412111
    p = p * e - 0.030065450817346573
    p = p * e + 0.07920397818088531
    p = p * e - 0.13753755390644073
    p = p * e + 0.1915363371372223
    p = p * e - 0.24857157468795776
    p = p * e + 0.333213210105896
    p = p * e - 0.49999648332595825
    return (p * e + 1.0) * e


@triton.jit
def _step_size(delta, bias, t, L, SOFTPLUS: tl.constexpr, EVEN: tl.constexpr):
    """dt = softplus(delta + bias), or delta + bias; 0 past the end.

    Accurate for very negative arguments too.
    """
    dt, _ = _step_size_and_slope(delta, bias, t, L, SOFTPLUS, EVEN)
    return dt


@triton.jit
def _step_size_and_slope(delta, bias, t, L, SOFTPLUS: tl.constexpr, EVEN: tl.constexpr):
    """dt and its derivative by delta, from one exponential.

    A step with dt = 0 leaves the state as it is.
    """
    dt = delta.to(tl.float32)
    if bias is not None:
        dt += bias
    slope = tl.full(dt.shape, 1.0, tl.float32)
    if SOFTPLUS:
        e = _exp(-tl.abs(dt))
        slope = tl.where(dt > 0, 1.0, e) / (1.0 + e)
        dt = tl.maximum(dt, 0.0) + _log1p_unit(e)
    if not EVEN:
        dt = tl.where(t < L, dt, 0.0)
        slope = tl.where(t < L, slope, 0.0)
    return dt, slope


@triton.jit
def place(tiles, chunks, batch):
    """Tile of channels, chunk of the sequence, sample and direction of this program."""
    p = tl.program_id(0)
    tile = p % tiles
    p = p // tiles
    chunk = p % chunks
    p = p // chunks
    return tile, chunk, p % batch, p // batch


@triton.jit
def _channels(tile, per_group, TILE: tl.constexpr):
    """Group, channels and which of them exist.

    A tile lies in one group; lanes past its end repeat the last channel.
    """
    tiles = tl.cdiv(per_group, TILE)
    group = tile // tiles
    i = (tile % tiles) * TILE + tl.arange(0, TILE)
    return group, (group * per_group + tl.minimum(i, per_group - 1)).to(tl.int64), i < per_group


@triton.jit
def base(x, r, b, x_r, x_b):
    """Pointers to row 0 of the channels ``d``, or of a scalar, in one direction of one sample."""
    return x + r.to(tl.int64) * x_r + b.to(tl.int64) * x_b


@triton.jit
def row_of(order, t, segment):
    """The row that step ``t`` of the scan visits."""
    if order is None:
        row = tl.cast(t, tl.int64)
    else:
        s = t // segment
        row = tl.load(order + s) * segment + (t - s * segment)
    return row


@triton.jit
def _quad_rows(order, block_row, t, quad, segment, L, SPAN: tl.constexpr, EVEN: tl.constexpr):
    """Rows of the four steps from ``t``; SPAN consecutive steps lie in consecutive rows."""
    rows = ()
    if SPAN == 1:
        for k in tl.static_range(4):
            rows = rows + (row_of(order, tl.minimum(t + k, L - 1), segment),)
    else:
        if SPAN == 4:
            row = row_of(order, t, segment)
        else:
            row = block_row + quad * 4
        for k in tl.static_range(4):
            if EVEN:
                rows = rows + (row + k,)
            else:
                rows = rows + (tl.minimum(row + k, L - 1),)
    return rows


@triton.jit
def _load_tile(x, d, N: tl.constexpr, NP: tl.constexpr):
    """Read ``(D, N)`` memory as a ``(NP, TILE)`` tile, padded with zeros."""
    n = tl.arange(0, NP)[:, None]
    if N == NP:
        tile = tl.load(x + d[None, :] * N + n)
    else:
        tile = tl.load(x + d[None, :] * N + n, mask=n < N, other=0.0)
    return tile


@triton.jit
def _store_tile(x, tile, d, live, N: tl.constexpr, NP: tl.constexpr):
    """Write a ``(NP, TILE)`` tile to ``(D, N)`` memory."""
    n = tl.arange(0, NP)[:, None]
    tl.store(x + d[None, :] * N + n, tile, mask=live[None, :] & (n < N))


@triton.jit
def _states(x, row, x_n, ROW: tl.constexpr, N: tl.constexpr, NP: tl.constexpr):
    """B or C of one step, ``(NP,)``."""
    n = tl.arange(0, NP)
    if N == NP:
        value = tl.load(x + row * ROW + n * x_n)
    else:
        value = tl.load(x + row * ROW + n * x_n, mask=n < N, other=0.0)
    return value


@triton.jit
def _four_states(x, rows, x_n, ROW: tl.constexpr, N: tl.constexpr, NP: tl.constexpr):
    values = ()
    for k in tl.static_range(4):
        values = values + (_states(x, rows[k], x_n, ROW, N, NP),)
    return values


@triton.jit
def _four_tokens(x, d, rows, ROW: tl.constexpr):
    values = ()
    if x is not None:
        for k in tl.static_range(4):
            values = values + (tl.load(x + rows[k] * ROW + d),)
    return values


@triton.jit
def _column(value):
    return value.to(tl.float32)[:, None]


@triton.jit
def _token(x, d, row, ROW: tl.constexpr):
    return tl.load(x + row * ROW + d).to(tl.float32)


@triton.jit
def _within(live, t, L, EVEN: tl.constexpr):
    """Which channels to write at step ``t``: all that exist, unless ``t`` is past the end."""
    if not EVEN:
        live = live & (tl.full(live.shape, t, tl.int32) < L)
    return live


@triton.jit
def _put(x, d, row, value, keep, ROW: tl.constexpr):
    tl.store(x + row * ROW + d, value.to(x.dtype.element_ty), mask=keep)


@triton.jit
def _over_states(x, NP: tl.constexpr, TILE: tl.constexpr):
    """The part of a sum over states that lies inside a lane: ``(NP / 4, TILE)``."""
    return tl.sum(tl.reshape(x, (NP // 4, 4, TILE)), 1)


@triton.jit
def _over_channels(x, NP: tl.constexpr, TILE: tl.constexpr):
    """The part of a sum over channels that lies inside a lane: ``(NP, TILE / 4)``."""
    return tl.sum(tl.reshape(x, (NP, 4, TILE // 4)), 1)


@triton.jit
def _finish_states(x, y, NP: tl.constexpr, TILE: tl.constexpr):
    """The rest of two sums over states: two ``(TILE,)``."""
    PARTS: tl.constexpr = NP // 4
    if PARTS == 1:
        total = tl.join(tl.reshape(x, (TILE,)), tl.reshape(y, (TILE,)))
    else:
        xy = tl.permute(tl.reshape(tl.join(x, y), (PARTS // 2, 2, TILE, 2)), (0, 3, 2, 1))
        even, odd = tl.split(tl.reshape(xy, (PARTS // 2, 2 * TILE, 2)))
        total = tl.permute(tl.reshape(tl.sum(even + odd, 0), (2, TILE)), (1, 0))
    return tl.split(total)


@triton.jit
def _finish_channels(x, y, NP: tl.constexpr, TILE: tl.constexpr):
    """The rest of two sums over channels: ``(2 NP,)``, the states of x, then those of y."""
    LANES: tl.constexpr = TILE // 4
    if LANES == 1:
        total = tl.reshape(tl.permute(tl.join(x, y), (2, 0, 1)), (2 * NP,))
    else:
        xy = tl.permute(tl.reshape(tl.join(x, y), (NP, LANES // 2, 2, 2)), (1, 3, 0, 2))
        even, odd = tl.split(tl.reshape(xy, (LANES // 2, 2 * NP, 2)))
        total = tl.sum(even + odd, 0)
    return total


@triton.jit
def _put_pair(
    x, row, next_row, value, t, L, NP: tl.constexpr, SPAN: tl.constexpr, EVEN: tl.constexpr
):
    """Store the sums of two steps, ``(2 NP,)``, to two rows of NP."""
    i = tl.arange(0, 2 * NP)
    if SPAN > 1 and EVEN:
        tl.store(x + row * NP + i, value)
    else:
        second = i >= NP
        tl.store(
            x + tl.where(second, next_row - 1, row) * NP + i,
            value,
            mask=t + second.to(tl.int32) < L,
        )


@triton.jit
def forward_summary_kernel(
    u,
    delta,
    A,
    B,
    bias,
    order,
    chunk_states,
    chunk_steps,
    L,
    D,
    per_group,
    tiles,
    chunks,
    batch,
    chunk_blocks,
    segment,
    u_r,
    u_b,
    u_d,
    delta_r,
    delta_b,
    delta_d,
    B_r,
    B_b,
    B_g,
    B_n,
    A_r,
    bias_r,
    order_r,
    order_b,
    U_ROW: tl.constexpr,
    DELTA_ROW: tl.constexpr,
    B_ROW: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    SPAN: tl.constexpr,
    EVEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What one chunk adds to the state that passes through it, and the sum of its step sizes.

    Its decay is exp(A sum dt).
    """
    tile, chunk, b, r = place(tiles, chunks, batch)
    group, d, live = _channels(tile, per_group, TILE)
    A = _load_tile(A + r * A_r, d, N, NP) * LOG2E
    u = base(u, r, b, u_r, u_b)
    delta = base(delta, r, b, delta_r, delta_b)
    B = base(B, r, b, B_r, B_b) + group.to(tl.int64) * B_g
    if bias is not None:
        bias = tl.load(bias + r * bias_r + d)
    if order is not None:
        order += r * order_r + b * order_b
    h = A * 0.0
    steps = tl.zeros((TILE,), tl.float32)
    for block in range(
        chunk * chunk_blocks, tl.minimum((chunk + 1) * chunk_blocks, tl.cdiv(L, BLOCK))
    ):
        block_row = row_of(order, block * BLOCK, segment)
        for quad in range(tl.cdiv(tl.minimum(BLOCK, L - block * BLOCK), 4)):
            t = block * BLOCK + quad * 4
            rows = _quad_rows(order, block_row, t, quad, segment, L, SPAN, EVEN)
            us = _four_tokens(u, d * u_d, rows, U_ROW)
            deltas = _four_tokens(delta, d * delta_d, rows, DELTA_ROW)
            Bs = _four_states(B, rows, B_n, B_ROW, N, NP)
            for k in tl.static_range(4):
                dt = _step_size(deltas[k], bias, t + k, L, SOFTPLUS, EVEN)
                steps += dt
                h = tl.exp2(dt[None, :] * A) * h + (dt * us[k].to(tl.float32))[None, :] * _column(
                    Bs[k]
                )
    at = ((r * batch + b).to(tl.int64) * chunks + chunk) * D
    _store_tile(chunk_states + at * N, h, d, live, N, NP)
    tl.store(chunk_steps + at + d, steps, mask=live)


# Where _fetch puts what it loads: four steps of u, then of delta, B, C and z.
FETCHED_DELTA = tl.constexpr(4)
FETCHED_B = tl.constexpr(8)
FETCHED_C = tl.constexpr(12)
FETCHED_Z = tl.constexpr(16)


@triton.jit
def _fetch(
    u,
    delta,
    B,
    C,
    z,
    d,
    rows,
    u_d,
    delta_d,
    B_n,
    C_n,
    z_d,
    U_ROW: tl.constexpr,
    DELTA_ROW: tl.constexpr,
    B_ROW: tl.constexpr,
    C_ROW: tl.constexpr,
    Z_ROW: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
):
    """Load what four steps need: u, delta, B, C and z (if any) of each, in this order."""
    return (
        _four_tokens(u, d * u_d, rows, U_ROW)
        + _four_tokens(delta, d * delta_d, rows, DELTA_ROW)
        + _four_states(B, rows, B_n, B_ROW, N, NP)
        + _four_states(C, rows, C_n, C_ROW, N, NP)
        + _four_tokens(z, d * z_d, rows, Z_ROW)
    )


@triton.jit
def _in_float32(fetched, z):
    """Convert what _fetch loaded, except delta, which the step size converts; B and C become columns."""
    us = ()
    deltas = ()
    Bs = ()
    Cs = ()
    zs = ()
    for k in tl.static_range(4):
        us = us + (fetched[k].to(tl.float32),)
        deltas = deltas + (fetched[FETCHED_DELTA + k],)
        Bs = Bs + (_column(fetched[FETCHED_B + k]),)
        Cs = Cs + (_column(fetched[FETCHED_C + k]),)
        if z is not None:
            zs = zs + (fetched[FETCHED_Z + k].to(tl.float32),)
    return us + deltas + Bs + Cs + zs


@triton.jit
def _keep_state(
    checkpoints, h, d, live, sequence, block, blocks, D, N: tl.constexpr, NP: tl.constexpr
):
    """Store the state at the start of a block."""
    n = tl.arange(0, NP)[:, None]
    kept = checkpoints + ((sequence * blocks + block) * N + n) * D + d[None, :]
    tl.store(kept, h, mask=live[None, :] & (n < N))


@triton.jit
def _two_steps(
    h,
    A,
    values,
    readout,
    bias,
    t,
    L,
    P: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Take steps P and P + 1 of a quad: the state after them, and what each reads from its state."""
    reads = ()
    for k in tl.static_range(P, P + 2):
        dt = _step_size(values[FETCHED_DELTA + k], bias, t + k, L, SOFTPLUS, EVEN)
        h = tl.exp2(dt[None, :] * A) * h + (dt * values[k])[None, :] * values[FETCHED_B + k]
        if readout is not None:
            reads = reads + (_over_states(h * (values[FETCHED_C + k] * readout), NP, TILE),)
        else:
            reads = reads + (_over_states(h * values[FETCHED_C + k], NP, TILE),)
    first, second = _finish_states(reads[0], reads[1], NP, TILE)
    return h, first, second


@triton.jit
def _put_four(
    out, at, rows, ys, values, skip, z, live, t, L, OUT_ROW: tl.constexpr, EVEN: tl.constexpr
):
    """Add the skip connection to four readings, gate them and store them."""
    for k in tl.static_range(4):
        y = ys[k]
        if skip is not None:
            y += skip * values[k]
        if z is not None:
            gate = values[FETCHED_Z + k]
            y = y * gate / (1.0 + _exp(-gate))
        _put(out, at, rows[k], y, _within(live, t + k, L, EVEN), OUT_ROW)


@triton.jit
def scan_forward_kernel(
    u,
    delta,
    A,
    B,
    C,
    readout,
    skip,
    z,
    bias,
    order,
    start,
    chunk_states,
    chunk_steps,
    checkpoints,
    out,
    last,
    L,
    D,
    per_group,
    tiles,
    chunks,
    batch,
    chunk_blocks,
    segment,
    u_r,
    u_b,
    u_d,
    delta_r,
    delta_b,
    delta_d,
    z_r,
    z_b,
    z_d,
    out_r,
    out_b,
    out_d,
    B_r,
    B_b,
    B_g,
    B_n,
    C_r,
    C_b,
    C_g,
    C_n,
    A_r,
    readout_r,
    skip_r,
    bias_r,
    order_r,
    order_b,
    start_r,
    U_ROW: tl.constexpr,
    DELTA_ROW: tl.constexpr,
    Z_ROW: tl.constexpr,
    OUT_ROW: tl.constexpr,
    B_ROW: tl.constexpr,
    C_ROW: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    SPAN: tl.constexpr,
    EVEN: tl.constexpr,
    BLOCK: tl.constexpr,
    KEEP_EVERY: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """Scan one chunk of the sequence, or all of it.

    With ``chunk_steps`` the chunk finds the state that it starts from itself, from what the chunks
    before it add; without, ``chunk_states`` holds it. The state is kept at the start of every
    KEEP_EVERY-th block. AHEAD loads a quad before the one in front of it is computed.
    """
    tile, chunk, b, r = place(tiles, chunks, batch)
    group, d, live = _channels(tile, per_group, TILE)
    sequence = (r * batch + b).to(tl.int64)
    A = _load_tile(A + r * A_r, d, N, NP) * LOG2E
    u = base(u, r, b, u_r, u_b)
    delta = base(delta, r, b, delta_r, delta_b)
    B = base(B, r, b, B_r, B_b) + group.to(tl.int64) * B_g
    C = base(C, r, b, C_r, C_b) + group.to(tl.int64) * C_g
    out = base(out, r, b, out_r, out_b)
    if readout is not None:
        readout = _load_tile(readout + r * readout_r, d, N, NP)
    if skip is not None:
        skip = tl.load(skip + r * skip_r + d)
    if z is not None:
        z = base(z, r, b, z_r, z_b)
    if bias is not None:
        bias = tl.load(bias + r * bias_r + d)
    if order is not None:
        order += r * order_r + b * order_b
    if chunk_states is not None and chunk_steps is None:
        h = _load_tile(chunk_states + (sequence * chunks + chunk) * D * N, d, N, NP)
    elif start is not None:
        h = _load_tile(start + r * start_r + b.to(tl.int64) * D * N, d, N, NP)
    else:
        h = A * 0.0
    if chunk_steps is not None:
        origin = sequence * chunks * D
        h = _state_before(h, A, chunk_states, chunk_steps, d, origin, chunk, D, N, NP)

    blocks = tl.cdiv(L, BLOCK)
    for block in range(chunk * chunk_blocks, tl.minimum((chunk + 1) * chunk_blocks, blocks)):
        if checkpoints is not None:
            if KEEP_EVERY == 1:
                _keep_state(checkpoints, h, d, live, sequence, block, blocks, D, N, NP)
            elif block % KEEP_EVERY == 0:
                kept = tl.cdiv(blocks, KEEP_EVERY)
                at = block // KEEP_EVERY
                _keep_state(checkpoints, h, d, live, sequence, at, kept, D, N, NP)
        block_row = row_of(order, block * BLOCK, segment)
        quads = tl.cdiv(tl.minimum(BLOCK, L - block * BLOCK), 4)
        if AHEAD:
            next_rows = _quad_rows(order, block_row, block * BLOCK, 0, segment, L, SPAN, EVEN)
            fetched = _fetch(
                u,
                delta,
                B,
                C,
                z,
                d,
                next_rows,
                u_d,
                delta_d,
                B_n,
                C_n,
                z_d,
                U_ROW,
                DELTA_ROW,
                B_ROW,
                C_ROW,
                Z_ROW,
                N,
                NP,
            )
        for quad in range(quads):
            t = block * BLOCK + quad * 4
            if AHEAD:
                rows = next_rows
            else:
                rows = _quad_rows(order, block_row, t, quad, segment, L, SPAN, EVEN)
                fetched = _fetch(
                    u,
                    delta,
                    B,
                    C,
                    z,
                    d,
                    rows,
                    u_d,
                    delta_d,
                    B_n,
                    C_n,
                    z_d,
                    U_ROW,
                    DELTA_ROW,
                    B_ROW,
                    C_ROW,
                    Z_ROW,
                    N,
                    NP,
                )
            values = _in_float32(fetched, z)
            if AHEAD:
                following = tl.minimum(quad + 1, quads - 1)
                next_t = block * BLOCK + following * 4
                next_rows = _quad_rows(order, block_row, next_t, following, segment, L, SPAN, EVEN)
                fetched = _fetch(
                    u,
                    delta,
                    B,
                    C,
                    z,
                    d,
                    next_rows,
                    u_d,
                    delta_d,
                    B_n,
                    C_n,
                    z_d,
                    U_ROW,
                    DELTA_ROW,
                    B_ROW,
                    C_ROW,
                    Z_ROW,
                    N,
                    NP,
                )
            ys = ()
            for p in tl.static_range(0, 4, 2):
                h, first, second = _two_steps(
                    h, A, values, readout, bias, t, L, p, NP, TILE, SOFTPLUS, EVEN
                )
                ys = ys + (first, second)
            _put_four(out, d * out_d, rows, ys, values, skip, z, live, t, L, OUT_ROW, EVEN)
    if chunk == chunks - 1:
        _store_tile(last + sequence * D * N, h, d, live, N, NP)


@triton.jit
def chunk_scan_kernel(
    A,
    start,
    chunk_states,
    chunk_steps,
    chunk_starts,
    D,
    per_group,
    tiles,
    chunks,
    batch,
    A_r,
    start_r,
    N: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """Turn what every chunk adds to a state into the state that it starts from.

    It is written elsewhere: several lanes may hold the same channel, and none waits for another.
    """
    tile, _, b, r = place(tiles, 1, batch)
    _, d, live = _channels(tile, per_group, TILE)
    sequence = (r * batch + b).to(tl.int64)
    A = _load_tile(A + r * A_r, d, N, NP) * LOG2E
    h = A * 0.0
    if start is not None:
        h = _load_tile(start + r * start_r + b.to(tl.int64) * D * N, d, N, NP)
    for i in range(chunks):
        chunk = i
        if REVERSE:
            chunk = chunks - 1 - i
        at = (sequence * chunks + chunk) * D
        added = _load_tile(chunk_states + at * N, d, N, NP)
        steps = tl.load(chunk_steps + at + d)
        _store_tile(chunk_starts + at * N, h, d, live, N, NP)
        h = tl.exp2(steps[None, :] * A) * h + added


@triton.jit
def _past_chunks(
    h,
    A,
    chunk_states,
    chunk_steps,
    d,
    at,
    D,
    COUNT: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
):
    """The state behind COUNT chunks, all loaded before the first is used."""
    added = ()
    decays = ()
    for k in tl.static_range(COUNT):
        added = added + (_load_tile(chunk_states + (at + k * D) * N, d, N, NP),)
        decays = decays + (tl.load(chunk_steps + at + k * D + d),)
    for k in tl.static_range(COUNT):
        h = tl.exp2(decays[k][None, :] * A) * h + added[k]
    return h


@triton.jit
def _state_before(
    h,
    A,
    chunk_states,
    chunk_steps,
    d,
    origin,
    chunk,
    D,
    N: tl.constexpr,
    NP: tl.constexpr,
):
    """The state in front of a chunk, from what the chunks before it add to ``h``."""
    for i in range(chunk // 4):
        at = origin + i * 4 * D
        h = _past_chunks(h, A, chunk_states, chunk_steps, d, at, D, 4, N, NP)
    for i in range(chunk // 4 * 4, chunk):
        h = _past_chunks(h, A, chunk_states, chunk_steps, d, origin + i * D, D, 1, N, NP)
    return h


@triton.jit
def adjoint_summary_kernel(
    delta,
    A,
    C,
    readout,
    z,
    bias,
    order,
    grad_out,
    chunk_states,
    chunk_steps,
    L,
    D,
    per_group,
    tiles,
    chunks,
    batch,
    chunk_blocks,
    segment,
    delta_r,
    delta_b,
    delta_d,
    z_r,
    z_b,
    z_d,
    grad_r,
    grad_b,
    grad_d,
    C_r,
    C_b,
    C_g,
    C_n,
    A_r,
    readout_r,
    bias_r,
    order_r,
    order_b,
    DELTA_ROW: tl.constexpr,
    Z_ROW: tl.constexpr,
    GRAD_ROW: tl.constexpr,
    C_ROW: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    SPAN: tl.constexpr,
    EVEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What one chunk adds to the adjoint that passes back through it, and the sum of its steps."""
    tile, chunk, b, r = place(tiles, chunks, batch)
    group, d, live = _channels(tile, per_group, TILE)
    A = _load_tile(A + r * A_r, d, N, NP) * LOG2E
    delta = base(delta, r, b, delta_r, delta_b)
    grad_out = base(grad_out, r, b, grad_r, grad_b)
    C = base(C, r, b, C_r, C_b) + group.to(tl.int64) * C_g
    if readout is not None:
        readout = _load_tile(readout + r * readout_r, d, N, NP)
    if z is not None:
        z = base(z, r, b, z_r, z_b)
    if bias is not None:
        bias = tl.load(bias + r * bias_r + d)
    if order is not None:
        order += r * order_r + b * order_b
    g = A * 0.0
    steps = tl.zeros((TILE,), tl.float32)
    first = chunk * chunk_blocks
    count = tl.minimum(chunk_blocks, tl.cdiv(L, BLOCK) - first)
    for i in range(count):
        block = first + count - 1 - i
        block_row = row_of(order, block * BLOCK, segment)
        quads = tl.cdiv(tl.minimum(BLOCK, L - block * BLOCK), 4)
        for j in range(quads):
            quad = quads - 1 - j
            t = block * BLOCK + quad * 4
            rows = _quad_rows(order, block_row, t, quad, segment, L, SPAN, EVEN)
            deltas = _four_tokens(delta, d * delta_d, rows, DELTA_ROW)
            dys = _four_tokens(grad_out, d * grad_d, rows, GRAD_ROW)
            zs = _four_tokens(z, d * z_d, rows, Z_ROW)
            Cs = _four_states(C, rows, C_n, C_ROW, N, NP)
            for k in tl.static_range(3, -1, -1):
                dt = _step_size(deltas[k], bias, t + k, L, SOFTPLUS, EVEN)
                steps += dt
                dy = dys[k].to(tl.float32)
                if z is not None:
                    gate = zs[k].to(tl.float32)
                    dy = dy * gate * sigmoid(gate)
                if not EVEN:
                    dy = tl.where(t + k < L, dy, 0.0)
                weight = _column(Cs[k])
                if readout is not None:
                    weight = weight * readout
                g = tl.exp2(dt[None, :] * A) * (g + weight * dy[None, :])
    at = ((r * batch + b).to(tl.int64) * chunks + chunk) * D
    _store_tile(chunk_states + at * N, g, d, live, N, NP)
    tl.store(chunk_steps + at + d, steps, mask=live)


@triton.jit
def _within_tile_and_sequence(dy, live, t, L, WHOLE: tl.constexpr, EVEN: tl.constexpr):
    """A gradient in float32; zero for channels that do not exist and past the end."""
    dy = dy.to(tl.float32)
    if not WHOLE:
        dy = tl.where(live, dy, 0.0)
    if not EVEN:
        dy = tl.where(t < L, dy, 0.0)
    return dy


@triton.jit
def _checkpoint(checkpoints, kept, d, at, D, N: tl.constexpr, NP: tl.constexpr):
    """The state at the start of a block, in the layout of A.

    It goes through memory once to lose that of the checkpoints.
    """
    n = tl.arange(0, NP)[:, None]
    tl.debug_barrier()
    tl.store(kept, tl.load(checkpoints + (at * N + n) * D + d[None, :], mask=n < N, other=0.0))
    tl.debug_barrier()
    return tl.load(kept)


@triton.jit
def _two_states(
    h,
    A,
    us,
    deltas,
    dys,
    zs,
    Bs,
    Cs,
    readout,
    skip,
    bias,
    z,
    dreadout_sum,
    dskip_sum,
    dC,
    gated,
    rows,
    live,
    t,
    L,
    P: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    SPAN: tl.constexpr,
    EVEN: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Take steps P and P + 1 of a quad, and do all that needs only the states.

    That is dC, dreadout, dskip and the gate.
    """
    reads = ()
    dreads = ()
    for k in tl.static_range(P, P + 2):
        dt = _step_size(deltas[k], bias, t + k, L, SOFTPLUS, EVEN)
        uk = us[k].to(tl.float32)
        dy = _within_tile_and_sequence(dys[k], live, t + k, L, WHOLE, EVEN)
        if z is not None:
            gate = zs[k].to(tl.float32)
            dy = dy * gate * sigmoid(gate)
            tl.store(gated + k * TILE, dy)
        if skip is not None:
            dskip_sum += dy * uk
        h = tl.exp2((dt * LOG2E)[None, :] * A) * h + (dt * uk)[None, :] * _column(Bs[k])
        weight = _column(Cs[k])
        read = h
        if readout is not None:
            dreadout_sum += h * weight * dy[None, :]
            read = h * readout
        reads = reads + (_over_states(read * weight, NP, TILE),)
        dreads = dreads + (_over_channels(read * dy[None, :], NP, TILE),)
    dC_pair = _finish_channels(dreads[0], dreads[1], NP, TILE)
    _put_pair(dC, rows[P], rows[P + 1], dC_pair, t + P, L, NP, SPAN, EVEN)
    return h, dreadout_sum, dskip_sum, reads[0], reads[1]


@triton.jit
def _put_two_dz(
    dz,
    at,
    rows,
    reads,
    us,
    dys,
    zs,
    skip,
    live,
    t,
    L,
    P: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    EVEN: tl.constexpr,
    DZ_ROW: tl.constexpr,
):
    """Store the gradient of the gate at steps P and P + 1 of a quad."""
    ys = _finish_states(reads[0], reads[1], NP, TILE)
    for k in tl.static_range(P, P + 2):
        y = ys[k - P]
        if skip is not None:
            y += skip * us[k].to(tl.float32)
        gate = zs[k].to(tl.float32)
        open_ = sigmoid(gate)
        slope = open_ * (1.0 + gate * (1.0 - open_))
        keep = _within(live, t + k, L, EVEN)
        _put(dz, at, rows[k], dys[k].to(tl.float32) * y * slope, keep, DZ_ROW)


@triton.jit
def _two_adjoints(
    g,
    A,
    hs,
    us,
    Bs,
    weights,
    dys,
    dts,
    decays,
    dA_sum,
    dB,
    rows,
    t,
    L,
    P: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    SPAN: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Run the adjoint back over steps P + 1 and P of a quad and store their dB.

    Returns the adjoint before them, the sum for dA, and for each of the two steps the parts, inside
    a lane, of the gradients of its input and of its decay.
    """
    dinputs = ()
    ddecays = ()
    dBs = ()
    for k in tl.static_range(P + 1, P - 1, -1):
        g += weights[k - P] * dys[k - P][None, :]
        dBs = (_over_channels(g * (dts[k] * us[k - P])[None, :], NP, TILE),) + dBs
        dinputs = (_over_states(g * Bs[k - P], NP, TILE),) + dinputs
        g = g * decays[k]
        ddecay = g * hs[k - P]
        dA_sum += ddecay * dts[k][None, :]
        ddecays = (_over_states(ddecay * A, NP, TILE),) + ddecays
    dB_pair = _finish_channels(dBs[0], dBs[1], NP, TILE)
    _put_pair(dB, rows[P], rows[P + 1], dB_pair, t + P, L, NP, SPAN, EVEN)
    return g, dA_sum, dinputs[0], dinputs[1], ddecays[0], ddecays[1]


@triton.jit
def _put_two_gradients(
    du,
    ddelta,
    du_at,
    ddelta_at,
    rows,
    dinputs,
    ddecays,
    us,
    dts,
    slopes,
    dys,
    skip,
    dbias_sum,
    live,
    t,
    L,
    P: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    EVEN: tl.constexpr,
    DU_ROW: tl.constexpr,
    DDELTA_ROW: tl.constexpr,
):
    """Store the gradients of u and delta at steps P and P + 1 of a quad; return the sum for dbias."""
    for k in tl.static_range(P, P + 2):
        din, ddt = _finish_states(dinputs[k - P], ddecays[k - P], NP, TILE)
        ddt = (ddt + din * us[k - P]) * slopes[k]
        dx = din * dts[k]
        if skip is not None:
            dx += skip * dys[k - P]
        dbias_sum += ddt
        keep = _within(live, t + k, L, EVEN)
        _put(du, du_at, rows[k], dx, keep, DU_ROW)
        _put(ddelta, ddelta_at, rows[k], ddt, keep, DDELTA_ROW)
    return dbias_sum


@triton.jit
def scan_backward_kernel(
    u,
    delta,
    A,
    B,
    C,
    readout,
    skip,
    z,
    bias,
    order,
    checkpoints,
    last_adjoint,
    chunk_adjoints,
    grad_out,
    kept,
    gated,
    du,
    ddelta,
    dB,
    dC,
    dz,
    L,
    D,
    per_group,
    tiles,
    chunks,
    batch,
    chunk_blocks,
    segment,
    u_r,
    u_b,
    u_d,
    delta_r,
    delta_b,
    delta_d,
    z_r,
    z_b,
    z_d,
    grad_r,
    grad_b,
    grad_d,
    du_r,
    du_b,
    du_d,
    ddelta_r,
    ddelta_b,
    ddelta_d,
    dz_r,
    dz_b,
    dz_d,
    B_r,
    B_b,
    B_g,
    B_n,
    C_r,
    C_b,
    C_g,
    C_n,
    A_r,
    readout_r,
    skip_r,
    bias_r,
    order_r,
    order_b,
    U_ROW: tl.constexpr,
    DELTA_ROW: tl.constexpr,
    Z_ROW: tl.constexpr,
    GRAD_ROW: tl.constexpr,
    DU_ROW: tl.constexpr,
    DDELTA_ROW: tl.constexpr,
    DZ_ROW: tl.constexpr,
    B_ROW: tl.constexpr,
    C_ROW: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    SPAN: tl.constexpr,
    EVEN: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Run the adjoint through one chunk, last block first.

    g_{t-1} = exp(dt_t A) (g_t + C_t dy_t).

    In every block the states are run forward from the checkpoint and kept every four steps; then,
    last quad first, four states are run again from there and the adjoint is run back over them. dB
    and dC leave as one partial sum per tile. What a program adds up for its channels takes the place
    of its first kept states (dA, the gradient of the state that the chunk starts from, dreadout)
    and of its first gated gradients (dbias, dskip).
    """
    tile, chunk, b, r = place(tiles, chunks, batch)
    group, d, live = _channels(tile, per_group, TILE)
    sequence = (r * batch + b).to(tl.int64)
    A = _load_tile(A + r * A_r, d, N, NP)
    u = base(u, r, b, u_r, u_b)
    delta = base(delta, r, b, delta_r, delta_b)
    grad_out = base(grad_out, r, b, grad_r, grad_b)
    du = base(du, r, b, du_r, du_b)
    ddelta = base(ddelta, r, b, ddelta_r, ddelta_b)
    B = base(B, r, b, B_r, B_b) + group.to(tl.int64) * B_g
    C = base(C, r, b, C_r, C_b) + group.to(tl.int64) * C_g
    dB += (sequence * tiles + tile) * L * NP
    dC += (sequence * tiles + tile) * L * NP
    kept += (
        tl.program_id(0).to(tl.int64) * (BLOCK // 4 * NP * TILE)
        + tl.arange(0, TILE)[None, :] * NP
        + tl.arange(0, NP)[:, None]
    )
    gated += tl.program_id(0).to(tl.int64) * (BLOCK * TILE) + tl.arange(0, TILE)
    dA_sum = A * 0.0
    dreadout_sum = A * 0.0
    dbias_sum = tl.zeros((TILE,), tl.float32)
    dskip_sum = tl.zeros((TILE,), tl.float32)
    if z is not None:
        z = base(z, r, b, z_r, z_b)
        dz = base(dz, r, b, dz_r, dz_b)
    if bias is not None:
        bias = tl.load(bias + r * bias_r + d)
    if skip is not None:
        skip = tl.load(skip + r * skip_r + d)
    if readout is not None:
        readout = _load_tile(readout + r * readout_r, d, N, NP)
    if order is not None:
        order += r * order_r + b * order_b
    if chunk_adjoints is not None:
        g = _load_tile(chunk_adjoints + (sequence * chunks + chunk) * D * N, d, N, NP)
    elif last_adjoint is not None:
        g = _load_tile(last_adjoint + sequence * D * N, d, N, NP)
    else:
        g = A * 0.0
    if not WHOLE:
        g = tl.where(live[None, :], g, 0.0)

    blocks = tl.cdiv(L, BLOCK)
    first = chunk * chunk_blocks
    count = tl.minimum(chunk_blocks, blocks - first)
    for i in range(count):
        block = first + count - 1 - i
        block_row = row_of(order, block * BLOCK, segment)
        quads = tl.cdiv(tl.minimum(BLOCK, L - block * BLOCK), 4)
        h = _checkpoint(checkpoints, kept, d, sequence * blocks + block, D, N, NP)
        for quad in range(quads):
            t = block * BLOCK + quad * 4
            rows = _quad_rows(order, block_row, t, quad, segment, L, SPAN, EVEN)
            us = _four_tokens(u, d * u_d, rows, U_ROW)
            deltas = _four_tokens(delta, d * delta_d, rows, DELTA_ROW)
            dys = _four_tokens(grad_out, d * grad_d, rows, GRAD_ROW)
            zs = _four_tokens(z, d * z_d, rows, Z_ROW)
            Bs = _four_states(B, rows, B_n, B_ROW, N, NP)
            Cs = _four_states(C, rows, C_n, C_ROW, N, NP)
            tl.store(kept + quad * (NP * TILE), h)
            for p in tl.static_range(0, 4, 2):
                h, dreadout_sum, dskip_sum, read, next_read = _two_states(
                    h,
                    A,
                    us,
                    deltas,
                    dys,
                    zs,
                    Bs,
                    Cs,
                    readout,
                    skip,
                    bias,
                    z,
                    dreadout_sum,
                    dskip_sum,
                    dC,
                    gated + quad * (4 * TILE),
                    rows,
                    live,
                    t,
                    L,
                    p,
                    NP,
                    TILE,
                    SOFTPLUS,
                    SPAN,
                    EVEN,
                    WHOLE,
                )
                if z is not None:
                    _put_two_dz(
                        dz,
                        d * dz_d,
                        rows,
                        (read, next_read),
                        us,
                        dys,
                        zs,
                        skip,
                        live,
                        t,
                        L,
                        p,
                        NP,
                        TILE,
                        EVEN,
                        DZ_ROW,
                    )
        tl.debug_barrier()
        for j in range(quads):
            quad = quads - 1 - j
            t = block * BLOCK + quad * 4
            rows = _quad_rows(order, block_row, t, quad, segment, L, SPAN, EVEN)
            h = tl.load(kept + quad * (NP * TILE))
            deltas = _four_tokens(delta, d * delta_d, rows, DELTA_ROW)
            us = ()
            Bs = ()
            for k in tl.static_range(2):
                us = us + (_token(u, d * u_d, rows[k], U_ROW),)
                Bs = Bs + (_column(_states(B, rows[k], B_n, B_ROW, N, NP)),)
            dts = ()
            slopes = ()
            decays = ()
            for k in tl.static_range(4):
                dt, slope = _step_size_and_slope(deltas[k], bias, t + k, L, SOFTPLUS, EVEN)
                dts = dts + (dt,)
                slopes = slopes + (slope,)
                decays = decays + (tl.exp2((dt * LOG2E)[None, :] * A),)
                if k < 2:
                    h = decays[k] * h + (dt * us[k])[None, :] * Bs[k]
            for p in tl.static_range(2, -1, -2):
                us = ()
                Bs = ()
                weights = ()
                dys = ()
                for k in tl.static_range(p, p + 2):
                    us = us + (_token(u, d * u_d, rows[k], U_ROW),)
                    Bs = Bs + (_column(_states(B, rows[k], B_n, B_ROW, N, NP)),)
                    weight = _column(_states(C, rows[k], C_n, C_ROW, N, NP))
                    if readout is not None:
                        weight = weight * readout
                    weights = weights + (weight,)
                    if z is not None:
                        dy = tl.load(gated + (quad * 4 + k) * TILE)
                    else:
                        dy = _token(grad_out, d * grad_d, rows[k], GRAD_ROW)
                        dy = _within_tile_and_sequence(dy, live, t + k, L, WHOLE, EVEN)
                    dys = dys + (dy,)
                if p == 0:
                    h = tl.load(kept + quad * (NP * TILE))
                hs = (h, decays[p] * h + (dts[p] * us[0])[None, :] * Bs[0])
                g, dA_sum, dinput, next_dinput, ddecay, next_ddecay = _two_adjoints(
                    g,
                    A,
                    hs,
                    us,
                    Bs,
                    weights,
                    dys,
                    dts,
                    decays,
                    dA_sum,
                    dB,
                    rows,
                    t,
                    L,
                    p,
                    NP,
                    TILE,
                    SPAN,
                    EVEN,
                )
                dbias_sum = _put_two_gradients(
                    du,
                    ddelta,
                    d * du_d,
                    d * ddelta_d,
                    rows,
                    (dinput, next_dinput),
                    (ddecay, next_ddecay),
                    us,
                    dts,
                    slopes,
                    dys,
                    skip,
                    dbias_sum,
                    live,
                    t,
                    L,
                    p,
                    NP,
                    TILE,
                    EVEN,
                    DU_ROW,
                    DDELTA_ROW,
                )
    # The scratch is done with, and its pointers are at hand: what this program adds up stays there.
    tl.debug_barrier()
    tl.store(kept, dA_sum)
    tl.store(kept + NP * TILE, g)
    if readout is not None:
        tl.store(kept + 2 * NP * TILE, dreadout_sum)
    tl.store(gated, dbias_sum)
    if skip is not None:
        tl.store(gated + TILE, dskip_sum)

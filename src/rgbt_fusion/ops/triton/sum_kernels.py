"""The Triton kernel that adds up what the programs of the scan's backward kernel leave.

One launch writes the gradients of B, C and all parameters. Every sum has a fixed order.
"""

import triton
import triton.language as tl

AT_ONCE = tl.constexpr(4)
"""Loads that wait for memory together."""


@triton.jit
def _add_tiles(
    parts,
    grad,
    grad_r,
    grad_b,
    grad_row,
    grad_g,
    grad_n,
    r,
    b,
    group,
    stretch,
    L,
    tiles_per_group,
    batch,
    groups,
    directions,
    SHARED: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Add up ``(R, B, G, tiles, L, NP)`` over the tiles of channels, for some steps.

    Where the directions share a gradient, the programs of the first one add up all.
    """
    t = (stretch * ROWS + tl.arange(0, ROWS))[:, None]
    n = tl.arange(0, NP)[None, :]
    inside = (t < L) & (n < N)
    last = r + 1
    if SHARED:
        last = tl.where(r == 0, directions, r)
        inside = inside & (tl.full(inside.shape, r, tl.int32) == 0)
    total = tl.zeros((ROWS, NP), tl.float32)
    for q in range(r, last):
        first = tl.cast((q * batch + b) * groups + group, tl.int64) * tiles_per_group
        for tile in range(0, tiles_per_group, AT_ONCE):
            for k in tl.static_range(AT_ONCE):
                at = parts + (first + tile + k) * L * NP + t * NP + n
                exists = tl.full((ROWS, NP), tile + k, tl.int32) < tiles_per_group
                total += tl.load(at, mask=inside & exists, other=0.0)
    to = grad + r.to(tl.int64) * grad_r + b.to(tl.int64) * grad_b + group.to(tl.int64) * grad_g
    to += t.to(tl.int64) * grad_row + n * grad_n
    tl.store(to, total.to(grad.dtype.element_ty), mask=inside)


@triton.jit
def _add_programs(parts, total, first, last, tile, tiles, size):
    """Add up what the programs ``first`` to ``last`` of a tile left, ``size`` numbers apart."""
    for i in range(first, last, AT_ONCE):
        for k in tl.static_range(AT_ONCE):
            at = parts + (tl.cast(i + k, tl.int64) * tiles + tile) * size
            total += tl.load(at, mask=tl.full(total.shape, i + k, tl.int32) < last, other=0.0)
    return total


@triton.jit
def _add_parameter(
    parts, zeros, grad, inside, r, tile, tiles, each, directions, size, SHARED: tl.constexpr
):
    """Add up the gradient of a parameter over samples and chunks, ``each`` in one direction."""
    first = r * each
    last = first + each
    if SHARED:
        last = tl.where(r == 0, directions * each, first)
        inside = inside & (tl.full(inside.shape, r, tl.int32) == 0)
    total = _add_programs(parts, zeros, first, last, tile, tiles, size)
    tl.store(grad, total, mask=inside)


@triton.jit
def add_up_kernel(
    tokens_B,
    tokens_C,
    kept,
    gated,
    dB,
    dC,
    dA,
    dstart,
    dreadout,
    dbias,
    dskip,
    L,
    D,
    per_group,
    tiles,
    chunks,
    batch,
    groups,
    directions,
    dB_r,
    dB_b,
    dB_row,
    dB_g,
    dB_n,
    dC_r,
    dC_b,
    dC_row,
    dC_g,
    dC_n,
    SHARED_B: tl.constexpr,
    SHARED_C: tl.constexpr,
    SHARED_A: tl.constexpr,
    SHARED_START: tl.constexpr,
    SHARED_READOUT: tl.constexpr,
    SHARED_BIAS: tl.constexpr,
    SHARED_SKIP: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Programs for some steps of B and C come first, then those for a tile of channels."""
    p = tl.program_id(0)
    stretches = tl.cdiv(L, ROWS)
    tiles_per_group = tiles // groups
    of_tokens = directions * batch * groups * stretches
    if p < of_tokens:
        stretch = p % stretches
        group = (p // stretches) % groups
        b = (p // stretches // groups) % batch
        r = p // stretches // groups // batch
        _add_tiles(
            tokens_B,
            dB,
            dB_r,
            dB_b,
            dB_row,
            dB_g,
            dB_n,
            r,
            b,
            group,
            stretch,
            L,
            tiles_per_group,
            batch,
            groups,
            directions,
            SHARED_B,
            N,
            NP,
            ROWS,
        )
        _add_tiles(
            tokens_C,
            dC,
            dC_r,
            dC_b,
            dC_row,
            dC_g,
            dC_n,
            r,
            b,
            group,
            stretch,
            L,
            tiles_per_group,
            batch,
            groups,
            directions,
            SHARED_C,
            N,
            NP,
            ROWS,
        )
    else:
        tile = (p - of_tokens) % tiles
        r = (p - of_tokens) // tiles
        i = tl.arange(0, TILE)
        in_group = (tile % tiles_per_group) * TILE + i
        live = in_group < per_group
        d = (tile // tiles_per_group * per_group + in_group).to(tl.int64)
        n = tl.arange(0, NP)[None, :]
        inside = live[:, None] & (n < N)
        each = batch * chunks
        state = NP * TILE
        size = BLOCK // 4 * state
        states = kept + i[:, None] * NP + n
        channels = gated + i
        zeros = tl.zeros((TILE, NP), tl.float32)
        parameter = d[:, None] * N + n
        whole = r.to(tl.int64) * D
        to = dA + whole * N + parameter
        _add_parameter(states, zeros, to, inside, r, tile, tiles, each, directions, size, SHARED_A)
        if dreadout is not None:
            to = dreadout + whole * N + parameter
            read = states + 2 * state
            _add_parameter(
                read, zeros, to, inside, r, tile, tiles, each, directions, size, SHARED_READOUT
            )
        none = tl.zeros((TILE,), tl.float32)
        if dbias is not None:
            _add_parameter(
                channels,
                none,
                dbias + whole + d,
                live,
                r,
                tile,
                tiles,
                each,
                directions,
                BLOCK * TILE,
                SHARED_BIAS,
            )
        if dskip is not None:
            _add_parameter(
                channels + TILE,
                none,
                dskip + whole + d,
                live,
                r,
                tile,
                tiles,
                each,
                directions,
                BLOCK * TILE,
                SHARED_SKIP,
            )
        if dstart is not None:
            last = r + 1
            keep = inside
            if SHARED_START:
                last = tl.where(r == 0, directions, r)
                keep = keep & (tl.full(keep.shape, r, tl.int32) == 0)
            # the first chunk alone starts from it
            for b in range(batch):
                total = zeros
                for q in range(r, last):
                    program = tl.cast((q * batch + b) * chunks, tl.int64) * tiles + tile
                    total += tl.load(states + state + program * size)
                sample = tl.cast(r * batch + b, tl.int64) * D * N
                tl.store(dstart + sample + parameter, total, mask=keep)

/* The selective scan, forward and backward: lanes are channels, time is sequential, some states at a time in registers.
 *
 *     h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t,    y_t = sum_n readout C_t h_t + D u_t,    out = y silu(z)
 *
 * A piece walks time a few rows at a time. For these rows B and C become fp32 once for all channels of the piece; then every
 * LINE channels are read as tiles, and go, V channels and SPAN steps at a time, through prologue (softplus, dt u), recurrence
 * (with log2 e folded into A) and epilogue. SPAN rows are few enough for the tiles, and the lines that a power of two sets
 * into the same corner of the cache, to stay in the nearest one. Memory with a channel's steps side by side is read BLOCK rows
 * at a time, for its lines hold LINE of them. */
#include "tiles.h"

/* Steps computed at a time: with fewer lanes a step takes less of the nearest cache. */
#ifndef SPAN
#define SPAN (V == 16 ? 16 : V == 8 ? 32 : 64)
#endif
#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

/* (D, N) weights of the piece's channels as [V channels][n][lane], times `scale`; zeros in lanes past the last channel. */
static void load_states(float *to, const float *from, int64_t width, int64_t states, float scale) {
    for (int64_t c = 0; c < width; c += V, to += states * V) {
        int64_t n = 0;
        for (; from && c + V <= width && n + V <= states; n += V) {
            vf square[V];
            UNROLL for (int i = 0; i < V; i++) square[i] = load(from + (c + i) * states + n) * scale;
            transpose(square);
            UNROLL for (int i = 0; i < V; i++) store(to + (n + i) * V, canonical_nan(square[i]));
        }
        for (; n < states; n++)
            for (int64_t i = 0; i < V; i++) {
                float x = from && c + i < width ? from[(c + i) * states + n] * scale : 0.0f;
                to[n * V + i] = x == x ? x : NAN;
            }
    }
}

static void store_states(float *to, const float *from, int64_t width, int64_t states, int add) {
    for (int64_t c = 0; c < width; c += V, from += states * V) {
        int64_t n = 0;
        for (; c + V <= width && n + V <= states; n += V) {
            vf square[V];
            UNROLL for (int i = 0; i < V; i++) square[i] = load(from + (n + i) * V);
            transpose(square);
            UNROLL for (int i = 0; i < V; i++) {
                float *at = to + (c + i) * states + n;
                store(at, add ? load(at) + square[i] : square[i]);
            }
        }
        for (; n < states; n++)
            for (int64_t i = 0; i < least(V, width - c); i++) {
                float x = from[n * V + i], *at = to + (c + i) * states + n;
                *at = add ? *at + x : x;
            }
    }
}

static void load_channels(float *to, const float *from, int64_t width) {
    for (int64_t c = 0; c < (width + V - 1) / V * V; c++) to[c] = from && c < width ? from[c] : 0.0f;
}

static void store_channels(float *to, const float *from, int64_t width, int add) {
    for (int64_t c = 0; c < width; c++) to[c] = add ? to[c] + from[c] : from[c];
}

/* The rows of B or C as [step][state]. */
static void load_group(float *to, Rows x, const int32_t *rows, int steps, int64_t states) {
    float tile[BLOCK * LINE];
    for (int64_t n = 0; n < states; n += LINE) {
        const int width = least(LINE, states - n);
        load_tile(tile, from_channel(x, n), rows, steps, width);
        for (int t = 0; t < steps; t++)
            for (int i = 0; i < width; i += V) store(to + t * padded(states) + n + i, load(tile + i * BLOCK + t * V));
    }
}

/* The gradients of B and C of all channels of a unit, [step][state / 4][V]: V / 4 lanes to a state, see `squeeze`. */
INLINE int64_t squeezed(int64_t states) { return padded(states) / 4 * V; }

static void put_group(Rows x, const float *parts, const int32_t *rows, int steps, int64_t states, int add) {
    float tile[BLOCK * LINE];
    for (int64_t n = 0; n < states; n += LINE) {
        const int width = least(LINE, states - n);
        for (int t = 0; t < steps; t++)
            for (int i = 0; i < width; i += 4) {
                v4 sums = squeezed_sums(load(parts + t * squeezed(states) + (n + i) / 4 * V));
                memcpy(tile + i / V * TILE + t * V + i % V, &sums, sizeof sums);
            }
        put_tile(from_channel(x, n), tile, rows, steps, width, add);
    }
}

/* Where the states of V channels from c on are kept before step t: (R, B, S, D N) with a row for every CHECKPOINT steps, and
 * inside [n][channel] for these channels. */
INLINE float *checkpoint(const Scan *s, int64_t r, int64_t b, int64_t t, int64_t c) {
    const int64_t count = (s->seq.length + CHECKPOINT - 1) / CHECKPOINT;
    return s->checkpoints + (((r * s->seq.batch + b) * count + t / CHECKPOINT) * s->seq.channels + c) * s->states;
}

static void keep_state(float *to, const float *state, int64_t states, int64_t width) {
    if (width >= V) memcpy(to, state, states * V * sizeof(float));
    else
        for (int64_t n = 0; n < states; n++) memcpy(to + n * width, state + n * V, width * sizeof(float));
}

/* The kept state itself, or a copy in `room` with zeros in the lanes past the last channel. */
static const float *kept_state(const float *from, float *room, int64_t states, int64_t width) {
    if (width >= V) return from;
    memset(room, 0, states * V * sizeof(float));
    for (int64_t n = 0; n < states; n++) memcpy(room + n * V, from + n * width, width * sizeof(float));
    return room;
}

INLINE float *weights(Weights w, int64_t r, int64_t offset) { return w.data ? w.data + r * w.r + offset : NULL; }
INLINE int adds(int64_t r, int64_t stride) { return r > 0 && stride == 0; }
INLINE float *past(float *p, int64_t floats) { return p ? p + floats : NULL; }


/* dt in place of delta, dtu = dt u, y = D u; `slope` is scratch space or becomes d dt / d delta. Returns whether exp2_fast
 * must be ready for any argument, for decays of at most `bound` a unit of time. */
INLINE int prepare_steps(float *delta, const float *u, float *dtu, float *y, float *slope, int want_slope, int steps, vf bias,
                         vf skip, int softplus_on, float bound) {
    vf largest = {0};
    if (softplus_on)
        OVERLAP for (int t = 0; t < steps * V; t += V) store(slope + t, exponential(minus_absolute(load(delta + t) + bias)));
    OVERLAP for (int t = 0; t < steps * V; t += V) {
        vf x = load(delta + t) + bias, e = load(slope + t), input = load(u + t);
        vf dt = softplus_on ? softplus(x, e) : x;
        if (want_slope) store(slope + t, softplus_on ? softplus_slope(x, e) : splat(1.0f));
        largest = larger_or_nan(largest, absolute(dt));
        store(delta + t, dt);
        store(y + t, skip * input);
        store(dtu + t, dt * input);
    }
    const int wide = !all_below(largest * bound, 120.0f);
    if (wide)
        for (int t = 0; t < steps * V; t += V) store(delta + t, canonical_nan(load(delta + t)));
    return wide;
}

/* For each group of V channels the largest |A| log2 e; NaN counts as infinite. */
static void bounds_of(float *bound, const float *A, int64_t width, int64_t states) {
    for (int64_t k = 0; k < (width + V - 1) / V; k++) {
        vf most = {0};
        for (int64_t n = 0; n < states; n++) most = larger_or_nan(most, absolute(load(A + (k * states + n) * V)));
        bound[k] = 0.0f;
        for (int i = 0; i < V; i++)
            if (!(most[i] <= bound[k])) bound[k] = most[i] == most[i] ? most[i] : INFINITY;
    }
}

/* The tiles of LINE channels. The first SPAN rows of neighbours lie in different sets of the nearest cache. */
enum { DT, DTU, Y, U, DY, Z, SLOPE, DINPUT, DDT, AREAS };
#define AREA (BLOCK * LINE + (SPAN + 1) * LINE)

/* Some states of V channels over one span: what the inner loops read and write. `tile` is the DT of these channels; B, C are
 * [step][state] with `row` floats to a step, dB, dC [step][state / 4][V] with `squeezed`, all from the first of these states
 * on; the others are [state][V]. */
typedef struct {
    int steps;
    float *tile, *kept;
    const float *B, *C, *A, *readout, *start;
    float *state, *dstate, *dB, *dC, *dA, *dreadout;
    int64_t row, squeezed;
} Strip;

/* One function for each number of states, and with or without the care for extreme steps and with or without readout, so
 * that the compiler sees constants. */
#define VARIANTS_OF(F, N) \
    APART void F##_##N(const Strip *s) { F(N, 0, 0, s); } \
    APART void F##_##N##_wide(const Strip *s) { F(N, 1, 0, s); } \
    APART void F##_##N##_read(const Strip *s) { F(N, 0, 1, s); } \
    APART void F##_##N##_wide_read(const Strip *s) { F(N, 1, 1, s); }
#define ROW_OF(F, N) [N] = {{F##_##N, F##_##N##_read}, {F##_##N##_wide, F##_##N##_wide_read}}
#define VARIANTS(F) \
    VARIANTS_OF(F, 1) VARIANTS_OF(F, 2) VARIANTS_OF(F, 3) VARIANTS_OF(F, 4) \
    static void (*const F##_variants[NB + 1][2][2])(const Strip *) = { \
        ROW_OF(F, 1), ROW_OF(F, 2), ROW_OF(F, 3), ROW_OF(F, 4)};

#define NB 4 /* states in registers */
/* With 32 registers the decays are found in the loop that uses them. With 16 they come from a loop of their own, for a loop of
 * both would spill, and wait for the long chain of the exponential. */
#define AT_ONCE (V == 16)
#define STEP (NB * V)          /* floats of NB states */
#define CARRIED (SPAN * STEP) /* `kept` holds exp(dt A) of every step, and from here on exp(dt A) h_{t-1} */

INLINE void find_decays(int nb, int wide, int with_readout, const Strip *s) {
    float *tile = s->tile, *kept = s->kept;
    const vu powers = load_powers();
    vf A[NB];
    (void)with_readout;
    UNROLL for (int k = 0; k < nb; k++) A[k] = load(s->A + k * V);
    for (int t = 0; t < s->steps; t++, tile += V, kept += STEP) {
        vf dt = load(tile);
        UNROLL for (int k = 0; k < nb; k++) store(kept + k * V, decay(dt, A[k], powers, wide));
    }
}
VARIANTS(find_decays)

/* ---- forward ---- */

/* h = exp(dt A) h + B dt u; y += sum_n readout C h. */
INLINE void advance(int nb, int wide, int with_readout, const Strip *s) {
    float *tile = s->tile;
    const float *B = s->B, *C = s->C, *A = s->A, *readout = s->readout, *kept = s->kept;
    const int64_t row = s->row;
    const vu powers = load_powers();
    vf h[NB], zero = {0};
    UNROLL for (int k = 0; k < nb; k++) h[k] = load(s->start + k * V);
    for (int t = 0; t < s->steps; t++, tile += V, B += row, C += row, kept += STEP) {
        vf dt = load(tile), input = load(tile + DTU * AREA), even = load(tile + Y * AREA), odd = zero;
        UNROLL for (int k = 0; k < nb; k++) {
            vf factor = AT_ONCE ? decay(dt, load(A + k * V), powers, wide) : load(kept + k * V);
            h[k] = factor * h[k] + splat(B[k]) * input;
            vf seen = with_readout ? load(readout + k * V) * h[k] : h[k];
            if (k % 2) odd += splat(C[k]) * seen;
            else even += splat(C[k]) * seen;
        }
        store(tile + Y * AREA, nb > 1 ? even + odd : even);
    }
    UNROLL for (int k = 0; k < nb; k++) store(s->state + k * V, h[k]);
}
VARIANTS(advance)

/* How many lines to fetch with each strip: one per step of LINE channels in all. */
INLINE int lines_each(int64_t states) {
    const int64_t strips = LINE / V * ((states + NB - 1) / NB);
    return (SPAN + strips - 1) / strips;
}

static void gate(float *y, const float *z, int steps) {
    OVERLAP for (int t = 0; t < steps * V; t += V) {
        vf x = load(z + t);
        store(y + t, load(y + t) * x * sigmoid(x));
    }
}

typedef struct {
    int32_t *rows;
    float *A, *readout, *D, *bias, *bound, *state, *B, *C, *areas, *kept;
    Sum out;
} Forward;

static size_t lay_out_forward(Forward *f, const Scan *s, const Plan *plan, Piece piece, void *base) {
    Arena arena = {base, 0};
    int64_t channels = padded(plan->chunk), states = channels * s->states;
    f->rows = (int32_t *)take(&arena, s->seq.length);
    f->A = take(&arena, states), f->state = take(&arena, states);
    f->readout = s->readout.data ? take(&arena, states) : NULL;
    f->D = take(&arena, channels), f->bias = take(&arena, channels), f->bound = take(&arena, channels);
    f->B = take(&arena, padded(s->states) * BLOCK), f->C = take(&arena, padded(s->states) * BLOCK);
    f->areas = take(&arena, AREAS * AREA), f->kept = take(&arena, 2 * CARRIED);
    f->out = sum_into(&arena, &s->seq, s->out, piece, plan->chunk);
    return arena.used * sizeof(float);
}

static size_t scan_forward_bytes(const Scan *s, const Plan *plan) {
    Forward f;
    return lay_out_forward(&f, s, plan, (Piece){0}, NULL);
}

/* One span of V channels: `tile` holds delta, u in its DTU and z in its Z; leaves the output in Y. `at` counts the steps from
 * the block's first one. */
static void forward_span(const Scan *s, const Forward *f, Fetch *fetch, float *tile, int at, int steps, int64_t c) {
    const int64_t states = s->states, row = padded(states);
    float *state = f->state + c * states, *dtu = tile + DTU * AREA, *y = tile + Y * AREA;
    const int wide = prepare_steps(tile, dtu, dtu, y, f->kept, 0, steps, load(f->bias + c), load(f->D + c), s->softplus,
                                   f->bound[c / V]);
    const int lines = lines_each(states);
    for (int64_t n = 0; n < states; n += NB) {
        const int nb = least(NB, states - n);
        Strip strip = {.steps = steps, .tile = tile, .kept = f->kept, .B = f->B + at * row + n, .C = f->C + at * row + n,
                       .row = row, .A = f->A + c * states + n * V, .start = state + n * V, .state = state + n * V,
                       .readout = past(f->readout, c * states + n * V)};
        fetch_lines(fetch, lines);
        if (!AT_ONCE) find_decays_variants[nb][wide][0](&strip);
        advance_variants[nb][wide][f->readout != NULL](&strip);
    }
    if (s->z.data) gate(y, tile + Z * AREA, steps);
}

/* Up to LINE channels over one block of rows. */
static void forward_block(const Scan *s, const Forward *f, Fetch *next, Piece piece, int64_t r, int64_t t0, int height, int64_t c) {
    const int32_t *rows = f->rows + t0;
    const int64_t b = piece.b, at = piece.c + c, dtype = s->seq.dtype;
    const int width = least(LINE, piece.width - c), steps = least(height, s->seq.length - t0);
    load_tile(f->areas + DT * AREA, rows_of(s->delta, r, b, at, dtype), rows, steps, width);
    load_tile(f->areas + DTU * AREA, rows_of(s->u, r, b, at, dtype), rows, steps, width);
    if (s->z.data) load_tile(f->areas + Z * AREA, rows_of(s->z, r, b, at, dtype), rows, steps, width);
    turn_to(next, &s->seq, f->rows, t0, height, c + LINE);
    for (int m = 0; m < width; m += V)
        for (int t = 0; t < steps; t += SPAN) {
            const int count = least(SPAN, steps - t);
            for (int k = 0; s->checkpoints && k < count; k += CHECKPOINT) /* a longer span fills the room of several */
                keep_state(checkpoint(s, r, b, t0 + t + k, at + m), f->state + (c + m) * s->states, s->states, width - m);
            forward_span(s, f, next, f->areas + m * BLOCK + t * V, t, count, c + m);
        }
    put_tile(sum_rows(&f->out, r, c), f->areas + Y * AREA, rows, steps, width, adds(r, s->out.r));
}

/* The rows that are read at a time. */
INLINE int height_of(const Scan *s) { return is_channel_major(s->u) ? BLOCK : SPAN; }

static void scan_forward(const Scan *s, const Plan *plan, Piece piece, void *scratch) {
    Forward f;
    lay_out_forward(&f, s, plan, piece, scratch);
    const int64_t length = s->seq.length, states = s->states, width = piece.width, at = piece.b * s->seq.channels + piece.c;
    const int height = height_of(s);
    for (int64_t r = 0; r < s->seq.directions; r++) {
        fill_rows(f.rows, &s->seq, r, piece.b);
        load_states(f.A, weights(s->A, r, piece.c * states), width, states, LOG2E);
        bounds_of(f.bound, f.A, width, states);
        if (f.readout) load_states(f.readout, weights(s->readout, r, piece.c * states), width, states, 1.0f);
        load_channels(f.D, weights(s->D, r, piece.c), width);
        load_channels(f.bias, weights(s->bias, r, piece.c), width);
        load_states(f.state, weights(s->start, r, at * states), width, states, 1.0f);
        for (int64_t t0 = 0; t0 < length; t0 += height) {
            int steps = least(height, length - t0);
            load_group(f.B, rows_of_group(s->B, r, piece.b, piece.group, 0, s->seq.dtype), f.rows + t0, steps, states);
            load_group(f.C, rows_of_group(s->C, r, piece.b, piece.group, 0, s->seq.dtype), f.rows + t0, steps, states);
            Fetch next = look_ahead(&s->seq, f.rows, t0, height, width, height == BLOCK);
            fetch_later(&next, rows_of(s->delta, r, piece.b, piece.c, s->seq.dtype));
            fetch_later(&next, rows_of(s->u, r, piece.b, piece.c, s->seq.dtype));
            fetch_later(&next, rows_of(s->z, r, piece.b, piece.c, s->seq.dtype));
            fetch_later(&next, sum_rows(&f.out, r, 0));
            for (int64_t c = 0; c < width; c += LINE) forward_block(s, &f, &next, piece, r, t0, height, c);
        }
        store_states(s->last + (r * s->seq.batch * s->seq.channels + at) * states, f.state, width, states, 0);
    }
    finish_sum(&f.out, length, width);
}

/* ---- backward ---- */

/* A span once more: keeps exp(dt A) and exp(dt A) h_{t-1} of each step for `adjoin`; y += sum_n readout C h, dC += readout h dy
 * over lanes, dreadout += sum over steps of C h dy. */
INLINE void recompute(int nb, int wide, int with_readout, const Strip *s) {
    float *tile = s->tile, *kept = s->kept, *dC = s->dC;
    const float *B = s->B, *C = s->C, *A = s->A, *readout = s->readout;
    const int64_t row = s->row, squeezed = s->squeezed;
    const vu powers = load_powers();
    vf h[NB], dread[NB], zero = {0};
    UNROLL for (int k = 0; k < nb; k++) h[k] = load(s->start + k * V), dread[k] = zero;
    for (int t = 0; t < s->steps; t++, tile += V, B += row, C += row, dC += squeezed, kept += STEP) {
        vf dt = load(tile), input = load(tile + DTU * AREA), grad = load(tile + DY * AREA), sum = load(tile + Y * AREA);
        vf part[4] = {zero, zero, zero, zero};
        UNROLL for (int k = 0; k < nb; k++) {
            vf factor = AT_ONCE ? decay(dt, load(A + k * V), powers, wide) : load(kept + k * V);
            vf carried = factor * h[k], c = splat(C[k]);
            if (AT_ONCE) store(kept + k * V, factor);
            store(kept + CARRIED + k * V, carried);
            h[k] = splat(B[k]) * input + carried;
            vf seen = with_readout ? load(readout + k * V) * h[k] : h[k];
            sum += c * seen;
            part[k] = seen * grad;
            if (with_readout) dread[k] += c * (h[k] * grad);
        }
        store(tile + Y * AREA, sum);
        store(dC, load(dC) + squeeze(part[0], part[1], part[2], part[3]));
    }
    if (with_readout)
        UNROLL for (int k = 0; k < nb; k++) store(s->dreadout + k * V, load(s->dreadout + k * V) + dread[k]);
}

/* The adjoint recurrence g_{t-1} = exp(dt_t A) (g_t + readout C_t dy_t) from the last step of a span to its first, with
 * v = g_t + readout C_t dy_t: dB_t += v dt u over lanes; d(dt u) += sum_n v B; with w = v exp(dt A) h_{t-1},
 * d dt += sum_n w A (here times log2 e) and dA += sum_t w dt. */
INLINE void adjoin(int nb, int wide, int with_readout, const Strip *s) {
    const int64_t last = s->steps - 1, row = s->row, squeezed = s->squeezed;
    float *tile = s->tile + last * V, *dB = s->dB + last * squeezed;
    const float *B = s->B + last * row, *C = s->C + last * row, *kept = s->kept + last * STEP;
    const float *A = s->A, *readout = s->readout;
    vf g[NB], dlog[NB], zero = {0};
    (void)wide;
    UNROLL for (int k = 0; k < nb; k++) g[k] = load(s->dstate + k * V), dlog[k] = zero;
    for (int t = 0; t < s->steps; t++, tile -= V, B -= row, C -= row, dB -= squeezed, kept -= STEP) {
        vf dt = load(tile), input = load(tile + DTU * AREA), grad = load(tile + DY * AREA);
        vf to_input = load(tile + DINPUT * AREA), to_dt = load(tile + DDT * AREA), part[4] = {zero, zero, zero, zero};
        UNROLL for (int k = 0; k < nb; k++) {
            vf v = g[k] + splat(C[k]) * (with_readout ? load(readout + k * V) * grad : grad);
            to_input += v * splat(B[k]);
            part[k] = v * input;
            g[k] = v * load(kept + k * V);
            vf w = v * load(kept + CARRIED + k * V);
            dlog[k] += w * dt;
            to_dt += w * load(A + k * V);
        }
        store(tile + DINPUT * AREA, to_input);
        store(tile + DDT * AREA, to_dt);
        store(dB, load(dB) + squeeze(part[0], part[1], part[2], part[3]));
    }
    UNROLL for (int k = 0; k < nb; k++) {
        store(s->dstate + k * V, g[k]);
        store(s->dA + k * V, load(s->dA + k * V) + dlog[k]);
    }
}

VARIANTS(recompute)
VARIANTS(adjoin)

typedef struct {
    int32_t *rows;
    float *A, *readout, *D, *bias, *bound, *start, *dstate, *dA, *dreadout, *dD, *dbias, *B, *C, *dB, *dC, *areas, *kept;
    Sum du, ddelta, dz;
} Backward;

static size_t lay_out_backward(Backward *f, const Scan *s, const Plan *plan, Piece piece, void *base) {
    Arena arena = {base, 0};
    int64_t channels = padded(plan->chunk), states = channels * s->states, group = padded(s->states) * BLOCK;
    f->rows = (int32_t *)take(&arena, s->seq.length);
    f->A = take(&arena, states), f->dA = take(&arena, states), f->dstate = take(&arena, states);
    f->start = take(&arena, s->states * V);
    f->readout = s->readout.data ? take(&arena, states) : NULL;
    f->dreadout = s->readout.data ? take(&arena, states) : NULL;
    f->D = take(&arena, channels), f->bias = take(&arena, channels), f->bound = take(&arena, channels);
    f->dD = take(&arena, channels), f->dbias = take(&arena, channels);
    f->B = take(&arena, group), f->C = take(&arena, group);
    f->dB = take(&arena, squeezed(s->states) * BLOCK), f->dC = take(&arena, squeezed(s->states) * BLOCK);
    f->areas = take(&arena, AREAS * AREA), f->kept = take(&arena, 2 * CARRIED);
    f->du = sum_into(&arena, &s->seq, s->du, piece, plan->chunk);
    f->ddelta = sum_into(&arena, &s->seq, s->ddelta, piece, plan->chunk);
    f->dz = sum_into(&arena, &s->seq, s->dz, piece, plan->chunk);
    return arena.used * sizeof(float);
}

static size_t scan_backward_bytes(const Scan *s, const Plan *plan) {
    Backward f;
    return lay_out_backward(&f, s, plan, (Piece){0}, NULL);
}

/* With out = y z sigmoid(z): dy in place of d out, and d out times the derivative of the gate in place of z. */
static void ungate(float *dout, float *z, int steps) {
    OVERLAP for (int t = 0; t < steps * V; t += V) {
        vf x = load(z + t), d = load(dout + t), s = sigmoid(x);
        store(dout + t, d * x * s);
        store(z + t, d * s * (1.0f + x * (1.0f - s)));
    }
}

/* The gradients of u, in its place, of delta, in DDT, and of z, in its place, out of what the recurrence left. */
static void finish_gradients(const Backward *f, float *tile, int steps, int64_t c) {
    const vf skip = load(f->D + c);
    vf dskip = load(f->dD + c), dbias = load(f->dbias + c);
    for (int t = 0; t < steps; t++, tile += V) {
        vf u = load(tile + U * AREA), grad = load(tile + DY * AREA), dinput = load(tile + DINPUT * AREA);
        vf ddelta = (load(tile + DDT * AREA) * LN2 + dinput * u) * load(tile + SLOPE * AREA);
        dskip += grad * u;
        dbias += ddelta;
        store(tile + U * AREA, dinput * load(tile) + skip * grad);
        store(tile + DDT * AREA, ddelta);
        store(tile + Z * AREA, load(tile + Z * AREA) * load(tile + Y * AREA));
    }
    store(f->dD + c, dskip);
    store(f->dbias + c, dbias);
}

/* One span of V channels, last step first: `tile` holds delta, with u, d out (in DY) and z in their areas; leaves their
 * gradients in DDT, U and Z. `kept` is the state before the span. */
static void backward_span(const Scan *s, const Backward *f, Fetch *fetch, float *tile, const float *start, int at,
                          int steps, int64_t c) {
    const int64_t states = s->states, row = padded(states);
    if (s->z.data) ungate(tile + DY * AREA, tile + Z * AREA, steps);
    memset(tile + DINPUT * AREA, 0, steps * V * sizeof(float));
    memset(tile + DDT * AREA, 0, steps * V * sizeof(float));
    const int wide = prepare_steps(tile, tile + U * AREA, tile + DTU * AREA, tile + Y * AREA, tile + SLOPE * AREA, 1, steps,
                                   load(f->bias + c), load(f->D + c), s->softplus, f->bound[c / V]);
    const int lines = lines_each(states);
    for (int64_t n = 0; n < states; n += NB) {
        const int nb = least(NB, states - n);
        const int64_t weight = c * states + n * V, sums = at * squeezed(states) + n / 4 * V;
        Strip strip = {.steps = steps, .tile = tile, .kept = f->kept, .B = f->B + at * row + n, .C = f->C + at * row + n,
                       .row = row, .A = f->A + weight, .dA = f->dA + weight, .start = start + n * V,
                       .dstate = f->dstate + weight, .readout = past(f->readout, weight), .dreadout = past(f->dreadout, weight),
                       .dB = f->dB + sums, .dC = f->dC + sums, .squeezed = squeezed(states)};
        fetch_lines(fetch, lines);
        if (!AT_ONCE) find_decays_variants[nb][wide][0](&strip);
        recompute_variants[nb][wide][f->readout != NULL](&strip);
        adjoin_variants[nb][0][f->readout != NULL](&strip);
    }
    finish_gradients(f, tile, steps, c);
}

/* Up to LINE channels over one block of rows. */
static void backward_block(const Scan *s, const Backward *f, Fetch *next, Piece piece, int64_t r, int64_t t0, int height, int64_t c) {
    const int32_t *rows = f->rows + t0;
    const int64_t b = piece.b, at = piece.c + c, dtype = s->seq.dtype;
    const int width = least(LINE, piece.width - c), steps = least(height, s->seq.length - t0);
    float *areas = f->areas;
    load_tile(areas + U * AREA, rows_of(s->u, r, b, at, dtype), rows, steps, width);
    load_tile(areas + DT * AREA, rows_of(s->delta, r, b, at, dtype), rows, steps, width);
    load_tile(areas + DY * AREA, rows_of(s->dout, r, b, at, dtype), rows, steps, width);
    if (s->z.data) load_tile(areas + Z * AREA, rows_of(s->z, r, b, at, dtype), rows, steps, width);
    turn_to(next, &s->seq, f->rows, t0, -height, c + LINE);
    for (int m = 0; m < width; m += V)
        for (int t = (steps - 1) / SPAN * SPAN; t >= 0; t -= SPAN) {
            const float *start = checkpoint(s, r, b, t0 + t, at + m);
            start = kept_state(start, f->start, s->states, width - m);
            backward_span(s, f, next, areas + m * BLOCK + t * V, start, t, least(SPAN, steps - t), c + m);
        }
    put_tile(sum_rows(&f->du, r, c), areas + U * AREA, rows, steps, width, adds(r, s->du.r));
    put_tile(sum_rows(&f->ddelta, r, c), areas + DDT * AREA, rows, steps, width, adds(r, s->ddelta.r));
    if (s->dz.data) put_tile(sum_rows(&f->dz, r, c), areas + Z * AREA, rows, steps, width, adds(r, s->dz.r));
}

/* Where a unit leaves its part of dB or dC: (R?, B, units, L, G, N). */
static Rows partial_group(const Scan *s, const Plan *plan, float *sums, Groups of, int64_t r, int64_t b, int64_t group,
                          int64_t unit) {
    int64_t row = s->groups * s->states, sample = (of.r ? r : 0) * s->seq.batch + b;
    float *p = sums + (sample * plan->units + unit) * s->seq.length * row + group * s->states;
    return (Rows){(char *)p, row, 1, FP32};
}

/* Where the piece leaves its part of a weight's gradient: (R?, B, D, each). */
INLINE float *partial_weights(const Scan *s, float *sums, Weights of, int64_t r, Piece piece, int64_t each) {
    return sums + (((of.r ? r : 0) * s->seq.batch + piece.b) * s->seq.channels + piece.c) * each;
}

static void store_weight_gradients(const Scan *s, const Plan *plan, const Backward *f, Piece piece, int64_t r) {
    const int64_t width = piece.width, states = s->states;
    store_states(partial_weights(s, plan->dA, s->dA, r, piece, states), f->dA, width, states, adds(r, s->dA.r));
    if (f->readout)
        store_states(partial_weights(s, plan->dreadout, s->dreadout, r, piece, states), f->dreadout, width, states,
                     adds(r, s->dreadout.r));
    if (s->dD.data) store_channels(partial_weights(s, plan->dD, s->dD, r, piece, 1), f->dD, width, adds(r, s->dD.r));
    if (s->dbias.data)
        store_channels(partial_weights(s, plan->dbias, s->dbias, r, piece, 1), f->dbias, width, adds(r, s->dbias.r));
    if (s->dstart.data)
        store_states(weights(s->dstart, r, (piece.b * s->seq.channels + piece.c) * states), f->dstate, width, states,
                     adds(r, s->dstart.r));
}

static void scan_backward(const Scan *s, const Plan *plan, Piece piece, void *scratch) {
    Backward f;
    lay_out_backward(&f, s, plan, piece, scratch);
    const int64_t length = s->seq.length, states = s->states, width = piece.width, b = piece.b, dtype = s->seq.dtype;
    const size_t channels = padded(width) * sizeof(float);
    const int height = height_of(s);
    for (int64_t r = 0; r < s->seq.directions; r++) {
        fill_rows(f.rows, &s->seq, r, b);
        load_states(f.A, weights(s->A, r, piece.c * states), width, states, LOG2E);
        bounds_of(f.bound, f.A, width, states);
        load_channels(f.D, weights(s->D, r, piece.c), width);
        load_channels(f.bias, weights(s->bias, r, piece.c), width);
        const float *dlast = s->dlast ? s->dlast + ((r * s->seq.batch + b) * s->seq.channels + piece.c) * states : NULL;
        load_states(f.dstate, dlast, width, states, 1.0f);
        memset(f.dA, 0, channels * states);
        memset(f.dD, 0, channels);
        memset(f.dbias, 0, channels);
        if (f.readout) {
            load_states(f.readout, weights(s->readout, r, piece.c * states), width, states, 1.0f);
            memset(f.dreadout, 0, channels * states);
        }
        for (int64_t t0 = (length - 1) / height * height; t0 >= 0; t0 -= height) {
            const int32_t *rows = f.rows + t0;
            const int steps = least(height, length - t0);
            load_group(f.B, rows_of_group(s->B, r, b, piece.group, 0, dtype), rows, steps, states);
            load_group(f.C, rows_of_group(s->C, r, b, piece.group, 0, dtype), rows, steps, states);
            Fetch next = look_ahead(&s->seq, f.rows, t0, -height, width, height == BLOCK);
            fetch_later(&next, rows_of(s->u, r, b, piece.c, dtype));
            fetch_later(&next, rows_of(s->delta, r, b, piece.c, dtype));
            fetch_later(&next, rows_of(s->dout, r, b, piece.c, dtype));
            fetch_later(&next, rows_of(s->z, r, b, piece.c, dtype));
            fetch_later(&next, sum_rows(&f.du, r, 0));
            fetch_later(&next, sum_rows(&f.ddelta, r, 0));
            if (s->dz.data) fetch_later(&next, sum_rows(&f.dz, r, 0));
            for (int64_t c0 = 0; c0 < width; c0 += plan->unit) {
                const int64_t unit = piece.unit + c0 / plan->unit, end = least(width, c0 + plan->unit);
                memset(f.dB, 0, steps * squeezed(states) * sizeof(float));
                memset(f.dC, 0, steps * squeezed(states) * sizeof(float));
                for (int64_t c = c0; c < end; c += LINE) backward_block(s, &f, &next, piece, r, t0, height, c);
                put_group(partial_group(s, plan, plan->dB, s->dB, r, b, piece.group, unit), f.dB, rows, steps, states,
                          adds(r, s->dB.r));
                put_group(partial_group(s, plan, plan->dC, s->dC, r, b, piece.group, unit), f.dC, rows, steps, states,
                          adds(r, s->dC.r));
            }
        }
        store_weight_gradients(s, plan, &f, piece, r);
    }
    finish_sum(&f.du, length, width);
    finish_sum(&f.ddelta, length, width);
    finish_sum(&f.dz, length, width);
}

/* dB and dC of one block of rows: the units' parts in the order of their channels, rounded once. */
static void sum_units(const Scan *s, const Plan *plan, int64_t r, int64_t b, int64_t group, int64_t t0) {
    const Groups *to[] = {&s->dB, &s->dC};
    float *const parts[] = {plan->dB, plan->dC};
    float tile[BLOCK * LINE], more[BLOCK * LINE];
    int32_t rows[BLOCK];
    int steps = least(BLOCK, s->seq.length - t0);
    for (int i = 0; i < steps; i++) rows[i] = t0 + i;
    for (int which = 0; which < 2; which++) {
        if (r > 0 && to[which]->r == 0) continue;
        for (int64_t n = 0; n < s->states; n += LINE) {
            int width = least(LINE, s->states - n);
            memset(tile, 0, sizeof tile);
            for (int64_t unit = 0; unit < plan->units; unit++) {
                Rows part = partial_group(s, plan, parts[which], *to[which], r, b, group, unit);
                load_tile(more, from_channel(part, n), rows, steps, width);
                add_tiles(tile, more, width);
            }
            store_tile(rows_of_group(*to[which], r, b, group, n, s->seq.dtype), tile, rows, steps, width);
        }
    }
}

/* ---- the bound ---- */

/* What `advance` computes, without memory: the states of BOUND vectors at a time, so many that no step waits for the last. */
#define BOUND (V == 16 ? 8 : 3)

APART float bound(int64_t vectors) {
    const vu powers = load_powers();
    vf h[BOUND], A[BOUND], dt = splat(0.01f), sum = {0};
    UNROLL for (int k = 0; k < BOUND; k++) h[k] = splat((float)k), A[k] = splat(-0.5f - (float)k);
    for (int64_t i = 0; i < vectors; i += BOUND) {
        dt += 1e-9f;
        UNROLL for (int k = 0; k < BOUND; k++) {
            h[k] = decay(dt, A[k], powers, 0) * h[k] + A[k] * dt;
            sum += h[k] * dt;
        }
    }
    float total = 0.0f;
    for (int i = 0; i < V; i++) total += sum[i];
    return total;
}

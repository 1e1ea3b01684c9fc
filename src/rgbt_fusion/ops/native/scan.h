/* The selective scan, forward and backward: lanes are channels, time is sequential, NB states at a time in registers.
 *
 *     h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t,    y_t = sum_n readout C_t h_t + D u_t,    out = y silu(z)
 *
 * A piece walks time in tiles of BLOCK steps. In each tile B and C become fp32 once for all channels of the piece; then
 * every V channels go through prologue (softplus, dt u), decays (exp in base 2, log2 e folded into A), recurrence, epilogue.
 * Decays and recurrence are loops of their own: one loop of both waits for the long chain of the exponential. */
#include "tiles.h"

#define NB 4 /* states in registers; the tiles of B and C are V wide, a multiple of it */
#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

/* (D, N) weights of the piece's channels as [V channels][n][lane], times `scale`; zeros in lanes past the last channel. */
static void load_states(float *to, const float *from, int64_t width, int64_t states, float scale) {
    for (int64_t c = 0; c < width; c += V, to += states * V)
        for (int64_t n = 0; n < states; n++)
            for (int64_t i = 0; i < V; i++) {
                float x = from && c + i < width ? from[(c + i) * states + n] * scale : 0.0f;
                to[n * V + i] = x == x ? x : NAN;
            }
}

static void store_states(float *to, const float *from, int64_t width, int64_t states, int add) {
    for (int64_t c = 0; c < width; c++)
        for (int64_t n = 0; n < states; n++) {
            float x = from[(c / V * states + n) * V + c % V];
            to[c * states + n] = add ? to[c * states + n] + x : x;
        }
}

static void load_channels(float *to, const float *from, int64_t width) {
    for (int64_t c = 0; c < (width + V - 1) / V * V; c++) to[c] = from && c < width ? from[c] : 0.0f;
}

static void store_channels(float *to, const float *from, int64_t width, int add) {
    for (int64_t c = 0; c < width; c++) to[c] = add ? to[c] + from[c] : from[c];
}

/* The rows of B or C (or of their gradients) as tiles [n / V][step][n % V]. */
INLINE int64_t tiles_of(int64_t states) { return (states + V - 1) / V; }
INLINE const float *state_in(const float *tiles, int64_t n) { return tiles + n / V * BLOCK * V + n % V; }

static void load_group(float *tiles, Rows x, const int32_t *rows, int steps, int64_t states) {
    for (int64_t n = 0; n < states; n += LINE)
        load_tile(tiles + n * BLOCK, from_channel(x, n), rows, steps, least(LINE, states - n));
}

static void put_group(Rows x, float *tiles, const int32_t *rows, int steps, int64_t states, int add) {
    for (int64_t n = 0; n < states; n += LINE)
        put_tile(from_channel(x, n), tiles + n * BLOCK, rows, steps, least(LINE, states - n), add);
}

/* Checkpoints (R, B, S, N, D): the address of channel c before block `block`. */
INLINE float *checkpoint(const Scan *s, int64_t r, int64_t b, int64_t block, int64_t c) {
    int64_t blocks = (s->seq.length + BLOCK - 1) / BLOCK;
    return s->checkpoints + ((r * s->seq.batch + b) * blocks + block) * s->states * s->seq.channels + c;
}

INLINE float *weights(Weights w, int64_t r, int64_t offset) { return w.data ? w.data + r * w.r + offset : NULL; }
INLINE int adds(int64_t r, int64_t stride) { return r > 0 && stride == 0; }


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
    if (V == 16) return 0;
    int wide = 0;
    for (int i = 0; i < V; i++) wide |= !(largest[i] * bound < 120.0f);
    if (wide)
        for (int t = 0; t < steps * V; t += V) store(delta + t, canonical_nan(load(delta + t)));
    return wide;
}

/* For each group of V channels the largest |A| log2 e; NaN counts as infinite. */
static void bounds_of(float *bound, const float *A, int64_t width, int64_t states) {
    for (int64_t k = 0; k < (width + V - 1) / V; k++) {
        bound[k] = 0.0f;
        for (int64_t i = 0; i < states * V; i++) {
            float x = fabsf(A[k * states * V + i]);
            if (!(x <= bound[k])) bound[k] = x == x ? x : INFINITY;
        }
    }
}

/* `nb` states of V channels over one tile: what the inner loops read and write. B, C, dB, dC point at [step][V] tiles from
 * the first of these states on, decays and states are [step][state][V], the others [step][V] or [state][V]. */
typedef struct {
    int steps;
    const float *dt, *dtu, *dy, *B, *C, *A, *readout;
    float *y, *decays, *states, *state, *dstate, *dinput, *ddt, *dB, *dC, *dA, *dreadout;
} Strip;

/* One function for each number of states and each value of a flag, so that the compiler sees constants. */
#define VARIANTS(F) \
    APART void F##_1(const Strip *s) { F(1, 0, s); } \
    APART void F##_2(const Strip *s) { F(2, 0, s); } \
    APART void F##_3(const Strip *s) { F(3, 0, s); } \
    APART void F##_4(const Strip *s) { F(4, 0, s); } \
    APART void F##_1_flag(const Strip *s) { F(1, 1, s); } \
    APART void F##_2_flag(const Strip *s) { F(2, 1, s); } \
    APART void F##_3_flag(const Strip *s) { F(3, 1, s); } \
    APART void F##_4_flag(const Strip *s) { F(4, 1, s); } \
    static void (*const F##_variants[2][NB])(const Strip *) = { \
        {F##_1, F##_2, F##_3, F##_4}, {F##_1_flag, F##_2_flag, F##_3_flag, F##_4_flag}};

/* exp(dt A). */
INLINE void find_decays(int nb, int wide, const Strip *s) {
    const float *dt = s->dt;
    float *decays = s->decays;
    vf A[NB];
    UNROLL for (int k = 0; k < nb; k++) A[k] = load(s->A + k * V);
    for (int t = 0; t < s->steps * V; t += V) {
        vf step = load(dt + t);
        UNROLL for (int k = 0; k < nb; k++) store(decays + t * NB + k * V, exp2_fast(step * A[k], wide));
    }
}
VARIANTS(find_decays)

/* ---- forward ---- */

/* h = decay h + B dt u; y += sum_n readout C h. */
INLINE void recur(int nb, int with_readout, const Strip *s) {
    const float *dtu = s->dtu, *B = s->B, *C = s->C, *decays = s->decays;
    float *y = s->y;
    vf h[NB], read[NB];
    UNROLL for (int k = 0; k < nb; k++) {
        h[k] = load(s->state + k * V);
        if (with_readout) read[k] = load(s->readout + k * V);
    }
    for (int t = 0; t < s->steps * V; t += V) {
        vf input = load(dtu + t), sum = load(y + t);
        UNROLL for (int k = 0; k < nb; k++) {
            h[k] = load(decays + t * NB + k * V) * h[k] + splat(B[t + k]) * input;
            sum += splat(C[t + k]) * (with_readout ? read[k] * h[k] : h[k]);
        }
        store(y + t, sum);
    }
    UNROLL for (int k = 0; k < nb; k++) store(s->state + k * V, h[k]);
}
VARIANTS(recur)

/* The power of two that gets all lines fetched in the course of a block. */
INLINE int lines_each(const Fetch *f, int64_t states) {
    int lines = 1;
    while (lines < BLOCK && lines * LINE / V * states < f->count * BLOCK) lines *= 2;
    return lines;
}

static void gate(float *y, const float *z, int steps) {
    OVERLAP for (int t = 0; t < steps * V; t += V) {
        vf x = load(z + t);
        store(y + t, load(y + t) * x * sigmoid(x));
    }
}

typedef struct {
    int32_t *rows;
    float *A, *readout, *D, *bias, *bound, *state, *B, *C, *dt, *dtu, *y, *z, *decays;
    Sum out;
} Forward;

static size_t lay_out_forward(Forward *f, const Scan *s, const Plan *plan, Piece piece, void *base) {
    Arena arena = {base, 0};
    int64_t channels = padded(plan->chunk), states = channels * s->states, line = BLOCK * LINE;
    f->rows = (int32_t *)take(&arena, s->seq.length + BLOCK);
    f->A = take(&arena, states), f->state = take(&arena, states);
    f->readout = s->readout.data ? take(&arena, states) : NULL;
    f->D = take(&arena, channels), f->bias = take(&arena, channels), f->bound = take(&arena, channels);
    f->B = take(&arena, tiles_of(s->states) * TILE), f->C = take(&arena, tiles_of(s->states) * TILE);
    f->dt = take(&arena, line), f->dtu = take(&arena, line), f->y = take(&arena, line), f->z = take(&arena, line);
    f->decays = take(&arena, NB * TILE);
    f->out = sum_into(&arena, &s->seq, s->out, piece, plan->chunk);
    return arena.used * sizeof(float);
}

static size_t scan_forward_bytes(const Scan *s, const Plan *plan) {
    Forward f;
    return lay_out_forward(&f, s, plan, (Piece){0}, NULL);
}

/* One tile: f->dt holds delta, f->dtu u, f->z z; leaves the output in f->y. */
static void forward_tile(const Scan *s, const Forward *f, Fetch *fetch, Piece piece, int64_t r, int64_t t0, int steps,
                         int64_t c, int64_t m) {
    const int64_t states = s->states;
    const float *A = f->A + c * states, *readout = f->readout ? f->readout + c * states : NULL;
    float *state = f->state + c * states, *dt = f->dt + m * TILE, *dtu = f->dtu + m * TILE, *y = f->y + m * TILE;
    if (s->checkpoints)
        for (int64_t n = 0; n < states; n++)
            store_some((char *)(checkpoint(s, r, piece.b, t0 / BLOCK, piece.c + c) + n * s->seq.channels), 1,
                       load(state + n * V), least(V, piece.width - c), FP32);
    int wide = prepare_steps(dt, dtu, dtu, y, f->decays, 0, steps, load(f->bias + c), load(f->D + c), s->softplus,
                             f->bound[c / V]);
    const int lines = lines_each(fetch, states);
    for (int64_t n = 0; n < states; n += NB) {
        int nb = least(NB, states - n);
        Strip strip = {.steps = steps, .dt = dt, .dtu = dtu, .y = y, .decays = f->decays, .A = A + n * V,
                       .B = state_in(f->B, n), .C = state_in(f->C, n), .state = state + n * V, .readout = readout + n * V};
        fetch_lines(fetch, nb * lines);
        find_decays_variants[wide][nb - 1](&strip);
        recur_variants[readout != NULL][nb - 1](&strip);
    }
    if (s->z.data) gate(y, f->z + m * TILE, steps);
}

/* Up to LINE channels over one block of steps. */
static void forward_block(const Scan *s, const Forward *f, Piece piece, int64_t r, int64_t t0, int steps, int64_t c) {
    const int32_t *rows = f->rows + t0;
    const int64_t b = piece.b, at = piece.c + c, dtype = s->seq.dtype;
    const int width = least(LINE, piece.width - c);
    load_tile(f->dt, rows_of(s->delta, r, b, at, dtype), rows, steps, width);
    load_tile(f->dtu, rows_of(s->u, r, b, at, dtype), rows, steps, width);
    if (s->z.data) load_tile(f->z, rows_of(s->z, r, b, at, dtype), rows, steps, width);
    int64_t next_c = c, next_t0 = t0;
    Fetch next = next_block(&s->seq, f->rows, piece.width, &next_t0, &next_c, BLOCK);
    fetch_later(&next, rows_of(s->delta, r, b, piece.c + next_c, dtype));
    fetch_later(&next, rows_of(s->u, r, b, piece.c + next_c, dtype));
    fetch_later(&next, rows_of(s->z, r, b, piece.c + next_c, dtype));
    fetch_later(&next, sum_rows(&f->out, r, next_c));
    for (int m = 0; m * V < width; m++) forward_tile(s, f, &next, piece, r, t0, steps, c + m * V, m);
    put_tile(sum_rows(&f->out, r, c), f->y, rows, steps, width, adds(r, s->out.r));
}

static void scan_forward(const Scan *s, const Plan *plan, Piece piece, void *scratch) {
    Forward f;
    lay_out_forward(&f, s, plan, piece, scratch);
    const int64_t length = s->seq.length, states = s->states, width = piece.width, at = piece.b * s->seq.channels + piece.c;
    for (int64_t r = 0; r < s->seq.directions; r++) {
        fill_rows(f.rows, &s->seq, r, piece.b);
        load_states(f.A, weights(s->A, r, piece.c * states), width, states, LOG2E);
        bounds_of(f.bound, f.A, width, states);
        if (f.readout) load_states(f.readout, weights(s->readout, r, piece.c * states), width, states, 1.0f);
        load_channels(f.D, weights(s->D, r, piece.c), width);
        load_channels(f.bias, weights(s->bias, r, piece.c), width);
        load_states(f.state, weights(s->start, r, at * states), width, states, 1.0f);
        for (int64_t t0 = 0; t0 < length; t0 += BLOCK) {
            int steps = least(BLOCK, length - t0);
            load_group(f.B, rows_of_group(s->B, r, piece.b, piece.group, 0, s->seq.dtype), f.rows + t0, steps, states);
            load_group(f.C, rows_of_group(s->C, r, piece.b, piece.group, 0, s->seq.dtype), f.rows + t0, steps, states);
            for (int64_t c = 0; c < width; c += LINE) forward_block(s, &f, piece, r, t0, steps, c);
        }
        store_states(s->last + (r * s->seq.batch * s->seq.channels + at) * states, f.state, width, states, 0);
    }
    finish_sum(&f.out, length, width);
}

/* ---- backward ---- */

/* Steps of one block once more, keeping each state before its step for `adjoin`: y += sum_n readout C h,
 * dC += sum over lanes of readout h dy, dreadout += sum over steps of C h dy. */
INLINE void recompute(int nb, int with_readout, const Strip *s) {
    const float *dtu = s->dtu, *dy = s->dy, *B = s->B, *C = s->C, *decays = s->decays;
    float *y = s->y, *states = s->states, *dC = s->dC;
    vf h[NB], read[NB], dread[NB], zero = {0};
    UNROLL for (int k = 0; k < nb; k++) {
        h[k] = load(s->state + k * V);
        if (with_readout) read[k] = load(s->readout + k * V), dread[k] = zero;
    }
    for (int t = 0; t < s->steps * V; t += V) {
        vf input = load(dtu + t), grad = load(dy + t), sum = load(y + t), part[4] = {zero, zero, zero, zero};
        UNROLL for (int k = 0; k < nb; k++) {
            vf c = splat(C[t + k]);
            store(states + t * NB + k * V, h[k]);
            h[k] = load(decays + t * NB + k * V) * h[k] + splat(B[t + k]) * input;
            vf seen = with_readout ? read[k] * h[k] : h[k];
            sum += c * seen;
            part[k] = seen * grad;
            if (with_readout) dread[k] += c * (h[k] * grad);
        }
        store(y + t, sum);
        *(v4 *)(dC + t) += sum_lanes(part[0], part[1], part[2], part[3]);
    }
    if (with_readout)
        UNROLL for (int k = 0; k < nb; k++) store(s->dreadout + k * V, load(s->dreadout + k * V) + dread[k]);
}
VARIANTS(recompute)

/* The adjoint recurrence g_{t-1} = exp(dt_t A) (g_t + readout C_t dy_t) from the last step of a block to its first, with
 * v = g_t + readout C_t dy_t: dB_t += sum over lanes of v dt u; d(dt u) += sum_n v B; with w = v exp(dt A) h_{t-1},
 * d dt += sum_n w A (here times log2 e) and dA += sum_t w dt. */
INLINE void adjoin(int nb, int with_readout, const Strip *s) {
    const float *dt = s->dt, *dtu = s->dtu, *dy = s->dy, *B = s->B, *C = s->C, *A = s->A;
    const float *decays = s->decays, *states = s->states;
    float *dinput = s->dinput, *ddt = s->ddt, *dB = s->dB;
    vf g[NB], dlog[NB], read[NB], zero = {0};
    UNROLL for (int k = 0; k < nb; k++) {
        g[k] = load(s->dstate + k * V), dlog[k] = zero;
        if (with_readout) read[k] = load(s->readout + k * V);
    }
    for (int t = (s->steps - 1) * V; t >= 0; t -= V) {
        vf step = load(dt + t), input = load(dtu + t), grad = load(dy + t), part[4] = {zero, zero, zero, zero};
        vf to_input = load(dinput + t), to_step = load(ddt + t);
        UNROLL for (int k = 0; k < nb; k++) {
            vf v = g[k] + splat(C[t + k]) * (with_readout ? read[k] * grad : grad);
            to_input += v * splat(B[t + k]);
            part[k] = v * input;
            g[k] = v * load(decays + t * NB + k * V);
            vf w = g[k] * load(states + t * NB + k * V);
            dlog[k] += w * step;
            to_step += w * load(A + k * V);
        }
        store(dinput + t, to_input);
        store(ddt + t, to_step);
        *(v4 *)(dB + t) += sum_lanes(part[0], part[1], part[2], part[3]);
    }
    UNROLL for (int k = 0; k < nb; k++) {
        store(s->dstate + k * V, g[k]);
        store(s->dA + k * V, load(s->dA + k * V) + dlog[k]);
    }
}
VARIANTS(adjoin)

typedef struct {
    int32_t *rows;
    float *A, *readout, *D, *bias, *bound, *start, *dstate, *dA, *dreadout, *dD, *dbias;
    float *B, *C, *dB, *dC, *u, *dt, *dtu, *slope, *y, *dy, *dz, *dinput, *ddt, *decays, *states;
    Sum du, ddelta, dz_sum;
} Backward;

static size_t lay_out_backward(Backward *f, const Scan *s, const Plan *plan, Piece piece, void *base) {
    Arena arena = {base, 0};
    int64_t channels = padded(plan->chunk), states = channels * s->states, group = tiles_of(s->states) * TILE;
    f->rows = (int32_t *)take(&arena, s->seq.length + BLOCK);
    f->A = take(&arena, states), f->dA = take(&arena, states), f->dstate = take(&arena, states);
    f->start = take(&arena, s->states * V);
    f->readout = s->readout.data ? take(&arena, states) : NULL;
    f->dreadout = s->readout.data ? take(&arena, states) : NULL;
    f->D = take(&arena, channels), f->bias = take(&arena, channels), f->bound = take(&arena, channels);
    f->dD = take(&arena, channels), f->dbias = take(&arena, channels);
    f->B = take(&arena, group), f->C = take(&arena, group), f->dB = take(&arena, group), f->dC = take(&arena, group);
    f->dtu = take(&arena, TILE), f->slope = take(&arena, TILE), f->y = take(&arena, TILE), f->dinput = take(&arena, TILE);
    float **tiles[] = {&f->u, &f->dt, &f->dy, &f->dz, &f->ddt};
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) *tiles[i] = take(&arena, BLOCK * LINE);
    f->decays = take(&arena, NB * TILE), f->states = take(&arena, NB * TILE);
    f->du = sum_into(&arena, &s->seq, s->du, piece, plan->chunk);
    f->ddelta = sum_into(&arena, &s->seq, s->ddelta, piece, plan->chunk);
    f->dz_sum = sum_into(&arena, &s->seq, s->dz, piece, plan->chunk);
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

/* One tile, last step first: holds u, delta (in dt), d out (in dy), z (in dz); leaves their gradients in u, ddt and dz. */
static void backward_tile(const Scan *s, const Backward *f, Fetch *fetch, Piece piece, int64_t r, int64_t t0, int steps,
                          int64_t c, int64_t m) {
    const int64_t states = s->states, first = m * TILE;
    float *u = f->u + first, *dt = f->dt + first, *dy = f->dy + first, *dz = f->dz + first, *ddt = f->ddt + first;
    if (s->z.data) ungate(dy, dz, steps);
    vf skip = load(f->D + c), zero = {0};
    for (int t = 0; t < steps * V; t += V) {
        store(f->dinput + t, zero);
        store(ddt + t, zero);
    }
    int wide = prepare_steps(dt, u, f->dtu, f->y, f->slope, 1, steps, load(f->bias + c), skip, s->softplus, f->bound[c / V]);
    for (int64_t n = 0; n < states; n++) {
        const char *start = (const char *)(checkpoint(s, r, piece.b, t0 / BLOCK, piece.c + c) + n * s->seq.channels);
        store(f->start + n * V, load_some(start, 1, least(V, piece.width - c), FP32));
    }
    const int lines = lines_each(fetch, states);
    for (int64_t n = 0; n < states; n += NB) {
        int nb = least(NB, states - n);
        int64_t at = c * states + n * V, in_group = n / V * TILE + n % V;
        Strip strip = {.steps = steps, .dt = dt, .dtu = f->dtu, .dy = dy, .y = f->y, .dinput = f->dinput, .ddt = ddt,
                       .decays = f->decays, .states = f->states, .state = f->start + n * V, .dstate = f->dstate + at,
                       .A = f->A + at, .dA = f->dA + at, .readout = f->readout + at, .dreadout = f->dreadout + at,
                       .B = f->B + in_group, .C = f->C + in_group, .dB = f->dB + in_group, .dC = f->dC + in_group};
        fetch_lines(fetch, nb * lines);
        find_decays_variants[wide][nb - 1](&strip);
        recompute_variants[f->readout != NULL][nb - 1](&strip);
        adjoin_variants[f->readout != NULL][nb - 1](&strip);
    }
    vf dskip = load(f->dD + c), dbias = load(f->dbias + c);
    for (int t = 0; t < steps * V; t += V) {
        vf x = load(u + t), grad = load(dy + t), dinput = load(f->dinput + t);
        vf ddelta = (load(ddt + t) * LN2 + dinput * x) * load(f->slope + t);
        dskip += grad * x;
        dbias += ddelta;
        store(u + t, dinput * load(dt + t) + skip * grad);
        store(ddt + t, ddelta);
        store(dz + t, load(dz + t) * load(f->y + t));
    }
    store(f->dD + c, dskip);
    store(f->dbias + c, dbias);
}

/* Up to LINE channels over one block of steps. */
static void backward_block(const Scan *s, const Backward *f, Piece piece, int64_t r, int64_t t0, int steps, int64_t c) {
    const int32_t *rows = f->rows + t0;
    const int64_t b = piece.b, at = piece.c + c, dtype = s->seq.dtype;
    const int width = least(LINE, piece.width - c);
    load_tile(f->u, rows_of(s->u, r, b, at, dtype), rows, steps, width);
    load_tile(f->dt, rows_of(s->delta, r, b, at, dtype), rows, steps, width);
    load_tile(f->dy, rows_of(s->dout, r, b, at, dtype), rows, steps, width);
    if (s->z.data) load_tile(f->dz, rows_of(s->z, r, b, at, dtype), rows, steps, width);
    int64_t next_c = c, next_t0 = t0;
    Fetch next = next_block(&s->seq, f->rows, piece.width, &next_t0, &next_c, -BLOCK);
    fetch_later(&next, rows_of(s->u, r, b, piece.c + next_c, dtype));
    fetch_later(&next, rows_of(s->delta, r, b, piece.c + next_c, dtype));
    fetch_later(&next, rows_of(s->dout, r, b, piece.c + next_c, dtype));
    fetch_later(&next, rows_of(s->z, r, b, piece.c + next_c, dtype));
    fetch_later(&next, sum_rows(&f->du, r, next_c));
    fetch_later(&next, sum_rows(&f->ddelta, r, next_c));
    if (s->dz.data) fetch_later(&next, sum_rows(&f->dz_sum, r, next_c));
    for (int m = 0; m * V < width; m++) backward_tile(s, f, &next, piece, r, t0, steps, c + m * V, m);
    put_tile(sum_rows(&f->du, r, c), f->u, rows, steps, width, adds(r, s->du.r));
    put_tile(sum_rows(&f->ddelta, r, c), f->ddt, rows, steps, width, adds(r, s->ddelta.r));
    if (s->dz.data) put_tile(sum_rows(&f->dz_sum, r, c), f->dz, rows, steps, width, adds(r, s->dz.r));
}

/* Where the piece leaves its part of dB or dC: (R?, B, chunks, L, G, N). */
static Rows partial_group(const Scan *s, const Plan *plan, float *sums, Groups of, int64_t r, Piece piece) {
    int64_t row = s->groups * s->states, sample = (of.r ? r : 0) * s->seq.batch + piece.b;
    float *p = sums + (sample * plan->chunks + piece.chunk) * s->seq.length * row + piece.group * s->states;
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
    const size_t channels = padded(width) * sizeof(float), group = tiles_of(states) * BLOCK * V * sizeof(float);
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
        for (int64_t t0 = (length - 1) / BLOCK * BLOCK; t0 >= 0; t0 -= BLOCK) {
            const int32_t *rows = f.rows + t0;
            int steps = least(BLOCK, length - t0);
            load_group(f.B, rows_of_group(s->B, r, b, piece.group, 0, dtype), rows, steps, states);
            load_group(f.C, rows_of_group(s->C, r, b, piece.group, 0, dtype), rows, steps, states);
            memset(f.dB, 0, group);
            memset(f.dC, 0, group);
            for (int64_t c = 0; c < width; c += LINE) backward_block(s, &f, piece, r, t0, steps, c);
            put_group(partial_group(s, plan, plan->dB, s->dB, r, piece), f.dB, rows, steps, states, adds(r, s->dB.r));
            put_group(partial_group(s, plan, plan->dC, s->dC, r, piece), f.dC, rows, steps, states, adds(r, s->dC.r));
        }
        store_weight_gradients(s, plan, &f, piece, r);
    }
    finish_sum(&f.du, length, width);
    finish_sum(&f.ddelta, length, width);
    finish_sum(&f.dz_sum, length, width);
}

/* dB and dC of one block of rows: the pieces' parts in the order of their channels, rounded once. */
static void sum_pieces(const Scan *s, const Plan *plan, int64_t r, int64_t b, int64_t group, int64_t t0) {
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
            for (int64_t k = 0; k < plan->chunks; k++) {
                Rows part = partial_group(s, plan, parts[which], *to[which], r, (Piece){.b = b, .group = group, .chunk = k});
                load_tile(more, from_channel(part, n), rows, steps, width);
                add_tiles(tile, more, width);
            }
            store_tile(rows_of_group(*to[which], r, b, group, n, s->seq.dtype), tile, rows, steps, width);
        }
    }
}

/* The causal depthwise convolution with SiLU, y_t = silu(bias + sum_w weight_w x_{t - W + 1 + w}), forward and backward.
 * A tile of x begins with the W - 1 rows before it in scan order, zeros before the first. */
#include "_cpu_scan.h"

static void load_taps(float *x, Rows from, const int32_t *rows, int64_t t0, int steps, int taps, int width) {
    int before = least(taps - 1, t0), missing = taps - 1 - before;
    memset(x, 0, missing * V * sizeof(float));
    load_tile(x + missing * V, from, rows + t0 - before, before + steps, width);
}

INLINE vf correlate(const float *x, const vf *weight, int taps, vf bias) {
    UNROLL for (int w = 0; w < taps; w++) bias += load(x + w * V) * weight[w];
    return bias;
}

INLINE void convolve(int taps, int silu, int steps, const float *x, const float *weight, vf bias, float *y) {
    vf kernel[taps];
    for (int w = 0; w < taps; w++) kernel[w] = load(weight + w * V);
    for (int t = 0; t < steps * V; t += V) {
        vf sum = correlate(x + t, kernel, taps, bias);
        store(y + t, silu ? sum * sigmoid(sum) : sum);
    }
}

/* `grad` holds d y at its first `steps` rows and d pre-activation of the tile after at the next W - 1. It becomes
 * d pre-activation, and dx correlates it with the taps turned round; dweight and dbias gain this tile's part. */
INLINE void convolve_back(int taps, int silu, int steps, const float *x, const float *weight, vf bias, float *grad,
                          float *dx, float *dweight, float *dbias) {
    vf kernel[taps], sums[taps], total = {0}, zero = {0};
    for (int w = 0; w < taps; w++) kernel[w] = load(weight + w * V), sums[w] = zero;
    for (int t = (steps - 1) * V; t >= 0; t -= V) {
        vf g = load(grad + t);
        if (silu) {
            vf y = correlate(x + t, kernel, taps, bias), s = sigmoid(y);
            g *= s * (1.0f + y * (1.0f - s));
        }
        store(grad + t, g);
        total += g;
        vf d = zero;
        UNROLL for (int w = 0; w < taps; w++) {
            sums[w] += g * load(x + t + w * V);
            d += kernel[w] * (w == taps - 1 ? g : load(grad + t + (taps - 1 - w) * V));
        }
        store(dx + t, d);
    }
    for (int w = 0; w < taps; w++) store(dweight + w * V, load(dweight + w * V) + sums[w]);
    store(dbias, load(dbias) + total);
}

#define PER_SILU(F, TAPS, SILU, ...) \
    do { if (SILU) F(TAPS, 1, __VA_ARGS__); else F(TAPS, 0, __VA_ARGS__); } while (0)
#define PER_TAPS(F, TAPS, SILU, ...) \
    do { if ((TAPS) == 4) PER_SILU(F, 4, SILU, __VA_ARGS__); else PER_SILU(F, TAPS, SILU, __VA_ARGS__); } while (0)

typedef struct {
    int32_t *rows;
    float *weight, *bias, *x, *y, *grad, *later, *dweight, *dbias;
    Sum dx;
} Convolution;

static size_t lay_out_conv(Convolution *f, const Conv *s, const Plan *plan, Piece piece, int backward, void *base) {
    Arena arena = {base, 0};
    int64_t channels = padded(plan->chunk), halo = (s->taps - 1) * V, tile = BLOCK * V;
    f->rows = (int32_t *)take(&arena, s->seq.length + BLOCK);
    f->weight = take(&arena, channels * s->taps), f->bias = take(&arena, channels);
    f->x = take(&arena, halo + tile), f->y = take(&arena, tile);
    if (backward) {
        f->grad = take(&arena, tile + halo), f->later = take(&arena, channels * s->taps);
        f->dweight = take(&arena, channels * s->taps), f->dbias = take(&arena, channels);
        f->dx = sum_into(&arena, &s->seq, s->dx, piece, plan->chunk);
    }
    return arena.used * sizeof(float);
}

static size_t conv_forward_bytes(const Conv *s, const Plan *plan) {
    Convolution f;
    return lay_out_conv(&f, s, plan, (Piece){0}, 0, NULL);
}

static size_t conv_backward_bytes(const Conv *s, const Plan *plan) {
    Convolution f;
    return lay_out_conv(&f, s, plan, (Piece){0}, 1, NULL);
}

static void load_conv_weights(const Convolution *f, const Conv *s, Piece piece, int64_t r) {
    fill_rows(f->rows, &s->seq, r, piece.b);
    load_states(f->weight, weights(s->weight, r, piece.c * s->taps), piece.width, s->taps, 1.0f);
    load_channels(f->bias, weights(s->bias, r, piece.c), piece.width);
}

static void conv_forward(const Conv *s, const Plan *plan, Piece piece, void *scratch) {
    Convolution f;
    lay_out_conv(&f, s, plan, piece, 0, scratch);
    const int64_t b = piece.b, length = s->seq.length, dtype = s->seq.dtype;
    for (int64_t r = 0; r < s->seq.directions; r++) {
        load_conv_weights(&f, s, piece, r);
        for (int64_t t0 = 0; t0 < length; t0 += BLOCK) {
            int steps = least(BLOCK, length - t0);
            for (int64_t c = 0; c < piece.width; c += V) {
                int width = least(V, piece.width - c);
                load_taps(f.x, rows_of(s->x, r, b, piece.c + c, dtype), f.rows, t0, steps, s->taps, width);
                PER_TAPS(convolve, s->taps, s->silu, steps, f.x, f.weight + c * s->taps, load(f.bias + c), f.y);
                store_tile(rows_of(s->out, r, b, piece.c + c, dtype), f.y, f.rows + t0, steps, width);
            }
        }
    }
}

static void conv_backward(const Conv *s, const Plan *plan, Piece piece, void *scratch) {
    Convolution f;
    lay_out_conv(&f, s, plan, piece, 1, scratch);
    const int64_t b = piece.b, length = s->seq.length, dtype = s->seq.dtype, taps = s->taps;
    const size_t channels = padded(piece.width) * sizeof(float), halo = (taps - 1) * V;
    for (int64_t r = 0; r < s->seq.directions; r++) {
        load_conv_weights(&f, s, piece, r);
        memset(f.later, 0, channels * taps);
        memset(f.dweight, 0, channels * taps);
        memset(f.dbias, 0, channels);
        for (int64_t t0 = (length - 1) / BLOCK * BLOCK; t0 >= 0; t0 -= BLOCK) {
            int steps = least(BLOCK, length - t0);
            for (int64_t c = 0; c < piece.width; c += V) {
                int width = least(V, piece.width - c);
                load_taps(f.x, rows_of(s->x, r, b, piece.c + c, dtype), f.rows, t0, steps, taps, width);
                load_tile(f.grad, rows_of(s->dout, r, b, piece.c + c, dtype), f.rows + t0, steps, width);
                memcpy(f.grad + steps * V, f.later + c * taps, halo * sizeof(float));
                PER_TAPS(convolve_back, taps, s->silu, steps, f.x, f.weight + c * taps, load(f.bias + c), f.grad, f.y,
                         f.dweight + c * taps, f.dbias + c);
                memcpy(f.later + c * taps, f.grad, halo * sizeof(float));
                put_tile(sum_rows(&f.dx, r, c), f.y, f.rows + t0, steps, width, adds(r, s->dx.r));
            }
        }
        int64_t weight_r = s->dweight.r ? r : 0, bias_r = s->dbias.r ? r : 0, channel = b * s->seq.channels + piece.c;
        int64_t each = s->seq.batch * s->seq.channels;
        store_states(plan->dweight + (weight_r * each + channel) * taps, f.dweight, piece.width, taps, adds(r, s->dweight.r));
        if (s->dbias.data)
            store_channels(plan->dbias + bias_r * each + channel, f.dbias, piece.width, adds(r, s->dbias.r));
    }
    finish_sum(&f.dx, length, piece.width);
}

/* The causal depthwise convolution with SiLU, y_t = silu(bias + sum_w weight_w x_{t - W + 1 + w}), forward and backward.
 * A tile of x begins with the W - 1 rows before it in scan order, zeros before the first. */
#include "scan.h"

/* Up to LINE channels of x, `height` = BLOCK + taps - 1 rows apart. */
static void load_taps(float *x, Rows from, const int32_t *rows, int64_t t0, int steps, int64_t taps, int width) {
    const int64_t before = least(taps - 1, t0), missing = taps - 1 - before, height = BLOCK + taps - 1;
    for (int c = 0; c < width; c += V) memset(x + c * height, 0, missing * V * sizeof(float));
    load_tall_tile(x + missing * V, height, from, rows + t0 - before, before + steps, width);
}

/* Four taps, as every Mamba has, stay in registers; any other number is read from memory, where it has room. */
#define USUAL_TAPS 4

static void correlate(int64_t taps, int steps, const float *x, const float *weight, vf bias, float *y) {
    if (taps == USUAL_TAPS) {
        vf kernel[USUAL_TAPS];
        UNROLL for (int w = 0; w < USUAL_TAPS; w++) kernel[w] = load(weight + w * V);
        OVERLAP for (int t = 0; t < steps * V; t += V) {
            vf sum = bias;
            UNROLL for (int w = 0; w < USUAL_TAPS; w++) sum += load(x + t + w * V) * kernel[w];
            store(y + t, sum);
        }
        return;
    }
    for (int t = 0; t < steps * V; t += V) {
        vf sum = bias;
        for (int64_t w = 0; w < taps; w++) sum += load(x + t + w * V) * load(weight + w * V);
        store(y + t, sum);
    }
}

static void through_silu(float *y, int steps) {
    OVERLAP for (int t = 0; t < steps * V; t += V) store(y + t, load(y + t) * sigmoid(load(y + t)));
}

/* d pre-activation in place of d y, given the pre-activation y. */
static void back_through_silu(float *grad, const float *y, int steps) {
    OVERLAP for (int t = 0; t < steps * V; t += V) {
        vf x = load(y + t), s = sigmoid(x);
        store(grad + t, load(grad + t) * s * (1.0f + x * (1.0f - s)));
    }
}

/* `grad` holds d pre-activation of this tile and of the W - 1 steps after it. dx correlates it with the taps turned round;
 * dweight and dbias gain this tile's part. */
static void correlate_back(int64_t taps, int steps, const float *x, const float *weight, const float *grad, float *dx,
                           float *dweight, float *dbias) {
    vf total = {0}, zero = {0};
    for (int t = 0; t < steps * V; t += V) total += load(grad + t);
    store(dbias, load(dbias) + total);
    if (taps == USUAL_TAPS) {
        vf kernel[USUAL_TAPS], sums[USUAL_TAPS];
        UNROLL for (int w = 0; w < USUAL_TAPS; w++) kernel[w] = load(weight + w * V), sums[w] = zero;
        for (int t = 0; t < steps * V; t += V) {
            vf g = load(grad + t), d = zero;
            UNROLL for (int w = 0; w < USUAL_TAPS; w++) {
                sums[w] += g * load(x + t + w * V);
                d += kernel[w] * load(grad + t + (USUAL_TAPS - 1 - w) * V);
            }
            store(dx + t, d);
        }
        UNROLL for (int w = 0; w < USUAL_TAPS; w++) store(dweight + w * V, load(dweight + w * V) + sums[w]);
        return;
    }
    for (int t = 0; t < steps * V; t += V) {
        vf d = zero;
        for (int64_t w = 0; w < taps; w++) d += load(weight + w * V) * load(grad + t + (taps - 1 - w) * V);
        store(dx + t, d);
    }
    for (int64_t w = 0; w < taps; w++) {
        vf sum = zero;
        for (int t = 0; t < steps * V; t += V) sum += load(grad + t) * load(x + t + w * V);
        store(dweight + w * V, load(dweight + w * V) + sum);
    }
}

typedef struct {
    int32_t *rows;
    float *weight, *bias, *x, *y, *grad, *later, *dweight, *dbias;
    Sum dx;
} Convolution;

static size_t lay_out_conv(Convolution *f, const Conv *s, const Plan *plan, Piece piece, int backward, void *base) {
    Arena arena = {base, 0};
    int64_t channels = padded(plan->chunk), line = BLOCK * LINE, tall = (BLOCK + s->taps - 1) * LINE;
    f->rows = (int32_t *)take(&arena, s->seq.length + BLOCK);
    f->weight = take(&arena, channels * s->taps), f->bias = take(&arena, channels);
    f->x = take(&arena, tall), f->y = take(&arena, line);
    if (backward) {
        f->grad = take(&arena, tall), f->later = take(&arena, channels * s->taps);
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
    const int64_t b = piece.b, length = s->seq.length, dtype = s->seq.dtype, taps = s->taps, height = BLOCK + taps - 1;
    for (int64_t r = 0; r < s->seq.directions; r++) {
        load_conv_weights(&f, s, piece, r);
        for (int64_t t0 = 0; t0 < length; t0 += BLOCK) {
            Fetch next = look_ahead(&s->seq, f.rows, t0, BLOCK, piece.width, is_channel_major(s->x));
            fetch_later(&next, rows_of(s->x, r, b, piece.c, dtype));
            fetch_later(&next, rows_of(s->out, r, b, piece.c, dtype));
            for (int64_t c = 0; c < piece.width; c += LINE) {
                int steps = least(BLOCK, length - t0), width = least(LINE, piece.width - c);
                load_taps(f.x, rows_of(s->x, r, b, piece.c + c, dtype), f.rows, t0, steps, taps, width);
                turn_to(&next, &s->seq, f.rows, t0, BLOCK, c + LINE);
                for (int m = 0; m * V < width; m++) {
                    float *x = f.x + m * height * V, *y = f.y + m * TILE, *weight = f.weight + (c + m * V) * taps;
                    fetch_lines(&next, BLOCK * V / LINE / 2);
                    correlate(taps, steps, x, weight, load(f.bias + c + m * V), y);
                    fetch_lines(&next, BLOCK * V / LINE / 2);
                    if (s->silu) through_silu(y, steps);
                }
                store_tile(rows_of(s->out, r, b, piece.c + c, dtype), f.y, f.rows + t0, steps, width);
            }
        }
    }
}

/* V channels of one block: f->x and d y in f->grad are loaded; leaves dx in f->y. */
static void conv_backward_tile(const Conv *s, const Convolution *f, Fetch *fetch, int steps, int64_t c, int64_t m) {
    const int64_t taps = s->taps, height = BLOCK + taps - 1, halo = (taps - 1) * V;
    float *x = f->x + m * height * V, *grad = f->grad + m * height * V, *y = f->y + m * TILE;
    float *weight = f->weight + c * taps, *dweight = f->dweight + c * taps, *later = f->later + c * taps;
    fetch_lines(fetch, BLOCK * V / LINE / 2);
    if (s->silu) {
        correlate(taps, steps, x, weight, load(f->bias + c), y);
        back_through_silu(grad, y, steps);
    }
    fetch_lines(fetch, BLOCK * V / LINE / 2);
    memcpy(grad + steps * V, later, halo * sizeof(float));
    correlate_back(taps, steps, x, weight, grad, y, dweight, f->dbias + c);
    memcpy(later, grad, halo * sizeof(float));
}

static void store_conv_weight_gradients(const Conv *s, const Plan *plan, const Convolution *f, Piece piece, int64_t r) {
    int64_t each = s->seq.batch * s->seq.channels, channel = piece.b * s->seq.channels + piece.c;
    float *dweight = plan->dweight + ((s->dweight.r ? r : 0) * each + channel) * s->taps;
    store_states(dweight, f->dweight, piece.width, s->taps, adds(r, s->dweight.r));
    if (s->dbias.data)
        store_channels(plan->dbias + (s->dbias.r ? r : 0) * each + channel, f->dbias, piece.width, adds(r, s->dbias.r));
}

static void conv_backward(const Conv *s, const Plan *plan, Piece piece, void *scratch) {
    Convolution f;
    lay_out_conv(&f, s, plan, piece, 1, scratch);
    const int64_t b = piece.b, length = s->seq.length, dtype = s->seq.dtype, taps = s->taps;
    const size_t channels = padded(piece.width) * sizeof(float);
    for (int64_t r = 0; r < s->seq.directions; r++) {
        load_conv_weights(&f, s, piece, r);
        memset(f.later, 0, channels * taps);
        memset(f.dweight, 0, channels * taps);
        memset(f.dbias, 0, channels);
        for (int64_t t0 = (length - 1) / BLOCK * BLOCK; t0 >= 0; t0 -= BLOCK) {
            Fetch next = look_ahead(&s->seq, f.rows, t0, -BLOCK, piece.width, is_channel_major(s->x));
            fetch_later(&next, rows_of(s->x, r, b, piece.c, dtype));
            fetch_later(&next, rows_of(s->dout, r, b, piece.c, dtype));
            fetch_later(&next, sum_rows(&f.dx, r, 0));
            for (int64_t c = 0; c < piece.width; c += LINE) {
                int steps = least(BLOCK, length - t0), width = least(LINE, piece.width - c);
                load_taps(f.x, rows_of(s->x, r, b, piece.c + c, dtype), f.rows, t0, steps, taps, width);
                load_tall_tile(f.grad, BLOCK + taps - 1, rows_of(s->dout, r, b, piece.c + c, dtype), f.rows + t0, steps, width);
                turn_to(&next, &s->seq, f.rows, t0, -BLOCK, c + LINE);
                for (int m = 0; m * V < width; m++) conv_backward_tile(s, &f, &next, steps, c + m * V, m);
                put_tile(sum_rows(&f.dx, r, c), f.y, f.rows + t0, steps, width, adds(r, s->dx.r));
            }
        }
        store_conv_weight_gradients(s, plan, &f, piece, r);
    }
    finish_sum(&f.dx, length, piece.width);
}

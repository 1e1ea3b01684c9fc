/* Between tensors of any strides and dtype and fp32 tiles [BLOCK steps][V channels] that live in the nearest cache.
 * Lanes are channels, so a channels-last tensor is copied as it lies, a (B, D, L) one is transposed in registers.
 * Memory is visited by the cache line, LINE channels at a time: that many fill LINE / V tiles, `height` steps apart. */
#include "simd.h"

#define LINE 16 /* fp32 channels */
#define TILE (BLOCK * V)

/* One direction of one sample, from some channel on: element (row, d) lies at data + row * l + d * d. */
typedef struct { char *data; int64_t l, d; int dtype; } Rows;

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t size_of(int dtype) { return dtype == FP32 ? 4 : 2; }

INLINE Rows rows_of(Tokens x, int64_t r, int64_t b, int64_t c, int64_t dtype) {
    return (Rows){x.data ? x.data + (r * x.r + b * x.b + c * x.d) * size_of(dtype) : NULL, x.l, x.d, dtype};
}

/* Whether the steps of a channel are neighbours. */
INLINE int is_channel_major(Tokens x) { return x.l == 1 && x.d != 1; }

INLINE Rows rows_of_group(Groups x, int64_t r, int64_t b, int64_t g, int64_t n, int64_t dtype) {
    return (Rows){x.data + (r * x.r + b * x.b + g * x.g + n * x.n) * size_of(dtype), x.l, x.n, dtype};
}

INLINE vf load_as(const char *p, int dtype) {
    if (dtype == FP32) return load((const float *)p);
    vh h = *(const vh_unaligned *)p;
    return dtype == BF16 ? from_bf16(h) : from_fp16(h);
}

INLINE void store_as(char *p, vf x, int dtype) {
    if (dtype == FP32) store((float *)p, x);
    else *(vh_unaligned *)p = dtype == BF16 ? to_bf16(x) : to_fp16(x);
}

/* The first `count` elements only, zeros after them; elements `stride` apart. */
static vf load_some(const char *p, int64_t stride, int count, int dtype) {
    if (stride == 1 && count == V) return load_as(p, dtype);
    float lanes[V] = {0};
    uint16_t halves[V] = {0};
    for (int i = 0; i < count; i++) {
        if (dtype == FP32) lanes[i] = ((const float *)p)[i * stride];
        else halves[i] = ((const uint16_t *)p)[i * stride];
    }
    return dtype == FP32 ? load(lanes) : load_as((const char *)halves, dtype);
}

static void store_some(char *p, int64_t stride, vf x, int count, int dtype) {
    if (stride == 1 && count == V) {
        store_as(p, x, dtype);
        return;
    }
    float lanes[V];
    uint16_t halves[V];
    store_as(dtype == FP32 ? (char *)lanes : (char *)halves, x, dtype);
    for (int i = 0; i < count; i++) {
        if (dtype == FP32) ((float *)p)[i * stride] = lanes[i];
        else ((uint16_t *)p)[i * stride] = halves[i];
    }
}

/* V rows that follow each other, so that V steps of one channel are neighbours in a (B, D, L) tensor. */
INLINE int consecutive(const int32_t *rows) {
    int gaps = 0;
    UNROLL for (int i = 1; i < V; i++) gaps |= rows[i] - rows[0] - i;
    return gaps == 0;
}

INLINE Rows from_channel(Rows x, int64_t c) {
    x.data += c * x.d * size_of(x.dtype);
    return x;
}

INLINE void load_lanes(float *tile, Rows x, const int32_t *rows, int64_t steps, int width, int dtype) {
    const int64_t size = size_of(dtype);
    int64_t t = 0;
    if (x.d == 1 && width == V) {
        for (; t < steps; t++) store(tile + t * V, load_as(x.data + rows[t] * x.l * size, dtype));
    } else if (x.l == 1 && width == V) {
        for (; t + V <= steps && consecutive(rows + t); t += V) {
            vf square[V];
            UNROLL for (int i = 0; i < V; i++) square[i] = load_as(x.data + (rows[t] + i * x.d) * size, dtype);
            transpose(square);
            UNROLL for (int i = 0; i < V; i++) store(tile + (t + i) * V, square[i]);
        }
    }
    for (; t < steps; t++) store(tile + t * V, load_some(x.data + rows[t] * x.l * size, x.d, width, dtype));
}

INLINE void store_lanes(Rows x, const float *tile, const int32_t *rows, int steps, int width, int dtype) {
    const int64_t size = size_of(dtype);
    int t = 0;
    if (x.d == 1 && width == V) {
        for (; t < steps; t++) store_as(x.data + rows[t] * x.l * size, load(tile + t * V), dtype);
    } else if (x.l == 1 && width == V) {
        for (; t + V <= steps && consecutive(rows + t); t += V) {
            vf square[V];
            UNROLL for (int i = 0; i < V; i++) square[i] = load(tile + (t + i) * V);
            transpose(square);
            UNROLL for (int i = 0; i < V; i++) store_as(x.data + (rows[t] + i * x.d) * size, square[i], dtype);
        }
    }
    for (; t < steps; t++) store_some(x.data + rows[t] * x.l * size, x.d, load(tile + t * V), width, dtype);
}

INLINE void load_tile_as(float *tile, int64_t height, Rows x, const int32_t *rows, int64_t steps, int width, int dtype) {
    if (x.d == 1 && width == LINE) {
        for (int64_t t = 0; t < steps; t++) {
            const char *p = x.data + rows[t] * x.l * size_of(dtype);
            UNROLL for (int m = 0; m < LINE / V; m++)
                store(tile + (m * height + t) * V, load_as(p + m * V * size_of(dtype), dtype));
        }
    } else {
        for (int c = 0; c < width; c += V)
            load_lanes(tile + c * height, from_channel(x, c), rows, steps, least(V, width - c), dtype);
    }
}

INLINE void store_tile_as(Rows x, const float *tile, const int32_t *rows, int steps, int width, int dtype) {
    if (x.d == 1 && width == LINE) {
        for (int t = 0; t < steps; t++)
            UNROLL for (int m = 0; m < LINE / V; m++)
                store_as(x.data + (rows[t] * x.l + m * V) * size_of(dtype), load(tile + m * TILE + t * V), dtype);
    } else {
        for (int c = 0; c < width; c += V)
            store_lanes(from_channel(x, c), tile + c * BLOCK, rows, steps, least(V, width - c), dtype);
    }
}

/* Up to LINE channels. */
static void load_tall_tile(float *tile, int64_t height, Rows x, const int32_t *rows, int64_t steps, int width) {
    if (x.dtype == FP32) load_tile_as(tile, height, x, rows, steps, width, FP32);
    else if (x.dtype == BF16) load_tile_as(tile, height, x, rows, steps, width, BF16);
    else load_tile_as(tile, height, x, rows, steps, width, FP16);
}

static void load_tile(float *tile, Rows x, const int32_t *rows, int steps, int width) {
    load_tall_tile(tile, BLOCK, x, rows, steps, width);
}

static void store_tile(Rows x, const float *tile, const int32_t *rows, int steps, int width) {
    if (x.dtype == FP32) store_tile_as(x, tile, rows, steps, width, FP32);
    else if (x.dtype == BF16) store_tile_as(x, tile, rows, steps, width, BF16);
    else store_tile_as(x, tile, rows, steps, width, FP16);
}

static void add_tiles(float *tiles, const float *more, int width) {
    for (int i = 0; i < (width + V - 1) / V * TILE; i += V) store(tiles + i, load(tiles + i) + load(more + i));
}

/* Store, or add to what an earlier direction has stored (fp32 only, see Sum). */
static void put_tile(Rows x, float *tile, const int32_t *rows, int steps, int width, int add) {
    if (add) {
        float before[BLOCK * LINE];
        load_tile(before, x, rows, steps, width);
        add_tiles(tile, before, width);
    }
    store_tile(x, tile, rows, steps, width);
}

/* What will be read soon: runs of lines, each `step` bytes after the one before. They are fetched a few at a time between
 * stretches of arithmetic: all at once they would queue up before the memory. */
typedef struct {
    Rows of[8];
    const char *next[8];
    int64_t step[8];
    const int32_t *rows;
    int64_t width, lines; /* channels of the piece; lines of each tensor that are left */
    int tensors, along_rows, run, left, row, channel; /* lines of a run, of this run, and where the next run begins */
} Fetch;

/* Few lanes take so long for LINE channels that their lines can be fetched into the nearest cache, just before they are
 * needed. Else whole rows, one after the other, are fetched into the second cache: memory sees streams. */
#ifndef JUST_BEFORE
#define JUST_BEFORE (V == 4)
#endif

static void next_run(Fetch *f) {
    for (int i = 0; i < f->tensors; i++) {
        const Rows x = f->of[i];
        f->next[i] = x.data + (f->rows[f->row] * x.l + f->channel * x.d) * size_of(x.dtype);
    }
    f->left = f->run;
    if (f->along_rows) f->row++;
    else f->channel++;
}

/* The next `lines` lines of each tensor. */
static void fetch_lines(Fetch *f, int64_t lines) {
    for (lines = least(lines, f->lines), f->lines -= lines; lines > 0;) {
        if (f->left == 0) next_run(f);
        const int count = least(lines, f->left);
        for (int i = 0; i < f->tensors; i++) {
            for (int k = 0; k < count; k++) __builtin_prefetch(f->next[i] + k * f->step[i], 0, JUST_BEFORE ? 3 : 2);
            f->next[i] += count * f->step[i];
        }
        f->left -= count, lines -= count;
    }
}

INLINE void fetch_later(Fetch *f, Rows x) {
    if (!x.data) return;
    f->step[f->tensors] = LINE * (f->along_rows ? x.d : x.l) * size_of(x.dtype);
    f->of[f->tensors++] = x;
}

/* A tensor that all directions add up in. One of 16 bits is summed in fp32 rows of the piece's own and rounded once. */
typedef struct { Tokens to; Rows sum; int64_t b, c; int dtype, own; } Sum;

INLINE int needs_own_sum(const Sequence *seq, Tokens x) {
    return x.data && x.r == 0 && seq->directions > 1 && seq->dtype != FP32;
}

INLINE int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

/* Carves arrays of floats out of the scratch memory; with NULL it only counts. */
typedef struct { float *base; size_t used; } Arena;

INLINE float *take(Arena *arena, int64_t floats) {
    float *p = arena->base ? arena->base + arena->used : NULL;
    arena->used += padded(floats);
    return p;
}

static Sum sum_into(Arena *arena, const Sequence *seq, Tokens x, Piece piece, int64_t chunk) {
    Sum s = {.to = x, .b = piece.b, .c = piece.c, .dtype = seq->dtype, .own = needs_own_sum(seq, x)};
    if (s.own) s.sum = (Rows){(char *)take(arena, seq->length * padded(chunk)), padded(chunk), 1, FP32};
    return s;
}

/* The rows of direction r, `c` channels into the piece. */
INLINE Rows sum_rows(const Sum *s, int64_t r, int64_t c) {
    if (!s->own) return rows_of(s->to, r, s->b, s->c + c, s->dtype);
    return (Rows){s->sum.data + c * 4, s->sum.l, 1, FP32};
}

static void finish_sum(const Sum *s, int64_t length, int64_t width) {
    if (!s->own) return;
    float tile[BLOCK * LINE];
    int32_t rows[BLOCK];
    Rows to = rows_of(s->to, 0, s->b, s->c, s->dtype);
    for (int64_t t = 0; t < length; t += BLOCK) {
        int steps = least(BLOCK, length - t);
        for (int i = 0; i < steps; i++) rows[i] = t + i;
        for (int64_t c = 0; c < width; c += LINE) {
            int lanes = least(LINE, width - c);
            load_tile(tile, sum_rows(s, 0, c), rows, steps, lanes);
            store_tile(from_channel(to, c), tile, rows, steps, lanes);
        }
    }
}

/* What to fetch while `height` rows from t0 on are computed, `height` lines with each LINE channels. Where a line holds channels
 * of one row: the next rows (on = height, or -height where time runs backwards). Where it holds rows of one channel, or just
 * before they are needed: the next LINE channels of these rows, see `turn_to`. */
static Fetch look_ahead(const Sequence *seq, const int32_t *rows, int64_t t0, int on, int64_t width, int channel_major) {
    const int64_t t1 = t0 + on, height = on < 0 ? -on : on, per_row = (width + LINE - 1) / LINE;
    Fetch f = {.along_rows = !channel_major, .width = width};
    if (channel_major) f.run = height / LINE;
    else if (JUST_BEFORE) f.run = 1;
    else if (t1 >= 0 && t1 < seq->length) f.run = per_row, f.rows = rows + t1, f.lines = per_row * least(height, seq->length - t1);
    return f;
}

/* Channels from c on are next to be computed in the rows from t0 on. */
static void turn_to(Fetch *f, const Sequence *seq, const int32_t *rows, int64_t t0, int on, int64_t c) {
    if (f->along_rows && !JUST_BEFORE) return;
    const int64_t t1 = c < f->width ? t0 : t0 + on, height = on < 0 ? -on : on;
    f->rows = rows + t1, f->row = 0, f->left = 0, f->channel = c < f->width ? c : 0;
    if (t1 < 0 || t1 >= seq->length) f->lines = 0;
    else if (f->along_rows) f->lines = least(height, seq->length - t1);
    else f->lines = least(LINE, f->width - f->channel) * f->run;
}

/* The row that each step visits. A segment that does not exist becomes one that does: a wrong order gives wrong results, but
 * never reaches into foreign memory. */
static void fill_rows(int32_t *rows, const Sequence *seq, int64_t r, int64_t b) {
    if (!seq->order) {
        for (int64_t t = 0; t < seq->length; t++) rows[t] = t;
        return;
    }
    const int64_t *order = seq->order + r * seq->order_r + b * seq->order_b, run = seq->length / seq->segments;
    for (int64_t s = 0; s < seq->segments; s++) {
        const int64_t segment = order[s] < 0 ? 0 : least(order[s], seq->segments - 1);
        for (int64_t i = 0; i < run; i++) rows[s * run + i] = segment * run + i;
    }
}

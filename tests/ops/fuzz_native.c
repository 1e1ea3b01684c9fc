/* A target for libFuzzer: makes a call of one entry of the native kernels out of any bytes, and looks at what it does.
 *
 * Compiled once for each entry: -DENTRY=SCAN_FORWARD, SCAN_BACKWARD, CONV_FORWARD or CONV_BACKWARD, see fuzz.py. The bytes
 * choose sizes, strides, sharing, order, dtype, instruction set, threads and values. What is wrong ends the process:
 *
 *   - a byte outside a tensor is read or written: each tensor has memory of its own, no more than its strides reach, which
 *     AddressSanitizer watches;
 *   - memory between the elements of a result is written;
 *   - another number of threads changes a bit;
 *   - an element of a result is not written, or another instruction set finds something else (for values of usual size).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

#define SCAN_FORWARD 0
#define SCAN_BACKWARD 1
#define CONV_FORWARD 2
#define CONV_BACKWARD 3

const char *rgbt_fusion_level(int64_t level);
int rgbt_fusion_scan_forward(const Scan *);
int rgbt_fusion_scan_backward(const Scan *);
int rgbt_fusion_conv_forward(const Conv *);
int rgbt_fusion_conv_backward(const Conv *);

#define LEVELS 3
#define AXES 5
#define MOST_TENSORS 40
/* About, of a tensor: many small calls find more than few large ones, and one in LARGE_ONES is large. */
#define MOST_ELEMENTS 3000
#define MOST_OF_SMALL 300
#define LARGE_ONES 8
#define NOT_WRITTEN 0xff /* each byte of a result before the call: NaN in every dtype */

static void fail(const char *what) {
    fprintf(stderr, "finding: %s\n", what);
    abort();
}

/* ---- the input ---- */

typedef struct { const uint8_t *at; size_t left; } Bytes;

/* The next byte; zeros after the last. */
static int64_t next_byte(Bytes *in) {
    if (!in->left) return 0;
    in->left--;
    return *in->at++;
}

static int64_t below(Bytes *in, int64_t limit) {
    int64_t value = next_byte(in);
    if (limit > 256) value = value << 8 | next_byte(in);
    return value % limit;
}

/* Whether the call may be large. All bytes decide, so that most changed copies of a large input are small: what is found in
 * large calls is tried in many small ones. */
static int may_be_large(Bytes *in) {
    const int64_t first = next_byte(in);
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < in->left; i++) hash = (hash ^ in->at[i]) * 16777619u;
    return (first ^ hash) % LARGE_ONES == 0;
}

/* Mostly small, at times anything up to the limit: what happens at borders of 4, 8, 16 and 64. */
static int64_t size_below(Bytes *in, int64_t limit) {
    static const int64_t borders[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17, 19, 31, 33};
    static const int64_t wide[] = {32, 63, 64, 65, 80, 127, 128, 129};
    const int64_t kind = next_byte(in);
    const int64_t size = kind < 240 ? borders[kind % 16] : kind < 254 ? wide[kind % 8] : 1 + below(in, limit - 1);
    return size < limit ? size : limit - 1;
}

/* 1, 2 or 3. */
static int64_t few(Bytes *in) {
    const int64_t kind = below(in, 8);
    return kind < 5 ? 1 : kind < 7 ? 2 : 3;
}

static uint64_t random_state;

static uint64_t random_bits(void) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return random_state;
}

static float uniform(float low, float high) { return low + (high - low) * (float)(random_bits() >> 40) / (float)(1 << 24); }

/* ---- tensors ---- */

typedef struct {
    char *memory, *data;
    size_t bytes, skew; /* from `data` on; how far that is from the start of `memory` */
    int64_t size, sizes[AXES], strides[AXES];
    void *field; /* of the struct, where the address goes */
} Tensor;

typedef struct {
    Bytes in;
    Tensor inputs[MOST_TENSORS], results[MOST_TENSORS];
    int input_count, result_count;
    int64_t directions, dtype;
    int wild; /* values of any bits */
} Call;

static int64_t size_of(int64_t dtype) { return dtype == FP32 ? 4 : 2; }

/* One element. The compiler knows each size, so that no function of the sanitizer is called for every element. */
static void copy_element(char *to, const char *from, size_t size) {
    if (size == 2) memcpy(to, from, 2);
    else if (size == 4) memcpy(to, from, 4);
    else memcpy(to, from, 8);
}

static int is_untouched(const char *at, size_t size) {
    uint64_t bits = UINT64_MAX; /* NOT_WRITTEN */
    copy_element((char *)&bits, at, size);
    return bits == UINT64_MAX;
}

static void make_untouched(char *at, size_t size) {
    const uint64_t bits = UINT64_MAX;
    copy_element(at, (const char *)&bits, size);
}

static void store_number(char *at, float x, int64_t dtype) {
    uint32_t bits;
    if (dtype == FP16) {
        _Float16 half = (_Float16)x;
        memcpy(at, &half, 2);
        return;
    }
    memcpy(&bits, &x, 4);
    if (dtype == BF16) bits >>= 16;
    copy_element(at, (const char *)&bits, size_of(dtype));
}

static float number_at(const char *at, int64_t dtype) {
    float x;
    uint32_t bits = 0;
    if (dtype == FP16) {
        _Float16 half;
        memcpy(&half, at, 2);
        return (float)half;
    }
    copy_element((char *)&bits, at, size_of(dtype));
    if (dtype == BF16) bits <<= 16;
    memcpy(&x, &bits, 4);
    return x;
}

static int64_t count_of(const Tensor *x) {
    int64_t count = 1;
    for (int i = 0; i < AXES; i++) count *= x->sizes[i];
    return count;
}

/* From element to element, the last axis fastest. */
typedef struct { const Tensor *of; char *at; int64_t index[AXES]; } Walk;

static Walk begin(const Tensor *x) { return (Walk){.of = x, .at = x->data}; }

static void step(Walk *walk) {
    const Tensor *x = walk->of;
    for (int i = AXES - 1; i >= 0; i--) {
        walk->at += x->strides[i] * x->size;
        if (++walk->index[i] < x->sizes[i]) return;
        walk->at -= x->strides[i] * x->sizes[i] * x->size;
        walk->index[i] = 0;
    }
    walk->at = NULL;
}

/* Memory for a tensor whose sizes and strides are known. */
static void allocate(Tensor *x, int64_t skew) {
    int64_t last = 0;
    for (int i = 0; i < AXES; i++) last += (x->sizes[i] - 1) * x->strides[i];
    x->skew = skew * x->size;
    x->bytes = (last + 1) * x->size;
    x->memory = malloc(x->skew + x->bytes);
    x->data = x->memory + x->skew;
    memset(x->memory, NOT_WRITTEN, x->skew + x->bytes);
}

/* Strides as the input says: as the axes stand, or tokens or channels innermost, with gaps, in any order, and, where it may be,
 * one element for a whole axis. */
static void choose_strides(Bytes *in, Tensor *x, int may_repeat) {
    static const int tokens_last[] = {0, 1, 3, 4, 2};
    const int64_t kind = below(in, 8);
    int axes[AXES] = {0, 1, 2, 3, 4};
    int64_t stride = 1;
    if (kind == 1) memcpy(axes, tokens_last, sizeof axes);
    if (kind >= 4)
        for (int i = AXES - 1; i > 0; i--) {
            const int j = below(in, i + 1), swapped = axes[i];
            axes[i] = axes[j], axes[j] = swapped;
        }
    if (kind >= 6) stride = 1 + below(in, 3);
    for (int i = AXES - 1; i >= 0; i--) {
        const int axis = axes[i];
        x->strides[axis] = stride;
        stride *= x->sizes[axis];
        if (kind == 2 || kind == 3 || kind >= 6) stride += below(in, 8);
    }
    if (may_repeat && kind == 7)
        for (int64_t mask = next_byte(in), i = 0; i < AXES; i++)
            if (mask >> i & 1) x->strides[i] = 0;
}

/* Another tensor like `x` for a result, which shares nothing but the arrangement. */
static Tensor *add_result(Call *call, const Tensor *like, void *field) {
    Tensor *x = &call->results[call->result_count++];
    *x = *like;
    x->field = field;
    x->memory = x->data = NULL;
    return x;
}

static Tensor *add_input(Call *call, const int64_t *sizes, int64_t dtype, void *field) {
    Tensor *x = &call->inputs[call->input_count++];
    x->size = size_of(dtype);
    x->field = field;
    memcpy(x->sizes, sizes, sizeof x->sizes);
    return x;
}

static void fill(const Call *call, Tensor *x, int64_t dtype, float low, float high) {
    for (Walk walk = begin(x); walk.at; step(&walk)) {
        const uint64_t bits = random_bits();
        if (call->wild && bits % 4 == 0) copy_element(walk.at, (const char *)&bits + 4, x->size);
        else store_number(walk.at, uniform(low, high), dtype);
    }
}

/* Strides as `cpu.h` has them: directions that share are 0 apart. */
static int64_t direction_stride(const Tensor *x) { return x->sizes[0] > 1 ? x->strides[0] : 0; }

static Tokens tokens_of(const Tensor *x) {
    return (Tokens){x->data, direction_stride(x), x->strides[1], x->strides[2], x->strides[3]};
}

static Groups groups_of(const Tensor *x) {
    return (Groups){x->data, direction_stride(x), x->strides[1], x->strides[2], x->strides[3], x->strides[4]};
}

static int64_t leading(Call *call) { return below(&call->in, 2) ? call->directions : 1; }

static Tensor *add_tokens(Call *call, const Sequence *seq, Tokens *field, float low, float high) {
    const int64_t sizes[AXES] = {leading(call), seq->batch, seq->length, seq->channels, 1};
    Tensor *x = add_input(call, sizes, seq->dtype, field);
    choose_strides(&call->in, x, 1);
    allocate(x, below(&call->in, 4));
    fill(call, x, seq->dtype, low, high);
    *field = tokens_of(x);
    return x;
}

static Tensor *add_groups(Call *call, const Scan *s, Groups *field) {
    const int64_t sizes[AXES] = {leading(call), s->seq.batch, s->seq.length, s->groups, s->states};
    Tensor *x = add_input(call, sizes, s->seq.dtype, field);
    choose_strides(&call->in, x, 1);
    allocate(x, below(&call->in, 4));
    fill(call, x, s->seq.dtype, -1.0f, 1.0f);
    *field = groups_of(x);
    return x;
}

static void contiguous(Tensor *x) {
    int64_t stride = 1;
    for (int i = AXES - 1; i >= 0; i--) {
        x->strides[i] = stride;
        stride *= x->sizes[i];
    }
}

static Tensor *add_weights(Call *call, Weights *field, int64_t samples, int64_t channels, int64_t each, float low, float high) {
    const int64_t sizes[AXES] = {leading(call), samples, channels, each, 1};
    Tensor *x = add_input(call, sizes, FP32, field);
    contiguous(x);
    allocate(x, 0);
    fill(call, x, FP32, low, high);
    *field = (Weights){(float *)x->data, direction_stride(x)};
    return x;
}

/* The gradient of an input has its shape and an arrangement without repeated elements. */
static void add_token_gradient(Call *call, const Tensor *of, Tokens *field) {
    Tensor *x = add_result(call, of, field);
    choose_strides(&call->in, x, 0);
    *field = tokens_of(x);
}

static void add_group_gradient(Call *call, const Tensor *of, Groups *field) {
    Tensor *x = add_result(call, of, field);
    choose_strides(&call->in, x, 0);
    *field = groups_of(x);
}

static void add_weight_gradient(Call *call, const Tensor *of, Weights *field) {
    add_result(call, of, field);
    field->r = direction_stride(of);
}

static void add_floats(Call *call, int64_t count, void *field) {
    const Tensor like = {.size = 4, .sizes = {1, 1, 1, 1, count}, .strides = {0, 0, 0, 0, 1}};
    add_result(call, &like, field);
}

/* ---- a call ---- */

static int32_t in_this_thread(int64_t begin, int64_t end, int64_t grain, void (*run)(int64_t, int64_t, void *), void *job) {
    (void)grain;
    for (; begin < end; begin++) run(begin, begin + 1, job);
    return 0;
}

static int32_t refuses(int64_t begin, int64_t end, int64_t grain, void (*run)(int64_t, int64_t, void *), void *job) {
    (void)begin, (void)end, (void)grain, (void)run, (void)job;
    return 1;
}

/* Whether this processor runs an instruction set. Asked once: a virtual machine answers slowly. */
static int runs(int64_t level) {
    static int known[LEVELS]; /* 0, or 1 more than the answer */
    if (!known[level]) known[level] = 1 + (rgbt_fusion_level(level) != NULL);
    return known[level] - 1;
}

/* Sizes and order. Returns whether the order visits each row once. */
static int choose_sequence(Call *call, Sequence *seq, int64_t most_channels) {
    Bytes *in = &call->in;
    void *const pools[] = {NULL, NULL, (void *)in_this_thread, (void *)refuses};
    const int64_t most_elements = may_be_large(in) ? MOST_ELEMENTS : MOST_OF_SMALL;
    const int64_t threads = next_byte(in);
    seq->level = below(in, LEVELS);
    if (!runs(seq->level)) seq->level = 0;
    seq->threads = threads < 240 ? 1 : 1 + threads % 5;
    seq->parallel_for = pools[below(in, 4)];
    seq->dtype = call->dtype = below(in, 3);
    call->wild = below(in, 4) == 1;
    seq->directions = call->directions = few(in);
    seq->batch = few(in);
    seq->channels = size_below(in, most_channels);
    const int64_t longest = most_elements / (seq->directions * seq->batch * seq->channels);
    seq->length = size_below(in, longest < 200 ? longest + 2 : 200);
    random_state = 1 + (uint64_t)below(in, 65536);

    const int64_t kind = below(in, 4);
    if (kind < 2) return 1;
    do seq->segments = 1 + below(in, 12);
    while (seq->length % seq->segments);
    const int64_t sizes[AXES] = {leading(call), below(in, 2) ? seq->batch : 1, seq->segments, 1, 1};
    Tensor *order = add_input(call, sizes, FP32, NULL);
    order->size = 8;
    contiguous(order);
    allocate(order, 0);
    seq->order = (int64_t *)order->data;
    seq->order_r = direction_stride(order);
    seq->order_b = sizes[1] > 1 ? order->strides[1] : 0;
    for (int64_t row = 0; row < sizes[0] * sizes[1]; row++) {
        int64_t *to = seq->order + row * seq->segments;
        for (int64_t i = 0; i < seq->segments; i++) to[i] = i;
        for (int64_t i = seq->segments - 1; i > 0; i--) {
            const int64_t j = random_bits() % (i + 1), swapped = to[i];
            to[i] = to[j], to[j] = swapped;
        }
        for (int64_t i = 0; kind == 3 && i < seq->segments; i++)
            if (random_bits() % 2) to[i] = (int64_t)random_bits() >> random_bits() % 64;
    }
    return kind == 2;
}

static int all_untouched(const char *memory, size_t bytes) {
    return (unsigned char)memory[0] == NOT_WRITTEN && !memcmp(memory, memory + 1, bytes - 1);
}

static void set_address(const Tensor *x) { memcpy(x->field, &x->data, sizeof x->data); }

static char *run(Call *call, int (*entry)(const void *), const void *packed, int *whole) {
    size_t total = 0;
    for (int i = 0; i < call->result_count; i++) {
        Tensor *x = &call->results[i];
        allocate(x, i % 3);
        set_address(x);
        total += count_of(x) * x->size;
    }
    if (entry(packed)) fail("memory ran out");

    /* what was found, one element after the other; the rest of the memory must be as it was */
    char *found = malloc(total + 1), *to = found;
    for (int i = 0; i < call->result_count; i++) {
        Tensor *x = &call->results[i];
        for (Walk walk = begin(x); walk.at; step(&walk), to += x->size) {
            copy_element(to, walk.at, x->size);
            *whole &= !is_untouched(to, x->size);
            make_untouched(walk.at, x->size);
        }
        if (!all_untouched(x->memory, x->skew + x->bytes)) fail("memory that belongs to no element was written");
        free(x->memory);
    }
    return found;
}

static void compare(const Call *call, const char *one, const char *other) {
    const float tolerances[] = {1e-4f, 3e-2f, 6e-3f};
    for (int i = 0; i < call->result_count; i++) {
        const Tensor *x = &call->results[i];
        const int64_t dtype = x->size == 4 ? FP32 : call->dtype, count = count_of(x);
        /* values of about 1 that cancel have no smaller error; a result that is smaller sums hundreds of them */
        float largest = count < count_of(&call->results[0]) ? 0.5f : 0.05f, error = 0.0f;
        for (int64_t k = 0; k < count; k++, one += x->size, other += x->size) {
            const float a = number_at(one, dtype), b = number_at(other, dtype);
            if (!(fabsf(a) < 1e30f) || !(fabsf(b) < 1e30f)) fail("usual values gave a result that is no number");
            largest = fmaxf(largest, fabsf(a)), error = fmaxf(error, fabsf(a - b));
        }
        if (error > tolerances[dtype] * largest) {
            fprintf(stderr, "result %d differs by %g of %g\n", i, error, largest);
            fail("instruction sets differ");
        }
    }
}

/* Run as the input says, with one thread, and with the narrowest instruction set. */
static void examine(Call *call, int (*entry)(const void *), const void *packed, Sequence *seq, int ordered) {
    int whole = 1;
    size_t total = 0;
    char *first = run(call, entry, packed, &whole);
    for (int i = 0; i < call->result_count; i++) total += count_of(&call->results[i]) * call->results[i].size;
    /* rows that a wrong order leaves out have whatever was in memory */
    if (ordered && !call->wild && !whole) fail("an element of a result was not written");
    if (ordered && seq->threads > 1) {
        seq->threads = 1;
        char *alone = run(call, entry, packed, &whole);
        if (memcmp(first, alone, total)) fail("one thread finds other bits");
        free(alone);
    }
    if (ordered && !call->wild && seq->level > 0) {
        seq->level = 0;
        char *narrow = run(call, entry, packed, &whole);
        compare(call, first, narrow);
        free(narrow);
    }
    free(first);
}

#if ENTRY == SCAN_FORWARD || ENTRY == SCAN_BACKWARD

static int has(Call *call) { return below(&call->in, 2); }

static int forward(const void *scan) { return rgbt_fusion_scan_forward(scan); }

/* The backward pass begins at the states that the forward pass of the same instruction set kept. */
static int both_passes(const void *scan) {
    Scan s = *(const Scan *)scan;
    const Sequence *seq = &s.seq;
    const int64_t states = seq->directions * seq->batch * seq->channels * s.states;
    const int64_t kept = (seq->length + CHECKPOINT - 1) / CHECKPOINT;
    const int64_t row = seq->channels, sample = row * seq->length, direction = sample * seq->batch;
    s.out = (Tokens){malloc(direction * seq->directions * size_of(seq->dtype)), direction, sample, row, 1};
    s.last = malloc(states * sizeof(float));
    s.checkpoints = malloc(kept * states * sizeof(float));
    int failed = rgbt_fusion_scan_forward(&s);
    free(s.out.data), free(s.last);
    s.out = (Tokens){0}, s.last = NULL;
    failed |= rgbt_fusion_scan_backward(&s);
    free(s.checkpoints);
    return failed;
}

static void try_scan(Call *call) {
    Scan s = {0};
    Sequence *seq = &s.seq;
    const int ordered = choose_sequence(call, seq, 200);
    s.groups = 1 + below(&call->in, 3);
    if (seq->channels % s.groups) s.groups = 1;
    s.states = next_byte(&call->in) % 8 ? 1 + below(&call->in, 6) : 1 + below(&call->in, 20);
    s.softplus = has(call);
    const int64_t D = seq->channels, N = s.states;
    Tensor *u = add_tokens(call, seq, &s.u, -1.0f, 1.0f);
    Tensor *delta = s.softplus ? add_tokens(call, seq, &s.delta, -6.0f, -2.0f) : add_tokens(call, seq, &s.delta, 1e-3f, 0.1f);
    Tensor *z = has(call) ? add_tokens(call, seq, &s.z, -2.0f, 2.0f) : NULL;
    Tensor *B = add_groups(call, &s, &s.B), *C = add_groups(call, &s, &s.C);
    Tensor *A = add_weights(call, &s.A, 1, D, N, -4.0f, -0.1f);
    Tensor *readout = has(call) ? add_weights(call, &s.readout, 1, D, N, -1.0f, 1.0f) : NULL;
    Tensor *skip = has(call) ? add_weights(call, &s.D, 1, D, 1, -1.0f, 1.0f) : NULL;
    Tensor *bias = has(call) ? add_weights(call, &s.bias, 1, D, 1, 0.0f, 0.1f) : NULL;
    Tensor *start = has(call) ? add_weights(call, &s.start, seq->batch, D, N, -1.0f, 1.0f) : NULL;
    const int64_t states = seq->directions * seq->batch * D * N;
#if ENTRY == SCAN_FORWARD
    Tensor out = *u;
    out.sizes[0] = has(call) ? seq->directions : 1; /* 1: merged */
    add_token_gradient(call, &out, &s.out);
    add_floats(call, states, &s.last);
    /* how the states are kept is a matter of the instruction set, hence not compared: both_passes reads them */
    const int64_t kept = (seq->length + CHECKPOINT - 1) / CHECKPOINT;
    if (has(call)) s.checkpoints = malloc(kept * states * sizeof(float));
    examine(call, forward, &s, seq, ordered);
    free(s.checkpoints);
#else
    add_tokens(call, seq, &s.dout, -1.0f, 1.0f);
    if (has(call)) {
        const int64_t sizes[AXES] = {1, 1, 1, 1, states};
        Tensor *dlast = add_input(call, sizes, FP32, &s.dlast);
        contiguous(dlast);
        allocate(dlast, 0);
        fill(call, dlast, FP32, -1.0f, 1.0f);
        s.dlast = (float *)dlast->data;
    }
    add_token_gradient(call, u, &s.du), add_token_gradient(call, delta, &s.ddelta);
    if (z) add_token_gradient(call, z, &s.dz);
    add_group_gradient(call, B, &s.dB), add_group_gradient(call, C, &s.dC);
    add_weight_gradient(call, A, &s.dA);
    if (readout) add_weight_gradient(call, readout, &s.dreadout);
    if (skip) add_weight_gradient(call, skip, &s.dD);
    if (bias) add_weight_gradient(call, bias, &s.dbias);
    if (start) add_weight_gradient(call, start, &s.dstart);
    examine(call, both_passes, &s, seq, ordered);
#endif
}
#define TRY try_scan

#else

static int forward(const void *conv) { return rgbt_fusion_conv_forward(conv); }
static int backward(const void *conv) { return rgbt_fusion_conv_backward(conv); }

static void try_conv(Call *call) {
    Conv s = {0};
    Sequence *seq = &s.seq;
    const int ordered = choose_sequence(call, seq, 300);
    s.taps = 1 + below(&call->in, 8);
    s.silu = below(&call->in, 2);
    Tensor *x = add_tokens(call, seq, &s.x, -1.0f, 1.0f);
    Tensor *weight = add_weights(call, &s.weight, 1, seq->channels, s.taps, -1.0f, 1.0f);
    Tensor *bias = below(&call->in, 2) ? add_weights(call, &s.bias, 1, seq->channels, 1, -1.0f, 1.0f) : NULL;
    Tensor every = *x;
    every.sizes[0] = seq->directions;
#if ENTRY == CONV_FORWARD
    add_token_gradient(call, &every, &s.out);
    examine(call, forward, &s, seq, ordered);
#else
    add_tokens(call, seq, &s.dout, -1.0f, 1.0f);
    add_token_gradient(call, x, &s.dx);
    add_weight_gradient(call, weight, &s.dweight);
    if (bias) add_weight_gradient(call, bias, &s.dbias);
    examine(call, backward, &s, seq, ordered);
#endif
}
#define TRY try_conv

#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Call call = {.in = {data, size}};
    TRY(&call);
    for (int i = 0; i < call.input_count; i++) free(call.inputs[i].memory);
    return 0;
}

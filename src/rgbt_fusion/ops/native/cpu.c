/* The native kernels' way in: chooses the instruction set, cuts the work into pieces, spreads them over threads, and adds
 * up what the pieces leave behind in an order that depends on nothing but the shapes. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu.h"

#if defined(_WIN32)
#include <malloc.h>
#define EXPORT __declspec(dllexport)
#define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
#define free_aligned _aligned_free
#else
#define EXPORT __attribute__((visibility("default")))
#define free_aligned free
#endif

#ifndef SMALL
#define SMALL (1 << 18) /* elements of state below which a second thread costs more than it gives */
#endif
#define MOST_THREADS 256
/* Most channels of a piece. Rows of memory are best read whole, as long as what the piece keeps of each channel fits into the
 * second cache; where each channel is a stream of its own, only so many streams run well side by side. */
#define MOST_FORWARD 2048
#define MOST_BACKWARD 512
#define MOST_CONV 256
#define MOST_STREAMS 32

/* ---- instruction sets, narrowest first ---- */

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
extern const Kernels kernels_avx2, kernels_avx512;

static int converts_fp16(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int supported(int64_t level) {
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && converts_fp16();
    int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    return level == 0 || (level == 1 && avx2) || (level == 2 && avx2 && avx512);
}

static const Kernels *kernels_of(int64_t level) {
    return level == 2 ? &kernels_avx512 : level == 1 ? &kernels_avx2 : &kernels_baseline;
}
#else
static int supported(int64_t level) { return level == 0; }
static const Kernels *kernels_of(int64_t level) { return (void)level, &kernels_baseline; }
#endif

/* The name of a level that this processor runs, or NULL. */
EXPORT const char *rgbt_fusion_level(int64_t level) { return supported(level) ? kernels_of(level)->name : NULL; }

/* ---- subnormal numbers become zero while a kernel runs: a state that decays would else slow down a hundredfold ---- */

#if defined(__x86_64__)
static unsigned flush_subnormals(void) {
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON);
    return before;
}
static void restore(unsigned before) { _mm_setcsr(before); }
#else
static uint64_t flush_subnormals(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" ::"r"(before | (1u << 24)));
    return before;
}
static void restore(uint64_t before) { __asm__ volatile("msr fpcr, %0" ::"r"(before)); }
#endif

/* ---- memory that a thread keeps for its next call: the first touch of fresh pages can cost more than what they are for ---- */

#define MOST_KEPT ((size_t)1 << 25) /* bytes */

enum { SCRATCH, SUMS, PURPOSES };
typedef struct { void *data; size_t bytes; } Memory;

static pthread_key_t memory_key;
static pthread_once_t memory_once = PTHREAD_ONCE_INIT;

static void free_memory(void *kept) {
    for (int i = 0; i < PURPOSES; i++) free_aligned(((Memory *)kept)[i].data);
    free(kept);
}

static void make_memory_key(void) { pthread_key_create(&memory_key, free_memory); }

/* At least so many bytes for one purpose, on a cache line of their own; NULL where memory ran out. */
static void *memory_for(int purpose, size_t bytes) {
    pthread_once(&memory_once, make_memory_key);
    Memory *kept = pthread_getspecific(memory_key);
    if (!kept) {
        kept = calloc(PURPOSES, sizeof *kept);
        if (!kept) return NULL;
        if (pthread_setspecific(memory_key, kept)) return free(kept), NULL;
    }
    Memory *memory = &kept[purpose];
    if (!memory->data || memory->bytes < bytes) {
        free_aligned(memory->data);
        memory->bytes = (bytes + 63) / 64 * 64 + 64;
        memory->data = aligned_alloc(64, memory->bytes);
    }
    return memory->data;
}

/* After use: what is too large to be kept is given back. */
static void used_memory(int purpose) {
    Memory *memory = (Memory *)pthread_getspecific(memory_key) + purpose;
    if (memory->bytes <= MOST_KEPT) return;
    free_aligned(memory->data);
    *memory = (Memory){NULL, 0};
}

/* ---- threads: whoever is free takes the next item, so what an item computes never depends on who takes it ---- */

typedef struct Job Job;
struct Job {
    void (*item)(const Job *, int64_t, void *scratch);
    const Kernels *kernels;
    const Scan *scan;
    const Conv *conv;
    const Plan *plan;
    int64_t items;
    size_t scratch_bytes;
    atomic_llong next;
    atomic_int out_of_memory;
};

static void work(Job *job) {
    void *scratch = memory_for(SCRATCH, job->scratch_bytes);
    if (!scratch) {
        atomic_store(&job->out_of_memory, 1);
        return;
    }
    typeof(flush_subnormals()) mode = flush_subnormals();
    for (int64_t i; (i = atomic_fetch_add(&job->next, 1)) < job->items;) job->item(job, i, scratch);
    restore(mode);
    used_memory(SCRATCH);
}

static void work_range(int64_t begin, int64_t end, void *job) {
    for (; begin < end; begin++) work(job);
}

static void *work_thread(void *job) { return work(job), NULL; }

static int spread(Job *job, const Sequence *seq, int64_t threads) {
    typedef int32_t ParallelFor(int64_t begin, int64_t end, int64_t grain, void (*)(int64_t, int64_t, void *), void *);
    pthread_t others[MOST_THREADS];
    int64_t started = 0;
    if (threads > job->items) threads = job->items;
    if (threads <= 1) {
        work(job);
    } else if (seq->parallel_for) {
        ((ParallelFor *)seq->parallel_for)(0, threads, 1, work_range, job);
        if (atomic_load(&job->next) < job->items) work(job); /* should it have refused */
    } else {
        while (started < threads - 1 && !pthread_create(&others[started], NULL, work_thread, job)) started++;
        work(job);
        while (started > 0) pthread_join(others[--started], NULL);
    }
    return atomic_load(&job->out_of_memory);
}

/* ---- pieces ---- */

static int64_t threads_for(const Sequence *seq, int64_t work_a_channel) {
    if (seq->directions * seq->batch * seq->length * seq->channels * work_a_channel < SMALL) return 1;
    return seq->threads < MOST_THREADS ? seq->threads : MOST_THREADS;
}

static int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Channels are cut into units, which depend on nothing but their number, and these are dealt out in pieces. Sums over channels
 * are made unit by unit, so that how many threads there are and what else is in the batch changes no bit. At least two pieces
 * per thread. */
static Plan cut(const Sequence *seq, int64_t groups, int64_t unit, Tokens x, int64_t most, int64_t threads) {
    int64_t each = seq->channels / groups, units = (each + unit - 1) / unit;
    if (x.d != 1) most = MOST_STREAMS;
    if (seq->directions > 1 && seq->dtype != FP32 && most > 64) most = 64;
    int64_t chunks = (each + most - 1) / most;
    if (threads > 1) {
        int64_t wanted = (2 * threads + seq->batch * groups - 1) / (seq->batch * groups);
        if (chunks < wanted) chunks = wanted;
    }
    if (chunks > units) chunks = units;
    int64_t chunk = (units + chunks - 1) / chunks * unit;
    return (Plan){.chunk = chunk, .chunks = (each + chunk - 1) / chunk, .groups = groups, .unit = unit, .units = units};
}

static int64_t unit_for_sums(const Sequence *seq, int64_t groups) {
    int64_t quarter = rounded_up((seq->channels / groups + 3) / 4, 16);
    return quarter < 64 ? 64 : quarter > 128 ? 128 : quarter;
}

static Piece piece_of(const Plan *plan, const Sequence *seq, int64_t item) {
    int64_t each = seq->channels / plan->groups, chunk = item % plan->chunks, group = item / plan->chunks % plan->groups;
    int64_t from = chunk * plan->chunk, left = each - from;
    return (Piece){.b = item / plan->chunks / plan->groups, .group = group, .unit = from / plan->unit,
                   .c = group * each + from, .width = left < plan->chunk ? left : plan->chunk};
}

static void item_scan_forward(const Job *job, int64_t item, void *scratch) {
    job->kernels->scan_forward(job->scan, job->plan, piece_of(job->plan, &job->scan->seq, item), scratch);
}

static void item_scan_backward(const Job *job, int64_t item, void *scratch) {
    job->kernels->scan_backward(job->scan, job->plan, piece_of(job->plan, &job->scan->seq, item), scratch);
}

static void item_conv_forward(const Job *job, int64_t item, void *scratch) {
    job->kernels->conv_forward(job->conv, job->plan, piece_of(job->plan, &job->conv->seq, item), scratch);
}

static void item_conv_backward(const Job *job, int64_t item, void *scratch) {
    job->kernels->conv_backward(job->conv, job->plan, piece_of(job->plan, &job->conv->seq, item), scratch);
}

static void item_sum_units(const Job *job, int64_t item, void *scratch) {
    const Sequence *seq = &job->scan->seq;
    int64_t blocks = (seq->length + BLOCK - 1) / BLOCK, g = item / blocks % job->plan->groups, rb = item / blocks / job->plan->groups;
    (void)scratch;
    job->kernels->sum_units(job->scan, job->plan, rb / seq->batch, rb % seq->batch, g, item % blocks * BLOCK);
}

/* ---- sums over the batch ---- */

/* Where the pieces write a weight's gradient: straight into the result where the batch is 1, else into `*spare`. */
static float *partial(const Sequence *seq, Weights to, int64_t each, float **spare) {
    if (!to.data || seq->batch == 1) return to.data;
    float *p = *spare;
    *spare += (to.r ? seq->directions : 1) * seq->batch * seq->channels * each;
    return p;
}

static void sum_over_batch(const Sequence *seq, Weights to, const float *from, int64_t each) {
    int64_t count = seq->channels * each;
    if (!to.data || from == to.data) return;
    for (int64_t r = 0; r < (to.r ? seq->directions : 1); r++) {
        float *sum = to.data + r * to.r;
        memcpy(sum, from, count * sizeof(float));
        from += count;
        for (int64_t b = 1; b < seq->batch; b++, from += count)
            for (int64_t i = 0; i < count; i++) sum[i] += from[i];
    }
}

/* ---- large pages: the first write to a fresh result costs more than the scan when it comes 4 kB at a time ---- */

#define LARGE_PAGE ((uintptr_t)1 << 21)

static void expect_writes(const void *data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    uintptr_t from = ((uintptr_t)data + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    uintptr_t to = ((uintptr_t)data + (uintptr_t)bytes) / LARGE_PAGE * LARGE_PAGE;
    if (data && to > from) madvise((void *)from, to - from, MADV_HUGEPAGE); /* a hint: it may be refused */
#else
    (void)data, (void)bytes;
#endif
}

static void expect_tokens(const Sequence *seq, Tokens x) {
    int64_t last = (x.r ? seq->directions - 1 : 0) * x.r + (seq->batch - 1) * x.b + (seq->length - 1) * x.l +
                   (seq->channels - 1) * x.d;
    expect_writes(x.data, (last + 1) * (seq->dtype == FP32 ? 4 : 2));
}

/* ---- what Python calls; each returns 1 where memory ran out ---- */

EXPORT int rgbt_fusion_scan_forward(const Scan *s) {
    const Kernels *kernels = kernels_of(s->seq.level);
    int64_t threads = threads_for(&s->seq, s->states + 4);
    Plan plan = cut(&s->seq, s->groups, 16, s->u, MOST_FORWARD, threads);
    expect_tokens(&s->seq, s->out);
    expect_writes(s->checkpoints, (s->seq.length + CHECKPOINT - 1) / CHECKPOINT * s->seq.directions * s->seq.batch * s->seq.channels *
                                      s->states * (int64_t)sizeof(float));
    Job job = {.item = item_scan_forward, .kernels = kernels, .scan = s, .plan = &plan,
               .items = s->seq.batch * plan.groups * plan.chunks, .scratch_bytes = kernels->scan_forward_bytes(s, &plan)};
    return spread(&job, &s->seq, threads);
}

EXPORT int rgbt_fusion_scan_backward(const Scan *s) {
    const Kernels *kernels = kernels_of(s->seq.level);
    const Sequence *seq = &s->seq;
    int64_t threads = threads_for(seq, 3 * (s->states + 4));
    Plan plan = cut(seq, s->groups, unit_for_sums(seq, s->groups), s->u, MOST_BACKWARD, threads);
    int64_t rows = seq->batch * plan.units * seq->length * plan.groups * s->states;
    int64_t dB = rows * (s->dB.r ? seq->directions : 1), dC = rows * (s->dC.r ? seq->directions : 1);
    int64_t spare_floats = seq->batch == 1 ? 0 : 2 * (s->states + 1) * seq->directions * seq->batch * seq->channels;
    float *memory = memory_for(SUMS, (dB + dC + spare_floats) * sizeof(float)), *spare = memory + dB + dC;
    if (!memory) return 1;
    plan.dB = memory, plan.dC = memory + dB;
    plan.dA = partial(seq, s->dA, s->states, &spare), plan.dreadout = partial(seq, s->dreadout, s->states, &spare);
    plan.dD = partial(seq, s->dD, 1, &spare), plan.dbias = partial(seq, s->dbias, 1, &spare);
    expect_tokens(seq, s->du), expect_tokens(seq, s->ddelta), expect_tokens(seq, s->dz);
    Job pieces = {.item = item_scan_backward, .kernels = kernels, .scan = s, .plan = &plan,
                  .items = seq->batch * plan.groups * plan.chunks, .scratch_bytes = kernels->scan_backward_bytes(s, &plan)};
    Job sums = {.item = item_sum_units, .kernels = kernels, .scan = s, .plan = &plan,
                .items = seq->directions * seq->batch * plan.groups * ((seq->length + BLOCK - 1) / BLOCK)};
    int failed = spread(&pieces, seq, threads) || spread(&sums, seq, threads);
    sum_over_batch(seq, s->dA, plan.dA, s->states);
    sum_over_batch(seq, s->dreadout, plan.dreadout, s->states);
    sum_over_batch(seq, s->dD, plan.dD, 1);
    sum_over_batch(seq, s->dbias, plan.dbias, 1);
    used_memory(SUMS);
    return failed;
}

EXPORT int rgbt_fusion_conv_forward(const Conv *s) {
    const Kernels *kernels = kernels_of(s->seq.level);
    int64_t threads = threads_for(&s->seq, 4);
    Plan plan = cut(&s->seq, 1, 16, s->x, MOST_CONV, threads);
    expect_tokens(&s->seq, s->out);
    Job job = {.item = item_conv_forward, .kernels = kernels, .conv = s, .plan = &plan, .items = s->seq.batch * plan.chunks,
               .scratch_bytes = kernels->conv_forward_bytes(s, &plan)};
    return spread(&job, &s->seq, threads);
}

EXPORT int rgbt_fusion_conv_backward(const Conv *s) {
    const Kernels *kernels = kernels_of(s->seq.level);
    const Sequence *seq = &s->seq;
    int64_t threads = threads_for(seq, 8);
    Plan plan = cut(seq, 1, 16, s->x, MOST_CONV, threads);
    int64_t spare_floats = seq->batch == 1 ? 0 : (s->taps + 1) * seq->directions * seq->batch * seq->channels;
    float *memory = memory_for(SUMS, spare_floats * sizeof(float)), *spare = memory;
    if (!memory) return 1;
    plan.dweight = partial(seq, s->dweight, s->taps, &spare), plan.dbias = partial(seq, s->dbias, 1, &spare);
    expect_tokens(seq, s->dx);
    Job job = {.item = item_conv_backward, .kernels = kernels, .conv = s, .plan = &plan, .items = seq->batch * plan.chunks,
               .scratch_bytes = kernels->conv_backward_bytes(s, &plan)};
    int failed = spread(&job, seq, threads);
    sum_over_batch(seq, s->dweight, plan.dweight, s->taps);
    sum_over_batch(seq, s->dbias, plan.dbias, 1);
    used_memory(SUMS);
    return failed;
}

/* ---- to be compared with ---- */

/* As many steps of exponential and recurrence as a scan of so many state elements takes, in registers alone. */
EXPORT float rgbt_fusion_bound(int64_t level, int64_t elements) {
    const Kernels *kernels = kernels_of(level);
    typeof(flush_subnormals()) mode = flush_subnormals();
    const float sum = kernels->bound(elements / kernels->lanes);
    restore(mode);
    return sum;
}

#include "contenders.h"

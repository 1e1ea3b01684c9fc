/* What the Python side hands to the native kernels: pointers and strides, every field 8 bytes wide, in the order in
 * which `backend.py` packs them. Strides count elements; a stride of 0 along `r` (directions) means shared by all. */
#ifndef RGBT_FUSION_CPU_H
#define RGBT_FUSION_CPU_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK 64 /* rows of a tile, at most */
#define CHECKPOINT 16 /* steps of the scan between two checkpoints, CPU_CHECKPOINT_STEPS in inputs.py */

enum dtype { FP32, BF16, FP16 };

typedef struct { char *data; int64_t r, b, l, d; } Tokens;    /* (R?, B, L, D) */
typedef struct { char *data; int64_t r, b, l, g, n; } Groups; /* (R?, B, L, G, N) */
typedef struct { float *data; int64_t r; } Weights;           /* (R?, ...) contiguous, always fp32 */

typedef struct {
    int64_t level, threads;
    void *parallel_for; /* libtorch's torch_parallel_for, or NULL: threads of our own */
    int64_t directions, batch, length, channels, dtype;
    int64_t *order; /* (R?, B?, K), NULL for the natural order */
    int64_t order_r, order_b, segments;
} Sequence;

typedef struct {
    Sequence seq;
    int64_t groups, states, softplus;
    Tokens u, delta, z;
    Groups B, C;
    Weights A, readout, D, bias, start; /* start: (R?, B, D, N) */
    Tokens out;                         /* of the forward pass */
    float *last, *checkpoints;          /* (R, B, D, N); (R, B, S, D N), NULL when no gradient is wanted */
    Tokens dout, du, ddelta, dz;        /* of the backward pass */
    float *dlast;
    Groups dB, dC;
    Weights dA, dreadout, dD, dbias, dstart;
} Scan;

typedef struct {
    Sequence seq;
    int64_t taps, silu;
    Tokens x;
    Weights weight, bias; /* (R?, D, W), (R?, D) */
    Tokens out;
    Tokens dout, dx;
    Weights dweight, dbias;
} Conv;

/* A piece of work: `width` neighbouring channels of one sample, in every direction; `unit` counts from the group's first. */
typedef struct { int64_t b, group, unit, c, width; } Piece;

/* How the work is cut, and the fp32 partial sums that the pieces leave behind (see cpu.c). */
typedef struct {
    int64_t chunk, chunks, groups; /* most channels of a piece, pieces per group, groups */
    int64_t unit, units;           /* channels that share a partial sum over channels, units per group */
    float *dB, *dC;                /* (R?, B, units, L, G, N) */
    float *dA, *dreadout;          /* (R?, B, D, N), to be summed over B, as all that follow */
    float *dD, *dbias, *dweight;   /* (R?, B, D), (R?, B, D), (R?, B, D, W) */
} Plan;

/* One instruction set. */
typedef struct {
    const char *name;
    int64_t lanes;
    size_t (*scan_forward_bytes)(const Scan *, const Plan *);
    size_t (*scan_backward_bytes)(const Scan *, const Plan *);
    size_t (*conv_forward_bytes)(const Conv *, const Plan *);
    size_t (*conv_backward_bytes)(const Conv *, const Plan *);
    void (*scan_forward)(const Scan *, const Plan *, Piece, void *scratch);
    void (*scan_backward)(const Scan *, const Plan *, Piece, void *scratch);
    void (*conv_forward)(const Conv *, const Plan *, Piece, void *scratch);
    void (*conv_backward)(const Conv *, const Plan *, Piece, void *scratch);
    /* dB and dC of BLOCK rows from t0 on, out of the units' parts. */
    void (*sum_units)(const Scan *, const Plan *, int64_t r, int64_t b, int64_t group, int64_t t0);
    /* Exponential and recurrence for so many vectors of states, in registers alone; a sum, so that they are computed. */
    float (*bound)(int64_t vectors);
} Kernels;

#endif

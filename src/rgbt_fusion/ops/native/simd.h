/* Vectors of V floats: one set of names over SSE2, AVX2 + FMA + F16C, AVX-512 and NEON. Everything that compilers express
 * themselves (arithmetic, comparisons, shifts) is left to their vector types; this file holds the rest. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define V 16
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#define V 8
#elif defined(__SSE2__)
#include <immintrin.h>
#define V 4
#elif defined(__aarch64__)
#include <arm_neon.h>
#define V 4
#else
#error "no vector instructions that these kernels know"
#endif

typedef float vf __attribute__((vector_size(4 * V)));
typedef uint32_t vu __attribute__((vector_size(4 * V)));
typedef int32_t vi __attribute__((vector_size(4 * V)));
typedef float v4 __attribute__((vector_size(16), may_alias));
typedef float vf_unaligned __attribute__((vector_size(4 * V), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")
#define OVERLAP _Pragma("GCC unroll 4") /* independent steps side by side: hides the latency of long chains */

INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void store(float *p, vf x) { *(vf_unaligned *)p = x; }
INLINE vf splat(float x) { return x - (vf){0}; }
INLINE vf choose(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }
INLINE vf absolute(vf x) { return (vf)((vi)x & 0x7fffffff); }
INLINE vf minus_absolute(vf x) { return (vf)((vu)x | 0x80000000u); }

/* larger(a, x), smaller(a, x): a NaN in x stays. */
#if V == 16
INLINE vf larger(vf a, vf x) { return (vf)_mm512_max_ps((__m512)a, (__m512)x); }
INLINE vf smaller(vf a, vf x) { return (vf)_mm512_min_ps((__m512)a, (__m512)x); }
#elif V == 8
INLINE vf larger(vf a, vf x) { return (vf)_mm256_max_ps((__m256)a, (__m256)x); }
INLINE vf smaller(vf a, vf x) { return (vf)_mm256_min_ps((__m256)a, (__m256)x); }
#elif defined(__SSE2__)
INLINE vf larger(vf a, vf x) { return (vf)_mm_max_ps((__m128)a, (__m128)x); }
INLINE vf smaller(vf a, vf x) { return (vf)_mm_min_ps((__m128)a, (__m128)x); }
#else
INLINE vf larger(vf a, vf x) { return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)x); }
INLINE vf smaller(vf a, vf x) { return (vf)vminq_f32((float32x4_t)a, (float32x4_t)x); }
#endif
/* The larger of two numbers above zero, as integers, so that infinity is larger than any number and NaN than infinity. */
INLINE vf larger_or_nan(vf a, vf b) {
#if V == 8
    return (vf)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
    return choose((vi)a > (vi)b, a, b);
#endif
}

/* Whether every lane is below the limit; NaN is not. */
INLINE int all_below(vf x, float limit) {
#if V == 16
    return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(limit), _CMP_LT_OQ) == 0xffff;
#elif V == 8
    return _mm256_movemask_ps((__m256)(x < limit)) == 0xff;
#elif defined(__SSE2__)
    return _mm_movemask_ps((__m128)(x < limit)) == 0xf;
#else
    return vminvq_u32((uint32x4_t)(x < limit)) != 0;
#endif
}

/* ---- exponentials: x = n + f by adding and taking away 1.5 * 2^23, 2^f by a polynomial that is exact at 0 ---- */

#define ROUND 12582912.0f

/* 2^x, relative error 1e-7; exactly 1 at 0. With wide = 0 the caller promises |x| < 126, with wide = 1 the result is 0 at
 * x <= -127 and infinite from 128 on. A NaN must have its 9 low bits clear (see canonical_nan). */
INLINE vf exp2_fast(vf x, int wide) {
#if V == 16
    (void)wide;
    vf f = (vf)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT);
    vf n = x - f;
#else
    if (wide) x = smaller(splat(128.0f), larger(splat(-127.0f), x));
    vf t = x + ROUND;
    vf n = t - ROUND;
    vf f = x - n;
#endif
    vf p = 0.001330026425421238f * f + 0.009669708088040352f;
    p = p * f + 0.055505599826574326f;
    p = p * f + 0.24022281169891357f;
    p = p * f + 0.6931471824645996f;
    p = p * f + 1.0f;
#if V == 16
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return (vf)((vu)p + ((vu)t << 23));
#endif
}

INLINE vf canonical_nan(vf x) { return choose(x == x, x, splat(NAN)); }

/* A register holds 2^(j / V) for every j below V. With x = n + j / V + f so small an f is left that a polynomial of degree 3
 * or 4 will do. The last bits of t = x + ROUND / V are the whole number V n + j: some of them choose from the register, all of them
 * move to the exponent, and what j adds there is taken from the table in advance. 4 lanes would be too few. */
#if V > 4
#if V == 16
#define INDEX_BITS 4
static const uint32_t powers[V] = {
    0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532, 0x3f75fed7, 0x3f75583f,
    0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c, 0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d,
};
INLINE vu choose_from(vu table, vu index) { return (vu)_mm512_permutexvar_epi32((__m512i)index, (__m512i)table); }
INLINE vf exp2_minus_1(vf f) { return f * ((0.05550595f * f + 0.240234286f) * f + 0.693147182f); } /* error 2e-9 */
#else
#define INDEX_BITS 3
static const uint32_t powers[V] = {
    0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7,
};
INLINE vu choose_from(vu table, vu index) { return (vu)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)index); }
INLINE vf exp2_minus_1(vf f) { /* error 2e-10 */
    return f * (((0.00961902551f * f + 0.0555080213f) * f + 0.240226507f) * f + 0.693147182f);
}
#endif
INLINE vu load_powers(void) { return (vu)load((const float *)powers); }
INLINE vf exp2_split(vu powers, vf t, vf f) {
    vf scale = (vf)(choose_from(powers, (vu)t) + ((vu)t << (23 - INDEX_BITS)));
    return scale * exp2_minus_1(f) + scale;
}
#else
INLINE vu load_powers(void) { return (vu){0}; }
#endif

/* exp2(dt A), exactly 1 at 0. With wide = 0 the caller promises |dt A| < 126, as for exp2_fast. */
INLINE vf decay(vf dt, vf A, vu powers, int wide) {
#if V > 4
    if (!wide) {
        vf t = dt * A + ROUND / V, f = dt * A - (t - ROUND / V);
        return exp2_split(powers, t, f);
    }
#endif
    return exp2_fast(dt * A, wide);
}

/* e^x for x up to 88, relative error 1e-7 also far from 0 (ln 2, or log2 e, in two parts), never below e^-87. Every caller also adds or
 * multiplies x itself, so that a NaN need not come through here. */
INLINE vf exponential(vf x) {
    x = larger(splat(-87.0f), x);
#if V > 4
    vf t = x * 1.44269504f + ROUND / V;
    vf f = x * 1.92596299e-8f + (x * 1.44269502f - (t - ROUND / V));
    return exp2_split(load_powers(), t, f);
#else
    vf t = x * 1.4426950408889634f + ROUND;
    vf n = t - ROUND;
    vf f = (x - n * 0.693145751953125f) - n * 1.4286068203094173e-06f;
    vf p = 0.001381461275741458f * f + 0.008368710055947304f;
    p = p * f + 0.04166838899254799f;
    p = p * f + 0.1666652113199234f;
    p = p * f + 0.4999999403953552f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    return (vf)((vu)p + ((vu)t << 23));
#endif
}

/* 1 / x for x from 1 on. */
INLINE vf inverse(vf x) {
#if V == 16
    vf guess = (vf)_mm512_rcp14_ps((__m512)x);
    return guess + guess * (1.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

INLINE vf sigmoid(vf x) { return inverse(1.0f + exponential(smaller(splat(88.0f), -x))); }

/* log(1 + e) for e in [0, 1] as e times a polynomial: relative error 3e-8 also at the smallest e. */
INLINE vf log1p_unit(vf e) {
    vf e2 = e * e, e4 = e2 * e2;
    vf low = (0.3332132399082184f * e - 0.49999648332595825f) + e2 * (0.191536545753479f * e - 0.24857163429260254f);
    vf high = (0.07920453697443008f * e - 0.13753803074359894f) + e2 * (0.005364824552088976f * e - 0.03006579354405403f);
    return e + e2 * (low + e4 * high);
}

/* With e = exp(-|x|): softplus(x) = log(1 + e^x) and its derivative, the sigmoid. */
INLINE vf softplus(vf x, vf e) { return larger(splat(0.0f), x) + log1p_unit(e); }
INLINE vf softplus_slope(vf x, vf e) { return choose(x > 0.0f, splat(1.0f), e) * inverse(1.0f + e); }

/* ---- 16-bit floats ---- */

typedef uint16_t vh __attribute__((vector_size(2 * V)));
typedef uint16_t vh_unaligned __attribute__((vector_size(2 * V), aligned(2), may_alias));

INLINE vf from_bf16(vh h) { return (vf)(__builtin_convertvector(h, vu) << 16); }
INLINE vh to_bf16(vf x) { /* to nearest, ties to even */
    vu bits = (vu)x;
    vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector((vu)choose(x == x, (vf)rounded, (vf)((bits >> 16) | 0x40)), vh);
}

#if V == 16
INLINE vf from_fp16(vh h) { return (vf)_mm512_cvtph_ps((__m256i)h); }
INLINE vh to_fp16(vf x) { return (vh)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT); }
#elif V == 8
INLINE vf from_fp16(vh h) { return (vf)_mm256_cvtph_ps((__m128i)h); }
INLINE vh to_fp16(vf x) { return (vh)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT); }
#elif defined(__aarch64__)
INLINE vf from_fp16(vh h) { return (vf)vcvt_f32_f16((float16x4_t)h); }
INLINE vh to_fp16(vf x) { return (vh)vcvt_f16_f32((float32x4_t)x); }
#else
/* Exponent moved by a multiplication with 2^112, which also makes subnormals right; infinity and NaN apart. */
INLINE vf from_fp16(vh h) {
    vu bits = __builtin_convertvector(h, vu), magnitude = (bits & 0x7fff) << 13;
    vf finite = (vf)magnitude * 0x1p112f, special = (vf)(magnitude | 0x7f800000);
    return (vf)((vu)choose((bits & 0x7c00) == 0x7c00, special, finite) | ((bits & 0x8000) << 16));
}
INLINE vh to_fp16(vf x) {
    vu bits = (vu)absolute(x), sign = ((vu)x >> 16) & 0x8000;
    vu normal = (bits - 0x38000000 + 0xfff + ((bits >> 13) & 1)) >> 13;
    vu subnormal = (vu)((vf)bits + 0.5f) - (vu)splat(0.5f); /* the adder rounds at 2^-24 */
    vu finite = (vu)choose((vi)bits < 0x38800000, (vf)subnormal, (vf)normal);
    vu high = (vu)choose((vi)bits > 0x7f800000, (vf)(0x7e00 + (vu){0}), (vf)(0x7c00 + (vu){0}));
    return __builtin_convertvector((vu)choose((vi)bits >= 0x477ff000, (vf)high, (vf)finite) | sign, vh);
}
#endif

/* ---- lanes ---- */

/* The sums over the lanes of four vectors. */
#if defined(__aarch64__)
INLINE v4 sum_lanes(vf a, vf b, vf c, vf d) {
    return (v4)vpaddq_f32(vpaddq_f32((float32x4_t)a, (float32x4_t)b), vpaddq_f32((float32x4_t)c, (float32x4_t)d));
}
#else
INLINE v4 sum_lanes_4(__m128 a, __m128 b, __m128 c, __m128 d) {
    __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    return (v4)_mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}
#if V == 4
INLINE v4 sum_lanes(vf a, vf b, vf c, vf d) { return sum_lanes_4((__m128)a, (__m128)b, (__m128)c, (__m128)d); }
#else
INLINE v4 sum_lanes_8(__m256 a, __m256 b, __m256 c, __m256 d) {
    __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    __m256 s = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    return (v4)_mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}
#if V == 8
INLINE v4 sum_lanes(vf a, vf b, vf c, vf d) { return sum_lanes_8((__m256)a, (__m256)b, (__m256)c, (__m256)d); }
#else
INLINE __m256 fold(vf x) {
    return _mm256_add_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
}
INLINE v4 sum_lanes(vf a, vf b, vf c, vf d) { return sum_lanes_8(fold(a), fold(b), fold(c), fold(d)); }
#endif
#endif
#endif

/* Four vectors as one: V / 4 lanes hold sums of lanes of each, `squeezed_sums` adds these up. A sum over many vectors is
 * squeezed at each and added up in the end. */
#if V == 16
INLINE vf squeeze(vf a, vf b, vf c, vf d) {
    __m512 ab = _mm512_add_ps(_mm512_mask_blend_ps(0xff00, (__m512)a, (__m512)b), _mm512_shuffle_f32x4((__m512)a, (__m512)b, 0x4e));
    __m512 cd = _mm512_add_ps(_mm512_mask_blend_ps(0xff00, (__m512)c, (__m512)d), _mm512_shuffle_f32x4((__m512)c, (__m512)d, 0x4e));
    return (vf)_mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}
INLINE v4 squeezed_sums(vf x) { /* lanes aaaa bbbb cccc dddd */
    __m512 s = (__m512)x;
    return sum_lanes_4(_mm512_castps512_ps128(s), _mm512_extractf32x4_ps(s, 1), _mm512_extractf32x4_ps(s, 2),
                       _mm512_extractf32x4_ps(s, 3));
}
#elif V == 8
INLINE vf squeeze(vf a, vf b, vf c, vf d) {
    __m256 ab = _mm256_add_ps(_mm256_blend_ps((__m256)a, (__m256)b, 0xf0), _mm256_permute2f128_ps((__m256)a, (__m256)b, 0x21));
    __m256 cd = _mm256_add_ps(_mm256_blend_ps((__m256)c, (__m256)d, 0xf0), _mm256_permute2f128_ps((__m256)c, (__m256)d, 0x21));
    return (vf)_mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x88), _mm256_shuffle_ps(ab, cd, 0xdd));
}
INLINE v4 squeezed_sums(vf x) { return (v4){x[0] + x[1], x[4] + x[5], x[2] + x[3], x[6] + x[7]}; } /* lanes aacc bbdd */
#else
INLINE vf squeeze(vf a, vf b, vf c, vf d) { return (vf)sum_lanes(a, b, c, d); }
INLINE v4 squeezed_sums(vf x) { return (v4)x; }
#endif

/* Transpose V vectors in place. */
#if defined(__aarch64__)
INLINE void transpose(vf *r) {
    float32x4x2_t ab = vtrnq_f32((float32x4_t)r[0], (float32x4_t)r[1]), cd = vtrnq_f32((float32x4_t)r[2], (float32x4_t)r[3]);
    for (int i = 0; i < 2; i++) {
        r[i] = (vf)vcombine_f32(vget_low_f32(ab.val[i]), vget_low_f32(cd.val[i]));
        r[i + 2] = (vf)vcombine_f32(vget_high_f32(ab.val[i]), vget_high_f32(cd.val[i]));
    }
}
#elif V == 4
INLINE void transpose(vf *r) {
    __m128 a = (__m128)r[0], b = (__m128)r[1], c = (__m128)r[2], d = (__m128)r[3];
    _MM_TRANSPOSE4_PS(a, b, c, d);
    r[0] = (vf)a, r[1] = (vf)b, r[2] = (vf)c, r[3] = (vf)d;
}
#else
#if V == 8
#define REG __m256
#define UNPACK_LOW _mm256_unpacklo_ps
#define UNPACK_HIGH _mm256_unpackhi_ps
#define SHUFFLE _mm256_shuffle_ps
#else
#define REG __m512
#define UNPACK_LOW _mm512_unpacklo_ps
#define UNPACK_HIGH _mm512_unpackhi_ps
#define SHUFFLE _mm512_shuffle_ps
#endif
INLINE void transpose(vf *r) {
    REG s[V];
    UNROLL for (int i = 0; i < V; i += 4) { /* the 4 x 4 squares inside each 128-bit lane */
        REG a = UNPACK_LOW((REG)r[i], (REG)r[i + 1]), b = UNPACK_LOW((REG)r[i + 2], (REG)r[i + 3]);
        REG c = UNPACK_HIGH((REG)r[i], (REG)r[i + 1]), d = UNPACK_HIGH((REG)r[i + 2], (REG)r[i + 3]);
        s[i] = SHUFFLE(a, b, 0x44), s[i + 1] = SHUFFLE(a, b, 0xee);
        s[i + 2] = SHUFFLE(c, d, 0x44), s[i + 3] = SHUFFLE(c, d, 0xee);
    }
    UNROLL for (int i = 0; i < 4; i++) { /* then the lanes */
#if V == 8
        r[i] = (vf)_mm256_permute2f128_ps(s[i], s[i + 4], 0x20);
        r[i + 4] = (vf)_mm256_permute2f128_ps(s[i], s[i + 4], 0x31);
#else
        REG a = _mm512_shuffle_f32x4(s[i], s[i + 4], 0x44), b = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0x44);
        REG c = _mm512_shuffle_f32x4(s[i], s[i + 4], 0xee), d = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0xee);
        r[i] = (vf)_mm512_shuffle_f32x4(a, b, 0x88), r[i + 4] = (vf)_mm512_shuffle_f32x4(a, b, 0xdd);
        r[i + 8] = (vf)_mm512_shuffle_f32x4(c, d, 0x88), r[i + 12] = (vf)_mm512_shuffle_f32x4(c, d, 0xdd);
#endif
    }
}
#endif

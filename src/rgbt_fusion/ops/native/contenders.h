/* What a selective scan in C looks like elsewhere, to be compared with: loops of the structure that ggml and the Intel
 * extension for PyTorch have, restated. Both are scalar, and call the exponential of libm. */
#include <math.h>

/* What both take: fp32, contiguous in the layout of each; everything is given. */
typedef struct {
    int64_t batch, length, channels, states;
    const float *u, *delta, *A, *B, *C, *skip, *z, *bias;
    float *state, *out; /* state: (D, N), room to work in */
} Plain;

static float softplus_of(float x) { return x > 20.0f ? x : log1pf(expf(x)); }
static float silu_of(float x) { return x / (1.0f + expf(-x)); }

/* Token by token, then channel by channel, on (B, L, D) and (B, L, N) memory, as ggml's. */
EXPORT void rgbt_fusion_loop_over_tokens(const Plain *s) {
    const int64_t D = s->channels, N = s->states;
    for (int64_t b = 0; b < s->batch; b++) {
        memset(s->state, 0, D * N * sizeof(float));
        for (int64_t t = b * s->length; t < (b + 1) * s->length; t++)
            for (int64_t d = 0; d < D; d++) {
                const float dt = softplus_of(s->delta[t * D + d] + s->bias[d]), input = dt * s->u[t * D + d];
                float *state = s->state + d * N, y = 0.0f;
                for (int64_t n = 0; n < N; n++) {
                    state[n] = state[n] * expf(dt * s->A[d * N + n]) + s->B[t * N + n] * input;
                    y += state[n] * s->C[t * N + n];
                }
                s->out[t * D + d] = (y + s->skip[d] * s->u[t * D + d]) * silu_of(s->z[t * D + d]);
            }
    }
}

/* Channel by channel, then token by token, on (B, D, L) and (B, N, L) memory, as the Intel extension's. */
EXPORT void rgbt_fusion_loop_over_channels(const Plain *s) {
    const int64_t D = s->channels, L = s->length, N = s->states;
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t d = 0; d < D; d++) {
            const int64_t row = (b * D + d) * L;
            float *state = s->state + d * N;
            memset(state, 0, N * sizeof(float));
            for (int64_t t = 0; t < L; t++) {
                const float dt = softplus_of(s->delta[row + t] + s->bias[d]), u = s->u[row + t];
                float y = 0.0f;
                for (int64_t n = 0; n < N; n++) {
                    state[n] = state[n] * expf(dt * s->A[d * N + n]) + dt * s->B[(b * N + n) * L + t] * u;
                    y += state[n] * s->C[(b * N + n) * L + t];
                }
                s->out[row + t] = (y + s->skip[d] * u) * silu_of(s->z[row + t]);
            }
        }
}

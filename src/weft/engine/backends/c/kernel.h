/* What generated kernels and phases.c share: the table of tensors, and reductions. */
#ifndef WEFT_H
#define WEFT_H
#include <math.h>
#include <stdint.h>
#include <string.h>

/* The tensors of a launch. ptr is slot-major: ptr[slot * tensors + t]. Python fills it in. */
typedef struct {
    int64_t tensors, scalars;
    char **ptr;
    const double *rows;       /* [row][scalars]: host scalars, a row for each group and step */
    int64_t values, dims, reductions;
    const int32_t *row_of;    /* [tensors] */
    double *value;            /* [tensors][values]: 0-dim values of this step */
    const int64_t *dim;       /* [tensors][dims]: the length of a chunk, then sizes that depend on the shape */
    /* the part of them that steps now, cut into chunks */
    int64_t active, chunks;
    const int32_t *which;     /* [active]: indices into the table */
    const int64_t *first;     /* [active + 1]: the chunks of each */
    const int64_t *start;     /* [chunks] */
    const int64_t *length;    /* [chunks] */
    double *partial;          /* [chunks][reductions] */
    /* units of work: whole tensors, taken through all phases at once, and runs of chunks */
    int64_t wholes, splits, split_from; /* active tensors from split_from on are split */
    const int64_t *whole;     /* [wholes + 1]: bounds in active */
    const int64_t *split;     /* [splits + 1]: bounds in chunks */
    const int32_t *owner;     /* [chunks]: the place in active */
} weft_table;

typedef void weft_chunk_fn(const weft_table *, int phase, int64_t t, int64_t start, int64_t n, double *partial);
typedef void weft_scalars_fn(const weft_table *, int phase, int64_t t, const double *partial, int64_t chunks);

#define WEFT_BLOCK 512 /* elements between two looks at the reductions */
#define WEFT_LANES 16

#define WEFT_FN static inline
#include "common.h"

/* A number that a whole pass divides by. Its reciprocal is kept in two parts, both towards zero of it,
 * so that infinities and signed zeros come out as they do of a division; one quotient in some
 * millions is the other neighbour of the exact one. Numbers of unusual size are divided by as ever. */
typedef struct { float by, high, low; int safe; } weft_divisor;
static inline weft_divisor weft_divide_by(float by) {
    double r = 1 / (double)by;
    float high = (float)r;
    if (fabs((double)high) >= fabs(r)) high = nextafterf(high, 0);
    weft_divisor d = {by, high, (float)(r - high), fabsf(by) > 0x1p-100f && fabsf(by) < 0x1p100f};
    return d;
}
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define WEFT_OVER(x, d) fmaf(x, d.high, (x) * d.low) /* a third of the time of a division */
#else
#define WEFT_OVER(x, d) ((x) / d.by)
#endif

/* Reductions of a block, n a multiple of WEFT_LANES, into fixed lanes of double. */
#define WEFT_REDUCTION(NAME, T, STEP)                                                \
    static inline void NAME(double *restrict lane, const T *restrict x, int64_t n) { \
        double acc[WEFT_LANES];                                                      \
        for (int l = 0; l < WEFT_LANES; l++) acc[l] = lane[l];                       \
        for (int64_t i = 0; i < n; i += WEFT_LANES)                                  \
            for (int l = 0; l < WEFT_LANES; l++) {                                   \
                double v = (double)x[i + l], a = acc[l];                             \
                acc[l] = STEP;                                                       \
            }                                                                        \
        for (int l = 0; l < WEFT_LANES; l++) lane[l] = acc[l];                       \
    }
WEFT_REDUCTION(weft_sum_f32, float, a + v)
WEFT_REDUCTION(weft_sum_f64, double, a + v)
WEFT_REDUCTION(weft_prod_f32, float, a * v)
WEFT_REDUCTION(weft_prod_f64, double, a * v)
WEFT_REDUCTION(weft_amax_f32, float, WEFT_MAX(v, a))
WEFT_REDUCTION(weft_amax_f64, double, WEFT_MAX(v, a))
WEFT_REDUCTION(weft_amin_f32, float, WEFT_MIN(v, a))
WEFT_REDUCTION(weft_amin_f64, double, WEFT_MIN(v, a))

/* A fixed tree over n values, stride apart: bits depend on nothing but n. */
#define WEFT_TREE(NAME, IDENTITY, STEP)                                          \
    static double NAME(const double *x, int64_t n, int64_t stride) {             \
        if (n <= 8) {                                                            \
            double a = IDENTITY;                                                 \
            for (int64_t i = 0; i < n; i++) { double v = x[i * stride]; a = STEP; } \
            return a;                                                            \
        }                                                                        \
        int64_t half = n / 2;                                                    \
        double a = NAME(x, half, stride), v = NAME(x + half * stride, n - half, stride); \
        return STEP;                                                             \
    }
WEFT_TREE(weft_tree_sum, 0.0, a + v)
WEFT_TREE(weft_tree_prod, 1.0, a * v)
WEFT_TREE(weft_tree_amax, -INFINITY, WEFT_MAX(v, a))
WEFT_TREE(weft_tree_amin, INFINITY, WEFT_MIN(v, a))

/* Reductions over a run of dims: element i belongs to the result i / period * inner + i % inner.
 * A run is (period, inner); that of a reduction goes on with (shift, apart), see weft_gather. */
static inline void weft_begin(double *to, int64_t at, int64_t n, const int64_t *run, double start) {
    int64_t end = ((at + n - 1) / run[0] + 1) * run[1];
    for (int64_t i = at / run[0] * run[1]; i < end; i++) to[i] = start;
}

#define WEFT_FOLD(NAME, T, START, STEP)                                                        \
    static inline void NAME(double *restrict to, const T *restrict x, int64_t at, int64_t n,   \
                            const int64_t *run) {                                              \
        const int64_t period = run[0], inner = run[1];                                         \
        int64_t rest = at % period, j = rest % inner, m;                                       \
        to += at / period * inner;                                                             \
        for (; inner == 1 && n > 0; x += m, n -= m, rest = 0, to++) {                          \
            m = WEFT_LEAST(period - rest, n);                                                  \
            double lane[WEFT_LANES], a = *to;                                                  \
            int64_t i = 0;                                                                     \
            if (m >= WEFT_LANES) {                                                             \
                for (int l = 0; l < WEFT_LANES; l++) lane[l] = START;                          \
                for (; i + WEFT_LANES <= m; i += WEFT_LANES)                                   \
                    for (int l = 0; l < WEFT_LANES; l++) {                                     \
                        double v = (double)x[i + l], a = lane[l];                              \
                        lane[l] = STEP;                                                        \
                    }                                                                          \
                for (int l = 0; l < WEFT_LANES; l++) { double v = lane[l]; a = STEP; }         \
            }                                                                                  \
            for (; i < m; i++) { double v = (double)x[i]; a = STEP; }                          \
            *to = a;                                                                           \
        }                                                                                      \
        for (; n > 0; x += m, n -= m, j = 0) {                                                 \
            m = WEFT_LEAST(inner - j, n);                                                      \
            for (int64_t i = 0; i < m; i++) { double v = (double)x[i], a = to[j + i]; to[j + i] = STEP; } \
            rest += m;                                                                         \
            if (rest == period) rest = 0, to += inner;                                         \
        }                                                                                      \
    }
WEFT_FOLD(weft_fold_sum_f32, float, 0, a + v)
WEFT_FOLD(weft_fold_sum_f64, double, 0, a + v)
WEFT_FOLD(weft_fold_prod_f32, float, 1, a * v)
WEFT_FOLD(weft_fold_prod_f64, double, 1, a * v)
WEFT_FOLD(weft_fold_amax_f32, float, -INFINITY, WEFT_MAX(v, a))
WEFT_FOLD(weft_fold_amax_f64, double, -INFINITY, WEFT_MAX(v, a))
WEFT_FOLD(weft_fold_amin_f32, float, INFINITY, WEFT_MIN(v, a))
WEFT_FOLD(weft_fold_amin_f64, double, INFINITY, WEFT_MIN(v, a))

/* Adds up what chunks have left, in their order; chunk c has result i at apart + i + c * shift. */
#define WEFT_GATHER(NAME, STEP)                                                                \
    static inline void NAME(double *to, int64_t n, const int64_t *run, int64_t length,         \
                            int64_t chunks, double start) {                                    \
        const int64_t period = run[0], inner = run[1], shift = run[2];                         \
        const double *from = to + run[3];                                                      \
        if (!run[3] && chunks) return;                                                         \
        for (int64_t i = 0; i < n; i++) to[i] = start;                                         \
        for (int64_t o = 0; o * inner < n; o++) {                                              \
            int64_t last = WEFT_LEAST(((o + 1) * period - 1) / length, chunks - 1);            \
            for (int64_t c = o * period / length; c <= last; c++)                              \
                for (int64_t i = o * inner; i < (o + 1) * inner; i++) {                        \
                    double a = to[i], v = from[i + c * shift];                                 \
                    to[i] = STEP;                                                              \
                }                                                                              \
        }                                                                                      \
    }
WEFT_GATHER(weft_gather_sum, a + v)
WEFT_GATHER(weft_gather_prod, a * v)
WEFT_GATHER(weft_gather_amax, WEFT_MAX(v, a))
WEFT_GATHER(weft_gather_amin, WEFT_MIN(v, a))

/* to[i] = VALUE for the result c that element at + i belongs to. */
#define WEFT_SPREAD(TO, VALUE, AT, N, RUN)                                                     \
    do {                                                                                       \
        const int64_t period_ = (RUN)[0], inner_ = (RUN)[1], at_ = (AT), n_ = (N);             \
        int64_t cell_ = at_ / period_ * inner_, rest_ = at_ % period_, j_ = rest_ % inner_, m_; \
        for (int64_t q_ = 0; q_ < n_; q_ += m_) {                                              \
            if (inner_ == 1) {                                                                 \
                m_ = WEFT_LEAST(period_ - rest_, n_ - q_);                                     \
                const int64_t c = cell_;                                                       \
                const __typeof__(*TO) x_ = VALUE;                                              \
                for (int64_t i_ = 0; i_ < m_; i_++) TO[q_ + i_] = x_;                          \
                rest_ += m_;                                                                   \
            } else {                                                                           \
                m_ = WEFT_LEAST(inner_ - j_, n_ - q_);                                         \
                for (int64_t i_ = 0; i_ < m_; i_++) {                                          \
                    const int64_t c = cell_ + j_ + i_;                                         \
                    TO[q_ + i_] = VALUE;                                                       \
                }                                                                              \
                rest_ += m_, j_ = 0;                                                           \
            }                                                                                  \
            if (rest_ == period_) rest_ = 0, cell_ += inner_;                                  \
        }                                                                                      \
    } while (0)

#endif

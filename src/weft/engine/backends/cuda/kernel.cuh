/* What generated kernels for a GPU share. A block takes a chunk of a tensor in a pass, a tensor in a stage.
 * Blocks may have any power of two of threads: what is computed depends on how many, never on which is first. */
#ifdef __CUDACC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fc00000)
#define WEFT_FN static __device__ __forceinline__
#define WEFT_KERNEL(NAME) \
    extern "C" __global__ void __launch_bounds__(WEFT_THREADS) NAME(const __grid_constant__ weft_args A)
#define WEFT_ALIGN(N) __align__(N)
#define restrict
#define WEFT_OWN_BITS
#define WEFT_OF_THE_DEVICE(P) __builtin_assume(__isGlobal(P)) /* a shorter instruction than for any memory */
WEFT_FN float weft_f32(uint32_t u) { return __uint_as_float(u); }
WEFT_FN uint32_t weft_u32(float f) { return __float_as_uint(f); }
#define WEFT_OWN_F16
WEFT_FN float weft_from_f16(uint16_t h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f; }
WEFT_FN uint16_t weft_to_f16(float f) { uint16_t h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h; }
#else
#define WEFT_OF_THE_DEVICE(P)
#endif

#define WEFT_THREADS 256 /* of a block, at most */
#define WEFT_WIDE 4      /* neighbours that a thread takes at once */
#define WEFT_ROW 256     /* host scalars that travel with a launch */
#define WEFT_TILE (WEFT_THREADS * WEFT_WIDE)

/* The tensors of a launch, all of it in the device's memory. ptr is slot-major: ptr[slot * tensors + t]. */
typedef struct {
    int64_t tensors, scalars;
    char **ptr;
    const double *rows;       /* [row][scalars]: host scalars; 0 where they travel with the launch */
    int64_t values, dims, reductions;
    const int32_t *row_of;    /* [tensors] */
    double *value;            /* [tensors][values]: 0-dim values of this step */
    const int64_t *dim;       /* [tensors][dims]: the length of a chunk, then sizes that depend on the shape */
    const int64_t *first;     /* [tensors + 1]: the chunks of each */
    const int64_t *start;     /* [chunks] */
    const int64_t *length;    /* [chunks] */
    const int64_t *owner;     /* [chunks]: whose it is */
    double *partial;          /* [chunks][reductions] */
    const float *left_out;    /* 0, or what is not 0 where this step is to write nothing */
} weft_table;

typedef struct { weft_table table; double row[WEFT_ROW]; } weft_args;

#define WEFT_A_TENSOR                                                              \
    const weft_table *T = &A.table;                                                \
    if (T->left_out && *T->left_out != 0) return;                                  \
    const int64_t t = blockIdx.x, chunks = T->first[t + 1] - T->first[t];          \
    const double *row = (T->rows ? T->rows : A.row) + T->row_of[t] * T->scalars;   \
    const double *partial = T->partial + T->first[t] * T->reductions;              \
    double *value = T->value + t * T->values;                                      \
    (void)row, (void)value, (void)partial, (void)chunks;

#define WEFT_A_CHUNK                                                               \
    const weft_table *T = &A.table;                                                \
    if (T->left_out && *T->left_out != 0) return;                                  \
    const int64_t t = T->owner[blockIdx.x], start = T->start[blockIdx.x];          \
    const int n = (int)T->length[blockIdx.x];                                      \
    const double *row = (T->rows ? T->rows : A.row) + T->row_of[t] * T->scalars;   \
    const double *value = T->value + t * T->values;                                \
    double *partial = T->partial + blockIdx.x * T->reductions;                     \
    (void)row, (void)value, (void)partial, (void)start;

#include "common.h"

/* ---- neighbours: all at once where the memory is aligned and the chunk goes on, else one by one */

#define WEFT_ALIGNED(P) ((uint64_t)(P) % (sizeof *(P) < 4 ? WEFT_WIDE * sizeof *(P) : 16) == 0)
#define WEFT_MOVE(T, BYTES)                                                              \
    typedef struct WEFT_ALIGN(BYTES) { T x, y, z, w; } weft_4_##T;                       \
    WEFT_FN void weft_load_##T(T *to, const T *from, int n, int wide) {                  \
        WEFT_OF_THE_DEVICE(from);                                                        \
        if (wide && n >= WEFT_WIDE) {                                                    \
            const weft_4_##T v = *(const weft_4_##T *)from;                              \
            to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;                          \
        } else                                                                           \
            for (int i = 0; i < WEFT_WIDE; i++) to[i] = i < n ? from[i] : (T)0;          \
    }                                                                                    \
    WEFT_FN void weft_store_##T(T *to, const T *from, int n, int wide) {                 \
        WEFT_OF_THE_DEVICE(to);                                                          \
        if (wide && n >= WEFT_WIDE) {                                                    \
            const weft_4_##T v = {from[0], from[1], from[2], from[3]};                   \
            *(weft_4_##T *)to = v;                                                       \
        } else                                                                           \
            for (int i = 0; i < WEFT_WIDE; i++)                                          \
                if (i < n) to[i] = from[i];                                              \
    }
WEFT_MOVE(float, 16)
WEFT_MOVE(double, 16)
WEFT_MOVE(int8_t, 4)
WEFT_MOVE(uint8_t, 4)
WEFT_MOVE(int16_t, 8)
WEFT_MOVE(uint16_t, 8)
WEFT_MOVE(int32_t, 16)
WEFT_MOVE(int64_t, 16)

/* ---- reductions by a block, in a fixed tree; every thread gets the result */

#define WEFT_BLOCK(NAME, STEP)                                          \
    WEFT_FN double NAME(double x) {                                     \
        __shared__ double all[WEFT_THREADS];                            \
        all[threadIdx.x] = x;                                           \
        __syncthreads();                                                \
        for (unsigned half = blockDim.x / 2; half; half /= 2) {         \
            if (threadIdx.x < half) {                                   \
                const double a = all[threadIdx.x], v = all[threadIdx.x + half]; \
                all[threadIdx.x] = STEP;                                \
            }                                                           \
            __syncthreads();                                            \
        }                                                               \
        x = all[0];                                                     \
        __syncthreads();                                                \
        return x;                                                       \
    }

/* n values, stride apart */
#define WEFT_TREE(NAME, BLOCK, START, STEP)                             \
    WEFT_FN double NAME(const double *x, int64_t n, int64_t stride) {   \
        double a = START;                                               \
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {         \
            const double v = x[i * stride];                             \
            a = STEP;                                                   \
        }                                                               \
        return BLOCK(a);                                                \
    }

/* ---- the result over a run of dims that an element belongs to, and where in its period that is */

typedef struct { int64_t cell, rest, period, inner; } weft_cells; /* of where a chunk or a tile starts */
typedef struct { int64_t cell, rest; } weft_place;
WEFT_FN weft_cells weft_cells_of(int64_t start, const int64_t *run) {
    const int64_t o = start / run[0];
    const weft_cells c = {o * run[1], start - o * run[0], run[0], run[1]};
    return c;
}
WEFT_FN weft_place weft_place_of(const weft_cells *c, int i) {
    const int64_t at = c->rest + i;
    if (at < 0x7fffffff) { /* both fit: short divisions */
        const uint32_t e = (uint32_t)at, period = (uint32_t)WEFT_LEAST(c->period, 0x7fffffff), o = e / period;
        const uint32_t inner = (uint32_t)WEFT_LEAST(c->inner, 0x7fffffff), rest = e - o * period;
        const weft_place w = {c->cell + o * c->inner + (c->inner == 1 ? 0 : rest % inner), rest};
        return w;
    }
    const int64_t o = at / c->period, rest = at - o * c->period;
    const weft_place w = {c->cell + o * c->inner + rest % c->inner, rest};
    return w;
}
WEFT_FN int64_t weft_cell(const weft_cells *c, int i) {
    if (c->rest + i < c->period && c->inner == 1) return c->cell;
    return weft_place_of(c, i).cell;
}

/* ---- reductions over a run of dims: element i belongs to the result i / period * inner + i % inner.
 * A run is (period, inner); that of a reduction goes on with (shift, apart), see weft_gather. */

WEFT_FN void weft_begin(double *to, int64_t at, int n, const int64_t *run, double start) {
    const int64_t end = ((at + n - 1) / run[0] + 1) * run[1];
    for (int64_t i = at / run[0] * run[1] + threadIdx.x; i < end; i += blockDim.x) to[i] = start;
    __syncthreads();
}

/* A tile's part: the thread that has the first element of a result takes the others; long rows are everybody's. */
#define WEFT_FOLD(NAME, BLOCK, T, START, STEP)                                              \
    WEFT_FN void NAME(double *to, const T *x, int64_t at, int n, const int64_t *run) {      \
        const int64_t period = run[0], inner = run[1];                                      \
        const weft_cells c = weft_cells_of(at, run);                                        \
        __syncthreads();                                                                    \
        if (inner == 1 && period > WEFT_TILE / 8) {                                         \
            for (int64_t e = at; e < at + n;) {                                             \
                const int64_t end = WEFT_LEAST((e / period + 1) * period, at + n);          \
                double a = START;                                                           \
                for (int64_t i = e - at + threadIdx.x; i < end - at; i += blockDim.x) {     \
                    const double v = (double)x[i];                                          \
                    a = STEP;                                                               \
                }                                                                           \
                const double v = BLOCK(a);                                                  \
                if (!threadIdx.x) {                                                         \
                    a = to[e / period];                                                     \
                    to[e / period] = STEP;                                                  \
                }                                                                           \
                e = end;                                                                    \
            }                                                                               \
        } else                                                                              \
            for (int i = threadIdx.x; i < n; i += blockDim.x) {                             \
                const weft_place w = weft_place_of(&c, i);                                  \
                if (i >= inner && w.rest >= inner) continue;                                \
                const int64_t end = WEFT_LEAST(n, i + period - w.rest);                     \
                double *result = to + w.cell, a = *result;                                  \
                for (int64_t k = i; k < end; k += inner) {                                  \
                    const double v = (double)x[k];                                          \
                    a = STEP;                                                               \
                }                                                                           \
                *result = a;                                                                \
            }                                                                               \
        __syncthreads();                                                                    \
    }

/* Adds up what chunks have left, in their order; chunk c has result i at apart + i + c * shift. */
#define WEFT_GATHER(NAME, STEP)                                                             \
    WEFT_FN void NAME(double *to, int64_t n, const int64_t *run, int64_t length,            \
                      int64_t chunks, double start) {                                       \
        const int64_t period = run[0], inner = run[1], shift = run[2];                      \
        const double *from = to + run[3];                                                   \
        if (!run[3] && chunks) return;                                                      \
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {                             \
            const int64_t o = i / inner, last = WEFT_LEAST(((o + 1) * period - 1) / length, chunks - 1); \
            double a = start;                                                               \
            _Pragma("unroll 8") /* so many are on their way at once */                      \
            for (int64_t c = o * period / length; c <= last; c++) {                         \
                const double v = from[i + c * shift];                                       \
                a = STEP;                                                                   \
            }                                                                               \
            to[i] = a;                                                                      \
        }                                                                                   \
        __syncthreads();                                                                    \
    }

#define WEFT_REDUCTION(HOW, START, STEP)                                       \
    WEFT_BLOCK(weft_block_##HOW, STEP)                                         \
    WEFT_TREE(weft_tree_##HOW, weft_block_##HOW, START, STEP)                  \
    WEFT_FOLD(weft_fold_##HOW##_f32, weft_block_##HOW, float, START, STEP)     \
    WEFT_FOLD(weft_fold_##HOW##_f64, weft_block_##HOW, double, START, STEP)    \
    WEFT_GATHER(weft_gather_##HOW, STEP)
WEFT_REDUCTION(sum, 0, a + v)
WEFT_REDUCTION(prod, 1, a * v)
WEFT_REDUCTION(amax, -INFINITY, WEFT_MAX(v, a))
WEFT_REDUCTION(amin, INFINITY, WEFT_MIN(v, a))

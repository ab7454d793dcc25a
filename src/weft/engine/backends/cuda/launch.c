/* Launches the kernels of a step: what the driver takes is in place, and nothing is waited for. */
#include <stdint.h>
#include <string.h>

#define WEFT_ROW 256
#define WEFT_THREADS 256

typedef struct {
    int64_t tensors, scalars;
    char **ptr;
    double *rows;
} weft_inputs; /* what the host writes: inputs.h */

typedef struct {
    int64_t tensors, scalars;
    void *ptr, *rows;
    int64_t values, dims, reductions;
    void *row_of, *value, *dim, *first, *start, *length, *owner, *partial, *left_out;
    double row[WEFT_ROW];
} weft_args; /* what kernels are given: kernel.cuh */

typedef int launch_fn(void *kernel, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz,
                      unsigned shared, void *stream, void **params, void **extra);
typedef void count_fn(const void *counts);

typedef struct {
    weft_inputs inputs;
    int64_t pointers, numbers, few; /* how many; whether the numbers travel with a launch */
    const char *sent; /* what the device has, or 0: pointers, then numbers where they do not travel */
    weft_args *args;
    void *const *pass, *const *stage; /* kernels; 0 where there is nothing to do */
    int64_t phases, blocks;
} weft_cuda_launch;

static launch_fn *launch; /* the driver's */
static count_fn *count;   /* the host's */
void weft_cuda_borrow(launch_fn *driver, count_fn *counter) { launch = driver, count = counter; }

/* Whether the device has other addresses or numbers than the host has written. */
int weft_cuda_moved(const weft_cuda_launch *l) {
    const int64_t pointers = 8 * l->pointers;
    if (!l->sent || memcmp(l->inputs.ptr, l->sent, pointers)) return 1;
    return !l->few && memcmp(l->inputs.rows, l->sent + pointers, 8 * l->numbers);
}

static int run(void *kernel, const weft_cuda_launch *l, int64_t blocks, void *stream) {
    void *params[] = {l->args};
    if (!kernel || !blocks) return 0;
    return launch(kernel, (unsigned)blocks, 1, 1, WEFT_THREADS, 1, 1, 0, stream, params, 0);
}

/* Phases, each with the stage after it; before phase 0 its own. The driver's error, or 0. */
int weft_cuda_run(const weft_cuda_launch *l, int64_t begin, int64_t end, void *stream) {
    int error = 0;
    if (l->few) memcpy(l->args->row, l->inputs.rows, 8 * l->numbers);
    if (begin == 0) error = run(l->stage[0], l, l->inputs.tensors, stream);
    for (int64_t at = begin; at < end && !error; at++) {
        error = run(l->pass[at], l, l->blocks, stream);
        if (!error) error = run(l->stage[at + 1], l, l->inputs.tensors, stream);
    }
    return error;
}

/* One stage again. */
int weft_cuda_stage(const weft_cuda_launch *l, int64_t at, void *stream) {
    if (l->few) memcpy(l->args->row, l->inputs.rows, 8 * l->numbers);
    return run(l->stage[at], l, l->inputs.tensors, stream);
}

/* A step that is nothing but launches: 1 + the first that has something to send, and none has begun; else the
 * driver's error, negated, or 0. */
int64_t weft_cuda_step(const weft_cuda_launch *const *all, int64_t n, const void *counts, void *stream) {
    for (int64_t i = 0; i < n; i++)
        if (weft_cuda_moved(all[i])) return i + 1;
    for (int64_t i = 0; i < n; i++) {
        const int error = weft_cuda_run(all[i], 0, all[i]->phases, stream);
        if (error) return -error;
    }
    count(counts);
    return 0;
}

const int64_t weft_size_of_Args = sizeof(weft_args);
const int64_t weft_size_of_Planned = sizeof(weft_cuda_launch);

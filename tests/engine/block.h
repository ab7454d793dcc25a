/* A GPU's words on the CPU: the blocks of a kernel one after the other, each of THREADS threads (1, or some). */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#ifndef THREADS
#define THREADS 1
#endif
#define WEFT_FN static inline
#define WEFT_ALIGN(N) __attribute__((aligned(N)))
#define WEFT_KERNEL(NAME) void NAME(const weft_args A)
#define __shared__ static

typedef struct { unsigned x; } three;
static _Thread_local three blockIdx, threadIdx;
static const three blockDim = {THREADS};

#if THREADS == 1
static inline void __syncthreads(void) {}
#else
static pthread_barrier_t barrier;
static inline void __syncthreads(void) { pthread_barrier_wait(&barrier); }
#endif

/* cuLaunchKernel, for kernels that are compiled with block.h: each comes with what runs its blocks. */
typedef void run_fn(void *kernel, const void *args, long blocks);
typedef struct { run_fn *run; void *kernel; } pair;

int block_launch(void *given, unsigned blocks, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz,
                 unsigned shared, void *stream, void **params, void **extra) {
    const pair *p = given;
    p->run(p->kernel, params[0], blocks);
    return 0;
}

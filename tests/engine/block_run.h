typedef void kernel_fn(const weft_args);
typedef struct { kernel_fn *kernel; const weft_args *args; long blocks; unsigned thread; } job;
static void *run_blocks(void *given) {
    const job *j = given;
    threadIdx.x = j->thread;
    for (long b = 0; b < j->blocks; b++) {
        blockIdx.x = (unsigned)b;
        __syncthreads();
        j->kernel(*j->args);
        __syncthreads();
    }
    return 0;
}
void block_run(kernel_fn *kernel, const weft_args *args, long blocks) {
#if THREADS == 1
    job j = {kernel, args, blocks, 0};
    run_blocks(&j);
#else
    pthread_t thread[THREADS];
    job jobs[THREADS];
    pthread_barrier_init(&barrier, 0, THREADS);
    for (unsigned k = 0; k < THREADS; k++) {
        jobs[k] = (job){kernel, args, blocks, k};
        pthread_create(&thread[k], 0, run_blocks, &jobs[k]);
    }
    for (int k = 0; k < THREADS; k++) pthread_join(thread[k], 0);
    pthread_barrier_destroy(&barrier);
#endif
}

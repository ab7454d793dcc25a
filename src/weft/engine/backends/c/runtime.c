/* Runs the phases of a plan over a table of tensors, on a small pool of threads.
 *
 * Not OpenMP: a child forked after an OpenMP region hangs, and not every compiler has it. Which
 * thread takes which unit is left to chance; results are by chunk, so bits do not depend on it. */
#include "weft.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ __volatile__("yield")
#else
#define PAUSE() ((void)0)
#endif

enum { MAX_WORKERS = 255, SPIN = 4000 };

/* ---------------------------------------------------------------- the pool */

typedef void unit_fn(void *ctx, int64_t unit);

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* held by who runs a region */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;  /* guards what follows */
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int workers;                 /* that exist */
static int places;                  /* that the open region still takes */
static int sleeping;
static atomic_long generation;      /* counts regions */
static atomic_int busy;             /* workers inside the region */
static atomic_long next_unit;
static struct { unit_fn *fn; void *ctx; int64_t units; } region;

static void take_units(void) {
    unit_fn *fn = region.fn;
    void *ctx = region.ctx;
    int64_t units = region.units;
    for (;;) {
        int64_t u = atomic_fetch_add_explicit(&next_unit, 1, memory_order_relaxed);
        if (u >= units) return;
        fn(ctx, u);
    }
}

static void *work(void *unused) {
    (void)unused;
    long seen = 0;
    for (;;) {
        for (int i = 0; i < SPIN && atomic_load_explicit(&generation, memory_order_acquire) == seen; i++)
            PAUSE();
        pthread_mutex_lock(&gate);
        while (atomic_load(&generation) == seen) {
            sleeping++;
            pthread_cond_wait(&opened, &gate);
            sleeping--;
        }
        seen = atomic_load(&generation);
        int joined = places > 0;
        if (joined) {
            places--;
            atomic_fetch_add(&busy, 1);
        }
        pthread_mutex_unlock(&gate);
        if (joined) {
            take_units();
            atomic_fetch_sub_explicit(&busy, 1, memory_order_release);
        }
    }
    return NULL;
}

/* A forked child has none of its parent's threads, and locks in whatever state they were. */
static void in_child(void) {
    pthread_mutex_init(&owner, NULL);
    pthread_mutex_init(&gate, NULL);
    pthread_cond_init(&opened, NULL);
    workers = places = sleeping = 0;
    atomic_store(&busy, 0);
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, in_child); }

static void hire(int wanted) {
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (workers < wanted && workers < MAX_WORKERS) {
        pthread_t id;
        if (pthread_create(&id, &detached, work, NULL)) break; /* fewer threads are enough */
        workers++;
    }
    pthread_attr_destroy(&detached);
}

/* fn(ctx, u) for every u < units; the caller works too, and alone where the pool is taken. */
static void spread(unit_fn *fn, void *ctx, int64_t units, int threads) {
    if (threads > units) threads = (int)units;
    if (threads < 2 || pthread_mutex_trylock(&owner)) {
        for (int64_t u = 0; u < units; u++) fn(ctx, u);
        return;
    }
    pthread_mutex_lock(&gate);
    hire(threads - 1);
    region.fn = fn, region.ctx = ctx, region.units = units;
    atomic_store_explicit(&next_unit, 0, memory_order_relaxed);
    places = threads - 1;
    atomic_fetch_add(&generation, 1);
    if (sleeping) pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    take_units();
    pthread_mutex_lock(&gate);
    places = 0; /* who has not come by now is not needed */
    pthread_mutex_unlock(&gate);
    for (int i = 0; atomic_load_explicit(&busy, memory_order_acquire); i++) {
        PAUSE();
        if (i > SPIN) sched_yield(), i = 0;
    }
    pthread_mutex_unlock(&owner);
}

/* ---------------------------------------------------------------- the phases */

typedef struct {
    const weft_table *table;
    weft_chunk_fn *chunk;
    weft_knot_fn *knot;
    int from, to, at;
    int64_t wholes;
} job;

static void run_chunk(const job *j, int phase, int64_t a, int64_t c) {
    const weft_table *T = j->table;
    j->chunk(T, phase, T->which[a], T->start[c], T->length[c], T->partial + c * T->reductions);
}

static void tie(const job *j, int phase, int64_t a) {
    const weft_table *T = j->table;
    int64_t c = T->first[a];
    j->knot(T, phase, T->which[a], T->partial + c * T->reductions, T->first[a + 1] - c);
}

static void run_unit(void *ctx, int64_t u) {
    const job *j = ctx;
    const weft_table *T = j->table;
    if (u < j->wholes) {
        for (int64_t a = T->whole[u]; a < T->whole[u + 1]; a++)
            for (int phase = j->from; phase < j->to; phase++) {
                for (int64_t c = T->first[a]; c < T->first[a + 1]; c++) run_chunk(j, phase, a, c);
                tie(j, phase + 1, a);
            }
    } else {
        u -= j->wholes;
        for (int64_t c = T->split[u]; c < T->split[u + 1]; c++) run_chunk(j, j->at, T->owner[c], c);
    }
}

/* The knot of phase 0 is tied first, that of each phase after it. */
void weft_run(const weft_table *T, weft_chunk_fn *chunk, weft_knot_fn *knot, int from, int to, int threads) {
    job j = {T, chunk, knot, from, to, from, T->wholes};
    if (from == 0)
        for (int64_t a = 0; a < T->active; a++) tie(&j, 0, a);
    for (j.at = from; j.at < to; j.at++) {
        spread(run_unit, &j, j.wholes + T->splits, threads);
        j.wholes = 0; /* they are through all phases already */
        for (int64_t a = T->split_from; a < T->active; a++) tie(&j, j.at + 1, a);
    }
}

/* The knot of a phase alone: after a value over all parameters has come in. */
void weft_tie(const weft_table *T, weft_knot_fn *knot, int phase) {
    job j = {T, 0, knot, 0, 0, 0, 0};
    for (int64_t a = 0; a < T->active; a++) tie(&j, phase, a);
}

/* One more step for each count: a call to torch would take four times as long. */
void weft_count(float *steps, int64_t n) {
    for (int64_t i = 0; i < n; i++) steps[i] += 1;
}

int weft_workers(void) { return workers; }

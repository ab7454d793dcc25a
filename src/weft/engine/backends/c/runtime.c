/* Runs the phases of a plan over a table of tensors, on torch's threads or a small pool of its own.
 *
 * torch's are those of the OpenMP that is in the process already: after a backward pass they still
 * spin on their cores, where threads of ours would have to wait for them. A child forked after an
 * OpenMP region would hang in the next one, and some systems have none: there the pool serves. Which
 * thread takes which unit is left to chance; results are by chunk, so bits do not depend on it. */
#define _GNU_SOURCE
#include "weft.h"

#include <dlfcn.h>
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

enum { MAX_WORKERS = 256, SPIN = 4000 };

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

/* A thread's share of the units: a run of neighbours, so that it walks on in the same memory. */
typedef struct {
    _Alignas(64) atomic_long next;
    long end;
} share;

typedef struct {
    unit_fn *fn;
    void *ctx;
    int shares;
    atomic_int came;
    share of[MAX_WORKERS];
} work_left;
static work_left *region;

/* Each thread takes its own share, then what is left of the others'. */
static void take_units(void *left) {
    work_left *w = left;
    int own = atomic_fetch_add_explicit(&w->came, 1, memory_order_relaxed);
    for (int i = 0; i < w->shares; i++) {
        share *s = &w->of[(own + i) % w->shares];
        for (;;) {
            long u = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
            if (u >= s->end) break;
            w->fn(w->ctx, u);
        }
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
        work_left *w = region;
        if (joined) {
            places--;
            atomic_fetch_add(&busy, 1);
        }
        pthread_mutex_unlock(&gate);
        if (joined) {
            take_units(w);
            atomic_fetch_sub_explicit(&busy, 1, memory_order_release);
        }
    }
    return NULL;
}

/* The entry to OpenMP's threads that GNU's and LLVM's runtimes share. */
typedef void team_fn(void (*fn)(void *), void *ctx, unsigned threads, unsigned flags);
static team_fn *team;

/* A forked child has none of its parent's threads, and locks in whatever state they were. */
static void in_child(void) {
    team = NULL;
    pthread_mutex_init(&owner, NULL);
    pthread_mutex_init(&gate, NULL);
    pthread_cond_init(&opened, NULL);
    workers = places = sleeping = 0;
    atomic_store(&busy, 0);
}

__attribute__((constructor)) static void look_around(void) {
    team = (team_fn *)dlsym(RTLD_DEFAULT, "GOMP_parallel");
    pthread_atfork(NULL, NULL, in_child);
}

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
    if (threads > MAX_WORKERS) threads = MAX_WORKERS;
    if (threads < 2) {
        for (int64_t u = 0; u < units; u++) fn(ctx, u);
        return;
    }
    work_left w;
    w.fn = fn, w.ctx = ctx, w.shares = threads;
    atomic_init(&w.came, 0);
    for (int i = 0; i < threads; i++) {
        atomic_init(&w.of[i].next, units * i / threads);
        w.of[i].end = units * (i + 1) / threads;
    }
    if (team) {
        team(take_units, &w, (unsigned)threads, 0);
        return;
    }
    if (pthread_mutex_trylock(&owner)) {
        take_units(&w);
        return;
    }
    pthread_mutex_lock(&gate);
    hire(threads - 1);
    region = &w;
    places = threads - 1;
    atomic_fetch_add(&generation, 1);
    if (sleeping) pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    take_units(&w);
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

int weft_workers(void) { return workers; }

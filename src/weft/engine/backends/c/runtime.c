/* Runs the phases of a plan over a table of tensors, on torch's threads or a small pool of its own.
 *
 * torch's are those of the OpenMP that is in the process already: after a backward pass they still
 * spin on their cores, where threads of ours would have to wait for them. A child forked after an
 * OpenMP region would hang in the next one, and some systems have none: there the pool serves. Who is
 * through with its own units takes others', so which thread does which is left to chance; results are
 * by chunk, so bits do not depend on it. */
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

/* A thread's share of the units: of whole tensors, which go from large to small, every so manieth;
 * of chunks a run of neighbours, so that it walks on in the same memory. */
typedef struct {
    _Alignas(64) atomic_long taken;
    long wholes, begin, units;
} share;

typedef struct {
    unit_fn *fn;
    void *ctx;
    int shares;
    share of[MAX_WORKERS];
} work_left;
static work_left *region;

/* Each thread takes its own share, then what is left of the others'. It has the same share every
 * time, since what it wrote is still in its cache: another core's comes at several times the price. */
static void take_units(work_left *w, int own) {
    for (int i = 0; i < w->shares; i++) {
        share *s = &w->of[(own + i) % w->shares];
        for (;;) {
            long k = atomic_fetch_add_explicit(&s->taken, 1, memory_order_relaxed);
            if (k >= s->units) break;
            w->fn(w->ctx, k < s->wholes ? k * w->shares + (own + i) % w->shares : s->begin + k);
        }
    }
}

static void *work(void *place) {
    int own = (int)(intptr_t)place;
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
            take_units(w, own);
            atomic_fetch_sub_explicit(&busy, 1, memory_order_release);
        }
    }
    return NULL;
}

/* The entry to OpenMP's threads that GNU's and LLVM's runtimes share. */
typedef void team_fn(void (*fn)(void *), void *ctx, unsigned threads, unsigned flags);
static team_fn *team;
static int (*thread_num)(void);

static void join(void *left) { take_units(left, thread_num()); }

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
    thread_num = (int (*)(void))dlsym(RTLD_DEFAULT, "omp_get_thread_num");
    if (thread_num) team = (team_fn *)dlsym(RTLD_DEFAULT, "GOMP_parallel");
    pthread_atfork(NULL, NULL, in_child);
}

static void hire(int wanted) {
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (workers < wanted && workers < MAX_WORKERS) {
        pthread_t id;
        if (pthread_create(&id, &detached, work, (void *)(intptr_t)(workers + 1))) break; /* fewer threads are enough */
        workers++;
    }
    pthread_attr_destroy(&detached);
}

/* fn(ctx, u) for every u < wholes + splits; the caller works too, and alone where the pool is taken. */
static void spread(unit_fn *fn, void *ctx, int64_t wholes, int64_t splits, int threads) {
    int64_t units = wholes + splits;
    if (threads > units) threads = (int)units;
    if (threads > MAX_WORKERS) threads = MAX_WORKERS;
    if (threads < 2) {
        for (int64_t u = 0; u < units; u++) fn(ctx, u);
        return;
    }
    work_left w;
    w.fn = fn, w.ctx = ctx, w.shares = threads;
    for (int i = 0; i < threads; i++) {
        share *s = &w.of[i];
        atomic_init(&s->taken, 0);
        s->wholes = (wholes - i + threads - 1) / threads;
        s->begin = wholes + splits * i / threads - s->wholes;
        s->units = s->wholes + splits * (i + 1) / threads - splits * i / threads;
    }
    if (team) {
        team(join, &w, (unsigned)threads, 0);
        return;
    }
    if (pthread_mutex_trylock(&owner)) {
        take_units(&w, 0);
        return;
    }
    pthread_mutex_lock(&gate);
    hire(threads - 1);
    region = &w;
    places = threads - 1;
    atomic_fetch_add(&generation, 1);
    if (sleeping) pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    take_units(&w, 0);
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
                int64_t first = T->first[a], last = T->first[a + 1] - 1;
                int back = (phase - j->from) % 2; /* begin with what is in the cache still */
                for (int64_t c = 0; c <= last - first; c++) run_chunk(j, phase, a, back ? last - c : first + c);
                tie(j, phase + 1, a);
            }
    } else {
        u -= j->wholes;
        for (int64_t c = T->split[u]; c < T->split[u + 1]; c++) run_chunk(j, j->at, T->owner[c], c);
    }
}

static void tie_unit(void *ctx, int64_t u) {
    const job *j = ctx;
    tie(j, j->at + 1, j->table->split_from + u);
}

/* The knot of phase 0 is tied first, that of each phase after it: those of vectors by all threads. */
void weft_run(const weft_table *T, weft_chunk_fn *chunk, weft_knot_fn *knot, int from, int to, int threads) {
    job j = {T, chunk, knot, from, to, from, T->wholes};
    if (from == 0)
        for (int64_t a = 0; a < T->active; a++) tie(&j, 0, a);
    for (j.at = from; j.at < to; j.at++) {
        spread(run_unit, &j, j.wholes, T->splits, threads);
        j.wholes = 0; /* they are through all phases already */
        spread(tie_unit, &j, 0, T->active - T->split_from, T->dims ? threads : 1);
    }
}

/* The counts of those that step, each in a tensor of its own, and room to read them into. */
typedef struct {
    void *const *at;
    const uint8_t *wide; /* whether a count is a double; else it is a float */
    int64_t n;
    double *read;
} weft_counts;

static double count_at(const weft_counts *c, int64_t i) {
    return c->wide[i] ? *(const double *)c->at[i] : *(const float *)c->at[i];
}

/* One more step for each: a call to torch would take many times as long. */
void weft_count(const weft_counts *c) {
    for (int64_t i = 0; i < c->n; i++) {
        if (c->wide[i]) *(double *)c->at[i] += 1;
        else *(float *)c->at[i] += 1;
    }
}

void weft_read_counts(const weft_counts *c) {
    for (int64_t i = 0; i < c->n; i++) c->read[i] = count_at(c, i);
}

/* A step that is nothing but launches: all of their phases, then one more step for each count. */
typedef struct {
    const weft_table *table;
    weft_chunk_fn *chunk;
    weft_knot_fn *knot;
    int64_t phases, alone;
} weft_launch;

typedef struct {
    const weft_launch *launch;
    int64_t n;
    const weft_counts *counts;
} weft_launches;

void weft_step(const weft_launches *all, int threads) {
    for (int64_t i = 0; i < all->n; i++) {
        const weft_launch *l = &all->launch[i];
        weft_run(l->table, l->chunk, l->knot, 0, (int)l->phases, l->alone ? 1 : threads);
    }
    weft_count(all->counts);
}

/* The knot of a phase alone: after a value over all parameters has come in. */
void weft_tie(const weft_table *T, weft_knot_fn *knot, int phase) {
    job j = {T, 0, knot, 0, 0, 0, 0};
    for (int64_t a = 0; a < T->active; a++) tie(&j, phase, a);
}

int weft_workers(void) { return workers; }

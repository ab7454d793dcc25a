/* Work shared among threads: torch's own, or a small pool of ours.
 *
 * torch's are those of the OpenMP that is in the process already: after a backward pass they still
 * spin on their cores, where threads of ours would have to wait for them. A child forked after an
 * OpenMP region would hang in the next one, and some systems have none: there the pool serves. Who is
 * through with its own units takes others', so which thread does which is left to chance; results are
 * by unit, so bits do not depend on it. */
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
static void run_share(work_left *w, int own) {
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
            run_share(w, own);
            atomic_fetch_sub_explicit(&busy, 1, memory_order_release);
        }
    }
    return NULL;
}

/* The entry to OpenMP's threads that GNU's and LLVM's runtimes share. */
typedef void team_fn(void (*fn)(void *), void *ctx, unsigned threads, unsigned flags);
static team_fn *team;
static int (*thread_num)(void);

static void join(void *left) { run_share(left, thread_num()); }

/* A forked child has none of its parent's threads, and locks in whatever state they were. */
static void in_child(void) {
    team = NULL;
    pthread_mutex_init(&owner, NULL);
    pthread_mutex_init(&gate, NULL);
    pthread_cond_init(&opened, NULL);
    workers = places = sleeping = 0;
    atomic_store(&busy, 0);
}

__attribute__((constructor)) static void init_threads(void) {
    thread_num = (int (*)(void))dlsym(RTLD_DEFAULT, "omp_get_thread_num");
    if (thread_num) team = (team_fn *)dlsym(RTLD_DEFAULT, "GOMP_parallel");
    pthread_atfork(NULL, NULL, in_child);
}

static void start_workers(int wanted) {
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
void weft_parallel_for(unit_fn *fn, void *ctx, int64_t wholes, int64_t splits, int threads) {
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
        run_share(&w, 0);
        return;
    }
    pthread_mutex_lock(&gate);
    start_workers(threads - 1);
    region = &w;
    places = threads - 1;
    atomic_fetch_add(&generation, 1);
    if (sleeping) pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    run_share(&w, 0);
    pthread_mutex_lock(&gate);
    places = 0; /* who has not come by now is not needed */
    pthread_mutex_unlock(&gate);
    for (int i = 0; atomic_load_explicit(&busy, memory_order_acquire); i++) {
        PAUSE();
        if (i > SPIN) sched_yield(), i = 0;
    }
    pthread_mutex_unlock(&owner);
}

int weft_workers(void) { return workers; }

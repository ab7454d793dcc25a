/* Runs the phases of a plan over a table of tensors, on the host's threads. */
#define _GNU_SOURCE
#include "kernel.h"

#include <stddef.h>

/* The host fills in a table by its first fields, as weft_inputs. */
_Static_assert(!offsetof(weft_table, tensors) && offsetof(weft_table, scalars) == 8 && offsetof(weft_table, ptr) == 16
               && offsetof(weft_table, rows) == 24, "a table begins as weft_inputs does");

typedef void unit_fn(void *ctx, int64_t unit);
typedef void parallel_for_fn(unit_fn *fn, void *ctx, int64_t wholes, int64_t splits, int threads);
typedef void count_fn(const void *counts);
static parallel_for_fn *parallel_for;
static count_fn *count;

/* What the host's library lends. */
void weft_borrow(parallel_for_fn *threads, count_fn *counter) { parallel_for = threads, count = counter; }

typedef struct {
    const weft_table *table;
    weft_chunk_fn *chunk;
    weft_scalars_fn *scalars;
    int from, to, at;
    int64_t wholes;
} job;

static void run_chunk(const job *j, int phase, int64_t a, int64_t c) {
    const weft_table *T = j->table;
    j->chunk(T, phase, T->which[a], T->start[c], T->length[c], T->partial + c * T->reductions);
}

static void run_scalars(const job *j, int phase, int64_t a) {
    const weft_table *T = j->table;
    int64_t c = T->first[a];
    j->scalars(T, phase, T->which[a], T->partial + c * T->reductions, T->first[a + 1] - c);
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
                run_scalars(j, phase + 1, a);
            }
    } else {
        u -= j->wholes;
        for (int64_t c = T->split[u]; c < T->split[u + 1]; c++) run_chunk(j, j->at, T->owner[c], c);
    }
}

static void scalars_unit(void *ctx, int64_t u) {
    const job *j = ctx;
    run_scalars(j, j->at + 1, j->table->split_from + u);
}

/* The scalars before phase 0 come first, those behind each phase after it: with vectors by all threads. */
void weft_run(const weft_table *T, weft_chunk_fn *chunk, weft_scalars_fn *scalars, int from, int to, int threads) {
    job j = {T, chunk, scalars, from, to, from, T->wholes};
    if (from == 0)
        for (int64_t a = 0; a < T->active; a++) run_scalars(&j, 0, a);
    for (j.at = from; j.at < to; j.at++) {
        parallel_for(run_unit, &j, j.wholes, T->splits, threads);
        j.wholes = 0; /* they are through all phases already */
        parallel_for(scalars_unit, &j, 0, T->active - T->split_from, T->dims ? threads : 1);
    }
}

/* A step that is nothing but launches: all of their phases, then one more step for each count. */
typedef struct {
    const weft_table *table;
    weft_chunk_fn *chunk;
    weft_scalars_fn *scalars;
    int64_t phases, alone;
} weft_launch;

typedef struct {
    const weft_launch *launch;
    int64_t n;
    const void *counts;
} weft_launches;

void weft_step(const weft_launches *all, int threads) {
    for (int64_t i = 0; i < all->n; i++) {
        const weft_launch *l = &all->launch[i];
        weft_run(l->table, l->chunk, l->scalars, 0, (int)l->phases, l->alone ? 1 : threads);
    }
    count(all->counts);
}

/* The scalars before a phase alone: after a value over all parameters has come in. */
void weft_run_scalars(const weft_table *T, weft_scalars_fn *scalars, int phase) {
    job j = {T, 0, scalars, 0, 0, 0, 0};
    for (int64_t a = 0; a < T->active; a++) run_scalars(&j, phase, a);
}

#define SIZE_OF(NAME, TYPE) const int64_t weft_size_of_##NAME = sizeof(TYPE);
SIZE_OF(Table, weft_table)
SIZE_OF(Planned, weft_launch)
SIZE_OF(WholeStep, weft_launches)

/* A step that repeats the last, with other numbers and other grads at most: all but its launches. */

typedef struct { /* where a launch has the grads' addresses, and which grad each of its tensors has */
    const weft_inputs *inputs;
    int64_t slot;
    const int64_t *which;
} weft_column;

typedef struct {
    weft_watched *watched;
    int64_t rows, columns;
    const weft_scalar_row *scalar_row;
    const weft_column *column;
    const weft_counts *counts; /* the rows are those of the step which all come to */
} weft_replay;

enum { UNTOLD = 8 };

/* What a look has found, with UNTOLD where Python has to take it from there; else all is in place. */
int64_t weft_ready(const weft_replay *r, int threads) {
    int64_t seen = weft_still(r->watched, threads);
    if (seen == CHANGED || seen & OTHER) return seen;
    double steps = weft_count_of_all(r->counts);
    if (steps < 0 || (seen & MOVED && !weft_take_grads(r->watched))) return seen | UNTOLD;
    if (seen & MOVED)
        for (int64_t i = 0; i < r->columns; i++) {
            const weft_column *c = &r->column[i];
            char **ptr = c->inputs->ptr + c->slot * c->inputs->tensors;
            for (int64_t t = 0; t < c->inputs->tensors; t++) ptr[t] = (char *)(intptr_t)r->watched->was[c->which[t]];
        }
    for (int64_t i = 0; i < r->rows; i++)
        if (!compute_row(&r->scalar_row[i], r->watched->hypers, steps + 1)) return seen | UNTOLD;
    return seen;
}

#define SIZE_OF(NAME, TYPE) const int64_t weft_size_of_##NAME = sizeof(TYPE);
SIZE_OF(Watched, weft_watched)
SIZE_OF(ScalarRow, weft_scalar_row)
SIZE_OF(Counts, weft_counts)
SIZE_OF(Column, weft_column)
SIZE_OF(Replay, weft_replay)

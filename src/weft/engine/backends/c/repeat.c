/* A step that repeats the last, with other numbers and other grads at most: all but its launches. */

typedef struct { /* where a table has the grads' addresses, and which grad each of its tensors has */
    const weft_table *table;
    int64_t slot;
    const int64_t *which;
} weft_column;

typedef struct {
    weft_things *things;
    int64_t rows, columns;
    const weft_numbers *numbers;
    const weft_column *column;
    const weft_counts *counts; /* the rows are those of the step which all come to */
} weft_repeat;

enum { UNTOLD = 8 };

/* What a look has found, with UNTOLD where Python has to take it from there; else all is in place. */
int64_t weft_ready(const weft_repeat *r, int threads) {
    int64_t seen = weft_still(r->things, threads);
    if (seen == CHANGED || seen & OTHER) return seen;
    double steps = weft_count_of_all(r->counts);
    if (steps < 0 || (seen & MOVED && !weft_take_grads(r->things))) return seen | UNTOLD;
    if (seen & MOVED)
        for (int64_t i = 0; i < r->columns; i++) {
            const weft_column *c = &r->column[i];
            char **ptr = c->table->ptr + c->slot * c->table->tensors;
            for (int64_t t = 0; t < c->table->tensors; t++) ptr[t] = (char *)(intptr_t)r->things->was[c->which[t]];
        }
    for (int64_t i = 0; i < r->rows; i++)
        if (!compute_row(&r->numbers[i], r->things->hypers, steps + 1)) return seen | UNTOLD;
    return seen;
}

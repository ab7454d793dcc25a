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

/* The count that all have, 0 where there are none; -1 where they differ. */
double weft_count_of_all(const weft_counts *c) {
    double first = c->n ? count_at(c, 0) : 0;
    for (int64_t i = 1; i < c->n; i++)
        if (count_at(c, i) != first) return -1;
    return first;
}

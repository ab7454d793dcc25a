/* The host scalars of a step in double, as Python computes them: a few instructions over registers.
 *
 * Where Python would raise, give a complex number or an integer that no double holds, and where a
 * guard does not hold, nothing is computed: Python is asked then. */

typedef struct {
    int32_t op, whole, to, a, b, c; /* registers; whether it is an integer */
} weft_code;

typedef struct {
    int32_t to, hyper, item; /* a hyper's place among all, and that in a tuple or -1 */
} weft_leaf;

typedef struct {
    const weft_inputs *inputs;
    int64_t row, step; /* which row; the register of the step, or -1 */
    int64_t leaves, codes, outputs;
    const weft_leaf *leaf;
    const weft_code *code;
    const int32_t *output; /* the register of each number of the row */
    double *reg;
} weft_scalar_row;

static const double WHOLE = 9007199254740992.0; /* integers beyond it are not all doubles */

/* The number that a Python object is; 0 where it is none, or none that a double holds. */
static int read_number(const char *object, double *to) {
    if (!type_in) return 0;
    int64_t type = (int64_t)(intptr_t)word(object, type_in);
    if (type == float_type) {
        *to = float_value((void *)object);
        return 1;
    }
    int overflow = 0;
    if (type != int_type) return 0;
    *to = (double)int_value((void *)object, &overflow);
    return !overflow && fabs(*to) < WHOLE;
}

static int read_leaf(const weft_leaf *leaf, void *hypers, double *reg) {
    void *object = list_item(hypers, leaf->hyper);
    if (leaf->item >= 0) {
        if ((int64_t)(intptr_t)word(object, type_in) != tuple_type || leaf->item >= tuple_size(object)) return 0;
        object = tuple_item(object, leaf->item);
    }
    return read_number(object, &reg[leaf->to]);
}

/* 0 where Python is to be asked. */
static int run_code(const weft_code *k, double *reg) {
    double a = reg[k->a], b = reg[k->b], x;
    switch (k->op) {
/* INSTRUCTIONS: those of scalar_code.py */
        default: return 0;
    }
    if (k->whole) x += 0.0; /* integers have one zero */
    reg[k->to] = x;
    return k->whole ? fabs(x) < WHOLE : isfinite(x);
}

/* Computes a row for the hypers and the step of now; 0 where Python is to be asked. */
static int compute_row(const weft_scalar_row *w, void *hypers, double step) {
    for (int64_t i = 0; i < w->leaves; i++)
        if (!read_leaf(&w->leaf[i], hypers, w->reg)) return 0;
    if (w->step >= 0) w->reg[w->step] = step;
    for (int64_t i = 0; i < w->codes; i++)
        if (!run_code(&w->code[i], w->reg)) return 0;
    double *row = w->inputs->rows + w->row * w->inputs->scalars;
    for (int64_t i = 0; i < w->outputs; i++) row[i] = w->reg[w->output[i]];
    return 1;
}

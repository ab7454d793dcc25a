/* The host scalars of a step in double, as Python computes them: a few instructions over registers.
 *
 * Where Python would raise, give a complex number or an integer that no double holds, and where a
 * guard does not hold, nothing is computed: Python is asked then. */

enum { /* in the order of OPS in numbers.py */
    N_GUARD, N_PIN, N_ADD, N_SUB, N_MUL, N_DIV, N_POW, N_NEG, N_ABS, N_MIN, N_MAX,
    N_LT, N_LE, N_GT, N_GE, N_EQ, N_NE, N_NOT, N_AND, N_OR, N_SELECT, N_SAME, N_BOOL,
    N_SQRT, N_EXP, N_LOG, N_SIN, N_COS, N_TANH, N_FLOOR, N_CEIL,
};

typedef struct {
    int32_t op, whole, to, a, b, c; /* registers; whether it is an integer */
} weft_code;

typedef struct {
    int32_t to, hyper, item; /* a hyper's place among all, and that in a tuple or -1 */
} weft_leaf;

typedef struct {
    const weft_table *table;
    int64_t row, step; /* which row of the table; the register of the step, or -1 */
    int64_t leaves, codes, outputs;
    const weft_leaf *leaf;
    const weft_code *code;
    const int32_t *output; /* the register of each number of the row */
    double *reg;
} weft_numbers;

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
        case N_GUARD: return (a != 0) == (b != 0);
        case N_PIN: return a == b;
        case N_ADD: x = a + b; break;
        case N_SUB: x = a - b; break;
        case N_MUL: x = a * b; break;
        case N_DIV: if (b == 0) return 0; x = a / b; break;
        case N_POW: if ((a < 0 && b != floor(b)) || (a == 0 && b < 0)) return 0; x = pow(a, b); break;
        case N_NEG: x = -a; break;
        case N_ABS: x = fabs(a); break;
        case N_MIN: x = b < a ? b : a; break;
        case N_MAX: x = b > a ? b : a; break;
        case N_LT: x = a < b; break;
        case N_LE: x = a <= b; break;
        case N_GT: x = a > b; break;
        case N_GE: x = a >= b; break;
        case N_EQ: x = a == b; break;
        case N_NE: x = a != b; break;
        case N_NOT: x = a == 0; break;
        case N_AND: x = a != 0 ? b : a; break;
        case N_OR: x = a != 0 ? a : b; break;
        case N_SELECT: x = a != 0 ? b : reg[k->c]; break;
        case N_SAME: x = a; break;
        case N_BOOL: x = a != 0; break;
        case N_SQRT: x = sqrt(a); break;
        case N_EXP: x = exp(a); break;
        case N_LOG: x = log(a); break;
        case N_SIN: x = sin(a); break;
        case N_COS: x = cos(a); break;
        case N_TANH: x = tanh(a); break;
        case N_FLOOR: x = floor(a); break;
        case N_CEIL: x = ceil(a); break;
        default: return 0;
    }
    if (k->whole) x += 0.0; /* integers have one zero */
    reg[k->to] = x;
    return k->whole ? fabs(x) < WHOLE : isfinite(x);
}

/* Computes a row of the table for the hypers and the step of now; 0 where Python is to be asked. */
static int compute_row(const weft_numbers *w, void *hypers, double step) {
    for (int64_t i = 0; i < w->leaves; i++)
        if (!read_leaf(&w->leaf[i], hypers, w->reg)) return 0;
    if (w->step >= 0) w->reg[w->step] = step;
    for (int64_t i = 0; i < w->codes; i++)
        if (!run_code(&w->code[i], w->reg)) return 0;
    double *row = (double *)w->table->rows + w->row * w->table->scalars;
    for (int64_t i = 0; i < w->outputs; i++) row[i] = w->reg[w->output[i]];
    return 1;
}

/* Looks at torch's tensors from C: some ten times as fast as one accessor after the other in Python.
 *
 * What is called is the C interface that torch keeps stable for compiled models (aoti_torch_*). A
 * tensor is named by the place that points to its implementation, which is what at::Tensor is: there
 * is one in each Python object, `offset` bytes in, and one for the grad in each parameter. Python's
 * own functions come from the process. The threads of threads.c help. */

typedef void *const *tensor;

static int32_t (*data_of)(tensor, void **);
static int32_t (*dim_of)(tensor, int64_t *);
static int32_t (*sizes_of)(tensor, int64_t **), (*strides_of)(tensor, int64_t **);
static int32_t (*dtype_of)(tensor, int32_t *);
static int32_t (*layout_of)(tensor, int32_t *);
static int32_t (*is_defined)(tensor, _Bool *);
static tensor (*grad_of)(const void *implementation);
static int32_t strided;
static intptr_t (*list_size)(void *list), (*dict_size)(void *dict);
static void *(*list_item)(void *list, intptr_t i); /* borrowed */
static int (*dict_next)(void *dict, intptr_t *at, void **key, void **value);
static intptr_t (*tuple_size)(void *tuple);
static void *(*tuple_item)(void *tuple, intptr_t i); /* borrowed */
static int (*list_set)(void *list, intptr_t i, void *item); /* takes the reference */
static void (*refer)(void *object);
static double (*float_value)(void *object);
static long long (*int_value)(void *object, int *overflow);

/* Where implementations say what kind of view they are: a negated one is told by one bit alone. */
static int64_t kind_in;

/* Where objects point to their type, and the types of numbers and tuples; 0 where that is not known. */
static int64_t type_in, float_type, int_type, tuple_type;

/* Where implementations point to their object, where they have one, and the types of tensors that are
 * nothing but tensors; 0 where that is not known. */
enum { PLAIN_TYPES = 8 };
static int64_t object_in, plain_types, plain_type[PLAIN_TYPES];

/* Whether this torch has all of it. */
int weft_can_look(void) {
    void *cpu = dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_LAZY);
    void *core = dlopen("libc10.so", RTLD_NOLOAD | RTLD_LAZY);
    if (!cpu || !core) return 0;
    int32_t (*layout)(void) = dlsym(cpu, "aoti_torch_layout_strided");
    data_of = dlsym(cpu, "aoti_torch_get_data_ptr");
    dim_of = dlsym(cpu, "aoti_torch_get_dim");
    sizes_of = dlsym(cpu, "aoti_torch_get_sizes");
    strides_of = dlsym(cpu, "aoti_torch_get_strides");
    dtype_of = dlsym(cpu, "aoti_torch_get_dtype");
    layout_of = dlsym(cpu, "aoti_torch_get_layout");
    is_defined = dlsym(cpu, "aoti_torch_is_defined");
    grad_of = dlsym(core, "_ZNK3c1010TensorImpl4gradEv"); /* c10::TensorImpl::grad() const */
    list_size = dlsym(RTLD_DEFAULT, "PyList_Size");
    list_item = dlsym(RTLD_DEFAULT, "PyList_GetItem");
    dict_size = dlsym(RTLD_DEFAULT, "PyDict_Size");
    dict_next = dlsym(RTLD_DEFAULT, "PyDict_Next");
    tuple_size = dlsym(RTLD_DEFAULT, "PyTuple_Size");
    tuple_item = dlsym(RTLD_DEFAULT, "PyTuple_GetItem");
    list_set = dlsym(RTLD_DEFAULT, "PyList_SetItem");
    refer = dlsym(RTLD_DEFAULT, "Py_IncRef");
    float_value = dlsym(RTLD_DEFAULT, "PyFloat_AsDouble");
    int_value = dlsym(RTLD_DEFAULT, "PyLong_AsLongLongAndOverflow");
    if (!layout || !list_size || !list_item || !list_set || !refer || !float_value || !int_value) return 0;
    if (!dict_size || !dict_next || !tuple_size || !tuple_item) return 0;
    strided = layout();
    return data_of && dim_of && sizes_of && strides_of && dtype_of && layout_of && is_defined && grad_of;
}

static tensor at(int64_t object, int64_t offset) { return (tensor)(intptr_t)(object + offset); }

/* Whether objects point to these implementations. */
int weft_point_to(const int64_t *objects, int64_t offset, const int64_t *implementations, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if ((int64_t)(intptr_t)*at(objects[i], offset) != implementations[i]) return 0;
    return 1;
}

/* ---------------------------------------------------------------- what objects look like */

enum { IMPLEMENTATION = 208 /* bytes */ };

static const char *word(const char *at, int64_t offset) { return *(const char *const *)(at + offset); }

/* Learns what objects of these types look like, from one of each. */
void weft_learn_types(const int64_t *objects, const int64_t *types) {
    type_in = 0;
    for (int64_t at = sizeof(void *); at < 4 * (int64_t)sizeof(void *) && !type_in; at += sizeof(void *)) {
        int all = 1;
        for (int i = 0; i < 3; i++)
            all = all && (int64_t)(intptr_t)word((const char *)(intptr_t)objects[i], at) == types[i];
        if (all) type_in = at;
    }
    float_type = types[0], int_type = types[1], tuple_type = types[2];
}

/* Learns from two tensors and a negated view of each. */
void weft_learn_kinds(const int64_t *objects, int64_t offset) {
    kind_in = 0;
    for (int64_t at_ = sizeof(void *); at_ < IMPLEMENTATION && !kind_in; at_ += sizeof(void *)) {
        uint64_t bits[2];
        for (int i = 0; i < 2; i++) {
            const char *plain = *at(objects[2 * i], offset), *negated = *at(objects[2 * i + 1], offset);
            bits[i] = (uint64_t)(intptr_t)word(plain, at_) ^ (uint64_t)(intptr_t)word(negated, at_);
        }
        if (bits[0] && bits[0] == bits[1] && !(bits[0] & (bits[0] - 1))) kind_in = at_;
    }
}

/* Learns from tensors that have an object each; `types` are those of plain tensors. */
void weft_learn_objects(const int64_t *objects, int64_t n, int64_t offset, const int64_t *types, int64_t known) {
    object_in = 0;
    plain_types = 0;
    for (int64_t i = 0; i < known && i < PLAIN_TYPES; i++) plain_type[plain_types++] = types[i];
    for (int64_t in = sizeof(void *); in < IMPLEMENTATION && !object_in; in += sizeof(void *)) {
        int all = 1;
        for (int64_t i = 0; i < n; i++)
            all = all && (int64_t)(intptr_t)word(*at(objects[i], offset), in) == objects[i];
        if (all) object_in = in;
    }
}

/* ---------------------------------------------------------------- looks */

/* The grads of parameters: which have one, and of those, one after the other, the place that points
 * to it and its address. Gives their number, or -1 for a grad that has no memory of its own. */
int64_t weft_grads(const int64_t *objects, int64_t offset, int64_t n, char *present, int64_t *grads,
                   int64_t *addresses) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        tensor grad = grad_of(*at(objects[i], offset));
        _Bool defined;
        if (is_defined(grad, &defined)) return -1;
        present[i] = defined;
        if (!defined) continue;
        int32_t layout;
        void *data;
        if (layout_of(grad, &layout) || layout != strided || data_of(grad, &data)) return -1;
        grads[count] = (int64_t)(intptr_t)grad;
        addresses[count++] = (int64_t)(intptr_t)data;
    }
    return count;
}

static int64_t kind_of(tensor t) { return kind_in ? (int64_t)(intptr_t)word(*t, kind_in) : 0; }

/* The dtypes of tensors, in torch's numbers, and what kinds of view they are. */
void weft_kinds(const int64_t *tensors, int64_t offset, int64_t n, int32_t *dtypes, int64_t *kinds) {
    for (int64_t i = 0; i < n; i++) {
        if (dtype_of(at(tensors[i], offset), &dtypes[i])) dtypes[i] = -1;
        kinds[i] = kind_of(at(tensors[i], offset));
    }
}

/* Everything that a step looks at, as it was: the fields of Things in kernel.py. */
typedef struct {
    int64_t lists, dicts, groups, tensors, params, offset;
    const int64_t *list, *list_length, *item;        /* the items of one list after the other */
    const int64_t *dict, *dict_length, *key, *value; /* 0 for any value; the groups come first, */
    void *hypers;                                    /* of which this list has all values */
    const int64_t *object, *address, *bound, *extent; /* sizes and strides between two bounds */
    const int32_t *type;          /* the dtypes of these tensors, in torch's numbers, */
    const int64_t *view;          /* and what kinds of view they are */
    const int64_t *param, *place; /* of its grad among those that there are; -1 for none */
    const int32_t *dtype;         /* of these grads, as what follows */
    const int64_t *kind, *grad_bound, *grad_extent;
    int64_t *was, *at;            /* their addresses when they were last taken up, and now */
    int64_t grads, written;       /* how many; and of the spans that steps write, in order */
    const int64_t *param_of, *bytes; /* of each grad: its parameter, and from its first byte to its last */
    const int64_t *begin, *end;
} weft_watched;

enum { CHANGED = -1, MOVED = 1, REPLACED = 2, OTHER = 4 };

static int lists_hold(const weft_watched *w) {
    const int64_t *item = w->item;
    for (int64_t l = 0; l < w->lists; l++) {
        void *list = (void *)(intptr_t)w->list[l];
        if (list_size(list) != w->list_length[l]) return 0;
        for (int64_t i = 0; i < w->list_length[l]; i++)
            if ((int64_t)(intptr_t)list_item(list, i) != *item++) return 0;
    }
    return 1;
}

static int same_kind(const char *a, const char *b) {
    if (!type_in || word(a, type_in) != word(b, type_in)) return 0;
    int64_t type = (int64_t)(intptr_t)word(a, type_in);
    if (type == float_type || type == int_type) return 1;
    if (type != tuple_type || tuple_size((void *)a) != tuple_size((void *)b)) return 0;
    for (intptr_t i = 0; i < tuple_size((void *)a); i++)
        if (!same_kind(tuple_item((void *)a, i), tuple_item((void *)b, i))) return 0;
    return 1;
}

/* Another number is kept at once; whether anything else will do is for Python to say. */
static int64_t look_at_hyper(weft_watched *w, int64_t i, void *now) {
    void *then = list_item(w->hypers, i);
    if (now == then) return 0;
    if (!same_kind(then, now)) return REPLACED | OTHER;
    refer(now);
    list_set(w->hypers, i, now);
    return REPLACED;
}

static int64_t dicts_hold(weft_watched *w) {
    const int64_t *key = w->key, *value = w->value;
    int64_t seen = 0, hyper = 0;
    for (int64_t d = 0; d < w->dicts; d++) {
        void *dict = (void *)(intptr_t)w->dict[d], *k, *v;
        if (dict_size(dict) != w->dict_length[d]) return CHANGED;
        for (intptr_t at = 0; dict_next(dict, &at, &k, &v); key++, value++) {
            if ((int64_t)(intptr_t)k != *key || (*value && (int64_t)(intptr_t)v != *value)) return CHANGED;
            if (d < w->groups) seen |= look_at_hyper(w, hyper++, v);
        }
    }
    return seen;
}

/* Looks go by runs of neighbours; more than a few of them are worth waking another thread for. */
enum { RUN = 128, FEW = 8 };

typedef struct {
    const weft_watched *things;
    int64_t runs;       /* of tensors; then come those of parameters */
    _Atomic int seen;   /* MOVED, or CHANGED once that is seen */
} walk;

/* Whether a tensor has these sizes, and then strides. */
static int extends(tensor t, const int64_t *extent, int64_t n) {
    int64_t dim, *sizes, *strides;
    if (dim_of(t, &dim) || sizes_of(t, &sizes) || strides_of(t, &strides) || 2 * dim != n) return 0;
    for (int64_t d = 0; d < dim; d++)
        if (sizes[d] != extent[d] || strides[d] != extent[dim + d]) return 0;
    return 1;
}

static int tensors_stay(const weft_watched *w, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        tensor t = at(w->object[i], w->offset);
        void *data;
        int32_t dtype;
        if (data_of(t, &data) || (int64_t)(intptr_t)data != w->address[i]) return 0;
        if (dtype_of(t, &dtype) || dtype != w->type[i] || kind_of(t) != w->view[i]) return 0;
        if (!extends(t, w->extent + w->bound[i], w->bound[i + 1] - w->bound[i])) return 0;
    }
    return 1;
}

static int grads_stay(const weft_watched *w, int64_t begin, int64_t end) {
    int seen = 0;
    for (int64_t i = begin; i < end; i++) {
        tensor grad = grad_of(*at(w->param[i], w->offset));
        _Bool defined;
        if (is_defined(grad, &defined) || defined != (w->place[i] >= 0)) return CHANGED;
        if (!defined) continue;
        int64_t k = w->place[i], bound = w->grad_bound[k];
        int32_t layout, dtype;
        void *data;
        if (layout_of(grad, &layout) || layout != strided || data_of(grad, &data)) return CHANGED;
        if (dtype_of(grad, &dtype) || dtype != w->dtype[k] || kind_of(grad) != w->kind[k]) return CHANGED;
        if (!extends(grad, w->grad_extent + bound, w->grad_bound[k + 1] - bound)) return CHANGED;
        w->at[k] = (int64_t)(intptr_t)data;
        if (w->at[k] != w->was[k]) seen = MOVED;
    }
    return seen;
}

static void look_at_run(void *ctx, int64_t u) {
    walk *k = ctx;
    const weft_watched *w = k->things;
    if (k->seen == CHANGED) return;
    int seen;
    if (u < k->runs) {
        seen = tensors_stay(w, u * RUN, LEAST((u + 1) * RUN, w->tensors)) ? 0 : CHANGED;
    } else {
        u -= k->runs;
        seen = grads_stay(w, u * RUN, LEAST((u + 1) * RUN, w->params));
    }
    if (seen) atomic_fetch_or(&k->seen, seen); /* CHANGED is all ones */
}

/* CHANGED, or what has been put in the place of something: MOVED grads, REPLACED hypers, of which some
 * may be of an OTHER kind. */
int64_t weft_still(weft_watched *w, int threads) {
    if (!lists_hold(w)) return CHANGED;
    int64_t hypers = dicts_hold(w);
    if (hypers == CHANGED) return CHANGED;
    walk k = {w, (w->tensors + RUN - 1) / RUN, 0};
    int64_t runs = k.runs + (w->params + RUN - 1) / RUN;
    weft_parallel_for(look_at_run, &k, 0, runs, runs > FEW ? threads : 1);
    return k.seen == CHANGED ? CHANGED : hypers | k.seen;
}

static int is_plain(tensor t) {
    const char *object = word(*t, object_in); /* none yet: C++ has made it, and it is plain */
    if (!object) return 1;
    int64_t type = (int64_t)(intptr_t)word(object, type_in);
    for (int64_t i = 0; i < plain_types; i++)
        if (type == plain_type[i]) return 1;
    return 0;
}

/* Whether memory is apart from all that steps write. */
static int is_apart(const weft_watched *w, int64_t begin, int64_t end) {
    int64_t low = 0, high = w->written; /* the first span that begins after `begin` */
    while (low < high) {
        int64_t mid = (low + high) / 2;
        if (w->begin[mid] <= begin) low = mid + 1;
        else high = mid;
    }
    if (begin == end) return 1;
    return !(low && w->end[low - 1] > begin) && !(low < w->written && w->begin[low] < end);
}

/* Takes up the addresses of grads that have moved; 0, and nothing is taken, where one is no plain
 * tensor, or is in the way of what is written: Python is to look then. */
int weft_take_grads(const weft_watched *w) {
    if (!object_in || !type_in) return 0;
    for (int64_t k = 0; k < w->grads; k++) {
        int64_t at_ = w->at[k];
        if (at_ == w->was[k]) continue;
        if (!at_ && w->bytes[k]) return 0;
        if (!is_plain(grad_of(*at(w->param[w->param_of[k]], w->offset)))) return 0;
        if (!is_apart(w, at_, at_ + w->bytes[k])) return 0;
    }
    memcpy(w->was, w->at, w->grads * sizeof *w->was);
    return 1;
}

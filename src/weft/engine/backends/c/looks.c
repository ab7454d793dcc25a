/* Looks at torch's tensors from C: some ten times as fast as one accessor after the other in Python.
 *
 * What is called is the C interface that torch keeps stable for compiled models (aoti_torch_*). A
 * tensor is named by the place that points to its implementation, which is what at::Tensor is: there
 * is one in each Python object, `offset` bytes in, and one for the grad in each parameter. */
#include <dlfcn.h>
#include <stdint.h>

typedef void *const *tensor;

static int32_t (*data_of)(tensor, void **);
static int32_t (*numel_of)(tensor, int64_t *);
static int32_t (*dim_of)(tensor, int64_t *);
static int32_t (*strides_of)(tensor, int64_t **);
static int32_t (*dtype_of)(tensor, int32_t *);
static int32_t (*layout_of)(tensor, int32_t *);
static int32_t (*is_defined)(tensor, _Bool *);
static tensor (*grad_of)(const void *implementation);
static int32_t strided;
static void *(*item_of)(void *dict, void *key); /* borrowed */
static intptr_t (*length_of)(void *dict);

/* Whether this torch has all of it. */
int weft_can_look(void) {
    void *cpu = dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_LAZY);
    void *core = dlopen("libc10.so", RTLD_NOLOAD | RTLD_LAZY);
    if (!cpu || !core) return 0;
    int32_t (*layout)(void) = dlsym(cpu, "aoti_torch_layout_strided");
    data_of = dlsym(cpu, "aoti_torch_get_data_ptr");
    numel_of = dlsym(cpu, "aoti_torch_get_numel");
    dim_of = dlsym(cpu, "aoti_torch_get_dim");
    strides_of = dlsym(cpu, "aoti_torch_get_strides");
    dtype_of = dlsym(cpu, "aoti_torch_get_dtype");
    layout_of = dlsym(cpu, "aoti_torch_get_layout");
    is_defined = dlsym(cpu, "aoti_torch_is_defined");
    grad_of = dlsym(core, "_ZNK3c1010TensorImpl4gradEv"); /* c10::TensorImpl::grad() const */
    item_of = dlsym(RTLD_DEFAULT, "PyDict_GetItem");
    length_of = dlsym(RTLD_DEFAULT, "PyDict_Size");
    if (!layout || !item_of || !length_of) return 0;
    strided = layout();
    return data_of && numel_of && dim_of && strides_of && dtype_of && layout_of && is_defined && grad_of;
}

static tensor at(int64_t object, int64_t offset) { return (tensor)(intptr_t)(object + offset); }

/* Whether objects point to these implementations. */
int weft_point_to(const int64_t *objects, int64_t offset, const int64_t *implementations, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if ((int64_t)(intptr_t)*at(objects[i], offset) != implementations[i]) return 0;
    return 1;
}

/* Whether tensors are where they were, with as many elements. */
int weft_unmoved(const int64_t *objects, int64_t offset, const int64_t *addresses, const int64_t *sizes, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        tensor t = at(objects[i], offset);
        void *data;
        int64_t size;
        if (data_of(t, &data) || numel_of(t, &size)) return 0;
        if ((int64_t)(intptr_t)data != addresses[i] || size != sizes[i]) return 0;
    }
    return 1;
}

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

/* The dtypes of grads, in torch's numbers. */
void weft_dtypes(const int64_t *grads, int64_t n, int32_t *dtypes) {
    for (int64_t i = 0; i < n; i++)
        if (dtype_of(at(grads[i], 0), &dtypes[i])) dtypes[i] = -1;
}

/* Whether grads have these dtypes, and so many strides each, which follow one after the other. */
int weft_laid_out(const int64_t *grads, int64_t n, const int32_t *dtypes, const int32_t *dims,
                  const int64_t *strides) {
    for (int64_t i = 0; i < n; i++) {
        tensor grad = at(grads[i], 0);
        int64_t dim, *stride;
        int32_t dtype;
        if (dtype_of(grad, &dtype) || dim_of(grad, &dim) || strides_of(grad, &stride)) return 0;
        if (dtype != dtypes[i] || dim != dims[i]) return 0;
        for (int64_t d = 0; d < dim; d++)
            if (stride[d] != *strides++) return 0;
    }
    return 1;
}

/* Whether dicts have so many items, and hold these objects under these keys. */
int weft_hold(const int64_t *dicts, const int64_t *lengths, const int64_t *keys, const int64_t *objects,
              int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        void *dict = (void *)(intptr_t)dicts[i], *key = (void *)(intptr_t)keys[i];
        if (length_of(dict) != lengths[i] || (int64_t)(intptr_t)item_of(dict, key) != objects[i]) return 0;
    }
    return 1;
}

/* One more step for each count: a call to torch would take four times as long. */
void weft_count(float *steps, int64_t n) {
    for (int64_t i = 0; i < n; i++) steps[i] += 1;
}

/* The count that all have; -1 where they differ. */
double weft_count_of_all(const float *steps, int64_t n) {
    for (int64_t i = 1; i < n; i++)
        if (steps[i] != steps[0]) return -1;
    return steps[0];
}

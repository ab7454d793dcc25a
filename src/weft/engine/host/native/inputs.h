/* What the host writes for a launch of any backend: addresses and numbers. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    int64_t tensors, scalars;
    char **ptr;   /* slot after slot: ptr[slot * tensors + t] */
    double *rows; /* [row][scalars]: a row for each group and step */
} weft_inputs;

#define LEAST(a, b) ((a) < (b) ? (a) : (b))

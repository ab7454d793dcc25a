/* What generated kernels share on every target. WEFT_FN says how a small function is declared. */
#ifndef WEFT_OWN_BITS
static inline float weft_f32(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline uint32_t weft_u32(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
#endif

WEFT_FN float weft_from_bf16(uint16_t x) { return weft_f32((uint32_t)x << 16); }
WEFT_FN uint16_t weft_to_bf16(float x) { /* to nearest, ties to even */
    uint32_t u = weft_u32(x);
    uint32_t r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (uint16_t)(x != x ? 0x7fc0u : r);
}
#ifndef WEFT_OWN_F16
WEFT_FN float weft_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, bits = (uint32_t)(h & 0x7fffu) << 13;
    uint32_t scaled = weft_u32(weft_f32(bits) * 0x1p112f); /* exact, subnormals too */
    uint32_t special = bits | 0x7f800000u;
    return weft_f32((bits >= 0x0f800000u ? special : scaled) | sign);
}
WEFT_FN uint16_t weft_to_f16(float x) { /* to nearest, ties to even */
    uint32_t u = weft_u32(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
    uint32_t small = weft_u32(weft_f32(a) + 0.5f) - 0x3f000000u; /* the adder rounds to 2^-24 */
    uint32_t r = a < 0x38800000u ? small : normal;
    r = a >= 0x477ff000u ? 0x7c00u : r;
    r = a > 0x7f800000u ? 0x7e00u : r;
    return (uint16_t)(r | sign);
}
#endif

/* torch's maximum and minimum keep NaN */
#define WEFT_MAX(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
#define WEFT_MIN(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))

/* Python's and torch's remainder: the sign of the divisor */
WEFT_FN float weft_remainderf(float a, float b) {
    float m = fmodf(a, b);
    return m != 0 && (b < 0) != (m < 0) ? m + b : m;
}
WEFT_FN double weft_remainder(double a, double b) {
    double m = fmod(a, b);
    return m != 0 && (b < 0) != (m < 0) ? m + b : m;
}

#define WEFT_LEAST(a, b) ((a) < (b) ? (a) : (b))

/* Sixteen numbers at a time, in GNU C's portable vectors: the compiler makes of them what the processor has, down to
   single numbers. Only what portable vectors do slowly names instructions of one processor (AVX, AVX512-BF16, in tile.h
   and quant.h); with NO_SIMD nothing does. */

#ifndef SIMD_H
#define SIMD_H

#include "step.h"

#ifdef NO_SIMD
#define VECTOR_BYTES 16
#elif defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16  /* NEON, SSE */
#endif
#if VECTOR_BYTES > 16
#include <immintrin.h>
#endif
#if VECTOR_BYTES == 64 && defined(__AVX512BF16__) && defined(__AVX512BW__)
#define BF16_DOT 1
#else
#define BF16_DOT 0
#endif

typedef float f32x16 __attribute__((vector_size(64), aligned(4)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x16 __attribute__((vector_size(64), aligned(4)));
typedef uint32_t u32x16 __attribute__((vector_size(64), aligned(4)));
typedef uint16_t u16x16 __attribute__((vector_size(32), aligned(2)));
typedef int16_t i16x16 __attribute__((vector_size(32), aligned(2)));
typedef int8_t i8x16 __attribute__((vector_size(16), aligned(1)));

INLINE f32x16 load(const float *p) { return *(const f32x16 *)p; }
INLINE f32x16 load_bf16(const uint16_t *p) {
    u32x16 wide = __builtin_convertvector(*(const u16x16 *)p, u32x16) << 16;
    return (f32x16)wide;
}
INLINE f32x16 load_int8(const int8_t *p) {  /* step by step: compilers turn one wide step into 16 narrow ones */
    i16x16 wider = __builtin_convertvector(*(const i8x16 *)p, i16x16);
    return __builtin_convertvector(__builtin_convertvector(wider, i32x16), f32x16);
}
INLINE float bf16_value(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}
INLINE uint16_t to_bf16(float value) {  /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
INLINE float sum(f32x16 v) {
    const f32x8 *half = (const f32x8 *)&v;
    f32x8 eight = half[0] + half[1];
    const f32x4 *quarter = (const f32x4 *)&eight;
    f32x4 four = quarter[0] + quarter[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}
#ifdef __clang__
#define LANES(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LANES(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif
/* Lane i: the sum of v[i]. Each round adds the halves of pairs: half the instructions of 16 sums. */
INLINE f32x16 sums(const f32x16 *v) {
    f32x16 a[8], b[4], c[2];
    UNROLL for (int i = 0; i < 8; i++)
        a[i] = LANES(i32x16, v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
             + LANES(i32x16, v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    UNROLL for (int i = 0; i < 4; i++)
        b[i] = LANES(i32x16, a[i], a[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
             + LANES(i32x16, a[i], a[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    UNROLL for (int i = 0; i < 2; i++)
        c[i] = LANES(i32x16, b[i], b[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
             + LANES(i32x16, b[i], b[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return LANES(i32x16, c[0], c[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
         + LANES(i32x16, c[0], c[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}
INLINE f32x16 all(float value) { return (f32x16){0} + value; }
INLINE f32x16 some(const float *p, int count) {  /* 16 values, or fewer and then zeros */
    if (count == 16) return load(p);
    f32x16 values = {0};
    memcpy(&values, p, count * 4);
    return values;
}
INLINE void store(float *p, f32x16 values, int count) {
    if (count == 16) *(f32x16 *)p = values;
    else memcpy(p, &values, count * 4);
}
INLINE f32x16 pick(i32x16 which, f32x16 yes, f32x16 no) {
    return (f32x16)((which & (i32x16)yes) | (~which & (i32x16)no));
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2, a polynomial of degree 6 for e^r; relative error below 2e-7. */
INLINE f32x16 exponential(f32x16 x) {
    x = pick(x < -87.0f, all(-87.0f), x);
    x = pick(x > 88.0f, all(88.0f), x);
    f32x16 n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  /* rounds to a whole number */
    f32x16 r = x - n * 0.693145752f - n * 1.42860677e-6f;
    f32x16 p = all(1.3981999e-3f);
    p = p * r + 8.3334519e-3f;
    p = p * r + 4.1665795e-2f;
    p = p * r + 1.6666666e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return (f32x16)((i32x16)p + (__builtin_convertvector(n, i32x16) << 23));
}
INLINE f32x16 tangent(f32x16 x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }
INLINE f32x16 sigmoid(f32x16 x) { return 1.0f / (1.0f + exponential(-x)); }
/* Abramowitz & Stegun 7.1.26; absolute error below 2e-7. */
INLINE f32x16 error_function(f32x16 x) {
    f32x16 size = pick(x < 0.0f, -x, x), t = 1.0f / (1.0f + 0.3275911f * size);
    f32x16 p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    f32x16 y = 1.0f - p * exponential(-size * size);
    return pick(x < 0.0f, -y, y);
}

#endif

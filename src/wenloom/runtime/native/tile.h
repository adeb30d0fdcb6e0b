/* Products of several inputs with several rows of weights at once.

   y[m][r] = sum over c of weight[r][c] x[m][c]
   One input: a row at a time. Several: tiles of 4 or 8 rows times some inputs. These lie side by side: a vector holds 16
   bytes (a chunk: 4 columns in float32, 8 in bf16) of each of PARTS inputs, and meets the same 16 bytes of a row,
   repeated; so that with AVX512 4 + 4 loads serve 16 products of vectors. Inputs that do not fit into the first-level
   cache are taken in blocks of columns. */

#ifndef TILE_H
#define TILE_H

#include "simd.h"

enum { CHUNK = 16 }; /* bytes */
#if VECTOR_BYTES == 64
enum { PARTS = 4, SUMS = 16 }; /* of a vector; vectors that are summed at a time: half of the registers */
#define EACH EACH_16
#define REPEATED(p) (parts)_mm512_broadcast_f32x4(_mm_loadu_ps(p))
#elif VECTOR_BYTES == 32
enum { PARTS = 2, SUMS = 8 };
#define EACH EACH_8
#define REPEATED(p) (parts)_mm256_broadcast_ps((const __m128 *)(p))
#else
#ifdef __aarch64__
enum { PARTS = 1, SUMS = 16 };
#else
enum { PARTS = 1, SUMS = 8 };
#endif
#define EACH EACH_4
#define REPEATED(p) *(const parts *)(p)
#endif
enum { GROUPS = SUMS / 4, TOGETHER = GROUPS * PARTS }; /* vectors of inputs, and inputs, of a tile at most */
enum { ROWS_AT_ONCE = 32 };                            /* that share a block of the inputs */
enum { FITS = 32768, BLOCK = 16384 };                  /* bytes of inputs: what need not be taken in blocks, and a block */
typedef float parts __attribute__((vector_size(16 * PARTS), aligned(4)));
typedef int32_t indices __attribute__((vector_size(16 * PARTS)));

/* In a register: compilers would load it again for each row, which takes longer than the product. */
#if VECTOR_BYTES > 16
#define KEEP(value) __asm__("" : "+v"(value))
#elif defined(__aarch64__) && !defined(NO_SIMD)
#define KEEP(value) __asm__("" : "+w"(value))
#else
#define KEEP(value) ((void)0)
#endif

/* What to ask of memory while a tile is computed: the weights of the tile after the next, which stand in a row, `step` bytes
   for each chunk; or those of its block, of four rows in turn. `next`: from there to the line of four more rows. */
typedef struct { const char *from; long bytes, step, next; } Ahead;

INLINE void ask(const Ahead *ahead, int chunk, int rows, int blocked) {
    const char *at = ahead->from + (blocked ? (chunk & 3) * ahead->bytes + chunk / 4 * 64 : chunk * ahead->step);
    for (int r = 0; r < rows; r += 4) __builtin_prefetch(at + r / 4 * ahead->next);
}

#define EACH_4(f, of) f(0, of), f(1, of), f(2, of), f(3, of)
#define EACH_8(f, of) EACH_4(f, of), f(4, of), f(5, of), f(6, of), f(7, of)
#define EACH_16(f, of) EACH_8(f, of), f(8, of), f(9, of), f(10, of), f(11, of), f(12, of), f(13, of), f(14, of), f(15, of)
#define PAIRED(lane, of) ((lane) / 4 * 4 + (lane) % 4 / 2 + (of) + (lane) % 2 * 4 * PARTS)
#define HALVES(lane, of) ((lane) / 4 * 4 + (lane) % 2 + (of) + (lane) % 4 / 2 * 4 * PARTS)
/* Lane 4 j + i: the sum of the four lanes of part j of the i-th vector. */
INLINE parts sums_of_parts(parts a, parts b, parts c, parts d) {
    parts ab = LANES(indices, a, b, EACH(PAIRED, 0)) + LANES(indices, a, b, EACH(PAIRED, 2));
    parts cd = LANES(indices, c, d, EACH(PAIRED, 0)) + LANES(indices, c, d, EACH(PAIRED, 2));
    return LANES(indices, ab, cd, EACH(HALVES, 0)) + LANES(indices, ab, cd, EACH(HALVES, 2));
}

/* out[m][r] of R rows, one every `bytes`, and the inputs of G vectors; a row of out has ROWS_AT_ONCE places. Without out,
   the sums are kept for the tile's next block. */
#define TILE(NAME, REPEATED, TIMES)                                                                                             \
    INLINE void NAME(const char *w, long bytes, const char *x, int chunks, int R, int G, const Ahead *ahead, int blocked,       \
                     int is_first, parts *kept, float *out) {                                                                   \
        parts acc[SUMS], inputs[GROUPS];                                                                                        \
        UNROLL for (int i = 0; i < R * G; i++) acc[i] = is_first ? (parts){0} : kept[i];                                        \
        for (int c = 0; c < chunks; c++, w += CHUNK) {                                                                          \
            const char *row = w;                                                                                                \
            ask(ahead, c, R, blocked);                                                                                          \
            UNROLL for (int g = 0; g < G; g++, x += CHUNK * PARTS) {                                                            \
                inputs[g] = *(const parts *)x;                                                                                  \
                KEEP(inputs[g]);                                                                                                \
            }                                                                                                                   \
            UNROLL for (int r = 0; r < R; r++, row += bytes) {                                                                  \
                __auto_type weights = REPEATED((const float *)row);                                                             \
                UNROLL for (int g = 0; g < G; g++) TIMES(acc[r * G + g], weights, inputs[g]);                                   \
            }                                                                                                                   \
        }                                                                                                                       \
        if (G > 1 && !out) {                                                                                                    \
            UNROLL for (int i = 0; i < R * G; i++) kept[i] = acc[i];                                                            \
            return;                                                                                                             \
        }                                                                                                                       \
        UNROLL for (int g = 0; g < G; g++)                                                                                      \
            UNROLL for (int r = 0; r < R; r += 4) {                                                                             \
                const parts *rows = acc + r * G + g;                                                                            \
                parts found = sums_of_parts(rows[0], rows[G], rows[2 * G], rows[3 * G]);                                        \
                UNROLL for (int j = 0; j < PARTS; j++)                                                                          \
                    memcpy(out + ROWS_AT_ONCE * (PARTS * g + j) + r, (float *)&found + 4 * j, CHUNK);                           \
            }                                                                                                                   \
    }                                                                                                                           \
    static void NAME##s(const char *w, long bytes, const char *x, int chunks, int G, const Ahead *ahead, int blocked,           \
                        int is_first, parts *kept, float *out) {                                                                \
        if (G == 1) NAME(w, bytes, x, chunks, 8, 1, ahead, 0, 1, kept, out);                                                    \
        else if (G == 2) NAME(w, bytes, x, chunks, ROWS(2), 2, ahead, blocked, is_first, kept, out);                            \
        else if (G == 3) NAME(w, bytes, x, chunks, ROWS(GROUPS), GROUPS < 3 ? GROUPS : 3, ahead, blocked, is_first, kept, out); \
        else NAME(w, bytes, x, chunks, ROWS(GROUPS), GROUPS, ahead, blocked, is_first, kept, out);                              \
    }
#define ROWS(G) (8 * (G) <= SUMS ? 8 : 4)
#define TIMES_F32(acc, weights, x) acc += weights * x
TILE(tile_f32, REPEATED, TIMES_F32)

#if BF16_DOT
#define REPEATED_BF16(p) (__m512bh)_mm512_broadcast_f32x4(_mm_loadu_ps(p))
#define TIMES_BF16(acc, weights, x) acc = (parts)_mm512_dpbf16_ps((__m512)acc, weights, (__m512bh)x)
TILE(tile_bf16, REPEATED_BF16, TIMES_BF16)
#endif

#endif

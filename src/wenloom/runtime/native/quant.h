/* Weights in fewer bits: int8 with a scale a row, int4 with a scale for 32 columns of a row; and bf16.

   In int4 a byte holds columns c (low four bits) and c + 32 of 64 columns; of a last 32, c and c + 16. Its value is the
   four bits less 8. */

#ifndef QUANT_H
#define QUANT_H

#include "tile.h"

#if BF16_DOT
/* 32 weights as bf16, exact. */
INLINE __m512bh int8_as_bf16(const int8_t *w) {
    __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)w)));
    __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(w + 16))));
    return _mm512_cvtne2ps_pbh(high, low);
}
/* Indices into a table of the 16 levels, 32 at a time: the table stands twice, so that bit 4 does not matter. */
INLINE __m512i int4_indices(const uint8_t *w, int second) {
    __m512i bytes = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)w));
    return second ? _mm512_srli_epi16(bytes, 4) : bytes;
}
INLINE __m512i int4_tail_indices(const uint8_t *w) {
    __m256i bytes = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)w));
    return _mm512_inserti64x4(_mm512_castsi256_si512(bytes), _mm256_srli_epi16(bytes, 4), 1);
}
INLINE __m512i int4_levels(float scale) {
    const __m512 levels = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    __m256i table = (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(levels, _mm512_set1_ps(scale)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(table), table, 1);
}
/* Columns c .. c+31 of a row, scaled. */
INLINE __m512i int4_as_bf16(const uint8_t *w, const float *scale, long c, long cols) {
    long block = c / 64 * 64;
    __m512i indices = block + 64 <= cols ? int4_indices(w + block / 2, c != block) : int4_tail_indices(w + block / 2);
    return _mm512_permutexvar_epi16(indices, int4_levels(scale[c / 32]));
}
#endif

/* Rows of stored weights as float32. INT8 without its scale, which the sums get. */
static void decode_f32(const Linear *L, int row, int R, float *out) {
    long cols = L->cols;
    for (int r = 0; r < R; r++, out += cols) {
        if (L->kind == BF16) {
            const uint16_t *w = (const uint16_t *)L->weight + (row + r) * cols;
            for (long c = 0; c < cols; c++) out[c] = bf16_value(w[c]);
        } else if (L->kind == INT8) {
            const int8_t *w = (const int8_t *)L->weight + (row + r) * cols;
            for (long c = 0; c < cols; c++) out[c] = w[c];
        } else {
            const uint8_t *w = (const uint8_t *)L->weight + (row + r) * cols / 2;
            const float *scale = L->scale + (row + r) * cols / 32;
            for (long c = 0; c < cols; c++) {
                long block = c / 64 * 64, half = block + 64 <= cols ? 32 : 16, at = c - block;
                int byte = w[block / 2 + at % half];
                out[c] = ((at < half ? byte & 15 : byte >> 4) - 8) * scale[c / 32];
            }
        }
    }
}

#if BF16_DOT
static void decode_bf16(const Linear *L, int row, int R, uint16_t *out) {
    long cols = L->cols;
    for (int r = 0; r < R; r++, out += cols)
        for (long c = 0; c < cols; c += 32) {
            long at = (row + r) * cols + c;
            __m512i weights = L->kind == INT8 ? (__m512i)int8_as_bf16((const int8_t *)L->weight + at)
                                              : int4_as_bf16((const uint8_t *)L->weight + (row + r) * cols / 2,
                                                             L->scale + (row + r) * cols / 32, c, cols);
            _mm512_storeu_si512(out + c, weights);
        }
}
#endif

static int as_bf16(const Linear *L) { return BF16_DOT && L->kind != F32 && L->cols % 32 == 0; }

static long row_bytes(const Linear *L) {
    return L->kind == F32 ? L->cols * 4L : L->kind == BF16 ? L->cols * 2L : L->kind == INT8 ? L->cols : L->cols / 2;
}

/* R rows as the tiles take them, each in whole chunks. */
static void decode(const Linear *L, int row, int R, char *out, int chunks) {
#if BF16_DOT
    if (as_bf16(L) && L->kind != BF16) {
        decode_bf16(L, row, R, (uint16_t *)out);
        return;
    }
#endif
    for (int r = 0; r < R; r++, out += chunks * CHUNK) {
        memset(out, 0, chunks * CHUNK);
        if (L->kind == F32 || as_bf16(L)) memcpy(out, (const char *)L->weight + (row + r) * row_bytes(L), row_bytes(L));
        else decode_f32(L, row + r, 1, (float *)out);
    }
}

#endif

/* Products of many inputs with panels of 32 rows of weights, for prompts.

   y[m][r] = sum over c of weight[r][c] x[m][c]
   A panel holds 32 rows so that a vector has the same unit of 16 of them: a unit is 4 bytes, two columns in bf16 or one in
   float32. A tile is 12 inputs times a panel, 24 vectors of sums: each unit of an input is repeated and meets two vectors
   of the panel. Packing a panel costs little, as all inputs of a prompt meet it (Goto & van de Geijn 2008). */

#ifndef PANEL_H
#define PANEL_H

#include "matmul.h"

enum { INPUTS = 12, UNIT = 4, PANEL = ROWS_AT_ONCE, PANEL_UNIT = PANEL * UNIT };

/* Products of 12 inputs, one every `stride` bytes, with a panel of so many units, added to what is in out or instead of it;
   out has an input every `step` floats, a multiple of 16. */
#define PANEL_TILE(NAME, TYPE, TIMES)                                                                           \
    static void NAME(const char *x, long stride, const char *panel, int units, float *out, long step, int add) { \
        __m512 acc[INPUTS][2];                                                                                  \
        UNROLL for (int i = 0; i < INPUTS; i++)                                                                 \
            UNROLL for (int k = 0; k < 2; k++)                                                                  \
                acc[i][k] = add ? _mm512_load_ps(out + i * step + 16 * k) : _mm512_setzero_ps();                \
        for (int u = 0; u < units; u++, x += UNIT, panel += PANEL_UNIT) {                                       \
            TYPE low = (TYPE)_mm512_load_ps(panel), high = (TYPE)_mm512_load_ps(panel + 64);                    \
            UNROLL for (int i = 0; i < INPUTS; i++) {                                                           \
                TYPE input = (TYPE)_mm512_set1_ps(*(const float *)(x + i * stride));                            \
                acc[i][0] = TIMES(acc[i][0], low, input);                                                       \
                acc[i][1] = TIMES(acc[i][1], high, input);                                                      \
            }                                                                                                   \
        }                                                                                                       \
        UNROLL for (int i = 0; i < INPUTS; i++)                                                                 \
            UNROLL for (int k = 0; k < 2; k++) _mm512_store_ps(out + i * step + 16 * k, acc[i][k]);             \
    }
#define ADD_F32(sum, a, b) _mm512_fmadd_ps(a, b, sum)
PANEL_TILE(panel_tile_f32, __m512, ADD_F32)
#if BF16_DOT
PANEL_TILE(panel_tile_bf16, __m512bh, _mm512_dpbf16_ps)
#define panel_tile(bf16, ...) ((bf16) ? panel_tile_bf16(__VA_ARGS__) : panel_tile_f32(__VA_ARGS__))
#else
#define panel_tile(bf16, ...) panel_tile_f32(__VA_ARGS__)
#endif

/* out[u][r] = unit u of row r, for 16 rows, `bytes` apart, and up to 16 units; rows from `count` on are zeros. A step of
   out is PANEL_UNIT bytes. */
static void transpose(const char *rows, long bytes, int count, int units, char *out) {
    __m512i a[16], b[16];
    __mmask16 there = units < 16 ? (__mmask16)((1u << units) - 1) : (__mmask16)0xFFFF;
    for (int r = 0; r < 16; r++)
        a[r] = r < count ? _mm512_maskz_loadu_epi32(there, rows + r * bytes) : _mm512_setzero_si512();
    UNROLL for (int r = 0; r < 16; r += 2) {
        b[r] = _mm512_unpacklo_epi32(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_epi32(a[r], a[r + 1]);
    }
    UNROLL for (int r = 0; r < 16; r += 4)
        UNROLL for (int k = 0; k < 2; k++) {
            a[r + 2 * k] = _mm512_unpacklo_epi64(b[r + k], b[r + k + 2]);
            a[r + 2 * k + 1] = _mm512_unpackhi_epi64(b[r + k], b[r + k + 2]);
        }
    UNROLL for (int k = 0; k < 4; k++)  /* a[r + k], lane j: unit 4 j + k of rows r .. r + 3 */
        UNROLL for (int half = 0; half < 2; half++) {
            b[4 * k + 2 * half] = _mm512_shuffle_i32x4(a[8 * half + k], a[8 * half + 4 + k], 0x88);
            b[4 * k + 2 * half + 1] = _mm512_shuffle_i32x4(a[8 * half + k], a[8 * half + 4 + k], 0xDD);
        }
    UNROLL for (int k = 0; k < 4; k++)
        UNROLL for (int odd = 0; odd < 2; odd++) {
            a[k + 4 * odd] = _mm512_shuffle_i32x4(b[4 * k + odd], b[4 * k + 2 + odd], 0x88);
            a[k + 4 * odd + 8] = _mm512_shuffle_i32x4(b[4 * k + odd], b[4 * k + 2 + odd], 0xDD);
        }
    for (int u = 0; u < units; u++) _mm512_store_si512(out + u * PANEL_UNIT, a[u]);
}

/* A panel of up to 32 rows that lie `bytes` apart. */
static void pack_rows(const char *rows, long bytes, int count, int units, char *panel) {
    for (int u = 0; u < units; u += 16)
        for (int half = 0; half < 2; half++) {
            int here = count - 16 * half, wide = units - u < 16 ? units - u : 16;
            transpose(rows + 16 * half * bytes + (long)u * UNIT, bytes, here < 16 ? here : 16, wide, panel + (long)u * PANEL_UNIT + 64 * half);
        }
}

static int n_units(const Linear *L) { return as_bf16(L) ? L->cols / 2 : L->cols; }

/* Ask memory for the rows that the next panel will be packed from, behind those of `row`: part `at` of so many. */
static void ask_for_next(const Linear *L, int row, int at, int parts) {
    const long bytes = row_bytes(L), ahead = L->rows - row - PANEL < PANEL ? L->rows - row - PANEL : PANEL;
    const char *rows = (const char *)L->weight + (row + PANEL) * bytes;
    for (long line = ahead * bytes * at / parts / 64; line < ahead * bytes * (at + 1) / parts / 64; line++) __builtin_prefetch(rows + 64 * line, 0, 2);
}

/* The panel of rows row .. row + 31 of a matrix; `room` for the rows decoded. */
static void pack(const Linear *L, int row, char *room, char *panel) {
    int count = L->rows - row < PANEL ? L->rows - row : PANEL, is_stored = L->kind == F32 || (L->kind == BF16 && as_bf16(L));
    const long whole = (long)n_chunks(L) * CHUNK;
    if (!is_stored) decode(L, row, count, room, n_chunks(L));
    pack_rows(is_stored ? (const char *)L->weight + row * row_bytes(L) : room, is_stored ? row_bytes(L) : whole, count, n_units(L), panel);
}

/* Numbers as a product takes them: bf16 or float32. */
static void put_inputs(const float *x, int count, int bf16, char *out) {
#if BF16_DOT
    if (bf16) {
        int i = 0;
        for (; i + 16 <= count; i += 16) _mm256_storeu_si256((__m256i *)(out + 2 * i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
        for (; i < count; i++) ((uint16_t *)out)[i] = to_bf16(x[i]);
        return;
    }
#endif
    (void)bf16;
    memcpy(out, x, count * 4L);
}

#endif

/* y[m][r] = sum over c of weight[r][c] x[m][c], plus bias, for weights in every format.

   `prepare` brings the inputs into the order in which `product` takes them; both know from the number of inputs whether
   rows are taken one at a time or in tiles. */

#ifndef MATMUL_H
#define MATMUL_H

#include "quant.h"

#define AHEAD 4096 /* bytes that a row's product asks for in advance */

#if BF16_DOT
static float row_int8(const int8_t *w, const uint16_t *x, int cols) {
    __m512 acc[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int c = 0;
    for (; c + 128 <= cols; c += 128) {
        __builtin_prefetch((const char *)(w + c) + AHEAD);
        __builtin_prefetch((const char *)(w + c) + AHEAD + 64);
        UNROLL for (int k = 0; k < 4; k++)
            acc[k] = _mm512_dpbf16_ps(acc[k], int8_as_bf16(w + c + 32 * k), (__m512bh)_mm512_loadu_si512(x + c + 32 * k));
    }
    for (; c < cols; c += 32) acc[0] = _mm512_dpbf16_ps(acc[0], int8_as_bf16(w + c), (__m512bh)_mm512_loadu_si512(x + c));
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), _mm512_add_ps(acc[2], acc[3])));
}
static float row_int4(const uint8_t *w, const float *scale, const uint16_t *x, int cols) {
    const __m512i levels = int4_levels(1);
    __m512 acc[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    int c = 0;
    for (; c + 64 <= cols; c += 64) {
        __builtin_prefetch((const char *)(w + c / 2) + AHEAD);
        UNROLL for (int k = 0; k < 2; k++) {
            __m512bh weights = (__m512bh)_mm512_permutexvar_epi16(int4_indices(w + c / 2, k), levels);
            __m512 part = _mm512_dpbf16_ps(_mm512_setzero_ps(), weights, (__m512bh)_mm512_loadu_si512(x + c + 32 * k));
            acc[k] = _mm512_fmadd_ps(part, _mm512_set1_ps(scale[c / 32 + k]), acc[k]);
        }
    }
    if (c < cols) {
        __m512bh weights = (__m512bh)_mm512_permutexvar_epi16(int4_tail_indices(w + c / 2), levels);
        __m512 part = _mm512_dpbf16_ps(_mm512_setzero_ps(), weights, (__m512bh)_mm512_loadu_si512(x + c));
        acc[0] = _mm512_fmadd_ps(part, _mm512_set1_ps(scale[c / 32]), acc[0]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(acc[0], acc[1]));
}
#endif

/* One row times one input: a single stream of memory, fetched ahead. */
static float row_f32(const float *w, const float *x, int cols) {
    f32x16 acc[4] = {{0}, {0}, {0}, {0}};
    int c = 0;
    for (; c + 64 <= cols; c += 64)
        UNROLL for (int k = 0; k < 4; k++) {
            __builtin_prefetch((const char *)(w + c + 16 * k) + AHEAD);
            acc[k] += load(w + c + 16 * k) * load(x + c + 16 * k);
        }
    for (; c + 16 <= cols; c += 16) acc[0] += load(w + c) * load(x + c);
    float total = sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
    for (; c < cols; c++) total += w[c] * x[c];
    return total;
}
#if BF16_DOT
static float row_bf16(const uint16_t *w, const uint16_t *x, int cols) {
    __m512 acc[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int c = 0;
    for (; c + 128 <= cols; c += 128)
        UNROLL for (int k = 0; k < 4; k++) {
            __builtin_prefetch((const char *)(w + c + 32 * k) + AHEAD);
            acc[k] = _mm512_dpbf16_ps(acc[k], (__m512bh)_mm512_loadu_si512(w + c + 32 * k), (__m512bh)_mm512_loadu_si512(x + c + 32 * k));
        }
    for (; c < cols; c += 32)
        acc[0] = _mm512_dpbf16_ps(acc[0], (__m512bh)_mm512_loadu_si512(w + c), (__m512bh)_mm512_loadu_si512(x + c));
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), _mm512_add_ps(acc[2], acc[3])));
}
#endif

typedef struct {
    float *x;      /* inputs of a product, (tokens, cols) */
    char *inputs;  /* the same as the tiles take them: of one token in a row, of several side by side */
    char *rows;    /* decoded weights of ROWS_AT_ONCE rows */
    float *scores; /* attention of one group of heads */
} Scratch;
static int n_chunks(const Linear *L) { return as_bf16(L) ? L->cols / 8 : (L->cols + 3) / 4; }
static int row_by_row(const Linear *L, int n) { return n == 1 && (as_bf16(L) || L->kind == F32); }
static int groups_of(int n) { return n < TOGETHER ? (n + PARTS - 1) / PARTS : GROUPS; } /* vectors of the next inputs */

/* The inputs of a product as it takes them; where tiles have more than there are, zeros. */
static void prepare(const Linear *L, const float *x, int n, char *inputs) {
    int chunks = n_chunks(L), bf16 = as_bf16(L), columns = bf16 ? 8 : 4;
    if (row_by_row(L, n) && !bf16) return;
    for (int first = 0, width; first < n; first += TOGETHER, inputs += (long)chunks * width * CHUNK) {
        width = row_by_row(L, n) ? 1 : groups_of(n - first) * PARTS;
        for (int i = 0; i < width; i++) {
            char *out = inputs + i * CHUNK;
            const float *from = x + (long)(first + i) * L->cols;
            for (int c = 0; c < chunks; c++, out += width * CHUNK) {
                int count = L->cols - c * columns < columns ? L->cols - c * columns : columns;
                memset(out, 0, CHUNK);
                if (first + i >= n) continue;
#if BF16_DOT
                if (bf16) {
                    _mm_storeu_si128((__m128i *)out, (__m128i)_mm256_cvtneps_pbh(_mm256_loadu_ps(from + 8 * c)));
                    continue;
                }
#endif
                memcpy(out, from + 4 * c, count * 4);
            }
        }
    }
}

/* Rows begin .. end-1 of the product with one input. */
static void one_product(const Linear *L, const float *x, int begin, int end, float *out, int add, Scratch *s) {
    long cols = L->cols;
#if BF16_DOT
    const uint16_t *inputs = (const uint16_t *)s->inputs;
#else
    (void)s;
#endif
    for (long row = begin; row < end; row++) {
        float y = L->kind == F32 ? row_f32((const float *)L->weight + row * cols, x, cols)
#if BF16_DOT
                  : L->kind == BF16 ? row_bf16((const uint16_t *)L->weight + row * cols, inputs, cols)
                  : L->kind == INT8 ? L->scale[row] * row_int8((const int8_t *)L->weight + row * cols, inputs, cols)
                  : row_int4((const uint8_t *)L->weight + row * cols / 2, L->scale + row * cols / 32, inputs, cols)
#else
                                  : 0
#endif
            ;
        if (L->bias) y += L->bias[row];
        out[row] = add ? out[row] + y : y;
    }
}

/* Scale, bias and what was there, for a tile of m inputs and the rows from `row` on; out is the first input's first row. */
static void settle(const Linear *L, const float *tile, int row, int count, int m, float *out, long stride, int add) {
    for (int part = 0; part < count; part += 16) {
        int wide = count - part < 16 ? count - part : 16;
        f32x16 scale = L->kind == INT8 ? some(L->scale + row + part, wide) : all(1);
        f32x16 bias = L->bias ? some(L->bias + row + part, wide) : all(0);
        for (int i = 0; i < m; i++) {
            float *place = out + i * stride + part;
            f32x16 y = load(tile + ROWS_AT_ONCE * i + part) * scale + bias;
            store(place, add ? y + some(place, wide) : y, wide);
        }
    }
}

/* Rows begin .. end-1 of a product whose inputs x were prepared; out has `stride` floats a token. */
static void product(const Linear *L, const float *x, int n, int begin, int end, float *out, long stride, int add, Scratch *s) {
    if (row_by_row(L, n)) {
        one_product(L, x, begin, end, out, add, s);
        return;
    }
    const int chunks = n_chunks(L), is_stored = (L->kind == F32 && L->cols % 4 == 0) || (L->kind == BF16 && as_bf16(L));
    const long bytes = row_bytes(L), whole = (long)chunks * CHUNK;
    for (int row = begin; row < end; row += ROWS_AT_ONCE) {
        int count = end - row < ROWS_AT_ONCE ? end - row : ROWS_AT_ONCE, is_decoded = !is_stored || count % 8;
        const char *inputs = s->inputs, *stored = (const char *)L->weight + row * bytes;
        for (int first = 0; first < n; first += TOGETHER) {
            int G = groups_of(n - first), R = ROWS(G), width = G * PARTS * CHUNK;
            int block = is_decoded || G == 1 || chunks * width <= FITS ? chunks : BLOCK / width, blocked = block < chunks;
            long step = (R * bytes + chunks - 1) / chunks;
            Ahead ahead = {NULL, bytes, step, blocked ? 4 * bytes : step > 64 ? 64 : 0};
            parts kept[ROWS_AT_ONCE * GROUPS];
            _Alignas(64) float tile[TOGETHER * ROWS_AT_ONCE];
            for (int c = 0, taken; c < chunks; c += taken, inputs += (long)taken * width) {
                taken = chunks - c < block ? chunks - c : block;
                for (int part = 0; part < count; part += R) {
                    const char *w = stored + part * bytes + c * CHUNK;
                    int soon = part + 2 * R, column = soon < count ? c : c + taken < chunks ? c + taken : 0;
                    if (column > c) soon -= count; /* the next block of these rows; column 0: the next rows */
                    ahead.from = first ? w : stored + soon * bytes + (blocked ? column * CHUNK : 0);
                    if (is_decoded) { /* kept for the next inputs, if there are any */
                        char *decoded = s->rows + (n > TOGETHER ? part * whole : 0);
                        if (first == 0) decode(L, row + part, part + R > count ? count - part : R, decoded, chunks);
                        w = decoded;
                    }
                    float *finished = c + taken < chunks ? NULL : tile + part;
#if BF16_DOT
                    if (as_bf16(L)) tile_bf16s(w, whole, inputs, taken, G, &ahead, blocked, c == 0, kept + part * G, finished);
                    else
#endif
                        tile_f32s(w, whole, inputs, taken, G, &ahead, blocked, c == 0, kept + part * G, finished);
                }
            }
            settle(L, tile, row, count, n - first < G * PARTS ? n - first : G * PARTS, out + first * stride + row, stride, add);
        }
    }
}

#endif

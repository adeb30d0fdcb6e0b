/* Attention of many tokens of a text, block by block of its keys (FlashAttention, Dao et al. 2022, algorithm 1).

   The heads of a group for some tokens are the inputs of two products: with a panel for every page of keys, and with panels
   of values whose units are keys. */

#ifndef BLOCKWISE_H
#define BLOCKWISE_H

#include "attention.h"
#include "panel.h"

enum { QUERIES = 8 * INPUTS, BLOCK_PAGES = 8, BLOCK_KEYS = BLOCK_PAGES * PAGE }; /* rows (tokens times heads) at a time, keys at a time */

/* What one thread needs for it. */
typedef struct {
    char *queries, *weights, *keys, *values, *rows;
    float *scores, *out, *most, *sums;
} Blockwise;

static int tokens_at_once(const Model *m) {
    int per_group = m->n_heads / m->n_kv_heads;
    return per_group < QUERIES ? QUERIES / per_group : 1;
}
static int rows_at_once(const Model *m) { return (int)WHOLE(tokens_at_once(m) * (m->n_heads / m->n_kv_heads), INPUTS); }

/* Gives a part of the memory that begins at `at`, or counts only where `memory` is NULL. */
INLINE char *take(char *memory, size_t *at, size_t bytes) {
    char *here = memory ? memory + *at : NULL;
    *at += WHOLE(bytes, 64);
    return here;
}
static size_t lay_out_blockwise(const Model *m, char *memory, Blockwise *b) {
    size_t at = 0, rows = rows_at_once(m), d = WHOLE(m->d_head, PANEL);
    b->queries = take(memory, &at, rows * d * UNIT);
    b->weights = take(memory, &at, rows * BLOCK_KEYS * UNIT);
    b->keys = take(memory, &at, BLOCK_KEYS * d * UNIT);
    b->values = take(memory, &at, BLOCK_KEYS * d * UNIT);
    b->rows = take(memory, &at, PAGE * d * UNIT);
    b->scores = (float *)take(memory, &at, rows * BLOCK_KEYS * 4);
    b->out = (float *)take(memory, &at, rows * d * 4);
    b->most = (float *)take(memory, &at, rows * 4);
    b->sums = (float *)take(memory, &at, rows * 4);
    return at;
}

/* The first `count` tokens of a page as rows of bf16 or float32: where they are kept so already, there. */
static const char *page_as(const char *page, int kind, int d, int count, int bf16, char *room, long *bytes) {
    const long size = row_size(kind, d), wide = (long)d * (bf16 ? 2 : 4);
    *bytes = size;
    if (kind == (bf16 ? BF16 : F32)) return page;
    *bytes = wide;
    float row[d];
    for (int j = 0; j < count; j++) {
        float scale = row_scale(page + j * size, kind, d);
        for (int i = 0; i < d; i++) row[i] = scale * row_value(page + j * size, kind, i);
        put_inputs(row, d, bf16, room + j * wide);
    }
    return room;
}

/* `count` rows of values as panels of 32 of their columns, one panel after the other, each of `units` units. */
static void pack_values(const char *rows, long bytes, int count, int d, int bf16, int units, char *panels) {
    for (int column = 0; column < d; column += PANEL, panels += (long)units * PANEL_UNIT) {
        int wide = d - column < PANEL ? d - column : PANEL;
#if BF16_DOT
        if (bf16) {
            const __mmask32 there = wide < 32 ? (__mmask32)((1u << wide) - 1) : (__mmask32)0xFFFFFFFF;
            uint16_t lanes[64]; /* entry 2 i: column i of the even key, 2 i + 1: of the odd one */
            for (int lane = 0; lane < 64; lane++) lanes[lane] = (uint16_t)(lane / 2 + lane % 2 * 32);
            const __m512i low = _mm512_loadu_si512(lanes), high = _mm512_loadu_si512(lanes + 32);
            for (int j = 0; j < count; j += 2) {
                __m512i even = _mm512_maskz_loadu_epi16(there, rows + j * bytes + 2 * column), odd = _mm512_setzero_si512();
                if (j + 1 < count) odd = _mm512_maskz_loadu_epi16(there, rows + (j + 1) * bytes + 2 * column);
                _mm512_store_si512(panels + j / 2 * PANEL_UNIT, _mm512_permutex2var_epi16(even, low, odd));
                _mm512_store_si512(panels + j / 2 * PANEL_UNIT + 64, _mm512_permutex2var_epi16(even, high, odd));
            }
            continue;
        }
#endif
        for (int j = 0; j < count; j++) {
            memset(panels + j * PANEL_UNIT, 0, PANEL_UNIT);
            memcpy(panels + j * PANEL_UNIT, rows + j * bytes + 4 * column, wide * 4);
        }
    }
    (void)bf16;
}

/* 2^x for x <= 0 as 2^n 2^r with |r| <= 1/2, a polynomial of degree 6; relative error below 2e-7. */
INLINE __m512 power_of_two(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-200)); /* is 0 in float32 */
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(1.5403530e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3333558e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

/* Weights exp(scale * score - the largest so far) of one row's keys first .. first + count - 1 (a multiple of 32), of which it
   sees from .. to, as the product with the values takes them; returns what the sums so far are to be multiplied by. */
static float weights_of(float *scores, float scale, int first, int count, int from, int to, int bf16, char *out, float *most, float *total) {
    const float log2_e = 1.44269504f;
    int begin = from > first ? from - first : 0, end = to - first + 1 < count ? to - first + 1 : count, number = bf16 ? 2 : 4;
    if (begin >= end) {
        memset(out, 0, (size_t)count * number);
        return 1;
    }
    for (int j = begin & ~15; j < begin; j++) scores[j] = -INFINITY;
    for (int j = end; j % 16; j++) scores[j] = -INFINITY;
    __m512 highest = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
    for (int j = begin & ~15; j < end; j += 16) highest = _mm512_max_ps(highest, _mm512_load_ps(scores + j));
    float before = *most, largest = scale * _mm512_reduce_max_ps(highest);
    if (before > largest) largest = before;
    const __m512 factor = _mm512_set1_ps(scale * log2_e), shift = _mm512_set1_ps(-largest * log2_e);
    memset(out, 0, (size_t)(begin & ~15) * number);
    for (int j = begin & ~15; j < end; j += 16) {
        __m512 weights = power_of_two(_mm512_fmadd_ps(_mm512_load_ps(scores + j), factor, shift));
        sums = _mm512_add_ps(sums, weights);
        put_inputs((const float *)&weights, 16, bf16, out + j * number);
    }
    end = (int)WHOLE(end, 16);
    memset(out + end * number, 0, (size_t)(count - end) * number);
    float shrinks = before == -INFINITY ? 0 : expf(before - largest);
    *most = largest;
    *total = *total * shrinks + _mm512_reduce_add_ps(sums);
    return shrinks;
}

/* One group of heads for the tokens `first` .. `first + count - 1` of a step, which follow each other in one text; `attended`
   has `stride` bytes a token, in bf16 or float32. */
static void attend_together(const Model *m, const Layer *l, const float *q_k_v, long qkv, const int32_t *table, int position, int count,
                            int group, int bf16, char *attended, long stride, const Blockwise *b) {
    const int d = m->d_head, per_group = m->n_heads / m->n_kv_heads, rows = count * per_group, all_rows = (int)WHOLE(rows, INPUTS);
    const int wide = (int)WHOLE(d, PANEL), units = bf16 ? (d + 1) / 2 : d, number = bf16 ? 2 : 4, last = position + count - 1;
    const long row_bytes = (long)units * UNIT, size = row_size(m->cache_kind, d), pool = (long)l->room * size;
    const char *keys = (const char *)l->keys + group * pool, *values = (const char *)l->values + group * pool;
    memset(b->queries, 0, all_rows * row_bytes);
    for (int row = 0; row < rows; row++) {
        put_inputs(q_k_v + row / per_group * qkv + (group * per_group + row % per_group) * d, d, bf16, b->queries + row * row_bytes);
        b->most[row] = -INFINITY, b->sums[row] = 0;
    }
    memset(b->out, 0, (size_t)all_rows * wide * 4);
    int seen = l->window && position >= l->window ? position - l->window + 1 : 0;
    for (int first = seen / PAGE * PAGE; first <= last; first += BLOCK_KEYS) {
        int keys_here = last - first + 1 < BLOCK_KEYS ? last - first + 1 : BLOCK_KEYS, pages = (keys_here + PAGE - 1) / PAGE;
        const int key_units = pages * PAGE / (bf16 ? 2 : 1);
        if (keys_here % PAGE) memset(b->values, 0, (size_t)key_units * (wide / PANEL) * PANEL_UNIT); /* no key behind the last */
        for (int page = 0; page < pages; page++) {
            int here = keys_here - page * PAGE < PAGE ? keys_here - page * PAGE : PAGE;
            long at = (long)table[first / PAGE + page] * PAGE * size, bytes;
            const char *found = page_as(keys + at, m->cache_kind, d, here, bf16, b->rows, &bytes);
            pack_rows(found, bytes, here, units, b->keys + (long)page * units * PANEL_UNIT);
            found = page_as(values + at, m->cache_kind, d, here, bf16, b->rows, &bytes);
            pack_values(found, bytes, here, d, bf16, key_units, b->values + (long)page * PAGE / (bf16 ? 2 : 1) * PANEL_UNIT);
        }
        const int all_keys = pages * PAGE;
        for (int row = 0; row < all_rows; row += INPUTS)
            for (int page = 0; page < pages; page++)
                panel_tile(bf16, b->queries + row * row_bytes, row_bytes, b->keys + (long)page * units * PANEL_UNIT, units,
                           b->scores + (long)row * BLOCK_KEYS + page * PAGE, BLOCK_KEYS, 0);
        for (int row = 0; row < rows; row++) {
            int to = position + row / per_group, from = l->window && to >= l->window ? to - l->window + 1 : 0;
            float *scores = b->scores + (long)row * BLOCK_KEYS, *out = b->out + (long)row * wide;
            float shrinks = weights_of(scores, l->scale, first, all_keys, from, to, bf16, b->weights + (long)row * BLOCK_KEYS * number,
                                       &b->most[row], &b->sums[row]);
            if (shrinks != 1) for (int i = 0; i < wide; i += 16) *(f32x16 *)(out + i) = load(out + i) * shrinks;
        }
        for (int row = rows; row < all_rows; row++) memset(b->weights + (long)row * BLOCK_KEYS * number, 0, (size_t)all_keys * number);
        for (int column = 0; column < wide; column += PANEL)
            for (int row = 0; row < all_rows; row += INPUTS)
                panel_tile(bf16, b->weights + (long)row * BLOCK_KEYS * number, (long)BLOCK_KEYS * number,
                           b->values + (long)column / PANEL * key_units * PANEL_UNIT, key_units, b->out + (long)row * wide + column, wide, 1);
    }
    for (int row = 0; row < rows; row++) {
        float *out = b->out + (long)row * wide;
        for (int i = 0; i < wide; i += 16) *(f32x16 *)(out + i) = load(out + i) / b->sums[row];
        put_inputs(out, d, bf16, attended + row / per_group * stride + (long)(group * per_group + row % per_group) * d * number);
    }
}

#endif

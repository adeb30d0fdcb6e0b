/* Keys and values as they are kept, and attention of one token to those of its text. */

#ifndef ATTENTION_H
#define ATTENTION_H

#include "simd.h"

/* Bytes of one head's key or value of a token; INT8 ends with the scale, a float. */
INLINE long columns_size(int kind, long n) { return n * (kind == F32 ? 4 : kind == BF16 ? 2 : 1); }
INLINE long row_size(int kind, int d) { return columns_size(kind, d) + (kind == INT8 ? 4 : 0); }

INLINE f32x16 load_row(const char *row, int kind, long i) {  /* without the scale */
    return kind == F32    ? load((const float *)row + i)
           : kind == BF16 ? load_bf16((const uint16_t *)row + i)
                          : load_int8((const int8_t *)row + i);
}
INLINE float row_value(const char *row, int kind, long i) {
    return kind == F32 ? ((const float *)row)[i] : kind == BF16 ? bf16_value(((const uint16_t *)row)[i]) : (float)((const int8_t *)row)[i];
}
INLINE float row_scale(const char *row, int kind, int d) {
    float scale = 1;
    if (kind == INT8) memcpy(&scale, row + d, 4);
    return scale;
}
static void store_row(char *row, int kind, const float *x, int d) {
    float most = 1e-30f;
    if (kind == INT8) {
        for (int i = 0; i < d; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        float scale = most / 127;
        for (int i = 0; i < d; i++) ((int8_t *)row)[i] = (int8_t)rintf(x[i] / scale);
        memcpy(row + d, &scale, 4);
    } else if (kind == BF16) {
        for (int i = 0; i < d; i++) ((uint16_t *)row)[i] = to_bf16(x[i]);
    } else {
        memcpy(row, x, 4L * d);
    }
}

INLINE float dot_key(const float *q, const char *key, int kind, int d) {
    f32x16 acc = {0};
    int i = 0;
    for (; i + 16 <= d; i += 16) acc += load(q + i) * load_row(key, kind, i);
    float total = sum(acc);
    for (; i < d; i++) total += q[i] * row_value(key, kind, i);
    return total;
}

enum { LEAD = 8192 }; /* bytes of keys, then values, then the next head's keys that attention asks for in advance */

INLINE void fetch(const char *from, long bytes) {
    for (long at = 0; at < bytes; at += 64) __builtin_prefetch(from + at);
}

/* scores[0 .. 15] of 16 keys, one after the other in memory; d a multiple of 16. `ahead`: what will be read then. */
INLINE void dot_keys(const float *q, const char *keys, const char *ahead, int kind, int d, float *scores) {
    const long part_bytes = columns_size(kind, 16 * 16);
    f32x16 acc[16];
    UNROLL for (int k = 0; k < 16; k++) acc[k] = (f32x16){0};
    for (int i = 0; i < d; i += 16, ahead += part_bytes) {
        f32x16 part = load(q + i);
        fetch(ahead, part_bytes);
        UNROLL for (int k = 0; k < 16; k++) acc[k] += part * load_row(keys + k * row_size(kind, d), kind, i);
    }
    *(f32x16 *)scores = sums(acc);
}

/* Positions first .. last of a text, whose pages the table names, in the pool of one kv head. */
typedef struct { const int32_t *table; int first, last; long size, lead /* pages */; } Span;

INLINE int page_begin(const Span *s, int page) { return page * PAGE < s->first ? s->first : page * PAGE; }
INLINE int page_count(const Span *s, int page) { return (s->last < (page + 1) * PAGE ? s->last + 1 : (page + 1) * PAGE) - page_begin(s, page); }
INLINE const char *page_rows(const Span *s, const char *pool, int page) {
    return pool + ((long)s->table[page] * PAGE + page_begin(s, page) - page * PAGE) * s->size;
}
/* What is read a few pages after this one; after the last page, the first of `next`, another pool. */
INLINE const char *page_ahead(const Span *s, const char *pool, const char *next, int page) {
    int ahead = page + (int)s->lead, last = s->last / PAGE;
    if (ahead <= last) return page_rows(s, pool, ahead);
    ahead += s->first / PAGE - last - 1;
    return page_rows(s, next, ahead <= last ? ahead : last);
}
/* For each page of a span: its number, the index j of its first position in the span, and how many it has. */
#define EACH_PAGE(s, page, j, count)                                                                                    \
    for (int page = (s)->first / PAGE, j = 0, count = page_count(s, page); page <= (s)->last / PAGE;                    \
         j += count, page++, count = page <= (s)->last / PAGE ? page_count(s, page) : 0)

/* y = sum over j of weight[j] value[j], 16 * V columns at a time; after the values, `next` is read. */
INLINE void weigh(float *y, const float *weights, const Span *s, const char *pool, const char *next, int kind, int V) {
    f32x16 acc[4 * 2];  /* of even and odd j, so that a sum need not wait for the one before */
    UNROLL for (int i = 0; i < 2 * V; i++) acc[i] = (f32x16){0};
    EACH_PAGE(s, page, from, count) {
        const char *values = page_rows(s, pool, page), *ahead = page_ahead(s, pool, next, page);
        int j = 0;
        for (; j + 2 <= count; j += 2) {
            fetch(ahead + j * s->size, columns_size(kind, 2 * 16 * V));
            UNROLL for (int i = 0; i < 2 * V; i++)
                acc[i] += weights[from + j + i / V] * load_row(values + (j + i / V) * s->size, kind, 16 * (i % V));
        }
        for (; j < count; j++)
            UNROLL for (int v = 0; v < V; v++) acc[v] += weights[from + j] * load_row(values + j * s->size, kind, 16 * v);
    }
    UNROLL for (int v = 0; v < V; v++) *(f32x16 *)(y + 16 * v) = acc[v] + acc[V + v];
}

/* scores[j] = query times key j of the span; `next` is the pool that is read afterwards. */
INLINE void score(float *scores, const float *q, const Span *s, const char *pool, const char *next, int kind, int d) {
    EACH_PAGE(s, page, from, count) {
        const char *keys = page_rows(s, pool, page), *ahead = page_ahead(s, pool, next, page);
        int j = 0;
        if (d % 16 == 0)
            for (; j + 16 <= count; j += 16) dot_keys(q, keys + j * s->size, ahead + j * s->size, kind, d, scores + from + j);
        for (; j < count; j++) scores[from + j] = dot_key(q, keys + j * s->size, kind, d);
    }
}

/* Each score times the scale of its row, which int8 has. */
INLINE void rescale(float *scores, const Span *s, const char *pool, int kind, int d) {
    if (kind != INT8) return;
    EACH_PAGE(s, page, from, count) {
        const char *rows = page_rows(s, pool, page);
        for (int j = 0; j < count; j++) scores[from + j] *= row_scale(rows + j * s->size, kind, d);
    }
}

/* exp(scale * score - the largest) for n scores, whose places up to the next multiple of 16 are used too; returns their sum. */
INLINE float softmax(float *scores, float scale, int n) {
    f32x16 highest = all(-INFINITY), weights = {0};
    for (int j = n; j % 16; j++) scores[j] = -INFINITY;
    for (int j = 0; j < n; j += 16) {
        f32x16 scaled = scale * load(scores + j);
        highest = pick(scaled > highest, scaled, highest);
        *(f32x16 *)(scores + j) = scaled;
    }
    float most = highest[0];
    for (int lane = 1; lane < 16; lane++) most = highest[lane] > most ? highest[lane] : most;
    for (int j = 0; j < n; j += 16) {
        f32x16 weight = exponential(load(scores + j) - most);
        weights += weight;
        *(f32x16 *)(scores + j) = weight;
    }
    return sum(weights);
}

/* The heads of one group, for the token at a position of the text whose pages the table names. */
INLINE void attend_as(const Model *m, const Layer *l, const float *q, float *y, const int32_t *table, int group, int position,
                      float *scores, int kind) {
    const int d = m->d_head, per_group = m->n_heads / m->n_kv_heads;
    const long size = row_size(kind, d), lead = WHOLE(LEAD, PAGE * size) / (PAGE * size), pool = l->room * size;
    const int first = l->window && position >= l->window ? position - l->window + 1 : 0;
    const Span s = {table, first, position, size, lead};
    const char *keys = (const char *)l->keys + group * pool, *values = (const char *)l->values + group * pool;
    for (int h = 0; h < per_group; h++) {
        float *out = y + h * d;
        int i = 0;
        score(scores, q + h * d, &s, keys, values, kind, d);
        rescale(scores, &s, keys, kind, d);
        float total = softmax(scores, l->scale, position + 1 - first);
        rescale(scores, &s, values, kind, d);
        const char *next = h + 1 < per_group || group + 1 == m->n_kv_heads ? keys : keys + pool; /* likely wanted next */
        for (; i + 64 <= d; i += 64) weigh(out + i, scores, &s, values + columns_size(kind, i), next, kind, 4);
        for (; i + 16 <= d; i += 16) weigh(out + i, scores, &s, values + columns_size(kind, i), next, kind, 1);
        for (; i < d; i++) {
            out[i] = 0;
            EACH_PAGE(&s, page, from, count) {
                const char *rows = page_rows(&s, values, page);
                for (int j = 0; j < count; j++) out[i] += scores[from + j] * row_value(rows + j * size, kind, i);
            }
        }
        for (i = 0; i < d; i++) out[i] /= total;
    }
}

static void attend(const Model *m, const Layer *l, const float *q, float *y, const int32_t *table, int group, int position, float *scores) {
    switch (m->cache_kind) {
        case F32: attend_as(m, l, q, y, table, group, position, scores, F32); break;
        case BF16: attend_as(m, l, q, y, table, group, position, scores, BF16); break;
        default: attend_as(m, l, q, y, table, group, position, scores, INT8);
    }
}

#endif

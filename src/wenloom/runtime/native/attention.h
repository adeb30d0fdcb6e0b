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

/* y = sum over j of weight[j] value[j], 16 * V columns at a time; after the values, `next` is read. */
INLINE void weigh(float *y, const float *weights, const char *values, const char *next, int n, int kind, int d, int V) {
    const long size = row_size(kind, d);
    int j = 0, lead = LEAD / size;
    f32x16 acc[4 * 2];  /* of even and odd j, so that a sum need not wait for the one before */
    UNROLL for (int i = 0; i < 2 * V; i++) acc[i] = (f32x16){0};
    for (; j + 2 <= n; j += 2) {
        fetch(j + lead < n ? values + (j + lead) * size : next + (j + lead - n) * size, columns_size(kind, 2 * 16 * V));
        UNROLL for (int i = 0; i < 2 * V; i++)
            acc[i] += weights[j + i / V] * load_row(values + (j + i / V) * size, kind, 16 * (i % V));
    }
    for (; j < n; j++)
        UNROLL for (int v = 0; v < V; v++) acc[v] += weights[j] * load_row(values + j * size, kind, 16 * v);
    UNROLL for (int v = 0; v < V; v++) *(f32x16 *)(y + 16 * v) = acc[v] + acc[V + v];
}

INLINE void attend_as(const Model *m, const Layer *l, const float *q, float *y, int slot, int group, int position, float *scores, int kind) {
    int d = m->d_head, per_group = m->n_heads / m->n_kv_heads;
    int first = l->window && position >= l->window ? position - l->window + 1 : 0, n = position + 1 - first;
    long size = row_size(kind, d), offset = (((long)slot * m->n_kv_heads + group) * m->room + first) * size;
    const char *keys = (const char *)l->keys + offset, *values = (const char *)l->values + offset;
    for (int h = 0; h < per_group; h++) {
        const float *query = q + h * d;
        float *out = y + h * d;
        int j = 0, lead = LEAD / size;
        if (d % 16 == 0)
            for (; j + 16 <= n; j += 16) {
                const char *ahead = j + lead < n ? keys + (j + lead) * size : values + (j + lead - n) * size;
                dot_keys(query, keys + j * size, ahead, kind, d, scores + j);
            }
        for (; j < n; j++) scores[j] = dot_key(query, keys + j * size, kind, d);
        for (; j % 16; j++) scores[j] = -INFINITY;
        if (kind == INT8)
            for (j = 0; j < n; j++) scores[j] *= row_scale(keys + j * size, kind, d);
        f32x16 highest = all(-INFINITY), weights = {0};
        for (j = 0; j < n; j += 16) {
            f32x16 scaled = l->scale * load(scores + j);
            highest = pick(scaled > highest, scaled, highest);
            *(f32x16 *)(scores + j) = scaled;
        }
        float most = highest[0];
        for (int lane = 1; lane < 16; lane++) most = highest[lane] > most ? highest[lane] : most;
        for (j = 0; j < n; j += 16) {
            f32x16 weight = exponential(load(scores + j) - most);
            weights += weight;
            *(f32x16 *)(scores + j) = weight;
        }
        float total = sum(weights);
        if (kind == INT8)
            for (j = 0; j < n; j++) scores[j] *= row_scale(values + j * size, kind, d);
        int i = 0;
        const char *next = keys + m->room * size;  /* the next group's keys are likely wanted next */
        for (; i + 64 <= d; i += 64) weigh(out + i, scores, values + columns_size(kind, i), next, n, kind, d, 4);
        for (; i + 16 <= d; i += 16) weigh(out + i, scores, values + columns_size(kind, i), next, n, kind, d, 1);
        for (; i < d; i++) {
            out[i] = 0;
            for (j = 0; j < n; j++) out[i] += scores[j] * row_value(values + j * size, kind, i);
        }
        for (i = 0; i < d; i++) out[i] /= total;
    }
}

#endif

/* The small parts of a layer: embeddings, norms, activations, rotation, what is added beside. */

#ifndef LAYERS_H
#define LAYERS_H

#include "attention.h"

static void normalise(const Norm *norm, int layer_norm, float eps, const float *x, float *out, int d) {
    f32x16 total = {0}, squares = {0};
    float mean = 0, rest = 0;
    int i = 0;
    if (layer_norm) {
        for (; i + 16 <= d; i += 16) total += load(x + i);
        for (mean = sum(total); i < d; i++) mean += x[i];
        mean /= d;
    }
    for (i = 0; i + 16 <= d; i += 16) squares += (load(x + i) - mean) * (load(x + i) - mean);
    for (; i < d; i++) rest += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf((sum(squares) + rest) / d + eps);
    for (i = 0; i < d; i++) out[i] = (x[i] - mean) * factor * norm->weight[i] + (norm->bias ? norm->bias[i] : 0);
}

INLINE f32x16 activate(f32x16 x, int kind) {
    switch (kind) {
        case GELU: return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
        case GELU_TANH: return 0.5f * x * (1.0f + tangent(0.79788456f * (x + 0.044715f * x * x * x)));
        case QUICK_GELU: return x * sigmoid(1.702f * x);
        case SILU: return x * sigmoid(x);
        case RELU: return pick(x > 0.0f, x, all(0));
        case RELU_SQUARED: return pick(x > 0.0f, x * x, all(0));
        default: return tangent(x);
    }
}
/* x = activation(x), or activation(gate) * x. */
static void activate_all(float *x, const float *gate, int n, int kind) {
    for (int i = 0; i < n; i += 16) {
        int count = n - i < 16 ? n - i : 16;
        f32x16 part = some(x + i, count);
        store(x + i, gate ? activate(some(gate + i, count), kind) * part : activate(part, kind), count);
    }
}

static void rotate(float *head, const float *cos_, const float *sin_, int d_rotary) {
    int half = d_rotary / 2;
    for (int i = 0; i < half; i++) {
        float a = head[i], b = head[i + half];
        head[i] = a * cos_[i] + b * sin_[i];
        head[i + half] = b * cos_[i + half] + a * sin_[i + half];
    }
}

/* What the first layer reads of a token. */
static void embed(const Model *m, int token, int position, float *x) {
    const Linear *E = &m->embedding;
    const float *place = m->position_vectors ? m->position_vectors + (long)position * m->d_model : NULL;
    for (long i = 0, at = (long)token * m->d_model; i < m->d_model; i++, at++) {
        x[i] = E->kind == F32 ? ((const float *)E->weight)[at] : bf16_value(((const uint16_t *)E->weight)[at]);
        if (place) x[i] += place[i];
    }
}

/* One head of a token whose queries, keys and values follow each other: normalised and rotated; a key with its value goes where
   the text keeps them. */
static void place_head(const Model *m, const Layer *l, float *q_k_v, int h, const int32_t *table, int position, const float *cos_, const float *sin_) {
    const int d = m->d_head, H = m->n_heads;
    float *head = q_k_v + (long)h * d;
    const Norm *norm = h < H ? &l->query_norm : &l->key_norm;
    if (norm->weight) normalise(norm, 0, m->eps, head, head, d);
    if (m->d_rotary) {
        long angle = (long)position * m->d_rotary;
        rotate(head, cos_ + angle, sin_ + angle, m->d_rotary);
    }
    if (h < H) return;
    long page = table[position / PAGE];
    long at = ((long)(h - H) * l->room + page * PAGE + position % PAGE) * row_size(m->cache_kind, d);
    store_row((char *)l->keys + at, m->cache_kind, head, d);
    store_row((char *)l->values + at, m->cache_kind, head + (long)m->n_kv_heads * d, d);
}

/* Columns begin .. end-1 of the stream at the end of a layer: what attention gave beside the feed-forward layer, and vectors.
   Rows are those of `tokens`, or of all tokens where it is NULL. */
static void add_beside(const Model *m, int n, const int32_t *tokens, int begin, int end, int layer, const float *aside, const AddedVector *additions,
                       int n_additions, float *x) {
    const long D = m->d_model;
    if (m->parallel_residual)
        for (int i = 0; i < n; i++)
            for (int j = begin; j < end; j++) x[i * D + j] += aside[i * D + j];
    for (int k = 0; k < n_additions; k++)
        for (int i = 0; i < n && additions[k].layer == layer; i++) {
            int token = tokens ? tokens[i] : i;
            for (int j = begin; j < end && token >= additions[k].begin && token < additions[k].end; j++) x[i * D + j] += additions[k].vector[j];
        }
}

#endif

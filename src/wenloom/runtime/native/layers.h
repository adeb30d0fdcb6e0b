/* The small parts of a layer: norms, activations, rotation. */

#ifndef LAYERS_H
#define LAYERS_H

#include "simd.h"

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

#endif

/* What Python hands to the compiled step, and what all its files share.

   layout.py declares the same structures. The library tells their sizes and the places of their fields (`layout` in
   step.c); Python compares these with its own when it loads the library. */

#ifndef STEP_H
#define STEP_H

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ABI_VERSION = 4 };  /* one more with every change of what a structure or an argument means */
enum { MAX_TOKENS = 32 };  /* of one step */
enum { PAGE = 32 };        /* tokens of a page of keys and values */
enum { F32, BF16, INT8, INT4 };
enum { GELU, GELU_TANH, QUICK_GELU, SILU, RELU, RELU_SQUARED, TANH };

typedef struct {
    const void *weight;  /* (rows, cols) in the format `kind`; NULL where the layer has no such matrix */
    const float *scale;  /* INT8: one per row; INT4: one per row and group of 32 columns */
    const float *bias;   /* (rows) or NULL */
    int32_t kind, rows, cols, pad;
} Linear;

typedef struct { const float *weight, *bias; } Norm;  /* weight NULL: no such norm */

typedef struct {
    Norm attention_norm, mlp_norm, query_norm, key_norm;
    Linear query, key, value, output, gate, up, down;
    Linear router;         /* the scores of a mixture of experts; weight NULL: gate, up and down are all there is */
    const Linear *experts; /* gate, up and down of each, one expert after the other */
    void *keys, *values;  /* the pools of pages: (kv heads, room, bytes of a token: see row_size) */
    float scale;
    int32_t window;  /* 0: none */
    int32_t room;    /* tokens of the pools */
    int32_t n_experts, n_active, d_expert;
    int32_t over_all; /* shares are the softmax over all experts, not over the active ones */
    int32_t pad;
} Layer;

typedef struct {
    int32_t n_layers, d_model, n_heads, n_kv_heads, d_head, d_mlp, d_rotary, activation;
    int32_t layer_norm, parallel_residual, cache_kind;
    float eps;
    const Layer *layers;
    Norm final_norm;
    Linear embedding, head;
    const float *position_vectors;  /* (context length, d_model), or NULL */
} Model;

typedef struct {
    const float *vector;  /* (d_model): added to what a layer gives, in the rows begin to end - 1 of a step */
    int32_t layer, begin, end, pad;
} AddedVector;

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define WHOLE(n, unit) (((n) + (unit) - 1) / (unit) * (unit))

#endif

/* One decoding step of a decoder-only Transformer on the CPU: a few tokens of several texts through all layers.

   What it computes is `Decoder.read` in decoder.py followed by `unembed`; what it adds is speed. With few tokens a
   step is bound by reading the weights, so each is read once, by all threads at once, in the format in which it is
   stored, and nothing else costs more than a small share: one parallel region for the whole step, six barriers a
   layer, rows of a matrix handed out in pieces so that a thread that is held up does not hold up the others.

   Built by native.py with whatever C compiler there is; it needs GNU C's vector types. With AVX512-BF16 the
   products of bf16 and quantised weights take bf16 inputs and sum in float32, two products an instruction. */

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
#define BF16_DOT 1
#else
#define BF16_DOT 0
#endif

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() ((void)0)
#endif

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
    void *keys, *values;  /* (slots, kv heads, room, d_head) */
    float scale;
    int32_t window;  /* 0: none */
} Layer;

typedef struct {
    int32_t n_layers, d_model, n_heads, n_kv_heads, d_head, d_mlp, d_rotary, activation;
    int32_t layer_norm, parallel_residual, cache_is_bf16, room;
    float eps, pad;
    const Layer *layers;
    Norm final_norm;
    Linear head;
} Model;

typedef float f32x16 __attribute__((vector_size(64), aligned(4)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x16 __attribute__((vector_size(64), aligned(4)));
typedef uint32_t u32x16 __attribute__((vector_size(64), aligned(4)));
typedef uint16_t u16x16 __attribute__((vector_size(32), aligned(2)));
typedef int8_t i8x16 __attribute__((vector_size(16), aligned(1)));
typedef uint8_t u8x16 __attribute__((vector_size(16), aligned(1)));

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

INLINE f32x16 load(const float *p) { return *(const f32x16 *)p; }
INLINE f32x16 load_bf16(const uint16_t *p) {
    u32x16 wide = __builtin_convertvector(*(const u16x16 *)p, u32x16) << 16;
    return (f32x16)wide;
}
INLINE float bf16_value(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}
INLINE uint16_t to_bf16(float value) {  /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
INLINE float sum(f32x16 v) {
    const f32x8 *half = (const f32x8 *)&v;
    f32x8 eight = half[0] + half[1];
    const f32x4 *quarter = (const f32x4 *)&eight;
    f32x4 four = quarter[0] + quarter[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}
INLINE f32x16 all(float value) { return (f32x16){0} + value; }
INLINE f32x16 pick(i32x16 which, f32x16 yes, f32x16 no) {
    return (f32x16)((which & (i32x16)yes) | (~which & (i32x16)no));
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2, a polynomial of degree 6 for e^r; relative error below 2e-7. */
INLINE f32x16 exponential(f32x16 x) {
    x = pick(x < -87.0f, all(-87.0f), x);
    x = pick(x > 88.0f, all(88.0f), x);
    f32x16 n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  /* rounds to a whole number */
    f32x16 r = x - n * 0.693145752f - n * 1.42860677e-6f;
    f32x16 p = all(1.3981999e-3f);
    p = p * r + 8.3334519e-3f;
    p = p * r + 4.1665795e-2f;
    p = p * r + 1.6666666e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return (f32x16)((i32x16)p + (__builtin_convertvector(n, i32x16) << 23));
}
INLINE f32x16 tangent(f32x16 x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }
INLINE f32x16 sigmoid(f32x16 x) { return 1.0f / (1.0f + exponential(-x)); }
/* Abramowitz & Stegun 7.1.26; absolute error below 2e-7. */
INLINE f32x16 error_function(f32x16 x) {
    f32x16 size = pick(x < 0.0f, -x, x), t = 1.0f / (1.0f + 0.3275911f * size);
    f32x16 p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    f32x16 y = 1.0f - p * exponential(-size * size);
    return pick(x < 0.0f, -y, y);
}

#define AHEAD 4096 /* bytes that a row's product asks for in advance */

/* --- products: y[m][r] = sum over c of weight[r][c] x[m][c], for R rows and M inputs at a time --- */

INLINE void tile_f32(const float *w, long stride, const float *x, long x_stride, int cols, int R, int M, float *out) {
    f32x16 acc[8][8];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int m = 0; m < M; m++) acc[r][m] = (f32x16){0};
    int c = 0;
    for (; c + 16 <= cols; c += 16) {
        UNROLL for (int r = 0; r < R; r++) __builtin_prefetch(w + (R + r) * stride + c);
        UNROLL for (int m = 0; m < M; m++) {
            f32x16 input = load(x + m * x_stride + c);
            UNROLL for (int r = 0; r < R; r++) acc[r][m] += load(w + r * stride + c) * input;
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int m = 0; m < M; m++) {
            float total = sum(acc[r][m]);
            for (int i = c; i < cols; i++) total += w[r * stride + i] * x[m * x_stride + i];
            out[r * 8 + m] = total;
        }
}

#if BF16_DOT
INLINE void tile_bf16(const uint16_t *w, long stride, const uint16_t *x, long x_stride, int cols, int R, int M, float *out) {
    __m512 acc[8][8];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int m = 0; m < M; m++) acc[r][m] = _mm512_setzero_ps();
    for (int c = 0; c < cols; c += 32) {
        UNROLL for (int r = 0; r < R; r++) __builtin_prefetch(w + (R + r) * stride + c);
        UNROLL for (int m = 0; m < M; m++) {
            __m512bh input = (__m512bh)_mm512_loadu_si512(x + m * x_stride + c);
            UNROLL for (int r = 0; r < R; r++)
                acc[r][m] = _mm512_dpbf16_ps(acc[r][m], (__m512bh)_mm512_loadu_si512(w + r * stride + c), input);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int m = 0; m < M; m++) out[r * 8 + m] = _mm512_reduce_add_ps(acc[r][m]);
}

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

#define TILES(NAME, TYPE)                                                                                             \
    static void NAME##_rows(const TYPE *w, long stride, const TYPE *x, long x_stride, int cols, int R, int M, float *out) { \
        if (R == 4 && M == 1) NAME(w, stride, x, x_stride, cols, 4, 1, out);                                     \
        else if (R == 4 && M == 2) NAME(w, stride, x, x_stride, cols, 4, 2, out);                                     \
        else if (R == 4 && M == 3) NAME(w, stride, x, x_stride, cols, 4, 3, out);                                     \
        else if (R == 4 && M == 4) NAME(w, stride, x, x_stride, cols, 4, 4, out);                                     \
        else if (R == 4 && M == 5) NAME(w, stride, x, x_stride, cols, 4, 5, out);                                     \
        else if (R == 4 && M == 6) NAME(w, stride, x, x_stride, cols, 4, 6, out);                                     \
        else                                                                                                          \
            for (int r = 0; r < R; r++)                                                                               \
                for (int m = 0; m < M; m++) NAME(w + r * stride, stride, x + m * x_stride, x_stride, cols, 1, 1, out + r * 8 + m); \
    }
TILES(tile_f32, float)
#if BF16_DOT
TILES(tile_bf16, uint16_t)
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
            __builtin_prefetch((const char *)L->weight + (at + R * cols) / (L->kind == INT8 ? 1 : 2));
            __m512i weights = L->kind == INT8 ? (__m512i)int8_as_bf16((const int8_t *)L->weight + at)
                                              : int4_as_bf16((const uint8_t *)L->weight + (row + r) * cols / 2,
                                                             L->scale + (row + r) * cols / 32, c, cols);
            _mm512_storeu_si512(out + c, weights);
        }
}
#endif

typedef struct {
    float *x;         /* inputs of a product, (tokens, cols) */
    uint16_t *x_bf16; /* the same in bf16 */
    void *rows;       /* decoded weights of one tile */
    float *scores;    /* attention of one group of heads */
} Scratch;

#define MAX_TOKENS 32

static int as_bf16(const Linear *L) { return BF16_DOT && L->kind != F32 && L->cols % 32 == 0; }

static void convert(const float *x, uint16_t *out, long n) {
#if BF16_DOT
    for (long i = 0; i + 32 <= n; i += 32)
        _mm512_storeu_si512(out + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
    for (long i = n / 32 * 32; i < n; i++) out[i] = to_bf16(x[i]);
#else
    (void)x, (void)out, (void)n;
#endif
}

/* Rows begin .. end-1 of a product; out has `stride` floats a token; scratch->x_bf16 holds the inputs where as_bf16. */
static void product(const Linear *L, const float *x, int n, int begin, int end, float *out, long stride, int add, Scratch *s) {
    long cols = L->cols;
    float tile[8 * 8];
    if (n == 1 && (as_bf16(L) || L->kind == F32)) {
        for (long row = begin; row < end; row++) {
            float y = L->kind == F32 ? row_f32((const float *)L->weight + row * cols, x, cols)
#if BF16_DOT
                      : L->kind == BF16 ? row_bf16((const uint16_t *)L->weight + row * cols, s->x_bf16, cols)
                      : L->kind == INT8 ? L->scale[row] * row_int8((const int8_t *)L->weight + row * cols, s->x_bf16, cols)
                      : row_int4((const uint8_t *)L->weight + row * cols / 2, L->scale + row * cols / 32, s->x_bf16, cols)
#else
                                      : 0
#endif
                ;
            if (L->bias) y += L->bias[row];
            out[row] = add ? out[row] + y : y;
        }
        return;
    }
    for (int row = begin; row < end;) {
        int R = row + 4 <= end ? 4 : 1;
        const void *w = L->weight;
        long first = row;
        if (L->kind == F32 || (as_bf16(L) && L->kind == BF16)) {
            w = (const char *)w + first * cols * (L->kind == F32 ? 4 : 2);
        } else {
#if BF16_DOT
            if (as_bf16(L)) decode_bf16(L, row, R, s->rows);
            else
#endif
                decode_f32(L, row, R, s->rows);
            w = s->rows;
        }
        for (int m = 0; m < n;) {
            int M = n - m >= 6 ? 6 : n - m;
            if (n - m == 8) M = 4;
#if BF16_DOT
            if (as_bf16(L)) tile_bf16_rows(w, cols, s->x_bf16 + m * cols, cols, cols, R, M, tile);
            else
#endif
                tile_f32_rows(w, cols, x + m * cols, cols, cols, R, M, tile);
            for (int r = 0; r < R; r++)
                for (int i = 0; i < M; i++) {
                    float y = tile[r * 8 + i];
                    if (L->kind == INT8) y *= L->scale[row + r];
                    if (L->bias) y += L->bias[row + r];
                    float *at = out + (m + i) * stride + row + r;
                    *at = add ? *at + y : y;
                }
            m += M;
        }
        row += R;
    }
}

/* --- the small parts --- */

static void normalise(const Norm *norm, int layer_norm, float eps, const float *x, float *out, int d) {
    double total = 0, squares = 0;
    for (int i = 0; i < d; i++) total += x[i];
    float mean = layer_norm ? (float)(total / d) : 0;
    for (int i = 0; i < d; i++) squares += (double)(x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf((float)(squares / d) + eps);
    for (int i = 0; i < d; i++) out[i] = (x[i] - mean) * factor * norm->weight[i] + (norm->bias ? norm->bias[i] : 0);
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
        float part[16] = {0}, gated[16] = {0};
        int count = n - i < 16 ? n - i : 16;
        memcpy(part, x + i, count * 4);
        if (gate) memcpy(gated, gate + i, count * 4);
        f32x16 y = gate ? activate(load(gated), kind) * load(part) : activate(load(part), kind);
        memcpy(x + i, &y, count * 4);
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

INLINE float dot_key(const float *q, const void *key, int bf16, int d) {
    f32x16 acc = {0};
    int i = 0;
    for (; i + 16 <= d; i += 16)
        acc += load(q + i) * (bf16 ? load_bf16((const uint16_t *)key + i) : load((const float *)key + i));
    float total = sum(acc);
    for (; i < d; i++) total += q[i] * (bf16 ? bf16_value(((const uint16_t *)key)[i]) : ((const float *)key)[i]);
    return total;
}

/* y = sum over j of weight[j] value[j], 16 * V columns at a time. */
INLINE void weigh(float *y, const float *weights, const char *values, int n, int bf16, int d, int V) {
    int size = bf16 ? 2 : 4;
    f32x16 acc[4] = {{0}, {0}, {0}, {0}};
    for (int j = 0; j < n; j++) {
        const char *value = values + (long)j * d * size;
        UNROLL for (int v = 0; v < V; v++)
            acc[v] += weights[j] * (bf16 ? load_bf16((const uint16_t *)value + 16 * v) : load((const float *)value + 16 * v));
    }
    UNROLL for (int v = 0; v < V; v++) *(f32x16 *)(y + 16 * v) = acc[v];
}

INLINE void attend_as(const Model *m, const Layer *l, const float *q, float *y, int slot, int group, int position, float *scores, int bf16) {
    int d = m->d_head, per_group = m->n_heads / m->n_kv_heads, size = bf16 ? 2 : 4;
    int first = l->window && position >= l->window ? position - l->window + 1 : 0, n = position + 1 - first;
    long offset = (((long)slot * m->n_kv_heads + group) * m->room + first) * d * size;
    const char *keys = (const char *)l->keys + offset, *values = (const char *)l->values + offset;
    for (int h = 0; h < per_group; h++) {
        const float *query = q + h * d;
        float *out = y + h * d, most = -INFINITY, total = 0;
        for (int j = 0; j < n; j++) {
            scores[j] = l->scale * dot_key(query, keys + (long)j * d * size, bf16, d);
            if (scores[j] > most) most = scores[j];
        }
        for (int j = n; j < (n + 15) / 16 * 16; j++) scores[j] = -INFINITY;
        for (int j = 0; j < n; j += 16) *(f32x16 *)(scores + j) = exponential(load(scores + j) - most);
        for (int j = 0; j < n; j++) total += scores[j];
        int i = 0;
        for (; i + 64 <= d; i += 64) weigh(out + i, scores, values + i * size, n, bf16, d, 4);
        for (; i + 16 <= d; i += 16) weigh(out + i, scores, values + i * size, n, bf16, d, 1);
        for (; i < d; i++) {
            out[i] = 0;
            for (int j = 0; j < n; j++) {
                const char *value = values + ((long)j * d + i) * size;
                out[i] += scores[j] * (bf16 ? bf16_value(*(const uint16_t *)value) : *(const float *)value);
            }
        }
        for (i = 0; i < d; i++) out[i] /= total;
    }
}

/* --- threads --- */

typedef struct {
    atomic_int arrived, generation;
    atomic_int next[8];  /* what the current phases hand out; a counter is reset two phases later */
} Team;

static void wait_for_all(Team *team, int threads) {
    int generation = atomic_load(&team->generation);
    if (atomic_fetch_add(&team->arrived, 1) == threads - 1) {
        atomic_store(&team->arrived, 0);
        atomic_fetch_add(&team->generation, 1);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&team->generation, memory_order_acquire) == generation; spins++) {
        if (spins < 400) RELAX();
        else sched_yield();  /* somebody else needs this core */
    }
}

/* The next piece of 0 .. total-1, or 0 when all are handed out. */
static int piece(atomic_int *next, int total, int size, int *begin, int *end) {
    *begin = atomic_fetch_add(next, size);
    if (*begin >= total) return 0;
    *end = *begin + size < total ? *begin + size : total;
    return 1;
}

enum { PIECE = 32 };

static void prepared(const Linear *L, const float *x, int n, Scratch *s) {
    if (as_bf16(L)) convert(x, s->x_bf16, (long)n * L->cols);
}

/* Returns 0, or 1 where memory is missing. x (n, d_model) is overwritten; hidden (n, d_model) is what the last norm
   gives; logits (n_logits, rows of the head) are those of the tokens logit_rows. */
int step(const Model *m, int n, float *x, const int32_t *slots, const int32_t *positions, const float *cos_,
         const float *sin_, float *hidden, const int32_t *logit_rows, int n_logits, float *logits, int threads) {
    int D = m->d_model, d = m->d_head, H = m->n_heads, G = m->n_kv_heads, wide = H * d, narrow = G * d;
    int qkv = wide + 2 * narrow, most = m->d_mlp > D ? m->d_mlp : D, longest = 0;
    if (wide > most) most = wide;
    for (int i = 0; i < n; i++)
        if (positions[i] > longest) longest = positions[i];
    long shared_floats = (long)n * (qkv + wide + m->d_mlp + D);
    size_t private_bytes = (size_t)n * most * 6 + (size_t)most * 8 * 4 + (size_t)(longest + 32) * 4 + 256;
    char *memory = malloc(shared_floats * 4 + threads * private_bytes);
    if (!memory) return 1;
    float *q_k_v = (float *)memory, *attended = q_k_v + (long)n * qkv, *inner = attended + (long)n * wide;
    float *aside = inner + (long)n * m->d_mlp;
    Team team = {0};
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads(), phase = 0, begin, end;
        char *mine = memory + shared_floats * 4 + me * private_bytes;
        Scratch s = {(float *)mine, (uint16_t *)(mine + (size_t)n * most * 4), mine + (size_t)n * most * 6, NULL};
        s.scores = (float *)((char *)s.rows + (size_t)most * 8 * 4);
#define NEXT (&team.next[phase & 7])
#define DONE (wait_for_all(&team, all), atomic_store(&team.next[(phase + 4) & 7], 0), phase++)
        for (int index = 0; index < m->n_layers; index++) {
            const Layer *l = &m->layers[index];
            for (int i = 0; i < n; i++) normalise(&l->attention_norm, m->layer_norm, m->eps, x + i * D, s.x + i * D, D);
            prepared(&l->query, s.x, n, &s);
            while (piece(NEXT, qkv, PIECE, &begin, &end)) {
                const Linear *parts[3] = {&l->query, &l->key, &l->value};
                for (int p = 0, offset = 0; p < 3; offset += parts[p++]->rows) {
                    int from = begin > offset ? begin - offset : 0, to = end - offset;
                    if (to > parts[p]->rows) to = parts[p]->rows;
                    if (from < to) product(parts[p], s.x, n, from, to, q_k_v + offset, qkv, 0, &s);
                }
            }
            DONE;
            while (piece(NEXT, n * (H + G), 4, &begin, &end))
                for (int task = begin; task < end; task++) {
                    int i = task / (H + G), h = task % (H + G);
                    float *head = q_k_v + (long)i * qkv + h * d;
                    const Norm *norm = h < H ? &l->query_norm : &l->key_norm;
                    if (norm->weight) normalise(norm, 0, m->eps, head, head, d);
                    if (m->d_rotary) rotate(head, cos_ + (long)i * m->d_rotary, sin_ + (long)i * m->d_rotary, m->d_rotary);
                    if (h < H) continue;
                    long at = (((long)slots[i] * G + h - H) * m->room + positions[i]) * d;
                    const float *value = head + narrow;
                    for (int j = 0; j < d; j++)
                        if (m->cache_is_bf16) {
                            ((uint16_t *)l->keys)[at + j] = to_bf16(head[j]);
                            ((uint16_t *)l->values)[at + j] = to_bf16(value[j]);
                        } else {
                            ((float *)l->keys)[at + j] = head[j];
                            ((float *)l->values)[at + j] = value[j];
                        }
                }
            DONE;
            while (piece(NEXT, n * G, 1, &begin, &end)) {
                int i = begin / G, g = begin % G;
                const float *q = q_k_v + (long)i * qkv + g * (H / G) * d;
                float *y = attended + (long)i * wide + g * (H / G) * d;
                if (m->cache_is_bf16) attend_as(m, l, q, y, slots[i], g, positions[i], s.scores, 1);
                else attend_as(m, l, q, y, slots[i], g, positions[i], s.scores, 0);
            }
            DONE;
            prepared(&l->output, attended, n, &s);
            while (piece(NEXT, D, PIECE, &begin, &end))
                product(&l->output, attended, n, begin, end, m->parallel_residual ? aside : x, D, !m->parallel_residual, &s);
            DONE;
            for (int i = 0; i < n; i++) normalise(&l->mlp_norm, m->layer_norm, m->eps, x + i * D, s.x + i * D, D);
            prepared(&l->up, s.x, n, &s);
            while (piece(NEXT, m->d_mlp, PIECE, &begin, &end)) {
                float gate[MAX_TOKENS * PIECE];
                product(&l->up, s.x, n, begin, end, inner, m->d_mlp, 0, &s);
                if (l->gate.weight) product(&l->gate, s.x, n, begin, end, gate - begin, PIECE, 0, &s);
                for (int i = 0; i < n; i++)
                    activate_all(inner + (long)i * m->d_mlp + begin, l->gate.weight ? gate + i * PIECE : NULL, end - begin,
                                 m->activation);
            }
            DONE;
            prepared(&l->down, inner, n, &s);
            while (piece(NEXT, D, PIECE, &begin, &end)) {
                product(&l->down, inner, n, begin, end, x, D, 1, &s);
                if (m->parallel_residual)
                    for (int i = 0; i < n; i++)
                        for (int j = begin; j < end; j++) x[i * D + j] += aside[i * D + j];
            }
            DONE;
        }
        for (int i = 0; i < n; i++) {
            normalise(&m->final_norm, m->layer_norm, m->eps, x + i * D, s.x + i * D, D);
            if (me == 0) memcpy(hidden + i * D, s.x + i * D, D * sizeof(float));
        }
        for (int i = 0; i < n_logits; i++)
            if (logit_rows[i] != i) memcpy(s.x + i * D, s.x + logit_rows[i] * D, D * sizeof(float));
        prepared(&m->head, s.x, n_logits, &s);
        while (piece(NEXT, n_logits ? m->head.rows : 0, 4 * PIECE, &begin, &end))
            product(&m->head, s.x, n_logits, begin, end, logits, m->head.rows, 0, &s);
    }
    free(memory);
    return 0;
}

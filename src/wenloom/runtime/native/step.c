/* One decoding step of a decoder-only Transformer on the CPU: a few tokens of several texts through all layers.

   What it computes is `Decoder.read` in decoder.py followed by `unembed`; what it adds is speed. With few tokens a
   step is bound by reading the weights, so each is read once, by all threads at once, in the format in which it is
   stored, and nothing else costs more than a small share: one parallel region for the whole step, six barriers a
   layer, rows of a matrix handed out in pieces so that a thread that is held up does not hold up the others.

   Built by compiler.py with whatever C compiler there is; it needs GNU C's vector types. With AVX512-BF16 the
   products of bf16 and quantised weights take bf16 inputs and sum in float32, two products an instruction. */

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
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
    void *keys, *values;  /* (slots, kv heads, room, bytes of a token: see row_size) */
    float scale;
    int32_t window;  /* 0: none */
} Layer;

typedef struct {
    int32_t n_layers, d_model, n_heads, n_kv_heads, d_head, d_mlp, d_rotary, activation;
    int32_t layer_norm, parallel_residual, cache_kind, room;
    float eps, pad;
    const Layer *layers;
    Norm final_norm;
    Linear embedding, head;
    const float *position_vectors;  /* (context length, d_model), or NULL */
} Model;

typedef float f32x16 __attribute__((vector_size(64), aligned(4)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x16 __attribute__((vector_size(64), aligned(4)));
typedef uint32_t u32x16 __attribute__((vector_size(64), aligned(4)));
typedef uint16_t u16x16 __attribute__((vector_size(32), aligned(2)));
typedef int16_t i16x16 __attribute__((vector_size(32), aligned(2)));
typedef int8_t i8x16 __attribute__((vector_size(16), aligned(1)));

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

INLINE f32x16 load(const float *p) { return *(const f32x16 *)p; }
INLINE f32x16 load_bf16(const uint16_t *p) {
    u32x16 wide = __builtin_convertvector(*(const u16x16 *)p, u32x16) << 16;
    return (f32x16)wide;
}
INLINE f32x16 load_int8(const int8_t *p) {  /* step by step: compilers turn one wide step into 16 narrow ones */
    i16x16 wider = __builtin_convertvector(*(const i8x16 *)p, i16x16);
    return __builtin_convertvector(__builtin_convertvector(wider, i32x16), f32x16);
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
#ifdef __clang__
#define LANES(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LANES(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif
/* Lane i: the sum of v[i]. Each round adds the halves of pairs: half the instructions of 16 sums. */
INLINE f32x16 sums(const f32x16 *v) {
    f32x16 a[8], b[4], c[2];
    UNROLL for (int i = 0; i < 8; i++)
        a[i] = LANES(i32x16, v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
             + LANES(i32x16, v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    UNROLL for (int i = 0; i < 4; i++)
        b[i] = LANES(i32x16, a[i], a[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
             + LANES(i32x16, a[i], a[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    UNROLL for (int i = 0; i < 2; i++)
        c[i] = LANES(i32x16, b[i], b[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
             + LANES(i32x16, b[i], b[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return LANES(i32x16, c[0], c[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
         + LANES(i32x16, c[0], c[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}
INLINE f32x16 all(float value) { return (f32x16){0} + value; }
INLINE f32x16 some(const float *p, int count) {  /* 16 values, or fewer and then zeros */
    if (count == 16) return load(p);
    f32x16 values = {0};
    memcpy(&values, p, count * 4);
    return values;
}
INLINE void store(float *p, f32x16 values, int count) {
    if (count == 16) *(f32x16 *)p = values;
    else memcpy(p, &values, count * 4);
}
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

/* --- products: y[m][r] = sum over c of weight[r][c] x[m][c] ---

   One input: a row at a time. Several: tiles of 4 or 8 rows times some inputs. These lie side by side: a vector holds 16
   bytes (a chunk: 4 columns in float32, 8 in bf16) of each of PARTS inputs, and meets the same 16 bytes of a row,
   repeated; so that with AVX512 4 + 4 loads serve 16 products of vectors. Inputs that do not fit into the first-level
   cache are taken in blocks of columns. */

enum { CHUNK = 16 }; /* bytes */
#if defined(__AVX512F__)
enum { PARTS = 4, SUMS = 16 }; /* of a vector; vectors that are summed at a time: half of the registers */
#define EACH EACH_16
#define REPEATED(p) (parts)_mm512_broadcast_f32x4(_mm_loadu_ps(p))
#elif defined(__AVX__)
enum { PARTS = 2, SUMS = 8 };
#define EACH EACH_8
#define REPEATED(p) (parts)_mm256_broadcast_ps((const __m128 *)(p))
#else
enum { PARTS = 1, SUMS = 8 };
#define EACH EACH_4
#define REPEATED(p) *(const parts *)(p)
#endif
enum { GROUPS = SUMS / 4, TOGETHER = GROUPS * PARTS }; /* vectors of inputs, and inputs, of a tile at most */
enum { ROWS_AT_ONCE = 32 };                            /* that share a block of the inputs */
enum { FITS = 32768, BLOCK = 16384 };                  /* bytes of inputs: what need not be taken in blocks, and a block */
typedef float parts __attribute__((vector_size(16 * PARTS), aligned(4)));
typedef int32_t indices __attribute__((vector_size(16 * PARTS)));

/* In a register: compilers would load it again for each row, which takes longer than the product. */
#ifdef __AVX__
#define KEEP(value) __asm__("" : "+v"(value))
#else
#define KEEP(value) ((void)0)
#endif

/* What to ask of memory while a tile is computed: the weights of the tile after the next, which stand in a row, `step` bytes
   for each chunk; or those of its block, of four rows in turn. `next`: from there to the line of four more rows. */
typedef struct { const char *from; long bytes, step, next; } Ahead;

INLINE void ask(const Ahead *ahead, int chunk, int rows, int blocked) {
    const char *at = ahead->from + (blocked ? (chunk & 3) * ahead->bytes + chunk / 4 * 64 : chunk * ahead->step);
    for (int r = 0; r < rows; r += 4) __builtin_prefetch(at + r / 4 * ahead->next);
}

#define EACH_4(f, of) f(0, of), f(1, of), f(2, of), f(3, of)
#define EACH_8(f, of) EACH_4(f, of), f(4, of), f(5, of), f(6, of), f(7, of)
#define EACH_16(f, of) EACH_8(f, of), f(8, of), f(9, of), f(10, of), f(11, of), f(12, of), f(13, of), f(14, of), f(15, of)
#define PAIRED(lane, of) ((lane) / 4 * 4 + (lane) % 4 / 2 + (of) + (lane) % 2 * 4 * PARTS)
#define HALVES(lane, of) ((lane) / 4 * 4 + (lane) % 2 + (of) + (lane) % 4 / 2 * 4 * PARTS)
/* Lane 4 j + i: the sum of the four lanes of part j of the i-th vector. */
INLINE parts sums_of_parts(parts a, parts b, parts c, parts d) {
    parts ab = LANES(indices, a, b, EACH(PAIRED, 0)) + LANES(indices, a, b, EACH(PAIRED, 2));
    parts cd = LANES(indices, c, d, EACH(PAIRED, 0)) + LANES(indices, c, d, EACH(PAIRED, 2));
    return LANES(indices, ab, cd, EACH(HALVES, 0)) + LANES(indices, ab, cd, EACH(HALVES, 2));
}

/* out[m][r] of R rows, one every `bytes`, and the inputs of G vectors; a row of out has ROWS_AT_ONCE places. Without out,
   the sums are kept for the tile's next block. */
#define TILE(NAME, REPEATED, TIMES)                                                                                             \
    INLINE void NAME(const char *w, long bytes, const char *x, int chunks, int R, int G, const Ahead *ahead, int blocked,       \
                     int is_first, parts *kept, float *out) {                                                                   \
        parts acc[SUMS], inputs[GROUPS];                                                                                        \
        UNROLL for (int i = 0; i < R * G; i++) acc[i] = is_first ? (parts){0} : kept[i];                                        \
        for (int c = 0; c < chunks; c++, w += CHUNK) {                                                                          \
            const char *row = w;                                                                                                \
            ask(ahead, c, R, blocked);                                                                                          \
            UNROLL for (int g = 0; g < G; g++, x += CHUNK * PARTS) {                                                            \
                inputs[g] = *(const parts *)x;                                                                                  \
                KEEP(inputs[g]);                                                                                                \
            }                                                                                                                   \
            UNROLL for (int r = 0; r < R; r++, row += bytes) {                                                                  \
                __auto_type weights = REPEATED((const float *)row);                                                             \
                UNROLL for (int g = 0; g < G; g++) TIMES(acc[r * G + g], weights, inputs[g]);                                   \
            }                                                                                                                   \
        }                                                                                                                       \
        if (G > 1 && !out) {                                                                                                    \
            UNROLL for (int i = 0; i < R * G; i++) kept[i] = acc[i];                                                            \
            return;                                                                                                             \
        }                                                                                                                       \
        UNROLL for (int g = 0; g < G; g++)                                                                                      \
            UNROLL for (int r = 0; r < R; r += 4) {                                                                             \
                const parts *rows = acc + r * G + g;                                                                            \
                parts found = sums_of_parts(rows[0], rows[G], rows[2 * G], rows[3 * G]);                                        \
                UNROLL for (int j = 0; j < PARTS; j++)                                                                          \
                    memcpy(out + ROWS_AT_ONCE * (PARTS * g + j) + r, (float *)&found + 4 * j, CHUNK);                           \
            }                                                                                                                   \
    }                                                                                                                           \
    static void NAME##s(const char *w, long bytes, const char *x, int chunks, int G, const Ahead *ahead, int blocked,           \
                        int is_first, parts *kept, float *out) {                                                                \
        if (G == 1) NAME(w, bytes, x, chunks, 8, 1, ahead, 0, 1, kept, out);                                                    \
        else if (G == 2) NAME(w, bytes, x, chunks, ROWS(2), 2, ahead, blocked, is_first, kept, out);                            \
        else if (G == 3) NAME(w, bytes, x, chunks, ROWS(GROUPS), GROUPS < 3 ? GROUPS : 3, ahead, blocked, is_first, kept, out); \
        else NAME(w, bytes, x, chunks, ROWS(GROUPS), GROUPS, ahead, blocked, is_first, kept, out);                              \
    }
#define ROWS(G) (8 * (G) <= SUMS ? 8 : 4)
#define TIMES_F32(acc, weights, x) acc += weights * x
TILE(tile_f32, REPEATED, TIMES_F32)

#if BF16_DOT
#define REPEATED_BF16(p) (__m512bh)_mm512_broadcast_f32x4(_mm_loadu_ps(p))
#define TIMES_BF16(acc, weights, x) acc = (parts)_mm512_dpbf16_ps((__m512)acc, weights, (__m512bh)x)
TILE(tile_bf16, REPEATED_BF16, TIMES_BF16)

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

typedef struct {
    float *x;      /* inputs of a product, (tokens, cols) */
    char *inputs;  /* the same as the tiles take them: of one token in a row, of several side by side */
    char *rows;    /* decoded weights of ROWS_AT_ONCE rows */
    float *scores; /* attention of one group of heads */
} Scratch;

#define MAX_TOKENS 32

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

/* Scale, bias and what was there, for rows of a tile and m inputs. */
static void settle(const Linear *L, const float *tile, int row, int count, int m, float *out, long stride, int add) {
    for (int part = 0; part < count; part += 16) {
        int wide = count - part < 16 ? count - part : 16;
        f32x16 scale = L->kind == INT8 ? some(L->scale + row + part, wide) : all(1);
        f32x16 bias = L->bias ? some(L->bias + row + part, wide) : all(0);
        for (int i = 0; i < m; i++) {
            float *place = out + i * stride + row + part;
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
            settle(L, tile, row, count, n - first < G * PARTS ? n - first : G * PARTS, out + first * stride, stride, add);
        }
    }
}

/* --- the small parts --- */

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

/* --- threads --- */

typedef struct {
    _Alignas(64) atomic_int taken[8]; /* of a thread's share of what the current phases hand out; reset four phases later */
} Share;

typedef struct {
    atomic_int arrived, generation;
    Share *shares; /* one per thread */
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

#define WHOLE(n, unit) (((n) + (unit) - 1) / (unit) * (unit))

/* Where each thread's share of what a phase hands out begins: of `total` units in pieces of some size, or of what is not
   of one length. */
typedef struct { int total, size; const int *begins; } Work;

INLINE int share(const Work *work, int thread, int threads) {
    if (work->begins) return work->begins[thread];
    int begin = (int)WHOLE((long)work->total * thread / threads, work->size);
    return begin < work->total ? begin : work->total;
}

/* The next piece, or 0 when all are handed out: of this thread's own share, piece after piece, so that it reads memory in
   one long run; then what is left of the others' shares, so that all end together. */
static int piece(Team *team, int phase, Work work, int me, int threads, int *begin, int *end) {
    for (int k = 0; k < threads; k++) {
        int whose = (me + k) % threads, first = share(&work, whose, threads), last = share(&work, whose + 1, threads);
        atomic_int *taken = &team->shares[whose].taken[phase & 7];
        if (first + atomic_load_explicit(taken, memory_order_relaxed) >= last) continue;
        *begin = first + atomic_fetch_add(taken, work.size);
        if (*begin >= last) continue;
        *end = *begin + work.size < last ? *begin + work.size : last;
        return 1;
    }
    return 0;
}

enum { PIECE = 32 };

/* What the first layer reads of a token. */
static void embed(const Model *m, int token, int position, float *x) {
    const Linear *E = &m->embedding;
    const float *place = m->position_vectors ? m->position_vectors + (long)position * m->d_model : NULL;
    for (long i = 0, at = (long)token * m->d_model; i < m->d_model; i++, at++) {
        x[i] = E->kind == F32 ? ((const float *)E->weight)[at] : bf16_value(((const uint16_t *)E->weight)[at]);
        if (place) x[i] += place[i];
    }
}

/* Where each thread's share of the heads of n texts begins, so that all read as many keys; begins has threads + 1 places. */
static void share_heads(const int32_t *positions, int n, int G, int threads, int *begins) {
    long keys = 0, read = 0;
    for (int i = 0; i < n; i++) keys += positions[i] + 1;
    for (int thread = 0, at = 0; thread <= threads; thread++) {
        for (; read < keys * G * thread / threads; at++) read += positions[at / G] + 1;
        begins[thread] = at;
    }
}

/* Returns 0, or 1 where memory is missing. cos_ and sin_ (positions, d_rotary) are those of all positions; hidden
   (n, d_model) is what the last norm gives; logits (n_logits, rows of the head) are those of the tokens logit_rows. */
int step(const Model *m, int n, const int32_t *tokens, const int32_t *slots, const int32_t *positions, const float *cos_,
         const float *sin_, float *hidden, const int32_t *logit_rows, int n_logits, float *logits, int threads) {
    int D = m->d_model, d = m->d_head, H = m->n_heads, G = m->n_kv_heads, wide = H * d, narrow = G * d;
    int qkv = wide + 2 * narrow, most = m->d_mlp > D ? m->d_mlp : D, longest = 0;
    if (wide > most) most = wide;
    for (int i = 0; i < n; i++)
        if (positions[i] > longest) longest = positions[i];
    most = (int)WHOLE(most, 32);  /* all that follows begins on a cache line: a load across two takes twice as long */
    size_t shared_bytes = WHOLE((size_t)n * (qkv + wide + 2 * m->d_mlp + 2 * D) * 4, 64);
    size_t inputs_bytes = WHOLE((size_t)n, PARTS) * most * 4, rows_bytes = ROWS_AT_ONCE * (size_t)most * 4;
    size_t private_bytes = (size_t)n * most * 4 + inputs_bytes + rows_bytes + WHOLE((size_t)longest * 4 + 128, 64);
    char *memory = aligned_alloc(64, shared_bytes + threads * (private_bytes + sizeof(Share)));
    if (!memory) return 1;
    float *q_k_v = (float *)memory, *attended = q_k_v + (long)n * qkv, *inner = attended + (long)n * wide;
    float *gates = inner + (long)n * m->d_mlp, *aside = gates + (long)n * m->d_mlp, *x = aside + (long)n * D;
    Team team = {.shares = (Share *)(memory + shared_bytes + threads * private_bytes)};
    memset(team.shares, 0, threads * sizeof(Share));
    int heads[threads + 1]; /* of all texts, one after the other: which are whose */
#pragma omp parallel num_threads(threads)
    {
        /* OpenMP may start fewer threads than were asked for, never more: work is shared among those that are here. */
        int me = omp_get_thread_num(), all = omp_get_num_threads(), phase = 0, begin, end;
        char *mine = memory + shared_bytes + me * private_bytes;
        Scratch s = {(float *)mine, mine + (size_t)n * most * 4, NULL, NULL};
        s.rows = s.inputs + inputs_bytes;
        s.scores = (float *)(s.rows + rows_bytes);
#define DONE (wait_for_all(&team, all), atomic_store(&team.shares[me].taken[(phase + 4) & 7], 0), phase++)
        if (me == 0) share_heads(positions, n, G, all, heads);
        for (int i = me; i < n; i += all) embed(m, tokens[i], positions[i], x + (long)i * D);
        DONE;
        for (int index = 0; index < m->n_layers; index++) {
            const Layer *l = &m->layers[index];
            for (int i = 0; i < n; i++) normalise(&l->attention_norm, m->layer_norm, m->eps, x + i * D, s.x + i * D, D);
            prepare(&l->query, s.x, n, s.inputs);
            while (piece(&team, phase, (Work){qkv, PIECE, NULL}, me, all, &begin, &end)) {
                const Linear *parts[3] = {&l->query, &l->key, &l->value};
                for (int p = 0, offset = 0; p < 3; offset += parts[p++]->rows) {
                    int from = begin > offset ? begin - offset : 0, to = end - offset;
                    if (to > parts[p]->rows) to = parts[p]->rows;
                    if (from < to) product(parts[p], s.x, n, from, to, q_k_v + offset, qkv, 0, &s);
                }
            }
            DONE;
            while (piece(&team, phase, (Work){n * (H + G), 4, NULL}, me, all, &begin, &end))
                for (int task = begin; task < end; task++) {
                    int i = task / (H + G), h = task % (H + G);
                    float *head = q_k_v + (long)i * qkv + h * d;
                    const Norm *norm = h < H ? &l->query_norm : &l->key_norm;
                    if (norm->weight) normalise(norm, 0, m->eps, head, head, d);
                    if (m->d_rotary) {
                        long angle = (long)positions[i] * m->d_rotary;
                        rotate(head, cos_ + angle, sin_ + angle, m->d_rotary);
                    }
                    if (h < H) continue;
                    long at = (((long)slots[i] * G + h - H) * m->room + positions[i]) * row_size(m->cache_kind, d);
                    store_row((char *)l->keys + at, m->cache_kind, head, d);
                    store_row((char *)l->values + at, m->cache_kind, head + narrow, d);
                }
            DONE;
            while (piece(&team, phase, (Work){n * G, 1, heads}, me, all, &begin, &end))
                for (int task = begin; task < end; task++) {
                    int i = task / G, g = task % G;
                    const float *q = q_k_v + (long)i * qkv + g * (H / G) * d;
                    float *y = attended + (long)i * wide + g * (H / G) * d;
                    switch (m->cache_kind) {
                        case F32: attend_as(m, l, q, y, slots[i], g, positions[i], s.scores, F32); break;
                        case BF16: attend_as(m, l, q, y, slots[i], g, positions[i], s.scores, BF16); break;
                        default: attend_as(m, l, q, y, slots[i], g, positions[i], s.scores, INT8);
                    }
                }
            DONE;
            prepare(&l->output, attended, n, s.inputs);
            while (piece(&team, phase, (Work){D, PIECE, NULL}, me, all, &begin, &end))
                product(&l->output, attended, n, begin, end, m->parallel_residual ? aside : x, D, !m->parallel_residual, &s);
            DONE;
            for (int i = 0; i < n; i++) normalise(&l->mlp_norm, m->layer_norm, m->eps, x + i * D, s.x + i * D, D);
            prepare(&l->up, s.x, n, s.inputs);
            while (piece(&team, phase, (Work){m->d_mlp, PIECE, NULL}, me, all, &begin, &end)) {
                product(&l->up, s.x, n, begin, end, inner, m->d_mlp, 0, &s);
                if (l->gate.weight) product(&l->gate, s.x, n, begin, end, gates, m->d_mlp, 0, &s);
                for (int i = 0; i < n; i++)
                    activate_all(inner + (long)i * m->d_mlp + begin, l->gate.weight ? gates + (long)i * m->d_mlp + begin : NULL, end - begin,
                                 m->activation);
            }
            DONE;
            prepare(&l->down, inner, n, s.inputs);
            while (piece(&team, phase, (Work){D, PIECE, NULL}, me, all, &begin, &end)) {
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
        prepare(&m->head, s.x, n_logits, s.inputs);
        while (piece(&team, phase, (Work){n_logits ? m->head.rows : 0, 4 * PIECE, NULL}, me, all, &begin, &end))
            product(&m->head, s.x, n_logits, begin, end, logits, m->head.rows, 0, &s);
    }
    free(memory);
    return 0;
}

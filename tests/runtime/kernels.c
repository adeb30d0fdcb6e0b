/* Each kernel of the compiled step alone, at sizes of every remainder, against the same written plainly in double.

   Every array has exactly the size that the step gives it, so that the address sanitizer sees one byte too far. Prints
   what differs and how many cases there were; ends with status 1 where something differs. */

#include "step.c"

#include <stdio.h>

static long cases, failures;
static uint32_t state = 1;

static float draw(void) { /* -1 .. 1 */
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}
static void *room(size_t bytes) {
    void *memory = malloc(bytes);
    if (!memory) abort();
    memset(memory, 0xA5, bytes);
    return memory;
}
static float *some_floats(long n) {
    float *x = room(n * sizeof(float));
    for (long i = 0; i < n; i++) x[i] = draw();
    return x;
}
static void expect(const char *kernel, long where, double found, double wanted, double tolerance) {
    cases++;
    if (fabs(found - wanted) <= tolerance) return; /* not a number fails */
    if (failures++ < 20) printf("%s, case %ld: %.9g, not %.9g\n", kernel, where, found, wanted);
}
static double as_stored(float x, int bf16) { return bf16 ? bf16_value(to_bf16(x)) : x; }

/* --- matrices --- */

/* A weight of a matrix, by the definition of its format. */
static double weight(const Linear *L, long r, long c) {
    long cols = L->cols;
    if (L->kind == F32) return ((const float *)L->weight)[r * cols + c];
    if (L->kind == BF16) return bf16_value(((const uint16_t *)L->weight)[r * cols + c]);
    if (L->kind == INT8) return (double)((const int8_t *)L->weight)[r * cols + c] * L->scale[r];
    const uint8_t *row = (const uint8_t *)L->weight + r * cols / 2;
    long block = c / 64, half = (block + 1) * 64 <= cols ? 32 : 16, at = c - 64 * block;
    int bits = at < half ? row[32 * block + at] & 15 : row[32 * block + at - half] >> 4;
    return (double)(bits - 8) * L->scale[r * cols / 32 + c / 32];
}

static Linear matrix(int kind, int rows, int cols, int with_bias) {
    long count = (long)rows * cols, bytes = kind == F32 ? 4 * count : kind == BF16 ? 2 * count : kind == INT8 ? count : count / 2;
    char *stored = room(bytes);
    for (long i = 0; i < count && kind == F32; i++) ((float *)stored)[i] = draw();
    for (long i = 0; i < count && kind == BF16; i++) ((uint16_t *)stored)[i] = to_bf16(draw());
    for (long i = 0; i < bytes && kind >= INT8; i++) stored[i] = (char)(int)(127 * draw());
    float *scale = kind == INT8 ? some_floats(rows) : kind == INT4 ? some_floats(count / 32) : NULL;
    return (Linear){stored, scale, with_bias ? some_floats(rows) : NULL, kind, rows, cols, 0};
}

/* What a product of matrix rows `begin` and on gave for n inputs: y = W x + b, or more by that. */
static void expect_product(const char *kernel, const Linear *L, const float *x, int n, int begin, int add, int bf16, double rounding,
                           const float *before, const float *out) {
    for (int i = 0; i < n; i++)
        for (int r = 0; r < L->rows; r++) {
            double wanted = before[i * L->rows + r], size = 1e-3;
            if (r >= begin) {
                double y = L->bias ? L->bias[r] : 0;
                for (int c = 0; c < L->cols; c++) {
                    double w = weight(L, r, c), v = as_stored(x[i * L->cols + c], bf16);
                    y += w * v;
                    size += fabs(w * v);
                }
                wanted = add ? wanted + y : y;
            }
            expect(kernel, L->kind * 100000000L + n * 1000000L + L->rows * 1000 + L->cols, out[i * L->rows + r], wanted, rounding * size + 1e-6);
        }
}

static void test_product(int kind, int rows, int cols, int n, int begin, int add) {
    Linear L = matrix(kind, rows, cols, add);
    int most = WHOLE(cols, 32), bf16 = as_bf16(&L), in_tiles = !row_by_row(&L, n);
    float *x = some_floats((long)n * cols), *out = some_floats((long)n * rows), *before = room((long)n * rows * 4);
    memcpy(before, out, (long)n * rows * 4);
    Scratch s = {NULL, aligned_alloc(64, WHOLE((size_t)WHOLE(n, PARTS) * most * 4, 64)), NULL, NULL};
    s.rows = aligned_alloc(64, ROWS_AT_ONCE * (size_t)most * 4);
    prepare(&L, x, n, s.inputs);
    product(&L, x, n, begin, rows, out, rows, add, &s);
    /* tiles take four bits times their scale rounded to bf16 */
    expect_product("product", &L, x, n, begin, add, bf16, kind == INT4 && bf16 && in_tiles ? 1.0 / 256 : 1e-6, before, out);
    free((void *)L.weight), free((void *)L.scale), free((void *)L.bias);
    free(x), free(out), free(before), free(s.inputs), free(s.rows);
}

#if READS_PROMPTS
/* As the product of many inputs gets them. */
static char *some_inputs(const float *x, int n, int cols, int bf16) {
    long bytes = input_bytes(cols, bf16);
    char *inputs = aligned_alloc(64, WHOLE((size_t)WHOLE(n, INPUTS) * bytes, 64));
    for (int i = 0; i < n; i++) put_inputs(x + (long)i * cols, cols, bf16, inputs + i * bytes);
    return inputs;
}

static void test_panels(int kind, int rows, int cols, int n, int begin, int add) {
    Linear L = matrix(kind, rows, cols, add);
    int bf16 = as_bf16(&L), most = WHOLE(cols + 3, 32);
    float *x = some_floats((long)n * cols), *out = some_floats((long)n * rows), *before = room((long)n * rows * 4);
    memcpy(before, out, (long)n * rows * 4);
    char *inputs = some_inputs(x, n, cols, bf16);
    Own own = {.panels = {aligned_alloc(64, (size_t)most * PANEL_UNIT)}, .rows = aligned_alloc(64, (size_t)most * PANEL * 4),
               .tiles = {aligned_alloc(64, INPUTS * PANEL * 4)}};
    panels_product(&L, inputs, n, begin, rows, out, rows, add, &own);
    expect_product("panels", &L, x, n, begin, add, bf16, kind == INT4 && bf16 ? 1.0 / 256 : 1e-6, before, out);
    free((void *)L.weight), free((void *)L.scale), free((void *)L.bias);
    free(x), free(out), free(before), free(inputs), free(own.panels[0]), free(own.rows), free(own.tiles[0]);
}
#endif

/* --- the small parts --- */

static void test_norm(int d, int layer_norm, int with_bias) {
    float *x = some_floats(d), *out = room(d * 4L);
    Norm norm = {some_floats(d), with_bias ? some_floats(d) : NULL};
    normalise(&norm, layer_norm, 1e-5f, x, out, d);
    double mean = 0, square = 0;
    for (int i = 0; i < d && layer_norm; i++) mean += (double)x[i] / d;
    for (int i = 0; i < d; i++) square += (x[i] - mean) * (x[i] - mean) / d;
    for (int i = 0; i < d; i++) {
        double wanted = (x[i] - mean) / sqrt(square + (double)1e-5f) * norm.weight[i] + (with_bias ? norm.bias[i] : 0);
        expect("norm", d, out[i], wanted, 1e-5);
    }
    free(x), free(out), free((void *)norm.weight), free((void *)norm.bias);
}

static double activation(double x, int kind) {
    switch (kind) {
        case GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
        case GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case QUICK_GELU: return x / (1 + exp(-1.702 * x));
        case SILU: return x / (1 + exp(-x));
        case RELU: return x > 0 ? x : 0;
        case RELU_SQUARED: return x > 0 ? x * x : 0;
        default: return tanh(x);
    }
}

static void test_activation(int n, int kind, int gated) {
    float *x = some_floats(n), *gate = gated ? some_floats(n) : NULL, *out = room(n * 4L);
    for (int i = 0; i < n; i++) x[i] *= 12;
    for (int i = 0; i < n && gated; i++) gate[i] *= 12;
    memcpy(out, x, n * 4L);
    activate_all(out, gate, n, kind);
    for (int i = 0; i < n; i++) {
        double wanted = gated ? activation(gate[i], kind) * x[i] : activation(x[i], kind);
        expect("activation", kind * 1000 + n, out[i], wanted, 4e-6 * (1 + fabs(x[i])) * 12);
    }
    free(x), free(gate), free(out);
}

static void test_rotation(int d, int d_rotary) {
    float *head = some_floats(d), *cos_ = room(d_rotary * 4L), *sin_ = room(d_rotary * 4L), *before = room(d * 4L);
    memcpy(before, head, d * 4L);
    for (int i = 0; i < d_rotary; i++) cos_[i] = cosf(i % (d_rotary / 2) + 0.5f), sin_[i] = sinf(i % (d_rotary / 2) + 0.5f);
    rotate(head, cos_, sin_, d_rotary);
    for (int i = 0; i < d; i++) {
        int half = d_rotary / 2, pair = i % half;
        double a = before[pair], b = before[pair + half], c = cos(pair + 0.5), s = sin(pair + 0.5);
        expect("rotation", d, head[i], i >= d_rotary ? before[i] : i < half ? a * c + b * s : b * c + a * s, 1e-6);
    }
    free(head), free(cos_), free(sin_), free(before);
}

/* --- attention --- */

static double kept(const char *row, int kind, int d, int i) {
    return row_value(row, kind, i) * (double)row_scale(row, kind, d);
}

/* A text of keys and values in scattered pages. */
typedef struct { char *keys, *values; int32_t *table; long pool, size; Model model; Layer layer; } Text;

static Text some_text(int kind, int d, int H, int G, int last, int window) {
    int n_pages = last / PAGE + 1, pages_of_pool = n_pages + 1;
    Text t = {.size = row_size(kind, d), .table = room(n_pages * 4L)};
    t.pool = pages_of_pool * PAGE * t.size, t.keys = room(G * t.pool), t.values = room(G * t.pool);
    for (int page = 0; page < n_pages; page++) t.table[page] = (page * 7 + 3) % pages_of_pool;
    for (int page = 1; page < n_pages; page++) /* a pool of 7 k pages would repeat itself */
        if (pages_of_pool % 7 == 0) t.table[page] = n_pages - page;
    if (pages_of_pool % 7 == 0) t.table[0] = n_pages;
    float *row = room(d * 4L);
    for (int g = 0; g < G; g++)
        for (int at = 0; at <= last; at++) {
            long place = g * t.pool + (t.table[at / PAGE] * (long)PAGE + at % PAGE) * t.size;
            for (int part = 0; part < 2; part++) {
                for (int i = 0; i < d; i++) row[i] = draw();
                char *stored = (part ? t.values : t.keys) + place;
                store_row(stored, kind, row, d);
                double bound = kind == F32 ? 0 : kind == BF16 ? 1.0 / 256 : 0.5 / 127 + 1e-6;
                for (int i = 0; i < d; i++) expect("a row of the cache", kind, kept(stored, kind, d, i), row[i], bound);
            }
        }
    free(row);
    t.model = (Model){.n_heads = H, .n_kv_heads = G, .d_head = d, .cache_kind = kind};
    t.layer = (Layer){.keys = t.keys, .values = t.values, .scale = 1.0f / sqrtf((float)d), .window = window, .room = pages_of_pool * PAGE};
    return t;
}
static void free_text(Text *t) { free(t->keys), free(t->values), free(t->table); }

/* What attention of a token to its text gave: its heads' y for queries q. */
static void expect_attention(const char *kernel, const Text *t, const float *q, int position, const float *y, double tolerance) {
    const int d = t->model.d_head, H = t->model.n_heads, G = t->model.n_kv_heads, kind = t->model.cache_kind, window = t->layer.window;
    double *weights = room((position + 1) * sizeof(double));
    int first = window && position >= window ? position - window + 1 : 0;
    for (int h = 0; h < H; h++) {
        const char *k = t->keys + h / (H / G) * t->pool, *v = t->values + h / (H / G) * t->pool;
        double total = 0;
        for (int at = first; at <= position; at++) {
            double dot = 0;
            for (int i = 0; i < d; i++) dot += q[h * d + i] * kept(k + (t->table[at / PAGE] * (long)PAGE + at % PAGE) * t->size, kind, d, i);
            total += weights[at] = exp(dot * t->layer.scale);
        }
        for (int i = 0; i < d; i++) {
            double wanted = 0;
            for (int at = first; at <= position; at++)
                wanted += weights[at] / total * kept(v + (t->table[at / PAGE] * (long)PAGE + at % PAGE) * t->size, kind, d, i);
            expect(kernel, ((long)kind * 1000 + d) * 1000 + position, y[h * d + i], wanted, tolerance);
        }
    }
    free(weights);
}

static void test_attention(int kind, int d, int H, int G, int position, int window) {
    Text t = some_text(kind, d, H, G, position, window);
    float *q = some_floats((long)H * d), *y = room((long)H * d * 4), *scores = room(WHOLE((size_t)position * 4 + 128, 64));
    for (int g = 0; g < G; g++) attend(&t.model, &t.layer, q + g * (H / G) * d, y + g * (H / G) * d, t.table, g, position, scores);
    expect_attention("attention", &t, q, position, y, 5e-6);
    free(q), free(y), free(scores), free_text(&t);
}

#if READS_PROMPTS
static void test_attention_together(int kind, int bf16, int d, int H, int G, int position, int count, int window) {
    Text t = some_text(kind, d, H, G, position + count - 1, window);
    const long qkv = (H + 2 * G) * d, stride = input_bytes(H * d, bf16);
    float *q_k_v = some_floats(count * qkv), *y = room((long)H * d * 4), *q = room((long)H * d * 4);
    char *attended = room(count * stride), *memory = aligned_alloc(64, lay_out_blockwise(&t.model, NULL, &(Blockwise){0}));
    Blockwise b;
    lay_out_blockwise(&t.model, memory, &b);
    for (int g = 0; g < G; g++) attend_together(&t.model, &t.layer, q_k_v, qkv, t.table, position, count, g, bf16, attended, stride, &b);
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < H * d; j++) {
            q[j] = (float)as_stored(q_k_v[i * qkv + j], bf16);
            y[j] = bf16 ? bf16_value(((uint16_t *)(attended + i * stride))[j]) : ((float *)(attended + i * stride))[j];
        }
        expect_attention("attention together", &t, q, position + i, y, bf16 ? 1.0 / 100 : 5e-6);
    }
    free(q_k_v), free(y), free(q), free(attended), free(memory), free_text(&t);
}
#endif

/* --- threads --- */

static void test_pieces(int total, int size, int threads) {
    Share *shares = aligned_alloc(64, threads * sizeof(Share));
    memset(shares, 0, threads * sizeof(Share));
    Team team = {.shares = shares};
    atomic_int *taken = room(total * sizeof(atomic_int) + 1);
    memset((void *)taken, 0, total * sizeof(atomic_int));
#pragma omp parallel num_threads(threads)
    {
        int begin, end, me = omp_get_thread_num(), all = omp_get_num_threads();
        while (piece(&team, 1, (Work){total, size, NULL}, me, all, &begin, &end))
            for (int i = begin; i < end; i++) atomic_fetch_add(&taken[i], 1);
        wait_for_all(&team, all);
    }
    for (int i = 0; i < total; i++) expect("pieces", total, taken[i], 1, 0);
    free((void *)taken), free(shares);
}

#define EACH_OF(name, ...)                                    \
    for (int name##s[] = {__VA_ARGS__}, name##_at = 0, name;  \
         name##_at < (int)(sizeof name##s / sizeof(int)) && (name = name##s[name##_at], 1); name##_at++)

int main(void) {
    EACH_OF(kind, F32, BF16, INT8)
        EACH_OF(cols, 1, 3, 7, 17, 32, 33, 64, 65, 160)
            EACH_OF(rows, 1, 3, 7, 8, 17, 33, 65)
                EACH_OF(n, 1, 2, 3, 5, 7, 9, 16, 17, 31, 32) test_product(kind, rows, cols, n, rows / 3, n % 2);
    EACH_OF(cols, 32, 64, 96, 160, 1056)
        EACH_OF(rows, 1, 3, 7, 8, 17, 33, 65)
            EACH_OF(n, 1, 2, 3, 5, 9, 17, 32) test_product(INT4, rows, cols, n, rows / 3, n % 2);
    EACH_OF(kind, F32, BF16, INT8) /* inputs that do not fit into the cache, taken in blocks */
        EACH_OF(n, 7, 16, 32) test_product(kind, 33, 4128, n, 0, 1);
    EACH_OF(d, 1, 3, 7, 15, 16, 17, 33, 64, 65, 127, 1000)
        for (int k = 0; k < 4; k++) test_norm(d, k & 1, k >> 1);
    EACH_OF(n, 1, 3, 7, 15, 16, 17, 33, 65, 128)
        for (int kind = GELU; kind <= TANH; kind++) test_activation(n, kind, 0), test_activation(n, kind, 1);
    EACH_OF(half, 1, 3, 7, 16, 17, 33) test_rotation(2 * half, 2 * half), test_rotation(2 * half + 5, 2 * half);
    EACH_OF(kind, F32, BF16, INT8)
        EACH_OF(d, 1, 3, 7, 16, 17, 33, 64, 65, 80, 128)
            EACH_OF(position, 0, 2, 6, 15, 16, 31, 32, 33, 64, 100, 191)
                EACH_OF(window, 0, 1, 5, 37) {
                    test_attention(kind, d, 1, 1, position, window);
                    test_attention(kind, d, 6, 2, position, window);
                }
#if READS_PROMPTS
    EACH_OF(kind, F32, BF16, INT8)
        EACH_OF(cols, 1, 3, 17, 32, 65, 160)
            EACH_OF(rows, 1, 8, 33, 65)
                EACH_OF(n, 1, 11, 12, 13, 40) test_panels(kind, rows, cols, n, rows / 3, n % 2);
    EACH_OF(cols, 32, 96, 160)
        EACH_OF(n, 1, 12, 40) test_panels(INT4, 33, cols, n, 11, n % 2);
    EACH_OF(kind, F32, BF16, INT8)
        EACH_OF(bf16, 0, BF16_DOT)
            EACH_OF(d, 2, 6, 16, 34, 64, 80)
                EACH_OF(position, 0, 31, 250)
                    EACH_OF(count, 2, 13, 32)
                        EACH_OF(window, 0, 5, 37) {
                            test_attention_together(kind, bf16, d, 1, 1, position, count, window);
                            test_attention_together(kind, bf16, d, 6, 2, position, count < 17 ? count : 32, window);
                        }
#endif
    EACH_OF(total, 0, 1, 3, 7, 33, 65, 1000)
        EACH_OF(size, 1, 4, 32)
            EACH_OF(threads, 1, 2, 3, 5) test_pieces(total, size, threads);
    printf("%ld cases, %ld failures\n", cases, failures);
    return failures > 0;
}

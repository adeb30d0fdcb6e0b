/* One decoding step of a decoder-only Transformer on the CPU: a few tokens of several texts through all layers. Many
   tokens go through prompt.h.

   What it computes is `Decoder.read` in decoder.py followed by `unembed`; what it adds is speed. With few tokens a
   step is bound by reading the weights, so each is read once, by all threads at once, in the format in which it is
   stored, and nothing else costs more than a small share: one parallel region for the whole step, six barriers a
   layer, rows of a matrix handed out in pieces so that a thread that is held up does not hold up the others.

   Built by compiler.py with whatever C compiler there is; it needs GNU C's vector types. With AVX512-BF16 the
   products of bf16 and quantised weights take bf16 inputs and sum in float32, two products an instruction. */

#include "attention.h"
#include "experts.h"
#include "layers.h"
#include "matmul.h"
#include "prompt.h"
#include "threads.h"

/* What Python compares with its own structures: versions, then each one's size, and place and size of its fields. Writes
   as many figures as there is room for; returns how many there are. */
int layout(int32_t *out, int room) {
#define FIELD(type, name) offsetof(type, name), sizeof(((type *)0)->name)
    static const int32_t all[] = {
        ABI_VERSION, MAX_TOKENS, PAGE,
        sizeof(Linear), FIELD(Linear, weight), FIELD(Linear, scale), FIELD(Linear, bias), FIELD(Linear, kind),
        FIELD(Linear, rows), FIELD(Linear, cols), FIELD(Linear, pad),
        sizeof(Norm), FIELD(Norm, weight), FIELD(Norm, bias),
        sizeof(Layer), FIELD(Layer, attention_norm), FIELD(Layer, mlp_norm), FIELD(Layer, query_norm),
        FIELD(Layer, key_norm), FIELD(Layer, query), FIELD(Layer, key), FIELD(Layer, value), FIELD(Layer, output),
        FIELD(Layer, gate), FIELD(Layer, up), FIELD(Layer, down), FIELD(Layer, router), FIELD(Layer, experts),
        FIELD(Layer, keys), FIELD(Layer, values), FIELD(Layer, scale), FIELD(Layer, window), FIELD(Layer, room),
        FIELD(Layer, n_experts), FIELD(Layer, n_active), FIELD(Layer, d_expert), FIELD(Layer, over_all), FIELD(Layer, pad),
        sizeof(Model), FIELD(Model, n_layers), FIELD(Model, d_model), FIELD(Model, n_heads),
        FIELD(Model, n_kv_heads), FIELD(Model, d_head), FIELD(Model, d_mlp), FIELD(Model, d_rotary),
        FIELD(Model, activation), FIELD(Model, layer_norm), FIELD(Model, parallel_residual),
        FIELD(Model, cache_kind), FIELD(Model, eps), FIELD(Model, layers), FIELD(Model, final_norm),
        FIELD(Model, embedding), FIELD(Model, head), FIELD(Model, position_vectors),
        sizeof(AddedVector), FIELD(AddedVector, vector), FIELD(AddedVector, layer), FIELD(AddedVector, begin),
        FIELD(AddedVector, end), FIELD(AddedVector, pad),
    };
    int count = sizeof all / sizeof *all;
    for (int i = 0; i < count && i < room; i++) out[i] = all[i];
    return count;
}

enum { PIECE = 32 };

/* Where each thread's share of the heads of n texts begins, so that all read as many keys; begins has threads + 1 places. */
static void share_heads(const int32_t *positions, int n, int G, int threads, int *begins) {
    long keys = 0, read = 0;
    for (int i = 0; i < n; i++) keys += positions[i] + 1;
    for (int thread = 0, at = 0; thread <= threads; thread++) {
        for (; read < keys * G * thread / threads; at++) read += positions[at / G] + 1;
        begins[thread] = at;
    }
}

/* Returns 0, or 1 where memory is missing. tables (slots, table_size) name the pages of each slot's text; cos_ and sin_ (positions, d_rotary) are those of all positions; hidden
   (n, d_model) is what the last norm gives, or NULL; logits (n_logits, rows of the head) are those of the tokens logit_rows; additions
   change the stream of the rows that they name, and of no other. */
int step(const Model *m, int n, const int32_t *tokens, const int32_t *slots, const int32_t *positions, const int32_t *tables,
         int table_size, const float *cos_, const float *sin_, float *hidden, const int32_t *logit_rows, int n_logits, float *logits, int threads,
         const AddedVector *additions, int n_additions) {
    int D = m->d_model, d = m->d_head, H = m->n_heads, G = m->n_kv_heads, wide = H * d, narrow = G * d;
    int qkv = wide + 2 * narrow, hidden_units = m->d_mlp, most = m->d_mlp > D ? m->d_mlp : D, longest = 0, E = 0, A = 0;
    if (wide > most) most = wide;
    for (int index = 0; index < m->n_layers; index++) {
        const Layer *l = &m->layers[index];
        if (l->n_experts > E) E = l->n_experts;
        if (l->n_active > A) A = l->n_active;
        if (l->d_expert > most) most = l->d_expert;
        if (l->n_active * l->d_expert > hidden_units) hidden_units = l->n_active * l->d_expert;
    }
    for (int i = 0; i < n; i++)
        if (positions[i] > longest) longest = positions[i];
    most = (int)WHOLE(most, 32);  /* all that follows begins on a cache line: a load across two takes twice as long */
    size_t shared_bytes = WHOLE((size_t)n * (qkv + wide + 2 * hidden_units + (2 + A) * D + E) * 4, 64);
    size_t inputs_bytes = WHOLE((size_t)n, PARTS) * most * 4, rows_bytes = ROWS_AT_ONCE * (size_t)most * 4;
    size_t routing_bytes = E ? WHOLE((size_t)(n * D + 3 * n * A + 2 * E + 1) * 4, 64) : 0;
    size_t private_bytes = (size_t)n * most * 4 + inputs_bytes + rows_bytes + WHOLE((size_t)longest * 4 + 128, 64) + routing_bytes;
    char *memory = aligned_alloc(64, shared_bytes + threads * (private_bytes + sizeof(Share)));
    if (!memory) return 1;
    float *q_k_v = (float *)memory, *attended = q_k_v + (long)n * qkv, *inner = attended + (long)n * wide;
    float *gates = inner + (long)n * hidden_units, *aside = gates + (long)n * hidden_units, *x = aside + (long)n * D;
    float *given = x + (long)n * D, *router_scores = given + (long)n * A * D;
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
        Routing r = {.gathered = (float *)(mine + private_bytes - routing_bytes)};
        r.shares = r.gathered + (long)n * D;
        r.tokens = (int32_t *)(r.shares + n * A), r.places = r.tokens + n * A, r.begins = r.places + n * A, r.used = r.begins + E + 1;
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
                    int i = task / (H + G);
                    place_head(m, l, q_k_v + (long)i * qkv, task % (H + G), tables + (long)slots[i] * table_size, positions[i], cos_, sin_);
                }
            DONE;
            while (piece(&team, phase, (Work){n * G, 1, heads}, me, all, &begin, &end))
                for (int task = begin; task < end; task++) {
                    int i = task / G, g = task % G;
                    const float *q = q_k_v + (long)i * qkv + g * (H / G) * d;
                    float *y = attended + (long)i * wide + g * (H / G) * d;
                    const int32_t *table = tables + (long)slots[i] * table_size;
                    attend(m, l, q, y, table, g, positions[i], s.scores);
                }
            DONE;
            prepare(&l->output, attended, n, s.inputs);
            while (piece(&team, phase, (Work){D, PIECE, NULL}, me, all, &begin, &end))
                product(&l->output, attended, n, begin, end, m->parallel_residual ? aside : x, D, !m->parallel_residual, &s);
            DONE;
            for (int i = 0; i < n; i++) normalise(&l->mlp_norm, m->layer_norm, m->eps, x + i * D, s.x + i * D, D);
            if (l->n_experts) {
                prepare(&l->router, s.x, n, s.inputs);
                while (piece(&team, phase, (Work){l->n_experts, 4, NULL}, me, all, &begin, &end))
                    product(&l->router, s.x, n, begin, end, router_scores, l->n_experts, 0, &s);
                DONE;
                route(l, router_scores, n, &r);
                int opened = -1, closed = -1;
                while (piece(&team, phase, (Work){r.n_used * l->d_expert, PIECE, NULL}, me, all, &begin, &end))
                    open_experts(l, begin, end, D, m->activation, &opened, inner, gates, &r, &s);
                DONE;
                while (piece(&team, phase, (Work){r.n_used * D, PIECE, NULL}, me, all, &begin, &end))
                    close_experts(l, begin, end, D, &closed, inner, given, &r, &s);
                DONE;
            } else {
                prepare(&l->up, s.x, n, s.inputs);
                while (piece(&team, phase, (Work){m->d_mlp, PIECE, NULL}, me, all, &begin, &end)) {
                    product(&l->up, s.x, n, begin, end, inner, m->d_mlp, 0, &s);
                    if (l->gate.weight) product(&l->gate, s.x, n, begin, end, gates, m->d_mlp, 0, &s);
                    for (int i = 0; i < n; i++)
                        activate_all(inner + (long)i * m->d_mlp + begin, l->gate.weight ? gates + (long)i * m->d_mlp + begin : NULL,
                                     end - begin, m->activation);
                }
                DONE;
                prepare(&l->down, inner, n, s.inputs);
            }
            while (piece(&team, phase, (Work){D, PIECE, NULL}, me, all, &begin, &end)) {
                if (l->n_experts) add_experts(l, n, begin, end, D, given, &r, x);
                else product(&l->down, inner, n, begin, end, x, D, 1, &s);
                add_beside(m, n, NULL, begin, end, index, aside, additions, n_additions, x);
            }
            DONE;
        }
        for (int i = 0; i < n; i++) {
            normalise(&m->final_norm, m->layer_norm, m->eps, x + i * D, s.x + i * D, D);
            if (me == 0 && hidden) memcpy(hidden + i * D, s.x + i * D, D * sizeof(float));
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

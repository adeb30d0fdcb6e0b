/* A prompt through all layers: what `step` in step.c computes, for many tokens.

   Products are bound by arithmetic here, not by memory: inputs are kept as products take them (bf16 or float32), weights are
   packed in panels that all tokens meet, and attention goes block by block. The stream, the sums and what norms and
   activations compute are float32. */

#ifndef PROMPT_H
#define PROMPT_H

#include "layers.h"
#include "matmul.h"
#include "threads.h"

/* Whether this processor's prompts are computed here: with vectors of 16 floats; those with matrix units (AMX) are
   faster by PyTorch's libraries, which use them. */
#if VECTOR_BYTES == 64 && !defined(__AMX_BF16__)
#define READS_PROMPTS 1
#include "blockwise.h"
#else
#define READS_PROMPTS 0
#endif
const int reads_prompts = READS_PROMPTS;

#if READS_PROMPTS
enum { SHORT = 8 }; /* tokens of a text up to which attention goes token by token */

/* Tokens begin .. end-1 of a step that follow each other in one text. */
typedef struct { int begin, end; } Run;

/* What the threads share, and what each has of its own. */
typedef struct {
    float *stream, *q_k_v, *aside;
    char *inputs, *attended, *inner; /* of products: normalised streams, what attention gives, hidden units */
} Prompt;
typedef struct {
    char *panels[2], *rows;
    float *tiles[2], *line;
    Scratch scratch;
    Blockwise blockwise;
} Own;

static long input_bytes(long columns, int bf16) { return columns * (bf16 ? 2 : 4) + 64; } /* odd in lines: no two of 12 in one set */

/* Which tokens belong together: texts of at most some tokens at a time, or single tokens; returns how many runs. */
static int find_runs(const Model *m, int n, const int32_t *slots, const int32_t *positions, Run *runs) {
    int count = 0, most = tokens_at_once(m);
    for (int begin = 0, end, text = 0; begin < n; begin = text) {
        for (text = begin + 1; text < n && slots[text] == slots[begin] && positions[text] == positions[text - 1] + 1; text++);
        int at_once = text - begin <= SHORT ? 1 : most;
        for (int i = begin; i < text; i = end) {
            end = i + at_once < text ? i + at_once : text;
            runs[count++] = (Run){i, end};
        }
    }
    return count;
}

/* Rows begin .. end-1 of a product of n inputs. */
static void panels_product(const Linear *L, const char *x, int n, int begin, int end, float *out, long stride, int add, Own *own) {
    const long bytes = input_bytes(L->cols, as_bf16(L));
    const int tiles = (n + INPUTS - 1) / INPUTS;
    for (int row = begin; row < end; row += PANEL) {
        pack(L, row, own->rows, own->panels[0]);
        for (int i = 0; i < n; i += INPUTS) {
            ask_for_next(L, row, i / INPUTS, tiles);
            for (int j = i; j < n && j < i + INPUTS; j++) /* the other threads' caches have what stands there */
                for (int part = 0; part < PANEL; part += 16) __builtin_prefetch(out + j * stride + row + part, 1);
            panel_tile(as_bf16(L), x + i * bytes, bytes, own->panels[0], n_units(L), own->tiles[0], PANEL, 0);
            settle(L, own->tiles[0], row, end - row < PANEL ? end - row : PANEL, n - i < INPUTS ? n - i : INPUTS, out + i * stride + row, stride, add);
        }
    }
}

/* Hidden units begin .. end-1 (at most a panel) of n inputs, as the next product takes them. */
static void give_hidden_units(const Model *m, const Layer *l, const char *x, int n, int begin, int end, char *inner, Own *own) {
    const Linear *parts[2] = {&l->up, l->gate.weight ? &l->gate : NULL};
    const int bf16 = as_bf16(&l->up), next = as_bf16(&l->down), count = end - begin;
    const long bytes = input_bytes(l->up.cols, bf16), wide = input_bytes(m->d_mlp, next);
    for (int k = 0; k < 2; k++)
        if (parts[k]) pack(parts[k], begin, own->rows, own->panels[k]);
    for (int i = 0; i < n; i += INPUTS) {
        int here = n - i < INPUTS ? n - i : INPUTS;
        for (int j = 0; j < here; j++) __builtin_prefetch(inner + (i + j) * wide + (long)begin * (next ? 2 : 4), 1);
        for (int k = 0; k < 2; k++)
            if (parts[k]) {
                ask_for_next(parts[k], begin, i / INPUTS, (n + INPUTS - 1) / INPUTS);
                panel_tile(bf16, x + i * bytes, bytes, own->panels[k], n_units(parts[k]), own->tiles[k], PANEL, 0);
                if (parts[k]->bias || parts[k]->kind == INT8) settle(parts[k], own->tiles[k], begin, count, here, own->tiles[k], PANEL, 0);
            }
        activate_all(own->tiles[0], parts[1] ? own->tiles[1] : NULL, here * PANEL, m->activation);
        for (int j = 0; j < here; j++)
            put_inputs(own->tiles[0] + j * PANEL, count, next, inner + (i + j) * wide + (long)begin * (next ? 2 : 4));
    }
}

/* Norms of the tokens begin .. end-1, as a product takes them. */
static void normalise_inputs(const Model *m, const Norm *norm, const float *x, int begin, int end, int bf16, char *inputs, float *line) {
    const long D = m->d_model;
    for (int i = begin; i < end; i++) {
        normalise(norm, m->layer_norm, m->eps, x + i * D, line, m->d_model);
        put_inputs(line, m->d_model, bf16, inputs + i * input_bytes(D, bf16));
    }
}

/* Attention of a run of tokens and one group of heads; the first token's queries, keys and values stand at `q_k_v`, what it gives goes to `attended`. */
static void attend_run(const Model *m, const Layer *l, const float *q_k_v, long qkv, const int32_t *table, int position, Run run, int group,
                       char *attended, Own *own) {
    const int bf16 = as_bf16(&l->output), wide = m->n_heads / m->n_kv_heads * m->d_head;
    const long stride = input_bytes(l->output.cols, bf16);
    if (run.end - run.begin > 1) {
        attend_together(m, l, q_k_v, qkv, table, position, run.end - run.begin, group, bf16, attended, stride, &own->blockwise);
        return;
    }
    attend(m, l, q_k_v + (long)group * wide, own->line, table, group, position, own->scratch.scores);
    put_inputs(own->line, wide, bf16, attended + (long)group * wide * (bf16 ? 2 : 4));
}

static size_t lay_out_prompt(const Model *m, size_t n, char *memory, Prompt *p) {
    size_t at = 0, all = WHOLE(n, INPUTS), D = m->d_model, wide = (size_t)m->n_heads * m->d_head, qkv = wide + 2 * (size_t)m->n_kv_heads * m->d_head;
    p->stream = (float *)take(memory, &at, n * D * 4);
    p->q_k_v = (float *)take(memory, &at, n * qkv * 4);
    p->aside = (float *)take(memory, &at, m->parallel_residual ? n * D * 4 : 0);
    p->inputs = take(memory, &at, all * (D * 4 + 64));
    p->attended = take(memory, &at, all * (wide * 4 + 64));
    p->inner = take(memory, &at, all * ((size_t)m->d_mlp * 4 + 64));
    return at;
}
static size_t lay_out_own(const Model *m, int longest, char *memory, Own *own) {
    size_t at = 0, most = m->d_mlp > m->d_model ? m->d_mlp : m->d_model, wide = (size_t)m->n_heads * m->d_head;
    most = WHOLE((wide > most ? wide : most) + 3, 32);
    for (int k = 0; k < 2; k++) {
        own->panels[k] = take(memory, &at, most * PANEL_UNIT);
        own->tiles[k] = (float *)take(memory, &at, INPUTS * PANEL * 4);
    }
    own->rows = take(memory, &at, most * PANEL * 4);
    own->line = (float *)take(memory, &at, most * 4);
    own->scratch.x = (float *)take(memory, &at, (size_t)MAX_TOKENS * m->d_model * 4);
    own->scratch.inputs = take(memory, &at, WHOLE((size_t)MAX_TOKENS, PARTS) * most * 4);
    own->scratch.rows = own->rows;
    own->scratch.scores = (float *)take(memory, &at, (size_t)longest * 4 + 128);
    char *rest = memory ? memory + at : NULL;
    return at + lay_out_blockwise(m, rest, &own->blockwise);
}

/* As `step`, for any number of tokens of texts that do not end before their prompts do; without experts. Where few of them have
   logits and nobody asks for `hidden`, the last layer gives the others' keys and values alone. */
int prompt(const Model *m, int n, const int32_t *tokens, const int32_t *slots, const int32_t *positions, const int32_t *tables,
           int table_size, const float *cos_, const float *sin_, float *hidden, const int32_t *logit_rows, int n_logits, float *logits, int threads,
           const AddedVector *additions, int n_additions) {
    const int D = m->d_model, d = m->d_head, H = m->n_heads, G = m->n_kv_heads, wide = H * d, narrow = G * d;
    const long qkv = wide + 2 * narrow;
    int longest = 0;
    for (int i = 0; i < n; i++)
        if (positions[i] > longest) longest = positions[i];
    Prompt p;
    Own measured;
    size_t shared = lay_out_prompt(m, n, NULL, &p), private = lay_out_own(m, longest, NULL, &measured), runs_bytes = WHOLE(n * sizeof(Run), 64);
    char *memory = aligned_alloc(64, shared + threads * (private + sizeof(Share)) + runs_bytes);
    if (!memory) return 1;
    lay_out_prompt(m, n, memory, &p);
    Team team = {.shares = (Share *)(memory + shared + threads * private)};
    memset(team.shares, 0, threads * sizeof(Share));
    Run *runs = (Run *)(team.shares + threads);
    const int n_runs = find_runs(m, n, slots, positions, runs), few_wanted = !hidden && n_logits <= n / SHORT;
    float *ends = hidden ? hidden : p.stream; /* what the last norm gives */
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads(), phase = 0, rows = n, begin, end;
        Own own;
        lay_out_own(m, longest, memory + shared + me * private, &own);
        for (int i = me; i < n; i += all) embed(m, tokens[i], positions[i], p.stream + (long)i * D);
        DONE;
        for (int index = 0; index < m->n_layers; index++) {
            const Layer *l = &m->layers[index];
            while (piece(&team, phase, (Work){n, 4, NULL}, me, all, &begin, &end))
                normalise_inputs(m, &l->attention_norm, p.stream, begin, end, as_bf16(&l->query), p.inputs, own.line);
            DONE;
            while (piece(&team, phase, (Work){(int)qkv, PANEL, NULL}, me, all, &begin, &end)) {
                const Linear *parts[3] = {&l->query, &l->key, &l->value};
                for (int k = 0, offset = 0; k < 3; offset += parts[k++]->rows) {
                    int from = begin > offset ? begin - offset : 0, to = end - offset < parts[k]->rows ? end - offset : parts[k]->rows;
                    if (from < to) panels_product(parts[k], p.inputs, n, from, to, p.q_k_v + offset, qkv, 0, &own);
                }
            }
            DONE;
            while (piece(&team, phase, (Work){n, 4, NULL}, me, all, &begin, &end))
                for (int i = begin; i < end; i++)
                    for (int h = 0; h < H + G; h++)
                        place_head(m, l, p.q_k_v + i * qkv, h, tables + (long)slots[i] * table_size, positions[i], cos_, sin_);
            DONE;
            const int narrows = few_wanted && index == m->n_layers - 1;
            if (narrows) rows = n_logits;
            if (!rows) break;
            while (piece(&team, phase, (Work){(narrows ? rows : n_runs) * G, 1, NULL}, me, all, &begin, &end)) {
                int first = narrows ? logit_rows[begin / G] : runs[begin / G].begin;
                Run run = narrows ? (Run){first, first + 1} : runs[begin / G];
                char *attended = p.attended + (narrows ? begin / G : first) * input_bytes(wide, as_bf16(&l->output));
                attend_run(m, l, p.q_k_v + first * qkv, qkv, tables + (long)slots[first] * table_size, positions[first], run, begin % G, attended, &own);
            }
            if (narrows && me == 0) /* they come in order: none is overwritten before it is moved */
                for (int i = 0; i < rows; i++) memmove(p.stream + (long)i * D, p.stream + (long)logit_rows[i] * D, D * sizeof(float));
            DONE;
            while (piece(&team, phase, (Work){D, PANEL, NULL}, me, all, &begin, &end))
                panels_product(&l->output, p.attended, rows, begin, end, m->parallel_residual ? p.aside : p.stream, D, !m->parallel_residual, &own);
            DONE;
            while (piece(&team, phase, (Work){rows, 4, NULL}, me, all, &begin, &end))
                normalise_inputs(m, &l->mlp_norm, p.stream, begin, end, as_bf16(&l->up), p.inputs, own.line);
            DONE;
            while (piece(&team, phase, (Work){m->d_mlp, PANEL, NULL}, me, all, &begin, &end))
                give_hidden_units(m, l, p.inputs, rows, begin, end, p.inner, &own);
            DONE;
            while (piece(&team, phase, (Work){D, PANEL, NULL}, me, all, &begin, &end)) {
                panels_product(&l->down, p.inner, rows, begin, end, p.stream, D, 1, &own);
                add_beside(m, rows, narrows ? logit_rows : NULL, begin, end, index, p.aside, additions, n_additions, p.stream);
            }
            DONE;
        }
        while (piece(&team, phase, (Work){rows, 4, NULL}, me, all, &begin, &end))
            for (int i = begin; i < end; i++) normalise(&m->final_norm, m->layer_norm, m->eps, p.stream + (long)i * D, ends + (long)i * D, D);
        DONE;
        const int bf16 = as_bf16(&m->head), few = n_logits <= MAX_TOKENS;
        for (int i = 0; i < n_logits; i++) {
            const float *row = ends + (long)(few_wanted ? i : logit_rows[i]) * D;
            if (few) memcpy(own.scratch.x + (long)i * D, row, D * sizeof(float));
            else if (i % all == me) put_inputs(row, D, bf16, p.inputs + i * input_bytes(D, bf16));
        }
        if (few) prepare(&m->head, own.scratch.x, n_logits, own.scratch.inputs);
        DONE;
        while (piece(&team, phase, (Work){n_logits ? m->head.rows : 0, 4 * PANEL, NULL}, me, all, &begin, &end)) {
            if (few) product(&m->head, own.scratch.x, n_logits, begin, end, logits, m->head.rows, 0, &own.scratch);
            else panels_product(&m->head, p.inputs, n_logits, begin, end, logits, m->head.rows, 0, &own);
        }
    }
    free(memory);
    return 0;
}
#endif

#endif

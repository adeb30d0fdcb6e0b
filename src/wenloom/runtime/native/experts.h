/* Mixtures of experts: each token passes the few feed-forward layers to which a router gives the highest scores.

   The tokens of an expert are computed at once, so that its weights are read once a step; threads share the rows of all
   experts that any token passes, as if they were one matrix. */

#ifndef EXPERTS_H
#define EXPERTS_H

#include "layers.h"
#include "matmul.h"
#include "threads.h"

/* What a thread knows of a layer: pairs of a token and one of its experts, in the order of the experts. */
typedef struct {
    int32_t *tokens;  /* of each pair */
    int32_t *places;  /* (n, active): where the pairs of a token stand */
    float *shares;    /* (n, active): how much each counts */
    int32_t *begins;  /* (experts + 1): where the pairs of an expert begin */
    int32_t *used;    /* the experts that have a pair */
    float *gathered;  /* inputs of an expert, token after token */
    int n_used;
} Routing;

/* Which experts each token passes, by their scores (n, experts): the highest, of equal ones the first. */
static void route(const Layer *l, const float *scores, int n, Routing *r) {
    int E = l->n_experts, A = l->n_active;
    memset(r->begins, 0, (E + 1) * sizeof(int32_t));
    for (int i = 0; i < n; i++, scores += E) {
        float total = 0, *shares = r->shares + i * A;
        int32_t *places = r->places + i * A;  /* of experts first, then of pairs */
        for (int a = 0; a < A; a++) {
            int best = -1;
            for (int e = 0; e < E; e++) {
                int is_taken = 0;
                for (int b = 0; b < a; b++) is_taken |= places[b] == e;
                if (!is_taken && (best < 0 || scores[e] > scores[best])) best = e;
            }
            places[a] = best;
            r->begins[best + 1]++;
            shares[a] = expf(scores[best] - scores[places[0]]);
            total += shares[a];
        }
        if (l->over_all) {
            total = 0;
            for (int e = 0; e < E; e++) total += expf(scores[e] - scores[places[0]]);
        }
        for (int a = 0; a < A; a++) shares[a] /= total;
    }
    r->n_used = 0;
    for (int e = 0; e < E; e++) {
        if (r->begins[e + 1]) r->used[r->n_used++] = e;
        r->begins[e + 1] += r->begins[e];
    }
    for (int i = 0; i < n * A; i++) {  /* begins move to the ends of their experts, and back below */
        int at = r->begins[r->places[i]]++;
        r->tokens[at] = i / A;
        r->places[i] = at;
    }
    for (int e = E; e > 0; e--) r->begins[e] = r->begins[e - 1];
    r->begins[0] = 0;
}

/* A part of the hidden units of all used experts, one expert after the other: inner (pairs, d_expert). */
static void open_experts(const Layer *l, int begin, int end, int D, int kind, int *ready, float *inner, float *gates, Routing *r, Scratch *s) {
    for (int F = l->d_expert, to; begin < end; begin += to) {
        int u = begin / F, from = begin % F, e = r->used[u], first = r->begins[e], k = r->begins[e + 1] - first;
        const Linear *gate = l->experts + 3 * e, *up = gate + 1;
        to = end - begin < F - from ? end - begin : F - from;
        if (*ready != u) {
            for (int i = 0; i < k; i++) memcpy(r->gathered + (long)i * D, s->x + (long)r->tokens[first + i] * D, D * sizeof(float));
            prepare(up, r->gathered, k, s->inputs);
            *ready = u;
        }
        product(up, r->gathered, k, from, from + to, inner + (long)first * F, F, 0, s);
        if (gate->weight) product(gate, r->gathered, k, from, from + to, gates + (long)first * F, F, 0, s);
        for (int i = first; i < first + k; i++)
            activate_all(inner + (long)i * F + from, gate->weight ? gates + (long)i * F + from : NULL, to, kind);
    }
}

/* A part of what all used experts give: given (pairs, D). */
static void close_experts(const Layer *l, int begin, int end, int D, int *ready, const float *inner, float *given, Routing *r, Scratch *s) {
    for (int F = l->d_expert, to; begin < end; begin += to) {
        int u = begin / D, from = begin % D, e = r->used[u], first = r->begins[e], k = r->begins[e + 1] - first;
        const Linear *down = l->experts + 3 * e + 2;
        to = end - begin < D - from ? end - begin : D - from;
        if (*ready != u) prepare(down, inner + (long)first * F, k, s->inputs);
        *ready = u;
        product(down, inner + (long)first * F, k, from, from + to, given + (long)first * D, D, 0, s);
    }
}

/* Adds to the stream what the experts of each token give, by their shares. */
static void add_experts(const Layer *l, int n, int begin, int end, int D, const float *given, const Routing *r, float *x) {
    for (int i = 0; i < n; i++)
        for (int a = 0; a < l->n_active; a++) {
            const float *y = given + (long)r->places[i * l->n_active + a] * D;
            float weight = r->shares[i * l->n_active + a];
            for (int j = begin; j < end; j++) x[(long)i * D + j] += weight * y[j];
        }
}

#endif

/* How threads wait for each other and share work. */

#ifndef THREADS_H
#define THREADS_H

#include "step.h"

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

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

/* The end of a phase, for thread `me` of `all` in `team`. */
#define DONE (wait_for_all(&team, all), atomic_store(&team.shares[me].taken[(phase + 4) & 7], 0), phase++)

#endif

// What Python calls. Pointers are to memory of tensors.

#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#define TEAM omp_get_num_threads()
#else
#define THREAD 0
#define TEAM 1
#endif

#include "draw.h"
#include "ngrams.h"
#include "step.h"

static Thread thread_of(const Network *network, Meeting *meeting) {
    Thread thread = {THREAD, TEAM, meeting, network->products + THREAD * network->rows * BLOCK};
    return thread;
}

// The numbers of a vector: what weights are packed by.
int textgen_lanes(void) { return LANES; }

// Read tokens: ids (count, rows).
void textgen_read(const Network *network, const int64_t *ids, int64_t count, int threads) {
    Meeting meeting = {0};
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Thread thread = thread_of(network, &meeting);
        for (int64_t place = 0; place < count; place++)
            step(network, ids + place * network->rows, &thread);
    }
}

// For one row, draw tokens one after another and read all but the last: temperatures, uniforms,
// ids and log_probs (count,), barrier (vocabulary,). Ends with an id of -1 where nothing can be
// drawn.
void textgen_write(const Network *network, const double *barrier, const double *temperatures,
                   const double *uniforms, int64_t count, int64_t *ids, double *log_probs,
                   int threads) {
    Meeting meeting = {0};
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Thread thread = thread_of(network, &meeting);
        for (int64_t place = 0; place < count; place++) {
            if (thread.number == 0)
                ids[place] = draw(network->logits, barrier, temperatures[place], uniforms[place],
                                  network->last.outputs, network->shares, &log_probs[place]);
            meet(&meeting, thread.team);
            if (ids[place] < 0 || place == count - 1)
                break;
            step(network, ids + place, &thread);
        }
    }
}

// Draw one token for each of many rows: logits (rows, size), barrier (rows, size) with each row
// `barrier_stride` numbers after the last, shares (threads, size) scratch.
void textgen_draw(const float *logits, const double *barrier, int64_t barrier_stride,
                  const double *temperatures, const double *uniforms, int64_t rows, int64_t size,
                  int64_t *ids, double *log_probs, double *shares, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < rows; row++)
        ids[row] = draw(logits + row * size, barrier + row * barrier_stride, temperatures[row],
                        uniforms[row], size, shares + THREAD * size, log_probs + row);
}

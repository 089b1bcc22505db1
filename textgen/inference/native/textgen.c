// The functions that Python calls. Pointers are to the memory of tensors.

#ifdef _OPENMP
#include <omp.h>
#define THREAD_INDEX omp_get_thread_num()
#define THREAD_COUNT omp_get_num_threads()
#else
#define THREAD_INDEX 0
#define THREAD_COUNT 1
#endif

#include "draw.h"
#include "ngrams.h"
#include "step.h"

static Thread thread_of(const Network *network, Barrier *barrier) {
    float *products = network->products + THREAD_INDEX * network->rows * BLOCK;
    Thread thread = {THREAD_INDEX, THREAD_COUNT, barrier, products};
    return thread;
}

// The floats in a vector, by which weights are packed.
int textgen_lanes(void) { return LANES; }

// Read tokens: ids (count, rows).
void textgen_read(const Network *network, const int64_t *ids, int64_t count, int threads) {
    Barrier barrier = {0};
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Thread thread = thread_of(network, &barrier);
        for (int64_t place = 0; place < count; place++)
            step(network, ids + place * network->rows, &thread);
    }
}

// For one row, draw tokens one after another and read all but the last: temperatures, uniforms,
// ids and log_probs (count,), logit_mask (vocabulary,). Ends with an id of -1 if a draw fails.
void textgen_sample(const Network *network, const double *logit_mask, const double *temperatures,
                    const double *uniforms, int64_t count, int64_t *ids, double *log_probs,
                    int threads) {
    Barrier barrier = {0};
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Thread thread = thread_of(network, &barrier);
        for (int64_t place = 0; place < count; place++) {
            if (thread.index == 0)
                ids[place] = draw(network->logits, logit_mask, temperatures[place], uniforms[place],
                                  network->last.outputs, network->probabilities,
                                  &log_probs[place]);
            wait_for_all(&barrier, thread.count);
            if (ids[place] < 0 || place == count - 1)
                break;
            step(network, ids + place, &thread);
        }
    }
}

// Draw one token for each of many rows: logits (rows, size); logit_mask (rows, size) with
// `mask_stride` from row to row, 0 if all have the same; probabilities (threads, size) scratch.
void textgen_draw(const float *logits, const double *logit_mask, int64_t mask_stride,
                  const double *temperatures, const double *uniforms, int64_t rows, int64_t size,
                  int64_t *ids, double *log_probs, double *probabilities, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < rows; row++)
        ids[row] = draw(logits + row * size, logit_mask + row * mask_stride, temperatures[row],
                        uniforms[row], size, probabilities + THREAD_INDEX * size, log_probs + row);
}

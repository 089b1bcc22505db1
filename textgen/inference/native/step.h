// A step of a stack of LSTM layers: a token of each row in, logits out.
//
// For one row a step is bound by how fast the weights are read, and for many by arithmetic. For
// both they are packed in blocks of 4 vectors: in a layer a vector of units, for each gate. So a
// block is read in one stream, is multiplied by several rows at a time out of the registers, and
// what it gives is all that its units need to open their gates. Each thread takes some blocks, and
// the threads meet when a layer is done.
//
// The order of the gates is admit, forget, expose, candidate.

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <sched.h>
#endif
#ifdef __AVX2__
#include <immintrin.h>
#endif

// The numbers of a vector, and how many rows keep their sums, 4 vectors each, in registers.
#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 6 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 3 };
#elif defined(__aarch64__)
enum { LANES = 4, ROWS = 6 };
#else
enum { LANES = 4, ROWS = 3 };
#endif
enum { BLOCK = 4 * LANES, CHUNK = 256 }; // CHUNK inputs of a block stay in the first cache

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef float LooseFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int8_t LooseBytes __attribute__((vector_size(LANES), aligned(1), may_alias));

typedef struct {
    int64_t outputs, inputs;
    const void *weights; // (blocks, inputs, BLOCK), float, or int8_t where there are scales
    const float *scales; // (blocks, BLOCK) what the sums of int8_t are to be multiplied by
} Matrix;

typedef struct {
    int64_t units;
    Matrix matrix;
    const float *given;   // what the gates are given beside the product: (blocks, BLOCK), or
    int64_t given_stride; // so much of each token, a stride apart; 0 where all are given the same
    float *inputs;        // (rows, matrix.inputs): the output below, the layer's own last output
    float *cell;          // (rows, blocks * LANES)
    float *output;        // (rows, blocks * LANES) scratch
} Layer;

typedef struct {
    int64_t rows, layer_count;
    const Layer *layers;
    Matrix last;
    const float *last_bias; // (blocks, BLOCK)
    const float *embedding; // (vocabulary, embedding_size), read where embedding_size is not 0
    int64_t embedding_size;
    float *logits;   // (rows, last.outputs)
    float *products; // (threads, rows, BLOCK) scratch
    double *shares;  // (last.outputs,) scratch
    const Ngrams *ngrams; // what is mixed into the logits, or NULL
} Network;

static int64_t block_count(int64_t outputs) { return (outputs + BLOCK - 1) / BLOCK; }

// e^x to 2 units in the last place, in plain arithmetic, which a compiler turns into vectors.
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float twos = rintf(x * 1.44269504f);
    float rest = x - twos * 0.693359375f; // ln 2 in two parts (Cody and Waite 1980)
    rest -= twos * -2.12194440e-4f;
    float power = 1.9875691500e-4f; // the polynomial of Cephes (Moshier 1989)
    power = power * rest + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    int32_t bits = ((int32_t)twos + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return power * scale;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

static inline float hyperbolic_tangent(float x) {
    return 1.0f - 2.0f / (1.0f + exponential(2.0f * x));
}

// Open the gates of a vector of units, whose sums are products + given, four vectors each.
static void open_gates(const float *restrict products, const float *restrict given,
                       float *restrict cell, float *restrict output) {
#pragma omp simd
    for (int unit = 0; unit < LANES; unit++) {
        int forget = LANES + unit, expose = 2 * LANES + unit, candidate = 3 * LANES + unit;
        float kept = sigmoid(products[forget] + given[forget]) * cell[unit];
        float added = sigmoid(products[unit] + given[unit]) *
                      hyperbolic_tangent(products[candidate] + given[candidate]);
        cell[unit] = kept + added;
        output[unit] = sigmoid(products[expose] + given[expose]) * hyperbolic_tangent(cell[unit]);
    }
}

// A vector of bytes as floats. Compilers do not find the instructions by themselves.
static inline Floats widened(const int8_t *bytes) {
#if defined(__AVX512F__)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
#elif defined(__AVX2__)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)bytes)));
#else
    return __builtin_convertvector(*(const LooseBytes *)bytes, Floats);
#endif
}

// Add to the sums (rows, BLOCK) a block's products with some inputs of rows, which are a stride
// apart. `rows`, up to ROWS, and `bytes` are constants wherever this is inlined.
static inline __attribute__((always_inline)) void
multiply_rows(const void *weights, const int bytes, const float *inputs, int64_t stride,
              int64_t size, const int rows, float *sums) {
    Floats sum[ROWS][4];
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < 4; part++)
            sum[row][part] = *(const LooseFloats *)(sums + row * BLOCK + part * LANES);
    for (int64_t input = 0; input < size; input++) {
        Floats weight[4];
        for (int part = 0; part < 4; part++) {
            int64_t place = input * BLOCK + part * LANES;
            if (bytes)
                weight[part] = widened((const int8_t *)weights + place);
            else
                weight[part] = *(const LooseFloats *)((const float *)weights + place);
        }
        for (int row = 0; row < rows; row++)
            for (int part = 0; part < 4; part++)
                sum[row][part] += weight[part] * inputs[row * stride + input];
    }
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < 4; part++)
            *(LooseFloats *)(sums + row * BLOCK + part * LANES) = sum[row][part];
}

static inline __attribute__((always_inline)) void
multiply_all_rows(const void *weights, const int bytes, const float *inputs, int64_t stride,
                  int64_t size, int64_t rows, float *sums) {
    int64_t row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        multiply_rows(weights, bytes, inputs + row * stride, stride, size, ROWS,
                      sums + row * BLOCK);
    for (; row + 2 <= rows; row += 2)
        multiply_rows(weights, bytes, inputs + row * stride, stride, size, 2, sums + row * BLOCK);
    for (; row < rows; row++)
        multiply_rows(weights, bytes, inputs + row * stride, stride, size, 1, sums + row * BLOCK);
}

// The products (rows, BLOCK) of a block with the inputs (rows, ...) of all rows.
static void multiply(const Matrix *matrix, int64_t block, const float *inputs, int64_t stride,
                     int64_t rows, float *restrict products) {
    memset(products, 0, rows * BLOCK * sizeof *products);
    for (int64_t begin = 0; begin < matrix->inputs; begin += CHUNK) {
        int64_t left = matrix->inputs - begin, size = left < CHUNK ? left : CHUNK;
        int64_t place = (block * matrix->inputs + begin) * BLOCK;
        if (matrix->scales == NULL)
            multiply_all_rows((const float *)matrix->weights + place, 0, inputs + begin, stride,
                              size, rows, products);
        else
            multiply_all_rows((const int8_t *)matrix->weights + place, 1, inputs + begin, stride,
                              size, rows, products);
    }
    if (matrix->scales != NULL)
        for (int64_t row = 0; row < rows; row++)
            for (int lane = 0; lane < BLOCK; lane++)
                products[row * BLOCK + lane] *= matrix->scales[block * BLOCK + lane];
}

typedef struct {
    atomic_int arrived, phase;
} Meeting;

// Wait for the other threads. They are about to come, unless another program has their core.
static void meet(Meeting *meeting, int threads) {
    if (threads == 1)
        return;
#ifdef _OPENMP
    int phase = atomic_load(&meeting->phase);
    if (atomic_fetch_add(&meeting->arrived, 1) == threads - 1) {
        atomic_store(&meeting->arrived, 0);
        atomic_store(&meeting->phase, phase + 1);
        return;
    }
    for (unsigned turns = 0; atomic_load_explicit(&meeting->phase, memory_order_acquire) == phase;)
        if (++turns % 512 == 0)
            sched_yield();
#endif
}

typedef struct {
    int number, team;
    Meeting *meeting;
    float *products; // (rows, BLOCK) scratch
} Thread;

static void step_layer(const Layer *layer, const Layer *above, const int64_t *ids, int64_t rows,
                       const Thread *thread) {
    int64_t blocks = block_count(4 * layer->units), width = blocks * LANES;
    int64_t begin = blocks * thread->number / thread->team;
    int64_t end = blocks * (thread->number + 1) / thread->team;
    int64_t inputs = layer->matrix.inputs;
    for (int64_t block = begin; block < end; block++) {
        multiply(&layer->matrix, block, layer->inputs, inputs, rows, thread->products);
        for (int64_t row = 0; row < rows; row++)
            open_gates(thread->products + row * BLOCK,
                       layer->given + ids[row] * layer->given_stride + block * BLOCK,
                       layer->cell + row * width + block * LANES,
                       layer->output + row * width + block * LANES);
    }
    meet(thread->meeting, thread->team); // all have read the inputs
    begin *= LANES;
    end = end * LANES < layer->units ? end * LANES : layer->units;
    if (begin < end)
        for (int64_t row = 0; row < rows; row++) {
            const float *output = layer->output + row * width + begin;
            size_t size = (end - begin) * sizeof *output;
            memcpy(layer->inputs + (row + 1) * inputs - layer->units + begin, output, size);
            if (above != NULL)
                memcpy(above->inputs + row * above->matrix.inputs + begin, output, size);
        }
    meet(thread->meeting, thread->team);
}

// Read a token of each row, by all threads at once. The state is in the layers' inputs and cells.
static void step(const Network *network, const int64_t *ids, const Thread *thread) {
    int64_t rows = network->rows, size = network->embedding_size;
    if (size) {
        if (thread->number == 0)
            for (int64_t row = 0; row < rows; row++)
                memcpy(network->layers[0].inputs + row * network->layers[0].matrix.inputs,
                       network->embedding + ids[row] * size, size * sizeof(float));
        meet(thread->meeting, thread->team);
    }
    int64_t last_place = network->layer_count - 1;
    for (int64_t place = 0; place <= last_place; place++)
        step_layer(&network->layers[place],
                   place < last_place ? &network->layers[place + 1] : NULL, ids, rows, thread);
    const Matrix *last = &network->last;
    const Layer *below = &network->layers[last_place];
    int64_t blocks = block_count(last->outputs), stride = block_count(4 * below->units) * LANES;
    int64_t end = blocks * (thread->number + 1) / thread->team;
    for (int64_t block = blocks * thread->number / thread->team; block < end; block++) {
        multiply(last, block, below->output, stride, rows, thread->products);
        int64_t first = block * BLOCK, left = last->outputs - first;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t lane = 0; lane < (left < BLOCK ? left : BLOCK); lane++)
                network->logits[row * last->outputs + first + lane] =
                    thread->products[row * BLOCK + lane] + network->last_bias[first + lane];
    }
    meet(thread->meeting, thread->team);
    const Ngrams *ngrams = network->ngrams;
    if (ngrams != NULL) {
        double *shares = ngrams->shares + 2 * ngrams->vocabulary * thread->number;
        for (int64_t row = thread->number; row < rows; row += thread->team)
            mix_row(ngrams, ids[row], ngrams->numbers + row * (ngrams->order - 1), shares,
                    network->logits + row * last->outputs);
        meet(thread->meeting, thread->team);
    }
}

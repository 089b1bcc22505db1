// A step of a stack of LSTM layers: from a token of each row to logits.
//
// With one row the time goes into reading the weights, with many rows into arithmetic. For both,
// weights are packed in blocks of 4 vectors: in a layer, the 4 gates of one vector of units. So a
// block is read as one stream and multiplied by several rows out of registers, and its products
// are all that the cells of its units need. Each thread computes some of the blocks of a layer;
// at the end of the layer the threads wait for each other.
//
// The order of the gates is input, forget, output, cell candidate.

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

// The floats in a vector, and how many rows keep their sums, 4 vectors each, in registers.
#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 6 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 3 };
#elif defined(__aarch64__)
enum { LANES = 4, ROWS = 6 };
#else
enum { LANES = 4, ROWS = 3 };
#endif
enum { BLOCK = 4 * LANES, CHUNK = 256 }; // CHUNK inputs of a block fit in the L1 cache

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef float LooseFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t Pairs __attribute__((vector_size(4 * LANES)));
typedef uint32_t LoosePairs __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int8_t LooseBytes __attribute__((vector_size(LANES), aligned(1), may_alias));

typedef struct {
    int64_t outputs, inputs;
    int64_t bits;        // of a weight: 32, float; 16, bfloat16; 8, int8_t with scales
    const void *weights; // (blocks, inputs, BLOCK); bfloat16 in pairs, (blocks, inputs, 2, LANES)
    const float *scales; // (blocks, BLOCK) factors of the sums of int8_t
} Matrix;

typedef struct {
    int64_t units;
    Matrix matrix;
    const float *bias;   // (blocks, BLOCK), or a table of it by token
    int64_t bias_stride; // from token to token, 0 if all have the same bias
    float *inputs;       // (rows, matrix.inputs): output of the layer below, hidden state
    float *cell;         // (rows, blocks * LANES)
    float *output;       // (rows, blocks * LANES) scratch
} Layer;

// Vectors of n-grams that are added to a token's embedding, see NgramEmbeddings in Python.
typedef struct {
    int64_t longest, rows, factor, modulus;
    const float *weight; // ((longest - 1) * rows, embedding_size)
    int64_t *before;     // (rows of the network, longest - 1) last tokens, -1 where there is none
} NgramEmbeddings;

typedef struct {
    int64_t rows, layer_count;
    const Layer *layers;
    Matrix last;
    const float *last_bias; // (blocks, BLOCK)
    const float *embedding; // (vocabulary, embedding_size), read where embedding_size is not 0
    int64_t embedding_size;
    const NgramEmbeddings *ngram_embeddings; // or NULL
    float *logits;         // (rows, last.outputs)
    float *products;       // (threads, rows, BLOCK) scratch
    double *probabilities; // (last.outputs,) scratch
    const Ngrams *ngrams;  // to be mixed into the logits, or NULL
} Network;

static int64_t block_count(int64_t outputs) { return (outputs + BLOCK - 1) / BLOCK; }

// e^x to 2 units in the last place, in plain arithmetic that compilers vectorize.
static inline float exp_float(float x) {
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

static inline float sigmoid(float x) { return 1.0f / (1.0f + exp_float(-x)); }

static inline float hyperbolic_tangent(float x) {
    return 1.0f - 2.0f / (1.0f + exp_float(2.0f * x));
}

// The LSTM cells of a vector of units. products, bias: (4 gates, LANES).
static void update_cells(const float *restrict products, const float *restrict bias,
                         float *restrict cell, float *restrict output) {
#pragma omp simd
    for (int unit = 0; unit < LANES; unit++) {
        int input = unit, forget = LANES + unit, out = 2 * LANES + unit, cand = 3 * LANES + unit;
        float kept = sigmoid(products[forget] + bias[forget]) * cell[unit];
        float added = sigmoid(products[input] + bias[input]) *
                      hyperbolic_tangent(products[cand] + bias[cand]);
        cell[unit] = kept + added;
        output[unit] = sigmoid(products[out] + bias[out]) * hyperbolic_tangent(cell[unit]);
    }
}

// A vector of bytes as floats. Compilers do not find these instructions.
static inline Floats widened(const int8_t *bytes) {
#if defined(__AVX512F__)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
#elif defined(__AVX2__)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)bytes)));
#else
    return __builtin_convertvector(*(const LooseBytes *)bytes, Floats);
#endif
}

// The weights of a block for one input. Two vectors of bfloat16, the upper halves of floats, are in
// the lower and the upper halves of one vector. `bits` is a constant where this is inlined.
static inline __attribute__((always_inline)) void
load(const void *weights, const int bits, int64_t input, Floats *weight) {
    for (int part = 0; part < 4; part++) {
        int64_t place = input * BLOCK + part * LANES;
        if (bits == 8) {
            weight[part] = widened((const int8_t *)weights + place);
        } else if (bits == 32) {
            weight[part] = *(const LooseFloats *)((const float *)weights + place);
        } else if (part % 2 == 0) {
            Pairs pairs = *(const LoosePairs *)((const uint32_t *)weights + place / 2);
            weight[part] = (Floats)(pairs << 16);
            weight[part + 1] = (Floats)(pairs & 0xFFFF0000u);
        }
    }
}

// Add to the sums (rows, BLOCK) the products of a block with some inputs of each row. Rows of inputs
// are a stride apart. `rows`, up to ROWS, and `bits` are constants where this is inlined.
static inline __attribute__((always_inline)) void
multiply_rows(const void *weights, const int bits, const float *inputs, int64_t stride,
              int64_t size, const int rows, float *sums) {
    Floats sum[ROWS][4];
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < 4; part++)
            sum[row][part] = *(const LooseFloats *)(sums + row * BLOCK + part * LANES);
    for (int64_t input = 0; input < size; input++) {
        Floats weight[4];
        load(weights, bits, input, weight);
        for (int row = 0; row < rows; row++)
            for (int part = 0; part < 4; part++)
                sum[row][part] += weight[part] * inputs[row * stride + input];
    }
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < 4; part++)
            *(LooseFloats *)(sums + row * BLOCK + part * LANES) = sum[row][part];
}

static inline __attribute__((always_inline)) void
multiply_by_groups(const void *weights, const int bits, const float *inputs, int64_t stride,
                  int64_t size, int64_t rows, float *sums) {
    int64_t row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        multiply_rows(weights, bits, inputs + row * stride, stride, size, ROWS,
                      sums + row * BLOCK);
    for (; row + 2 <= rows; row += 2)
        multiply_rows(weights, bits, inputs + row * stride, stride, size, 2, sums + row * BLOCK);
    for (; row < rows; row++)
        multiply_rows(weights, bits, inputs + row * stride, stride, size, 1, sums + row * BLOCK);
}

// The same for any number of rows. Many rows are multiplied by the weights as floats.
static inline __attribute__((always_inline)) void
multiply_all_rows(const void *weights, const int bits, const float *inputs, int64_t stride,
                  int64_t size, int64_t rows, float *sums) {
    if (bits == 32 || rows <= ROWS) {
        multiply_by_groups(weights, bits, inputs, stride, size, rows, sums);
        return;
    }
    Floats floats[CHUNK][4];
    for (int64_t input = 0; input < size; input++)
        load(weights, bits, input, floats[input]);
    multiply_by_groups(floats, 32, inputs, stride, size, rows, sums);
}

// The products (rows, BLOCK) of a block with the inputs (rows, ...) of all rows.
static void multiply(const Matrix *matrix, int64_t block, const float *inputs, int64_t stride,
                     int64_t rows, float *restrict products) {
    memset(products, 0, rows * BLOCK * sizeof *products);
    for (int64_t begin = 0; begin < matrix->inputs; begin += CHUNK) {
        int64_t left = matrix->inputs - begin, size = left < CHUNK ? left : CHUNK;
        int64_t place = (block * matrix->inputs + begin) * BLOCK;
        const void *weights = (const char *)matrix->weights + place * matrix->bits / 8;
        const float *some = inputs + begin;
        if (matrix->bits == 32)
            multiply_all_rows(weights, 32, some, stride, size, rows, products);
        else if (matrix->bits == 16)
            multiply_all_rows(weights, 16, some, stride, size, rows, products);
        else
            multiply_all_rows(weights, 8, some, stride, size, rows, products);
    }
    if (matrix->scales != NULL)
        for (int64_t row = 0; row < rows; row++)
            for (int lane = 0; lane < BLOCK; lane++)
                products[row * BLOCK + lane] *= matrix->scales[block * BLOCK + lane];
}

typedef struct {
    atomic_int arrived, phase;
} Barrier;

// Wait for the other threads. This takes no longer than a layer, unless a core is shared.
static void wait_for_all(Barrier *barrier, int threads) {
    if (threads == 1)
        return;
#ifdef _OPENMP
    int phase = atomic_load(&barrier->phase);
    if (atomic_fetch_add(&barrier->arrived, 1) == threads - 1) {
        atomic_store(&barrier->arrived, 0);
        atomic_store(&barrier->phase, phase + 1);
        return;
    }
    for (unsigned turns = 0; atomic_load_explicit(&barrier->phase, memory_order_acquire) == phase;)
        if (++turns % 512 == 0)
            sched_yield();
#endif
}

typedef struct {
    int index, count;
    Barrier *barrier;
    float *products; // (rows, BLOCK) scratch
} Thread;

static void step_layer(const Layer *layer, const Layer *above, const int64_t *ids, int64_t rows,
                       const Thread *thread) {
    int64_t blocks = block_count(4 * layer->units), width = blocks * LANES;
    int64_t begin = blocks * thread->index / thread->count;
    int64_t end = blocks * (thread->index + 1) / thread->count;
    int64_t inputs = layer->matrix.inputs;
    for (int64_t block = begin; block < end; block++) {
        multiply(&layer->matrix, block, layer->inputs, inputs, rows, thread->products);
        for (int64_t row = 0; row < rows; row++)
            update_cells(thread->products + row * BLOCK,
                         layer->bias + ids[row] * layer->bias_stride + block * BLOCK,
                         layer->cell + row * width + block * LANES,
                         layer->output + row * width + block * LANES);
    }
    wait_for_all(thread->barrier, thread->count); // all have read the inputs
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
    wait_for_all(thread->barrier, thread->count);
}

// Write what the first layer reads for a token of a row, and remember the token.
static void embed(const Network *network, int64_t id, int64_t row) {
    int64_t size = network->embedding_size;
    float *restrict input = network->layers[0].inputs + row * network->layers[0].matrix.inputs;
    memcpy(input, network->embedding + id * size, size * sizeof(float));
    const NgramEmbeddings *ngrams = network->ngram_embeddings;
    if (ngrams == NULL)
        return;
    int64_t kept = ngrams->longest - 1, *before = ngrams->before + row * kept, hash = id + 1;
    for (int64_t length = 0; length < kept; length++) {
        hash = (hash * ngrams->factor + before[kept - 1 - length] + 1) % ngrams->modulus;
        int64_t place = length * ngrams->rows + hash % ngrams->rows;
        const float *vector = ngrams->weight + place * size;
        for (int64_t column = 0; column < size; column++)
            input[column] += vector[column];
    }
    memmove(before, before + 1, (kept - 1) * sizeof *before);
    before[kept - 1] = id;
}

// Read a token of each row, in all threads. The state is in the inputs and cells of the layers.
static void step(const Network *network, const int64_t *ids, const Thread *thread) {
    int64_t rows = network->rows;
    if (network->embedding_size) {
        if (thread->index == 0)
            for (int64_t row = 0; row < rows; row++)
                embed(network, ids[row], row);
        wait_for_all(thread->barrier, thread->count);
    }
    int64_t last_place = network->layer_count - 1;
    for (int64_t place = 0; place <= last_place; place++)
        step_layer(&network->layers[place],
                   place < last_place ? &network->layers[place + 1] : NULL, ids, rows, thread);
    const Matrix *last = &network->last;
    const Layer *below = &network->layers[last_place];
    int64_t blocks = block_count(last->outputs), stride = block_count(4 * below->units) * LANES;
    int64_t end = blocks * (thread->index + 1) / thread->count;
    for (int64_t block = blocks * thread->index / thread->count; block < end; block++) {
        multiply(last, block, below->output, stride, rows, thread->products);
        int64_t first = block * BLOCK, left = last->outputs - first;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t lane = 0; lane < (left < BLOCK ? left : BLOCK); lane++)
                network->logits[row * last->outputs + first + lane] =
                    thread->products[row * BLOCK + lane] + network->last_bias[first + lane];
    }
    wait_for_all(thread->barrier, thread->count);
    const Ngrams *ngrams = network->ngrams;
    if (ngrams != NULL) {
        double *scratch = ngrams->scratch + 2 * ngrams->vocabulary * thread->index;
        for (int64_t row = thread->index; row < rows; row += thread->count)
            mix_row(ngrams, ids[row], ngrams->ngram_ids + row * (ngrams->order - 1),
                    below->output + row * stride, below->units, scratch,
                    network->logits + row * last->outputs);
        wait_for_all(thread->barrier, thread->count);
    }
}

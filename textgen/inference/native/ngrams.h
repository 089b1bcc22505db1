// What n-grams say, mixed into what a network says (models/mixture.py, models/ngram_tables.py).

#include <math.h>
#include <stdint.h>

enum { END_OF_SENTENCE = 1 }; // the id of <EOS>

// The n-grams of one length. begins: (contexts + 1,), where those after each context begin, words:
// their newest tokens, own: what share of the context each has, left: (contexts,), what is left to
// shorter n-grams, log_seen: (contexts,), ln(1 + how much was counted after each).
typedef struct {
    const int64_t *begins, *words;
    const double *own, *left, *log_seen;
} NgramLevel;

typedef struct {
    int64_t order, vocabulary;
    const NgramLevel *levels; // of 2 tokens, of 3, ...
    const double *first;      // (vocabulary,), the shares of single tokens
    const float *weight;      // of entropy, of the surest, then of log_seen and left of each length
    float bias;               // and of nothing: the log-odds of the network
    int64_t *numbers;         // (rows, order - 1), what has just been read, -1 where it is unseen
    double *shares;           // (threads, 2, vocabulary) scratch
} Ngrams;

// The number of what follows a context, -1 where it never did.
static int64_t longer(const NgramLevel *level, int64_t context, int64_t word) {
    if (context < 0)
        return -1;
    int64_t low = level->begins[context], end = level->begins[context + 1], high = end;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (level->words[middle] < word)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && level->words[low] == word ? low : -1;
}

// Read a token, and mix what may follow it into a row of logits.
static void mix_row(const Ngrams *ngrams, int64_t id, int64_t *numbers, double *shares,
                    float *logits) {
    int64_t size = ngrams->vocabulary, contexts = ngrams->order - 1;
    double *by_network = shares + size;
    int begins = contexts > 0 && numbers[0] < 0 && id == END_OF_SENTENCE;
    for (int64_t place = contexts - 1; place > 0; place--)
        numbers[place] = longer(&ngrams->levels[place - 1], numbers[place - 1], id);
    if (contexts > 0)
        numbers[0] = begins ? size : id; // what a text begins after has a number of its own
    double largest = -INFINITY, whole = 0, weighed = 0;
    for (int64_t word = 0; word < size; word++) {
        shares[word] = ngrams->first[word];
        largest = logits[word] > largest ? logits[word] : largest;
    }
#pragma omp simd reduction(+ : whole, weighed)
    for (int64_t word = 0; word < size; word++) {
        double power = power_of_e(logits[word] - largest);
        by_network[word] = power;
        whole += power;
        weighed += power * (logits[word] - largest);
    }
    double surest = -log(whole), entropy = log(whole) - weighed / whole;
    double odds = ngrams->bias + ngrams->weight[0] * entropy + ngrams->weight[1] * surest;
    for (int64_t place = 0; place < contexts; place++) {
        const NgramLevel *level = &ngrams->levels[place];
        int64_t context = numbers[place];
        double seen = context < 0 ? 0 : level->log_seen[context];
        double left = context < 0 ? 1 : level->left[context];
        odds += ngrams->weight[2 + 2 * place] * seen + ngrams->weight[3 + 2 * place] * left;
        if (context < 0)
            continue;
        for (int64_t word = 0; word < size; word++)
            shares[word] *= left;
        for (int64_t entry = level->begins[context]; entry < level->begins[context + 1]; entry++)
            shares[level->words[entry]] += level->own[entry];
    }
    double network = 1 / (1 + exp(-odds)), other = 1 / (1 + exp(odds));
    for (int64_t word = 0; word < size; word++)
        logits[word] = log(network * by_network[word] / whole + other * shares[word]);
}

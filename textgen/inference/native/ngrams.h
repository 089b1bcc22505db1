// The n-gram model, mixed into the logits of a network (models/mixture.py, models/ngram_tables.py).

#include <math.h>
#include <stdint.h>

enum { EOS = 1 }; // the id of <EOS>

// The n-grams of one order from 2. offsets: (contexts + 1,), where those after each context begin;
// tokens: their last tokens; probability: discounted; backoff: (contexts,) the back-off weights;
// log_total: (contexts,) ln(1 + total count).
typedef struct {
    const int64_t *offsets, *tokens;
    const double *probability, *backoff, *log_total;
} NgramOrder;

typedef struct {
    int64_t order, vocabulary;
    const NgramOrder *orders;  // of bigrams, trigrams, ...
    const double *unigrams;    // (vocabulary,) interpolated probabilities
    const float *gate_weight;  // of entropy, of largest ln p, of log_total and backoff by order,
                               // of the hidden state of the network
    float gate_bias;           // the gate gives the log-odds of the weight of the network
    int64_t *ngram_ids;        // (rows, order - 1) contexts, -1 where unseen
    double *scratch;           // (threads, 2, vocabulary)
} Ngrams;

// The id of an n-gram followed by a token, -1 if unseen.
static int64_t longer_ngram(const NgramOrder *order, int64_t context, int64_t token) {
    if (context < 0)
        return -1;
    int64_t low = order->offsets[context], end = order->offsets[context + 1], high = end;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (order->tokens[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && order->tokens[low] == token ? low : -1;
}

// Read a token, and replace a row of logits of the network by ln p of the mixture.
// context: (order - 1,), updated. hidden: (units,) of the network. scratch: (2, vocabulary).
static void mix_row(const Ngrams *ngrams, int64_t id, int64_t *context, const float *hidden,
                    int64_t units, double *scratch, float *logits) {
    int64_t size = ngrams->vocabulary, contexts = ngrams->order - 1;
    double *by_ngrams = scratch, *by_network = scratch + size;
    int starts_text = contexts > 0 && context[0] < 0 && id == EOS;
    for (int64_t place = contexts - 1; place > 0; place--)
        context[place] = longer_ngram(&ngrams->orders[place - 1], context[place - 1], id);
    if (contexts > 0)
        context[0] = starts_text ? size : id; // the id of <s> is the vocabulary size
    double largest = -INFINITY, total = 0, weighted = 0;
    for (int64_t token = 0; token < size; token++) {
        by_ngrams[token] = ngrams->unigrams[token];
        largest = logits[token] > largest ? logits[token] : largest;
    }
#pragma omp simd reduction(+ : total, weighted)
    for (int64_t token = 0; token < size; token++) {
        double power = exp_double(logits[token] - largest);
        by_network[token] = power;
        total += power;
        weighted += power * (logits[token] - largest);
    }
    double largest_log_prob = -log(total), entropy = log(total) - weighted / total;
    double log_odds = ngrams->gate_bias + ngrams->gate_weight[0] * entropy +
                      ngrams->gate_weight[1] * largest_log_prob;
    const float *hidden_weight = ngrams->gate_weight + 2 + 2 * contexts;
    for (int64_t unit = 0; unit < units; unit++)
        log_odds += hidden_weight[unit] * hidden[unit];
    for (int64_t place = 0; place < contexts; place++) {
        const NgramOrder *order = &ngrams->orders[place];
        int64_t ngram = context[place];
        double log_total = ngram < 0 ? 0 : order->log_total[ngram];
        double backoff = ngram < 0 ? 1 : order->backoff[ngram];
        log_odds += ngrams->gate_weight[2 + 2 * place] * log_total +
                    ngrams->gate_weight[3 + 2 * place] * backoff;
        if (ngram < 0)
            continue;
        for (int64_t token = 0; token < size; token++)
            by_ngrams[token] *= backoff;
        for (int64_t entry = order->offsets[ngram]; entry < order->offsets[ngram + 1]; entry++)
            by_ngrams[order->tokens[entry]] += order->probability[entry];
    }
    double network_weight = 1 / (1 + exp(-log_odds)), ngram_weight = 1 / (1 + exp(log_odds));
    for (int64_t token = 0; token < size; token++)
        logits[token] =
            log(network_weight * by_network[token] / total + ngram_weight * by_ngrams[token]);
}

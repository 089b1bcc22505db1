// Draw one id from the tempered softmax of logits, in double precision.

#include <math.h>
#include <stdint.h>
#include <string.h>

static const double LARGEST_UNIFORM = 1 - 0x1p-50; // as in decoding.py

// e^x for x up to 0, to 2 units in the last place: the rational function of Cephes (Moshier 1989),
// in plain arithmetic that compilers vectorize. Below -700 it is 0.
static inline double exp_double(double x) {
    double within = x < -700.0 ? -700.0 : x;
    within = within > 0.0 ? 0.0 : within; // of masked logits, which are left out below
    double twos = rint(within * 1.4426950408889634);
    double rest = within - twos * 6.93145751953125e-1; // ln 2 in two parts
    rest -= twos * 1.42860682030941723212e-6;
    double square = rest * rest;
    double above = 1.26177193074810590878e-4;
    above = above * square + 3.02994407707441961300e-2;
    above = (above * square + 9.99999999999999999910e-1) * rest;
    double below = 3.00198505138664455042e-6;
    below = below * square + 2.52448340349684104192e-3;
    below = below * square + 2.27265548208155028766e-1;
    below = below * square + 2.00000000000000000009;
    int64_t bits = (int64_t)((int32_t)twos + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    double power = (1 + 2 * above / (below - above)) * scale;
    return x < -700.0 ? 0.0 : power;
}

// Returns the drawn id, -1 where all are masked or a logit is NaN or infinite. logit_mask: 0 or
// -infinity. probabilities: (size,) scratch. log_prob: ln p of the id, unmasked and untempered.
static int64_t draw(const float *restrict logits, const double *restrict logit_mask,
                    double temperature, double uniform, int64_t size,
                    double *restrict probabilities, double *log_prob) {
    *log_prob = 0;
    double largest = -INFINITY, largest_allowed = -INFINITY;
#pragma omp simd reduction(max : largest, largest_allowed)
    for (int64_t id = 0; id < size; id++) {
        double logit = logits[id], masked = logit + logit_mask[id];
        largest = logit > largest ? logit : largest;
        largest_allowed = masked > largest_allowed ? masked : largest_allowed;
    }
    if (!(largest_allowed > -INFINITY && largest < INFINITY))
        return -1;
    double normalizer = 0, total = 0;
#pragma omp simd reduction(+ : normalizer)
    for (int64_t id = 0; id < size; id++) {
        probabilities[id] = exp_double(logits[id] - largest);
        normalizer += probabilities[id];
    }
    int64_t drawn = 0;
    if (temperature == 0) {
        while (!(logits[drawn] + logit_mask[drawn] == largest_allowed))
            drawn++;
    } else {
        if (temperature != 1 || largest_allowed != largest)
#pragma omp simd
            for (int64_t id = 0; id < size; id++)
                probabilities[id] = exp_double((logits[id] - largest_allowed) / temperature);
#pragma omp simd reduction(+ : total)
        for (int64_t id = 0; id < size; id++) {
            probabilities[id] = logit_mask[id] == 0 ? probabilities[id] : 0;
            total += probabilities[id];
        }
        // Inversion: the first id whose cumulative probability exceeds the point.
        double point = fmin(uniform, LARGEST_UNIFORM) * total, cumulative = 0;
        int64_t last = -1;
        for (drawn = 0; drawn < size; drawn++) {
            if (probabilities[drawn] > 0)
                last = drawn;
            cumulative += probabilities[drawn];
            if (cumulative > point)
                break;
        }
        drawn = drawn < size ? drawn : last; // the sum may round to less than the total
    }
    if (drawn < 0 || isnan(normalizer))
        return -1;
    *log_prob = logits[drawn] - largest - log(normalizer);
    return drawn;
}

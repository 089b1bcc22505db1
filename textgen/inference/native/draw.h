// Draw one id from the tempered softmax of logits, in double precision.

#include <math.h>
#include <stdint.h>
#include <string.h>

static const double LARGEST_UNIFORM = 1 - 0x1p-50; // as in decoding.py

// e^x for x up to 0, to 2 units in the last place: the rational function of Cephes (Moshier 1989),
// in plain arithmetic, which a compiler turns into vectors. Below -700 it is 0.
static inline double power_of_e(double x) {
    double within = x < -700.0 ? -700.0 : x;
    within = within > 0.0 ? 0.0 : within; // as of what is barred, and then left out
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

// The drawn id, -1 where nothing is open or a logit is no number or infinite. shares: (size,)
// scratch. log_prob: of the whole softmax.
static int64_t draw(const float *restrict logits, const double *restrict barrier,
                    double temperature, double uniform, int64_t size, double *restrict shares,
                    double *log_prob) {
    *log_prob = 0;
    double largest = -INFINITY, largest_open = -INFINITY;
#pragma omp simd reduction(max : largest, largest_open)
    for (int64_t id = 0; id < size; id++) {
        double logit = logits[id], open = logit + barrier[id];
        largest = logit > largest ? logit : largest;
        largest_open = open > largest_open ? open : largest_open;
    }
    if (!(largest_open > -INFINITY && largest < INFINITY))
        return -1;
    double whole = 0, total = 0;
#pragma omp simd reduction(+ : whole)
    for (int64_t id = 0; id < size; id++) {
        shares[id] = power_of_e(logits[id] - largest);
        whole += shares[id];
    }
    int64_t drawn = 0;
    if (temperature == 0) {
        while (!(logits[drawn] + barrier[drawn] == largest_open))
            drawn++;
    } else {
        if (temperature != 1 || largest_open != largest)
#pragma omp simd
            for (int64_t id = 0; id < size; id++)
                shares[id] = power_of_e((logits[id] - largest_open) / temperature);
#pragma omp simd reduction(+ : total)
        for (int64_t id = 0; id < size; id++) {
            shares[id] = barrier[id] == 0 ? shares[id] : 0;
            total += shares[id];
        }
        // Inversion: the first id at which the cumulated shares pass the point.
        double point = fmin(uniform, LARGEST_UNIFORM) * total, cumulated = 0;
        int64_t last = -1;
        for (drawn = 0; drawn < size; drawn++) {
            if (shares[drawn] > 0)
                last = drawn;
            cumulated += shares[drawn];
            if (cumulated > point)
                break;
        }
        drawn = drawn < size ? drawn : last; // where rounding has kept it from the total
    }
    if (drawn < 0 || isnan(whole))
        return -1;
    *log_prob = logits[drawn] - largest - log(whole);
    return drawn;
}

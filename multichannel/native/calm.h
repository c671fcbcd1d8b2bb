// What is looked at before an engine gets its samples: which hops need no second look, as `_calm` of
// multichannel/mics.py, and how loud they are, as `_levels_db` of multichannel/steady.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace clearbeam {

// As in mics.py.
struct Limits {
  double loud, flat, jump, fast, slow, rise, quietest, endless;
};

// What a mic does in a hop: mean square, mean, largest and smallest sample.
struct Sums {
  double power = 0, mean = 0;
  float high, low;

  Sums(const float* x, int hop) : high(x[0]), low(x[0]) {
    bool known = true;
    for (int i = 0; i < hop; ++i) {
      power += double(x[i]) * x[i];
      mean += x[i];
      high = std::max(high, x[i]);
      low = std::min(low, x[i]);
      known &= x[i] - x[i] == 0;
    }
    power /= hop;
    mean /= hop;
    if (!known) high = low = NAN;
  }

  bool suspicious(const Limits& limits) const {
    const double height = double(high) - low, middle = (double(high) + low) / 2;
    const double about = power - 2 * middle * mean + middle * middle;
    return !(height > 0) || high > limits.endless || low < -limits.endless ||
           (height > limits.loud && !(about < limits.flat * height * height / 4));
  }
};

// The number of hops of x (mics, hops * hop), rows `stride` apart, before the first that may hold a
// failing mic, twice, and one more where any of them has sound. Running powers (mics) are moved on.
inline int64_t calm_hops(const float* x, int64_t n_hops, int hop, int64_t stride, int n_mics,
                         const Limits& limits, double* fast, double* slow) {
  int64_t heard = 0;
  for (int64_t t = 0; t < n_hops; ++t, x += hop) {
    double power[16], now[16], most = 0, least = INFINITY;
    bool sound = false, suspicious = false;
    for (int m = 0; m < n_mics; ++m) {
      const Sums sums(x + m * stride, hop);
      power[m] = sums.power;
      now[m] = fast[m] + limits.fast * (power[m] - fast[m]);
      const double jump = (now[m] + limits.quietest) / (slow[m] + limits.quietest);
      most = std::max(most, jump);
      least = std::min(least, jump);
      sound |= power[m] != 0;
      suspicious |= sums.suspicious(limits) || slow[m] == 0;
    }
    if (!sound) continue;
    if (suspicious || !(most < limits.jump * least)) return 2 * t + heard;
    heard = 1;
    for (int m = 0; m < n_mics; ++m) {
      fast[m] = now[m];
      slow[m] += limits.slow * (std::min(power[m], limits.rise * slow[m]) - slow[m]);
    }
  }
  return 2 * n_hops + heard;
}

// Mean level in dB of the mics that are above `silent` in each hop, minus infinity where none is.
inline void levels_db(const float* x, int64_t n_hops, int hop, int64_t stride, int n_mics,
                      double silent, double* levels) {
  for (int64_t t = 0; t < n_hops; ++t, x += hop) {
    double sum = 0;
    int n_heard = 0;
    for (int m = 0; m < n_mics; ++m) {
      double power = 0;
      for (int i = 0; i < hop; ++i) power += double(x[m * stride + i]) * x[m * stride + i];
      if (!(power / hop > silent)) continue;
      sum += 10 * std::log10(power / hop);
      ++n_heard;
    }
    levels[t] = n_heard ? sum / n_heard : -INFINITY;
  }
}

}  // namespace clearbeam

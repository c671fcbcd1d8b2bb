// A GRU over many sequences: separation's recurrences. Units lie side by side in vectors.
#pragma once
#include "vectors.h"

#include <algorithm>

namespace clearbeam {

// What one step of a GRU needs of its past: three gates (reset, update, new), `Blocks` vectors each.
template <int Blocks>
struct Recurrence {
  static constexpr int UNITS = Blocks * LANES;
  const float* weights;  // (UNITS, 3 UNITS): of the hidden state, transposed
  const float* bias;     // (3 UNITS)

  // gates: what the input says, (3 UNITS); h: the state before, then after.
  void step(const float* gates, float* h) const {
    V s[3 * Blocks];
    for (int k = 0; k < 3 * Blocks; ++k) s[k] = load(bias + k * LANES);
    const float* row = weights;
    for (int j = 0; j < UNITS; ++j, row += 3 * UNITS)
      for (int k = 0; k < 3 * Blocks; ++k) s[k] += h[j] * load(row + k * LANES);
    for (int k = 0; k < Blocks; ++k) {
      const V *reset = s, *update = s + Blocks, *fresh = s + 2 * Blocks;
      const auto in = [&](int gate) { return load(gates + gate * UNITS + k * LANES); };
      const V n = tangent(in(2) + sigmoid(in(0) + reset[k]) * fresh[k]);
      store(h + k * LANES, n + sigmoid(in(1) + update[k]) * (load(h + k * LANES) - n));
    }
  }

  // gates (sequences, steps, 3 UNITS), h (sequences, UNITS), y (sequences, steps, y_step).
  void run(const float* gates, int64_t n_sequences, int64_t n_steps, bool backwards, float* h,
           float* y, int64_t y_step) const {
    for (int64_t i = 0; i < n_sequences; ++i, h += UNITS)
      for (int64_t t = 0; t < n_steps; ++t) {
        const int64_t at = i * n_steps + (backwards ? n_steps - 1 - t : t);
        step(gates + at * 3 * UNITS, h);
        std::copy_n(h, UNITS, y + at * y_step);
      }
  }
};

}  // namespace clearbeam

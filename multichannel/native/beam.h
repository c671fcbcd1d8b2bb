// A beam of a whole block: multichannel/beamform.py where the weights do not change with time.
#pragma once
#include "covariance.h"

namespace clearbeam {

// The weights of a channel for eight complex values: each real part twice, and each imaginary part
// with the sign that it has where the parts of a value change places.
struct Weights {
  static constexpr int VALUES = LANES / 2;
  V re{}, im{};

  Weights(const Bin* w, int64_t step, int n) {
    for (int i = 0; i < n; ++i, w += step) {
      re[2 * i] = re[2 * i + 1] = w->re;
      im[2 * i] = w->im;
      im[2 * i + 1] = -w->im;
    }
  }
};

// y = sum of w x over the channels of a row. The weights of the next eight values stand `step`
// further.
inline void sum_channels(const Plane<Bin>* X, int n_channels, int64_t row, int64_t n_values,
                         const Weights* w, int64_t step, Bin* y) {
  for (int64_t at = 0; at < n_values; at += Weights::VALUES, w += step) {
    const size_t bytes = std::min<int64_t>(Weights::VALUES, n_values - at) * sizeof(Bin);
    V straight{}, crossed{};
    for (int m = 0; m < n_channels; ++m) {
      V x{};
      const Bin* from = X[m].at + row * X[m].step + at;
      bytes == sizeof x ? std::memcpy(&x, from, sizeof x) : std::memcpy(&x, from, bytes);
      straight += w[m].re * x;
      crossed += w[m].im * x;
    }
    straight += swapped(crossed, Lanes{});
    std::memcpy(y + at, &straight, bytes);
  }
}

// Y (freqs, frames) or (frames, freqs), as the rows are; w (channels, freqs).
inline void weighted_sum(const Plane<Bin>* X, int n_channels, const Bin* w, bool rows_are_frames,
                         int64_t n_freqs, int64_t n_frames, Bin* Y) {
  std::vector<Weights> table;
  if (rows_are_frames) {
    for (int64_t f = 0; f < n_freqs; f += Weights::VALUES)
      for (int m = 0; m < n_channels; ++m)
        table.emplace_back(w + m * n_freqs + f, 1,
                           int(std::min<int64_t>(Weights::VALUES, n_freqs - f)));
    for (int64_t t = 0; t < n_frames; ++t)
      sum_channels(X, n_channels, t, n_freqs, table.data(), n_channels, Y + t * n_freqs);
  } else {
    for (int64_t f = 0; f < n_freqs; ++f) {
      table.clear();
      for (int m = 0; m < n_channels; ++m)
        table.emplace_back(w + m * n_freqs + f, 0, Weights::VALUES);
      sum_channels(X, n_channels, f, n_frames, table.data(), 0, Y + f * n_frames);
    }
  }
}

}  // namespace clearbeam

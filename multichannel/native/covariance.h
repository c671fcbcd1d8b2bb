// Sums of weighted outer products of channels: multichannel/spatial.py for a whole block of frames.
#pragma once
#include "vectors.h"

#include <algorithm>

namespace clearbeam {

// Rows of values that follow each other; the next row stands `step` values further.
template <class T>
struct Plane {
  const T* at;
  int64_t step;
};

struct Bin {  // one complex value
  float re, im;
};

// sum w x_m conj(x_n) of `n` channels for each of the masks w, sixteen bins at a time.
class OuterSums {
 public:
  OuterSums(const Plane<Bin>* x, int n_channels, const Plane<float>* masks, int count)
      : X(x), W(masks), n(n_channels), n_masks(count), n_sums(count * n_channels * (n_channels + 1)),
        re(n_channels), im(n_channels), sums(n_sums) {}

  // Rows are frames and lanes frequencies. A few frames at a time, so that what is read follows
  // each other; their sums add up in double precision.
  void over_rows(int64_t n_freqs, int64_t n_frames, Bin* psd) {
    constexpr int FRAMES = 4;
    const int64_t n_blocks = (n_freqs + LANES - 1) / LANES;
    std::vector<double> totals(n_blocks * n_sums * LANES);
    for (int64_t t = 0; t < n_frames; t += FRAMES)
      for (int64_t block = 0; block < n_blocks; ++block) {
        std::fill(sums.begin(), sums.end(), V{});
        const int lanes = int(std::min<int64_t>(LANES, n_freqs - block * LANES));
        for (int64_t i = t; i < std::min(t + FRAMES, n_frames); ++i) add(i, block * LANES, lanes);
        double* total = &totals[block * n_sums * LANES];
        const float* values = reinterpret_cast<const float*>(sums.data());
        for (int i = 0; i < n_sums * LANES; ++i) total[i] += values[i];
      }
    for (int64_t f = 0; f < n_freqs; ++f) {
      const double* total = &totals[f / LANES * n_sums * LANES + f % LANES];
      put(f, n_freqs, psd, [&](int i) { return float(total[i * LANES]); });
    }
  }

  // Rows are frequencies and lanes frames.
  void over_lanes(int64_t n_freqs, int64_t n_frames, Bin* psd) {
    for (int64_t f = 0; f < n_freqs; ++f) {
      std::fill(sums.begin(), sums.end(), V{});
      for (int64_t t = 0; t < n_frames; t += LANES)
        add(f, t, int(std::min<int64_t>(LANES, n_frames - t)));
      put(f, n_freqs, psd, [&](int i) { return sum(sums[i]); });
    }
  }

 private:
  const Plane<Bin>* X;
  const Plane<float>* W;
  const int n, n_masks, n_sums;
  std::vector<V> re, im, sums;  // sums: real and imaginary part of each pair of each mask

  void add(int64_t row, int64_t from, int lanes) {
    for (int m = 0; m < n; ++m) {
      const Bin* x = X[m].at + row * X[m].step + from;
      Bin padded[LANES] = {};
      if (lanes < LANES) x = static_cast<Bin*>(std::memcpy(padded, x, lanes * sizeof(Bin)));
      float parts[2][LANES];
      for (int l = 0; l < LANES; ++l) {
        parts[0][l] = x[l].re;
        parts[1][l] = x[l].im;
      }
      re[m] = load(parts[0]);
      im[m] = load(parts[1]);
    }
    V* out = sums.data();
    for (int k = 0; k < n_masks; ++k) {
      V w{};
      std::memcpy(&w, W[k].at + row * W[k].step + from, lanes * sizeof(float));
      for (int m = 0; m < n; ++m) {
        const V a = w * re[m], b = w * im[m];
        for (int j = 0; j <= m; ++j, out += 2) {
          out[0] += a * re[j] + b * im[j];
          out[1] += b * re[j] - a * im[j];
        }
      }
    }
  }

  // psd (masks, freqs, channels, channels), Hermitian
  template <class Value>
  void put(int64_t f, int64_t n_freqs, Bin* psd, const Value& value) const {
    int i = 0;
    for (int k = 0; k < n_masks; ++k) {
      Bin* of_mask = psd + (k * n_freqs + f) * n * n;
      for (int m = 0; m < n; ++m)
        for (int j = 0; j <= m; ++j, i += 2) {
          of_mask[m * n + j] = {value(i), j < m ? value(i + 1) : 0};
          of_mask[j * n + m] = {value(i), j < m ? -value(i + 1) : 0};
        }
    }
  }
};

}  // namespace clearbeam

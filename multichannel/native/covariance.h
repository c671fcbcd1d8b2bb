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

// sum w x_m conj(x_n) of `n` channels for each of the masks w. Some vectors of all channels are
// gathered in the nearest cache; then four sums of a row at a time stay in registers.
class OuterSums {
 public:
  OuterSums(const Plane<Bin>* x, int n_channels, const Plane<float>* masks, int count)
      : X(x), W(masks), n(n_channels), n_masks(count), n_sums(count * n_channels * (n_channels + 1)),
        re((n + COLUMNS) * DEPTH), im((n + COLUMNS) * DEPTH), weights(count * DEPTH), sums(n_sums) {}

  // Rows are frames and lanes frequencies. Sums of a few frames add up in double precision.
  void over_rows(int64_t n_freqs, int64_t n_frames, Bin* psd) {
    const int64_t n_blocks = (n_freqs + LANES - 1) / LANES;
    std::vector<double> totals(n_blocks * n_sums * LANES);
    for (int64_t t = 0; t < n_frames; t += DEPTH)
      for (int64_t block = 0; block < n_blocks; ++block) {
        std::fill(sums.begin(), sums.end(), V{});
        const int lanes = int(std::min<int64_t>(LANES, n_freqs - block * LANES));
        const int depth = int(std::min<int64_t>(DEPTH, n_frames - t));
        for (int i = 0; i < depth; ++i) gather(t + i, block * LANES, lanes, i);
        add(depth);
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
      for (int64_t t = 0; t < n_frames;) {
        int depth = 0;
        for (; depth < DEPTH && t < n_frames; ++depth, t += LANES)
          gather(f, t, int(std::min<int64_t>(LANES, n_frames - t)), depth);
        add(depth);
      }
      put(f, n_freqs, psd, [&](int i) { return sum(sums[i]); });
    }
  }

 private:
  static constexpr int DEPTH = 16, COLUMNS = 4;
  const Plane<Bin>* X;
  const Plane<float>* W;
  const int n, n_masks, n_sums;
  std::vector<V> re, im, weights;  // DEPTH vectors of each channel and mask
  std::vector<V> sums;             // real and imaginary part of each pair of each mask

  // Vector `i` of every channel and mask; lanes beyond the last are zero.
  void gather(int64_t row, int64_t from, int lanes, int i) {
    for (int m = 0; m < n; ++m) {
      const Bin* x = X[m].at + row * X[m].step + from;
      Bin padded[LANES] = {};
      if (lanes < LANES) x = static_cast<Bin*>(std::memcpy(padded, x, lanes * sizeof(Bin)));
      take_complex(x, re[m * DEPTH + i], im[m * DEPTH + i], Lanes{});
    }
    for (int k = 0; k < n_masks; ++k) {
      const float* w = W[k].at + row * W[k].step + from;
      V& to = weights[k * DEPTH + i];
      to = lanes < LANES ? V{} : load(w);
      if (lanes < LANES) std::memcpy(&to, w, lanes * sizeof(float));
    }
  }

  // To all sums what was gathered.
  void add(int depth) {
    V* out = sums.data();
    for (int k = 0; k < n_masks; ++k)
      for (int m = 0; m < n; ++m)
        for (int j = 0; j <= m; j += COLUMNS) {
          multiply(&weights[k * DEPTH], m, j, depth, out);
          out += 2 * std::min(COLUMNS, m + 1 - j);
        }
  }

  // Adds w x_m conj(x_c) for up to COLUMNS channels c from j to m.
  void multiply(const V* w, int m, int j, int depth, V* out) const {
    V real[COLUMNS], imag[COLUMNS];
    for (int c = 0; c < COLUMNS; ++c) real[c] = imag[c] = V{};
    const V *re_m = &re[m * DEPTH], *im_m = &im[m * DEPTH];
    const V *re_j = &re[j * DEPTH], *im_j = &im[j * DEPTH];
    for (int i = 0; i < depth; ++i) {
      const V a = w[i] * re_m[i], b = w[i] * im_m[i];
      for (int c = 0; c < COLUMNS; ++c) {
        real[c] += a * re_j[c * DEPTH + i];
        imag[c] += b * re_j[c * DEPTH + i];
        real[c] += b * im_j[c * DEPTH + i];
        imag[c] -= a * im_j[c * DEPTH + i];
      }
    }
    for (int c = 0; c < COLUMNS && j + c <= m; ++c) {
      out[2 * c] += real[c];
      out[2 * c + 1] += imag[c];
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

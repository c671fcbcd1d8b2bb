// The STFT of many frames and its inverse: multichannel/stft.py in single precision, sixteen frames
// at a time, one to a lane.
#pragma once
#include "fft.h"
#include "vectors.h"

#include <algorithm>

namespace clearbeam {

// Rows become lanes and lanes rows: bit by bit of their numbers.
template <int BIT, int... L>
void exchange(V* rows, std::integer_sequence<int, L...>) {
  for (int i = 0; i < LANES; ++i)
    if (!(i & BIT)) {
      const V a = rows[i], b = rows[i + BIT];
      rows[i] = __builtin_shufflevector(a, b, (L & BIT ? LANES + L - BIT : L)...);
      rows[i + BIT] = __builtin_shufflevector(a, b, (L & BIT ? LANES + L : L + BIT)...);
    }
}
inline void transpose(V* rows) {
  constexpr Lanes lanes{};
  exchange<1>(rows, lanes);
  exchange<2>(rows, lanes);
  exchange<4>(rows, lanes);
  exchange<8>(rows, lanes);
}

template <int N>
class Frames {
 public:
  static constexpr int BINS = N / 2 + 1;
  static constexpr Lanes lanes{};

  // X (n_frames, BINS) of frames that start every `hop` samples of x (n_samples), the first one at
  // `first`; outside of x there are zeros.
  void analyse(const float* x, int64_t n_samples, int64_t first, int64_t n_frames, int64_t hop,
               const float* window, Bin* X) {
    for (int64_t t = 0; t < n_frames; t += LANES) {
      const int n = int(std::min<int64_t>(LANES, n_frames - t));
      const float* starts[LANES];
      for (int l = 0; l < n; ++l) {
        const int64_t at = first + (t + l) * hop;
        starts[l] = 0 <= at && at + N <= n_samples ? x + at : padded(x, n_samples, at, l);
      }
      for (int i = 0; i < N; i += LANES) {
        const V w = load(window + i);
        for (int l = 0; l < LANES; ++l) samples[i + l] = l < n ? load(starts[l] + i) * w : V{};
        transpose(samples + i);
      }
      fft.forward(samples, re, im);
      for (int k = 0; k + 1 < BINS; k += LANES) {
        transpose(re + k);
        transpose(im + k);
        for (int l = 0; l < n; ++l)
          put_complex(re[k + l], im[k + l], X + (t + l) * BINS + k, lanes);
      }
      for (int l = 0; l < n; ++l) X[(t + l) * BINS + BINS - 1] = {re[BINS - 1][l], im[BINS - 1][l]};
    }
  }

  // Adds the last `n_window` samples of each frame of X (n_frames, BINS) to y, every `hop` samples;
  // n_window is a multiple of 16.
  void synthesise(const Bin* X, int64_t n_frames, int64_t hop, const float* window, int n_window,
                  float* y) {
    for (int64_t t = 0; t < n_frames; t += LANES) {
      const int n = int(std::min<int64_t>(LANES, n_frames - t));
      for (int k = 0; k + 1 < BINS; k += LANES) {
        for (int l = 0; l < LANES; ++l)
          if (l < n) take_complex(X + (t + l) * BINS + k, re[k + l], im[k + l], lanes);
          else re[k + l] = im[k + l] = V{};
        transpose(re + k);
        transpose(im + k);
      }
      im[BINS - 1] = V{};
      for (int l = 0; l < LANES; ++l) re[BINS - 1][l] = l < n ? X[(t + l) * BINS + BINS - 1].re : 0;
      fft.inverse(re, im, samples);
      for (int i = 0; i < N; i += LANES) transpose(samples + i);
      for (int l = 0; l < n; ++l) add_frame(l, window, n_window, y + (t + l) * hop);
    }
  }

 private:
  Fft<V, N> fft;
  V samples[N], re[BINS + LANES], im[BINS + LANES];
  float edges[LANES][N];

  // A frame that reaches over an end of x.
  const float* padded(const float* x, int64_t n_samples, int64_t at, int lane) {
    for (int64_t i = 0; i < N; ++i) {
      const bool inside = 0 <= at + i && at + i < n_samples;
      edges[lane][i] = inside ? x[at + i] : 0.0f;
    }
    return edges[lane];
  }

  // Row l of each block of samples is of frame l.
  void add_frame(int l, const float* window, int n_window, float* y) const {
    for (int i = N - n_window; i < N; i += LANES, y += LANES, window += LANES)
      store(y, load(y) + samples[i + l] * load(window));
  }
};

}  // namespace clearbeam

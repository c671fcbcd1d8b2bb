// A beam of a whole block: multichannel/beamform.py where the weights do not change with time.
#pragma once
#include "covariance.h"

namespace clearbeam {

// Y (frames, freqs) = sum over channels of w (channels, freqs) X; rows of X are frames.
inline void sum_of_channels(const Plane<Bin>* X, int n_channels, const Bin* w, int64_t n_freqs,
                         int64_t n_frames, Bin* Y) {
  std::fill(Y, Y + n_frames * n_freqs, Bin{});
  for (int64_t t = 0; t < n_frames; ++t)
    for (int m = 0; m < n_channels; ++m) {  // a row of the beam stays in the nearest cache
      const Bin* x = X[m].at + t * X[m].step;
      const Bin* a = w + m * n_freqs;
      Bin* y = Y + t * n_freqs;
      for (int64_t f = 0; f < n_freqs; ++f) {
        y[f].re += a[f].re * x[f].re - a[f].im * x[f].im;
        y[f].im += a[f].re * x[f].im + a[f].im * x[f].re;
      }
    }
}

}  // namespace clearbeam

// A beam of a whole block: multichannel/beamform.py where the weights do not change with time.
#pragma once
#include "covariance.h"

namespace clearbeam {

// Rows of Y follow each other: Y = sum over channels of w X, `weight(channel, row, lane)` giving w.
template <class Weight>
void sum_of_channels(const Plane<Bin>* X, int n_channels, int64_t n_rows, int64_t n_lanes, Bin* Y,
                     const Weight& weight) {
  std::fill(Y, Y + n_rows * n_lanes, Bin{});
  for (int64_t row = 0; row < n_rows; ++row)
    for (int m = 0; m < n_channels; ++m) {  // a row of the beam stays in the nearest cache
      const Bin* x = X[m].at + row * X[m].step;
      Bin* y = Y + row * n_lanes;
      for (int64_t lane = 0; lane < n_lanes; ++lane) {
        const Bin a = weight(m, row, lane);
        y[lane].re += a.re * x[lane].re - a.im * x[lane].im;
        y[lane].im += a.re * x[lane].im + a.im * x[lane].re;
      }
    }
}

}  // namespace clearbeam

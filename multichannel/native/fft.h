// The real FFT of 512 samples and its inverse, of many signals at once: one to a lane. In double
// precision, because a beam of mics that nearly agree is a small difference of large numbers.
#pragma once
#include "vectors.h"

#include <cmath>

namespace clearbeam {

constexpr int N_FFT = 512, N_HALF = N_FFT / 2;

struct Twiddles {
  double re[N_FFT], im[N_FFT];  // e^(-2 pi i k / 512)
  Twiddles() {
    for (int k = 0; k < N_FFT; ++k) {
      re[k] = std::cos(2 * M_PI * k / N_FFT);
      im[k] = -std::sin(2 * M_PI * k / N_FFT);
    }
  }
};
inline const Twiddles& twiddles() {
  static const Twiddles table;
  return table;
}

// T: double or D. Two real samples are one complex value, so half the length does (Sorensen et al.
// 1987); Stockham's order needs no bit reversal.
template <class T>
class Fft {
 public:
  // x[512] -> re[257], im[257]
  void forward(const T* x, T* re, T* im) {
    for (int n = 0; n < N_HALF; ++n) {
      a_re[n] = x[2 * n];
      a_im[n] = x[2 * n + 1];
    }
    transform();
    const Twiddles& w = twiddles();
    for (int k = 0; k <= N_HALF; ++k) {
      const int p = k % N_HALF, q = (N_HALF - k) % N_HALF;
      const T even_re = (a_re[p] + a_re[q]) * 0.5, even_im = (a_im[p] - a_im[q]) * 0.5;
      const T odd_re = (a_im[p] + a_im[q]) * 0.5, odd_im = (a_re[q] - a_re[p]) * 0.5;
      re[k] = even_re + w.re[k] * odd_re - w.im[k] * odd_im;
      im[k] = even_im + w.re[k] * odd_im + w.im[k] * odd_re;
    }
  }

  // re[257], im[257] -> x[512]; conjugating both sides of the forward transform inverts it.
  void inverse(const T* re, const T* im, T* x) {
    const Twiddles& w = twiddles();
    for (int k = 0; k < N_HALF; ++k) {
      const int q = N_HALF - k;
      const T im_k = k ? im[k] : T{}, im_q = k ? im[q] : T{};  // real at both ends
      const T even_re = re[k] + re[q], even_im = im_k - im_q;
      const T diff_re = re[k] - re[q], diff_im = im_k + im_q;
      const T odd_re = w.re[k] * diff_re + w.im[k] * diff_im;
      const T odd_im = w.re[k] * diff_im - w.im[k] * diff_re;
      a_re[k] = even_re - odd_im;
      a_im[k] = -(even_im + odd_re);
    }
    transform();
    for (int n = 0; n < N_HALF; ++n) {
      x[2 * n] = a_re[n] * (1.0 / N_FFT);
      x[2 * n + 1] = a_im[n] * (-1.0 / N_FFT);
    }
  }

 private:
  T a_re[N_HALF], a_im[N_HALF], b_re[N_HALF], b_im[N_HALF];

  void transform() {  // radix 4, so two passes there and two back: the result is in a
    pass(a_re, a_im, b_re, b_im, 256, 1);
    pass(b_re, b_im, a_re, a_im, 64, 4);
    pass(a_re, a_im, b_re, b_im, 16, 16);
    pass(b_re, b_im, a_re, a_im, 4, 64);
  }

  static void pass(const T* x_re, const T* x_im, T* y_re, T* y_im, int n, int stride) {
    const Twiddles& w = twiddles();
    const int quarter = n / 4;
    for (int p = 0; p < quarter; ++p) {
      const int turn = 2 * p * stride;  // of 512
      const double w1r = w.re[turn], w1i = w.im[turn];
      const double w2r = w.re[2 * turn], w2i = w.im[2 * turn];
      const double w3r = w.re[3 * turn % N_FFT], w3i = w.im[3 * turn % N_FFT];
      for (int q = 0; q < stride; ++q) {
        const int i0 = q + stride * p, step = stride * quarter;
        const int i1 = i0 + step, i2 = i1 + step, i3 = i2 + step;
        const T sr = x_re[i0] + x_re[i2], si = x_im[i0] + x_im[i2];
        const T dr = x_re[i0] - x_re[i2], di = x_im[i0] - x_im[i2];
        const T tr = x_re[i1] + x_re[i3], ti = x_im[i1] + x_im[i3];
        const T er = x_im[i1] - x_im[i3], ei = x_re[i3] - x_re[i1];  // -i (x1 - x3)
        const int o = q + stride * 4 * p;
        y_re[o] = sr + tr;
        y_im[o] = si + ti;
        rotate(dr + er, di + ei, w1r, w1i, y_re[o + stride], y_im[o + stride]);
        rotate(sr - tr, si - ti, w2r, w2i, y_re[o + 2 * stride], y_im[o + 2 * stride]);
        rotate(dr - er, di - ei, w3r, w3i, y_re[o + 3 * stride], y_im[o + 3 * stride]);
      }
    }
  }

  static void rotate(T re, T im, double w_re, double w_im, T& y_re, T& y_im) {
    y_re = re * w_re - im * w_im;
    y_im = re * w_im + im * w_re;
  }
};

}  // namespace clearbeam

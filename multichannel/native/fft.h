// The real FFT and its inverse, of many signals at once: one to a lane. Live in double precision,
// because a beam of mics that nearly agree is a small difference of large numbers.
#pragma once
#include "vectors.h"

#include <cmath>
#include <utility>

namespace clearbeam {

constexpr int N_FFT = 512, N_HALF = N_FFT / 2;  // of the networks

template <class S, int N>
struct Twiddles {
  S re[N], im[N];  // e^(-2 pi i k / N)
  Twiddles() {
    for (int k = 0; k < N; ++k) {
      re[k] = S(std::cos(2 * M_PI * k / N));
      im[k] = S(-std::sin(2 * M_PI * k / N));
    }
  }
};
template <class S, int N>
const Twiddles<S, N>& twiddles() {
  static const Twiddles<S, N> table;
  return table;
}

template <class T>
struct Lane {
  typedef double type;
};
template <>
struct Lane<V> {
  typedef float type;
};

// T: double, D or V; N: twice a power of four. Two real samples are one complex value, so half the
// length does (Sorensen et al. 1987); Stockham's order needs no bit reversal.
template <class T, int N = N_FFT>
class Fft {
  typedef typename Lane<T>::type S;
  static constexpr int HALF = N / 2;

 public:
  // x[N] -> re[N / 2 + 1], im[N / 2 + 1]
  void forward(const T* x, T* re, T* im) {
    for (int n = 0; n < HALF; ++n) {
      a_re[n] = x[2 * n];
      a_im[n] = x[2 * n + 1];
    }
    transform();
    const auto& w = twiddles<S, N>();
    for (int k = 0; k <= HALF; ++k) {
      const int p = k % HALF, q = (HALF - k) % HALF;
      const T even_re = (z_re[p] + z_re[q]) * S(0.5), even_im = (z_im[p] - z_im[q]) * S(0.5);
      const T odd_re = (z_im[p] + z_im[q]) * S(0.5), odd_im = (z_re[q] - z_re[p]) * S(0.5);
      re[k] = even_re + w.re[k] * odd_re - w.im[k] * odd_im;
      im[k] = even_im + w.re[k] * odd_im + w.im[k] * odd_re;
    }
  }

  // re[N / 2 + 1], im[N / 2 + 1] -> x[N]; conjugating both sides of the forward transform inverts it.
  void inverse(const T* re, const T* im, T* x) {
    const auto& w = twiddles<S, N>();
    for (int k = 0; k < HALF; ++k) {
      const int q = HALF - k;
      const T im_k = k ? im[k] : T{}, im_q = k ? im[q] : T{};  // real at both ends
      const T even_re = re[k] + re[q], even_im = im_k - im_q;
      const T diff_re = re[k] - re[q], diff_im = im_k + im_q;
      const T odd_re = w.re[k] * diff_re + w.im[k] * diff_im;
      const T odd_im = w.re[k] * diff_im - w.im[k] * diff_re;
      a_re[k] = even_re - odd_im;
      a_im[k] = -(even_im + odd_re);
    }
    transform();
    for (int n = 0; n < HALF; ++n) {
      x[2 * n] = z_re[n] * S(1.0 / N);
      x[2 * n + 1] = z_im[n] * S(-1.0 / N);
    }
  }

 private:
  T a_re[HALF], a_im[HALF], b_re[HALF], b_im[HALF];
  T *z_re, *z_im;  // where the result stands

  void transform() {  // radix 4, from a to b and back
    T *y_re = b_re, *y_im = b_im;
    z_re = a_re, z_im = a_im;
    for (int n = HALF, stride = 1; n > 1; n /= 4, stride *= 4) {
      pass(z_re, z_im, y_re, y_im, n, stride);
      std::swap(z_re, y_re);
      std::swap(z_im, y_im);
    }
  }

  static void pass(const T* x_re, const T* x_im, T* y_re, T* y_im, int n, int stride) {
    const auto& w = twiddles<S, N>();
    const int quarter = n / 4;
    for (int p = 0; p < quarter; ++p) {
      const int turn = 2 * p * stride;  // of N
      const S w1r = w.re[turn], w1i = w.im[turn];
      const S w2r = w.re[2 * turn], w2i = w.im[2 * turn];
      const S w3r = w.re[3 * turn % N], w3i = w.im[3 * turn % N];
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

  static void rotate(T re, T im, S w_re, S w_im, T& y_re, T& y_im) {
    y_re = re * w_re - im * w_im;
    y_im = re * w_im + im * w_re;
  }
};

}  // namespace clearbeam

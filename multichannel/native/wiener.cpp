// The time-varying Wiener filter of separation/wiener.py, one frequency after the other; frames lie
// side by side in vectors.
#include "vectors.h"

#include <algorithm>
#include <cmath>

namespace clearbeam {
namespace {

constexpr int MAX_MICS = 16, MAX_CLASSES = 8;
constexpr float TINY = 1e-20f;

struct Complex {
  V re, im;
};
// a - b c, and the product of a and the conjugate of b.
inline Complex less(Complex a, Complex b, Complex c) {
  return {a.re - b.re * c.re + b.im * c.im, a.im - b.re * c.im - b.im * c.re};
}

class Wiener {
 public:
  Wiener(int n_mics, int n_classes, int reference_mic)
      : m(n_mics), k(n_classes), reference(reference_mic) {}

  // Covariances over their power, loaded as multichannel/loading.py does; total: (classes) matrices.
  void learn(const Bin* total, int64_t class_step, double loading) {
    for (int c = 0; c < k; ++c, total += class_step) {
      double power = 0;
      for (int i = 0; i < m; ++i) power += total[i * m + i].re;
      power /= m;
      const bool known = power > double(TINY);
      for (int i = 0; i < m; ++i)
        for (int j = 0; j < m; ++j) {
          const Bin one = total[i * m + j];
          const double scale = known ? 1 / power / (i == j ? 1 : 1 + loading) : 0;
          const double load = i == j ? loading + !known : 0;
          R[c][i][j] = {float(one.re * scale + load), float(one.im * scale)};
        }
    }
  }

  // x: mics of a vector of frames, used up; share: of the classes; image: of each class.
  void filter(Complex* x, const V* share, Complex* image) {
    for (int i = 0; i < m; ++i)
      for (int j = i; j < m; ++j) {
        A[i][j] = Complex{};
        for (int c = 0; c < k; ++c) {
          A[i][j].re += R[c][i][j].re * share[c];
          A[i][j].im += R[c][i][j].im * share[c];
        }
      }
    solve(x);
    for (int c = 0; c < k; ++c) {
      Complex sum{};
      for (int j = 0; j < m; ++j) {
        const Bin r = R[c][reference][j];
        sum.re += r.re * x[j].re - r.im * x[j].im;
        sum.im += r.re * x[j].im + r.im * x[j].re;
      }
      image[c] = {sum.re * share[c], sum.im * share[c]};
    }
  }

 private:
  const int m, k, reference;
  Bin R[MAX_CLASSES][MAX_MICS][MAX_MICS];
  Complex A[MAX_MICS][MAX_MICS];

  // x becomes A^-1 x, by elimination: a positive matrix needs no pivots.
  void solve(Complex* x) {
    for (int i = 0; i < m; ++i) {
      const V pivot = A[i][i].re, inverse = 1.0f / (pivot > TINY ? pivot : splat(TINY));
      for (int j = i + 1; j < m; ++j) {
        const Complex factor{A[i][j].re * inverse, -A[i][j].im * inverse};
        x[j] = less(x[j], factor, x[i]);
        for (int l = j; l < m; ++l) A[j][l] = less(A[j][l], factor, A[i][l]);
      }
      x[i] = {x[i].re * inverse, x[i].im * inverse};
      for (int j = i + 1; j < m; ++j) A[i][j] = {A[i][j].re * inverse, A[i][j].im * inverse};
    }
    for (int i = m - 2; i >= 0; --i)
      for (int j = i + 1; j < m; ++j) x[i] = less(x[i], A[i][j], x[j]);
  }
};

}  // namespace
}  // namespace clearbeam

using namespace clearbeam;

extern "C" {

// X: complex, with its steps in values over mics, freqs and frames; masks: (classes, freqs, frames),
// with its steps; total: complex (classes, freqs, mics, mics); images: complex (classes, freqs, frames).
void wiener_images(const Bin* X, const int64_t* X_steps, int n_mics, int64_t n_freqs,
                   int64_t n_frames, const float* masks, const int64_t* steps, int n_classes,
                   const Bin* total, int reference_mic, double loading, Bin* images) {
  Wiener wiener(n_mics, n_classes, reference_mic);
  Complex x[MAX_MICS], image[MAX_CLASSES];
  V share[MAX_CLASSES];
  for (int64_t f = 0; f < n_freqs; ++f) {
    wiener.learn(total + f * n_mics * n_mics, n_freqs * n_mics * n_mics, loading);
    for (int64_t first = 0; first < n_frames; first += LANES) {
      const int n = int(std::min<int64_t>(LANES, n_frames - first));
      std::fill_n(x, n_mics, Complex{});
      std::fill_n(share, n_classes, splat(1.0f));
      for (int l = 0; l < n; ++l) {
        const Bin* bins = X + f * X_steps[1] + (first + l) * X_steps[2];
        for (int i = 0; i < n_mics; ++i) {
          const Bin bin = bins[i * X_steps[0]];
          const bool finite = std::isfinite(bin.re) && std::isfinite(bin.im);
          x[i].re[l] = finite ? bin.re : 0;
          x[i].im[l] = finite ? bin.im : 0;
        }
        for (int c = 0; c < n_classes; ++c)
          share[c][l] = masks[c * steps[0] + f * steps[1] + (first + l) * steps[2]];
      }
      wiener.filter(x, share, image);
      for (int c = 0; c < n_classes; ++c)
        for (int l = 0; l < n; ++l)
          images[(c * n_freqs + f) * n_frames + first + l] = {image[c].re[l], image[c].im[l]};
    }
  }
}
}

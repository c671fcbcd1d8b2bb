// Live beams: recursive covariances (multichannel/spatial.py) and what a beam aims at
// (multichannel/aim.py), frame by frame, eight bins at a time, in double precision throughout.
#pragma once
#include "frame_gtcrn.h"
#include "mvdr.h"

#include <cfloat>

namespace clearbeam {

using Exact = SpectrumOf<double>;

constexpr double TINY_POWER = 1e-20;  // as in frontend.py

inline double power(const Exact& X, int f) { return X.re[f] * X.re[f] + X.im[f] * X.im[f]; }

// Speech presence: the share of the power in X that S explains.
inline void fill_presence(const Exact* S, const Exact* const* X, int n, double* presence) {
  double speech[ROW] = {}, rest[ROW] = {};
  for (int i = 0; i < n; ++i)
    for (int f = 0; f < ROW; ++f) {
      const double re = X[i]->re[f] - S[i].re[f], im = X[i]->im[f] - S[i].im[f];
      speech[f] += power(S[i], f);
      rest[f] += re * re + im * im;
    }
  for (int f = 0; f < ROW; ++f) presence[f] = speech[f] / (speech[f] + rest[f] + TINY_POWER);
}

inline Complex bins(const Exact& X, int f) { return {load(&X.re[f]), load(&X.im[f])}; }

// x x^H
inline void fill_products(const Complex* x, int n, Complex* products) {
  for (int i = 0; i < n; ++i)
    for (int j = 0; j <= i; ++j)
      products[pair(i, j)] = {x[i].re * x[j].re + x[i].im * x[j].im,
                              x[i].im * x[j].re - x[i].re * x[j].im};
}

// Exponentially forgetting sums of x x^H, a weight a bin.
class Covariance {
 public:
  Covariance(int n_channels, double forgetting_)
      : n_pairs(pair(n_channels, 0)), forgetting(forgetting_), total(ROW / DOUBLES * n_pairs),
        weight(ROW) {}

  // Adds products in eight bins from f on, and says the means there.
  void add(const Complex* products, D mask, int f, Complex* means) {
    D sum = forgetting * load(&weight[f]) + mask;
    const D inverse = 1.0 / (sum > DBL_MIN ? sum : splat(DBL_MIN));
    const M faded = (sum > 0.0) & (sum < HELD);  // keeps the mean but not the decay
    const D kept = faded ? HELD / sum : splat(1.0);
    store(&weight[f], sum * kept);
    Complex* sums = &total[f / DOUBLES * n_pairs];
    for (int at = 0; at < n_pairs; ++at) {
      const D re = forgetting * sums[at].re + mask * products[at].re;
      const D im = forgetting * sums[at].im + mask * products[at].im;
      means[at] = {re * inverse, im * inverse};
      sums[at] = {re * kept, im * kept};
    }
  }

  // Nothing is known any more of one of `n` channels.
  void forget(int channel, int n) {
    for (size_t at = 0; at < total.size(); at += n_pairs)
      for (int i = 0; i < n; ++i)
        total[at + (i > channel ? pair(i, channel) : pair(channel, i))] = Complex{};
  }

  // What is known counts less beside what comes.
  void fade() {
    for (Complex& one : total) one = {KEPT * one.re, KEPT * one.im};
    for (double& one : weight) one *= KEPT;
  }

  template <class Visit>
  void visit_state(const Visit& visit) {
    visit(total.data(), total.size());
    visit(weight.data(), weight.size());
  }

 private:
  static constexpr double HELD = 1e-10, KEPT = 0.1;  // as in spatial.py and aim.py
  int n_pairs;
  double forgetting;
  std::vector<Complex> total;  // (eight bins, pairs)
  std::vector<double> weight;
};

inline void fill_beam(const Complex* w, const Complex* x, int n, int f, Exact& beam) {
  D re{}, im{};
  for (int m = 0; m < n; ++m) {  // conj(w) x
    re += w[m].re * x[m].re + w[m].im * x[m].im;
    im += w[m].re * x[m].im - w[m].im * x[m].re;
  }
  store(&beam.re[f], re);
  store(&beam.im[f], im);
}

// Souden's MVDR from the presence of speech.
class PresenceBeam {
 public:
  PresenceBeam(int n_mics, double speech_forgetting, double noise_forgetting, double loading_)
      : n(n_mics), loading(loading_), speech(n, speech_forgetting), noise(n, noise_forgetting) {}

  void step(const Exact* X, const double* presence, int reference_mic, Exact& beam) {
    Complex x[MAX_MICS], products[MAX_PAIRS];
    for (int f = 0; f < N_FREQS; f += DOUBLES) {
      for (int m = 0; m < n; ++m) x[m] = bins(X[m], f);
      fill_products(x, n, products);
      const D mask = load(&presence[f]);
      speech.add(products, mask, f, mvdr.speech);
      noise.add(products, 1.0 - mask, f, mvdr.noise);
      mvdr.solve(n, reference_mic, splat(loading));
      fill_beam(mvdr.w, x, n, f, beam);
    }
  }

  void forget(int mic) {
    speech.forget(mic, n);
    noise.forget(mic, n);
  }
  void fade() {
    speech.fade();
    noise.fade();
  }

  template <class Visit>
  void visit_state(const Visit& visit) {
    speech.visit_state(visit);
    noise.visit_state(visit);
  }

 private:
  int n;
  double loading;
  Covariance speech, noise;
  Mvdr mvdr;
};

// MVDR towards an estimate of the talker.
class EstimateBeam {
 public:
  EstimateBeam(int n_mics, double forgetting, double loading_)
      : n(n_mics), loading(loading_), covariance(n + 1, forgetting) {}

  void step(const Exact* X, const Exact& S, int reference_mic, Exact& beam) {
    Complex x[MAX_MICS], even[MAX_MICS + 1], products[pair(MAX_MICS + 1, 0)];
    n_frames += 1;
    const double few = n / n_frames;
    const double loaded = loading + RELATIVE_LOADING + few * few * few;
    for (int f = 0; f < N_FREQS; f += DOUBLES) {
      for (int m = 0; m < n; ++m) x[m] = bins(X[m], f);
      fill_evened(x, bins(S, f), even);
      fill_products(even, n + 1, products);
      covariance.add(products, splat(1.0), f, products);
      fill_statistics(products);
      mvdr.solve(n, reference_mic, splat(loaded));
      fill_beam(mvdr.w, x, n, f, beam);
    }
  }

  void forget(int mic) { covariance.forget(mic, n + 1); }
  void fade() { covariance.fade(); }

  template <class Visit>
  void visit_state(const Visit& visit) {
    covariance.visit_state(visit);
    visit(&n_frames, 1);
  }

 private:
  static constexpr double UNEXPLAINED = 1e-3, TINY = 1e-30, RELATIVE_LOADING = 1e-6;
  int n;
  double loading;
  Covariance covariance;
  double n_frames = 0;
  Mvdr mvdr;

  // Mics and estimate over the square root of the mics' magnitude: `evened` in aim.py.
  void fill_evened(const Complex* x, const Complex& s, Complex* even) const {
    D mean{};
    for (int m = 0; m < n; ++m) mean += x[m].re * x[m].re + x[m].im * x[m].im;
    double scale[DOUBLES];
    for (int i = 0; i < DOUBLES; ++i) {
      const double one = mean[i] / n;
      scale[i] = one > TINY ? 1.0 / std::sqrt(std::sqrt(one)) : 0.0;
    }
    const D by = load(scale);
    for (int m = 0; m <= n; ++m) {
      const Complex& from = m < n ? x[m] : s;
      even[m] = {from.re * by, from.im * by};
    }
  }

  // Speech of rank one and what it leaves, from the means: `mvdr_towards_estimate` in aim.py.
  void fill_statistics(const Complex* means) {
    const double unexplained = std::min(1.0, UNEXPLAINED + 1.0 / n_frames);
    Complex cross[MAX_MICS];
    for (int i = 0; i < n; ++i) {
      const Complex& row = means[pair(n, i)];  // the estimate's row: conj of its column
      cross[i] = {row.re, -row.im};
    }
    const D talker = means[pair(n, n)].re, scale = 1.0 / (talker > TINY ? talker : splat(TINY));
    fill_products(cross, n, mvdr.speech);
    for (int at = 0; at < pair(n, 0); ++at) {
      Complex& speech = mvdr.speech[at];
      speech = {speech.re * scale, speech.im * scale};
      mvdr.noise[at] = {means[at].re - (1 - unexplained) * speech.re,
                        means[at].im - (1 - unexplained) * speech.im};
    }
  }
};

}  // namespace clearbeam

// Live beams: recursive covariances (multichannel/spatial.py) and what a beam aims at
// (multichannel/aim.py), frame by frame.
#pragma once
#include "frame_gtcrn.h"
#include "mvdr.h"

#include <cfloat>

namespace clearbeam {

constexpr float TINY_POWER = 1e-20f;  // as in frontend.py

inline float power(const Spectrum& X, int f) { return X.re[f] * X.re[f] + X.im[f] * X.im[f]; }

// Speech presence: the share of the power in X that S explains.
inline void fill_presence(const Spectrum* S, const Spectrum* const* X, int n, float* presence) {
  float speech[ROW] = {}, rest[ROW] = {};
  for (int i = 0; i < n; ++i)
    for (int f = 0; f < ROW; ++f) {
      const float re = X[i]->re[f] - S[i].re[f], im = X[i]->im[f] - S[i].im[f];
      speech[f] += power(S[i], f);
      rest[f] += re * re + im * im;
    }
  for (int f = 0; f < ROW; ++f) presence[f] = speech[f] / (speech[f] + rest[f] + TINY_POWER);
}

// Exponentially forgetting sums of x x^H, a weight a bin.
class Covariance {
 public:
  Covariance(int n_channels, float forgetting_)
      : n(n_channels), forgetting(forgetting_), re(pair(n, 0) * ROW), im(re), weight(ROW),
        inverse(ROW) {}

  void add(const Spectrum* X, const float* mask) {
    for (int f = 0; f < ROW; ++f) weight[f] = forgetting * weight[f] + mask[f];
    for (int i = 0; i < n; ++i)
      for (int j = 0; j <= i; ++j) {
        float *r = &re[pair(i, j) * ROW], *m = &im[pair(i, j) * ROW];
        const Spectrum &a = X[i], &b = X[j];
        for (int f = 0; f < ROW; ++f) {
          r[f] = forgetting * r[f] + mask[f] * (a.re[f] * b.re[f] + a.im[f] * b.im[f]);
          m[f] = forgetting * m[f] + mask[f] * (a.im[f] * b.re[f] - a.re[f] * b.im[f]);
        }
      }
    for (int f = 0; f < ROW; ++f)
      if (weight[f] > 0 && weight[f] < HELD) hold(f);
    for (int f = 0; f < ROW; ++f) inverse[f] = 1.0f / (weight[f] > FLT_MIN ? weight[f] : FLT_MIN);
  }

  // The mean in eight bins from f on, of pair (i, j).
  Complex mean(int at, int f) const {
    const D scale = load_double(&inverse[f]);
    return {load_double(&re[at * ROW + f]) * scale, load_double(&im[at * ROW + f]) * scale};
  }

  template <class Visit>
  void visit_state(const Visit& visit) {
    visit(re.data(), re.size());
    visit(im.data(), im.size());
    visit(weight.data(), weight.size());
  }

 private:
  static constexpr float HELD = 1e-10f;  // as in spatial.py
  int n;
  float forgetting;
  std::vector<float> re, im, weight, inverse;

  // Keep the mean but not the decay of what has faded.
  void hold(int f) {
    const float scale = HELD / weight[f];
    weight[f] = HELD;
    for (int at = 0; at < pair(n, 0); ++at) {
      re[at * ROW + f] *= scale;
      im[at * ROW + f] *= scale;
    }
  }
};

inline void fill_beam(const Complex* w, const Spectrum* X, int n, int f, Spectrum& beam) {
  D re{}, im{};
  for (int m = 0; m < n; ++m) {  // conj(w) x
    const D x_re = load_double(&X[m].re[f]), x_im = load_double(&X[m].im[f]);
    re += w[m].re * x_re + w[m].im * x_im;
    im += w[m].re * x_im - w[m].im * x_re;
  }
  store_float(&beam.re[f], re);
  store_float(&beam.im[f], im);
}

// Souden's MVDR from the presence of speech.
class PresenceBeam {
 public:
  PresenceBeam(int n_mics, float speech_forgetting, float noise_forgetting, double loading_)
      : n(n_mics), loading(loading_), speech(n, speech_forgetting), noise(n, noise_forgetting) {}

  void step(const Spectrum* X, const float* presence, int reference_mic, Spectrum& beam) {
    float absence[ROW];
    for (int f = 0; f < ROW; ++f) absence[f] = 1.0f - presence[f];
    speech.add(X, presence);
    noise.add(X, absence);
    for (int f = 0; f < N_FREQS; f += 8) {
      for (int at = 0; at < pair(n, 0); ++at) {
        mvdr.speech[at] = speech.mean(at, f);
        mvdr.noise[at] = noise.mean(at, f);
      }
      mvdr.solve(n, reference_mic, loading);
      fill_beam(mvdr.w, X, n, f, beam);
    }
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
  EstimateBeam(int n_mics, float forgetting, double loading_)
      : n(n_mics), loading(loading_), covariance(n + 1, forgetting), channels(n + 1),
        ones(ROW, 1.0f) {}

  void step(const Spectrum* X, const Spectrum& S, int reference_mic, Spectrum& beam) {
    fill_channels(X, S);
    covariance.add(channels.data(), ones.data());
    n_frames += 1;
    const double unexplained = std::min(1.0, UNEXPLAINED + 1.0 / n_frames);
    const double few = n / double(n_frames);
    for (int f = 0; f < N_FREQS; f += 8) {
      Complex cross[MAX_MICS];
      const D talker = covariance.mean(pair(n, n), f).re;
      for (int i = 0; i < n; ++i) {
        cross[i] = covariance.mean(pair(n, i), f);  // the estimate's row: conj of its column
        cross[i].im = -cross[i].im;
      }
      const D scale = 1.0 / (talker > TINY ? talker : splat(TINY));
      for (int i = 0; i < n; ++i)
        for (int j = 0; j <= i; ++j) {
          const int at = pair(i, j);
          const Complex &a = cross[i], &b = cross[j], all = covariance.mean(at, f);
          const D re = (a.re * b.re + a.im * b.im) * scale;
          const D im = (a.im * b.re - a.re * b.im) * scale;
          mvdr.speech[at] = {re, im};
          mvdr.noise[at] = {all.re - (1 - unexplained) * re, all.im - (1 - unexplained) * im};
        }
      mvdr.solve(n, reference_mic, loading + RELATIVE_LOADING + few * few * few);
      fill_beam(mvdr.w, X, n, f, beam);
    }
  }

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
  std::vector<Spectrum> channels;
  std::vector<float> ones;
  float n_frames = 0;  // exact up to 74 hours, and by then it no longer matters
  Mvdr mvdr;

  // Mics and estimate over the square root of the mics' magnitude: `evened` in aim.py.
  void fill_channels(const Spectrum* X, const Spectrum& S) {
    float scale[ROW] = {};
    for (int m = 0; m < n; ++m)
      for (int f = 0; f < ROW; ++f) scale[f] += power(X[m], f) / n;
    for (int f = 0; f < ROW; ++f)
      scale[f] = scale[f] > 1e-30f ? 1.0f / std::sqrt(std::sqrt(scale[f])) : 0.0f;
    for (int m = 0; m <= n; ++m) {
      const Spectrum& from = m < n ? X[m] : S;
      for (int f = 0; f < ROW; ++f) {
        channels[m].re[f] = from.re[f] * scale[f];
        channels[m].im[f] = from.im[f] * scale[f];
      }
    }
  }
};

}  // namespace clearbeam

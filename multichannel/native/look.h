// A beam that looks in a direction, frame by frame: multichannel/look.py.
#pragma once
#include "beams.h"

namespace clearbeam {

class LookBeam {
 public:
  // directions: steering vectors (n, mics), the one looked at first; towards: the same one with
  // each mic in turn as the reference (mics, mics); diffuse: coherence of each pair (pairs, ROW).
  LookBeam(int n_mics, double forgetting, const Exact* directions_, int n_directions,
           const Exact* towards_, const double* diffuse_)
      : n(n_mics), directions(directions_, directions_ + n_directions * n),
        towards(towards_, towards_ + n * n), diffuse(diffuse_, diffuse_ + pair(n, 0) * ROW),
        noise(n, forgetting) {}

  void step(const Exact* X, const double* presence, int reference_mic, Exact& beam) {
    Complex x[MAX_MICS], d[MAX_MICS], products[MAX_PAIRS];
    for (int f = 0; f < N_FREQS; f += DOUBLES) {
      for (int m = 0; m < n; ++m) x[m] = bins(X[m], f);
      for (int m = 0; m < n; ++m) d[m] = bins(towards[reference_mic * n + m], f);
      fill_products(x, n, products);
      noise.add(products, 1.0 - load(&presence[f]) * gate(x, f), f, mvdr.noise);
      add_diffuse(f);
      mvdr.steer(n, reference_mic, splat(LOADING), d);
      fill_beam(mvdr.w, x, n, f, beam);
    }
  }

  void forget(int mic) { noise.forget(mic, n); }
  void fade() { noise.fade(); }

  template <class Visit>
  void visit_state(const Visit& visit) {
    noise.visit_state(visit);
  }

 private:
  static constexpr double DIFFUSE_SHARE = 4.0, LOADING = 1e-2;  // as in look.py
  int n;
  std::vector<Exact> directions, towards;
  std::vector<double> diffuse;
  Covariance noise;
  Mvdr mvdr;

  // How well the direction explains eight bins, against the best one, to the power of eight.
  D gate(const Complex* x, int f) const {
    D looked{}, best{};
    for (size_t at = 0; at < directions.size(); at += n) {
      D re{}, im{};
      for (int m = 0; m < n; ++m) {  // conj(d) x
        const Complex d = bins(directions[at + m], f);
        re += d.re * x[m].re + d.im * x[m].im;
        im += d.re * x[m].im - d.im * x[m].re;
      }
      const D heard = re * re + im * im;
      if (at == 0) looked = heard;
      best = heard > best ? heard : best;
    }
    const D fit = looked / (best + TINY_POWER), twice = fit * fit, fourth = twice * twice;
    return fourth * fourth;
  }

  // Each mic hears the diffuse field at its own level, so that a dead one stays dead.
  void add_diffuse(int f) {
    D level[MAX_MICS];
    for (int i = 0; i < n; ++i) {
      const D power = mvdr.noise[pair(i, i)].re;
      for (int k = 0; k < DOUBLES; ++k) level[i][k] = std::sqrt(std::max(power[k], 0.0));
      for (int j = 0; j <= i; ++j)
        mvdr.noise[pair(i, j)].re +=
            DIFFUSE_SHARE * level[i] * level[j] * load(&diffuse[pair(i, j) * ROW + f]);
    }
  }
};

}  // namespace clearbeam

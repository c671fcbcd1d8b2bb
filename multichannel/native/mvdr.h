// MVDR of eight bins at once, in double precision: multichannel/beamform.py, usable.py and
// loading.py in one. Covariances are lower triangles, pair(i, j) with i >= j.
#pragma once
#include "vectors.h"

namespace clearbeam {

constexpr int MAX_MICS = 16;
constexpr int pair(int i, int j) { return i * (i + 1) / 2 + j; }
constexpr int MAX_PAIRS = pair(MAX_MICS, 0);

struct Complex {
  D re, im;
};

class Mvdr {
 public:
  // In: covariances of speech and noise. Destroyed by what solves.
  Complex speech[MAX_PAIRS], noise[MAX_PAIRS];
  Complex w[MAX_MICS];

  // Souden's, towards the speech.
  void solve(int n_mics, int wanted, D loading) {
    prepare(n_mics, wanted, loading, true);
    fill_weights();
  }

  // The same from covariances (bins, mics, mics) of up to eight bins to weights (bins, mics).
  void solve(const Bin* from_speech, const Bin* from_noise, int n_bins, int n_mics, int wanted,
             const double* loading, Bin* weights) {
    D load_of{};
    for (int b = 0; b < n_bins; ++b) {
      load_of[b] = loading[b];
      for (int i = 0; i < n_mics; ++i)
        for (int j = 0; j <= i; ++j) {
          const int at = (b * n_mics + i) * n_mics + j;
          set(speech[pair(i, j)], b, from_speech[at]);
          set(noise[pair(i, j)], b, from_noise[at]);
        }
    }
    solve(n_mics, wanted, load_of);
    for (int b = 0; b < n_bins; ++b)
      for (int i = 0; i < n_mics; ++i)
        weights[b * n_mics + i] = {float(w[i].re[b]), float(w[i].im[b])};
  }

  // Towards a direction d; the noise alone counts.
  void steer(int n_mics, int wanted, D loading, const Complex* d) {
    for (int at = 0; at < pair(n_mics, 0); ++at) speech[at] = Complex{};
    prepare(n_mics, wanted, loading, false);
    fill_steered(d);
  }

 private:
  // As in usable.py and loading.py.
  static constexpr double DEAD = 1e-10, COPY = 1e-5, FLOOR = 1e-30;

  int n = 0;
  M usable[MAX_MICS], reference[MAX_MICS];
  Complex inverse[MAX_PAIRS];  // L^-1 of the noise L D L^H, and D^-1 L^-1
  Complex scaled[MAX_PAIRS];
  D pivot[MAX_MICS];

  static void set(Complex& x, int lane, Bin value) {
    x.re[lane] = value.re;
    x.im[lane] = value.im;
  }
  static M finite(D x) { return x - x == 0.0; }

  void prepare(int n_mics, int wanted, D loading, bool keep_one_copy) {
    n = n_mics;
    find_usable(wanted, keep_one_copy);
    choose_reference(wanted);
    clean_and_load(loading);
    invert();
  }

  void find_usable(int wanted, bool keep_one_copy) {
    D power[MAX_MICS], loudest{};
    M found[MAX_MICS];
    for (int i = 0; i < n; ++i) {
      power[i] = speech[pair(i, i)].re + noise[pair(i, i)].re;
      found[i] = finite(power[i]);
    }
    for (int i = 0; i < n; ++i) usable[i] = found[i];
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < i; ++j) {
        const int at = pair(i, j);
        const M bad = found[i] & found[j] &
                      ~finite(speech[at].re + noise[at].re + speech[at].im + noise[at].im);
        usable[i] &= ~bad;
        usable[j] &= ~bad;
      }
    for (int i = 0; i < n; ++i) {
      power[i] = usable[i] ? power[i] : D{};
      loudest = power[i] > loudest ? power[i] : loudest;
    }
    for (int i = 0; i < n; ++i) found[i] = usable[i] &= power[i] >= DEAD * loudest;
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < i; ++j) {
        const int at = pair(i, j);
        const D both = power[i] + power[j];
        const M same = found[i] & found[j] &
                       (both - 2.0 * (speech[at].re + noise[at].re) < COPY * both);
        usable[i == wanted ? j : i] &= ~same;  // the first is kept, or the wanted one
        if (!keep_one_copy) usable[i == wanted ? i : j] &= ~same;
      }
  }

  // The wanted mic where it is usable, else the first that is, else the wanted one.
  void choose_reference(int wanted) {
    M open = ~usable[wanted];
    for (int i = 0; i < n; ++i) {
      reference[i] = open & usable[i];
      open &= ~reference[i];
    }
    reference[wanted] = usable[wanted] | open;
  }

  void clean_and_load(D loading) {
    const D scale = 1.0 / (1.0 + loading);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j <= i; ++j) {
        const M both = usable[i] & usable[j];
        const int at = pair(i, j);
        for (D* part : {&speech[at].re, &speech[at].im, &noise[at].re, &noise[at].im})
          *part = both ? *part : D{};
        if (i == j) {
          noise[at].re += FLOOR;
          noise[at].im = D{};
        } else {
          noise[at].re *= scale;
          noise[at].im *= scale;
        }
      }
  }

  // noise = L D L^H in place, then inverse = L^-1.
  void invert() {
    for (int k = 0; k < n; ++k) {
      D d = noise[pair(k, k)].re;
      for (int p = 0; p < k; ++p) d -= squared(noise[pair(k, p)]) * pivot[p];
      pivot[k] = d;
      const D scale = 1.0 / d;
      Complex row[MAX_MICS];
      for (int p = 0; p < k; ++p)
        row[p] = {noise[pair(k, p)].re * pivot[p], noise[pair(k, p)].im * pivot[p]};
      for (int i = k + 1; i < n; ++i) {
        Complex sum = noise[pair(i, k)];
        for (int p = 0; p < k; ++p) subtract_conj(sum, noise[pair(i, p)], row[p]);
        noise[pair(i, k)] = {sum.re * scale, sum.im * scale};
      }
    }
    for (int j = 0; j < n; ++j) {
      inverse[pair(j, j)] = {splat(1.0), D{}};
      for (int i = j + 1; i < n; ++i) {
        Complex sum{};
        for (int p = j; p < i; ++p) subtract(sum, noise[pair(i, p)], inverse[pair(p, j)]);
        inverse[pair(i, j)] = sum;
      }
    }
    for (int k = 0; k < n; ++k) {
      const D scale = 1.0 / pivot[k];
      for (int j = 0; j <= k; ++j)
        scaled[pair(k, j)] = {inverse[pair(k, j)].re * scale, inverse[pair(k, j)].im * scale};
    }
  }

  // N^-1 S u / trace(N^-1 S) with N^-1 = L^-H D^-1 L^-1
  void fill_weights() {
    Complex column[MAX_MICS], ratio[MAX_MICS] = {};
    for (int j = 0; j < n; ++j) column[j] = reference_column(j);
    D trace{};
    for (int i = 0; i < n; ++i)
      for (int j = 0; j <= i; ++j) {
        Complex entry{};
        for (int k = i; k < n; ++k) add_conj(entry, scaled[pair(k, j)], inverse[pair(k, i)]);
        const Complex& s = speech[pair(i, j)];
        trace += (i == j ? 1.0 : 2.0) * (entry.re * s.re + entry.im * s.im);
        add(ratio[i], entry, column[j]);
        if (i != j) add_conj(ratio[j], column[i], entry);
      }
    settle(ratio, trace);
  }

  // N^-1 d / (d^H N^-1 d)
  void fill_steered(const Complex* d) {
    Complex target[MAX_MICS], filtered[MAX_MICS] = {};
    for (int i = 0; i < n; ++i)
      target[i] = {usable[i] ? d[i].re : D{}, usable[i] ? d[i].im : D{}};
    for (int k = 0; k < n; ++k) {
      Complex sum{};
      for (int j = 0; j <= k; ++j) add(sum, scaled[pair(k, j)], target[j]);
      for (int i = 0; i <= k; ++i) add_conj(filtered[i], sum, inverse[pair(k, i)]);
    }
    D response{};
    for (int i = 0; i < n; ++i)
      response += target[i].re * filtered[i].re + target[i].im * filtered[i].im;
    settle(filtered, response);
  }

  // Weights over what they sum up to; the reference where that says nothing.
  void settle(const Complex* ratio, D sum) {
    const D divisor = sum != 0.0 ? sum : splat(1.0);
    M known = ~M{}, any{};
    for (int i = 0; i < n; ++i) {
      w[i] = {ratio[i].re / divisor, ratio[i].im / divisor};
      known &= finite(w[i].re) & finite(w[i].im);
      any |= (w[i].re != 0.0) | (w[i].im != 0.0);
    }
    known &= any;
    for (int i = 0; i < n; ++i) {
      w[i].re = known ? w[i].re : reference[i] ? splat(1.0) : D{};
      w[i].im = known ? w[i].im : D{};
    }
  }

  // Entry j of the column of speech at the reference mic.
  Complex reference_column(int j) const {
    Complex found{};
    for (int m = 0; m < n; ++m) {
      const Complex& s = speech[j >= m ? pair(j, m) : pair(m, j)];
      found.re = reference[m] ? s.re : found.re;
      found.im = reference[m] ? (j >= m ? s.im : -s.im) : found.im;
    }
    return found;
  }

  static D squared(const Complex& a) { return a.re * a.re + a.im * a.im; }
  static void add(Complex& sum, const Complex& a, const Complex& b) {
    sum.re += a.re * b.re - a.im * b.im;
    sum.im += a.re * b.im + a.im * b.re;
  }
  static void add_conj(Complex& sum, const Complex& a, const Complex& b) {  // a conj(b)
    sum.re += a.re * b.re + a.im * b.im;
    sum.im += a.im * b.re - a.re * b.im;
  }
  static void subtract(Complex& sum, const Complex& a, const Complex& b) {
    sum.re -= a.re * b.re - a.im * b.im;
    sum.im -= a.re * b.im + a.im * b.re;
  }
  static void subtract_conj(Complex& sum, const Complex& a, const Complex& b) {
    sum.re -= a.re * b.re + a.im * b.im;
    sum.im -= a.im * b.re - a.re * b.im;
  }
};

}  // namespace clearbeam

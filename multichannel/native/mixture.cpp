// The EM of the spatial mixture model, one frequency after the other, so that all it works on stays
// in the processor's caches: multichannel/cacgmm.py in single precision.
//
// Frames lie side by side in vectors of floats; the classes' matrices in vectors of doubles, a class
// to a lane.
#include "vectors.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace clearbeam {
namespace {

constexpr int MAX_MICS = 16, MAX_CLASSES = DOUBLES;
constexpr float TINY = 1e-20f;

struct Complex {
  D re, im;
};

inline int64_t vectors_of(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

// x = 2^e m with m around 1, and log m = 2 atanh((m - 1) / (m + 1)), whose series ends early.
inline V logarithm(V x) {
  const I bits = (I)x, e = (bits - 0x3f3504f3) >> 23;  // m from sqrt(1/2) to sqrt(2)
  const V m = (V)(bits - (e << 23)), s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  V p = s2 * (1.0f / 9) + 1.0f / 7;
  p = p * s2 + 1.0f / 5;
  p = p * s2 + 1.0f / 3;
  p = p * s2 + 1.0f;
  return 2.0f * s * p + __builtin_convertvector(e, V) * 0.693147181f;
}

// Some frequencies of a spectrum with their frames side by side, which in memory are far apart.
template <int Freqs>
class Nearby {
 public:
  Nearby(int n_mics, int64_t n_freqs, int64_t n_frames)
      : m(n_mics), freqs(n_freqs), frames(n_frames), row(vectors_of(n_frames)), bins(Freqs * m * row) {}

  // Frequency f (mics, row), asked for in turn.
  const Bin* freq(int64_t f, const Bin* X, const int64_t* steps) {
    if (f % Freqs == 0)
      for (int i = 0; i < m; ++i)
        for (int64_t t = 0; t < frames; ++t)
          for (int64_t g = 0; g < std::min<int64_t>(Freqs, freqs - f); ++g)
            bins[(g * m + i) * row + t] = X[i * steps[0] + (f + g) * steps[1] + t * steps[2]];
    return &bins[f % Freqs * m * row];
  }

 private:
  const int m;
  const int64_t freqs, frames, row;
  std::vector<Bin> bins;
};

class Mixture {
 public:
  Mixture(int n_mics, int n_classes, int64_t n_frames)
      : m(n_mics), k(n_classes), frames(n_frames), row(vectors_of(n_frames)),
        features(m * m * row), posterior(k * row), form(k * row), prior(k * row), heard(row) {}

  // z z^H of the directions z = x / |x|: powers, then real and imaginary parts of the pairs.
  // X: mics of whole vectors of frames.
  void listen(const Bin* X) {
    for (int64_t t = 0; t < row; t += LANES) {
      V re[MAX_MICS], im[MAX_MICS], power{};
      for (int i = 0; i < m; ++i) {
        take_complex(X + i * row + t, re[i], im[i], Lanes{});
        const V rest = (re[i] - re[i]) + (im[i] - im[i]);  // NaN unless both are finite
        re[i] = rest == 0.0f ? re[i] : V{};
        im[i] = rest == 0.0f ? im[i] : V{};
        power += re[i] * re[i] + im[i] * im[i];
      }
      store(&heard[t], power > 0.0f ? splat(1.0f) : V{});
      const V scale = power > 0.0f ? 1.0f / (power > TINY ? power : splat(TINY)) : V{};
      float* out = &features[t];
      const auto put = [&](V value) {
        store(out, value * scale);
        out += row;
      };
      for (int i = 0; i < m; ++i) put(re[i] * re[i] + im[i] * im[i]);
      for (int i = 0; i < m; ++i)
        for (int j = i + 1; j < m; ++j) put(re[i] * re[j] + im[i] * im[j]);
      for (int i = 0; i < m; ++i)
        for (int j = i + 1; j < m; ++j) put(im[i] * re[j] - re[i] * im[j]);
    }
  }

  void begin(const float* masks, int64_t class_step) {
    std::fill(form.begin(), form.end(), 1.0f);
    for (int c = 0; c < k; ++c)
      std::copy_n(masks + c * class_step, frames, &posterior[c * row]);
  }

  void expect(const float* masks, const int64_t* steps) {
    for (int c = 0; c < k; ++c)
      for (int64_t t = 0; t < frames; ++t)
        prior[c * row + t] = masks[c * steps[0] + t * steps[2]];
    logarithms(prior);
  }

  void iterate(bool has_prior, float strength, double loading) {
    if (!has_prior) expect_shares();
    sum_outer_products();
    invert(loading);
    find_forms();
    find_posteriors(strength);
  }

  void end(float* masks, int64_t class_step) const {
    for (int c = 0; c < k; ++c) std::copy_n(&posterior[c * row], frames, masks + c * class_step);
  }

 private:
  const int m, k;
  const int64_t frames, row;
  std::vector<float> features, posterior, form, prior, heard;
  double sums[MAX_CLASSES][MAX_MICS * MAX_MICS];
  float inverse[MAX_CLASSES][MAX_MICS * MAX_MICS], log_det[MAX_CLASSES];
  Complex B[MAX_MICS][MAX_MICS];

  void logarithms(std::vector<float>& x) {
    for (size_t at = 0; at < x.size(); at += LANES) {
      const V v = load(&x[at]);
      store(&x[at], logarithm(v > TINY ? v : splat(TINY)));
    }
  }

  // The prior of a class is its share of the frames that are heard.
  void expect_shares() {
    V all{};
    for (int64_t t = 0; t < row; t += LANES) all += load(&heard[t]);
    const float n_heard = std::max(sum(all), 1.0f);
    for (int c = 0; c < k; ++c) {
      V share{};
      for (int64_t t = 0; t < row; t += LANES) share += load(&posterior[c * row + t]) * load(&heard[t]);
      std::fill_n(&prior[c * row], row, std::log(std::max(sum(share) / n_heard, TINY)));
    }
  }

  void sum_outer_products() {
    for (int64_t at = 0; at < k * row; at += LANES)  // the forms are used up
      store(&form[at], load(&posterior[at]) / load(&form[at]) * load(&heard[at % row]));
    by_classes([&](auto n, int first) { sum_features<n>(first); });
  }

  // What is done with so many classes from the first on, for all of them: the features are then
  // loaded once for up to four.
  template <class Do>
  void by_classes(Do what) {
    int c = 0;
    for (; c + 4 <= k; c += 4) what(std::integral_constant<int, 4>{}, c);
    for (; c + 2 <= k; c += 2) what(std::integral_constant<int, 2>{}, c);
    if (c < k) what(std::integral_constant<int, 1>{}, c);
  }

  template <int Classes>
  void sum_features(int first) {
    const float* weight = &form[first * row];
    for (int i = 0; i < m * m; ++i) {
      V total[Classes]{};
      for (int64_t t = 0; t < row; t += LANES) {
        const V feature = load(&features[i * row + t]);
        for (int c = 0; c < Classes; ++c) total[c] += load(weight + c * row + t) * feature;
      }
      for (int c = 0; c < Classes; ++c) sums[first + c][i] = sum(total[c]);
    }
  }

  // Matrices loaded and inverted, by Gauss and Jordan: positive ones need no pivots.
  void invert(double loading) {
    gather(loading);
    D det = splat(1.0);
    for (int p = 0; p < m; ++p) {
      const D pivot = B[p][p].re, scale = 1.0 / pivot;
      det *= pivot;
      B[p][p] = {splat(1.0), D{}};
      for (int j = 0; j < m; ++j) B[p][j] = {B[p][j].re * scale, B[p][j].im * scale};
      for (int i = 0; i < m; ++i) {
        if (i == p) continue;
        const Complex f = B[i][p];
        B[i][p] = Complex{};
        for (int j = 0; j < m; ++j) {
          B[i][j].re -= f.re * B[p][j].re - f.im * B[p][j].im;
          B[i][j].im -= f.re * B[p][j].im + f.im * B[p][j].re;
        }
      }
    }
    for (int c = 0; c < k; ++c) {
      log_det[c] = float(std::log(det[c]));
      float* out = inverse[c];
      for (int i = 0; i < m; ++i) *out++ = float(B[i][i].re[c]);
      for (int i = 0; i < m; ++i)
        for (int j = i + 1; j < m; ++j) *out++ = float(2 * B[i][j].re[c]);
      for (int i = 0; i < m; ++i)
        for (int j = i + 1; j < m; ++j) *out++ = float(2 * B[i][j].im[c]);
    }
  }

  // A trace of the number of mics, since a matrix matters up to a factor only; then the load of
  // multichannel/loading.py.
  void gather(double loading) {
    for (int c = 0; c < MAX_CLASSES; ++c) {
      double trace = 0;
      for (int i = 0; c < k && i < m; ++i) trace += sums[c][i];
      const bool known = trace > double(TINY);
      const double scale = known ? m / trace : 0, apart = scale / (1 + loading);
      const double* re = sums[c] + m;
      const double* im = re + m * (m - 1) / 2;
      for (int i = 0; i < m; ++i) {
        set(i, i, c, (known ? sums[c][i] * scale : 1) + loading, 0);
        for (int j = i + 1; j < m; ++j, ++re, ++im) {
          const double a = known ? *re * apart : 0, b = known ? *im * apart : 0;
          set(i, j, c, a, b);
          set(j, i, c, a, -b);
        }
      }
    }
  }

  void set(int i, int j, int lane, double re, double im) {
    B[i][j].re[lane] = re;
    B[i][j].im[lane] = im;
  }

  void find_forms() {
    by_classes([&](auto n, int first) { find_forms_of<n>(first); });
  }

  template <int Classes>
  void find_forms_of(int first) {
    for (int64_t t = 0; t < row; t += LANES) {
      V total[Classes]{};
      for (int i = 0; i < m * m; ++i) {
        const V feature = load(&features[i * row + t]);
        for (int c = 0; c < Classes; ++c) total[c] += inverse[first + c][i] * feature;
      }
      for (int c = 0; c < Classes; ++c)
        store(&form[(first + c) * row + t], total[c] > TINY ? total[c] : splat(TINY));
    }
  }

  void find_posteriors(float strength) {
    for (int64_t t = 0; t < row; t += LANES) {
      const V factor = load(&heard[t]) * strength;
      V score[MAX_CLASSES], most = splat(-3e38f), total{};
      for (int c = 0; c < k; ++c) {
        const V log_form = logarithm(load(&form[c * row + t]));
        score[c] = load(&prior[c * row + t]) - factor * (float(m) * log_form + log_det[c]);
        most = score[c] > most ? score[c] : most;
      }
      for (int c = 0; c < k; ++c) total += score[c] = exponential(score[c] - most);
      for (int c = 0; c < k; ++c) store(&posterior[c * row + t], score[c] / total);
    }
  }
};

}  // namespace
}  // namespace clearbeam

using namespace clearbeam;

extern "C" {

// X: complex, with its steps in values over mics, freqs and frames; masks: (classes, freqs, frames),
// becomes the posteriors; prior: null for the shares of a frequency, else with its steps over
// classes, freqs and frames.
void mixture_em(const Bin* X, const int64_t* X_steps, int n_mics, int64_t n_freqs,
                int64_t n_frames, float* masks, int n_classes, const float* prior,
                const int64_t* prior_steps, int n_iterations, float strength, double loading) {
  Mixture mixture(n_mics, n_classes, n_frames);
  Nearby<32> nearby(n_mics, n_freqs, n_frames);
  for (int64_t f = 0; f < n_freqs; ++f) {
    float* of_freq = masks + f * n_frames;
    mixture.listen(nearby.freq(f, X, X_steps));
    mixture.begin(of_freq, n_freqs * n_frames);
    if (prior) mixture.expect(prior + f * prior_steps[1], prior_steps);
    for (int i = 0; i < n_iterations; ++i) mixture.iterate(prior, strength, loading);
    mixture.end(of_freq, n_freqs * n_frames);
  }
}
}

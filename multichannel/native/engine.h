// The whole live path, from samples of all mics to samples of the talker: multichannel/enhance.py,
// passes.py and frontend.py for a causal stream. Nothing is allocated after construction.
#pragma once
#include "beams.h"
#include "fft.h"

#include <memory>

namespace clearbeam {

struct Settings {
  int32_t n_mics, reference_mic, n_listened, listened[MAX_MICS];  // mics of the mask network
  int32_t beams;                                                  // 0: the mask network alone
  float speech_forgetting, noise_forgetting, estimate_forgetting, loading;
};

class Engine {
 public:
  uint32_t broken = 0;  // a bit for each mic that held NaN or infinity

  Engine(const Settings& s, const float* windows, Gtcrn* const* nets)
      : set(s), analysis(windows, windows + N_FFT), synthesis(windows + N_FFT, windows + 2 * N_FFT),
        samples(s.n_mics * N_FFT), lanes(N_FFT), spectrum_re(N_FFT), spectrum_im(N_FFT),
        X(s.n_mics), S(s.n_listened),
        first(s.n_mics, s.speech_forgetting, s.noise_forgetting, s.loading),
        second(s.n_mics, s.estimate_forgetting, s.loading) {
    for (int i = 0; i < s.n_listened; ++i) listening.emplace_back(new Gtcrn(*nets[0]));
    for (int i = 0; i < s.beams; ++i) cleaning.emplace_back(new Gtcrn(*nets[1 + i]));
  }

  // Takes x (mics, n), a mic every `stride` floats; writes the samples ready and says how many.
  int64_t step(const float* x, int64_t n, int64_t stride, float* y) {
    int64_t ready = 0;
    for (int64_t at = 0; at < n;) {
      const int64_t piece = std::min<int64_t>(HOP - int(filled), n - at);
      for (int m = 0; m < set.n_mics; ++m) take(m, x + m * stride + at, piece);
      at += piece;
      filled += piece;
      if (filled < HOP) break;
      frame();
      filled = 0;
      if (started) {
        std::memcpy(y + ready, done, sizeof done);
        ready += HOP;
      }
      started = 1;  // the first hop out is the silence before the signal
    }
    return ready;
  }

  template <class Visit>
  void visit_state(const Visit& visit) {
    visit(&filled, 1);
    visit(&started, 1);
    visit(samples.data(), samples.size());
    visit(overlap, HOP);
    for (auto* nets : {&listening, &cleaning})
      for (auto& net : *nets) net->visit_state(visit);
    if (set.beams > 0) first.visit_state(visit);
    if (set.beams > 1) second.visit_state(visit);
  }

 private:
  Settings set;
  std::vector<float> analysis, synthesis, samples;  // samples (mics, 512)
  std::vector<V> lanes, spectrum_re, spectrum_im;
  std::vector<Spectrum> X, S;
  std::vector<std::unique_ptr<Gtcrn>> listening, cleaning;
  PresenceBeam first;
  EstimateBeam second;
  Fft<V> fft;
  Fft<float> back;
  Spectrum mask, beam, rest, estimate;
  alignas(64) float presence[ROW], gain[ROW];
  float overlap[HOP] = {}, done[HOP], filled = 0, started = 0;

  void take(int mic, const float* x, int64_t n) {
    float* to = &samples[mic * N_FFT + HOP + int(filled)];
    for (int64_t i = 0; i < n; ++i) {
      const bool finite = x[i] - x[i] == 0;
      to[i] = finite ? x[i] : 0.0f;
      if (!finite) broken |= 1u << mic;
    }
  }

  void frame() {
    analyse();
    for (int i = 0; i < set.n_listened; ++i) {
      const Spectrum* input = &X[set.listened[i]];
      listening[i]->step(&input, nullptr, mask);
      multiply(mask, *input, S[i]);
    }
    if (set.beams > 0) aim_at_presence();
    if (set.beams > 1) aim_at_estimate();
    synthesise(set.beams > 0 ? estimate : S[0]);
  }

  void analyse() {
    std::fill(lanes.begin(), lanes.end(), V{});
    float* flat = reinterpret_cast<float*>(lanes.data());
    for (int m = 0; m < set.n_mics; ++m) {
      float* x = &samples[m * N_FFT];
      for (int i = 0; i < N_FFT; ++i) flat[i * LANES + m] = x[i] * analysis[i];
      std::memmove(x, x + HOP, HOP * sizeof(float));
    }
    fft.forward(lanes.data(), spectrum_re.data(), spectrum_im.data());
    for (int m = 0; m < set.n_mics; ++m)
      for (int f = 0; f < N_FREQS; ++f) {
        X[m].re[f] = floats(spectrum_re.data())[f * LANES + m];
        X[m].im[f] = floats(spectrum_im.data())[f * LANES + m];
      }
  }

  void synthesise(const Spectrum& Y) {
    float y[N_FFT];
    back.inverse(Y.re, Y.im, y);
    for (int i = 0; i < HOP; ++i) {
      done[i] = overlap[i] + y[i] * synthesis[i];
      overlap[i] = y[HOP + i] * synthesis[HOP + i];
    }
  }

  static void multiply(const Spectrum& a, const Spectrum& b, Spectrum& y) {
    for (int f = 0; f < ROW; ++f) {
      y.re[f] = a.re[f] * b.re[f] - a.im[f] * b.im[f];
      y.im[f] = a.re[f] * b.im[f] + a.im[f] * b.re[f];
    }
  }

  // The reference mic, or the first that has any power where it has none.
  int living_mic() const {
    const auto lives = [&](int m) {
      for (int f = 0; f < N_FREQS; ++f)
        if (X[m].re[f] != 0 || X[m].im[f] != 0) return true;
      return false;
    };
    if (lives(set.reference_mic)) return set.reference_mic;
    for (int m = 0; m < set.n_mics; ++m)
      if (lives(m)) return m;
    return set.reference_mic;
  }

  void aim_at_presence() {
    const Spectrum* heard[MAX_MICS];
    for (int i = 0; i < set.n_listened; ++i) heard[i] = &X[set.listened[i]];
    fill_presence(S.data(), heard, set.n_listened, presence);
    const int reference_mic = living_mic();
    first.step(X.data(), presence, reference_mic, beam);
    clean(*cleaning[0], X[reference_mic], false);
  }

  void aim_at_estimate() {
    const int reference_mic = living_mic();
    const Spectrum* heard = &X[reference_mic];
    fill_presence(&estimate, &heard, 1, presence);
    second.step(X.data(), estimate, reference_mic, beam);
    clean(*cleaning[1], *heard, true);
  }

  // The next estimate from the beam; a network of one input sees the beam alone.
  void clean(Gtcrn& net, const Spectrum& reference, bool with_estimate) {
    for (int f = 0; f < ROW; ++f) {
      float mean = 0;
      for (const Spectrum& x : X) mean += power(x, f);
      gain[f] = std::min(1.0f, std::sqrt(power(beam, f) / (mean / X.size() + TINY_POWER)));
      rest.re[f] = reference.re[f] - beam.re[f];
      rest.im[f] = reference.im[f] - beam.im[f];
    }
    const Spectrum* inputs[4] = {&beam, &reference, with_estimate ? &estimate : &rest, &rest};
    const float* cues[2] = {presence, gain};
    net.step(inputs, cues, mask);
    multiply(mask, beam, estimate);
  }
};

}  // namespace clearbeam

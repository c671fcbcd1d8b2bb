// The whole live path, from samples of all mics to samples of the talker: multichannel/enhance.py,
// passes.py and frontend.py for a causal stream. Nothing is allocated after construction. Networks
// compute in single precision, all else in double.
#pragma once
#include "beams.h"
#include "fft.h"
#include "look.h"

#include <memory>

namespace clearbeam {

struct Settings {
  int32_t n_mics, reference_mic, n_listened, listened[MAX_MICS];  // mics of the mask network
  int32_t beams;                                                  // 0: the mask network alone
  int32_t hop, n_synthesis;  // samples; the synthesis window lies at the end of a frame
  double speech_forgetting, noise_forgetting, estimate_forgetting, loading;
};

class Engine {
 public:
  // windows: analysis (512), then synthesis (n_synthesis).
  Engine(const Settings& s, const double* windows, Gtcrn* const* nets)
      : set(s), analysis(windows, windows + N_FFT),
        synthesis(windows + N_FFT, windows + N_FFT + s.n_synthesis), samples(s.n_mics * N_FFT),
        overlap(s.n_synthesis), silence(s.n_synthesis - s.hop), X(s.n_mics), S(s.n_listened),
        first(s.n_mics, s.speech_forgetting, s.noise_forgetting, s.loading),
        second(s.n_mics, s.estimate_forgetting, s.loading) {
    for (int i = 0; i < s.n_listened; ++i) listening.emplace_back(new Gtcrn(*nets[0]));
    for (int i = 0; i < s.beams; ++i) cleaning.emplace_back(new Gtcrn(*nets[1 + i]));
  }

  // From now on the first beam looks in a direction; as `LookBeam`.
  void look(const Exact* directions, int n_directions, const Exact* towards,
            const double* diffuse) {
    steered.reset(new LookBeam(set.n_mics, set.noise_forgetting, directions, n_directions, towards,
                               diffuse));
  }

  // Takes x (mics, n), a mic every `stride` floats; writes the samples ready and says how many.
  int64_t step(const float* x, int64_t n, int64_t stride, float* y) {
    int64_t ready = 0;
    for (int64_t at = 0; at < n;) {
      const int piece = int(std::min<int64_t>(set.hop - filled, n - at));
      for (int m = 0; m < set.n_mics; ++m) take(m, x + m * stride + at, piece);
      at += piece;
      filled += piece;
      if (filled < set.hop) break;
      filled = 0;
      ready += frame(y + ready);
    }
    return ready;
  }

  template <class Visit>
  void visit_state(const Visit& visit) {
    visit(&filled, 1);
    visit(&silence, 1);
    visit(&out, 1);
    visit(samples.data(), samples.size());
    visit(overlap.data(), overlap.size());
    for (auto* nets : {&listening, &cleaning})
      for (auto& net : *nets) net->visit_state(visit);
    if (steered) steered->visit_state(visit);
    if (set.beams > 0 && !steered) first.visit_state(visit);
    if (set.beams > 1) second.visit_state(visit);
  }

 private:
  Settings set;
  std::vector<double> analysis, synthesis;
  std::vector<float> samples;   // (mics, 512)
  std::vector<double> overlap;  // of the frames so far, from the next sample out on
  uint32_t out = 0;  // a bit for each mic that was out in the newest frame
  int32_t filled = 0, silence;  // samples of the next hop; zeros before the signal, still to come
  std::vector<Exact> X, S;
  std::vector<std::unique_ptr<Gtcrn>> listening, cleaning;
  PresenceBeam first;
  EstimateBeam second;
  std::unique_ptr<LookBeam> steered;  // in the place of the first
  Fft<D> fft;
  Fft<double> back;
  D lanes[N_FFT] = {}, spectrum_re[N_HALF + 1], spectrum_im[N_HALF + 1];
  Exact beam, rest, estimate;
  Spectrum mask, seen[4];
  double presence[ROW], gain[ROW];

  void take(int mic, const float* x, int n) {
    std::copy(x, x + n, &samples[mic * N_FFT + N_FFT - set.hop + filled]);
  }

  // Mics that are silent in the newest hop while another is not: a bit for each. They say nothing
  // in the frame, and nothing that was known of them is true any more.
  uint32_t mics_out() const {
    uint32_t silent = 0, all = (1u << set.n_mics) - 1;
    for (int m = 0; m < set.n_mics; ++m) {
      const float* end = &samples[m * N_FFT] + N_FFT;
      if (std::all_of(end - set.hop, end, [](float x) { return x == 0; })) silent |= 1u << m;
    }
    return silent == all ? 0 : silent;
  }

  void forget(int mic) {
    X[mic] = Exact{};
    if (steered) steered->forget(mic);
    if (set.beams > 0 && !steered) first.forget(mic);
    if (set.beams > 1) second.forget(mic);
  }

  // A mic is back, and was not in what is known.
  void fade() {
    if (steered) steered->fade();
    if (set.beams > 0 && !steered) first.fade();
    if (set.beams > 1) second.fade();
  }

  int frame(float* y) {
    const uint32_t before = out;
    out = mics_out();
    analyse();
    for (int m = 0; m < set.n_mics; ++m)
      if (out >> m & 1) forget(m);
    if (before & ~out) fade();
    const Spectrum* input = &seen[0];
    for (int i = 0; i < set.n_listened; ++i) {
      const Exact& heard = X[set.listened[i]];
      show(heard, seen[0]);
      listening[i]->step(&input, nullptr, mask);
      multiply(mask, heard, S[i]);
    }
    if (set.beams > 0) aim_at_presence();
    if (set.beams > 1) aim_at_estimate();
    return synthesise(set.beams > 0 ? estimate : S[0], y);
  }

  void analyse() {
    double* flat = reinterpret_cast<double*>(lanes);
    for (int m = 0; m < set.n_mics; ++m) {
      float* x = &samples[m * N_FFT];
      const int lane = m % DOUBLES;
      for (int i = 0; i < N_FFT; ++i) flat[i * DOUBLES + lane] = x[i] * analysis[i];
      std::memmove(x, x + set.hop, (N_FFT - set.hop) * sizeof(float));
      if (lane == DOUBLES - 1 || m == set.n_mics - 1) transform(m - lane, m + 1);
    }
  }

  // The spectra of some mics from their lanes.
  void transform(int begin, int end) {
    fft.forward(lanes, spectrum_re, spectrum_im);
    for (int m = begin; m < end; ++m)
      for (int f = 0; f < N_FREQS; ++f) {
        X[m].re[f] = spectrum_re[f][m - begin];
        X[m].im[f] = spectrum_im[f][m - begin];
      }
  }

  int synthesise(const Exact& Y, float* y) {
    double frame[N_FFT];
    back.inverse(Y.re, Y.im, frame);
    const double* late = frame + N_FFT - set.n_synthesis;
    for (int i = 0; i < set.n_synthesis; ++i) overlap[i] += late[i] * synthesis[i];
    const int skipped = std::min(silence, set.hop), kept = set.n_synthesis - set.hop;
    silence -= skipped;
    for (int i = skipped; i < set.hop; ++i) y[i - skipped] = float(overlap[i]);
    std::memmove(overlap.data(), overlap.data() + set.hop, kept * sizeof(double));
    std::fill(overlap.begin() + kept, overlap.end(), 0.0);
    return set.hop - skipped;
  }

  static void show(const Exact& X, Spectrum& to) {
    for (int f = 0; f < ROW; ++f) {
      to.re[f] = float(X.re[f]);
      to.im[f] = float(X.im[f]);
    }
  }

  static void multiply(const Spectrum& mask, const Exact& X, Exact& y) {
    for (int f = 0; f < ROW; ++f) {
      const double re = mask.re[f], im = mask.im[f];
      y.re[f] = re * X.re[f] - im * X.im[f];
      y.im[f] = re * X.im[f] + im * X.re[f];
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
    const Exact* heard[MAX_MICS];
    for (int i = 0; i < set.n_listened; ++i) heard[i] = &X[set.listened[i]];
    fill_presence(S.data(), heard, set.n_listened, presence);
    const int reference_mic = living_mic();
    if (steered)
      steered->step(X.data(), presence, reference_mic, beam);
    else
      first.step(X.data(), presence, reference_mic, beam);
    clean(*cleaning[0], X[reference_mic], false);
  }

  void aim_at_estimate() {
    const int reference_mic = living_mic();
    const Exact* heard = &X[reference_mic];
    fill_presence(&estimate, &heard, 1, presence);
    second.step(X.data(), estimate, reference_mic, beam);
    clean(*cleaning[1], *heard, true);
  }

  // The next estimate from the beam; a network of one input sees the beam alone.
  void clean(Gtcrn& net, const Exact& reference, bool with_estimate) {
    for (int f = 0; f < ROW; ++f) {
      double mean = 0;
      for (const Exact& x : X) mean += power(x, f);
      gain[f] = std::min(1.0, std::sqrt(power(beam, f) / (mean / X.size() + TINY_POWER)));
      rest.re[f] = reference.re[f] - beam.re[f];
      rest.im[f] = reference.im[f] - beam.im[f];
    }
    const Exact* inputs[4] = {&beam, &reference, with_estimate ? &estimate : &rest, &rest};
    const Spectrum* spectra[4] = {&seen[0], &seen[1], &seen[2], &seen[3]};
    for (int i = 0; i < 4; ++i) show(*inputs[i], seen[i]);
    float maps[2][ROW];
    std::copy(presence, presence + ROW, maps[0]);
    std::copy(gain, gain + ROW, maps[1]);
    const float* cues[2] = {maps[0], maps[1]};
    net.step(spectra, cues, mask);
    multiply(mask, beam, estimate);
  }
};

}  // namespace clearbeam

// The C interface of the compiled live engine: see multichannel/compiled.py.
#include "beam.h"
#include "calm.h"
#include "engine.h"
#include "recurrence.h"
#include "stft.h"

#include <complex>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

using namespace clearbeam;

namespace {

// While it lives, numbers below 1e-38 are zero: what fades away must not slow the processor down.
struct Quick {
#ifdef __SSE__
  unsigned before = _mm_getcsr();
  Quick() { _mm_setcsr(before | 0x8040); }
  ~Quick() { _mm_setcsr(before); }
#endif
};

template <int N>
Frames<N>& workspace() {
  thread_local const std::unique_ptr<Frames<N>> frames(new Frames<N>);
  return *frames;
}

}  // namespace

extern "C" {

Gtcrn* gtcrn_new(const int32_t* sizes, float compression, const float* weights) {
  const Shape shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], compression};
  return new Gtcrn(shape, Reader{weights});
}
void gtcrn_delete(Gtcrn* net) { delete net; }

// Frames one by one. X: complex (inputs, 257, frames); cues (n_cues, 257, frames); each with its
// strides in values; mask: complex (frames, 257).
void gtcrn_run(Gtcrn* net, const std::complex<float>* X, const int64_t* X_strides, const float* cues,
               const int64_t* cue_strides, std::complex<float>* mask, int64_t n_frames) {
  const Quick quick;
  thread_local Spectrum spectra[16], result;
  alignas(64) thread_local float maps[16][ROW];
  const Spectrum* inputs[16];
  const float* seen[16];
  for (int64_t t = 0; t < n_frames; ++t, mask += N_FREQS) {
    for (int i = 0; i < net->shape.n_inputs(); ++i) {
      const std::complex<float>* from = X + i * X_strides[0] + t * X_strides[2];
      for (int f = 0; f < N_FREQS; ++f) {
        spectra[i].re[f] = from[f * X_strides[1]].real();
        spectra[i].im[f] = from[f * X_strides[1]].imag();
      }
      inputs[i] = &spectra[i];
    }
    for (int i = 0; i < net->shape.n_cues; ++i) {
      const float* from = cues + i * cue_strides[0] + t * cue_strides[2];
      for (int f = 0; f < N_FREQS; ++f) maps[i][f] = from[f * cue_strides[1]];
      seen[i] = maps[i];
    }
    net->step(inputs, seen, result);
    for (int f = 0; f < N_FREQS; ++f) mask[f] = {result.re[f], result.im[f]};
  }
}

// x: n_channels rows of n_samples, x_step apart; frames start at `first`, which may be negative;
// X: complex (channels, frames, n_fft / 2 + 1); n_fft: 512 or 2048.
void stft_forward(int n_fft, const float* x, int64_t n_samples, int64_t x_step, int64_t n_channels,
                  int64_t first, int64_t n_frames, int64_t hop, const float* window, Bin* X) {
  const auto run = [&](auto& frames) {
    for (int64_t c = 0; c < n_channels; ++c)
      frames.analyse(x + c * x_step, n_samples, first, n_frames, hop, window,
                     X + c * n_frames * (n_fft / 2 + 1));
  };
  n_fft == 512 ? run(workspace<512>()) : run(workspace<2048>());
}

// Adds to y (channels, y_step).
void stft_inverse(int n_fft, const Bin* X, int64_t n_channels, int64_t n_frames, int64_t hop,
                  const float* window, int n_window, float* y, int64_t y_step) {
  const auto run = [&](auto& frames) {
    for (int64_t c = 0; c < n_channels; ++c)
      frames.synthesise(X + c * n_frames * (n_fft / 2 + 1), n_frames, hop, window, n_window,
                        y + c * y_step);
  };
  n_fft == 512 ? run(workspace<512>()) : run(workspace<2048>());
}

// X: n_channels planes; masks: n_masks planes; rows are frames or frequencies, lanes the others;
// psd: complex (masks, freqs, channels, channels).
void outer_sums(const Plane<Bin>* X, int n_channels, const Plane<float>* masks, int n_masks,
                int rows_are_frames, int64_t n_freqs, int64_t n_frames, Bin* psd) {
  const Quick quick;
  OuterSums sums(X, n_channels, masks, n_masks);
  rows_are_frames ? sums.over_rows(n_freqs, n_frames, psd) : sums.over_lanes(n_freqs, n_frames, psd);
}

// X: as above; w: complex (channels, freqs); Y: complex (rows, lanes).
void weighted_sum(const Plane<Bin>* X, int n_channels, const Bin* w, int rows_are_frames,
                  int64_t n_freqs, int64_t n_frames, Bin* Y) {
  const Quick quick;
  clearbeam::weighted_sum(X, n_channels, w, rows_are_frames, n_freqs, n_frames, Y);
}

// speech, noise: complex (bins, mics, mics); loading: (bins); w: complex (bins, mics).
void mvdr_souden(const Bin* speech, const Bin* noise, int64_t n_bins, int n_mics, int reference_mic,
                 const double* loading, Bin* w) {
  thread_local const std::unique_ptr<Mvdr> mvdr(new Mvdr);
  for (int64_t bin = 0; bin < n_bins; bin += DOUBLES) {
    const int n = int(std::min<int64_t>(DOUBLES, n_bins - bin));
    const int64_t at = bin * n_mics * n_mics;
    mvdr->solve(speech + at, noise + at, n, n_mics, reference_mic, loading + bin, w + bin * n_mics);
  }
}

// units: 16, 32, 48 or 64; see native/recurrence.h.
void gru_run(int units, const float* weights, const float* bias, const float* gates,
             int64_t n_sequences, int64_t n_steps, int backwards, float* h, float* y,
             int64_t y_step) {
  const Quick quick;
  const auto run = [&](auto recurrence) {
    recurrence.run(gates, n_sequences, n_steps, backwards, h, y, y_step);
  };
  if (units == 16) run(Recurrence<1>{weights, bias});
  if (units == 32) run(Recurrence<2>{weights, bias});
  if (units == 48) run(Recurrence<3>{weights, bias});
  if (units == 64) run(Recurrence<4>{weights, bias});
}

// As native/calm.h has them; powers: fast, then slow (2, mics).
int64_t calm_hops(const float* x, int64_t n_hops, int hop, int64_t stride, int n_mics,
                  const Limits* limits, double* powers) {
  return calm_hops(x, n_hops, hop, stride, n_mics, *limits, powers, powers + n_mics);
}
void hop_levels(const float* x, int64_t n_hops, int hop, int64_t stride, int n_mics, double silent,
                double* levels) {
  levels_db(x, n_hops, hop, stride, n_mics, silent, levels);
}

// windows: analysis (512), then synthesis; nets: the mask network, then one for each beam. All are
// copied.
Engine* live_new(const Settings* settings, const double* windows, Gtcrn* const* nets) {
  return new Engine(*settings, windows, nets);
}
void live_delete(Engine* engine) { delete engine; }

// All spectra (2, ROW): real, imaginary; see native/look.h.
void live_look(Engine* engine, const double* directions, int32_t n_directions,
               const double* towards, const double* diffuse) {
  engine->look(reinterpret_cast<const Exact*>(directions), n_directions,
               reinterpret_cast<const Exact*>(towards), diffuse);
}

int64_t live_step(Engine* engine, const float* x, int64_t n, int64_t stride, float* y) {
  const Quick quick;
  return engine->step(x, n, stride, y);
}

// How many bytes the state has; `get` copies it out, `set` in, both may be null.
int64_t live_state(Engine* engine, char* get, const char* set) {
  int64_t n = 0;
  engine->visit_state([&](auto* values, int64_t count) {
    const int64_t size = count * int64_t(sizeof *values);
    if (get) std::memcpy(get + n, values, size);
    if (set) std::memcpy(static_cast<void*>(values), set + n, size);
    n += size;
  });
  return n;
}

}

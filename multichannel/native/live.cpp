// The C interface of the compiled live engine: see multichannel/compiled.py.
#include "engine.h"

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

}  // namespace

extern "C" {

Gtcrn* gtcrn_new(const int32_t* sizes, float compression, const float* weights) {
  const Shape shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], compression};
  return new Gtcrn(shape, Reader{weights});
}
void gtcrn_delete(Gtcrn* net) { delete net; }

// X: complex (inputs, 257); cues (n_cues, 257); mask: complex (257).
void gtcrn_step(Gtcrn* net, const float* X, const float* cues, float* mask) {
  thread_local Spectrum spectra[16], result;
  const Spectrum* inputs[16];
  const float* maps[16];
  for (int i = 0; i < net->shape.n_inputs(); ++i) {
    for (int f = 0; f < N_FREQS; ++f) {
      spectra[i].re[f] = X[2 * (i * N_FREQS + f)];
      spectra[i].im[f] = X[2 * (i * N_FREQS + f) + 1];
    }
    inputs[i] = &spectra[i];
  }
  for (int i = 0; i < net->shape.n_cues; ++i) maps[i] = cues + i * N_FREQS;
  net->step(inputs, maps, result);
  for (int f = 0; f < N_FREQS; ++f) {
    mask[2 * f] = result.re[f];
    mask[2 * f + 1] = result.im[f];
  }
}

// windows: analysis, then synthesis, 512 each; nets: the mask network, then one for each beam. All
// are copied.
Engine* live_new(const Settings* settings, const float* windows, Gtcrn* const* nets) {
  return new Engine(*settings, windows, nets);
}
void live_delete(Engine* engine) { delete engine; }

int64_t live_step(Engine* engine, const float* x, int64_t n, int64_t stride, float* y) {
  const Quick quick;
  return engine->step(x, n, stride, y);
}

uint32_t live_broken(const Engine* engine) { return engine->broken; }

// How many floats the state has; `get` copies it out, `set` in, both may be null.
int64_t live_state(Engine* engine, float* get, const float* set) {
  int64_t n = 0;
  engine->visit_state([&](float* values, int64_t count) {
    if (get) std::memcpy(get + n, values, count * sizeof(float));
    if (set) std::memcpy(values, set + n, count * sizeof(float));
    n += count;
  });
  return n;
}

}

// The C interface of the compiled live engine: see multichannel/compiled.py.
#include "frame_gtcrn.h"

using namespace clearbeam;

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

}

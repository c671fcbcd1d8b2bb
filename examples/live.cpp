// Enhances a plain 16-bit WAV of several microphones with a file of `clearbeam export`:
//   live MODEL.onnx IN.wav OUT.wav
// Windows and a plain DFT are here, all else is in the ONNX file.
#include <onnxruntime_c_api.h>
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

struct Wav {
  char riff[4]; uint32_t size; char wave[8]; uint32_t n_format; uint16_t format, mics;
  uint32_t rate, rate_bytes; uint16_t frame_bytes, bits; char data[4]; uint32_t bytes;
};
const int N = 512, HOP = 256, FREQS = 257;
const OrtApi* ort = OrtGetApiBase()->GetApi(17);

void expect(bool good, const char* what) {
  if (!good) std::fprintf(stderr, "expected %s\n", what), std::exit(2);
}
void check(OrtStatus* status) { expect(!status, status ? ort->GetErrorMessage(status) : ""); }
float* data(OrtValue* tensor) {
  void* values; check(ort->GetTensorMutableData(tensor, &values)); return static_cast<float*>(values);
}

int main(int argc, char** argv) {
  Wav wav{};
  std::ifstream in(argc == 4 ? argv[2] : "", std::ios::binary);
  in.read(reinterpret_cast<char*>(&wav), sizeof wav);
  expect(in && wav.n_format == 16 && wav.bits == 16, "MODEL.onnx IN.wav OUT.wav, a plain 16-bit WAV");
  const int mics = wav.mics, samples = wav.bytes / wav.frame_bytes;
  std::vector<int16_t> pcm(mics * (samples + 2 * N));  // a hop of silence before, more behind
  in.read(reinterpret_cast<char*>(&pcm[mics * HOP]), wav.bytes);

  OrtEnv* env; OrtSessionOptions* options; OrtSession* session; OrtAllocator* heap; size_t n;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "live", &env));
  check(ort->CreateSessionOptions(&options));
  check(ort->SetIntraOpNumThreads(options, 1));
  check(ort->CreateSession(env, argv[1], options, &session));
  check(ort->GetAllocatorWithDefaultOptions(&heap));
  check(ort->SessionGetInputCount(session, &n));
  // In go X.re, X.im and the states, out come Y.re, Y.im and the states for the next frame.
  std::vector<char*> inputs(n), outputs(n);
  std::vector<OrtValue*> values(n), next(n);
  for (size_t i = 0; i < n; ++i) {
    OrtTypeInfo* type; const OrtTensorTypeAndShapeInfo* tensor; size_t rank, size; int64_t shape[8];
    check(ort->SessionGetInputName(session, i, heap, &inputs[i]));
    check(ort->SessionGetOutputName(session, i, heap, &outputs[i]));
    check(ort->SessionGetInputTypeInfo(session, i, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &tensor));
    check(ort->GetDimensionsCount(tensor, &rank));
    check(ort->GetDimensions(tensor, shape, rank));
    check(ort->GetTensorShapeElementCount(tensor, &size));
    check(ort->CreateTensorAsOrtValue(heap, shape, rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &values[i]));
    std::fill_n(data(values[i]), size, 0.f);
    expect(i > 0 || shape[0] == mics, "a model for as many microphones as the WAV has");
  }

  std::vector<std::complex<float>> turn(N);
  std::vector<float> window(N), out(samples + 2 * N);
  for (int i = 0; i < N; ++i) turn[i] = std::polar(1.0, -2 * M_PI * i / N);
  for (int i = 0; i < N; ++i) window[i] = std::sin(M_PI * i / N);  // the square root of a Hann window
  for (int start = 0; start < samples + HOP; start += HOP) {
    for (int k = 0; k < mics * FREQS; ++k) {
      std::complex<float> sum = 0;
      for (int i = 0; i < N; ++i)
        sum += window[i] * pcm[(start + i) * mics + k / FREQS] / 32768.f * turn[k % FREQS * i % N];
      data(values[0])[k] = sum.real(), data(values[1])[k] = sum.imag();
    }
    check(ort->Run(session, nullptr, inputs.data(), values.data(), n, outputs.data(), n, next.data()));
    for (int i = 0; i < N; ++i)
      for (int f = 0; f < FREQS; ++f) {
        const std::complex<float> y(data(next[0])[f], data(next[1])[f]);
        out[start + i] += window[i] * (f % 256 ? 2 : 1) * (y * std::conj(turn[f * i % N])).real() / N;
      }
    std::swap_ranges(values.begin() + 2, values.end(), next.begin() + 2);
    for (OrtValue*& one : next) ort->ReleaseValue(one), one = nullptr;
  }
  wav.mics = 1, wav.frame_bytes = 2, wav.rate_bytes = 2 * wav.rate;
  wav.bytes = 2 * samples, wav.size = 36 + wav.bytes;
  std::ofstream file(argv[3], std::ios::binary);
  file.write(reinterpret_cast<char*>(&wav), sizeof wav);
  for (int i = 0; i < samples; ++i) pcm[i] = std::lrint(32767 * std::clamp(out[HOP + i], -1.f, 1.f));
  file.write(reinterpret_cast<char*>(pcm.data()), wav.bytes);
  return file ? 0 : 2;
}

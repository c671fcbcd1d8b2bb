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
const int kFft = 512, kHop = 256, kFreqs = 257;
const OrtApi* ort = OrtGetApiBase()->GetApi(17);

void check(OrtStatus* status) {
  if (status) std::fprintf(stderr, "error: %s\n", ort->GetErrorMessage(status)), std::exit(2);
}
float* data(OrtValue* value) {
  void* found; check(ort->GetTensorMutableData(value, &found)); return static_cast<float*>(found);
}

int main(int argc, char** argv) {
  Wav wav;
  std::ifstream in(argc == 4 ? argv[2] : "", std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(&wav), sizeof wav) || wav.n_format != 16 || wav.bits != 16)
    return std::fprintf(stderr, "expected MODEL.onnx IN.wav OUT.wav, a plain 16-bit WAV\n"), 2;
  const int mics = wav.mics, samples = wav.bytes / wav.frame_bytes;
  std::vector<int16_t> pcm(mics * (samples + 2 * kFft));  // a hop of silence before, more behind
  in.read(reinterpret_cast<char*>(&pcm[mics * kHop]), wav.bytes);

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
    OrtTypeInfo* type; const OrtTensorTypeAndShapeInfo* tensor; size_t rank, size;
    check(ort->SessionGetInputName(session, i, heap, &inputs[i]));
    check(ort->SessionGetOutputName(session, i, heap, &outputs[i]));
    check(ort->SessionGetInputTypeInfo(session, i, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &tensor));
    check(ort->GetDimensionsCount(tensor, &rank));
    check(ort->GetTensorShapeElementCount(tensor, &size));
    std::vector<int64_t> shape(rank);
    check(ort->GetDimensions(tensor, shape.data(), rank));
    check(ort->CreateTensorAsOrtValue(heap, shape.data(), rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &values[i]));
    std::fill_n(data(values[i]), size, 0.f);
    if (i == 0 && shape[0] != mics) return std::fprintf(stderr, "expected %d mics\n", int(shape[0])), 2;
  }

  std::vector<std::complex<float>> turn(kFft);
  std::vector<float> window(kFft), out(samples + 2 * kFft);
  for (int i = 0; i < kFft; ++i) {
    turn[i] = std::polar(1.0, -2 * M_PI * i / kFft);
    window[i] = std::sin(M_PI * i / kFft);  // the square root of a Hann window
  }
  for (int start = 0; start < samples + kHop; start += kHop) {
    for (int k = 0; k < mics * kFreqs; ++k) {
      std::complex<float> sum = 0;
      for (int i = 0; i < kFft; ++i)
        sum += window[i] * pcm[(start + i) * mics + k / kFreqs] / 32768.f * turn[k % kFreqs * i % kFft];
      data(values[0])[k] = sum.real(), data(values[1])[k] = sum.imag();
    }
    check(ort->Run(session, nullptr, inputs.data(), values.data(), n, outputs.data(), n, next.data()));
    for (int i = 0; i < kFft; ++i)
      for (int f = 0; f < kFreqs; ++f) {
        std::complex<float> y(data(next[0])[f], data(next[1])[f]);
        out[start + i] += window[i] * (f % 256 ? 2 : 1) * (y * std::conj(turn[f * i % kFft])).real() / kFft;
      }
    std::swap_ranges(values.begin() + 2, values.end(), next.begin() + 2);
    for (OrtValue*& one : next) ort->ReleaseValue(one), one = nullptr;
  }
  wav.mics = 1, wav.frame_bytes = 2, wav.rate_bytes = 2 * wav.rate;
  wav.bytes = 2 * samples, wav.size = 36 + wav.bytes;
  std::ofstream file(argv[3], std::ios::binary);
  file.write(reinterpret_cast<char*>(&wav), sizeof wav);
  for (int i = kHop; i < kHop + samples; ++i) {
    int16_t value = std::lrint(32767 * std::clamp(out[i], -1.f, 1.f));
    file.write(reinterpret_cast<char*>(&value), 2);
  }
  return file ? 0 : 2;
}

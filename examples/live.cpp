// Enhances a 16-bit PCM WAV of several microphones with the file that `clearbeam export` writes:
//   live MODEL.onnx IN.wav OUT.wav
// One frame of 512 samples every 256: windows and a plain DFT here, all else in the ONNX file.
#include <onnxruntime_c_api.h>

#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

using Vector = std::vector<float>;
const int kFft = 512, kHop = 256, kFreqs = 257;
const OrtApi* ort = OrtGetApiBase()->GetApi(17);

void check(OrtStatus* status) {
  if (!status) return;
  std::fprintf(stderr, "error: %s\n", ort->GetErrorMessage(status));
  std::exit(2);
}

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "expected MODEL.onnx IN.wav OUT.wav\n"), 2;
  std::ifstream in(argv[2], std::ios::binary);
  std::string wav{std::istreambuf_iterator<char>(in), {}};
  const size_t data = wav.find("data");
  if (data == std::string::npos) return std::fprintf(stderr, "expected a WAV file\n"), 2;
  const int mics = *reinterpret_cast<uint16_t*>(&wav[22]);
  const int16_t* pcm = reinterpret_cast<int16_t*>(&wav[data + 8]);
  const int samples = (wav.size() - data - 8) / 2 / mics;

  OrtEnv* env; OrtSessionOptions* options; OrtSession* session; OrtAllocator* heap; OrtMemoryInfo* cpu;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "live", &env));
  check(ort->CreateSessionOptions(&options));
  check(ort->SetIntraOpNumThreads(options, 1));
  check(ort->CreateSession(env, argv[1], options, &session));
  check(ort->GetAllocatorWithDefaultOptions(&heap));
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));

  // Inputs are X.re, X.im and the states; outputs Y.re, Y.im and the same states for the next frame.
  size_t n; check(ort->SessionGetInputCount(session, &n));
  std::vector<char*> names(n), results(n);
  std::vector<Vector> values(n);
  std::vector<std::vector<int64_t>> shapes(n);
  for (size_t i = 0; i < n; ++i) {
    OrtTypeInfo* type; const OrtTensorTypeAndShapeInfo* tensor; size_t rank, size;
    check(ort->SessionGetInputName(session, i, heap, &names[i]));
    check(ort->SessionGetOutputName(session, i, heap, &results[i]));
    check(ort->SessionGetInputTypeInfo(session, i, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &tensor));
    check(ort->GetDimensionsCount(tensor, &rank));
    shapes[i].resize(rank);
    check(ort->GetDimensions(tensor, shapes[i].data(), rank));
    check(ort->GetTensorShapeElementCount(tensor, &size));
    values[i].assign(size, 0.f);
  }
  if (shapes[0][0] != mics) return std::fprintf(stderr, "expected %d mics\n", int(shapes[0][0])), 2;

  std::vector<std::complex<float>> turn(kFft);
  Vector window(kFft), overlap(kFft), out(samples + 2 * kFft);
  for (int i = 0; i < kFft; ++i) {
    turn[i] = std::polar(1.0, -2 * M_PI * i / kFft);
    window[i] = std::sin(M_PI * i / kFft);  // the square root of a Hann window
  }
  for (int start = kHop - kFft; start < samples; start += kHop) {
    for (int m = 0; m < mics; ++m)
      for (int f = 0; f < kFreqs; ++f) {
        std::complex<float> sum = 0;
        for (int i = 0; i < kFft; ++i)
          if (start + i >= 0 && start + i < samples)
            sum += window[i] * pcm[(start + i) * mics + m] / 32768.f * turn[f * i % kFft];
        values[0][m * kFreqs + f] = sum.real();
        values[1][m * kFreqs + f] = sum.imag();
      }
    std::vector<OrtValue*> given(n), found(n);
    for (size_t i = 0; i < n; ++i)
      check(ort->CreateTensorWithDataAsOrtValue(cpu, values[i].data(), values[i].size() * 4,
          shapes[i].data(), shapes[i].size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &given[i]));
    check(ort->Run(session, nullptr, names.data(), given.data(), n, results.data(), n, found.data()));
    void *re, *im, *state;
    check(ort->GetTensorMutableData(found[0], &re));
    check(ort->GetTensorMutableData(found[1], &im));
    for (int i = 0; i < kFft; ++i) {
      float sum = 0;
      for (int f = 0; f < kFreqs; ++f) {
        std::complex<float> y(static_cast<float*>(re)[f], static_cast<float*>(im)[f]);
        sum += (f % (kFreqs - 1) ? 2 : 1) * (y * std::conj(turn[f * i % kFft])).real() / kFft;
      }
      if (start + i >= 0) out[start + i] += window[i] * sum;
    }
    for (size_t i = 2; i < n; ++i) {
      check(ort->GetTensorMutableData(found[i], &state));
      values[i].assign(static_cast<float*>(state), static_cast<float*>(state) + values[i].size());
    }
    for (size_t i = 0; i < n; ++i) ort->ReleaseValue(given[i]), ort->ReleaseValue(found[i]);
  }
  std::string header = wav.substr(0, 44);  // of a plain WAV, now of one channel
  auto put = [&](int at, uint32_t value, int size) { header.replace(at, size, reinterpret_cast<char*>(&value), size); };
  put(4, 36 + 2 * samples, 4); put(16, 16, 4); put(20, 1, 2); put(22, 1, 2);
  put(28, 2 * *reinterpret_cast<uint32_t*>(&wav[24]), 4); put(32, 2, 2); put(34, 16, 2);
  header.replace(36, 4, "data"); put(40, 2 * samples, 4);
  std::ofstream file(argv[3], std::ios::binary);
  file << header;
  for (int i = 0; i < samples; ++i) {
    int16_t value = std::lrint(32767 * std::fmax(-1.f, std::fmin(1.f, out[i])));
    file.write(reinterpret_cast<char*>(&value), 2);
  }
  return file ? 0 : 2;
}

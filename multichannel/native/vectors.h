// Sixteen floats or eight doubles as one value. The compiler maps them to the registers there are:
// one of AVX-512, two of AVX2, four of NEON.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace clearbeam {

constexpr int LANES = 16, DOUBLES = 8;
typedef float V __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef double D __attribute__((vector_size(64)));
typedef int64_t M __attribute__((vector_size(64)));  // what comparing two D gives

inline V splat(float x) { return V{} + x; }
inline D splat(double x) { return D{} + x; }
inline int blocks_of(int n) { return (n + LANES - 1) / LANES; }

inline V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
inline D load(const double* p) {
  D v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(double* p, D v) { std::memcpy(p, &v, sizeof v); }

struct Bin {  // one complex value
  float re, im;
};
using Lanes = std::make_integer_sequence<int, LANES>;

// Sixteen complex values from memory, and back.
template <int... L>
void take_complex(const Bin* from, V& re, V& im, std::integer_sequence<int, L...>) {
  const float* in = reinterpret_cast<const float*>(from);
  const V a = load(in), b = load(in + LANES);
  re = __builtin_shufflevector(a, b, (2 * L)...);
  im = __builtin_shufflevector(a, b, (2 * L + 1)...);
}
template <int... L>
void put_complex(V re, V im, Bin* to, std::integer_sequence<int, L...>) {
  float* out = reinterpret_cast<float*>(to);
  store(out, __builtin_shufflevector(re, im, (L / 2 + L % 2 * LANES)...));
  store(out + LANES, __builtin_shufflevector(re, im, (8 + L / 2 + L % 2 * LANES)...));
}
// The imaginary part in the place of the real one, and the other way round.
template <int... L>
V swapped(V x, std::integer_sequence<int, L...>) {
  return __builtin_shufflevector(x, x, (L ^ 1)...);
}

// Halves onto each other, until one is left.
template <int... L>
float sum(V v, std::integer_sequence<int, L...>) {
  v += __builtin_shufflevector(v, v, (L ^ 8)...);
  v += __builtin_shufflevector(v, v, (L ^ 4)...);
  v += __builtin_shufflevector(v, v, (L ^ 2)...);
  v += __builtin_shufflevector(v, v, (L ^ 1)...);
  return v[0];
}
inline float sum(V v) { return sum(v, Lanes{}); }

// e^x = 2^k e^r with |r| <= ln(2) / 2: adding 1.5 * 2^23 rounds to the integer k, which then stands
// in the low bits; the series of e^r ends below half a unit in the last place.
inline V exponential(V x) {
  x = x > 87.0f ? splat(87.0f) : x;
  x = x < -87.0f ? splat(-87.0f) : x;
  const V shifted = x * 1.44269504f + 12582912.0f;
  const V k = shifted - 12582912.0f;
  const V r = x - k * 0.693359375f + k * 2.12194440e-4f;
  V p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * (V)(((I)shifted + 127) << 23);
}
inline V sigmoid(V x) { return 1.0f / (1.0f + exponential(-x)); }
inline V tangent(V x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }
inline V prelu(V x, float slope) { return x > 0.0f ? x : x * slope; }

}  // namespace clearbeam

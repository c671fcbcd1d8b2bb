// Rows of feats and the matrices that act on them. A row is padded with zeros to whole vectors.
#pragma once
#include "vectors.h"

namespace clearbeam {

// Floats in the order in which packing.py wrote them.
struct Reader {
  const float* at;
  float next() { return *at++; }
  const float* take(int64_t n) {
    at += n;
    return at - n;
  }
};

// `n` values spread over whole vectors.
inline std::vector<V> padded(const float* values, int n) {
  std::vector<V> v(blocks_of(n), V{});
  std::memcpy(v.data(), values, n * sizeof(float));
  return v;
}

inline std::vector<V> padded_rows(Reader& r, int n_rows, int n) {
  std::vector<V> rows;
  for (int row = 0; row < n_rows; ++row) {
    const std::vector<V> one = padded(r.take(n), n);
    rows.insert(rows.end(), one.begin(), one.end());
  }
  return rows;
}

inline const float* floats(const V* v) { return reinterpret_cast<const float*>(v); }

// Rows for the bands, with rows of zeros on both sides for convolutions to reach into.
struct Rows {
  static constexpr int EDGE = 3;
  int blocks;
  std::vector<V> data;
  Rows(int n_rows, int n_feats)
      : blocks(blocks_of(n_feats)), data((n_rows + 2 * EDGE) * blocks_of(n_feats), V{}) {}
  int stride() const { return blocks * LANES; }
  V* row(int band) { return data.data() + (band + EDGE) * blocks; }
  const V* row(int band) const { return data.data() + (band + EDGE) * blocks; }
  float* feats(int band) { return reinterpret_cast<float*>(row(band)); }
  const float* feats(int band) const { return floats(row(band)); }
};

// Where the inputs of a row stand: `taps` runs of `n` feats, `stride` floats apart.
struct Taps {
  int taps, n, stride;
};

// y = x A + bias, with A (inputs, outputs); outputs and bias are whole vectors.
struct Matrix {
  int n_in = 0, blocks = 0;
  std::vector<V> weight, bias;

  Matrix(Reader& r, int n_inputs, int n_out)
      : n_in(n_inputs), blocks(blocks_of(n_out)), weight(padded_rows(r, n_in, n_out)),
        bias(padded_rows(r, 1, n_out)) {}

  // y of inputs x that follow each other.
  V apply(const float* x, int block = 0) const {
    V y[1];
    tile<1>(y, x, 0, {1, n_in, 0}, block);
    return y[0];
  }

  // finish(row, block, y) for many rows, whose inputs start `step` floats after each other. Eight
  // at a time share each weight and keep both multipliers busy.
  template <class Finish>
  void rows(int n_rows, const float* x, int step, Taps taps, const Finish& finish) const {
    constexpr int AT_ONCE = 8;
    for (int block = 0; block < blocks; ++block) {
      int row = 0;
      V y[AT_ONCE];
      for (; row + AT_ONCE <= n_rows; row += AT_ONCE) {
        tile<AT_ONCE>(y, x + row * step, step, taps, block);
        for (int i = 0; i < AT_ONCE; ++i) finish(row + i, block, y[i]);
      }
      for (; row < n_rows; ++row) {
        tile<1>(y, x + row * step, step, taps, block);
        finish(row, block, y[0]);
      }
    }
  }

 private:
  template <int N>
  void tile(V* y, const float* x, int step, Taps taps, int block) const {
    V sums[N];
    for (int i = 0; i < N; ++i) sums[i] = bias[block];
    const V* w = weight.data() + block;
    for (int tap = 0; tap < taps.taps; ++tap, x += taps.stride)
      for (int k = 0; k < taps.n; ++k, w += blocks)
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) sums[i] += *w * x[i * step + k];
    for (int i = 0; i < N; ++i) y[i] = sums[i];
  }
};

// A GRU; groups and directions are blocks of its matrices. The new gate's hidden half stays apart
// from its input half, because the reset gate scales it.
struct Gru {
  int n_in, n_hidden, blocks;
  Matrix in[3], hidden[3];  // reset, update, new

  Gru(Reader& r, int inputs, int units)
      : n_in(inputs), n_hidden(units), blocks(blocks_of(units)),
        in{Matrix(r, n_in, units), Matrix(r, n_in, units), Matrix(r, n_in, units)},
        hidden{Matrix(r, units, units), Matrix(r, units, units), Matrix(r, units, units)} {}

  // The new state from what inputs (x) and old state (s) say to the gates.
  static V cell(const V x[3], const V s[3], V h) {
    const V n = tangent(x[2] + sigmoid(x[0] + s[0]) * s[2]);
    return n + sigmoid(x[1] + s[1]) * (h - n);
  }

  // One block of the new state from the gates' inputs and the old state, as fast as a chain of
  // steps allows: four sums a gate, since each addition waits for the one before.
  V step(const V x[3], const float* h, int block) const {
    V s[3][4];
    for (int gate = 0; gate < 3; ++gate) {
      s[gate][0] = hidden[gate].bias[block];
      for (int part = 1; part < 4; ++part) s[gate][part] = V{};
    }
    for (int k = 0; k + 4 <= n_hidden; k += 4)
#pragma GCC unroll 4
      for (int part = 0; part < 4; ++part)
#pragma GCC unroll 3
        for (int gate = 0; gate < 3; ++gate)
          s[gate][part] += hidden[gate].weight[(k + part) * blocks + block] * h[k + part];
    V sums[3];
    for (int gate = 0; gate < 3; ++gate)
      sums[gate] = (s[gate][0] + s[gate][1]) + (s[gate][2] + s[gate][3]);
    return cell(x, sums, load(h + block * LANES));
  }
};

}  // namespace clearbeam

// The layers of a GTCRN for one frame: those of multichannel/gtcrn_layers.py with their batch norms
// folded away, the unfolding over bands inside the kernels after it, and every GRU one product for
// all its groups. Nothing is allocated after construction. Members stand in the order of packing.py.
#pragma once
#include "dense.h"

#include <algorithm>
#include <cmath>

namespace clearbeam {

constexpr int N_FREQS = 257, N_LOW = 65, N_ERB = 64, N_NARROW = 129, N_MIDDLE = 65, N_BANDS = 33;
constexpr int MAX_BLOCKS = 16;

// Temporal convolution on the first half of the feats, then both halves interleaved.
struct Block {
  int half, inner, dilation;
  Matrix spread;
  float point_slope;
  std::vector<V> kernel;  // (3 frames from old to new, 3 bands, inner)
  std::vector<V> depth_bias;
  float depth_slope;
  Matrix merge;
  Gru attention;
  Matrix gate;
  std::vector<Rows> history;  // a ring of 2 dilation + 1 frames
  float newest = 0;           // its index, a float as all state is
  std::vector<V> hidden, next;
  Rows deep, merged;

  Block(Reader& r, int width, int n_inner, int n_frames)
      : half(width / 2), inner(n_inner), dilation(n_frames), spread(r, 3 * half, inner),
        point_slope(r.next()), kernel(padded_rows(r, 9, inner)),
        depth_bias(padded_rows(r, 1, inner)), depth_slope(r.next()), merge(r, inner, half),
        attention(r, half, 2 * half), gate(r, 2 * half, half),
        history(2 * dilation + 1, Rows(N_BANDS, inner)), hidden(blocks_of(2 * half), V{}),
        next(hidden), deep(N_BANDS, inner),
        merged(N_BANDS, half) {}

  // x and y may be the same.
  void step(const Rows& x, Rows& y) {
    const int index = (int(newest) + 1) % int(history.size());
    newest = float(index);
    Rows& now = history[index];
    spread.rows(N_BANDS, x.feats(-1), x.stride(), {3, half, x.stride()},
                [&](int b, int k, V v) { now.row(b)[k] = prelu(v, point_slope); });
    convolve();
    merge.rows(N_BANDS, deep.feats(0), deep.stride(), {1, inner, 0},
               [&](int b, int k, V v) { merged.row(b)[k] = v; });
    interleave(x, y, attend());
  }

  // Depthwise, three frames by three bands.
  void convolve() {
    const Rows* frames[3] = {&past(2 * dilation), &past(dilation), &past(0)};
    for (int k = 0; k < deep.blocks; ++k)
      for (int b = 0; b < N_BANDS; ++b) {
        V v = depth_bias[k];
        for (int tap = 0; tap < 9; ++tap)
          v += kernel[tap * deep.blocks + k] * frames[tap / 3]->row(b + tap % 3 - 1)[k];
        deep.row(b)[k] = prelu(v, depth_slope);
      }
  }

  const Rows& past(int n_frames) const {
    const int n = int(history.size());
    return history[(int(newest) + n - n_frames) % n];
  }

  // A gain for each feat from the energy of the feats so far.
  const float* attend() {
    V energy[MAX_BLOCKS];
    for (int k = 0; k < merged.blocks; ++k) {
      V s{};
      for (int b = 0; b < N_BANDS; ++b) s += merged.row(b)[k] * merged.row(b)[k];
      energy[k] = s * (1.0f / N_BANDS);
    }
    for (int k = 0; k < attention.blocks; ++k) {
      V x[3];
      for (int i = 0; i < 3; ++i) x[i] = attention.in[i].apply(floats(energy), k);
      next[k] = attention.step(x, floats(hidden.data()), k);
    }
    hidden.swap(next);
    for (int k = 0; k < merged.blocks; ++k) next[k] = sigmoid(gate.apply(floats(hidden.data()), k));
    return floats(next.data());
  }

  void interleave(const Rows& x, Rows& y, const float* gain) const {
    for (int b = 0; b < N_BANDS; ++b) {
      V kept[MAX_BLOCKS];  // x and y may be the same
      std::memcpy(kept, x.row(b), x.blocks * sizeof(V));
      const float *worked = merged.feats(b), *other = floats(kept) + half;
      float* out = y.feats(b);
      for (int i = 0; i < half; ++i) {
        out[2 * i] = worked[i] * gain[i];
        out[2 * i + 1] = other[i];
      }
    }
  }
};

// x += layer_norm(h A + b) over all bands and feats
struct Residual {
  int width;
  Matrix projection;
  std::vector<V> scale, shift;  // (bands, feats)
  std::vector<V> real;          // 1 in the lanes that are feats, 0 in the padding
  Rows y;

  Residual(Reader& r, int n_feats)
      : width(n_feats), projection(r, width, width), scale(padded_rows(r, N_BANDS, width)),
        shift(padded_rows(r, N_BANDS, width)),
        real(padded(std::vector<float>(width, 1.0f).data(), width)), y(N_BANDS, width) {}

  void add(Rows& x, const Rows& h) {
    const int blocks = x.blocks;
    V total{}, squares{};
    projection.rows(N_BANDS, h.feats(0), h.stride(), {1, width, 0},
                    [&](int b, int k, V v) { total += y.row(b)[k] = v; });
    const float mean = sum(total) / (N_BANDS * width);
    for (int b = 0; b < N_BANDS; ++b)
      for (int k = 0; k < blocks; ++k) {
        const V off = y.row(b)[k] = (y.row(b)[k] - mean) * real[k];
        squares += off * off;
      }
    const float inverse = 1.0f / std::sqrt(sum(squares) / (N_BANDS * width) + 1e-8f);
    for (int b = 0; b < N_BANDS; ++b)
      for (int k = 0; k < blocks; ++k)
        x.row(b)[k] += y.row(b)[k] * inverse * scale[b * blocks + k] + shift[b * blocks + k];
  }
};

// Over the bands of the frame both ways at once, then over the frames in every band.
struct DualPath {
  int width, blocks;
  Gru intra;
  Residual after_intra;
  Gru inter;
  Residual after_inter;
  std::vector<I> upwards;  // lanes of the intra GRU that run from low to high bands
  std::vector<V> h, next;  // its state
  Rows output, state;      // its output; the state of the inter GRU in each band
  std::vector<Rows> x_gates, h_gates;  // what inputs and states say to the gates

  DualPath(Reader& r, int n_feats)
      : width(n_feats), blocks(blocks_of(width)), intra(r, width, width), after_intra(r, width),
        inter(r, width, width), after_inter(r, width), upwards(blocks), h(blocks), next(blocks),
        output(N_BANDS, width), state(N_BANDS, width), x_gates(3, Rows(N_BANDS, width)),
        h_gates(x_gates) {
    for (int lane = 0; lane < width; ++lane)  // group by group: upwards, then downwards
      upwards[lane / LANES][lane % LANES] = lane % (width / 2) < width / 4 ? -1 : 0;
  }

  void step(Rows& x) {
    fill_gates(x_gates, intra.in, x);
    std::fill(h.begin(), h.end(), V{});
    for (int b = 0; b < N_BANDS; ++b) step_over_bands(b);
    after_intra.add(x, output);
    fill_gates(x_gates, inter.in, x);
    fill_gates(h_gates, inter.hidden, state);
    for (int b = 0; b < N_BANDS; ++b)
      for (int k = 0; k < blocks; ++k) {
        const V from_x[3] = {x_gates[0].row(b)[k], x_gates[1].row(b)[k], x_gates[2].row(b)[k]};
        const V from_h[3] = {h_gates[0].row(b)[k], h_gates[1].row(b)[k], h_gates[2].row(b)[k]};
        state.row(b)[k] = Gru::cell(from_x, from_h, state.row(b)[k]);
      }
    after_inter.add(x, state);
  }

  void fill_gates(std::vector<Rows>& gates, const Matrix* matrices, const Rows& x) const {
    for (int gate = 0; gate < 3; ++gate)
      matrices[gate].rows(N_BANDS, x.feats(0), x.stride(), {1, width, 0},
                          [&](int b, int k, V v) { gates[gate].row(b)[k] = v; });
  }

  // Lanes that run upwards are at band b, the others at its mirror image.
  void step_over_bands(int b) {
    const int mirrored = N_BANDS - 1 - b;
    for (int k = 0; k < blocks; ++k) {
      V x[3];
      for (int gate = 0; gate < 3; ++gate)
        x[gate] = upwards[k] ? x_gates[gate].row(b)[k] : x_gates[gate].row(mirrored)[k];
      next[k] = intra.step(x, floats(h.data()), k);
    }
    h.swap(next);
    for (int k = 0; k < blocks; ++k) {
      output.row(b)[k] = upwards[k] ? h[k] : output.row(b)[k];
      output.row(mirrored)[k] = upwards[k] ? output.row(mirrored)[k] : h[k];
    }
  }
};

}  // namespace clearbeam

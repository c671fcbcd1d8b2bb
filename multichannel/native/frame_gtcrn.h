// One frame through a GTCRN: spectra and cues in, the mask of the first spectrum out. Equal to
// multichannel/gtcrn.py but for rounding.
#pragma once
#include "frame_layers.h"

namespace clearbeam {

constexpr int ROW = 272;  // bins of a spectrum, padded to whole vectors

template <class T>
struct SpectrumOf {
  alignas(64) T re[ROW] = {}, im[ROW] = {};
};
using Spectrum = SpectrumOf<float>;  // what networks see

struct Shape {
  int n_spectra, n_magnitudes, n_cues, normalise, width, inner;
  float compression;
  int n_maps() const { return 3 * n_spectra + n_magnitudes + n_cues; }
  int n_inputs() const { return n_spectra + n_magnitudes; }
};

// A matrix whose rows are zero outside of one run.
struct Banded {
  struct Run {
    int first;
    std::vector<float> values;
  };
  std::vector<Run> rows;
  Banded(Reader& r, int n_rows, int n_columns) : rows(n_rows) {
    for (Run& row : rows) {
      const float* w = r.take(n_columns);
      int last = n_columns;
      for (row.first = 0; row.first < n_columns && w[row.first] == 0; ++row.first) {}
      while (last > row.first && w[last - 1] == 0) --last;
      row.values.assign(w + row.first, w + last);
    }
  }
};

class Gtcrn {
 public:
  const Shape shape;

  Gtcrn(const Shape& s, Reader r)
      : shape(s), bands(r, N_ERB, N_FREQS - N_LOW), bins(r, N_FREQS - N_LOW, N_ERB),
        first{Matrix(r, 7 * s.n_maps(), s.width), Matrix(r, 7 * s.n_maps(), s.width),
              Matrix(r, 7 * s.n_maps(), s.width)},
        first_slope(r.next()), second(r, 5 * s.width, s.width), second_slope(r.next()),
        blocks{Block(r, s.width, s.inner, 1), Block(r, s.width, s.inner, 2),
               Block(r, s.width, s.inner, 5), Block(r, s.width, s.inner, 5),
               Block(r, s.width, s.inner, 2), Block(r, s.width, s.inner, 1)},
        recurrent{DualPath(r, s.width), DualPath(r, s.width)}, 
        third{Matrix(r, 3 * s.width, s.width), Matrix(r, 2 * s.width, s.width)},
        third_slope(r.next()), last(r, s.width, 10), last_bias{r.next(), r.next()}, maps(N_FREQS, s.n_maps()),
        narrow(N_NARROW, s.n_maps()), middle(N_MIDDLE, s.width),
        skips(4, Rows(N_BANDS, s.width)), x(N_BANDS, s.width), wide(N_MIDDLE, s.width) {}

  // The mask of X[0]. X: n_spectra + n_magnitudes spectra; cues: n_cues maps.
  void step(const Spectrum* const* X, const float* const* cues, Spectrum& mask) {
    fill_maps(X, cues);
    encode();
    x.data = skips[3].data;
    for (DualPath& path : recurrent) path.step(x);
    decode();
    fill_mask(mask);
  }

  // All that is remembered from frame to frame, piece by piece.
  template <class Visit>
  void visit_state(const Visit& visit) {
    visit(level, 2);
    for (Block& block : blocks) {
      for (Rows& rows : block.history) visit_vectors(visit, rows.data);
      visit(&block.newest, 1);
      visit_vectors(visit, block.hidden);
    }
    for (DualPath& path : recurrent) visit_vectors(visit, path.state.data);
  }

 private:
  static constexpr int LOWEST_BIN = 3;  // as in multichannel/level.py, and so are the next two
  static constexpr float FORGETTING = 0.995f, FLOOR = 1e-9f;

  // In the order of packing.py:
  Banded bands, bins;
  Matrix first[3];  // of the lowest output, of those between, of the highest
  float first_slope;
  Matrix second;
  float second_slope;
  Block blocks[6];
  DualPath recurrent[2];
  Matrix third[2];  // of even and of odd outputs
  float third_slope;
  Matrix last;  // (feats, 5 taps x 2 maps)
  float last_bias[2];

  Rows maps, narrow, middle;
  std::vector<Rows> skips;  // of the second convolution and the encoder's blocks
  Rows x, wide;
  float level[2] = {0, 0};  // forgetting sums of the mean magnitude and of one

  template <class Visit>
  static void visit_vectors(const Visit& visit, std::vector<V>& v) {
    visit(reinterpret_cast<float*>(v.data()), int64_t(v.size()) * LANES);
  }

  float running_gain(const Spectrum& X) {
    if (!shape.normalise) return 1.0f;
    float magnitude = 0;
    for (int f = LOWEST_BIN; f < N_FREQS; ++f)
      magnitude += std::sqrt(X.re[f] * X.re[f] + X.im[f] * X.im[f]);
    level[0] = FORGETTING * level[0] + magnitude / (N_FREQS - LOWEST_BIN);
    level[1] = FORGETTING * level[1] + 1.0f;
    return 1.0f / (level[0] / level[1] + FLOOR);
  }

  void fill_maps(const Spectrum* const* X, const float* const* cues) {
    const float gain = running_gain(*X[0]);
    int map = 0;
    for (int i = 0; i < shape.n_inputs(); ++i) {
      alignas(64) float magnitude[ROW], scale[ROW];
      compress(*X[i], gain, magnitude, scale);
      put(map++, magnitude, nullptr);
      if (i >= shape.n_spectra) continue;
      put(map++, X[i]->re, scale);
      put(map++, X[i]->im, scale);
    }
    for (int i = 0; i < shape.n_cues; ++i) put(map++, cues[i], nullptr);
  }

  // |gain X|^c, and what turns X into gain X |gain X|^(c - 1).
  void compress(const Spectrum& X, float gain, float* magnitude, float* scale) const {
    const float c = shape.compression;
    for (int f = 0; f < ROW; ++f) {
      const float re = X.re[f] * gain, im = X.im[f] * gain;
      magnitude[f] = std::sqrt(re * re + im * im + 1e-12f);
      scale[f] = gain;
    }
    if (c == 0.5f)
      for (int f = 0; f < ROW; ++f) {
        magnitude[f] = std::sqrt(magnitude[f]);
        scale[f] = gain / magnitude[f];
      }
    else if (c != 1.0f)
      for (int f = 0; f < ROW; ++f) {
        scale[f] = gain * std::pow(magnitude[f], c - 1);
        magnitude[f] = std::pow(magnitude[f], c);
      }
  }

  void put(int map, const float* values, const float* scale) {
    float* out = maps.feats(0) + map;
    const int step = maps.blocks * LANES;
    for (int f = 0; f < N_FREQS; ++f) out[f * step] = scale ? values[f] * scale[f] : values[f];
  }

  void encode() {
    const int n_maps = shape.n_maps();
    std::memcpy(narrow.row(0), maps.row(0), N_LOW * maps.blocks * sizeof(V));
    for (int b = 0; b < N_ERB; ++b)
      for (int k = 0; k < maps.blocks; ++k) {
        V v{};
        for (size_t i = 0; i < bands.rows[b].values.size(); ++i)
          v += bands.rows[b].values[i] * maps.row(N_LOW + bands.rows[b].first + i)[k];
        narrow.row(N_LOW + b)[k] = v;
      }
    const auto to_middle = [&](int at) {
      return [this, at](int b, int k, V v) { middle.row(at + b)[k] = prelu(v, first_slope); };
    };
    const Taps seven{7, n_maps, narrow.stride()}, five{5, shape.width, middle.stride()};
    first[0].rows(1, narrow.feats(-3), 0, seven, to_middle(0));
    first[1].rows(N_MIDDLE - 2, narrow.feats(-1), 2 * narrow.stride(), seven, to_middle(1));
    first[2].rows(1, narrow.feats(N_NARROW - 4), 0, seven, to_middle(N_MIDDLE - 1));
    second.rows(N_BANDS, middle.feats(-2), 2 * middle.stride(), five,
                [&](int b, int k, V v) { skips[0].row(b)[k] = prelu(v, second_slope); });
    for (int i = 0; i < 3; ++i) blocks[i].step(skips[i], skips[i + 1]);
  }

  void decode() {
    for (int i = 0; i < 3; ++i) {
      add_to(x, skips[3 - i]);
      blocks[3 + i].step(x, x);
    }
    add_to(x, skips[0]);
    // output 2 j takes taps 4, 2, 0 of inputs j - 1, j, j + 1; output 2 j + 1 taps 3, 1 of j, j + 1
    const auto to_wide = [&](int odd) {
      return [this, odd](int j, int k, V v) {
        const int b = 2 * j + odd;
        wide.row(b)[k] = prelu(v, third_slope) + middle.row(b)[k];
      };
    };
    const int n = shape.width, step = x.stride();
    third[0].rows(N_BANDS, x.feats(-1), step, {3, n, step}, to_wide(0));
    third[1].rows(N_BANDS - 1, x.feats(0), step, {2, n, step}, to_wide(1));
  }

  static void add_to(Rows& x, const Rows& y) {
    for (size_t i = 0; i < x.data.size(); ++i) x.data[i] += y.data[i];
  }

  void fill_mask(Spectrum& mask) const {
    alignas(64) float maps_of_mask[2][144 + LANES] = {};  // from band -2 on
    last.rows(N_MIDDLE, wide.feats(0), wide.stride(), {1, shape.width, 0}, [&](int b, int, V v) {
      for (int tap = 0; tap < 5; ++tap)
        for (int map = 0; map < 2; ++map) maps_of_mask[map][2 * b + tap] += v[2 * tap + map];
    });
    for (int map = 0; map < 2; ++map) {
      float *out = map ? mask.im : mask.re, *narrow_mask = maps_of_mask[map] + 2;
      for (int b = 0; b < N_NARROW; b += LANES)
        store(narrow_mask + b, tangent(load(narrow_mask + b) + last_bias[map]));
      std::memcpy(out, narrow_mask, N_LOW * sizeof(float));
      for (int f = N_LOW; f < N_FREQS; ++f) {
        const Banded::Run& run = bins.rows[f - N_LOW];
        float v = 0;
        for (size_t i = 0; i < run.values.size(); ++i)
          v += run.values[i] * narrow_mask[N_LOW + run.first + i];
        out[f] = v;
      }
    }
  }
};

}  // namespace clearbeam

// Many small GRUs at once, forward and backward, for training on a CPU.
//
// A recurrent layer of a GTCRN has 4 to 16 units: a matrix library spends its time on being called.
// Here sixteen sequences run side by side, one to a vector lane, and a whole layer is one call.
//
// Axes: x (n1, n2, steps, groups * n_in) with any strides, y (n1, n2, steps, groups * directions *
// n_hidden); each group reads its own slice of x. Gates in torch's order: reset, update, new.
#include "layers.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

constexpr int L = 16;  // lanes: sequences worked on together

struct Shape {
  int64_t n1, n2, steps, n_in, n_hidden, groups, directions;
  int64_t sequences() const { return n1 * n2; }
  int64_t blocks() const { return (sequences() + L - 1) / L; }
  int64_t saved_per_step() const { return 5 * n_hidden * L; }
};

struct Weights {
  const float *ih, *hh, *bias_ih, *bias_hh;
};

// Offsets of the sequences of one block; lanes past the end repeat the last sequence.
struct Lanes {
  int64_t offset[L];
  int64_t used;
  Lanes(const at::Tensor& x, const Shape& s, int64_t block) {
    used = std::min<int64_t>(L, s.sequences() - block * L);
    for (int64_t lane = 0; lane < L; ++lane) {
      int64_t i = block * L + std::min(lane, used - 1);
      offset[lane] = (i / s.n2) * x.stride(0) + (i % s.n2) * x.stride(1);
    }
  }
};

// The vector reciprocal refines an estimate and gives NaN for infinity, so keep exp far from it.
inline float decay(float v) { return std::exp(-std::min(std::max(v, -40.0f), 40.0f)); }

inline void sigmoid(float* v) {
#pragma omp simd
  for (int l = 0; l < L; ++l) v[l] = 1.0f / (1.0f + decay(v[l]));
}

inline void tanh_(float* v) {
#pragma omp simd
  for (int l = 0; l < L; ++l) v[l] = 2.0f / (1.0f + decay(2.0f * v[l])) - 1.0f;
}

inline void gather(float* out, const float* base, const Lanes& lanes, int64_t n, int64_t stride) {
  for (int l = 0; l < L; ++l) {
    const float* p = base + lanes.offset[l];
    for (int64_t c = 0; c < n; ++c) out[c * L + l] = p[c * stride];
  }
}

typedef float Vec __attribute__((vector_size(4 * L), aligned(4)));  // one value of every lane

inline Vec& lanes(float* p) { return *reinterpret_cast<Vec*>(p); }
inline const Vec& lanes(const float* p) { return *reinterpret_cast<const Vec*>(p); }

// Rows of `multiply` that share what they load, and whose sums do not wait for each other.
template <int ROWS>
inline void multiply_rows(float* out, const float* matrix, const float* bias, const float* v,
                          int64_t columns) {
  Vec sum[ROWS];
  for (int r = 0; r < ROWS; ++r) sum[r] = bias ? Vec{} + bias[r] : lanes(out + r * L);
  for (int64_t c = 0; c < columns; ++c) {
    const Vec x = lanes(v + c * L);
    for (int r = 0; r < ROWS; ++r) sum[r] += matrix[r * columns + c] * x;
  }
  for (int r = 0; r < ROWS; ++r) lanes(out + r * L) = sum[r];
}

// out[row] = bias[row] + sum over columns of matrix[row, column] * v[column]; without a bias it is
// added to what is there.
inline void multiply(float* out, const float* matrix, const float* bias, const float* v,
                     int64_t rows, int64_t columns) {
  int64_t row = 0;
  for (; row + 8 <= rows; row += 8)
    multiply_rows<8>(out + row * L, matrix + row * columns, bias ? bias + row : bias, v, columns);
  for (; row < rows; ++row)
    multiply_rows<1>(out + row * L, matrix + row * columns, bias ? bias + row : bias, v, columns);
}

// One block, one GRU, all steps. `saved` holds per step: reset, update, new, hidden part of new,
// and the state before the step.
void run_forward(const Shape& s, const float* x, const Lanes& in, int64_t x_step, int64_t x_feat,
                 float* y, const Lanes& out, int64_t y_step, int64_t y_feat, const Weights& w,
                 float* saved, bool reverse) {
  const int64_t H = s.n_hidden;
  std::vector<float> input(s.n_in * L), h(H * L, 0.0f), gi(3 * H * L), gh(3 * H * L);
  for (int64_t i = 0; i < s.steps; ++i) {
    const int64_t t = reverse ? s.steps - 1 - i : i;
    gather(input.data(), x + t * x_step, in, s.n_in, x_feat);
    multiply(gi.data(), w.ih, w.bias_ih, input.data(), 3 * H, s.n_in);
    multiply(gh.data(), w.hh, w.bias_hh, h.data(), 3 * H, H);
    float *r = saved + t * s.saved_per_step(), *z = r + H * L, *n = z + H * L, *hn = n + H * L;
    std::copy(h.begin(), h.end(), hn + H * L);
    for (int64_t j = 0; j < H; ++j) {
      float *rj = r + j * L, *zj = z + j * L, *nj = n + j * L, *hnj = hn + j * L;
      for (int l = 0; l < L; ++l) rj[l] = gi[j * L + l] + gh[j * L + l];
      for (int l = 0; l < L; ++l) zj[l] = gi[(H + j) * L + l] + gh[(H + j) * L + l];
      for (int l = 0; l < L; ++l) hnj[l] = gh[(2 * H + j) * L + l];
      sigmoid(rj);
      sigmoid(zj);
      for (int l = 0; l < L; ++l) nj[l] = gi[(2 * H + j) * L + l] + rj[l] * hnj[l];
      tanh_(nj);
      for (int l = 0; l < L; ++l) h[j * L + l] = nj[l] + zj[l] * (h[j * L + l] - nj[l]);
    }
    for (int64_t l = 0; l < out.used; ++l)
      for (int64_t j = 0; j < H; ++j) y[out.offset[l] + t * y_step + j * y_feat] = h[j * L + l];
  }
}

struct Gradients {
  std::vector<float> ih, hh, bias_ih, bias_hh;  // one vector of lanes an entry
  explicit Gradients(const Shape& s)
      : ih(3 * s.n_hidden * s.n_in * L), hh(3 * s.n_hidden * s.n_hidden * L),
        bias_ih(3 * s.n_hidden * L), bias_hh(3 * s.n_hidden * L) {}
};

constexpr int CHUNK = 8;  // steps whose weight gradients are added up in registers

// A tile of gradient[row, column] += sum over steps of g[step][row] * v[step][column]
template <int ROWS, int COLUMNS>
inline void add_tile(float* gradient, int64_t width, const float* const* g, int64_t row,
                     const float* const* v, int64_t column, int steps) {
  Vec sum[ROWS][COLUMNS];
  for (int r = 0; r < ROWS; ++r)
    for (int c = 0; c < COLUMNS; ++c) sum[r][c] = lanes(gradient + (r * width + c) * L);
  for (int i = 0; i < steps; ++i) {
    Vec x[COLUMNS];
    for (int c = 0; c < COLUMNS; ++c) x[c] = lanes(v[i] + (column + c) * L);
    for (int r = 0; r < ROWS; ++r) {
      const Vec y = lanes(g[i] + (row + r) * L);
      for (int c = 0; c < COLUMNS; ++c) sum[r][c] += y * x[c];
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int c = 0; c < COLUMNS; ++c) lanes(gradient + (r * width + c) * L) = sum[r][c];
}

void add_products(float* gradient, const float* const* g, int64_t rows, const float* const* v,
                  int64_t columns, int steps) {
  const auto at = [&](int64_t row, int64_t column) { return gradient + (row * columns + column) * L; };
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    int64_t column = 0;
    for (; column + 4 <= columns; column += 4)
      add_tile<4, 4>(at(row, column), columns, g, row, v, column, steps);
    for (; column < columns; ++column)
      add_tile<4, 1>(at(row, column), columns, g, row, v, column, steps);
  }
  for (; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column)
      add_tile<1, 1>(at(row, column), columns, g, row, v, column, steps);
}

void add_to(float* sum, const float* v, int64_t n) {
  for (int64_t i = 0; i < n; i += L) lanes(sum + i) += lanes(v + i);
}

// `w` holds the transposed matrices.
void run_backward(const Shape& s, const float* x, const Lanes& in, int64_t x_step, int64_t x_feat,
                  float* dx, const float* dy, const Lanes& out, int64_t y_step, int64_t y_feat,
                  const Weights& w, const float* saved, Gradients& g, bool reverse) {
  const int64_t H = s.n_hidden, gates = 3 * H * L;
  std::vector<float> input(CHUNK * s.n_in * L), dinput(s.n_in * L), none(s.n_in, 0.0f);
  std::vector<float> carry(H * L, 0.0f), next(H * L), dh(H * L);
  std::vector<float> dgi(CHUNK * gates), dgh(CHUNK * gates);
  const float *inputs[CHUNK], *befores[CHUNK], *dgis[CHUNK], *dghs[CHUNK];
  Vec live{};  // lanes that are a sequence of their own
  for (int64_t l = 0; l < out.used; ++l) live[l] = 1.0f;
  int used = 0;  // steps of the chunk
  for (int64_t i = s.steps - 1; i >= 0; --i) {
    const int64_t t = reverse ? s.steps - 1 - i : i;
    const float *r = saved + t * s.saved_per_step(), *z = r + H * L, *n = z + H * L;
    const float *hn = n + H * L, *before = hn + H * L;
    float *xi = input.data() + used * s.n_in * L;
    float *di = dgi.data() + used * gates, *dj = dgh.data() + used * gates;
    gather(xi, x + t * x_step, in, s.n_in, x_feat);
    gather(dh.data(), dy + t * y_step, out, H, y_feat);
    for (int64_t j = 0; j < H * L; j += L) {
      const Vec rj = lanes(r + j), zj = lanes(z + j), nj = lanes(n + j);
      const Vec d = lanes(&dh[j]) * live + lanes(&carry[j]);
      const Vec dn = d * (1.0f - zj) * (1.0f - nj * nj);
      lanes(&next[j]) = d * zj;
      lanes(di + j) = lanes(dj + j) = dn * lanes(hn + j) * rj * (1.0f - rj);
      lanes(di + H * L + j) = lanes(dj + H * L + j) =
          d * (lanes(before + j) - nj) * zj * (1.0f - zj);
      lanes(di + 2 * H * L + j) = dn;
      lanes(dj + 2 * H * L + j) = dn * rj;
    }
    carry.swap(next);
    multiply(carry.data(), w.hh, nullptr, dj, H, 3 * H);
    multiply(dinput.data(), w.ih, none.data(), di, s.n_in, 3 * H);
    for (int64_t l = 0; l < in.used; ++l)
      for (int64_t c = 0; c < s.n_in; ++c)
        dx[in.offset[l] + t * x_step + c * x_feat] += dinput[c * L + l];
    add_to(g.bias_ih.data(), di, gates);
    add_to(g.bias_hh.data(), dj, gates);
    inputs[used] = xi, befores[used] = before, dgis[used] = di, dghs[used] = dj;
    if (++used == CHUNK || i == 0) {
      add_products(g.ih.data(), dgis, 3 * H, inputs, s.n_in, used);
      add_products(g.hh.data(), dghs, 3 * H, befores, H, used);
      used = 0;
    }
  }
}

void add_lanes(float* out, const std::vector<float>& lanes) {
  for (size_t i = 0; i < lanes.size() / L; ++i)
    for (int l = 0; l < L; ++l) out[i] += lanes[i * L + l];
}

Shape shape_of(const at::Tensor& x, const at::Tensor& w_ih, const at::Tensor& w_hh,
               int64_t directions) {
  return {x.size(0), x.size(1), x.size(2), w_ih.size(2), w_hh.size(2),
          w_ih.size(0) / directions, directions};
}

Weights weights_of(const at::Tensor& w_ih, const at::Tensor& w_hh, const at::Tensor& b_ih,
                   const at::Tensor& b_hh, int64_t k) {
  return {w_ih[k].data_ptr<float>(), w_hh[k].data_ptr<float>(), b_ih[k].data_ptr<float>(),
          b_hh[k].data_ptr<float>()};
}

}  // namespace

std::vector<at::Tensor> gru_forward(at::Tensor x, at::Tensor w_ih, at::Tensor w_hh, at::Tensor b_ih,
                                at::Tensor b_hh, int64_t directions, at::Tensor y) {
  const Shape s = shape_of(x, w_ih, w_hh, directions);
  const int64_t n_grus = s.groups * directions;
  at::Tensor saved = at::empty({n_grus, s.blocks(), s.steps, s.saved_per_step()}, x.options());
  for (int64_t k = 0; k < n_grus; ++k) {
    const Weights w = weights_of(w_ih, w_hh, b_ih, b_hh, k);
    const float* in = x.data_ptr<float>() + (k / directions) * s.n_in * x.stride(3);
    float* out = y.data_ptr<float>() + k * s.n_hidden * y.stride(3);
    for (int64_t block = 0; block < s.blocks(); ++block)
      run_forward(s, in, Lanes(x, s, block), x.stride(2), x.stride(3), out, Lanes(y, s, block),
                  y.stride(2), y.stride(3), w,
                  saved.data_ptr<float>() + (k * s.blocks() + block) * s.steps * s.saved_per_step(),
                  k % directions == 1);
  }
  return {y, saved};
}

std::vector<at::Tensor> gru_backward(at::Tensor dy, at::Tensor x, at::Tensor w_ih, at::Tensor w_hh,
                                 at::Tensor b_ih, at::Tensor b_hh, int64_t directions,
                                 at::Tensor saved, at::Tensor dx) {
  const Shape s = shape_of(x, w_ih, w_hh, directions);
  at::Tensor dw_ih = at::zeros_like(w_ih), dw_hh = at::zeros_like(w_hh);
  const at::Tensor ih_t = w_ih.mT().contiguous(), hh_t = w_hh.mT().contiguous();
  at::Tensor db_ih = at::zeros_like(b_ih), db_hh = at::zeros_like(b_hh);
  for (int64_t k = 0; k < s.groups * directions; ++k) {
    const Weights w = weights_of(ih_t, hh_t, b_ih, b_hh, k);
    const int64_t first_in = (k / directions) * s.n_in, first_out = k * s.n_hidden;
    Gradients g(s);
    for (int64_t block = 0; block < s.blocks(); ++block)
      // x and dx share their strides
      run_backward(s, x.data_ptr<float>() + first_in * x.stride(3), Lanes(x, s, block),
                   x.stride(2), x.stride(3), dx.data_ptr<float>() + first_in * dx.stride(3),
                   dy.data_ptr<float>() + first_out * dy.stride(3), Lanes(dy, s, block),
                   dy.stride(2), dy.stride(3), w,
                   saved.data_ptr<float>() +
                       (k * s.blocks() + block) * s.steps * s.saved_per_step(),
                   g, k % directions == 1);
    add_lanes(dw_ih[k].data_ptr<float>(), g.ih);
    add_lanes(dw_hh[k].data_ptr<float>(), g.hh);
    add_lanes(db_ih[k].data_ptr<float>(), g.bias_ih);
    add_lanes(db_hh[k].data_ptr<float>(), g.bias_hh);
  }
  return {dx, dw_ih, dw_hh, db_ih, db_hh};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("gru_forward", &gru_forward);
  m.def("gru_backward", &gru_backward);
  m.def("norm_forward", &norm_forward);
  m.def("norm_backward", &norm_backward);
  m.def("depthwise_forward", &depthwise_forward);
  m.def("depthwise_backward", &depthwise_backward);
}

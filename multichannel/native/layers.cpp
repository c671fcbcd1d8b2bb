// Batch norm with PReLU, and the dilated depthwise convolution, forward and backward, for training on
// a CPU. Each reads its input once or twice and keeps one channel in the second-level cache.
//
// Axes: (batch, channels, frames, bands), contiguous.
#include "layers.h"

#include <cmath>
#include <vector>

namespace {

struct Plane {  // one channel of a batch: `batch` runs of `size` samples, `stride` apart
  int64_t batch, channels, size;
  explicit Plane(const at::Tensor& x)
      : batch(x.size(0)), channels(x.size(1)), size(x.size(2) * x.size(3)) {}
  int64_t at(int64_t b, int64_t c) const { return (b * channels + c) * size; }
};

double sum_of(const float* x, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum;
}

double deviation_of(const float* x, int64_t n, float mean) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return sum;
}

}  // namespace

// y = prelu(gamma * (x - mean) / std + beta); also the mean and the biased variance of each channel.
std::vector<at::Tensor> norm_forward(at::Tensor x, at::Tensor gamma, at::Tensor beta, double slope,
                                     double eps) {
  const Plane p(x);
  const double count = double(p.batch) * p.size;
  at::Tensor y = at::empty_like(x), mean = at::empty({p.channels}), var = at::empty({p.channels});
  const float *in = x.data_ptr<float>(), *g = gamma.data_ptr<float>(), *b0 = beta.data_ptr<float>();
  float* out = y.data_ptr<float>();
  const float a = slope;
  for (int64_t c = 0; c < p.channels; ++c) {
    double sum = 0, squares = 0;
    for (int64_t b = 0; b < p.batch; ++b) sum += sum_of(in + p.at(b, c), p.size);
    const float m = sum / count;
    for (int64_t b = 0; b < p.batch; ++b) squares += deviation_of(in + p.at(b, c), p.size, m);
    mean.data_ptr<float>()[c] = m;
    var.data_ptr<float>()[c] = squares / count;
    const float scale = g[c] / std::sqrt(squares / count + eps), shift = b0[c] - scale * m;
    for (int64_t b = 0; b < p.batch; ++b) {
      const float* xi = in + p.at(b, c);
      float* yi = out + p.at(b, c);
#pragma omp simd
      for (int64_t i = 0; i < p.size; ++i) {
        const float u = scale * xi[i] + shift;
        yi[i] = u > 0 ? u : a * u;
      }
    }
  }
  return {y, mean, var};
}

std::vector<at::Tensor> norm_backward(at::Tensor dy, at::Tensor x, at::Tensor mean, at::Tensor var,
                                      at::Tensor gamma, at::Tensor beta, double slope, double eps) {
  const Plane p(x);
  const float count = float(double(p.batch) * p.size), a = slope;
  at::Tensor dx = at::empty_like(x), dgamma = at::empty_like(gamma), dbeta = at::empty_like(beta);
  const float *in = x.data_ptr<float>(), *grad = dy.data_ptr<float>();
  double dslope = 0;
  for (int64_t c = 0; c < p.channels; ++c) {
    const float m = mean.data_ptr<float>()[c], g = gamma.data_ptr<float>()[c];
    const float inv = 1.0 / std::sqrt(var.data_ptr<float>()[c] + eps);
    const float b0 = beta.data_ptr<float>()[c];
    float sum = 0, dot = 0, below = 0;
    for (int64_t b = 0; b < p.batch; ++b) {
      const float *xi = in + p.at(b, c), *di = grad + p.at(b, c);
#pragma omp simd reduction(+ : sum, dot, below)
      for (int64_t i = 0; i < p.size; ++i) {
        const float normal = (xi[i] - m) * inv, u = g * normal + b0;
        const float d = u > 0 ? di[i] : a * di[i];
        sum += d;
        dot += d * normal;
        below += u > 0 ? 0.0f : u * di[i];
      }
    }
    dslope += below;
    dgamma.data_ptr<float>()[c] = dot;
    dbeta.data_ptr<float>()[c] = sum;
    const float scale = g * inv, mean_d = sum / count, mean_dot = dot / count;
    for (int64_t b = 0; b < p.batch; ++b) {
      const float *xi = in + p.at(b, c), *di = grad + p.at(b, c);
      float* out = dx.data_ptr<float>() + p.at(b, c);
#pragma omp simd
      for (int64_t i = 0; i < p.size; ++i) {
        const float normal = (xi[i] - m) * inv, u = g * normal + b0;
        const float d = u > 0 ? di[i] : a * di[i];
        out[i] = scale * (d - mean_d - normal * mean_dot);
      }
    }
  }
  return {dx, dgamma, dbeta, at::full({1}, dslope, gamma.options())};
}

// A depthwise 3x3 convolution, padded by one band on both sides and not in time:
// x (b, c, frames + 2 dilation, bands), w (c, 1, 3, 3) -> y (b, c, frames, bands).
// Rows are laid out with their padding, so that a shift in time or band is one flat offset.
namespace {

struct Padded {
  int64_t bands, row, frames, step, size;
  Padded(int64_t n_bands, int64_t n_frames, int64_t dilation)
      : bands(n_bands), row(n_bands + 2), frames(n_frames), step(dilation * (n_bands + 2)),
        size(n_frames * (n_bands + 2)) {}
};

void spread(float* padded, const float* plane, int64_t rows, int64_t bands, int64_t left) {
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t f = 0; f < bands; ++f) padded[t * (bands + 2) + left + f] = plane[t * bands + f];
}

void convolve(float* out, const float* in, const float* w, int64_t n, int64_t step) {
  const float *a = in, *b = in + step, *c = in + 2 * step;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i)
    out[i] = w[0] * a[i] + w[1] * a[i + 1] + w[2] * a[i + 2] + w[3] * b[i] + w[4] * b[i + 1] +
             w[5] * b[i + 2] + w[6] * c[i] + w[7] * c[i + 1] + w[8] * c[i + 2];
}

void correlate(float* dw, const float* d, const float* in, int64_t n, int64_t step) {
  float s[9] = {};
  for (int k = 0; k < 3; ++k) {
    const float* a = in + k * step;
    float s0 = 0, s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : s0, s1, s2)
    for (int64_t i = 0; i < n; ++i) {
      s0 += d[i] * a[i];
      s1 += d[i] * a[i + 1];
      s2 += d[i] * a[i + 2];
    }
    s[3 * k] = s0, s[3 * k + 1] = s1, s[3 * k + 2] = s2;
  }
  for (int k = 0; k < 9; ++k) dw[k] += s[k];
}

}  // namespace

at::Tensor depthwise_forward(at::Tensor x, at::Tensor weight, at::Tensor bias, int64_t dilation) {
  const int64_t frames = x.size(2) - 2 * dilation, bands = x.size(3);
  const Padded p(bands, frames, dilation);
  at::Tensor y = at::empty({x.size(0), x.size(1), frames, bands}, x.options());
  std::vector<float> in((frames + 2 * dilation) * p.row + 2), out(p.size);
  for (int64_t bc = 0; bc < x.size(0) * x.size(1); ++bc) {
    const int64_t c = bc % x.size(1);
    spread(in.data(), x.data_ptr<float>() + bc * x.size(2) * bands, x.size(2), bands, 1);
    convolve(out.data(), in.data(), weight.data_ptr<float>() + 9 * c, p.size, p.step);
    const float b = bias.data_ptr<float>()[c];
    float* plane = y.data_ptr<float>() + bc * frames * bands;
    for (int64_t t = 0; t < frames; ++t)
      for (int64_t f = 0; f < bands; ++f) plane[t * bands + f] = out[t * p.row + f] + b;
  }
  return y;
}

std::vector<at::Tensor> depthwise_backward(at::Tensor dy, at::Tensor x, at::Tensor weight,
                                           int64_t dilation) {
  const int64_t frames = dy.size(2), rows = x.size(2), bands = x.size(3), n_channels = x.size(1);
  const Padded p(bands, frames, dilation);
  at::Tensor dx = at::empty_like(x), dw = at::zeros_like(weight);
  at::Tensor db = at::zeros({n_channels}, x.options());
  std::vector<float> in(rows * p.row + 2), out(rows * p.row);
  // the gradient between two stretches of zeros: its full convolution with the flipped kernel
  const int64_t margin = 2 * p.step + 2;
  std::vector<float> d(p.size + 2 * margin, 0.0f);
  for (int64_t bc = 0; bc < x.size(0) * n_channels; ++bc) {
    const int64_t c = bc % n_channels;
    const float* w = weight.data_ptr<float>() + 9 * c;
    const float* plane = dy.data_ptr<float>() + bc * frames * bands;
    spread(in.data(), x.data_ptr<float>() + bc * rows * bands, rows, bands, 1);
    spread(d.data() + margin, plane, frames, bands, 0);
    correlate(dw.data_ptr<float>() + 9 * c, d.data() + margin, in.data(), p.size, p.step);
    db.data_ptr<float>()[c] += sum_of(plane, frames * bands);
    const float flipped[9] = {w[8], w[7], w[6], w[5], w[4], w[3], w[2], w[1], w[0]};
    convolve(out.data(), d.data(), flipped, rows * p.row, p.step);
    float* back = dx.data_ptr<float>() + bc * rows * bands;
    for (int64_t t = 0; t < rows; ++t)
      for (int64_t f = 0; f < bands; ++f) back[t * bands + f] = out[t * p.row + 1 + f];
  }
  return {dx, dw, db};
}

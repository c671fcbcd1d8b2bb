#pragma once
#include <torch/extension.h>

#include <vector>

std::vector<at::Tensor> norm_forward(at::Tensor x, at::Tensor gamma, at::Tensor beta, double slope,
                                     double eps);
std::vector<at::Tensor> norm_backward(at::Tensor dy, at::Tensor x, at::Tensor mean, at::Tensor var,
                                      at::Tensor gamma, at::Tensor beta, double slope, double eps);
at::Tensor depthwise_forward(at::Tensor x, at::Tensor weight, at::Tensor bias, int64_t dilation);
std::vector<at::Tensor> depthwise_backward(at::Tensor dy, at::Tensor x, at::Tensor weight,
                                           int64_t dilation);

"""A GTCRN as one row of numbers, in the order in which the compiled frame step reads them.

Batch norms are folded into the convolution before them. Whatever a layer does across bands or
groups becomes one dense matrix ``(inputs, outputs)`` followed by its bias: an unfolding joins the
kernel after it, the GRUs of all groups and directions are blocks of one GRU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multichannel.gtcrn import GTCRN
from multichannel.gtcrn_layers import DPGRNN, GTBlock, StridedConv

Floats = NDArray[np.float64]


@torch.no_grad()
def pack_gtcrn(net: GTCRN) -> NDArray[np.float32]:
    """All numbers of a network in evaluation mode, as native/frame_gtcrn.h takes them."""
    encoder: list[Any] = list(net.encoder.en_convs)
    decoder: list[Any] = list(net.decoder.de_convs)
    parts = [
        _array(net.erb.erb_fc.weight),
        _array(net.erb.ierb_fc.weight),
        *_first_conv(encoder[0]),
        *_conv(encoder[1]),
        *(part for block in encoder[2:] + decoder[:3] for part in _block(block)),
        *(part for path in (net.dpgrnn1, net.dpgrnn2) for part in _dual_path(path)),
        *_transposed_conv(decoder[3]),
        *_last_conv(decoder[4]),
    ]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def _array(x: Tensor | nn.Module | None) -> Floats:
    assert isinstance(x, Tensor)
    return x.detach().cpu().double().numpy()


def _folded(weight: Floats, bias: Floats, bn: nn.BatchNorm2d) -> tuple[Floats, Floats]:
    """Weight ``(outputs, ...)`` and bias of a convolution with the batch norm after it."""
    assert bn.running_mean is not None and bn.running_var is not None
    scale = _array(bn.weight) / np.sqrt(_array(bn.running_var) + bn.eps)
    shift = _array(bn.bias) - scale * _array(bn.running_mean)
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


def _kernel(layer: StridedConv) -> tuple[Floats, Floats]:
    """Dense ``(outputs, inputs, taps)`` of all groups, and the bias."""
    conv = layer.conv
    weight, groups = _array(conv.weight)[:, :, 0], conv.groups
    dense = np.zeros((conv.out_channels, conv.in_channels, weight.shape[-1]))
    n_out, n_in = conv.out_channels // groups, conv.in_channels // groups
    for g in range(groups):
        outs, ins = slice(g * n_out, (g + 1) * n_out), slice(g * n_in, (g + 1) * n_in)
        if isinstance(conv, nn.ConvTranspose2d):
            dense[outs, ins] = weight[ins].transpose(1, 0, 2)
        else:
            dense[outs, ins] = weight[outs]
    return _folded(dense, _array(conv.bias), layer.bn)


def _taps(kernel: Floats) -> Floats:
    """``(outputs, inputs, taps)`` as ``(taps * inputs, outputs)``."""
    return kernel.transpose(2, 1, 0).reshape(-1, kernel.shape[0])


def _first_conv(layer: StridedConv) -> list[Floats]:
    """Unfolding by three and five taps are seven taps; three kernels, because at either end the
    convolution pads what was unfolded, not what the unfolding reaches."""
    kernel, bias = _kernel(layer)
    kernel = kernel.reshape(kernel.shape[0], -1, 3, 5)
    parts = []
    for taps in (slice(2, 5), slice(0, 5), slice(0, 3)):
        wide = np.zeros((*kernel.shape[:2], 7))
        for neighbour in range(3):
            for tap in range(*taps.indices(5)):
                wide[..., neighbour + tap] += kernel[..., neighbour, tap]
        parts += [_taps(wide), bias]
    return [*parts, _array(layer.act.weight)]


def _conv(layer: StridedConv) -> list[Floats]:
    kernel, bias = _kernel(layer)
    return [_taps(kernel), bias, _array(layer.act.weight)]


def _transposed_conv(layer: StridedConv) -> list[Floats]:
    """Output ``2 j`` takes taps 4, 2, 0 of its inputs from low to high, ``2 j + 1`` taps 3, 1."""
    kernel, bias = _kernel(layer)
    even, odd = kernel[..., 4::-2], kernel[..., 3::-2]
    return [_taps(even), bias, _taps(odd), bias, _array(layer.act.weight)]


def _last_conv(layer: StridedConv) -> list[Floats]:
    """``(inputs, taps * outputs)``: every input is spread over its taps; bias of the outputs."""
    kernel, bias = _kernel(layer)
    spread = kernel.transpose(1, 2, 0).reshape(kernel.shape[1], -1)
    return [spread, np.zeros(spread.shape[1]), bias]


def _block(block: GTBlock) -> list[Floats]:
    def point(conv: nn.Conv2d | nn.ConvTranspose2d, bn: nn.BatchNorm2d) -> tuple[Floats, Floats]:
        weight = _array(block._point_kernel(conv))[:, :, 0, 0]
        return _folded(weight, _array(conv.bias), bn)

    spread, spread_bias = point(block.point_conv1, block.point_bn1)
    depth = _array(block.depth_conv.weight)[:, 0]
    depth = depth[:, ::-1, ::-1] if block.transposed else depth
    depth, depth_bias = _folded(depth, _array(block.depth_conv.bias), block.depth_bn)
    merge, merge_bias = point(block.point_conv2, block.point_bn2)
    return [
        _taps(spread.reshape(len(spread), -1, 3)),
        spread_bias,
        _array(block.point_act.weight),
        depth.transpose(1, 2, 0),
        depth_bias,
        _array(block.depth_act.weight),
        merge.T,
        merge_bias,
        *_gru([block.tra.att_gru]),
        *_linear(block.tra.att_fc),
    ]


def _dual_path(path: DPGRNN) -> list[Floats]:
    return [
        *_gru([path.intra_rnn.rnn1, path.intra_rnn.rnn2]),
        *_linear(path.intra_fc),
        _array(path.intra_ln.weight),
        _array(path.intra_ln.bias),
        *_gru([path.inter_rnn.rnn1, path.inter_rnn.rnn2]),
        *_linear(path.inter_fc),
        _array(path.inter_ln.weight),
        _array(path.inter_ln.bias),
    ]


def _linear(layer: nn.Linear) -> list[Floats]:
    return [_array(layer.weight).T, _array(layer.bias)]


def _gru(grus: Sequence[nn.GRU]) -> list[Floats]:
    """Matrix and bias of the inputs for each gate, then of the hidden state for each gate."""
    n_in, units = grus[0].input_size, grus[0].hidden_size
    suffixes = ("l0", "l0_reverse") if grus[0].bidirectional else ("l0",)
    n_hidden = len(grus) * len(suffixes) * units
    inputs, hidden = np.zeros((3, len(grus) * n_in, n_hidden)), np.zeros((3, n_hidden, n_hidden))
    input_bias, hidden_bias = np.zeros((3, n_hidden)), np.zeros((3, n_hidden))
    for i, gru in enumerate(grus):
        for j, suffix in enumerate(suffixes):
            at = (i * len(suffixes) + j) * units
            own = slice(at, at + units)
            weights = (
                _array(getattr(gru, f"{name}_{suffix}"))
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            w_ih, w_hh, b_ih, b_hh = (w.reshape(3, units, *w.shape[1:]) for w in weights)
            inputs[:, i * n_in : (i + 1) * n_in, own] = w_ih.transpose(0, 2, 1)
            hidden[:, own, own] = w_hh.transpose(0, 2, 1)
            input_bias[:, own], hidden_bias[:, own] = b_ih, b_hh
    return [
        *(part for pair in zip(inputs, input_bias, strict=True) for part in pair),
        *(part for pair in zip(hidden, hidden_bias, strict=True) for part in pair),
    ]

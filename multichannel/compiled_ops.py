"""What the compiled library does for whole blocks on a CPU: transforms and sums.

PyTorch does the same wherever `fits` says no.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_TYPES = (torch.float32, torch.complex64)
_SIZES = (512, 2048)  # of transforms
_MAX_MICS = 16  # of native/mvdr.h
_UNITS = (16, 32, 48, 64)  # of native/live.cpp


def fits(*tensors: Tensor) -> bool:
    """Whether these can be computed with here: in single precision on a CPU, without gradients."""
    if not all(isinstance(one, Tensor) for one in tensors):  # what stands in for one in an export
        return False
    if any(not one.numel() or one.dtype not in _TYPES or not one.is_cpu for one in tensors):
        return False
    if torch.is_grad_enabled() and any(one.requires_grad for one in tensors):
        return False
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    return ready()


def ready() -> bool:
    """Whether the compiled library works here."""
    from multichannel.compiled import can_compile  # which imports a network, and that this module

    return can_compile()


def at(x: Tensor) -> ctypes.c_void_p:
    """Where its values stand; the caller keeps it alive."""
    return ctypes.c_void_p(x.data_ptr())


def steps(x: Tensor) -> ctypes.Array[ctypes.c_int64]:
    """From one value to the next along each axis."""
    return (ctypes.c_int64 * x.ndim)(*x.stride())


def transforms(n_fft: int, n_window: int) -> bool:
    """Whether `stft` and `istft` know the size."""
    return n_fft in _SIZES and n_window % 16 == 0


def stft(x: Tensor, window: Tensor, hop: int, first: int, n_frames: int) -> Tensor:
    """Spectrum ``(channels, frames, freqs)`` of ``x (channels, samples)``, which is zero outside;
    the first frame starts at sample ``first``, which may be negative."""
    n_fft = len(window)
    x = x if x.stride(-1) == 1 else x.contiguous()
    X = torch.empty(len(x), n_frames, n_fft // 2 + 1, dtype=torch.complex64)
    sizes = x.shape[-1], x.stride(0), len(x), first, n_frames, hop
    _library().stft_forward(n_fft, at(x), *map(ctypes.c_int64, sizes), at(window), at(X))
    return X


def istft(X: Tensor, window: Tensor, hop: int, y: Tensor) -> None:
    """Add the last samples of each frame of ``X (channels, frames, freqs)``, as many as ``window``
    has, to ``y (channels, samples)``."""
    X = X.contiguous().resolve_conj()
    n_fft, sizes = 2 * (X.shape[-1] - 1), map(ctypes.c_int64, (*X.shape[:2], hop))
    _library().stft_inverse(
        n_fft, at(X), *sizes, at(window), len(window), at(y), ctypes.c_int64(y.stride(0))
    )


def outer_sums(channels: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """``sum_t mask x x^H``, shape ``(masks, freqs, channels, channels)``.

    Args:
        channels: ``(freqs, frames)``; read where they are if one axis of all is without gaps.
        masks: of the same shape.
    """
    n_freqs, n_frames = channels[0].shape
    rows_are_frames, channels = _rows(channels)
    lanes = 1 - rows_are_frames
    masks = [_dense(one, lanes) for one in masks]
    n = len(channels)
    psd = channels[0].new_empty(len(masks), n_freqs, n, n)
    sizes = (int(rows_are_frames), ctypes.c_int64(n_freqs), ctypes.c_int64(n_frames))
    planes = _planes(channels, 1 - lanes), n, _planes(masks, 1 - lanes), len(masks)
    _library().outer_sums(*planes, *sizes, at(psd))
    return psd


def weighted_sum(weights: Tensor, channels: Sequence[Tensor]) -> Tensor:
    """``sum_m w_m x_m``, shape ``(freqs, frames)``, in memory as the channels are.

    Args:
        weights: ``(channels, freqs)``.
        channels: ``(freqs, frames)``; read where they are if one axis of all is without gaps.
    """
    rows_are_frames, channels = _rows(channels)
    weights = weights.contiguous()
    Y = torch.empty_like(channels[0].mT if rows_are_frames else channels[0])
    sizes = (int(rows_are_frames), *map(ctypes.c_int64, channels[0].shape))
    planes = _planes(channels, int(rows_are_frames)), len(channels)
    _library().weighted_sum(*planes, at(weights), *sizes, at(Y))
    return Y.mT if rows_are_frames else Y


def solves(psd_speech: Tensor, psd_noise: Tensor, reference_mic: int) -> bool:
    """Whether `mvdr_souden` can be computed here, and this many mics."""
    shape = psd_speech.shape
    if not fits(psd_speech, psd_noise) or psd_noise.shape != shape or len(shape) < 3:
        return False
    return shape[-1] == shape[-2] <= _MAX_MICS and 0 <= reference_mic < shape[-1]


def mvdr_souden(
    psd_speech: Tensor, psd_noise: Tensor, reference_mic: int, loading: float | Tensor
) -> Tensor:
    """As `multichannel.beamform.mvdr_souden`, from Hermitian covariances of one shape."""
    *bins, n_mics, _ = psd_speech.shape
    speech, noise = (one.resolve_conj().contiguous() for one in (psd_speech, psd_noise))
    loads = torch.as_tensor(loading, dtype=torch.float64).expand(bins).contiguous()
    w = torch.empty(*bins, n_mics, dtype=psd_speech.dtype)
    sizes = ctypes.c_int64(loads.numel()), n_mics, reference_mic
    _library().mvdr_souden(at(speech), at(noise), *sizes, at(loads), at(w))
    return w


def recurs(rnn: nn.GRU, x: Tensor) -> bool:
    """Whether `gru` can be computed here, and of this size."""
    return rnn.hidden_size in _UNITS and rnn.num_layers == 1 and fits(x, *rnn.parameters())


def gru(rnn: nn.GRU, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As ``rnn(x, hidden)`` of a layer that is batch-first: ``x (sequences, steps, feats)``."""
    n_sequences, n_steps, _ = x.shape
    units, directions = rnn.hidden_size, 1 + rnn.bidirectional
    y = torch.empty(n_sequences, n_steps, directions * units)
    h = (
        torch.zeros(directions, n_sequences, units)
        if hidden is None
        else hidden.clone(memory_format=torch.contiguous_format)
    )
    sizes = ctypes.c_int64(n_sequences), ctypes.c_int64(n_steps)
    for backwards, suffix in enumerate(("l0", "l0_reverse")[:directions]):
        w_in, w_past, b_in, b_past = (
            getattr(rnn, f"{name}_{suffix}").detach()
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        gates, w_past = torch.nn.functional.linear(x, w_in, b_in), w_past.mT.contiguous()
        to = at(h[backwards]), at(y[..., backwards * units :]), ctypes.c_int64(y.shape[-1])
        _library().gru_run(units, at(w_past), at(b_past), at(gates), *sizes, backwards, *to)
    return y, h


def calm_hops(x: Tensor, hop: int, limits: int, powers: int) -> tuple[int, bool]:
    """How many hops of ``x (mics, samples)`` are calm, and whether one of those has sound.

    Args:
        x: float32 on the CPU, no gaps between samples.
        hop: samples of a hop.
        limits, powers: addresses of what native/calm.h takes.
    """
    found = _library().calm_hops(*_hops(x, hop), ctypes.c_void_p(limits), ctypes.c_void_p(powers))
    return found // 2, bool(found % 2)


def hop_levels_db(x: Tensor, hop: int, silent: float) -> list[float]:
    """Mean level of the mics of ``x (mics, samples)`` whose power is above ``silent``, of each hop;
    minus infinity where none is."""
    levels = (ctypes.c_double * (x.shape[-1] // hop))()
    _library().hop_levels(*_hops(x, hop), ctypes.c_double(silent), levels)
    return list(levels)


def _hops(x: Tensor, hop: int) -> tuple[object, ...]:
    sizes = ctypes.c_int64(x.shape[-1] // hop), hop, ctypes.c_int64(x.stride(0)), len(x)
    return (at(x), *sizes)


def _rows(channels: Sequence[Tensor]) -> tuple[bool, list[Tensor]]:
    """Whether frames are the rows of memory, and the channels without gaps in a row."""
    rows_are_frames = all(one.stride(0) == 1 for one in channels)
    return rows_are_frames, [_dense(one.resolve_conj(), 1 - rows_are_frames) for one in channels]


class _Plane(ctypes.Structure):
    """As in native/covariance.h."""

    _fields_ = (("at", ctypes.c_void_p), ("step", ctypes.c_int64))


def _planes(tensors: Sequence[Tensor], row_axis: int) -> ctypes.Array[_Plane]:
    planes = (_Plane(one.data_ptr(), one.stride(row_axis)) for one in tensors)
    return (_Plane * len(tensors))(*planes)


def _dense(x: Tensor, axis: int) -> Tensor:
    """Without gaps along an axis."""
    if x.stride(axis) == 1:
        return x
    return x.movedim(axis, -1).contiguous().movedim(-1, axis)


@functools.cache
def library_of(name: str) -> ctypes.CDLL:
    """The compiled file ``native/NAME``, which is built by itself, on its first use."""
    from multichannel.compiled import built  # which imports a network, and that this module

    return built(name)


def _library() -> ctypes.CDLL:
    from multichannel.compiled import library

    return library()

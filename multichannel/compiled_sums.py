"""Compiled sums of outer products, for statistics on a CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor

from multichannel.compiled import library


class _Plane(ctypes.Structure):
    """As in native/covariance.h."""

    _fields_ = (("at", ctypes.c_void_p), ("step", ctypes.c_int64))


def outer_sums(channels: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """``sum_t mask x x^H``, shape ``(masks, freqs, channels, channels)``.

    Args:
        channels: complex64 ``(freqs, frames)``; read where they are if either axis of all of them
            is without gaps.
        masks: float32 of the same shape.

    Raises:
        RuntimeError: there is no C++ compiler, or it failed.
    """
    n_freqs, n_frames = channels[0].shape
    rows_are_frames = all(one.stride(0) == 1 for one in channels)
    lanes = 0 if rows_are_frames else 1
    channels = [_dense(one.resolve_conj(), lanes) for one in channels]
    masks = [_dense(one, lanes) for one in masks]
    n = len(channels)
    psd = channels[0].new_empty(len(masks), n_freqs, n, n)
    library().outer_sums(
        _planes(channels, 1 - lanes),
        n,
        _planes(masks, 1 - lanes),
        len(masks),
        int(rows_are_frames),
        ctypes.c_int64(n_freqs),
        ctypes.c_int64(n_frames),
        ctypes.c_void_p(psd.data_ptr()),
    )
    return psd


def _dense(x: Tensor, axis: int) -> Tensor:
    """Without gaps along an axis."""
    if x.stride(axis) == 1:
        return x
    return x.movedim(axis, -1).contiguous().movedim(-1, axis)


def _planes(tensors: Sequence[Tensor], row_axis: int) -> ctypes.Array[_Plane]:
    planes = (_Plane(one.data_ptr(), one.stride(row_axis)) for one in tensors)
    return (_Plane * len(tensors))(*planes)

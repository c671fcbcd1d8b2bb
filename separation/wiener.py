"""Time-varying multichannel Wiener filter: masks say when each talks, covariances from where.

The model is that of Duong, Vincent & Gribonval 2010, "Under-determined reverberant audio source
separation using a full-rank spatial covariance model": class ``k`` has the power ``v_k`` in a bin
and the spatial covariance ``R_k`` in a frequency. Here ``v_k`` is its mask times the power of the
mixture, so what is left of a class after the filter is told by its mask and by the mics together.

Axes: spectrum ``X (mics, freqs, frames)``, masks ``(classes, freqs, frames)``.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from multichannel import compiled_ops
from multichannel.compiled_ops import at, steps
from multichannel.loading import load_diagonal
from multichannel.spatial import CovarianceState, covariance_sums, finite_as_a_rule
from multichannel.stft import STFTConfig

# A long window: the room's echoes of a talker then move the mics together, in one frame.
LONG = STFTConfig(n_fft=2048, hop=512)

_TINY = 1e-20
# Relative loading of each class's covariance: noise of every mic's own.
_LOADING = 1e-3
# Values at a time: few enough for a cache, many enough that calls cost nothing beside them.
_BLOCK_VALUES = 1 << 19
_MAX_MICS, _MAX_CLASSES = 16, 8  # of native/wiener.cpp


def wiener_images(
    X: Tensor, masks: Tensor, reference_mic: int = 0, sums: CovarianceState | None = None
) -> Tensor:
    """What each class adds to the reference mic: ``m_k R_k (sum_j m_j R_j)^-1 x``.

    The Wiener filter ``v_k R_k (sum_j v_j R_j)^-1 x`` of Duong et al. 2010, from which the power of
    the mixture cancels.

    Args:
        X: spectrum ``(mics, freqs, frames)``; values that are not finite count as zero.
        masks: shares that add up to one ``(classes, freqs, frames)``.
        reference_mic: whose view is kept.
        sums: of the classes' covariances, where more was heard than ``X``.

    Returns:
        ``(classes, freqs, frames)``; they add up to the reference mic.

    Raises:
        ValueError: shapes that do not fit.
    """
    X, sums = finite_as_a_rule(X), sums or covariance_sums(X, masks)
    if _compiles(X, masks, sums.total):
        return _compiled_images(X, masks, reference_mic, sums.total)
    R = spatial_covariances(sums)
    n_mics, _, n_frames = X.shape
    size = max(1, _BLOCK_VALUES // max(1, n_frames * n_mics**2))
    parts = zip(X.split(size, 1), masks.split(size, 1), R.split(size, 1), strict=True)
    return torch.cat([_filtered(x, m, r, reference_mic) for x, m, r in parts], 1)


def _compiles(X: Tensor, masks: Tensor, total: Tensor) -> bool:
    return compiled_ops.fits(X, masks, total) and len(X) <= _MAX_MICS and len(masks) <= _MAX_CLASSES


def _compiled_images(X: Tensor, masks: Tensor, reference_mic: int, total: Tensor) -> Tensor:
    """`wiener_images` in single precision on a CPU, by native/wiener.cpp."""
    X, total = X.resolve_conj(), total.resolve_conj().contiguous()
    images = X.new_empty(len(masks), *X.shape[1:])
    compiled_ops.library_of("wiener.cpp").wiener_images(
        *(at(X), steps(X), len(X), *map(ctypes.c_int64, X.shape[1:])),
        *(at(masks), steps(masks), len(masks), at(total)),
        *(reference_mic, ctypes.c_double(_LOADING), at(images)),
    )
    return images


def spatial_covariances(sums: CovarianceState) -> Tensor:
    """Loaded covariances of the classes over their power ``(classes, freqs, mics, mics)``.

    A class that is nowhere heard is as loud in every mic, and as unlike.
    """
    total = sums.total
    n_mics = total.shape[-1]
    power = total.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None]
    identity = torch.eye(n_mics, dtype=total.dtype, device=total.device)
    R = torch.where(power > _TINY, total / power.clamp(min=_TINY), identity)
    # a dead mic, or the copy of another one, is left its share of the load
    return load_diagonal(R, _LOADING, _LOADING).to(total.dtype)


def _filtered(X: Tensor, masks: Tensor, R: Tensor, reference_mic: int) -> Tensor:
    """`wiener_images` of some freqs."""
    n_mics = len(X)
    upper = torch.triu_indices(n_mics, n_mics, device=X.device)
    entries = torch.view_as_real(R[:, :, upper[0], upper[1]]).flatten(-2)  # (k, f, 2 entries)
    mixed = entries.permute(1, 2, 0) @ masks.to(entries.dtype).permute(1, 0, 2)
    mixed = torch.complex(mixed[:, 0::2], mixed[:, 1::2])  # (f, entries, t)
    rows = list(mixed.split([n_mics - m for m in range(n_mics)], 1))
    y = solve_rows(rows, X.transpose(0, 1).clone())
    towards = R[:, :, reference_mic].transpose(0, 1)  # (f, k, m)
    return masks * (towards @ y).transpose(0, 1)


def solve_rows(rows: list[Tensor], b: Tensor) -> Tensor:
    """``A^-1 b`` in many bins at once, by elimination; both are used up.

    Without pivots, which a positive Hermitian matrix does not need: a library that solves one bin
    after the other takes ten times as long.

    Args:
        rows: of ``A``'s upper triangle: number ``m`` is ``(freqs, mics - m, frames)``.
        b: ``(freqs, mics, frames)``.

    Returns:
        ``(freqs, mics, frames)``.
    """
    n = len(rows)
    for i in range(n):
        inverse = 1 / rows[i][:, :1].real.clamp(min=_TINY)
        factor = rows[i][:, 1:].conj() * inverse
        b[:, i + 1 :] -= factor * b[:, i : i + 1]
        for j in range(i + 1, n):
            rows[j] -= factor[:, j - i - 1 : j - i] * rows[i][:, j - i :]
        b[:, i] *= inverse[:, 0]
        rows[i] = factor.conj()
    for i in reversed(range(n - 1)):
        b[:, i] -= (rows[i] * b[:, i + 1 :]).sum(1)
    return b


def shares_of(S: Tensor) -> Tensor:
    """Masks ``(classes, freqs, frames)``: the share of each spectrum in the power of all.

    Equal shares where all are silent.
    """
    power = finite_as_a_rule(S).abs().square()
    total = power.sum(0)
    return torch.where(total > _TINY, power / total.clamp(min=_TINY), 1 / len(S))

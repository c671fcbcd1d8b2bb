"""MVDR for runtimes that run operators one by one: bins are the last axes of every tensor.

With the mics last, as PyTorch wants its matrices, an operator works on six numbers at a time, and
the small matrices of 257 bins take a runtime longer than all networks. Here it works on rows of
bins, freqs last, since ONNX Runtime is slow where the last axis is a single frame. The steps are
those of multichannel/usable.py, loading.py and beamform.py; covariances are finite, which
`LiveStep` sees to, and loading is a number or ``(frames,)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clearbeam.export.split import Split
from multichannel.loading import ABSOLUTE_FLOOR
from multichannel.usable import COPY, DEAD


def mvdr_souden(
    psd_speech: Split, psd_noise: Split, reference_mic: int | Tensor, loading: float | Tensor
) -> Split:
    """As `multichannel.beamform.mvdr_souden`, of covariances ``(freqs, frames, mics, mics)``."""
    speech, noise = (one.permute(2, 3, 1, 0) for one in (psd_speech, psd_noise))
    if isinstance(loading, Tensor) and loading.ndim:
        loading = loading.unsqueeze(-1)  # (frames, freqs)
    wanted = torch.arange(len(noise)) == reference_mic
    usable = _usable(speech + noise, wanted)
    reference = _reference(usable, wanted)
    pairs = usable.unsqueeze(1) * usable
    ratio = _solve(_loaded(noise * pairs, loading), speech * pairs)
    trace = _diagonal(ratio.real).sum(0)
    w = (ratio * reference).sum(1) / torch.where(trace != 0, trace, 1.0)
    size = w.real.abs() + w.imag.abs()
    known = _finite(size.sum(0)) & (size.amax(0) > 0)
    w = Split(torch.where(known, w.real, reference), torch.where(known, w.imag, 0.0))
    return w.permute(2, 1, 0)


def _usable(mixture: Split, wanted: Tensor) -> Tensor:
    """1 for mics that count, else 0: ``(mics, frames, freqs)``."""
    power = _diagonal(mixture.real)
    alive = (power >= DEAD * power.amax(0)).float()
    power = power * alive
    index = torch.arange(len(wanted))
    before = (index < index.unsqueeze(-1)) | wanted
    before = (before & ~wanted.unsqueeze(-1)).float()  # of two copies, the other one is kept
    both = power.unsqueeze(1) + power
    same = (both - 2 * mixture.real < COPY * both).float() * alive
    copies = (same * before.reshape(*before.shape, 1, 1)).sum(1)
    return alive * (copies == 0).float()


def _reference(usable: Tensor, wanted: Tensor) -> Tensor:
    """1 at the wanted mic where it is usable, else at the first that is, else at the wanted one."""
    index = torch.arange(len(wanted)).reshape(-1, 1, 1)
    wanted = wanted.reshape(-1, 1, 1).float()
    rank = (2 + 2 * wanted) * usable + wanted
    return (rank.argmax(0) == index).float()


def _loaded(psd: Split, loading: float | Tensor) -> Split:
    identity = torch.eye(len(psd)).unsqueeze(-1).unsqueeze(-1)
    scale = 1 / (1 + loading)
    scale = scale + (1 - scale) * identity
    return Split(psd.real * scale + ABSOLUTE_FLOOR * identity, psd.imag * scale)


def _solve(a: Split, b: Split) -> Split:
    """``a^-1 b``, ``(n, n, ...)``, of positive definite ``a``: Gauss-Jordan, a rank-one update a
    pivot.

    The diagonal is scaled to 1 first, which bounds every pivot by 1 and keeps float32 precise.
    """
    n = len(a)
    scale = _diagonal(a.real).rsqrt()
    rows = torch.cat([a.real * scale, b.real], 1), torch.cat([a.imag * scale, b.imag], 1)
    left = Split(*(one * scale.unsqueeze(1) for one in rows))
    units = torch.eye(n).reshape(n, n, 1, 1, 1)
    for k in range(n):
        row, rest = left[k : k + 1, 1:] / left.real[k : k + 1, :1], left[:, 1:]
        # less one at the pivot, so that its own row becomes `row`
        left = rest - (left[:, :1] - units[k]) * row
    return left * scale.unsqueeze(1)


def _diagonal(x: Tensor) -> Tensor:
    return x.flatten(0, 1)[:: len(x) + 1]


def _finite(x: Tensor) -> Tensor:
    return x - x == 0

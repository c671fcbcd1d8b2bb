"""Which mics no longer stand to the others as they did: samples lost, channels swapped.

Such a mic sounds as good as ever, but the phases between it and each of the others have changed,
and those among the others have not. Talkers who move or take turns change all of them, each pair as
much as its mics are apart, and are no fault.
"""

from __future__ import annotations

import itertools
import warnings

import torch
from torch import Tensor

from multichannel.mics import MicWarning
from multichannel.stft import STFTConfig

_PART_S = 0.5  # sound is compared by such parts ...
_LEAST, _MOST = 2, 8  # ... so many of them before and after a moment
_LOWEST_HZ, _EVERY = 500, 8  # below, phases hardly differ; a part of the bins is enough
# Of an agreement of 1. Chosen on 220 mixtures, meetings and recordings without a change, where none
# comes beyond 0.22.
_CHANGED = 0.25
_TINY = 1e-12


class ChangeFinder:
    """A recording block by block: the mics whose phases against the others change in each.

    Args:
        stft: of its spectra.
        sample_rate: in Hz.
    """

    def __init__(self, stft: STFTConfig, sample_rate: int = 16000) -> None:
        self._n_frames = round(_PART_S * sample_rate / stft.hop)
        self._lowest = round(_LOWEST_HZ * stft.n_fft / sample_rate)
        self._before: Tensor | None = None
        self._reported: set[int] = set()

    def step(self, X: Tensor, out: Tensor) -> Tensor:
        """Find them in the next block, or in the last second of the one before it.

        Each mic is reported once. Two mics alone tell nothing, nor does less than two seconds.

        Args:
            X: spectrum ``(mics, freqs, frames)``.
            out: mics ``(mics,)`` of which nothing is to be learned here.

        Returns:
            Bool ``(mics,)``.
        """
        changed, mics = torch.zeros(len(X), dtype=torch.bool), (~out.cpu()).nonzero().flatten()
        parts = _phases(X[:, self._lowest :: _EVERY], self._n_frames)
        before, self._before, n_before = self._before, None, 0
        if not out.any():
            if before is not None:
                parts, n_before = torch.cat([before, parts], -2), before.shape[-2]
            self._before = parts[..., -_MOST:, :]
        first = max(_LEAST, n_before + 1 - _LEAST)  # the block before has looked at those before it
        if len(mics) > 2 and parts.shape[-2] >= first + _LEAST:
            parts = parts[mics][:, mics]
            changed[mics] = _outsiders(_disagreement(parts, first).cpu())
        for mic in set(changed.nonzero().flatten().tolist()) - self._reported:
            self._reported.add(mic)
            text = f"mic {mic} has lost samples or changed places; left out around that moment"
            warnings.warn(text, MicWarning, stacklevel=2)
        return changed.to(out.device)


def _phases(X: Tensor, n_frames: int) -> Tensor:
    """Sums of the phases between mics over whole parts, ``(mics, mics, parts, values)``."""
    X = X[..., : X.shape[-1] // n_frames * n_frames].mT.to(torch.complex64).contiguous()
    parts = torch.sgn(X).unflatten(1, (-1, n_frames)).permute(1, 3, 0, 2)
    return torch.view_as_real(parts @ parts.mH).permute(2, 3, 0, 1, 4).flatten(-2)


def _disagreement(phases: Tensor, first: int) -> Tensor:
    """How much less the phases of two mics agree across a moment than they do from part to part.

    Args:
        phases: ``(mics, mics, parts, values)``.
        first: parts before the first moment.

    Returns:
        ``(moments, mics, mics)``, about 0 where nothing changes, at most 1.
    """
    products = phases @ phases.mT  # of each part with each
    n_parts, power = products.shape[-1], products.diagonal(dim1=-2, dim2=-1)
    both = power[..., 1:].sum(-1) + power[..., :-1].sum(-1)
    share = 2 * products.diagonal(1, -2, -1).sum(-1) / both.clamp(min=_TINY)
    share = share.clamp(0, 1)  # of a part that the next one has too
    moments = []
    for t in range(first, n_parts - _LEAST + 1):
        before, after = slice(max(0, t - _MOST), t), slice(t, min(t + _MOST, n_parts))
        energy = products[..., before, before].sum((-1, -2))
        energy = energy * products[..., after, after].sum((-1, -2))
        agreement = products[..., before, after].sum((-1, -2)) / energy.sqrt().clamp(min=_TINY)
        # the more parts are summed, the more of the sum lasts (Spearman 1910, Brown 1910)
        sizes = t - before.start, after.stop - t
        one, other = (n * share / (1 + (n - 1) * share) for n in sizes)
        moments.append((one * other).sqrt() - agreement)
    return torch.stack(moments)


def _outsiders(disagreement: Tensor) -> Tensor:
    """The mic or the two that the others disagree with most, and not among themselves: ``(mics,)``.

    Args:
        disagreement: ``(moments, mics, mics)``.
    """
    n_mics = disagreement.shape[-1]
    between = disagreement * ~torch.eye(n_mics, dtype=torch.bool)
    sizes = [n for n in (1, 2) if n_mics - n >= 2]
    chosen = [one for n in sizes for one in itertools.combinations(range(n_mics), n)]
    out = torch.stack([torch.isin(torch.arange(n_mics), torch.tensor(one)) for one in chosen])
    theirs, kept = out.to(between), (~out).to(between)
    n_kept = kept.sum(-1)
    with_them = torch.einsum("tmn,sm,sn->ts", between, kept, theirs) / (n_kept * theirs.sum(-1))
    without = torch.einsum("tmn,sm,sn->ts", between, kept, kept) / (n_kept * (n_kept - 1))
    excess, best = (with_them - without).amax(0).max(0)
    return out[best] & (excess > _CHANGED)

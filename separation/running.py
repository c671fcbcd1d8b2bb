"""The classes of the spatial mixture model as the sound comes: `coarse.py` for live streams.

Every second the model is found anew from chance in the last seconds, for a model that is carried on
does not see that somebody new talks; its classes take the order of the ones before, told by the
frames that both know. Until the next time it is asked, not changed.

Axes: spectrum ``X (mics, freqs, frames)``, posteriors ``(classes, freqs, frames)``.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from multichannel.cacgmm import spatial_posteriors
from multichannel.stft import STFT, STFTConfig
from separation.coarse import N_CLASSES
from separation.features import chosen_mics
from separation.permutation import blind_posteriors
from separation.wiener import shares_of

# Half the overlap of the offline window: half the work for 0.1 dB.
LIVE_LONG = STFTConfig(n_fft=2048, hop=1024)
BLOCK = 8  # frames of `LIVE_LONG` at a time: 512 ms

N_KNOWN = 64  # frames that the model is found in: 4 s
_EARLY = 32  # frames heard before it is found anew in every second block only
_ITERATIONS = 4
_N_MICS = 4  # more make the model surer, and more often wrong


class RunningClasses:
    """One recording's classes, a block of frames after the other.

    Args:
        seed: of the model's beginnings.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.n_heard = seed, 0
        self._X: Tensor | None = None
        self._posteriors: Tensor | None = None

    def step(self, X: Tensor) -> Tensor:
        """Posteriors of a block of `BLOCK` frames, equal ones for a single mic."""
        n_new = X.shape[-1]
        if len(X) < 2:
            return torch.full_like(X.real, 1 / N_CLASSES).repeat(N_CLASSES, 1, 1)
        self.n_heard += n_new
        self._X = X if self._X is None else torch.cat([self._X, X], -1)[..., -N_KNOWN:]
        if self.n_heard <= _EARLY or self.n_heard % (2 * BLOCK) == 0:
            self._posteriors = self._anew(n_new)
        else:
            self._posteriors = self._asked(n_new)
        return self._posteriors[..., -n_new:]

    def _anew(self, n_new: int) -> Tensor:
        assert self._X is not None
        found = blind_posteriors(self._X, N_CLASSES, self.seed, _ITERATIONS)
        if self._posteriors is None:
            return found
        n_both = found.shape[-1] - n_new
        return found[_order(found[..., :n_both], self._posteriors[..., -n_both:])]

    def _asked(self, n_new: int) -> Tensor:
        """The classes as they are known tell what the new frames are."""
        assert self._X is not None and self._posteriors is not None
        n_both = self._X.shape[-1] - n_new
        masks = torch.nn.functional.pad(self._posteriors[..., -n_both:], (0, n_new))
        found = spatial_posteriors(self._X, masks, 1, "time")
        return torch.cat([masks[..., :n_both], found[..., n_both:]], -1)


def running_shares(
    x: Tensor, stft: STFT, long: STFT, reference_mic: int = 0, seed: int = 0
) -> Tensor:
    """Shares of the classes in the reference mic, ``(N_CLASSES, freqs, frames)``, of a whole
    recording, as a live stream would have them.

    Args:
        x: finite waveforms ``(mics, samples)``.
        stft, long: the network's transform and, of `LIVE_LONG`, the model's.
        reference_mic: whose bins they are.
        seed: of the model's beginnings.
    """
    Z = long(x[heard_mics(len(x), reference_mic)])
    classes = RunningClasses(seed)
    P = torch.cat([classes.step(block) for block in Z.split(BLOCK, -1)], -1)
    return shares_of(stft(long.inverse(P * Z[0], x.shape[-1])))


def heard_mics(n_mics: int, reference_mic: int) -> list[int]:
    """The microphones that the model listens to, the reference first."""
    return chosen_mics(n_mics, reference_mic, _N_MICS - 1)


def _order(found: Tensor, known: Tensor) -> list[int]:
    """Which class of `found` is number k of those known, by the bins they share."""
    alike = torch.einsum("kft,jft->kj", known, found).tolist()
    return list(
        max(
            permutations(range(len(alike))),
            key=lambda order: sum(row[j] for row, j in zip(alike, order, strict=True)),
        )
    )

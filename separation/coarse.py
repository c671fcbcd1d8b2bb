"""What the mics alone tell of who is where: shares of a few classes, for a network to sort out.

Classes of the spatial mixture model are directions more than talkers: a talker may have two of
them, echoes and noise one. They are found in the long window and seen in the network's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multichannel.stft import STFT
from separation.permutation import blind_posteriors
from separation.wiener import shares_of

N_CLASSES = 4


def coarse_shares(
    x: Tensor, stft: STFT, long: STFT, reference_mic: int = 0, seed: int = 0
) -> Tensor:
    """Shares of the classes in the reference mic, the loudest class first; equal for one mic.

    Args:
        x: finite waveforms ``(mics, samples)``.
        stft, long: the network's transform and the model's.
        reference_mic: whose bins they are.
        seed: of the model's beginning.

    Returns:
        ``(N_CLASSES, freqs, frames)``, adding up to one.
    """
    if len(x) < 2:
        return torch.full_like(stft(x).real, 1 / N_CLASSES).repeat(N_CLASSES, 1, 1)
    Z = long(x)
    parts = blind_posteriors(Z, N_CLASSES, seed) * Z[reference_mic]
    return loudest_shares(stft(long.inverse(parts, x.shape[-1])))


def loudest_shares(S: Tensor) -> Tensor:
    """Shares of the classes of ``S (classes, freqs, frames)``, the loudest class first."""
    order = S.abs().square().sum((-1, -2)).argsort(descending=True, stable=True)
    return shares_of(S[order])

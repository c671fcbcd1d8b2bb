"""Blind source separation by pyroomacoustics: the rivals. Nothing else here touches that package
but `simulate/rooms.py`, which has its rooms.

A separator is `(mixture (mics, samples), n_talkers, reference_mic) -> (talkers, samples)`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multichannel.frontend import spread_mics
from multichannel.stft import STFT, STFTConfig

AUXIVA_STFT = STFTConfig(n_fft=2048, hop=512)
FASTMNMF_STFT = STFTConfig(n_fft=1024, hop=256)
_AUXIVA_ITERATIONS = 30
_FASTMNMF_ITERATIONS = 30

Spectra = NDArray[np.complexfloating]


def auxiva(mixture: Tensor, n_talkers: int, reference_mic: int = 0) -> Tensor:
    """AuxIVA (Ono 2011) on as many mics as talkers, spread over the array.

    With all six mics of a circle it does worse: on two valid mixtures 3.1 dB with the two loudest
    of six outputs against 5.4 dB with two mics.
    """
    from pyroomacoustics import bss

    def separate(X: Spectra) -> Spectra:
        return bss.auxiva(X, n_iter=_AUXIVA_ITERATIONS)

    mics = (reference_mic + spread_mics(len(mixture), n_talkers)) % len(mixture)
    return _separated(separate, AUXIVA_STFT, mixture[mics], n_talkers, 0)


def fastmnmf2(mixture: Tensor, n_talkers: int, reference_mic: int = 0) -> Tensor:
    """FastMNMF2 (Sekiguchi et al. 2020), begun from the same random numbers every time."""
    from pyroomacoustics import bss

    def separate(X: Spectra) -> Spectra:
        state = np.random.get_state()
        np.random.seed(0)
        try:
            return bss.fastmnmf2(X, n_src=n_talkers, n_iter=_FASTMNMF_ITERATIONS)
        finally:
            np.random.set_state(state)

    return _separated(separate, FASTMNMF_STFT, mixture, n_talkers, reference_mic)


def _separated(
    separate: Callable[[Spectra], Spectra],
    config: STFTConfig,
    mixture: Tensor,
    n_talkers: int,
    reference_mic: int,
) -> Tensor:
    """What `separate` (frames, freqs, mics) -> (frames, freqs, talkers) makes of a mixture.

    The package scales sources to the first microphone. One microphone cannot be separated by these
    methods: every talker is the mixture.
    """
    if len(mixture) < max(2, n_talkers):
        return mixture[reference_mic].expand(n_talkers, -1).clone()
    stft = STFT(config)
    order = [reference_mic, *(m for m in range(len(mixture)) if m != reference_mic)]
    X = stft(mixture[order].double()).permute(2, 1, 0).contiguous()
    Y = torch.from_numpy(np.ascontiguousarray(separate(X.numpy()))).permute(2, 1, 0)
    return stft.inverse(Y, mixture.shape[-1]).to(mixture.dtype)

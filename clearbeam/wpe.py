"""Dereverberation by weighted prediction error, through the package `nara_wpe`."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from multichannel.stft import STFT, STFTConfig

# Three frames of 8 ms stay untouched, so the direct sound and the first reflections do.
CONFIG = STFTConfig(n_fft=512, hop=128)
TAPS, DELAY, ITERATIONS = 10, 3, 3
_FAINT = 1e-4  # of a mic's RMS: noise that keeps digital silence from making a singular matrix


def wpe(mixture: Tensor) -> Tensor:
    """The mixture (mics, samples) without its late reverberation, of the same shape.

    Yoshioka and Nakatani, "Generalization of multi-channel linear prediction methods for blind MIMO
    impulse response shortening", 2012, with the settings that `nara_wpe` recommends.
    """
    from nara_wpe.wpe import wpe_v8

    stft = STFT(CONFIG)
    if not mixture.any():
        return mixture
    faint = torch.randn(mixture.shape, generator=torch.Generator().manual_seed(0))
    Y = stft((mixture + _FAINT * mixture.std() * faint).double())
    X = wpe_v8(Y.transpose(0, 1).numpy(), taps=TAPS, delay=DELAY, iterations=ITERATIONS)
    return stft.inverse(torch.from_numpy(X).transpose(0, 1), mixture.shape[-1]).to(mixture)


def require_wpe() -> None:
    """Raise ImportError, saying what to install, where the package is missing."""
    if importlib.util.find_spec("nara_wpe") is None:
        raise ImportError(
            "expected the package nara_wpe for wpe, found none: pip install 'clearbeam[eval]'"
        )

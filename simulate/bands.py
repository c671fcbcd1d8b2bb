"""Octave bands: where they are, and signals put together from what each of them holds."""

from __future__ import annotations

import numpy as np
from scipy import fft

LOWEST_HZ = 125.0
_GUARD = 1024  # samples of silence for the filters, which ring before and after


def centres_hz(fs: int) -> np.ndarray:
    """Centres of the octaves from 125 Hz that begin below half of the rate `fs`."""
    return LOWEST_HZ * 2.0 ** np.arange(int(np.log2(fs / LOWEST_HZ)))


def band_weights(frequencies_hz: np.ndarray, fs: int) -> np.ndarray:
    """Shares (bands, freqs) that every frequency has in the bands; they add up to 1.

    Raised cosines over the logarithm of the frequency, from centre to centre; all below the first
    centre belongs to the first band, all above the last to the last.
    """
    n_bands = len(centres_hz(fs))
    octave = np.log2(np.maximum(frequencies_hz, 1e-3) / LOWEST_HZ)
    away = np.clip(octave, 0, n_bands - 1) - np.arange(n_bands)[:, None]
    return np.where(np.abs(away) < 1, 0.5 + 0.5 * np.cos(np.pi * away), 0.0)


def split_bands(x: np.ndarray, fs: int) -> np.ndarray:
    """The bands (bands, ..., samples) of signals (..., samples); their sum is x."""
    n_fft = fft.next_fast_len(x.shape[-1] + _GUARD, real=True)
    weights = band_weights(np.fft.rfftfreq(n_fft, 1 / fs), fs).astype(x.dtype)
    X = fft.rfft(x, n_fft)
    return np.stack([fft.irfft(X * w, n_fft)[..., : x.shape[-1]] for w in weights])


def join_bands(x: np.ndarray, fs: int) -> np.ndarray:
    """What signals (bands, ..., samples) are together, each heard in its band only; one is all."""
    if len(x) == 1:
        return x[0]
    n_fft = fft.next_fast_len(x.shape[-1] + _GUARD, real=True)
    weights = band_weights(np.fft.rfftfreq(n_fft, 1 / fs), fs)
    X = sum(fft.rfft(band, n_fft) * w for band, w in zip(x, weights, strict=True))
    return np.asarray(fft.irfft(X, n_fft)[..., : x.shape[-1]])

"""Noise fields: from one channel of noise to every microphone, with the coherence of physics."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.special import j0

from simulate.decay import SPEED_OF_SOUND
from simulate.directivity import FirstOrder, diffuse_covariance

FIELDS = ("spherical", "cylindrical")
_N_FFT = 1024


def diffuse_coherence(
    mics_m: np.ndarray,
    frequencies_hz: np.ndarray,
    field: str = "spherical",
    patterns: FirstOrder | None = None,
) -> np.ndarray:
    """Coherence between microphones in a diffuse field: (freqs, mics, mics), real.

    spherical: sin(x)/x, sound from everywhere; cylindrical: J0(x), sound from all around, for which
    only the horizontal distance counts; x = 2 pi f distance / c. With directional microphones
    (`patterns`) it is complex and not normalised: their covariance when an omnidirectional one
    hears the power 1. Raises ValueError for another field.
    """
    if field not in FIELDS:
        raise ValueError(f"expected a field of {', '.join(FIELDS)}, found {field}")
    if patterns is not None:
        wavenumbers = 2 * np.pi * frequencies_hz / SPEED_OF_SOUND
        return diffuse_covariance(mics_m, wavenumbers, field, patterns)
    axes = 2 if field == "cylindrical" else 3
    distance = np.linalg.norm((mics_m[:, None] - mics_m[None])[..., :axes], axis=-1)
    turns = 2 * frequencies_hz[:, None, None] * distance / SPEED_OF_SOUND
    if field == "spherical":
        return np.sinc(turns)
    return j0(np.pi * turns)


def mixing_factors(
    mics_m: np.ndarray,
    frequencies_hz: np.ndarray,
    field: str = "spherical",
    patterns: FirstOrder | None = None,
) -> np.ndarray:
    """Factors C (freqs, mics, mics) with C C^H = coherence, that colour independent channels.

    The symmetric square root: smooth from bin to bin and the same to every microphone, while a
    triangular factor would give the first one its channel unmixed.
    """
    value, vector = np.linalg.eigh(diffuse_coherence(mics_m, frequencies_hz, field, patterns))
    root = np.sqrt(np.maximum(value, 0.0))
    return (vector * root[:, None, :]) @ vector.conj().transpose(0, 2, 1)


def diffuse_noise(
    one_channel: np.ndarray,
    mics_m: np.ndarray,
    rng: np.random.Generator,
    fs: int,
    field: str = "spherical",
    patterns: FirstOrder | None = None,
) -> np.ndarray:
    """A diffuse field at every microphone from one channel of noise.

    one_channel (samples,), mics_m (mics, 3) -> (mics, samples) with the spectrum and the slow rise
    and fall of the noise, and the coherence of `diffuse_coherence`. Each microphone takes the
    short-time spectrum of the noise with phases of its own; then the channels are mixed bin by bin.
    E. Habets et al., Generating nonstationary multisensor signals under a spatial coherence
    constraint, JASA 124 (2008).
    """
    N = _with_random_phases(one_channel, len(mics_m), rng)
    frequencies_hz = np.fft.rfftfreq(_N_FFT, 1 / fs)
    N = mixing_factors(mics_m, frequencies_hz, field, patterns).astype(np.complex64) @ N
    return _istft(N.transpose(1, 0, 2), len(one_channel))


def decorrelated_noise(
    one_channel: np.ndarray, n_copies: int, rng: np.random.Generator
) -> np.ndarray:
    """Copies (n_copies, samples) that sound like one_channel (samples,) and share no phase."""
    N = _with_random_phases(one_channel, n_copies, rng)
    return _istft(N.transpose(1, 0, 2), len(one_channel))


def _with_random_phases(
    one_channel: np.ndarray, n_copies: int, rng: np.random.Generator
) -> np.ndarray:
    """Short-time spectra (freqs, copies, frames) of the noise with phases of their own."""
    X = _stft(np.asarray(one_channel, np.float32)[None])
    phase = rng.random((X.shape[1], n_copies, X.shape[2]), dtype=np.float32)
    phase *= np.float32(2 * np.pi)
    # New phases spread a windowed frame evenly over its length, where half of its power meets the
    # synthesis window; sqrt(2) makes up for it.
    X *= np.float32(np.sqrt(2))
    N = np.empty(phase.shape, np.complex64)
    np.cos(phase, out=N.real)
    np.sin(phase, out=N.imag)
    N *= X[0][:, None, :]
    return N


def diffuse_white_noise(
    mics_m: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    fs: int,
    n_sources: int = 1,
    patterns: FirstOrder | None = None,
) -> np.ndarray:
    """Gaussian noise with spherically diffuse coherence: (sources, mics, samples).

    Its variance is 1, at directional microphones their `patterns.diffuse_power()`.
    """
    n_mics = len(mics_m)
    white = rng.standard_normal((n_sources * n_mics, n_samples), dtype=np.float32)
    N = _stft(white)
    n_freqs, n_frames = N.shape[1:]
    N = N.reshape(n_sources, n_mics, n_freqs, n_frames).transpose(0, 2, 1, 3)
    frequencies_hz = np.fft.rfftfreq(_N_FFT, 1 / fs)
    C = mixing_factors(mics_m, frequencies_hz, patterns=patterns).astype(np.complex64)
    N = (C @ N).transpose(0, 2, 1, 3)
    mixed = _istft(N.reshape(n_sources * n_mics, n_freqs, n_frames), n_samples)
    return mixed.reshape(n_sources, n_mics, n_samples)


def _window() -> np.ndarray:
    """Root of the periodic Hann window: analysis times synthesis adds to 1 at half overlap."""
    return np.sin(np.pi * np.arange(_N_FFT) / _N_FFT).astype(np.float32)


def _stft(x: np.ndarray) -> np.ndarray:
    """(channels, samples) -> (channels, freqs, frames), half a window of silence at each end."""
    hop = _N_FFT // 2
    n_frames = -(-x.shape[-1] // hop) + 1
    padded = np.pad(x, ((0, 0), (hop, n_frames * hop - x.shape[-1])))
    blocks = padded.reshape(len(x), n_frames + 1, hop)
    frames = np.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=-1) * _window()
    return fft.rfft(frames, axis=-1).transpose(0, 2, 1)


def _istft(X: np.ndarray, n_samples: int) -> np.ndarray:
    """Inverse of `_stft` by overlap-add: (channels, samples)."""
    hop = _N_FFT // 2
    frames = fft.irfft(X.transpose(0, 2, 1), _N_FFT, axis=-1) * _window()
    out = np.zeros((len(X), frames.shape[1] + 1, hop), dtype=frames.dtype)
    out[:, :-1] = frames[..., :hop]
    out[:, 1:] += frames[..., hop:]
    return out.reshape(len(X), -1)[:, hop : hop + n_samples]

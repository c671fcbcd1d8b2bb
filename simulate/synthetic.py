"""Noises made by rule, so that the simulator works with no recordings at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def synthetic_noise(kind: str, n_samples: int, fs: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of a kind in `SYNTHETIC_KINDS`: (samples,), unit RMS, drawn from `rng`.

    Raises ValueError for an unknown kind.
    """
    if kind not in _SHAPES:
        raise ValueError(f"expected a noise of {', '.join(_SHAPES)}, found {kind}")
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    frequency_hz = np.fft.rfftfreq(n_samples, 1 / fs)
    noise = np.fft.irfft(spectrum * _SHAPES[kind](np.maximum(frequency_hz, 20.0)), n_samples)
    if kind == "fan":
        noise = noise / max(noise.std(), 1e-12) + _hum(n_samples, fs, rng)
    return noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)


def _hum(n_samples: int, fs: int, rng: np.random.Generator) -> np.ndarray:
    """Harmonics of a blade frequency that wanders by a percent, as a motor under load does."""
    blade_hz = rng.uniform(70.0, 160.0)
    wander = np.interp(
        np.arange(n_samples), np.linspace(0, max(n_samples, 2), 9), rng.uniform(-0.01, 0.01, 9)
    )
    phase = 2 * np.pi * np.cumsum(blade_hz * (1 + wander)) / fs
    harmonics = [0.8 / k * np.sin(k * phase + rng.uniform(0, 2 * np.pi)) for k in range(1, 6)]
    return np.sum(harmonics, axis=0)


def _speech_shaped(frequency_hz: np.ndarray) -> np.ndarray:
    """Long-term spectrum of speech: flat from 100 to 500 Hz, then 9 dB an octave down."""
    fall = np.minimum(1.0, (500.0 / frequency_hz) ** 1.5)
    return fall * np.minimum(1.0, (frequency_hz / 100.0) ** 2)


_SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "white": np.ones_like,
    "pink": lambda f: f**-0.5,
    "speech_shaped": _speech_shaped,
    "fan": lambda f: 1 / (1 + (f / 400.0) ** 1.5),
}
SYNTHETIC_KINDS = tuple(_SHAPES)

"""Noises made by rule, so that the simulator works with no recordings at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def synthetic_noise(kind: str, n_samples: int, fs: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of a kind in `SYNTHETIC_KINDS` or `APPLIANCE_KINDS`: (samples,), unit RMS, from `rng`.

    Raises ValueError for an unknown kind.
    """
    if kind in _APPLIANCES:
        noise = _appliance(_APPLIANCES[kind], n_samples, fs, rng)
        return noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    if kind not in _SHAPES:
        kinds = ", ".join([*_SHAPES, *_APPLIANCES])
        raise ValueError(f"expected a noise of {kinds}, found {kind}")
    noise = _shaped(_SHAPES[kind], n_samples, fs, rng)
    if kind == "fan":
        noise = noise / max(noise.std(), 1e-12) + _hum(n_samples, fs, rng)
    return noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)


def _shaped(
    shape: Callable[[np.ndarray], np.ndarray], n_samples: int, fs: int, rng: np.random.Generator
) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    frequency_hz = np.fft.rfftfreq(n_samples, 1 / fs)
    return np.fft.irfft(spectrum * shape(np.maximum(frequency_hz, 20.0)), n_samples)


class _Appliance(NamedTuple):
    """A motor's hum over the hiss of air or water, both swelling with its turns."""

    motor_hz: tuple[float, float]
    hum: float  # RMS against the hiss
    band_hz: tuple[float, float]  # of the hiss
    beat_hz: tuple[float, float]
    depth: float  # of the swelling, 0 to 1


def _appliance(kind: _Appliance, n_samples: int, fs: int, rng: np.random.Generator) -> np.ndarray:
    low_hz, high_hz = kind.band_hz

    def band(f: np.ndarray) -> np.ndarray:
        return 1 / (1 + (low_hz / f) ** 2) / (1 + (f / high_hz) ** 2)

    hiss = _shaped(band, n_samples, fs, rng)
    hum = _hum(n_samples, fs, rng, kind.motor_hz)
    noise = hiss / max(hiss.std(), 1e-12) + kind.hum * hum / max(hum.std(), 1e-12)
    turn = 2 * np.pi * rng.uniform(*kind.beat_hz) * np.arange(n_samples) / fs
    return noise * (1 + kind.depth * np.sin(turn + rng.uniform(0, 2 * np.pi)))


def _hum(
    n_samples: int,
    fs: int,
    rng: np.random.Generator,
    motor_hz: tuple[float, float] = (70.0, 160.0),
) -> np.ndarray:
    """Harmonics of a frequency that wanders by a percent, as a motor under load does."""
    blade_hz = rng.uniform(*motor_hz)
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
_APPLIANCES = {
    "fridge": _Appliance((98.0, 102.0), 2.0, (60.0, 400.0), (0.2, 0.5), 0.1),
    "vacuum": _Appliance((230.0, 330.0), 0.7, (300.0, 5000.0), (0.3, 1.0), 0.15),
    "hair_dryer": _Appliance((280.0, 420.0), 0.5, (800.0, 6000.0), (0.2, 0.6), 0.05),
    "kettle": _Appliance((90.0, 110.0), 0.1, (200.0, 1500.0), (0.1, 0.3), 0.4),
    "washing_machine": _Appliance((80.0, 200.0), 0.8, (100.0, 1200.0), (0.7, 1.5), 0.6),
}
SYNTHETIC_KINDS = tuple(_SHAPES)
APPLIANCE_KINDS = tuple(_APPLIANCES)

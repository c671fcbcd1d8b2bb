"""Microphones as they are built: patterns, mismatch, faults, own noise and clocks of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from simulate.config import Frozen
from simulate.directivity import PATTERNS, FirstOrder
from simulate.quantity import draw
from simulate.scene_config import MicConfig

_HALF = 32  # taps to either side that read between two samples


class Mic(Frozen):
    """One microphone: its pattern's share of pressure and axis, and how it differs from ideal.

    gain_db, phase_deg: mismatch, the same at every frequency; rate_offset_ppm: how much faster its
    clock runs than that of microphone 0; dead: it hears nothing but its own noise; clip_db: it
    clips so far below its peak, None for never.
    """

    omni: float = 1.0
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0)
    gain_db: float = 0.0
    phase_deg: float = 0.0
    rate_offset_ppm: float = 0.0
    dead: bool = False
    clip_db: float | None = None


def draw_mics(
    config: MicConfig, mics_m: np.ndarray, origin_m: np.ndarray, rng: np.random.Generator
) -> list[Mic]:
    """One `Mic` for each of mics_m (mics, 3); number 0, the reference, has no fault."""
    pattern = config.pattern[int(rng.integers(len(config.pattern)))]
    mics = []
    for number, axis in enumerate(_axes(config, np.asarray(mics_m), np.asarray(origin_m))):
        gain_db, phase_deg = draw(config.gain_db, rng), draw(config.phase_deg, rng)
        rate_offset_ppm, clip_db = draw(config.rate_offset_ppm, rng), draw(config.clip_db, rng)
        dead, clips = rng.random(2) < (config.dead, config.clipping)
        healthy = number == 0
        mics.append(
            Mic(
                omni=PATTERNS[pattern],
                axis=axis,
                gain_db=gain_db,
                phase_deg=phase_deg,
                rate_offset_ppm=0.0 if healthy else rate_offset_ppm,
                dead=bool(dead) and not healthy,
                clip_db=clip_db if clips and not healthy else None,
            )
        )
    return mics


def _axes(
    config: MicConfig, mics: np.ndarray, origin: np.ndarray
) -> list[tuple[float, float, float]]:
    """Where each microphone points; one in the middle of an outward array points along x."""
    if config.facing == "up":
        axes = np.tile([0.0, 0.0, 1.0], (len(mics), 1))
    elif config.facing == "outward":
        axes = mics - mics.mean(axis=0) if len(mics) > 1 else mics - origin
        axes[np.linalg.norm(axes, axis=1) < 1e-4] = [1.0, 0.0, 0.0]
    else:
        angle = np.radians(config.facing)
        axes = np.tile([np.cos(angle), np.sin(angle), 0.0], (len(mics), 1))
    axes = (axes / np.linalg.norm(axes, axis=1, keepdims=True)).round(6)
    return [(x, y, z) for x, y, z in axes.tolist()]


def capsules(mics: Sequence[Mic] | None) -> FirstOrder | None:
    """Directivity of the microphones, None when all hear alike from everywhere."""
    if not mics or all(mic.omni == 1 for mic in mics):
        return None
    return FirstOrder.facing(np.array([m.omni for m in mics]), np.array([m.axis for m in mics]))


def through_mics(x: np.ndarray, mics: Sequence[Mic]) -> np.ndarray:
    """What linear microphones make of the sound (..., mics, samples) that reaches them.

    Mismatch, clocks and dead microphones; being linear, it may be applied to each part of a mixture
    and the parts still add up.
    """
    return np.stack([_through(x[..., m, :], mic) for m, mic in enumerate(mics)], axis=-2)


def _through(x: np.ndarray, mic: Mic) -> np.ndarray:
    if mic.dead:
        return np.zeros_like(x)
    y = x * 10 ** (mic.gain_db / 20)
    if mic.phase_deg:
        y = turn_phase(y, mic.phase_deg)
    return read_with_clock(y, mic.rate_offset_ppm) if mic.rate_offset_ppm else y


def turn_phase(x: np.ndarray, phase_deg: float) -> np.ndarray:
    """Turn the phase of every positive frequency of x (..., samples) by the same angle."""
    n_samples = x.shape[-1]
    n_fft = fft.next_fast_len(2 * n_samples, real=True)
    turned = fft.rfft(x, n_fft) * np.exp(1j * np.radians(phase_deg))
    return fft.irfft(turned, n_fft)[..., :n_samples]


def read_with_clock(x: np.ndarray, offset_ppm: float) -> np.ndarray:
    """Samples of x (..., samples) by a clock that runs `offset_ppm` millionths faster than its own.

    Sample n is taken at the time n / (1 + offset) of x's clock, between its samples by a windowed
    sinc of 65 taps; beyond the ends of x there is silence.
    """
    n_samples = x.shape[-1]
    time = np.arange(n_samples) / (1 + offset_ppm * 1e-6)
    whole = np.round(time).astype(np.int64)
    between = time - whole
    ends = [(0, 0)] * (x.ndim - 1)
    beyond = max(0, int(whole[-1]) + 1 - n_samples)
    padded = np.pad(x, [*ends, (_HALF, _HALF + beyond)])
    y = np.zeros(x.shape)
    for k in range(-_HALF, _HALF + 1):
        away = between - k
        window = 0.5 + 0.5 * np.cos(np.pi * away / (_HALF + 1))
        y += padded[..., whole + (k + _HALF)] * (np.sinc(away) * window)
    return y


def clip(x: np.ndarray, mics: Sequence[Mic]) -> np.ndarray:
    """x (mics, samples) with the peaks cut off where a microphone clips."""
    drops = np.array([0.0 if mic.clip_db is None else max(mic.clip_db, 0.0) for mic in mics])
    limit = np.abs(x).max(axis=-1, keepdims=True) * 10 ** (-drops[:, None] / 20)
    return np.clip(x, -limit, limit)

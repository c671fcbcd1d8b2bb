"""From a scene to what its microphones hear, with every part kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft

from simulate.decay import SPEED_OF_SOUND
from simulate.noise import diffuse_noise
from simulate.rooms import room_impulse_responses
from simulate.scene import Scene, Source
from simulate.timeline import play

_PEAK = 0.98


@dataclass(frozen=True)
class Mixture:
    """What the microphones hear and its parts; mixture = image summed over talkers + noise.

    mixture, noise (mics, samples); image, early (talkers, mics, samples): the talker with all of
    the room, and with the direct path and the first `early_ms` after it; dry (talkers, samples): as
    recorded, with the same gain as the rest. All float64; what is heard stays within full scale.
    """

    mixture: np.ndarray
    image: np.ndarray
    early: np.ndarray
    noise: np.ndarray
    dry: np.ndarray
    fs: int
    scene: Scene


def render(scene: Scene) -> Mixture:
    """Render one scene; the same scene gives the same samples.

    The SNR is the power of all reverberant talkers over that of the noise, at microphone 0 and over
    the whole clip; the level is the mixture's RMS there, lowered only where a peak would clip.
    """
    rng = scene.rng()
    mics = np.asarray(scene.mics_m)
    placed = [s for s in (*scene.talkers, *scene.noises) if s.position_m is not None]
    rir = room_impulse_responses(
        np.asarray(scene.room_size_m),
        scene.rt60_s,
        np.asarray([s.position_m for s in placed]),
        mics,
        method=scene.method,
        rng=rng,
        fs=scene.fs,
    )
    n_talkers = len(scene.talkers)
    dry = np.stack([play(t.segments, scene.n_samples, scene.fs) for t in scene.talkers])
    image, early = _images(dry, rir[:n_talkers], mics, scene)
    noise = _noise(scene, mics, rir[n_talkers:], rng)
    noise *= _ratio(_power(image[:, 0].sum(0)), _power(noise[0])) * 10 ** (-scene.snr_db / 20)
    return _at_level(scene, dry, image, early, noise)


def _images(
    dry: np.ndarray, rir: np.ndarray, mics: np.ndarray, scene: Scene
) -> tuple[np.ndarray, np.ndarray]:
    """Reverberant and early images, both (talkers, mics, samples)."""
    positions = np.asarray([t.position_m for t in scene.talkers])
    distance = np.linalg.norm(positions[:, None] - mics[None], axis=-1)
    last = distance / SPEED_OF_SOUND * scene.fs + scene.early_ms * 1e-3 * scene.fs
    taps = min(rir.shape[-1], int(np.ceil(last.max())) + 1)
    first = rir[..., :taps] * (np.arange(taps) <= last[..., None])
    return _convolve(dry[:, None], rir), _convolve(dry[:, None], first)


def _noise(scene: Scene, mics: np.ndarray, rir: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sum of the scene's noises, (mics, samples); each has its own level at microphone 0."""
    responses = iter(rir)
    total = np.zeros((len(mics), scene.n_samples))
    for source in scene.noises:
        part = _noise_part(source, scene, mics, responses, rng)
        total += part * (_ratio(1.0, _power(part[0])) * 10 ** (source.level_db / 20))
    return total


def _noise_part(
    source: Source,
    scene: Scene,
    mics: np.ndarray,
    responses: Iterator[np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """One noise at every microphone, (mics, samples), at any level."""
    one_channel = play(source.segments, scene.n_samples, scene.fs)
    if not np.any(one_channel):
        # Digital silence cannot reach any SNR; a faint hiss can.
        one_channel = 1e-4 * rng.standard_normal(scene.n_samples)
    if source.position_m is None:
        return diffuse_noise(one_channel, mics, rng, scene.fs).astype(float)
    return _convolve(one_channel, next(responses))


def _at_level(
    scene: Scene, dry: np.ndarray, image: np.ndarray, early: np.ndarray, noise: np.ndarray
) -> Mixture:
    mixture = image.sum(axis=0) + noise
    gain = _ratio(10 ** (scene.level_dbfs / 10), _power(mixture[0]))
    peak = max(float(np.abs(x).max()) for x in (mixture, image, early, noise))
    gain = min(gain, _PEAK / max(peak, 1e-12))
    image, early, noise = image * gain, early * gain, noise * gain
    # Summed after scaling, so that the parts add up to the last bit.
    return Mixture(image.sum(axis=0) + noise, image, early, noise, dry * gain, scene.fs, scene)


def _convolve(x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """First samples of the convolution along the last axis, as many as x has; float64."""
    n_samples = x.shape[-1]
    n_fft = fft.next_fast_len(n_samples + h.shape[-1] - 1, real=True)
    # Single precision halves the time; 1e-7 of the peak is below the 24 bits of the files.
    X, H = fft.rfft(x.astype(np.float32), n_fft), fft.rfft(h.astype(np.float32), n_fft)
    return fft.irfft(X * H, n_fft)[..., :n_samples].astype(float)


def _power(x: np.ndarray) -> float:
    return float(np.mean(np.square(x)))


def _ratio(wanted: float, power: float) -> float:
    """Gain that brings `power` to `wanted`; 0 for silence."""
    return float(np.sqrt(wanted / power)) if power > 0 else 0.0

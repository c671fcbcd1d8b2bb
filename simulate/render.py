"""From a scene to what its microphones hear, with every part kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft

from simulate.measured import robust_rt60, stack_responses
from simulate.mics import capsules, clip, through_mics
from simulate.motion import convolve_moving
from simulate.noise import decorrelated_noise, diffuse_noise
from simulate.responses import Responses, moving_images, scene_responses
from simulate.scene import Scene
from simulate.sources import Source
from simulate.timeline import play

_PEAK = 0.98


@dataclass(frozen=True)
class Mixture:
    """What the microphones hear and its parts; mixture = image summed over talkers + noise.

    mixture, noise (mics, samples); image, early, direct (talkers, mics, samples): the talker with
    all of the room, with the direct path and the first `early_ms` after it, and with the direct
    path alone; dry (talkers, samples): as recorded, with the same gain as the rest; self_noise
    (mics, samples): the part of `noise` that the microphones make themselves. What a clipping
    microphone adds is noise too; measured_rt60_s: of the first talker's response at microphone 0,
    None for one that does not decay. All float64; what is heard stays within full scale.
    """

    mixture: np.ndarray
    image: np.ndarray
    early: np.ndarray
    direct: np.ndarray
    noise: np.ndarray
    self_noise: np.ndarray
    dry: np.ndarray
    fs: int
    scene: Scene
    measured_rt60_s: float | None


def render(scene: Scene) -> Mixture:
    """Render one scene; the same scene gives the same samples.

    The SNR is the power of all reverberant talkers over that of the noise, at microphone 0 and over
    the whole clip; the level is the mixture's RMS there, lowered only where a peak would clip.
    """
    rng = scene.rng()
    responses = scene_responses(scene, rng)
    dry = np.stack([play(t.segments, scene.n_samples, scene.fs) for t in scene.talkers])
    talkers = _images(dry, responses)
    noise = _noise(scene, np.asarray(scene.mics_m), responses, rng)
    if scene.mics is not None:
        talkers = {name: through_mics(x, scene.mics) for name, x in talkers.items()}
        noise = through_mics(noise, scene.mics)
    if any(t.sir_db is not None for t in scene.talkers):
        levels = _talker_gains(scene, talkers["image"][:, 0])
        dry = dry * levels[:, None]
        talkers = {name: x * levels[:, None, None] for name, x in talkers.items()}
    own = _self_noise(scene, _power(talkers["image"][:, 0].sum(0)), rng)
    noise = noise * _noise_gain(scene, talkers["image"][:, 0].sum(0), noise[0], own[0]) + own
    rt60_s = robust_rt60(responses.image[0, 0], scene.fs)
    return _at_level(scene, talkers | {"noise": noise, "self_noise": own}, dry, rt60_s)


def _images(dry: np.ndarray, responses: Responses) -> dict[str, np.ndarray]:
    """Reverberant, early and direct images, each (talkers, mics, samples)."""
    parts = {name: getattr(responses, name) for name in ("image", "early", "direct")}
    if any(way is not None for way in responses.progress):
        owner, ways = responses.owner, responses.progress
        return {name: moving_images(dry, rir, owner, ways) for name, rir in parts.items()}
    return {name: _convolve(dry[:, None], rir) for name, rir in parts.items()}


def _talker_gains(scene: Scene, heard: np.ndarray) -> np.ndarray:
    """Gains (talkers,) that give each talker its level against the first; heard at microphone 0."""
    gains = np.ones(len(heard))
    for number, (talker, x) in enumerate(zip(scene.talkers, heard, strict=True)):
        if talker.sir_db is not None:
            gains[number] = _ratio(_power(heard[0]), _power(x)) * 10 ** (-talker.sir_db / 20)
    return gains


def _self_noise(scene: Scene, speech: float, rng: np.random.Generator) -> np.ndarray:
    """White noise of each microphone's own, (mics, samples), against talkers of that power."""
    shape = (len(scene.mics_m), scene.n_samples)
    if scene.self_noise_db is None:
        return np.zeros(shape)
    rms = np.sqrt(speech) * 10 ** (scene.self_noise_db / 20)
    noise: np.ndarray = rms * rng.standard_normal(shape)
    return noise


def _noise_gain(scene: Scene, speech: np.ndarray, noise: np.ndarray, own: np.ndarray) -> float:
    """Gain of the noise for the scene's SNR, from what microphone 0 hears, each (samples,)."""
    snr = 10 ** (-scene.snr_db / 20)
    if not scene.snr_counts_mics:
        return _ratio(_power(speech), _power(noise)) * snr
    # The larger root of |g noise + own|^2 = |speech|^2 / SNR.
    a, b = _power(noise), float(np.mean(noise * own))
    left = _power(speech) * snr**2 - _power(own)
    return max(0.0, (np.sqrt(max(b * b + a * left, 0.0)) - b) / a) if a > 0 else 0.0


def _noise(
    scene: Scene, mics: np.ndarray, responses: Responses, rng: np.random.Generator
) -> np.ndarray:
    """Sum of the scene's noises, (mics, samples); each has its own level at microphone 0."""
    owner = responses.noise_owner
    ways = ((responses.noise[owner == k], way) for k, way in enumerate(responses.noise_progress))
    total = np.zeros((len(mics), scene.n_samples))
    for source in scene.noises:
        part = _noise_part(source, scene, mics, ways, rng)
        total += part * (_ratio(1.0, _power(part[0])) * 10 ** (source.level_db / 20))
    return total


def _noise_part(
    source: Source,
    scene: Scene,
    mics: np.ndarray,
    ways: Iterator[tuple[np.ndarray, np.ndarray | None]],
    rng: np.random.Generator,
) -> np.ndarray:
    """One noise at every microphone, (mics, samples), at any level."""
    one_channel = play(source.segments, scene.n_samples, scene.fs)
    if not np.any(one_channel):
        # Digital silence cannot reach any SNR; a faint hiss can.
        one_channel = 1e-4 * rng.standard_normal(scene.n_samples)
    if source.position_m is None and source.responses:
        everywhere = decorrelated_noise(one_channel, len(source.responses), rng)
        return _convolve(everywhere[:, None], stack_responses([*source.responses], scene.fs), True)
    if source.position_m is None:
        patterns = capsules(scene.mics)
        field = diffuse_noise(one_channel, mics, rng, scene.fs, source.field, patterns)
        return field.astype(float)
    rir, way = next(ways)
    return _convolve(one_channel, rir[0]) if way is None else convolve_moving(one_channel, rir, way)


def _at_level(
    scene: Scene, parts: dict[str, np.ndarray], dry: np.ndarray, rt60_s: float | None
) -> Mixture:
    """The mixture at the scene's level; parts: image, early, direct, noise, self_noise."""
    mixture = parts["image"].sum(axis=0) + parts["noise"]
    if scene.mics is not None:
        parts["noise"] = parts["noise"] + (clip(mixture, scene.mics) - mixture)
    gain = _ratio(10 ** (scene.level_dbfs / 10), _power(mixture[0]))
    heard = (mixture, parts["image"], parts["early"], parts["noise"])
    gain = min(gain, _PEAK / max(max(float(np.abs(x).max()) for x in heard), 1e-12))
    parts = {name: x * gain for name, x in parts.items()}
    # Summed after scaling, so that the parts add up to the last bit.
    mixture = parts["image"].sum(axis=0) + parts["noise"]
    return Mixture(
        mixture=mixture,
        dry=dry * gain,
        fs=scene.fs,
        scene=scene,
        measured_rt60_s=rt60_s,
        **parts,
    )


def _convolve(x: np.ndarray, h: np.ndarray, mixed: bool = False) -> np.ndarray:
    """First samples of the convolution along the last axis, as many as x has; float64.

    mixed: summed over the first axis, before the inverse transforms, of which there are fewer then.
    """
    n_samples = x.shape[-1]
    n_fft = fft.next_fast_len(n_samples + h.shape[-1] - 1, real=True)
    # Single precision halves the time; 1e-7 of the peak is below the 24 bits of the files.
    X, H = fft.rfft(x.astype(np.float32), n_fft), fft.rfft(h.astype(np.float32), n_fft)
    Y = np.einsum("kmf,kmf->mf", *np.broadcast_arrays(X, H)) if mixed else X * H
    y: np.ndarray = fft.irfft(Y, n_fft)[..., :n_samples]
    return y.astype(float)


def _power(x: np.ndarray) -> float:
    return float(np.mean(np.square(x)))


def _ratio(wanted: float, power: float) -> float:
    """Gain that brings `power` to `wanted`; 0 for silence."""
    return float(np.sqrt(wanted / power)) if power > 0 else 0.0

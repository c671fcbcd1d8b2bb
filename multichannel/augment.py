"""What may happen to a training clip on its way into the network, each under a name of its own.

A clip is a dict: ``mixture (mics, samples)`` and ``early (samples,)``, the wanted talker at mic 0,
both float32 at 16 kHz. Damage that a network can undo (clipping, a codec) is done to the mixture
alone; what it cannot or should not undo (level, equaliser, missing bands) happens to both, so that
it is not taught to invent. After the front-end a clip has ``spectra`` and ``cues`` instead of a
mixture; the functions named in `ON_SPECTRA` then do the same to them.

Every function is ``f(clip, rng, ...) -> clip`` and leaves its input as it was. ``rng`` decides, so
the same number of a clip gives the same clip.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import soundfile
import soxr

FS = 16_000
Clip = dict[str, np.ndarray]
_LOSSY = (("OGG", "VORBIS", (0.6, 1.0)), ("MP3", "MPEG_LAYER_III", (0.5, 0.9)))


def gain(clip: Clip, rng: np.random.Generator, range_db: float = 20.0) -> Clip:
    """Another level, up to `range_db` up or down."""
    factor = np.float32(10 ** (rng.uniform(-range_db, range_db) / 20))
    return clip | {name: x * factor for name, x in clip.items() if name != "cues"}


def equaliser(clip: Clip, rng: np.random.Generator, range_db: float = 6.0, points: int = 6) -> Clip:
    """A smooth random response, as of another microphone: up to `range_db` at each of `points`."""
    curve_db = rng.uniform(-range_db, range_db, points)

    def response(hz: np.ndarray) -> np.ndarray:
        octave = np.log2(np.maximum(hz, 62.5) / 62.5)
        return 10 ** (np.interp(octave, np.linspace(0, 7, points), curve_db) / 20)

    return _filtered(clip, response)


def band_limit(
    clip: Clip,
    rng: np.random.Generator,
    lowest_hz: float = 300.0,
    highest_hz: float = 3400.0,
) -> Clip:
    """As through a narrow channel: from up to `lowest_hz`, to `highest_hz` at least."""
    low, high = rng.uniform(0, lowest_hz), rng.uniform(highest_hz, FS / 2)

    def response(hz: np.ndarray) -> np.ndarray:
        width = 100.0  # Hz of the edges: sharper ones would ring
        rise = np.clip((hz - low) / width + 0.5, 0, 1) if low > width else np.ones_like(hz)
        return rise * np.clip((high - hz) / width + 0.5, 0, 1)

    return _filtered(clip, response)


def time_warp(clip: Clip, rng: np.random.Generator, range_percent: float = 8.0) -> Clip:
    """Played faster or slower, pitch included; the length stays, with silence at the end."""
    speed = 1 + rng.uniform(-range_percent, range_percent) / 100
    return {name: _resampled(x, speed) for name, x in clip.items()}


def clipping(clip: Clip, rng: np.random.Generator, share: float = 0.02) -> Clip:
    """The mixture clipped where up to `share` of its samples are louder."""
    x = clip["mixture"]
    limit = np.quantile(np.abs(x), 1 - rng.uniform(0, share))
    return clip | {"mixture": np.clip(x, -limit, limit)}


def codec(clip: Clip, rng: np.random.Generator) -> Clip:
    """The mixture through 8-bit mu-law, Ogg Vorbis or MP3 at a low rate, one of them by chance."""
    choice = int(rng.integers(len(_LOSSY) + 1))
    x = clip["mixture"]
    peak = max(float(np.abs(x).max()), 1e-9)
    if choice == len(_LOSSY):
        return clip | {"mixture": peak * _mu_law(x / peak)}
    container, subtype, (best, worst) = _LOSSY[choice]
    level = float(rng.uniform(best, worst))
    mics = [_through_file(mic / peak * 0.9, container, subtype, level) for mic in x]
    return clip | {"mixture": np.stack(mics) * np.float32(peak / 0.9)}


def time_mask(clip: Clip, rng: np.random.Generator, longest_s: float = 0.2) -> Clip:
    """Silence for up to `longest_s`, as of lost packets; what was said there is not wanted."""
    n_samples = clip["early"].shape[-1]
    length = int(rng.uniform(0, longest_s) * FS)
    start = int(rng.integers(max(1, n_samples - length)))
    keep = np.ones(n_samples, np.float32)
    keep[start : start + length] = 0
    masked = clip | {"early": clip["early"] * keep}
    if "mixture" in clip:
        return masked | {"mixture": clip["mixture"] * keep}
    n_frames = clip["spectra"].shape[-1]
    frames = np.interp(np.arange(n_frames) / n_frames, np.arange(n_samples) / n_samples, keep)
    return masked | {name: clip[name] * frames.astype(np.float32) for name in ("spectra", "cues")}


def frequency_mask(clip: Clip, rng: np.random.Generator, widest_hz: float = 600.0) -> Clip:
    """A band of up to `widest_hz` is missing, in the mixture and in what is wanted."""
    width = rng.uniform(0, widest_hz)
    low = rng.uniform(0, FS / 2 - width)

    def response(hz: np.ndarray) -> np.ndarray:
        return ((hz < low) | (hz > low + width)).astype(float)

    return _filtered(clip, response)


def dead_mic(clip: Clip, rng: np.random.Generator) -> Clip:
    """One microphone, never mic 0, gives silence."""
    x = clip["mixture"].copy()
    if len(x) > 1:
        x[rng.integers(1, len(x))] = 0
    return clip | {"mixture": x}


def mic_dropout(clip: Clip, rng: np.random.Generator, longest_s: float = 1.0) -> Clip:
    """Some microphones, never mic 0, are silent for a while of up to `longest_s`."""
    x = clip["mixture"].copy()
    for mic in range(1, len(x)):
        length = int(rng.uniform(0, longest_s) * FS)
        start = int(rng.integers(max(1, x.shape[-1] - length)))
        if rng.random() < 0.5:
            x[mic, start : start + length] = 0
    return clip | {"mixture": x}


def mic_subset(clip: Clip, rng: np.random.Generator, fewest: int = 2) -> Clip:
    """Some of the microphones, mic 0 among them, at least `fewest`: another array."""
    x = clip["mixture"]
    if len(x) <= fewest:
        return clip
    others = rng.permutation(np.arange(1, len(x)))[: rng.integers(fewest, len(x) + 1) - 1]
    return clip | {"mixture": x[[0, *np.sort(others)]]}


AUGMENTATIONS: dict[str, Callable[..., Clip]] = {
    f.__name__: f
    for f in (
        gain, equaliser, band_limit, time_warp, clipping, codec, time_mask, frequency_mask,
        dead_mic, mic_dropout, mic_subset,
    )
}  # fmt: skip
ON_SPECTRA = ("gain", "time_mask", "frequency_mask")


def augment(clip: Clip, chosen: Mapping[str, Mapping[str, Any]], rng: np.random.Generator) -> Clip:
    """`clip` after those of `chosen` that chance picks, in their order.

    chosen: for each name of `AUGMENTATIONS` its `probability`, and what else the function takes.
    """
    for name, settings in chosen.items():
        options = dict(settings)
        if rng.random() < options.pop("probability"):
            clip = AUGMENTATIONS[name](clip, rng, **options)
    return clip


def _filtered(clip: Clip, response: Callable[[np.ndarray], np.ndarray]) -> Clip:
    """Everything through a zero-phase filter of that magnitude over Hz."""
    changed = dict(clip)
    for name in ("mixture", "early"):
        if name in clip:
            changed[name] = _through(clip[name], response)
    if "spectra" in clip:
        hz = np.linspace(0, FS / 2, clip["spectra"].shape[-2])
        shape = response(hz).astype(np.float32)[:, None]
        changed["spectra"] = clip["spectra"] * shape
    return changed


def _through(x: np.ndarray, response: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    # A second of silence behind keeps the filter's tail from wrapping to the beginning.
    n_fft = x.shape[-1] + FS
    X = np.fft.rfft(x, n_fft) * response(np.fft.rfftfreq(n_fft, 1 / FS))
    return np.fft.irfft(X, n_fft)[..., : x.shape[-1]].astype(np.float32)


def _resampled(x: np.ndarray, speed: float) -> np.ndarray:
    fast = soxr.resample(x.T, FS * speed, FS).T.astype(np.float32)[..., : x.shape[-1]]
    padding = [(0, 0)] * (x.ndim - 1) + [(0, x.shape[-1] - fast.shape[-1])]
    return np.pad(fast, padding)


def _mu_law(x: np.ndarray, mu: float = 255.0) -> np.ndarray:
    """ITU-T G.711's companding: 8 bits of a logarithmic scale."""
    squeezed = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)
    steps = np.round(squeezed * 127) / 127
    return (np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(mu)) / mu).astype(np.float32)


def _through_file(x: np.ndarray, container: str, subtype: str, level: float) -> np.ndarray:
    """Encoded and decoded again in memory, aligned with the input by what a decoder does."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", FS, 1, subtype, format=container, compression_level=level
    ) as out:
        out.write(x)
    file.seek(0)
    y, _ = soundfile.read(file, dtype="float32")
    return np.pad(y[: len(x)], (0, max(0, len(x) - len(y))))

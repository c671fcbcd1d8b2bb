"""Room impulse responses of shoebox rooms; the only module that touches pyroomacoustics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from scipy import signal

from simulate.decay import SPEED_OF_SOUND, lattice_energy, measure_rt60, solve_absorption
from simulate.directivity import FirstOrder
from simulate.images import HALF_FILTER, add_delays, image_response, images_within
from simulate.noise import diffuse_white_noise

__all__ = ["METHODS", "direct_responses", "measure_rt60", "room_impulse_responses"]

METHODS = ("exact", "fast")
_EARLY_S = 0.06  # images are exact until here, or so long after a far direct path: ...
_AFTER_DIRECT_S = 0.03
_FADE_S = 0.02  # ... before that time they hand over to the statistical tail
_LOWEST_HZ = 20.0  # every reflection has the same sign, which piles up at 0 Hz as in no real room


class _Room(NamedTuple):
    size: np.ndarray  # (3,)
    rt60_s: float
    absorption: float
    sources: np.ndarray  # (sources, 3)
    mics: np.ndarray  # (mics, 3)
    fs: int
    mouths: FirstOrder | None
    capsules: FirstOrder | None

    def mouth(self, source: int) -> FirstOrder | None:
        return None if self.mouths is None else self.mouths.only(source)


def room_impulse_responses(
    room_size_m: np.ndarray,
    rt60_s: float,
    sources_m: np.ndarray,
    mics_m: np.ndarray,
    *,
    method: str = "exact",
    rng: np.random.Generator | None = None,
    fs: int = 16000,
    mouths: FirstOrder | None = None,
    capsules: FirstOrder | None = None,
    tails: np.ndarray | None = None,
) -> np.ndarray:
    """Responses of a shoebox room from every source to every microphone.

    room_size_m (3,), sources_m (sources, 3), mics_m (mics, 3) in metres
    -> rir (sources, mics, taps) float32. The direct path arrives after distance / (343 m/s) and has
    amplitude 1 / distance in metres.
    method: "exact", the image source method to the end of the decay; "fast", exact images for the
    first 60 ms and then Gaussian noise with the lattice's expected energy and a diffuse field's
    coherence, drawn from `rng`.
    mouths, capsules: directivity of the sources and of the microphones, None for omnidirectional.
    tails: for "fast", number of the late tail (0, 1, ...) of each source, so that places of one
    moving source share theirs; None gives each its own.
    Raises ValueError for positions outside the room, an unknown method, or an RT60 that the room
    cannot have.
    J. Allen and D. Berkley, Image method for efficiently simulating small-room acoustics, JASA 65
    (1979).
    """
    size, sources, mics = (np.asarray(a, float) for a in (room_size_m, sources_m, mics_m))
    for name, points in (("source", sources), ("microphone", mics)):
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"expected {name} positions of shape (n, 3), found {points.shape}")
        if not np.all((points > 0) & (points < size)):
            raise ValueError(f"expected every {name} inside the room {size}, found {points}")
    absorption = solve_absorption(size, rt60_s)
    room = _Room(size, rt60_s, absorption, sources, mics, fs, mouths, capsules)
    if method == "exact":
        rir = _exact(room)
    elif method == "fast":
        rng = np.random.default_rng(0) if rng is None else rng
        rir = _fast(room, rng, np.arange(len(sources)) if tails is None else tails)
    else:
        raise ValueError(f"expected a method of {', '.join(METHODS)}, found {method}")
    return _without_offset(rir, fs)


def direct_responses(
    sources_m: np.ndarray,
    mics_m: np.ndarray,
    fs: int = 16000,
    mouths: FirstOrder | None = None,
    capsules: FirstOrder | None = None,
) -> np.ndarray:
    """The direct paths alone, as in a room without walls: (sources, mics, taps) float32."""
    sources, mics = np.asarray(sources_m, float), np.asarray(mics_m, float)
    away = sources[:, None] - mics[None]
    distance = np.linalg.norm(away, axis=-1)
    gain, towards = 1 / distance, away / distance[..., None]
    if capsules is not None:
        gain = gain * capsules.gain(towards.swapaxes(0, 1)).T
    if mouths is not None:
        gain = gain * mouths.gain(-towards)
    # The high-pass rings on for a while below its 20 Hz.
    taps = _direct_samples(sources, mics, fs) + fs // 20
    delay = distance * (fs / SPEED_OF_SOUND)
    rir = add_delays(delay.reshape(-1, 1), gain.reshape(-1, 1), taps)
    return _without_offset(rir.reshape(*distance.shape, taps), fs)


def _without_offset(rir: np.ndarray, fs: int) -> np.ndarray:
    high_pass = signal.butter(2, _LOWEST_HZ, "high", fs=fs, output="sos")
    return signal.sosfilt(high_pass, rir).astype(np.float32)


def _exact(room: _Room) -> np.ndarray:
    import pyroomacoustics as pra  # takes a second to import, and "fast" does without it

    order = _max_order(room.size, room.rt60_s, room.absorption)
    # One process is one worker; and the library's high-pass would ring ahead of the direct path.
    with _constants(num_threads=1, c=SPEED_OF_SOUND, rir_hpf_enable=False):
        material = pra.Material(room.absorption)
        shoebox = pra.ShoeBox(room.size, fs=room.fs, materials=material, max_order=order)
        for source, mouth in zip(room.sources, _cardioids(room.mouths), strict=False):
            shoebox.add_source(source, directivity=mouth)
        capsules = None if room.capsules is None else [*_cardioids(room.capsules)]
        shoebox.add_microphone_array(room.mics.T, directivity=capsules)
        shoebox.compute_rir()
    offset = pra.constants.get("frac_delay_length") // 2
    taps = round(1.1 * room.rt60_s * room.fs) + _direct_samples(room.sources, room.mics, room.fs)
    rir = np.zeros((len(room.sources), len(room.mics), taps), np.float32)
    for m, responses in enumerate(shoebox.rir):
        for s, response in enumerate(responses):
            kept = response[offset : offset + taps]
            rir[s, m, : len(kept)] = kept
    return rir


def _cardioids(patterns: FirstOrder | None) -> Iterator[Any]:
    """First-order patterns in pyroomacoustics' words; without patterns None for ever."""
    from pyroomacoustics.directivities import CardioidFamily, DirectionVector

    if patterns is None:
        yield from repeat(None)
        return
    for share, axis in zip(patterns.omni, patterns.dipole, strict=True):
        azimuth = np.arctan2(axis[1], axis[0])
        colatitude = np.arctan2(np.hypot(axis[0], axis[1]), axis[2])
        facing = DirectionVector(azimuth, colatitude, degrees=False)
        yield CardioidFamily(facing, p=share)


@contextmanager
def _constants(**values: float) -> Iterator[None]:
    """Set pyroomacoustics' process-wide constants, and put back what a user had set."""
    from pyroomacoustics import constants

    before = {name: constants.get(name) for name in values}
    try:
        for name, value in values.items():
            constants.set(name, value)
        yield
    finally:
        for name, value in before.items():
            constants.set(name, value)


def _max_order(size: np.ndarray, rt60_s: float, absorption: float) -> int:
    """Reflections enough for every image before the RT60, or that still carries -60 dB."""
    by_time = SPEED_OF_SOUND * rt60_s * np.linalg.norm(1 / size)
    by_energy = 6 * np.log(10) / -np.log1p(-absorption)
    return int(np.ceil(min(by_time, by_energy)))


def _direct_samples(sources: np.ndarray, mics: np.ndarray, fs: int) -> int:
    """Samples that the longest direct path takes, rounded up."""
    farthest = np.linalg.norm(sources[:, None] - mics[None], axis=-1).max()
    return int(np.ceil(farthest / SPEED_OF_SOUND * fs)) + HALF_FILTER


def _fast(room: _Room, rng: np.random.Generator, tails: np.ndarray) -> np.ndarray:
    direct = _direct_samples(room.sources, room.mics, room.fs)
    early_s = max(_EARLY_S, direct / room.fs + _AFTER_DIRECT_S)
    taps = round(max(room.rt60_s, early_s) * room.fs) + direct
    times_s = np.arange(taps) / room.fs
    # Power-complementary cross-fade: cos^2 + sin^2 = 1 keeps the expected energy.
    angle = np.clip((times_s - early_s + _FADE_S) / _FADE_S, 0, 1) * np.pi / 2
    coarse = np.arange(0, taps + 160, 160)
    energy = lattice_energy(room.size, room.absorption, coarse / room.fs) / room.fs
    envelope = np.exp(np.interp(np.arange(taps), coarse, np.log(energy)) / 2) * np.sin(angle)
    n_tails = int(np.max(tails)) + 1
    late = diffuse_white_noise(room.mics, taps, rng, room.fs, n_tails, room.capsules)
    rir = (late * envelope.astype(np.float32))[tails]
    if room.mouths is not None:
        # Late sound left the mouth in every direction.
        rir *= np.sqrt(room.mouths.diffuse_power()).astype(np.float32)[:, None, None]
    for s, source in enumerate(room.sources):
        near = images_within(room.size, source, room.mics.mean(axis=0), SPEED_OF_SOUND * early_s)
        early = image_response(
            near, room.absorption, room.mics, taps, room.fs, room.mouth(s), room.capsules
        )
        rir[s] += early * np.cos(angle)
    return rir

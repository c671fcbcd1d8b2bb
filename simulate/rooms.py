"""Room impulse responses of shoebox rooms; the only module that touches pyroomacoustics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np
from scipy import signal

from simulate.bands import centres_hz
from simulate.decay import SPEED_OF_SOUND, decay_time
from simulate.directivity import FirstOrder
from simulate.images import HALF_FILTER, add_delays
from simulate.shoebox import Shoebox
from simulate.statistical import fast_responses, traced_responses
from simulate.walls import WALLS, Walls, walls_for_rt60

METHODS = ("exact", "fast", "hybrid", "ray")
_IMAGE_ORDER = {"hybrid": 3, "ray": 0}  # reflections that are exact images; rays do the rest
_RAYS = 10_000
_MORE_RAYS = 5  # times as many where walls are unequal: few carry the end of such a decay
_BIN_S = 0.004
_LOWEST_HZ = 20.0  # every reflection has the same sign, which piles up at 0 Hz as in no real room


def room_impulse_responses(
    room_size_m: np.ndarray,
    rt60_s: float | None,
    sources_m: np.ndarray,
    mics_m: np.ndarray,
    *,
    method: str = "exact",
    rng: np.random.Generator | None = None,
    fs: int = 16000,
    mouths: FirstOrder | None = None,
    capsules: FirstOrder | None = None,
    tails: np.ndarray | None = None,
    walls: Walls | None = None,
) -> np.ndarray:
    """Responses of a shoebox room from every source to every microphone.

    room_size_m (3,), sources_m (sources, 3), mics_m (mics, 3) in metres
    -> rir (sources, mics, taps) float32. The direct path arrives after distance / (343 m/s) and has
    amplitude 1 / distance in metres.
    method: "exact", the image source method to the end of the decay; "fast", exact images for the
    first 60 ms and then Gaussian noise with the lattice's expected energy and a diffuse field's
    coherence; "hybrid", images of up to three reflections and then such noise with the energy that
    traced rays bring to the array, which alone know of scattering walls; "ray", the same behind the
    direct sound alone. All but "exact" draw from `rng`, and repeat with it.
    mouths, capsules: directivity of the sources and of the microphones, None for omnidirectional.
    tails: number of the late tail (0, 1, ...) of each source, so that places of one moving source
    share theirs; None gives each its own.
    walls: what they absorb and scatter; without them they are all alike and give the RT60. Where
    both are given, walls that scatter are corrected for the RT60.
    Raises ValueError for positions outside the room, an unknown method, an RT60 that the room
    cannot have, or a decay so long that "exact" has more images than memory holds.
    J. Allen and D. Berkley, Image method for efficiently simulating small-room acoustics, JASA 65
    (1979).
    """
    size, sources, mics = (np.asarray(a, float) for a in (room_size_m, sources_m, mics_m))
    for name, points in (("source", sources), ("microphone", mics)):
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"expected {name} positions of shape (n, 3), found {points.shape}")
        if not np.all((points > 0) & (points < size)):
            raise ValueError(f"expected every {name} inside the room {size}, found {points}")
    if walls is None:
        walls = walls_for_rt60(size, 0.0 if rt60_s is None else rt60_s, fs)
    room = Shoebox(size, walls, sources, mics, fs, mouths, capsules)
    rng = np.random.default_rng(0) if rng is None else rng
    tails = np.arange(len(sources)) if tails is None else tails
    if method == "exact":
        rir = _exact(room)
    elif method == "fast":
        rir = fast_responses(room, rng, tails)
    elif method in _IMAGE_ORDER:
        rir = _traced(room, _IMAGE_ORDER[method], rt60_s, rng, tails)
    else:
        raise ValueError(f"expected a method of {', '.join(METHODS)}, found {method}")
    if len(walls.absorption) > 1:
        # Band filters ring ahead of a reflection, and must not do so ahead of the direct sound.
        first = room.direct_samples()[..., None] - HALF_FILTER
        rir = rir * (np.arange(rir.shape[-1]) >= first)
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
    delay = distance * (fs / SPEED_OF_SOUND)
    taps = int(np.ceil(delay.max())) + HALF_FILTER + fs // 20
    rir = add_delays(delay.reshape(-1, 1), gain.reshape(-1, 1), taps)
    return _without_offset(rir.reshape(*distance.shape, taps), fs)


def _without_offset(rir: np.ndarray, fs: int) -> np.ndarray:
    high_pass = signal.butter(2, _LOWEST_HZ, "high", fs=fs, output="sos")
    return signal.sosfilt(high_pass, rir).astype(np.float32)


def _exact(room: Shoebox) -> np.ndarray:
    import pyroomacoustics as pra  # takes a second to import, and "fast" does without it

    rt60_s = room.rt60_s()
    with _library():
        shoebox = _shoebox(room, room.walls.image_order(room.size))
        for source, mouth in zip(room.sources, _cardioids(room.mouths), strict=False):
            shoebox.add_source(source, directivity=mouth)
        capsules = None if room.capsules is None else [*_cardioids(room.capsules)]
        shoebox.add_microphone_array(room.mics.T, directivity=capsules)
        taps = round(1.1 * rt60_s * room.fs) + room.last_direct()
        _drop_unheard(shoebox, room, taps)
        shoebox.compute_rir()
    offset = pra.constants.get("frac_delay_length") // 2
    rir = np.zeros((len(room.sources), len(room.mics), taps), np.float32)
    for m, responses in enumerate(shoebox.rir):
        for s, response in enumerate(responses):
            kept = response[offset : offset + taps]
            rir[s, m, : len(kept)] = kept
    return rir


def _drop_unheard(shoebox: Any, room: Shoebox, taps: int) -> None:
    """Leave out the images that arrive after the response, or that walls have damped by 70 dB."""
    shoebox.image_source_model()
    reach = SPEED_OF_SOUND / room.fs * (taps + HALF_FILTER) + np.ptp(room.mics, axis=0).sum()
    centre = room.mics.mean(axis=0)[:, None]
    for source, visible in zip(shoebox.sources, shoebox.visibility, strict=True):
        heard = source.damping.max(axis=0) ** 2 > 1e-7
        heard &= np.sum((source.images - centre) ** 2, axis=0) < reach**2
        visible[:, ~heard] = False


def _shoebox(room: Shoebox, order: int, **options: Any) -> Any:
    """The library's room, without sources and microphones."""
    import pyroomacoustics as pra

    def words(coefficients: np.ndarray) -> Any:
        if len(coefficients) == 1:
            return float(coefficients[0])
        return {"coeffs": coefficients.tolist(), "center_freqs": centres_hz(room.fs).tolist()}

    n_bands = len(room.walls.absorption)
    scattering = words(np.full(n_bands, room.walls.scattering))
    materials = {
        wall: pra.Material(words(room.walls.absorption[:, w]), scattering)
        for w, wall in enumerate(WALLS)
    }
    shoebox = pra.ShoeBox(room.size, fs=room.fs, materials=materials, max_order=order, **options)
    if np.any(room.walls.per_metre) and not options:
        shoebox.set_air_absorption(room.walls.per_metre.tolist(), centres_hz(room.fs).tolist())
    return shoebox


def _traced(
    room: Shoebox, order: int, rt60_s: float | None, rng: np.random.Generator, tails: np.ndarray
) -> np.ndarray:
    seed = int(rng.integers(2**63))
    if rt60_s is not None and room.walls.scattering > 0:
        room = _as_reverberant(room, rt60_s, seed)
    firsts = [int(np.argmax(tails == tail)) for tail in range(int(np.max(tails)) + 1)]
    energy = _ray_energy(room, room.sources[firsts], order, room.rt60_s(), seed)
    return traced_responses(room, order, energy, _BIN_S, rng, tails)


def _as_reverberant(room: Shoebox, rt60_s: float, seed: int) -> Shoebox:
    """The room with walls that give it the RT60 although they scatter, which mixes slow directions
    with fast ones: the exponents of the decay are scaled until rays measure it."""
    for _ in range(3):
        source = room.sources[:1]
        energy = _ray_energy(room, source, 0, 1.2 * rt60_s, seed)[0].mean(axis=0)
        left = np.cumsum(energy[::-1])[::-1]
        level_db = 10 * np.log10(np.maximum(left, 1e-12 * left[0]) / left[0])
        found_s = decay_time(level_db, np.arange(len(left)) * _BIN_S, -5.0, -35.0)
        absorption = -np.expm1(room.walls.log_kept * (found_s / rt60_s))
        room = room._replace(walls=room.walls._replace(absorption=absorption))
    return room


def _ray_energy(
    room: Shoebox, sources: np.ndarray, order: int, seconds: float, seed: int
) -> np.ndarray:
    """Energy (sources, bands, bins) that rays bring to the array beyond images of that order.

    The scattered directions are the library's one use of its generator, which is seeded here.
    """
    import pyroomacoustics as pra

    with _library():
        # It keeps what has met as many walls as its order, which here are images too.
        shoebox = _shoebox(room, order + 1, ray_tracing=True)
        n_rays = max(_RAYS, int(100 * np.prod(room.size)))
        unequal = room.walls.are_unequal()
        shoebox.set_ray_tracing(
            n_rays=n_rays * (_MORE_RAYS if unequal else 1),
            receiver_radius=0.5,
            energy_thres=1e-7,
            time_thres=seconds,
            hist_bin_size=_BIN_S,
        )
        for source in sources:
            shoebox.add_source(source)
        shoebox.add_microphone(room.mics.mean(axis=0))
        pra.libroom.set_rng_seed(seed)
        shoebox.ray_tracing()
    histograms = [np.asarray(source[0], float) for source in shoebox.rt_histograms[0]]
    bins = int(np.ceil(seconds / _BIN_S))
    energy = np.zeros((len(sources), len(room.walls.absorption), bins))
    for row, histogram in zip(energy, histograms, strict=True):
        row[:, : histogram.shape[-1]] = histogram[:, :bins]
    return energy


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
def _library() -> Iterator[None]:
    """Set pyroomacoustics' process-wide constants as needed here, and put back a user's.

    One process is one worker; the library's high-pass would ring ahead of the direct path; and the
    lowest band reaches down to 0 Hz.
    """
    from pyroomacoustics import constants

    ours = {
        "num_threads": 1,
        "c": SPEED_OF_SOUND,
        "rir_hpf_enable": False,
        "octave_bands_keep_dc": True,
        "octave_bands_base_freq": 125.0,
    }
    before = {name: constants.get(name) for name in ours}
    try:
        for name, value in ours.items():
            constants.set(name, value)
        yield
    finally:
        for name, value in before.items():
            constants.set(name, value)

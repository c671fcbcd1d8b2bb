"""Room impulse responses of shoebox rooms; the only module that touches pyroomacoustics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from scipy import signal

from simulate.decay import SPEED_OF_SOUND, lattice_energy, measure_rt60, solve_absorption
from simulate.noise import diffuse_white_noise

__all__ = ["METHODS", "measure_rt60", "room_impulse_responses"]

METHODS = ("exact", "fast")
_EARLY_S = 0.06  # images are exact until here, or so long after a far direct path: ...
_AFTER_DIRECT_S = 0.03
_FADE_S = 0.02  # ... before that time they hand over to the statistical tail
_LOWEST_HZ = 20.0  # every reflection has the same sign, which piles up at 0 Hz as in no real room
_HALF_FILTER = 40  # a delay's windowed sinc reaches so many samples to either side


def room_impulse_responses(
    room_size_m: np.ndarray,
    rt60_s: float,
    sources_m: np.ndarray,
    mics_m: np.ndarray,
    *,
    method: str = "exact",
    rng: np.random.Generator | None = None,
    fs: int = 16000,
) -> np.ndarray:
    """Responses of a shoebox room from every source to every microphone.

    room_size_m (3,), sources_m (sources, 3), mics_m (mics, 3) in metres
    -> rir (sources, mics, taps) float32. The direct path arrives after distance / (343 m/s) and has
    amplitude 1 / distance in metres.
    method: "exact", the image source method to the end of the decay; "fast", exact images for the
    first 60 ms and then Gaussian noise with the lattice's expected energy and a diffuse field's
    coherence, drawn from `rng`.
    Raises ValueError for positions outside the room, an unknown method, or an RT60 that the room
    cannot have.
    J. Allen and D. Berkley, Image method for efficiently simulating small-room acoustics, JASA 65
    (1979).
    """
    room, sources, mics = (np.asarray(a, float) for a in (room_size_m, sources_m, mics_m))
    for name, points in (("source", sources), ("microphone", mics)):
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"expected {name} positions of shape (n, 3), found {points.shape}")
        if not np.all((points > 0) & (points < room)):
            raise ValueError(f"expected every {name} inside the room {room}, found {points}")
    absorption = solve_absorption(room, rt60_s)
    if method == "exact":
        rir = _exact(room, rt60_s, absorption, sources, mics, fs)
    elif method == "fast":
        rng = np.random.default_rng(0) if rng is None else rng
        rir = _fast(room, rt60_s, absorption, sources, mics, fs, rng)
    else:
        raise ValueError(f"expected a method of {', '.join(METHODS)}, found {method}")
    high_pass = signal.butter(2, _LOWEST_HZ, "high", fs=fs, output="sos")
    return signal.sosfilt(high_pass, rir).astype(np.float32)


def _exact(
    room: np.ndarray,
    rt60_s: float,
    absorption: float,
    sources: np.ndarray,
    mics: np.ndarray,
    fs: int,
) -> np.ndarray:
    import pyroomacoustics as pra  # takes a second to import, and "fast" does without it

    order = _max_order(room, rt60_s, absorption)
    # One process is one worker; and the library's high-pass would ring ahead of the direct path.
    with _constants(num_threads=1, c=SPEED_OF_SOUND, rir_hpf_enable=False):
        shoebox = pra.ShoeBox(room, fs=fs, materials=pra.Material(absorption), max_order=order)
        for source in sources:
            shoebox.add_source(source)
        shoebox.add_microphone_array(mics.T)
        shoebox.compute_rir()
    offset = pra.constants.get("frac_delay_length") // 2
    taps = round(1.1 * rt60_s * fs) + _direct_samples(sources, mics, fs)
    rir = np.zeros((len(sources), len(mics), taps), np.float32)
    for m, responses in enumerate(shoebox.rir):
        for s, response in enumerate(responses):
            kept = response[offset : offset + taps]
            rir[s, m, : len(kept)] = kept
    return rir


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


def _max_order(room: np.ndarray, rt60_s: float, absorption: float) -> int:
    """Reflections enough for every image before the RT60, or that still carries -60 dB."""
    by_time = SPEED_OF_SOUND * rt60_s * np.linalg.norm(1 / room)
    by_energy = 6 * np.log(10) / -np.log1p(-absorption)
    return int(np.ceil(min(by_time, by_energy)))


def _direct_samples(sources: np.ndarray, mics: np.ndarray, fs: int) -> int:
    """Samples that the longest direct path takes, rounded up."""
    farthest = np.linalg.norm(sources[:, None] - mics[None], axis=-1).max()
    return int(np.ceil(farthest / SPEED_OF_SOUND * fs)) + _HALF_FILTER


def _fast(
    room: np.ndarray,
    rt60_s: float,
    absorption: float,
    sources: np.ndarray,
    mics: np.ndarray,
    fs: int,
    rng: np.random.Generator,
) -> np.ndarray:
    direct = _direct_samples(sources, mics, fs)
    early_s = max(_EARLY_S, direct / fs + _AFTER_DIRECT_S)
    taps = round(max(rt60_s, early_s) * fs) + direct
    times_s = np.arange(taps) / fs
    # Power-complementary cross-fade: cos^2 + sin^2 = 1 keeps the expected energy.
    angle = np.clip((times_s - early_s + _FADE_S) / _FADE_S, 0, 1) * np.pi / 2
    coarse = np.arange(0, taps + 160, 160)
    log_energy = np.log(lattice_energy(room, absorption, coarse / fs) / fs)
    envelope = np.exp(np.interp(np.arange(taps), coarse, log_energy) / 2) * np.sin(angle)
    rir = diffuse_white_noise(mics, taps, rng, fs, len(sources)) * envelope.astype(np.float32)
    for s, source in enumerate(sources):
        rir[s] += _early(room, absorption, source, mics, early_s, taps, fs) * np.cos(angle)
    return rir


def _early(
    room: np.ndarray,
    absorption: float,
    source: np.ndarray,
    mics: np.ndarray,
    early_s: float,
    taps: int,
    fs: int,
) -> np.ndarray:
    """Images that arrive within `early_s`, (mics, taps), each a windowed sinc."""
    images, order = _images(room, source, mics.mean(axis=0), SPEED_OF_SOUND * early_s)
    # (1 - absorption)^(order / 2) is the amplitude left after `order` walls.
    gain = np.exp(0.5 * np.log1p(-absorption) * order)
    distance = np.linalg.norm(images[None] - mics[:, None], axis=-1)
    delay = distance * (fs / SPEED_OF_SOUND)
    return _add_delays(delay, gain / distance, taps)


def _images(
    room: np.ndarray, source: np.ndarray, centre: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (images, 3) and wall crossings (images,) of the images within `reach`.

    Along one side of length L a source at s has images at 2 n L + s after |2 n| crossings and at
    2 n L - s after |2 n - 1|; a room has every combination of the three sides.
    """
    square, along, crossings = [], [], []
    for length, s, c in zip(room, source, centre, strict=True):
        n = np.arange(-int(reach / (2 * length)) - 1, int(reach / (2 * length)) + 2)
        position = np.concatenate([2 * n * length + s, 2 * n * length - s])
        along.append(position)
        crossings.append(np.abs(np.concatenate([2 * n, 2 * n - 1])))
        square.append((position - c) ** 2)
    near = square[0][:, None, None] + square[1][:, None] + square[2] <= reach**2
    ix, iy, iz = np.nonzero(near)
    position = np.stack([along[0][ix], along[1][iy], along[2][iz]], axis=1)
    return position, crossings[0][ix] + crossings[1][iy] + crossings[2][iz]


def _add_delays(delay: np.ndarray, gain: np.ndarray, taps: int) -> np.ndarray:
    """Sum of impulses at fractional `delay` samples: both (mics, images) -> (mics, taps).

    sin(pi (k - f)) = -(-1)^k sin(pi f), and the Hann window splits by the cosine of a difference,
    so each filter costs a few products and no trigonometry per tap.
    """
    whole = np.round(delay).astype(np.int64)
    f = (delay - whole)[..., None]
    k = np.arange(-_HALF_FILTER, _HALF_FILTER + 1)
    width = np.pi / (_HALF_FILTER + 1)
    cosine = np.cos(width * k) * np.cos(width * f) + np.sin(width * k) * np.sin(width * f)
    offset = k - f
    offset[np.abs(offset) < 1e-9] = 1e-9
    sinc = np.where(k % 2, 1.0, -1.0) * np.sin(np.pi * f) / (np.pi * offset)
    sinc[np.abs(f[..., 0]) < 1e-9] = k == 0
    value = gain[..., None] * (0.5 + 0.5 * cosine) * sinc
    # Taps before 0 and after the end fall off; two guards of a filter's width catch them.
    n = taps + 4 * _HALF_FILTER
    place = np.minimum(whole[..., None] + k + 2 * _HALF_FILTER, n - 1)
    place += np.arange(len(delay))[:, None, None] * n
    out = np.bincount(place.ravel(), value.ravel(), minlength=n * len(delay)).reshape(len(delay), n)
    return out[:, 2 * _HALF_FILTER : 2 * _HALF_FILTER + taps]

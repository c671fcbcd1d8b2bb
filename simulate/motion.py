"""Sources that walk: trajectories, and convolution with responses that change on the way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import fft

from simulate.quantity import draw
from simulate.scene_config import MotionConfig

Waypoint = tuple[float, float, float, float]  # time in seconds, position in metres

_TRIES = 30
_CLEAR_M = 0.5  # nobody walks over the array
_ARC_STEP = np.radians(2.0)


def draw_path(
    config: MotionConfig,
    start_m: np.ndarray,
    origin_m: np.ndarray,
    low_m: np.ndarray,
    high_m: np.ndarray,
    duration_s: float,
    rng: np.random.Generator,
) -> list[Waypoint]:
    """A walk from start_m through the box low_m..high_m, clear of the array at origin_m.

    Positions (3,) in metres; the height does not change. line: to one place, and stay there; arc:
    about the array at the same distance, until a wall; waypoints: from place to place for as long
    as the clip lasts. With nowhere to go the talker stays.
    """
    kind = config.kind[int(rng.integers(len(config.kind)))]
    speed = max(0.0, draw(config.speed_m_s, rng))
    places = [np.asarray(start_m, float)]
    if kind == "arc":
        places += _arc(places[0], origin_m, low_m, high_m, speed * duration_s, rng)
    else:
        length = 0.0
        while length < speed * duration_s and (kind == "waypoints" or len(places) == 1):
            target = _target(places[-1], origin_m, low_m, high_m, rng)
            if target is None:
                break
            length += float(np.linalg.norm(target - places[-1]))
            places.append(target)
    lengths = [float(np.linalg.norm(b - a)) for a, b in pairwise(places)]
    times = np.cumsum([0.0, *lengths]) / max(speed, 1e-9)
    if speed == 0:
        places, times = places[:1], times[:1]
    points = np.column_stack([times, places]).round(6).tolist()
    return [(t, x, y, z) for t, x, y, z in points]


def _target(
    start: np.ndarray,
    origin: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """A place whose way from `start` is a step at least and passes the array at a distance."""
    for _ in range(_TRIES):
        target = np.append(rng.uniform(low[:2], high[:2]), start[2])
        way = target - start
        nearest = np.clip((origin - start)[:2] @ way[:2] / max(way @ way, 1e-12), 0, 1)
        passes = np.linalg.norm((start + nearest * way - origin)[:2])
        clear = min(_CLEAR_M, 0.9 * float(np.linalg.norm((start - origin)[:2])))
        if np.linalg.norm(way) > 0.3 and passes >= clear:
            return target
    return None


def _arc(
    start: np.ndarray,
    origin: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    length: float,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Places on a circle about the array, two degrees apart."""
    away = (start - origin)[:2]
    radius = max(float(np.linalg.norm(away)), 1e-6)
    angle, side = np.arctan2(away[1], away[0]), rng.choice([-1.0, 1.0])
    places: list[np.ndarray] = []
    for turn in np.arange(1, int(min(length / radius, 2 * np.pi) / _ARC_STEP) + 2) * _ARC_STEP:
        direction = angle + side * turn
        xy = origin[:2] + radius * np.array([np.cos(direction), np.sin(direction)])
        if np.any(xy < low[:2]) or np.any(xy > high[:2]):
            break
        places.append(np.append(xy, start[2]))
    return places


def stations(
    path: list[Waypoint], n_samples: int, fs: int, step_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where responses are needed, and how far along each sample is.

    -> positions (n, 3), at most `step_m` apart along the walk, and progress (samples,) in
    0..n - 1, which never falls: at progress 2.3 the talker is three tenths of the way from
    position 2 to position 3. One who stays has one position.
    """
    t, places = np.array(path)[:, 0], np.array(path)[:, 1:]
    lengths = np.linalg.norm(np.diff(places, axis=0), axis=1)
    walked = np.concatenate([[0.0], np.cumsum(lengths)])
    progress_m = np.interp(np.arange(n_samples) / fs, t, walked)
    last_m = float(progress_m[-1])
    n = 1 + int(np.ceil(last_m / step_m))
    at = np.linspace(0.0, last_m, n)
    positions = np.stack([np.interp(at, walked, places[:, axis]) for axis in range(3)], axis=1)
    return positions, progress_m * ((n - 1) / max(last_m, 1e-12))


def headings(positions: np.ndarray) -> list[tuple[float, float, float]]:
    """Horizontal unit vectors along a walk past two or more positions (n, 3), one at each."""
    way = np.gradient(positions[:, :2], axis=0)
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)
    return [(x, y, 0.0) for x, y in way.tolist()]


def convolve_moving(x: np.ndarray, rir: np.ndarray, progress: np.ndarray) -> np.ndarray:
    """What microphones hear of a source that moves past stations: (mics, samples) float64.

    x (samples,); rir (stations, mics, taps); progress (samples,) as from `stations`. Sound that
    leaves between two stations is shared by both in proportion to the way, so the shares add up to
    1 at every sample: nothing clicks, and equal responses give the plain convolution.
    """
    n_samples = len(x)
    out = np.zeros((rir.shape[1], n_samples))
    for station, h in enumerate(rir):
        # Progress never falls, so the samples that share in a station are consecutive.
        begin = int(np.searchsorted(progress, station - 1, "right")) if station else 0
        end = int(np.searchsorted(progress, station + 1, "left"))
        if begin == end:
            continue
        share = np.maximum(0.0, 1 - np.abs(progress[begin:end] - station))
        part = _full_convolution(x[begin:end] * share, h)[:, : n_samples - begin]
        out[:, begin : begin + part.shape[-1]] += part
    return out


def _full_convolution(x: np.ndarray, h: np.ndarray) -> np.ndarray:
    n = len(x) + h.shape[-1] - 1
    n_fft = fft.next_fast_len(n, real=True)
    X, H = fft.rfft(x.astype(np.float32), n_fft), fft.rfft(h.astype(np.float32), n_fft)
    return fft.irfft(X * H, n_fft)[..., :n].astype(float)

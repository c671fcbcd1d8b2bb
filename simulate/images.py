"""Image sources of a shoebox room: where they are, and the responses that they make."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulate.decay import SPEED_OF_SOUND
from simulate.directivity import FirstOrder
from simulate.walls import Walls

HALF_FILTER = 40  # a delay's windowed sinc reaches so many samples to either side


class Images(NamedTuple):
    """Images of one source: position, crossings of each wall, and mirror.

    position_m and mirror (images, 3), crossings (images, 6), the two walls across x first; mirror
    is -1 along the axes in which an image faces the other way.
    """

    position_m: np.ndarray
    crossings: np.ndarray
    mirror: np.ndarray


def images_within(room: np.ndarray, source: np.ndarray, centre: np.ndarray, reach: float) -> Images:
    """The images within `reach` metres of `centre`.

    Along one side of length L a source at s has images at 2 n L + s, after |n| crossings of either
    wall, and at 2 n L - s, facing the other way, after |n - 1| of the wall at 0 and |n| of that at
    L; a room has every combination of three sides.
    """
    square, along, crossings, mirror = [], [], [], []
    for length, s, c in zip(room, source, centre, strict=True):
        n = np.arange(-int(reach / (2 * length)) - 1, int(reach / (2 * length)) + 2)
        position = np.concatenate([2 * n * length + s, 2 * n * length - s])
        along.append(position)
        both = np.abs(np.stack([n, n], axis=1))
        crossings.append(np.concatenate([both, np.abs(np.stack([n - 1, n], axis=1))]))
        mirror.append(np.repeat([1.0, -1.0], len(n)))
        square.append((position - c) ** 2)
    near = square[0][:, None, None] + square[1][:, None] + square[2] <= reach**2
    ix, iy, iz = np.nonzero(near)
    return Images(
        np.stack([along[0][ix], along[1][iy], along[2][iz]], axis=1),
        np.concatenate([crossings[0][ix], crossings[1][iy], crossings[2][iz]], axis=1),
        np.stack([mirror[0][ix], mirror[1][iy], mirror[2][iz]], axis=1),
    )


def image_response(
    images: Images,
    walls: Walls,
    mics: np.ndarray,
    taps: int,
    fs: int,
    mouth: FirstOrder | None = None,
    capsules: FirstOrder | None = None,
) -> np.ndarray:
    """Sum of the images at every microphone, (bands, mics, taps), each a windowed sinc.

    mouth: directivity of the source (one pattern); capsules: of the microphones. None is
    omnidirectional.
    """
    away = images.position_m[None] - mics[:, None]
    distance = np.linalg.norm(away, axis=-1)
    # Half of the energy's logarithm is that of the amplitude.
    log_gain = 0.5 * (walls.log_kept @ images.crossings.T)[:, None]
    log_gain = log_gain - 0.5 * walls.per_metre[:, None, None] * distance
    amplitude = np.exp(log_gain) / distance
    if mouth is not None or capsules is not None:
        towards = away / distance[..., None]
        if capsules is not None:
            amplitude = amplitude * capsules.gain(towards)
        if mouth is not None:
            # What leaves an image towards a microphone left the source mirrored.
            amplitude = amplitude * mouth.gain((-towards * images.mirror)[None])[0]
    return add_delays(distance * (fs / SPEED_OF_SOUND), amplitude, taps)


def add_delays(delay: np.ndarray, gain: np.ndarray, taps: int) -> np.ndarray:
    """Sum of impulses at fractional `delay` samples (mics, images): (..., mics, taps).

    gain (..., mics, images).
    sin(pi (k - f)) = -(-1)^k sin(pi f), and the Hann window splits by the cosine of a difference,
    so each filter costs a few products and no trigonometry per tap.
    """
    whole = np.round(delay).astype(np.int64)
    f = (delay - whole)[..., None]
    k = np.arange(-HALF_FILTER, HALF_FILTER + 1)
    width = np.pi / (HALF_FILTER + 1)
    cosine = np.cos(width * k) * np.cos(width * f) + np.sin(width * k) * np.sin(width * f)
    offset = k - f
    offset[np.abs(offset) < 1e-9] = 1e-9
    sinc = np.where(k % 2, 1.0, -1.0) * np.sin(np.pi * f) / (np.pi * offset)
    sinc[np.abs(f[..., 0]) < 1e-9] = k == 0
    value = (0.5 + 0.5 * cosine) * sinc
    # Taps before 0 and after the end fall off; two guards of a filter's width catch them.
    n = taps + 4 * HALF_FILTER
    place = np.minimum(whole[..., None] + k + 2 * HALF_FILTER, n - 1)
    place += np.arange(len(delay))[:, None, None] * n
    bands = gain.reshape(-1, *delay.shape, 1)
    out = np.stack([np.bincount(place.ravel(), (g * value).ravel(), n * len(delay)) for g in bands])
    out = out.reshape(*gain.shape[:-1], n)
    return out[..., 2 * HALF_FILTER : 2 * HALF_FILTER + taps]

"""Responses of exact early images and a late tail that has the right energy in every band.

Late sound is dense: only its energy over time, its spectrum and its coherence between microphones
can be heard. So it is Gaussian noise with the coherence of a diffuse field, which is given the
energy that the lattice of images has in the mean over a room (`fast_responses`), or that rays bring
to the place of the array (`traced_responses`).
"""

from __future__ import annotations

import numpy as np

from simulate.bands import join_bands, split_bands
from simulate.decay import SPEED_OF_SOUND, lattice_energy
from simulate.images import Images, image_response, images_within
from simulate.noise import diffuse_white_noise
from simulate.shoebox import Shoebox
from simulate.walls import Walls

_EARLY_S = 0.06  # images are exact until here, or so long after a far direct path: ...
_AFTER_DIRECT_S = 0.03
_FADE_S = 0.02  # ... before that time they hand over to the statistical tail
_STEP = 160  # samples between which energies are interpolated


def fast_responses(room: Shoebox, rng: np.random.Generator, tails: np.ndarray) -> np.ndarray:
    """Exact images for the first 60 ms, then a tail as the lattice has it; (sources, mics, taps).

    tails (sources,): which tail each source has; those of one number share it.
    """
    early_s = max(_EARLY_S, room.last_direct() / room.fs + _AFTER_DIRECT_S)
    taps = round(max(room.rt60_s(), early_s) * room.fs) + room.last_direct()
    times_s = np.arange(taps) / room.fs
    # Power-complementary cross-fade: cos^2 + sin^2 = 1 keeps the expected energy.
    angle = np.clip((times_s - early_s + _FADE_S) / _FADE_S, 0, 1) * np.pi / 2
    coarse_s = np.arange(0, taps + _STEP, _STEP) / room.fs
    decays = [
        lattice_energy(room.size, log_kept, coarse_s, per_metre)
        for log_kept, per_metre in zip(room.walls.log_kept, room.walls.per_metre, strict=True)
    ]
    level = np.stack([np.interp(times_s, coarse_s, np.log(np.maximum(e, 1e-300))) for e in decays])
    envelope = np.exp(level / 2) * (np.sin(angle) / np.sqrt(room.fs))
    rir = _late(room, np.broadcast_to(envelope, (int(np.max(tails)) + 1, *envelope.shape)), rng)
    rir = rir[tails] * _mouth_levels(room)
    for s, images in enumerate(_images(room, SPEED_OF_SOUND * early_s)):
        rir[s] += _early(room, room.walls, s, images, taps) * np.cos(angle)
    return rir


def traced_responses(
    room: Shoebox,
    order: int,
    energy: np.ndarray,
    bin_s: float,
    rng: np.random.Generator,
    tails: np.ndarray,
) -> np.ndarray:
    """Exact images of up to `order` reflections, then what rays bring; (sources, mics, taps).

    energy (tails, bands, bins): what rays of more reflections, or scattered ones, bring to the
    array in every bin of bin_s seconds.
    """
    taps = round(energy.shape[-1] * bin_s * room.fs)
    times_s = np.arange(taps) / room.fs
    middle_s = (np.arange(energy.shape[-1]) + 0.5) * bin_s
    energy = energy * np.exp(-room.walls.per_metre[:, None] * SPEED_OF_SOUND * middle_s)
    per_sample = energy / (bin_s * room.fs)
    envelope = np.sqrt([[np.interp(times_s, middle_s, e) for e in bands] for bands in per_sample])
    rir = _late(room, envelope, rng)[tails] * _mouth_levels(room)
    # A scattered share leaves the mirror's way, and is among the rays.
    kept = np.exp(room.walls.log_kept) * (1 - room.walls.scattering)
    mirrors = Walls(1 - kept, room.walls.per_metre)
    reach = (order + 2) * float(np.linalg.norm(room.size))
    for s, images in enumerate(_images(room, reach)):
        few = images.crossings.sum(axis=1) <= order
        chosen = Images(*(part[few] for part in images))
        rir[s] += _early(room, mirrors, s, chosen, taps)
    return rir


def _late(room: Shoebox, envelope: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Diffuse noise (tails, mics, taps) of the amplitudes (tails, bands, taps) in each band."""
    n_tails, n_bands, taps = envelope.shape
    noise = diffuse_white_noise(room.mics, taps, rng, room.fs, n_tails, room.capsules)
    amplitude = envelope.astype(np.float32)[:, :, None]
    if n_bands == 1:
        return noise * amplitude[:, 0]
    late = np.zeros_like(noise)
    for band, part in enumerate(split_bands(noise, room.fs)):
        late += part * amplitude[:, band]
    return late


def _mouth_levels(room: Shoebox) -> np.ndarray:
    """Amplitudes (sources, 1, 1) of late sound, which left the mouth in every direction."""
    power = np.ones(len(room.sources)) if room.mouths is None else room.mouths.diffuse_power()
    return np.sqrt(power).astype(np.float32)[:, None, None]


def _images(room: Shoebox, reach: float) -> list[Images]:
    centre = room.mics.mean(axis=0)
    return [images_within(room.size, source, centre, reach) for source in room.sources]


def _early(room: Shoebox, walls: Walls, source: int, images: Images, taps: int) -> np.ndarray:
    bands = image_response(
        images, walls, room.mics, taps, room.fs, room.mouth(source), room.capsules
    )
    return join_bands(bands, room.fs)

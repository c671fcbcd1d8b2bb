"""What an array of microphones can do, before anything is recorded with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clearbeam.plots import (
    check_picture,
    draw_beam_pattern,
    draw_curves,
    draw_geometry,
    save,
    title,
)
from multichannel.pattern import beam_pattern, directivity_index, white_noise_gain
from multichannel.steered import delay_and_sum, superdirective
from multichannel.steering import SPEED_OF_SOUND, diffuse_covariance, steering_vector
from simulate import ArrayGeometry

PATTERN_HZ = (500.0, 1000.0, 2000.0, 4000.0)
AZIMUTHS_DEG = np.linspace(0.0, 360.0, 361)
FREQS_HZ = np.geomspace(100.0, 8000.0, 121)

Curves = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Abilities:
    """What two fixed beams of an array do towards one direction.

    directivity_db and noise_gain_db: by beam, (freqs,) at `freqs_hz`: the gain over sound from
    everywhere, and over the microphones' own noise. pattern_db: by frequency, (azimuths,) at
    `AZIMUTHS_DEG`, of the superdirective beam, in the horizontal plane.
    """

    freqs_hz: NDArray[np.float64]
    directivity_db: Curves
    noise_gain_db: Curves
    pattern_db: Curves


def abilities(
    array: ArrayGeometry, look_azimuth_deg: float, freqs_hz: NDArray[np.float64] = FREQS_HZ
) -> Abilities:
    """Compute what `array` can do for a far talker at `look_azimuth_deg` and elevation 0."""
    positions = torch.from_numpy(array.as_array())
    freqs = torch.from_numpy(np.asarray(freqs_hz, float))
    look = steering_vector(positions, freqs, look_azimuth_deg)
    diffuse = diffuse_covariance(positions, freqs)
    beams = {"delay-and-sum": delay_and_sum(look), "superdirective": superdirective(diffuse, look)}
    return Abilities(
        np.asarray(freqs_hz, float),
        {name: directivity_index(w, look, diffuse).numpy() for name, w in beams.items()},
        {name: white_noise_gain(w, look).numpy() for name, w in beams.items()},
        _patterns(positions, look_azimuth_deg),
    )


def _patterns(positions_m: torch.Tensor, look_azimuth_deg: float) -> Curves:
    freqs = torch.tensor(PATTERN_HZ)
    look = steering_vector(positions_m, freqs, look_azimuth_deg)
    around = steering_vector(positions_m, freqs, torch.from_numpy(AZIMUTHS_DEG))
    w = superdirective(diffuse_covariance(positions_m, freqs), look)
    gains = beam_pattern(w, around).numpy().astype(float).T
    return {
        f"{freq:g} Hz": 20 * np.log10(gain + 1e-6)
        for freq, gain in zip(PATTERN_HZ, gains, strict=True)
    }


def aliasing_hz(array: ArrayGeometry) -> float:
    """Return where directions begin to be confused: half a wavelength fits the closest pair.

    Infinite for one microphone.
    """
    p = array.as_array()
    distance = np.linalg.norm(p[:, None] - p[None], axis=-1)
    closest = np.min(distance[distance > 0], initial=np.inf)
    return float("inf") if np.isinf(closest) else SPEED_OF_SOUND / (2 * closest)


def plot_array(path: Path, array: ArrayGeometry, look_azimuth_deg: float) -> None:
    """Draw geometry, beam pattern, directivity index and white-noise gain over frequency.

    Raises ValueError for a name that is no picture or cannot be written.
    """
    check_picture(path)
    found = abilities(array, look_azimuth_deg)
    figure = Figure(figsize=(11, 9), layout="constrained")
    figure.suptitle(f"{array.name}: {array.description}" if array.description else array.name)
    geometry = figure.add_subplot(2, 2, 1)
    draw_geometry(geometry, array.as_array())
    title(geometry, "microphones from above")
    pattern = figure.add_subplot(2, 2, 2, projection="polar")
    draw_beam_pattern(pattern, AZIMUTHS_DEG, found.pattern_db)
    title(pattern, f"superdirective beam towards {look_azimuth_deg:g}° (dB)")
    for place, name, curves in (
        (3, "directivity index", found.directivity_db),
        (4, "white-noise gain", found.noise_gain_db),
    ):
        axis = figure.add_subplot(2, 2, place)
        draw_curves(axis, found.freqs_hz, curves)
        title(axis, f"{name} towards {look_azimuth_deg:g}°")
    save(figure, path)

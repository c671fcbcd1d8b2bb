"""What the walls and the air of a shoebox room take from sound, band by band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simulate.bands import centres_hz
from simulate.decay import SPEED_OF_SOUND, lattice_rt60, reverberation_time, solve_absorption

_MOST_IMAGES = 2e7  # of one source; their places alone take half a gigabyte
WALLS = ("west", "east", "south", "north", "floor", "ceiling")
_MID_HZ = (500.0, 1000.0)  # ISO 3382 gives the mean of these two octaves for a single number
_MOST = 0.9999  # of the energy; a wall that takes all of it has no logarithm
# Nepers of energy per metre of air at 20 degrees and 40% humidity, octaves of 125 Hz to 16 kHz, as
# in ISO 9613-1.
_AIR = 1e-3 * np.array([0.1, 0.3, 0.6, 1.0, 1.9, 5.8, 20.3, 60.0])


class Walls(NamedTuple):
    """What a room takes from sound; one band for all frequencies, or those of `centres_hz`.

    absorption (bands, 6): share of the energy that each of WALLS takes, which stand at x = 0, at
    x = length, at y = 0 and so on; per_metre (bands,): nepers of energy that a metre of air takes;
    scattering: share of what a wall gives back that leaves it in any direction.
    """

    absorption: np.ndarray
    per_metre: np.ndarray
    scattering: float = 0.0

    @property
    def log_kept(self) -> np.ndarray:
        """Natural logarithm (bands, 6) of the share of the energy that a wall gives back."""
        return np.log1p(-self.absorption)

    def rt60_s(self, room_size_m: np.ndarray) -> np.ndarray:
        """Expected RT60 of each band (bands,), where the walls are mirrors."""
        if not self.are_unequal():
            return self._of_equal_walls(room_size_m)
        bands = zip(self.log_kept, self.per_metre, strict=True)
        return np.array([lattice_rt60(room_size_m, kept, m) for kept, m in bands])

    def mid_rt60_s(self, room_size_m: np.ndarray) -> float:
        """Expected RT60 of the octaves at 500 and 1000 Hz, the mean of the two."""
        mid = np.isin(centres_hz(2**20)[: len(self.absorption)], _MID_HZ)
        return float(self._only(mid if mid.any() else slice(1)).rt60_s(room_size_m).mean())

    def longest_rt60_s(self, room_size_m: np.ndarray) -> float:
        """Expected RT60 of the band that decays last."""
        if not self.are_unequal():
            return float(self._of_equal_walls(room_size_m).max())
        last = int(np.argmax(self._of_equal_walls(room_size_m)))
        return lattice_rt60(room_size_m, self.log_kept[last], self.per_metre[last])

    def are_unequal(self) -> bool:
        """Whether the walls of some band differ."""
        return bool(np.any(self.absorption != self.absorption[:, :1]))

    def _of_equal_walls(self, room_size_m: np.ndarray) -> np.ndarray:
        """RT60 (bands,) by the formula that `solve_absorption` inverts; else only the order of
        bands."""
        exponents = -self.log_kept.reshape(-1, 3, 2).mean(axis=-1)
        bands = zip(exponents, self.per_metre, strict=True)
        return np.array([reverberation_time(room_size_m, a, m) for a, m in bands])

    def _only(self, bands: slice | np.ndarray) -> Walls:
        return Walls(self.absorption[bands], self.per_metre[bands], self.scattering)

    def image_order(self, room_size_m: np.ndarray) -> int:
        """Reflections enough for every image before the RT60, or that still carries -60 dB.

        Raises ValueError when so many images do not fit into memory.
        """
        rt60_s = self.longest_rt60_s(room_size_m)
        by_time = SPEED_OF_SOUND * rt60_s * np.linalg.norm(1 / np.asarray(room_size_m))
        by_energy = 6 * np.log(10) / -self.log_kept.max()
        order = int(np.ceil(min(by_time, by_energy)))
        if 4 / 3 * order**3 > _MOST_IMAGES:
            raise ValueError(
                f"expected a decay for method exact with at most {_MOST_IMAGES:.0e} images, found "
                f"one of {rt60_s:.2g} s with {4 / 3 * order**3:.0e}: fast, hybrid and ray can do it"
            )
        return order


def walls_for_rt60(
    room_size_m: np.ndarray, rt60_s: float, fs: int, air: bool = False, scattering: float = 0.0
) -> Walls:
    """Walls all alike that give the room its RT60, to which air adds: it takes the high bands."""
    absorption = solve_absorption(room_size_m, rt60_s)
    per_metre = _air(fs) if air else np.zeros(1)
    return Walls(np.full((len(per_metre), 6), absorption), per_metre, scattering)


def walls_of(
    materials: Sequence[np.ndarray], fs: int, air: bool = False, scattering: float = 0.0
) -> Walls:
    """Walls of given absorption, (bands,) from 125 Hz for each of WALLS; what lies beyond the last
    band of a material is as that."""
    bands = np.arange(len(centres_hz(fs)))
    absorption = np.stack([m[np.minimum(bands, len(m) - 1)] for m in materials], axis=1)
    per_metre = _air(fs) if air else np.zeros(len(bands))
    return Walls(np.clip(absorption, 0, _MOST), per_metre, scattering)


def _air(fs: int) -> np.ndarray:
    n_bands = len(centres_hz(fs))
    return _AIR[np.minimum(np.arange(n_bands), len(_AIR) - 1)]

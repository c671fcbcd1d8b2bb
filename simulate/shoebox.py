"""A shoebox room with everything that its responses depend on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulate.decay import SPEED_OF_SOUND
from simulate.directivity import FirstOrder
from simulate.images import HALF_FILTER
from simulate.walls import Walls


class Shoebox(NamedTuple):
    """Size (3,), sources (sources, 3) and mics (mics, 3) in metres; walls; the sample rate.

    mouths, capsules: directivity of the sources and of the microphones, None for omnidirectional.
    """

    size: np.ndarray
    walls: Walls
    sources: np.ndarray
    mics: np.ndarray
    fs: int
    mouths: FirstOrder | None = None
    capsules: FirstOrder | None = None

    def mouth(self, source: int) -> FirstOrder | None:
        """Directivity of one source."""
        return None if self.mouths is None else self.mouths.only(source)

    def rt60_s(self) -> float:
        """Expected RT60 of the band that decays last."""
        return self.walls.longest_rt60_s(self.size)

    def direct_samples(self) -> np.ndarray:
        """Samples that the direct paths take, (sources, mics)."""
        distance = np.linalg.norm(self.sources[:, None] - self.mics[None], axis=-1)
        return distance * (self.fs / SPEED_OF_SOUND)

    def last_direct(self) -> int:
        """Samples until the longest direct path is over."""
        return int(np.ceil(self.direct_samples().max())) + HALF_FILTER

"""How a mouth sends its sound: mostly ahead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulate.directivity import FirstOrder

# The broadband level of speech behind the head is some 8 dB below that in front; a subcardioid
# 0.7 + 0.3 cos has 0.4 there.
_MOUTH_SHARE = 0.7

Direction = tuple[float, float, float]


def facing(position_m: np.ndarray, target_m: np.ndarray, angle_deg: float) -> Direction:
    """Horizontal unit vector from a mouth to a target, turned by angle_deg about the vertical."""
    away = np.asarray(target_m, float) - np.asarray(position_m, float)
    azimuth = np.arctan2(away[1], away[0]) + np.radians(angle_deg)
    return round(float(np.cos(azimuth)), 6), round(float(np.sin(azimuth)), 6), 0.0


def mouths(facings: Sequence[Direction | None]) -> FirstOrder | None:
    """Directivity of sources, a mouth where one faces somewhere, omnidirectional where None."""
    if all(direction is None for direction in facings):
        return None
    shares = np.array([1.0 if d is None else _MOUTH_SHARE for d in facings])
    return FirstOrder.facing(shares, np.array([d or (1.0, 0.0, 0.0) for d in facings]))

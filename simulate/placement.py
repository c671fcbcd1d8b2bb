"""Where things stand in a room: arrays, talkers and other sources, clear of walls and of each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulate.arrays import ArrayGeometry
from simulate.quantity import draw

_TRIES = 30
_SOURCE_WALL_M = 0.2
_SOURCE_CLEAR_M = 0.7


class NoSpace(Exception):
    """What was drawn does not fit in the room that was drawn."""


def place_array(
    array: ArrayGeometry, size: np.ndarray, config: Any, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Microphones in the room (mics, 3), the array's origin (3,), and its turn about the vertical in degrees.

    Every microphone is clear of the walls.
    """
    turn_deg = float(rng.uniform(-180, 180)) if config.rotate else 0.0
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    mics = array.as_array() @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    margin = np.array([config.min_wall_m, config.min_wall_m, 0.0])
    low, high = margin - np.minimum(0, mics.min(0)), size - margin - np.maximum(0, mics.max(0))
    if np.any(low >= high):
        raise NoSpace(f"an array of {array.aperture_m():.2f} m in a room of {_words(size)}")
    centre = rng.uniform(low, high)
    centre[2] = np.clip(draw(config.height_m, rng), low[2] + 0.02, high[2] - 0.02)
    return mics + centre, centre, turn_deg


def place_talker(
    config: Any,
    size: np.ndarray,
    centre: np.ndarray,
    placed: list[np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """A mouth at a drawn distance from the array's centre and apart from the talkers `placed` before.

    The distance is kept exactly where the room allows; direction and height give way first.
    """
    for _ in range(_TRIES):
        distance = draw(config.distance_m, rng)
        rise = np.clip(draw(config.height_m, rng) - centre[2], -0.8 * distance, 0.8 * distance)
        azimuth = rng.uniform(0, 2 * np.pi)
        flat = np.sqrt(distance**2 - rise**2)
        position = centre + [flat * np.cos(azimuth), flat * np.sin(azimuth), rise]
        clear = np.all((position > config.min_wall_m) & (position < size - config.min_wall_m))
        if clear and all(
            _angle_deg(position - centre, other - centre) >= config.min_angle_deg for other in placed
        ):
            return position
    raise NoSpace(f"no place for a talker at {distance:.2f} m in a room of {_words(size)}")


def place_source(size: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Anywhere in the room but at the walls or right at the array."""
    for _ in range(_TRIES):
        position = rng.uniform(_SOURCE_WALL_M, size - _SOURCE_WALL_M)
        if np.linalg.norm(position - centre) >= _SOURCE_CLEAR_M:
            return position
    # A room that small has its far corner farthest away.
    return np.where(centre > size / 2, _SOURCE_WALL_M, size - _SOURCE_WALL_M)


def _angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _words(size: np.ndarray) -> str:
    return " x ".join(f"{side:.1f}" for side in size) + " m"

"""Where things stand in a room: arrays, talkers and other sources, clear of the walls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulate.arrays import ArrayGeometry, load_array, random_array
from simulate.materials import room_walls
from simulate.quantity import draw
from simulate.scene_config import ArrayConfig, SceneConfig, TalkerConfig

_TRIES = 30
SOURCE_WALL_M = 0.2
_SOURCE_CLEAR_M = 0.7


class NoSpaceError(Exception):
    """What was drawn does not fit in the room that was drawn."""


class Place(NamedTuple):
    """A room with its array and talkers; metres, in the room's axes."""

    room_size_m: np.ndarray  # (3,)
    rt60_s: float
    array: ArrayGeometry
    mics_m: np.ndarray  # (mics, 3)
    origin_m: np.ndarray  # (3,), of the array
    rotation_deg: float  # of the array about the vertical
    talkers_m: list[np.ndarray]  # of (3,)
    materials: dict[str, str] | None  # by wall; None where the RT60 says it all
    scattering: float


def draw_place(config: SceneConfig, rng: np.random.Generator) -> Place:
    """One room with everything in it; NoSpaceError when what was drawn does not fit together."""
    room = config.room
    size = np.array([draw(q, rng) for q in (room.length_m, room.width_m, room.height_m)])
    rt60_s = 0.0 if room.rt60_s is None else draw(room.rt60_s, rng)
    materials = None if room.materials is None else room.materials.draw(rng)
    scattering = draw(room.scattering, rng)
    try:
        walls = room_walls(size, config.fs, rt60_s, materials, room.air_absorption, scattering)
        if config.method == "exact":
            walls.image_order(size)
    except ValueError as error:
        raise NoSpaceError(str(error)) from None
    if materials is not None:
        rt60_s = round(walls.mid_rt60_s(size), 4)
    array = _draw_array(config.array, rng)
    mics, origin, rotation_deg = place_array(array, size, config.array, rng)
    talkers: list[np.ndarray] = []
    for _ in range(max(1, round(draw(config.talkers.count, rng)))):
        talkers.append(place_talker(config.talkers, size, origin, talkers, rng))
    return Place(size, rt60_s, array, mics, origin, rotation_deg, talkers, materials, scattering)


def place_array(
    array: ArrayGeometry, size: np.ndarray, config: ArrayConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Microphones in the room (mics, 3), the array's origin (3,), and its turn in degrees.

    Every microphone is clear of the walls.
    """
    rotation_deg = float(rng.uniform(-180, 180)) if config.rotate else 0.0
    cos, sin = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    mics = array.as_array() @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    # The height is a quantity of its own, so floor and ceiling only have to be missed.
    margin = np.array([config.min_wall_m, config.min_wall_m, 0.02])
    low, high = margin - np.minimum(0, mics.min(0)), size - margin - np.maximum(0, mics.max(0))
    if np.any(low >= high):
        raise NoSpaceError(f"an array of {array.aperture_m():.2f} m in a room of {_words(size)}")
    origin = rng.uniform(low, high)
    origin[2] = np.clip(draw(config.height_m, rng), low[2], high[2])
    return mics + origin, origin, rotation_deg


def place_talker(
    config: TalkerConfig,
    size: np.ndarray,
    origin: np.ndarray,
    placed: list[np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """A mouth at a drawn distance from the array and apart from the talkers `placed` before.

    The distance is exact; a height that it cannot reach gives way.
    """
    for _ in range(_TRIES):
        distance = draw(config.distance_m, rng)
        rise = np.clip(draw(config.height_m, rng) - origin[2], -0.8 * distance, 0.8 * distance)
        azimuth = rng.uniform(0, 2 * np.pi)
        flat = np.sqrt(distance**2 - rise**2)
        position = origin + np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), rise])
        clear = np.all((position > config.min_wall_m) & (position < size - config.min_wall_m))
        apart = [_angle_deg(position - origin, other - origin) for other in placed]
        if clear and all(angle >= config.min_angle_deg for angle in apart):
            return position
    raise NoSpaceError(f"no place for a talker at {distance:.2f} m in a room of {_words(size)}")


def place_source(size: np.ndarray, origin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Anywhere in the room but at the walls or right at the array."""
    for _ in range(_TRIES):
        position = rng.uniform(SOURCE_WALL_M, size - SOURCE_WALL_M)
        if np.linalg.norm(position - origin) >= _SOURCE_CLEAR_M:
            return position
    # In a room that small the corner across is the farthest place.
    return np.where(origin > size / 2, SOURCE_WALL_M, size - SOURCE_WALL_M)


def _draw_array(config: ArrayConfig, rng: np.random.Generator) -> ArrayGeometry:
    if config.random is None:
        return load_array(config.names[rng.integers(len(config.names))])
    kind = config.random.kinds[rng.integers(len(config.random.kinds))]
    n_mics = max(1, round(draw(config.random.mics, rng)))
    return random_array(kind, n_mics, draw(config.random.aperture_m, rng), rng)


def _angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _words(size: np.ndarray) -> str:
    return " x ".join(f"{side:.1f}" for side in size) + " m"

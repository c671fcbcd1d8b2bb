"""A scene: one concrete draw from a config, with everything that rendering needs."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from simulate.arrays import ArrayGeometry, load_array
from simulate.config import Frozen
from simulate.measured import Response, draw_room, list_responses, response_rt60
from simulate.mics import Mic, draw_mics
from simulate.motion import draw_path
from simulate.placement import SOURCE_WALL_M, NoSpaceError, Place, draw_place
from simulate.quantity import draw
from simulate.scene_config import (
    MeasuredConfig,
    Method,
    MicConfig,
    MotionConfig,
    SceneConfig,
)
from simulate.sources import Source, draw_noises, draw_talkers, triple
from simulate.voice import facing

_ATTEMPTS = 200
_MAX_DIFFUSE = 12  # measured places that together make a diffuse field


class Scene(Frozen):
    """One concrete draw: everything that `render` needs, and nothing random left but its seed.

    rt60_s: the RT60 asked for; of a room of materials (by wall) that expected at 500 and 1000 Hz;
    of a measured room what was measured.
    """

    seed: int
    index: int
    room_size_m: tuple[float, float, float]
    rt60_s: float
    array: ArrayGeometry
    origin_m: tuple[float, float, float]
    rotation_deg: float
    mics_m: list[tuple[float, float, float]]
    talkers: list[Source]
    noises: list[Source]
    snr_db: float
    level_dbfs: float
    n_samples: int
    fs: int
    early_ms: float
    method: Method
    mics: list[Mic] | None = None
    self_noise_db: float | None = None
    snr_counts_mics: bool = False
    step_m: float = 0.01
    materials: dict[str, str] | None = None
    air_absorption: bool = False
    scattering: float = 0.0

    def rng(self) -> np.random.Generator:
        """Generator for what rendering leaves to chance (noise phases, late tails)."""
        return np.random.default_rng([self.seed, self.index, 1])


def sample_scene(config: SceneConfig, seed: int, index: int) -> Scene:
    """Draw the scene number `index` of the data set `seed`.

    The same (config, seed, index) gives the same scene on any worker.
    Raises ValueError when distances or RT60 do not fit the rooms, or a corpus is empty.
    """
    rng = np.random.default_rng([seed, index])
    place = _draw_place(config, rng)
    n_samples = round(draw(config.duration_s, rng) * config.fs)
    duration_s = n_samples / config.fs
    scene = Scene(
        seed=seed,
        index=index,
        room_size_m=triple(place.room_size_m),
        rt60_s=place.rt60_s,
        array=place.array,
        origin_m=triple(place.origin_m),
        rotation_deg=round(place.rotation_deg, 4),
        mics_m=[triple(mic) for mic in place.mics_m],
        talkers=draw_talkers(config, place.talkers_m, duration_s, rng),
        noises=draw_noises(config, place, duration_s, rng),
        snr_db=draw(config.snr_db, rng),
        level_dbfs=draw(config.level_dbfs, rng),
        n_samples=n_samples,
        fs=config.fs,
        early_ms=config.early_ms,
        method=config.method,
        materials=place.materials,
        air_absorption=config.room.air_absorption,
        scattering=place.scattering,
    )
    # What is drawn from here on leaves scenes without it as they were.
    scene = _with_behaviour(scene, config, rng)
    if config.measured is not None:
        scene = in_measured_room(scene, config.measured, rng)
    return scene if config.mics is None else _with_mics(scene, config, config.mics, rng)


def _with_behaviour(scene: Scene, config: SceneConfig, rng: np.random.Generator) -> Scene:
    """The scene with talkers who face somewhere and have a level against the first, and with those
    sources that walk."""
    steps, talkers = [], []
    for number, talker in enumerate(scene.talkers):
        changes: dict[str, Any] = {}
        if config.talkers.facing_deg is not None:
            angle_deg = draw(config.talkers.facing_deg, rng)
            start, target = np.asarray(talker.position_m), np.asarray(scene.origin_m)
            changes["facing"] = facing(start, target, angle_deg)
        motion, margin_m = config.talkers.motion, config.talkers.min_wall_m
        changes |= _walk(scene, talker, motion, margin_m, rng)
        if config.talkers.sir_db is not None and number > 0:
            changes["sir_db"] = draw(config.talkers.sir_db, rng)
        talkers.append(talker.model_copy(update=changes))
        steps += [] if motion is None else [motion.step_m]
    noises = []
    for noise in scene.noises:
        motion = getattr(getattr(config.noise_mix, noise.kind), "motion", None)
        changes = _walk(scene, noise, motion, SOURCE_WALL_M, rng)
        noises.append(noise.model_copy(update=changes))
        steps += [] if motion is None else [motion.step_m]
    step_m = min(steps, default=Scene.model_fields["step_m"].default)
    return scene.model_copy(update={"talkers": talkers, "noises": noises, "step_m": step_m})


def _walk(
    scene: Scene,
    source: Source,
    motion: MotionConfig | None,
    margin_m: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What changes of a source that walks; nothing for one that does not."""
    if motion is None or rng.random() >= motion.probability:
        return {}
    low, high = np.full(3, margin_m), np.asarray(scene.room_size_m) - margin_m
    start, origin = np.asarray(source.position_m), np.asarray(scene.origin_m)
    path = draw_path(motion, start, origin, low, high, scene.n_samples / scene.fs, rng)
    return {"path": path, "ahead": motion.facing == "ahead"}


def in_measured_room(scene: Scene, config: MeasuredConfig, rng: np.random.Generator) -> Scene:
    """The scene with measured responses in place of its room.

    Each talker has a place of its own, and so has each noise as far as there are places. Raises
    ValueError when no room has places enough, or the array named has other microphones.
    """
    room = draw_room(list_responses(config.responses), len(scene.talkers), rng)
    array = _measured_array(room[0], config.array)
    here = (0.0, 0.0, 0.0)
    queue = iter(cycle(room))
    sources = []
    for source in (*scene.talkers, *scene.noises):
        if source.position_m is None:
            update: dict[str, Any] = {"responses": tuple(r.path for r in room[:_MAX_DIFFUSE])}
        else:
            one = next(queue)
            update = {"responses": (one.path,), "position_m": here}
            update |= {"azimuth_deg": one.azimuth_deg, "distance_m": one.distance_m}
        sources.append(source.model_copy(update=update))
    changes = {
        "room_size_m": here,
        "rt60_s": response_rt60(room[0].path, scene.fs),
        "array": array,
        "origin_m": here,
        "rotation_deg": 0.0,
        "mics_m": array.positions_m,
        "talkers": sources[: len(scene.talkers)],
        "noises": sources[len(scene.talkers) :],
    }
    return scene.model_copy(update=changes)


def _measured_array(response: Response, name: str | None) -> ArrayGeometry:
    if name is None and response.array is not None:
        return response.array
    if name is None:
        unknown = [(0.0, 0.0, 0.0)] * response.n_mics
        return ArrayGeometry(name=f"measured_{response.n_mics}mic", positions_m=unknown)
    array = load_array(name)
    if array.n_mics != response.n_mics:
        raise ValueError(
            f"expected responses of the {array.n_mics} microphones of {name}, "
            f"found {response.n_mics} channels in {response.path}"
        )
    return array


def _with_mics(
    scene: Scene, config: SceneConfig, mics: MicConfig, rng: np.random.Generator
) -> Scene:
    """The scene, drawn before with ideal microphones, with those of the config."""
    own = mics.self_noise_db
    changes = {
        "mics": draw_mics(mics, np.asarray(scene.mics_m), np.asarray(scene.origin_m), rng),
        "self_noise_db": None if own is None else draw(own, rng),
        "snr_counts_mics": config.snr_counts_mics,
    }
    return scene.model_copy(update=changes)


def _draw_place(config: SceneConfig, rng: np.random.Generator) -> Place:
    """Rooms are drawn anew until one has space for the array and its talkers."""
    for _ in range(_ATTEMPTS):
        try:
            return draw_place(config, rng)
        except NoSpaceError as error:
            found = error
    raise ValueError(f"expected rooms that fit the array, its talkers and the RT60, found {found}")

"""The responses that a scene needs, simulated or measured, each with its early and direct parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simulate.decay import SPEED_OF_SOUND
from simulate.directivity import FirstOrder
from simulate.materials import room_walls
from simulate.measured import direct_part, first_part, stack_responses
from simulate.mics import capsules
from simulate.motion import convolve_moving, headings, stations
from simulate.rooms import direct_responses, room_impulse_responses
from simulate.scene import Scene
from simulate.voice import Direction, mouths


class Responses(NamedTuple):
    """Responses from every place of every source, (places, mics, taps) each.

    image, early, direct: of the talkers, those who walk with many places; owner (places,): whose
    place it is; progress: of each talker past the places, None for one who stays; noise,
    noise_owner, noise_progress: the same of the noises that have a place.
    """

    image: np.ndarray
    early: np.ndarray
    direct: np.ndarray
    noise: np.ndarray
    owner: np.ndarray
    progress: list[np.ndarray | None]
    noise_owner: np.ndarray
    noise_progress: list[np.ndarray | None]


class _Ways(NamedTuple):
    """Where sources are: positions (places, 3), the rest (places,) or one for each source."""

    positions_m: np.ndarray
    facings: list[Direction | None]
    owner: np.ndarray
    progress: list[np.ndarray | None]


def scene_responses(scene: Scene, rng: np.random.Generator) -> Responses:
    """The responses of a scene; `rng` draws late tails."""
    return _measured(scene) if scene.talkers[0].responses else _simulated(scene, rng)


def _measured(scene: Scene) -> Responses:
    sources = [s for s in (*scene.talkers, *scene.noises) if s.position_m is not None]
    rir = stack_responses([s.responses[0] for s in sources], scene.fs)
    n_talkers = len(scene.talkers)
    talkers = rir[:n_talkers]
    early = first_part(talkers, scene.early_ms * 1e-3, scene.fs)
    direct = direct_part(talkers, scene.fs)
    n_noises = len(sources) - n_talkers
    return Responses(
        talkers,
        early,
        direct,
        rir[n_talkers:],
        np.arange(n_talkers),
        [None] * n_talkers,
        np.arange(n_noises),
        [None] * n_noises,
    )


def _simulated(scene: Scene, rng: np.random.Generator) -> Responses:
    mics = np.asarray(scene.mics_m)
    ways = _ways(scene)
    voices = mouths(ways.facings)
    rir = room_responses(scene, ways.positions_m, rng, voices, ways.owner)
    n_talkers = len(scene.talkers)
    n = int(np.count_nonzero(ways.owner < n_talkers))
    early = _until(rir[:n], ways.positions_m[:n], mics, scene)
    own = mouths(ways.facings[:n])
    direct = direct_responses(ways.positions_m[:n], mics, scene.fs, own, capsules(scene.mics))
    return Responses(
        rir[:n],
        early,
        direct,
        rir[n:],
        ways.owner[:n],
        ways.progress[:n_talkers],
        ways.owner[n:] - n_talkers,
        ways.progress[n_talkers:],
    )


def room_responses(
    scene: Scene,
    positions_m: np.ndarray,
    rng: np.random.Generator,
    voices: FirstOrder | None = None,
    tails: np.ndarray | None = None,
) -> np.ndarray:
    """Responses (places, mics, taps) of the scene's room from positions_m (places, 3); see
    `room_impulse_responses`."""
    size = np.asarray(scene.room_size_m)
    walls = room_walls(
        size, scene.fs, scene.rt60_s, scene.materials, scene.air_absorption, scene.scattering
    )
    return room_impulse_responses(
        size,
        scene.rt60_s if scene.materials is None else None,
        positions_m,
        np.asarray(scene.mics_m),
        method=scene.method,
        rng=rng,
        fs=scene.fs,
        mouths=voices,
        capsules=capsules(scene.mics),
        tails=tails,
        walls=walls,
    )


def _ways(scene: Scene) -> _Ways:
    places: list[np.ndarray] = []
    facings: list[Direction | None] = []
    progress: list[np.ndarray | None] = []
    for source in (*scene.talkers, *scene.noises):
        if source.position_m is None:
            continue
        at, way = np.asarray([source.position_m]), None
        if source.path:
            at, way = stations(source.path, scene.n_samples, scene.fs, scene.step_m)
        ahead = source.ahead and len(at) > 1
        facings += headings(at) if ahead else [source.facing] * len(at)
        places.append(at)
        progress.append(way)
    owner = np.repeat(np.arange(len(places)), [len(at) for at in places])
    return _Ways(np.concatenate(places), facings, owner, progress)


def _until(rir: np.ndarray, positions: np.ndarray, mics: np.ndarray, scene: Scene) -> np.ndarray:
    """Responses until `early_ms` after the direct path of each microphone."""
    distance = np.linalg.norm(positions[:, None] - mics[None], axis=-1)
    last = distance / SPEED_OF_SOUND * scene.fs + scene.early_ms * 1e-3 * scene.fs
    taps = min(rir.shape[-1], int(np.ceil(last.max())) + 1)
    return rir[..., :taps] * (np.arange(taps) <= last[..., None])


def moving_images(
    dry: np.ndarray, rir: np.ndarray, owner: np.ndarray, progress: Sequence[np.ndarray | None]
) -> np.ndarray:
    """Sources (sources, samples) heard through responses (places, mics, taps); some of them move.

    owner (places,), progress: as in `Responses` -> (sources, mics, samples)
    """
    images = []
    for source, (x, walked) in enumerate(zip(dry, progress, strict=True)):
        way = np.zeros(len(x)) if walked is None else walked
        images.append(convolve_moving(x, rir[owner == source], way))
    return np.stack(images)

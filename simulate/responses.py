"""The responses that a scene needs, simulated or measured, each with its early and direct parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulate.decay import SPEED_OF_SOUND
from simulate.measured import direct_part, first_part, stack_responses
from simulate.mics import capsules
from simulate.motion import convolve_moving, stations
from simulate.rooms import direct_responses, room_impulse_responses
from simulate.scene import Scene
from simulate.voice import mouths


class Responses(NamedTuple):
    """Responses from every place of every source, (places, mics, taps) each.

    image, early, direct: of the talkers, those who walk with many places; owner (places,): whose
    place it is; progress: of each talker past the places, None for one who stays; noise: of the
    noises that have a place.
    """

    image: np.ndarray
    early: np.ndarray
    direct: np.ndarray
    noise: np.ndarray
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
    owner, progress = np.arange(n_talkers), [None] * n_talkers
    direct = direct_part(talkers, scene.fs)
    return Responses(talkers, early, direct, rir[n_talkers:], owner, [*progress])


def _simulated(scene: Scene, rng: np.random.Generator) -> Responses:
    mics = np.asarray(scene.mics_m)
    sources = [s for s in (*scene.talkers, *scene.noises) if s.position_m is not None]
    places, progress = [], []
    for source in sources:
        at, way = np.asarray([source.position_m]), None
        if source.path:
            at, way = stations(source.path, scene.n_samples, scene.fs, scene.step_m)
        places.append(at)
        progress.append(way)
    owner = np.repeat(np.arange(len(sources)), [len(at) for at in places])
    positions = np.concatenate(places)
    voices = mouths([sources[k].facing for k in owner])
    rir = room_impulse_responses(
        np.asarray(scene.room_size_m),
        scene.rt60_s,
        positions,
        mics,
        method=scene.method,
        rng=rng,
        fs=scene.fs,
        mouths=voices,
        capsules=capsules(scene.mics),
        tails=owner,
    )
    n_talkers = len(scene.talkers)
    n = int(np.count_nonzero(owner < n_talkers))
    early = _until(rir[:n], positions[:n], mics, scene)
    own = mouths([sources[k].facing for k in owner[:n]])
    direct = direct_responses(positions[:n], mics, scene.fs, own, capsules(scene.mics))
    return Responses(rir[:n], early, direct, rir[n:], owner[:n], progress[:n_talkers])


def _until(rir: np.ndarray, positions: np.ndarray, mics: np.ndarray, scene: Scene) -> np.ndarray:
    """Responses until `early_ms` after the direct path of each microphone."""
    distance = np.linalg.norm(positions[:, None] - mics[None], axis=-1)
    last = distance / SPEED_OF_SOUND * scene.fs + scene.early_ms * 1e-3 * scene.fs
    taps = min(rir.shape[-1], int(np.ceil(last.max())) + 1)
    return rir[..., :taps] * (np.arange(taps) <= last[..., None])


def moving_images(dry: np.ndarray, rir: np.ndarray, responses: Responses) -> np.ndarray:
    """Talkers (talkers, samples) heard through responses (places, mics, taps) of which some move.

    -> (talkers, mics, samples)
    """
    images = []
    for talker, (x, progress) in enumerate(zip(dry, responses.progress, strict=True)):
        way = np.zeros(len(x)) if progress is None else progress
        images.append(convolve_moving(x, rir[responses.owner == talker], way))
    return np.stack(images)

"""A scene: one concrete draw from a config, with everything that rendering needs."""

from __future__ import annotations

from itertools import cycle
from typing import Any, Literal

import numpy as np

from simulate.arrays import ArrayGeometry, load_array
from simulate.corpus import BUILTIN, Corpus, Utterance, load_corpus
from simulate.measured import Response, draw_room, list_responses, response_rt60
from simulate.mics import Mic, draw_mics
from simulate.motion import Waypoint, draw_path
from simulate.placement import NoSpaceError, Place, draw_place, place_source
from simulate.quantity import draw
from simulate.scene_config import (
    DiffusePart,
    Frozen,
    MeasuredConfig,
    MicConfig,
    MotionConfig,
    NoisePart,
    SceneConfig,
    TalkerConfig,
)
from simulate.synthetic import APPLIANCE_KINDS
from simulate.timeline import Segment, noise_segments, speech_segments
from simulate.voice import Direction, facing

_ATTEMPTS = 200
_APPLIANCES = Corpus(Utterance(f"{BUILTIN}:{kind}", 60.0, kind=kind) for kind in APPLIANCE_KINDS)
_MAX_DIFFUSE = 12  # measured places that together make a diffuse field

NoiseKind = Literal["diffuse", "point", "babble", "appliance"]


class Source(Frozen):
    """One source of a scene: where it is (None: a diffuse field), and what it plays when.

    path: where it walks, as (seconds, x, y, z); facing: a mouth's direction, None for sound alike
    to every side; sir_db: level of talker 0 over this one; field: kind of diffuse field; responses:
    files of measured ones, one for a source with a place (which then is unknown, and given as that
    of the array), several to make a diffuse field of.
    """

    kind: Literal["talker", "diffuse", "point", "babble", "appliance"]
    position_m: tuple[float, float, float] | None
    segments: list[Segment]
    level_db: float = 0.0
    speaker: str = ""
    text: str = ""
    path: list[Waypoint] | None = None
    facing: Direction | None = None
    sir_db: float | None = None
    field: Literal["spherical", "cylindrical"] = "spherical"
    responses: tuple[str, ...] = ()


class Scene(Frozen):
    """One concrete draw: everything that `render` needs, and nothing random left but its seed."""

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
    method: Literal["exact", "fast"]
    mics: list[Mic] | None = None
    self_noise_db: float | None = None
    snr_counts_mics: bool = False
    step_m: float = 0.01

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
        room_size_m=_triple(place.room_size_m),
        rt60_s=place.rt60_s,
        array=place.array,
        origin_m=_triple(place.origin_m),
        rotation_deg=round(place.rotation_deg, 4),
        mics_m=[_triple(mic) for mic in place.mics_m],
        talkers=_draw_talkers(config, place.talkers_m, duration_s, rng),
        noises=_draw_noises(config, place, duration_s, rng),
        snr_db=draw(config.snr_db, rng),
        level_dbfs=draw(config.level_dbfs, rng),
        n_samples=n_samples,
        fs=config.fs,
        early_ms=config.early_ms,
        method=config.method,
    )
    # What is drawn from here on leaves scenes without it as they were.
    scene = _with_behaviour(scene, config.talkers, rng)
    if config.measured is not None:
        scene = in_measured_room(scene, config.measured, rng)
    return scene if config.mics is None else _with_mics(scene, config, config.mics, rng)


def _with_behaviour(scene: Scene, config: TalkerConfig, rng: np.random.Generator) -> Scene:
    """The scene with talkers who face somewhere, walk, and have a level against the first."""
    talkers = []
    for number, talker in enumerate(scene.talkers):
        start = np.asarray(talker.position_m)
        changes: dict[str, Any] = {}
        if config.facing_deg is not None:
            angle_deg = draw(config.facing_deg, rng)
            changes["facing"] = facing(start, np.asarray(scene.origin_m), angle_deg)
        if config.motion is not None and rng.random() < config.motion.probability:
            changes["path"] = _walk(scene, config, config.motion, start, rng)
        if config.sir_db is not None and number > 0:
            changes["sir_db"] = draw(config.sir_db, rng)
        talkers.append(talker.model_copy(update=changes))
    step_m = Scene.model_fields["step_m"].default if config.motion is None else config.motion.step_m
    return scene.model_copy(update={"talkers": talkers, "step_m": step_m})


def _walk(
    scene: Scene,
    config: TalkerConfig,
    motion: MotionConfig,
    start: np.ndarray,
    rng: np.random.Generator,
) -> list[Waypoint]:
    margin = config.min_wall_m
    low, high = np.full(3, margin), np.asarray(scene.room_size_m) - margin
    duration_s = scene.n_samples / scene.fs
    return draw_path(motion, start, np.asarray(scene.origin_m), low, high, duration_s, rng)


def in_measured_room(scene: Scene, config: MeasuredConfig, rng: np.random.Generator) -> Scene:
    """The scene with measured responses in place of its room.

    Each talker has a place of its own, and so has each noise as far as there are places. Raises
    ValueError when no room has places enough, or the array named has other microphones.
    """
    room = draw_room(list_responses(config.responses), len(scene.talkers), rng)
    paths = [response.path for response in room]
    array = _measured_array(room[0], config.array)
    here = (0.0, 0.0, 0.0)
    queue = iter(cycle(paths))
    sources = []
    for source in (*scene.talkers, *scene.noises):
        diffuse = source.position_m is None
        used = tuple(paths[:_MAX_DIFFUSE]) if diffuse else (next(queue),)
        place = None if diffuse else here
        sources.append(source.model_copy(update={"responses": used, "position_m": place}))
    changes = {
        "room_size_m": here,
        "rt60_s": response_rt60(paths[0], scene.fs),
        "array": array,
        "origin_m": here,
        "rotation_deg": 0.0,
        "mics_m": array.positions_m,
        "talkers": sources[: len(scene.talkers)],
        "noises": sources[len(scene.talkers) :],
    }
    return scene.model_copy(update=changes)


def _measured_array(response: Response, name: str | None) -> ArrayGeometry:
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


def _draw_talkers(
    config: SceneConfig, places: list[np.ndarray], duration_s: float, rng: np.random.Generator
) -> list[Source]:
    """One speaker for each place, nobody twice where the corpus has enough known speakers."""
    corpus = load_corpus(config.speech, config.split, "speech")
    taken: set[str] = set()
    sources = []
    for position in places:
        silence_s = config.talkers.silence_s
        segments, first, text = speech_segments(corpus, duration_s, silence_s, rng, taken)
        taken.add(first.speaker)
        sources.append(
            Source(
                kind="talker",
                position_m=_triple(position),
                segments=segments,
                speaker=first.speaker,
                text=text,
            )
        )
    return sources


def _draw_noises(
    config: SceneConfig, place: Place, duration_s: float, rng: np.random.Generator
) -> list[Source]:
    """Every part that this scene has; at least one, so that an SNR means something."""
    mix = config.noise_mix
    named: list[tuple[NoiseKind, NoisePart | None]]
    named = [("diffuse", mix.diffuse), ("point", mix.point), ("babble", mix.babble)]
    named.append(("appliance", mix.appliance))
    parts = [(kind, part) for kind, part in named if part is not None]
    heard = [(kind, part) for kind, part in parts if rng.random() < part.probability]
    return [
        source
        for kind, part in heard or parts[:1]
        for source in _draw_part(kind, part, config, place, duration_s, rng)
    ]


def _draw_part(
    kind: NoiseKind,
    part: NoisePart,
    config: SceneConfig,
    place: Place,
    duration_s: float,
    rng: np.random.Generator,
) -> list[Source]:
    level_db = draw(part.level_db, rng)
    sources = []
    for _ in range(1 if kind == "diffuse" else max(1, round(draw(part.sources, rng)))):
        position = None
        if kind != "diffuse":
            position = _triple(place_source(place.room_size_m, place.origin_m, rng))
        if kind == "babble":
            corpus = load_corpus(config.speech, config.split, "speech")
            segments = speech_segments(corpus, duration_s, config.talkers.silence_s, rng)[0]
        else:
            corpus = _APPLIANCES
            if kind != "appliance":
                corpus = load_corpus(config.noise, config.split, "noise")
            segments = noise_segments(corpus, duration_s, rng)
        field = part.field if isinstance(part, DiffusePart) else "spherical"
        sources.append(
            Source(
                kind=kind, position_m=position, segments=segments, level_db=level_db, field=field
            )
        )
    return sources


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(v), 6) for v in point)
    return x, y, z

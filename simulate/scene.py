"""A scene: what a config says may happen, and one concrete draw of it with everything needed to render."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulate.arrays import KINDS, ArrayGeometry, load_array, random_array
from simulate.config import nearest, read_yaml
from simulate.corpus import BUILTIN, load_corpus
from simulate.placement import NoSpace, place_array, place_source, place_talker
from simulate.quantity import Choice, Quantity, Uniform, bounds, draw
from simulate.timeline import Segment, noise_segments, speech_segments

_ATTEMPTS = 200


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RoomConfig(_Config):
    """Shoebox room: three sides in metres, and the RT60 that is measured in it."""

    length_m: Quantity = Uniform(uniform=(3, 8))
    width_m: Quantity = Uniform(uniform=(3, 6))
    height_m: Quantity = Uniform(uniform=(2.4, 3.5))
    rt60_s: Quantity = Uniform(uniform=(0.2, 0.6))


class RandomArrayConfig(_Config):
    """Arrays drawn anew for each mixture."""

    kinds: list[Literal["linear", "circular", "planar", "irregular"]] = list(KINDS)
    mics: Quantity = [2, 3, 4, 5, 6, 7, 8]
    aperture_m: Quantity = Uniform(uniform=(0.02, 0.4))


class ArrayConfig(_Config):
    """`names` of arrays (or YAML paths), one drawn for each mixture; else `random` arrays."""

    names: list[str] = []
    random: RandomArrayConfig | None = None
    height_m: Quantity = Uniform(uniform=(0.7, 1.5))
    min_wall_m: float = Field(0.5, ge=0)
    rotate: bool = True

    @model_validator(mode="after")
    def _one_of(self) -> ArrayConfig:
        if bool(self.names) == (self.random is not None):
            raise ValueError("expected either names or random, found both or neither")
        return self


class TalkerConfig(_Config):
    """How many talk and where: distance from the array's centre, height of the mouth, room to the walls."""

    count: Quantity = 1
    distance_m: Quantity = Uniform(uniform=(0.5, 3))
    height_m: Quantity = Uniform(uniform=(1.1, 1.8))
    min_wall_m: float = Field(0.3, ge=0)
    min_angle_deg: float = Field(0, ge=0, le=180)
    silence_s: Quantity = Uniform(uniform=(0.1, 0.5))


class NoisePart(_Config):
    """One kind of noise: how often it is there, how many sources, how loud against the other kinds."""

    probability: float = Field(1, ge=0, le=1)
    level_db: Quantity = 0
    sources: Quantity = 1


class NoiseMix(_Config):
    """diffuse: from everywhere; point: at a place in the room; babble: talkers around the room."""

    diffuse: NoisePart | None = NoisePart()
    point: NoisePart | None = None
    babble: NoisePart | None = None


class SceneConfig(_Config):
    """Distribution of scenes, as read from YAML; every quantity a value, a list or a distribution."""

    room: RoomConfig = RoomConfig()
    array: ArrayConfig = ArrayConfig(names=["circular_6mic"])
    talkers: TalkerConfig = TalkerConfig()
    noise_mix: NoiseMix = NoiseMix()
    snr_db: Quantity = Choice(choice=[0, 5, 10])
    level_dbfs: Quantity = Uniform(uniform=(-35, -20))
    duration_s: Quantity = 4
    early_ms: float = Field(50, gt=0)
    method: Literal["exact", "fast"] = "exact"
    speech: str = BUILTIN
    noise: str = BUILTIN
    split: str | None = None
    fs: int = Field(16000, ge=8000)
    references: list[Literal["early", "image", "noise", "dry"]] = ["early", "image", "noise"]
    reference_mics: Literal["all", "first"] = "all"

    @model_validator(mode="after")
    def _sensible(self) -> SceneConfig:
        positive = {
            "room.length_m": self.room.length_m,
            "room.width_m": self.room.width_m,
            "room.height_m": self.room.height_m,
            "room.rt60_s": self.room.rt60_s,
            "talkers.count": self.talkers.count,
            "talkers.distance_m": self.talkers.distance_m,
            "duration_s": self.duration_s,
        }
        for name, quantity in positive.items():
            if not bounds(quantity)[0] > 0:
                raise ValueError(f"expected {name} above 0, found {bounds(quantity)[0]:g}")
        return self

    @classmethod
    def load(cls, path: str | Path) -> SceneConfig:
        """Read a scene YAML by path or shipped name; manifests in it are relative to its folder."""
        path = find_scene(path)
        config = read_yaml(path, cls)
        kept = {
            key: str((path.parent / value).resolve())
            for key, value in (("speech", config.speech), ("noise", config.noise))
            if value != BUILTIN
        }
        return config.model_copy(update=kept)


def find_scene(name: str | Path) -> Path:
    """The YAML of a shipped scene (`quickstart`) or a path; ValueError names the nearest scenes."""
    from simulate.config import config_dir

    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    shipped = {p.stem: p for p in sorted(config_dir("scenes").glob("*.yaml"))}
    if str(name) not in shipped:
        raise ValueError(f"unknown scene {name}: {nearest(str(name), list(shipped))}")
    return shipped[str(name)]


class Source(_Config):
    """One source of a scene: where it is (None: a diffuse field), and what it plays when."""

    kind: Literal["talker", "diffuse", "point", "babble"]
    position_m: tuple[float, float, float] | None
    segments: list[Segment]
    level_db: float = 0.0
    speaker: str = ""
    text: str = ""


class Scene(_Config):
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

    def rng(self) -> np.random.Generator:
        """Generator for what rendering leaves to chance (noise phases, late tails)."""
        return np.random.default_rng([self.seed, self.index, 1])


def sample_scene(config: SceneConfig, seed: int, index: int) -> Scene:
    """Draw the scene number `index` of the data set `seed`.

    The same (config, seed, index) gives the same scene on any worker.
    Raises ValueError when the config's distances do not fit in its rooms, or a corpus is empty.
    """
    rng = np.random.default_rng([seed, index])
    found = "no room drawn"
    for _ in range(_ATTEMPTS):
        room = config.room
        size = np.array([draw(q, rng) for q in (room.length_m, room.width_m, room.height_m)])
        rt60_s = draw(room.rt60_s, rng)
        array = _draw_array(config.array, rng)
        try:
            mics, origin, turn_deg = place_array(array, size, config.array, rng)
            talkers = _place_talkers(config.talkers, size, origin, rng)
        except NoSpace as error:
            found = str(error)
            continue
        return _fill(config, seed, index, rng, (size, rt60_s, array, mics, origin, turn_deg, talkers))
    raise ValueError(f"expected rooms large enough for the array and its talkers, found {found}")


def _draw_array(config: ArrayConfig, rng: np.random.Generator) -> ArrayGeometry:
    if config.random is None:
        return load_array(config.names[rng.integers(len(config.names))])
    kind = config.random.kinds[rng.integers(len(config.random.kinds))]
    n_mics = round(draw(config.random.mics, rng))
    return random_array(kind, n_mics, draw(config.random.aperture_m, rng), rng)


def _place_talkers(
    config: TalkerConfig, size: np.ndarray, centre: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    placed: list[np.ndarray] = []
    for _ in range(round(draw(config.count, rng))):
        placed.append(place_talker(config, size, centre, placed, rng))
    return placed


def _fill(
    config: SceneConfig,
    seed: int,
    index: int,
    rng: np.random.Generator,
    place: tuple[np.ndarray, float, ArrayGeometry, np.ndarray, np.ndarray, float, list[np.ndarray]],
) -> Scene:
    """What plays at the places found, and how loud."""
    size, rt60_s, array, mics, origin, turn_deg, talkers = place
    duration_s = round(draw(config.duration_s, rng) * config.fs) / config.fs
    return Scene(
        seed=seed,
        index=index,
        room_size_m=_triple(size),
        rt60_s=rt60_s,
        array=array,
        origin_m=_triple(origin),
        rotation_deg=round(turn_deg, 4),
        mics_m=[_triple(m) for m in mics],
        talkers=_draw_talkers(config, talkers, duration_s, rng),
        noises=_draw_noises(config, size, origin, duration_s, rng),
        snr_db=draw(config.snr_db, rng),
        level_dbfs=draw(config.level_dbfs, rng),
        n_samples=round(duration_s * config.fs),
        fs=config.fs,
        early_ms=config.early_ms,
        method=config.method,
    )


def _draw_talkers(
    config: SceneConfig, places: list[np.ndarray], duration_s: float, rng: np.random.Generator
) -> list[Source]:
    """One speaker for each place, nobody twice where the corpus has enough known speakers."""
    corpus = load_corpus(config.speech, config.split, "speech")
    taken: set[str] = set()
    sources = []
    for position in places:
        free = [u for u in corpus if not u.speaker or u.speaker not in taken] or corpus
        segments, first, text = speech_segments(free, duration_s, config.talkers.silence_s, rng)
        taken.add(first.speaker)
        sources.append(
            Source(kind="talker", position_m=_triple(position), segments=segments,
                   speaker=first.speaker, text=text)
        )
    return sources


def _draw_noises(
    config: SceneConfig,
    size: np.ndarray,
    centre: np.ndarray,
    duration_s: float,
    rng: np.random.Generator,
) -> list[Source]:
    """Every part that this scene has; at least one, so that an SNR means something."""
    mix = config.noise_mix
    parts = [(k, p) for k in ("diffuse", "point", "babble") if (p := getattr(mix, k)) is not None]
    if not parts:
        raise ValueError("expected at least one part in noise_mix, found none")
    heard = [(kind, part) for kind, part in parts if rng.random() < part.probability]
    sources = []
    for kind, part in heard or parts[:1]:
        level_db = draw(part.level_db, rng)
        for _ in range(1 if kind == "diffuse" else round(draw(part.sources, rng))):
            position = None if kind == "diffuse" else _triple(place_source(size, centre, rng))
            if kind == "babble":
                corpus = load_corpus(config.speech, config.split, "speech")
                segments = speech_segments(corpus, duration_s, config.talkers.silence_s, rng)[0]
            else:
                corpus = load_corpus(config.noise, config.split, "noise")
                segments = noise_segments(corpus, duration_s, rng)
            sources.append(
                Source(kind=kind, position_m=position, segments=segments, level_db=level_db)
            )
    return sources


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(v), 6) for v in point)
    return x, y, z

"""What sounds in a scene: talkers and noises, where they are and what they play when."""

from __future__ import annotations

from typing import Literal

import numpy as np

from simulate.config import Frozen
from simulate.corpus import BUILTIN, Corpus, Utterance, load_corpus
from simulate.motion import Waypoint
from simulate.placement import Place, place_source
from simulate.quantity import draw
from simulate.scene_config import DiffusePart, NoisePart, SceneConfig
from simulate.synthetic import APPLIANCE_KINDS
from simulate.timeline import Segment, noise_segments, speech_segments
from simulate.voice import Direction

_APPLIANCES = Corpus(Utterance(f"{BUILTIN}:{kind}", 60.0, kind=kind) for kind in APPLIANCE_KINDS)

NoiseKind = Literal["diffuse", "point", "babble", "appliance"]


class Source(Frozen):
    """One source of a scene: where it is (None: a diffuse field), and what it plays when.

    path: where it walks, as (seconds, x, y, z); ahead: a mouth that faces where it walks; facing: a
    mouth's direction, None for sound alike to every side; sir_db: level of talker 0 over this one;
    field: kind of diffuse field; responses: files of measured ones, one for a source with a place
    (which then is given as that of the array), several to make a diffuse field of; azimuth_deg,
    distance_m: of such a place as the array sees it, where that is known.
    """

    kind: Literal["talker", "diffuse", "point", "babble", "appliance"]
    position_m: tuple[float, float, float] | None
    segments: list[Segment]
    level_db: float = 0.0
    speaker: str = ""
    text: str = ""
    path: list[Waypoint] | None = None
    ahead: bool = False
    facing: Direction | None = None
    sir_db: float | None = None
    field: Literal["spherical", "cylindrical"] = "spherical"
    responses: tuple[str, ...] = ()
    azimuth_deg: float | None = None
    distance_m: float | None = None


def draw_talkers(
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
                position_m=triple(position),
                segments=segments,
                speaker=first.speaker,
                text=text,
            )
        )
    return sources


def draw_noises(
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
            position = triple(place_source(place.room_size_m, place.origin_m, rng))
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


def triple(point: np.ndarray) -> tuple[float, float, float]:
    """A position (3,) as plain numbers, to the micrometre."""
    x, y, z = (round(float(v), 6) for v in point)
    return x, y, z

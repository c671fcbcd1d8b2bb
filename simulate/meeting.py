"""Meetings: several talkers who take turns in one room, with who said what when."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from simulate.corpus import Corpus, Utterance, load_corpus
from simulate.quantity import Quantity, bounds, draw
from simulate.recordings import RecordingError, check_audio
from simulate.scene import Scene, sample_scene
from simulate.scene_config import LONGEST_S, SceneConfig, TalkerConfig
from simulate.sources import Source
from simulate.timeline import Segment
from simulate.turns import Turn, TurnConfig, overlap_ratio, plan_turns

SHORTEST_S = 30.0
_PIECE_S = 60.0  # longest piece of a noise that is held in memory
_DRAWS = 20  # of a scene whose noises cannot be read


class MeetingConfig(SceneConfig):
    """A distribution of meetings, as read from YAML: that of a scene, and how turns are taken.

    `talkers.count` is 2 to 8, `duration_s` 30 to 3600; `talkers.silence_s` has no meaning here.
    """

    turns: TurnConfig = TurnConfig()
    talkers: TalkerConfig = TalkerConfig(count=[2, 3, 4, 5, 6], min_angle_deg=15)
    duration_s: Quantity = 600
    references: list[Literal["early", "image", "noise", "dry"]] = Field(default_factory=list)
    reference_mics: Literal["all", "first"] = "first"

    @model_validator(mode="after")
    def _a_meeting(self) -> MeetingConfig:
        for name, quantity, low, high in (
            ("talkers.count", self.talkers.count, 2, 8),
            ("duration_s", self.duration_s, SHORTEST_S, LONGEST_S),
        ):
            found = bounds(quantity)
            if found[0] < low or found[1] > high:
                raise ValueError(
                    f"expected {name} from {low:g} to {high:g}, found {found[0]:g} to {found[1]:g}"
                )
        noises = {
            f"noise_mix.{kind}.motion": getattr(part, "motion", None)
            for kind, part in self.noise_mix
        }
        of_clips = {"talkers.motion": self.talkers.motion, "talkers.sir_db": self.talkers.sir_db}
        for name, value in (of_clips | noises | {"mics": self.mics}).items():
            if value is not None:
                raise ValueError(f"expected a meeting without {name}, which is for clips")
        return self


@dataclass(frozen=True)
class Meeting:
    """One concrete meeting: the scene with its talkers' turns, and the overlap asked for."""

    scene: Scene
    turns: list[Turn]
    requested_overlap_ratio: float

    @property
    def overlap_ratio(self) -> float:
        """Time at which two or more speak, over the time at which anybody does."""
        return overlap_ratio(self.turns)

    def speaker(self, turn: Turn) -> str:
        """Who says it, as one word."""
        return "_".join(self.scene.talkers[turn.talker].speaker.split())


def sample_meeting(
    config: MeetingConfig, seed: int, index: int, without: Collection[str] = ()
) -> Meeting:
    """Draw the meeting number `index` of the data set `seed`; it depends on nothing else.

    Talkers who get no word in (in short meetings of many) are left out. without: paths of
    recordings that are not to be used; the speakers stay the same while they have others.
    Raises ValueError where `sample_scene` does, or when the corpus has too few named speakers.
    """
    scene = _scene(config, seed, index, without)
    rng = np.random.default_rng([seed, index, 2])
    ratio = draw(config.turns.overlap_ratio, rng)
    duration_s = scene.n_samples / scene.fs
    spoken_s = duration_s * (1 + ratio) / len(scene.talkers)
    corpus = load_corpus(config.speech, config.split, "speech")
    material = _speakers(corpus, len(scene.talkers), spoken_s, without, rng)
    turns = plan_turns(material, config.turns, duration_s, ratio, rng)
    heard = sorted({turn.talker for turn in turns})
    turns = [turn.model_copy(update={"talker": heard.index(turn.talker)}) for turn in turns]
    talkers = [
        _talker(scene.talkers[k], material[k][0].speaker, [t for t in turns if t.talker == new])
        for new, k in enumerate(heard)
    ]
    return Meeting(scene.model_copy(update={"talkers": talkers}), turns, ratio)


def draw_meeting(config: MeetingConfig, seed: int, index: int) -> tuple[Meeting, list[str]]:
    """As `sample_meeting`, with recordings that can all be read: (meeting, those that cannot).

    One that cannot be read is replaced by another of the same speaker, or another noise. Raises
    ValueError where `sample_meeting` does, and when too little can be read.
    """
    unreadable: set[str] = set()
    known: set[tuple[str, float, float]] = set()
    while True:
        meeting = sample_meeting(config, seed, index, unreadable)
        sources = (*meeting.scene.talkers, *meeting.scene.noises)
        parts = {(s.path, s.start_s, s.seconds) for source in sources for s in source.segments}
        found = {path for path, *part in sorted(parts - known) if not _readable(path, *part)}
        if not found:
            return meeting, sorted(unreadable)
        unreadable, known = unreadable | found, known | parts


# --------------------------------------------------------------------------------------- drawing it


def _readable(path: str, start_s: float, seconds: float) -> bool:
    try:
        check_audio(path, start_s, seconds)
    except RecordingError:
        return False
    return True


def _scene(config: MeetingConfig, seed: int, index: int, without: Collection[str]) -> Scene:
    """The scene of a meeting; with a noise that is not to be used it is drawn anew."""
    for attempt in range(_DRAWS):
        scene = sample_scene(config, seed + (attempt << 64), index)
        rng = np.random.default_rng([seed, index, 4])
        noises = [_lasting(noise, scene, config, without, rng) for noise in scene.noises]
        if not {segment.path for noise in noises for segment in noise.segments} & set(without):
            return scene.model_copy(update={"seed": seed, "noises": noises})
    raise ValueError(f"expected noises that can be read, found none of {sorted(without)[0]}, ...")


def _lasting(
    noise: Source,
    scene: Scene,
    config: MeetingConfig,
    without: Collection[str],
    rng: np.random.Generator,
) -> Source:
    """A noise in pieces short enough to be read whole; who babbles does so from end to end."""
    segments = noise.segments
    if noise.kind == "babble":
        corpus = load_corpus(config.speech, config.split, "speech")
        segments = _babble(corpus, scene.n_samples / scene.fs, without, rng)
    return noise.model_copy(update={"segments": _pieces(segments)})


def _babble(
    corpus: Corpus, duration_s: float, without: Collection[str], rng: np.random.Generator
) -> list[Segment]:
    """Utterances of anybody, one after the other."""
    segments: list[Segment] = []
    at_s, usable = 0.0, Corpus(u for u in corpus if u.path not in without)
    if not usable:
        raise ValueError("expected speech that can be read, found none")
    while at_s < duration_s:
        said = usable.draw(rng)
        seconds = round(min(said.seconds, duration_s - at_s), 4)
        segments.append(Segment(path=said.path, start_s=0, seconds=seconds, at_s=round(at_s, 4)))
        at_s += said.seconds
    return segments


def _speakers(
    corpus: Corpus,
    count: int,
    spoken_s: float,
    without: Collection[str],
    rng: np.random.Generator,
) -> list[list[Utterance]]:
    """The utterances of `count` speakers, who have enough to say without repeating themselves.

    Where the corpus has too few of those, the speakers with the most material are drawn from.
    """
    length = {name: sum(u.seconds for u in corpus.said_by(name)) for name in corpus.speakers}
    said = {name: [u for u in corpus.said_by(name) if u.path not in without] for name in length}
    richest = sorted((name for name in said if said[name]), key=lambda name: (-length[name], name))
    if len(richest) < count:
        raise ValueError(f"expected {count} named speakers in the corpus, found {len(richest)}")
    enough = sum(length[name] >= spoken_s for name in richest)
    pool = richest[: max(enough, 2 * count)] if enough < count else richest[:enough]
    return [said[pool[i]] for i in rng.permutation(len(pool))[:count]]


def _talker(source: Source, speaker: str, turns: list[Turn]) -> Source:
    text = " ".join(turn.text for turn in turns if turn.text)
    return source.model_copy(update={"speaker": speaker, "segments": turns, "text": text})


def _pieces(segments: Sequence[Segment]) -> list[Segment]:
    """The same sound in pieces short enough to be read whole."""
    return [
        segment.model_copy(
            update={
                "start_s": round(segment.start_s + away, 4),
                "at_s": round(segment.at_s + away, 4),
                "seconds": round(min(_PIECE_S, segment.seconds - away), 4),
            }
        )
        for segment in segments
        for away in np.arange(0, segment.seconds, _PIECE_S).tolist()
    ]

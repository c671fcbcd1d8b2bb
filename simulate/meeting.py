"""Meetings: several talkers who take turns in one room, with who said what when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from pydantic import Field, model_validator

from simulate.corpus import Utterance, load_corpus
from simulate.dataset import record_of, under
from simulate.meeting_render import Block, meeting_blocks
from simulate.meeting_text import rttm, seglst, stm
from simulate.quantity import Quantity, bounds, draw
from simulate.scene import Scene, Source, sample_scene
from simulate.scene_config import SceneConfig, TalkerConfig
from simulate.shards import (
    appearing,
    claim,
    folder_of,
    missing,
    with_listed_corpora,
    write_manifest,
    write_record,
)
from simulate.timeline import Segment
from simulate.turns import Turn, TurnConfig, overlap_ratio, plan_turns
from simulate.workers import for_each

SHORTEST_S, LONGEST_S = 30.0, 3600.0
_MAX_FLAC_CHANNELS = 8
_FULL_SCALE = 2**23  # of 24-bit samples
_PIECE_S = 60.0  # longest piece of a noise that is held in memory

Progress = Callable[[float], None]


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


def sample_meeting(config: MeetingConfig, seed: int, index: int) -> Meeting:
    """Draw the meeting number `index` of the data set `seed`; it depends on nothing else.

    Talkers who get no word in (in short meetings of many) are left out.
    Raises ValueError where `sample_scene` does, or when the corpus has too few named speakers.
    """
    scene = sample_scene(config, seed, index)
    rng = np.random.default_rng([seed, index, 2])
    ratio = draw(config.turns.overlap_ratio, rng)
    duration_s = scene.n_samples / scene.fs
    spoken_s = duration_s * (1 + ratio) / len(scene.talkers)
    corpus = load_corpus(config.speech, config.split, "speech")
    material = _speakers(corpus, len(scene.talkers), spoken_s, rng)
    turns = plan_turns(material, config.turns, duration_s, ratio, rng)
    heard = sorted({turn.talker for turn in turns})
    turns = [turn.model_copy(update={"talker": heard.index(turn.talker)}) for turn in turns]
    talkers = [
        _talker(scene.talkers[k], material[k][0].speaker, [t for t in turns if t.talker == new])
        for new, k in enumerate(heard)
    ]
    noises = [n.model_copy(update={"segments": _pieces(n.segments)}) for n in scene.noises]
    scene = scene.model_copy(update={"talkers": talkers, "noises": noises})
    return Meeting(scene, turns, ratio)


def write_meeting(
    config: MeetingConfig,
    out: str | Path,
    seed: int,
    index: int,
    progress: Progress | None = None,
) -> Path:
    """Make the meeting number `index` of the data set `seed` in `out`; returns its folder.

    The folder has the place and the `record.json` of a mixture of `write_dataset`, and appears
    whole or not at all; one that is there is kept. Beside `mixture.flac` (WAV above eight channels,
    24 bits) and the references of the config: `segments.json` (SegLST), `segments.rttm`, and the
    transcript `segments.stm`. Their times are those of the mouths: the sound arrives some
    milliseconds later. Memory does not grow with the length.
    progress: called with the share done, 0 to 1. Raises ValueError where `sample_meeting` does.
    """
    out = Path(out)
    folder = folder_of(out, index)
    if (folder / "record.json").is_file():
        return folder
    meeting = sample_meeting(config, seed, index)
    with appearing(folder) as temporary:
        early = "early" in config.references
        blocks = meeting_blocks(meeting.scene, early=early, heard=progress)
        paths = _write_audio(blocks, meeting.scene, config, temporary)
        session = f"{seed}-{index:07d}"
        for name, text in (
            ("segments.json", seglst(meeting, session)),
            ("segments.rttm", rttm(meeting, session)),
            ("segments.stm", stm(meeting, session)),
        ):
            (temporary / name).write_text(text, encoding="utf-8")
            paths[name.partition(".")[2]] = name
        prefix = folder.relative_to(out).as_posix()
        record = record_of(meeting.scene, {k: under(prefix, v) for k, v in paths.items()})
        overlap = {
            "overlap_ratio": round(meeting.overlap_ratio, 4),
            "requested_overlap_ratio": round(meeting.requested_overlap_ratio, 4),
        }
        write_record(temporary, record | overlap)
    return folder


def write_meetings(
    config: MeetingConfig,
    out: str | Path,
    count: int,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    cluster: str | None = None,
) -> Path:
    """Make meetings 0 to count - 1 of the data set `seed`; returns the manifest.jsonl.

    Arguments, resuming and what it raises are those of `write_dataset`.
    """
    if count < 1 or jobs < 1:
        raise ValueError(f"expected count >= 1 and jobs >= 1, found {count} and {jobs}")
    out = Path(out)
    sample_meeting(config, seed, 0)  # what cannot work fails before anything is written
    claim(out, config, seed)
    listed = with_listed_corpora(out, config)
    assert isinstance(listed, MeetingConfig)
    todo = missing(out, count)
    if progress:
        progress(count - len(todo), count)
    work = partial(write_meeting, listed, out, seed)
    for left, _ in enumerate(for_each(work, todo, jobs, cluster), 1):
        if progress:
            progress(count - len(todo) + left, count)
    return write_manifest(out, count)


# --------------------------------------------------------------------------------------- drawing it


def _speakers(
    corpus: Sequence[Utterance], count: int, spoken_s: float, rng: np.random.Generator
) -> list[list[Utterance]]:
    """The utterances of `count` speakers, who have enough to say without repeating themselves.

    Where the corpus has too few of those, the speakers with the most material are drawn from.
    """
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in corpus:
        if utterance.speaker:
            by_speaker.setdefault(utterance.speaker, []).append(utterance)
    if len(by_speaker) < count:
        raise ValueError(f"expected {count} named speakers in the corpus, found {len(by_speaker)}")
    length = {name: sum(u.seconds for u in said) for name, said in by_speaker.items()}
    richest = sorted(by_speaker, key=lambda name: (-length[name], name))
    enough = sum(length[name] >= spoken_s for name in richest)
    pool = richest[: max(enough, 2 * count)] if enough < count else richest[:enough]
    return [by_speaker[pool[i]] for i in rng.permutation(len(pool))[:count]]


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


# --------------------------------------------------------------------------------------- writing it


def _write_audio(
    blocks: Iterator[Block], scene: Scene, config: MeetingConfig, folder: Path
) -> dict[str, str | list[str]]:
    """Write the blocks as they come; returns the names of the files by what they hold."""
    with ExitStack() as stack:
        files: dict[str, soundfile.SoundFile] = {}
        for block in blocks:
            for name, x in _channels(block, config).items():
                if name not in files:
                    files[name] = stack.enter_context(_open(folder / name, len(x), scene.fs))
                scaled = np.round(x.T * _FULL_SCALE)
                samples = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int32)
                files[name].write(samples << 8)
        names = {name: Path(file.name).name for name, file in files.items()}
    paths: dict[str, str | list[str]] = {}
    for kind in ("mixture", "noise"):
        if kind in names:
            paths[kind] = names[kind]
    for kind in ("early", "image", "dry"):
        if kind in config.references:
            paths[kind] = [names[f"{kind}{k}"] for k in range(1, len(scene.talkers) + 1)]
    return paths


def _channels(block: Block, config: MeetingConfig) -> dict[str, np.ndarray]:
    """What goes to which file, (channels, samples)."""
    mics = slice(None) if config.reference_mics == "all" else slice(1)
    channels = {"mixture": block.mixture}
    if "noise" in config.references:
        channels["noise"] = block.noise[mics]
    for kind, parts in (
        ("early", block.early[:, mics]),
        ("image", block.image[:, mics]),
        ("dry", block.dry[:, None]),
    ):
        if kind in config.references:
            channels |= {f"{kind}{k}": x for k, x in enumerate(parts, 1)}
    return channels


def _open(stem: Path, n_channels: int, fs: int) -> soundfile.SoundFile:
    path = stem.with_suffix(".flac" if n_channels <= _MAX_FLAC_CHANNELS else ".wav")
    return soundfile.SoundFile(path, "w", fs, n_channels, subtype="PCM_24")
